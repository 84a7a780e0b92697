//! Whom the workers run as and what they may do: what the user wants of it, and what that is on this machine. The
//! command line makes [`Privileges`]; they are looked up once, at the start and at an upgrade, before anything is
//! bound; the result goes with every worker and with the checks that look at it.

use std::ffi::{CString, OsStr, OsString};
use std::fmt::{self, Display};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::str::FromStr;

use rustix::fs::Mode;
use rustix::process::{Gid, Resource, Rlimit, Uid, getegid, geteuid, getgid, getrlimit, getuid};
use rustix::thread::{CapabilitySet, capabilities};
use sys::accounts;
use sys::spawn;

use crate::errno::io_reason;
use crate::handover::state;
use crate::listen_spec::Account;

/// As on the command line. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Privileges {
    /// The user, instead of that of the superdaemon.
    pub user: Option<Account>,
    /// The group, instead of the primary group of `user`, or of that of the superdaemon.
    pub group: Option<Account>,
    /// The permissions that new files do not get.
    pub umask: Option<Mask>,
    /// Resource limits, no resource twice.
    pub limits: Vec<Limit>,
    /// No program that is executed can give more rights.
    pub no_new_privileges: bool,
}

/// Permissions that new files do not get, see umask(2). At most 0777.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask(u32);

/// A limit of a resource, see setrlimit(2). The soft one is not above the hard one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    resource: Resource,
    limit: Rlimit,
}

/// What the privileges are on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    plan: spawn::Privileges,
    /// What the environment says of the user; without a value, nothing.
    variables: Vec<(OsString, Option<OsString>)>,
}

/// The resources that can be limited, by the names that prlimit(1) and systemd have for them.
const RESOURCES: [(&str, Resource); 16] = [
    ("AS", Resource::As),
    ("CORE", Resource::Core),
    ("CPU", Resource::Cpu),
    ("DATA", Resource::Data),
    ("FSIZE", Resource::Fsize),
    ("LOCKS", Resource::Locks),
    ("MEMLOCK", Resource::Memlock),
    ("MSGQUEUE", Resource::Msgqueue),
    ("NICE", Resource::Nice),
    ("NOFILE", Resource::Nofile),
    ("NPROC", Resource::Nproc),
    ("RSS", Resource::Rss),
    ("RTPRIO", Resource::Rtprio),
    ("RTTIME", Resource::Rttime),
    ("SIGPENDING", Resource::Sigpending),
    ("STACK", Resource::Stack),
];

/// What login(1) tells of the user, and a service manager with `User=`.
const HOME: &str = "HOME";
const SHELL: &str = "SHELL";
const NAMES: [&str; 2] = ["USER", "LOGNAME"];

impl FromStr for Mask {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match u32::from_str_radix(text, 8) {
            Ok(mask) if mask <= 0o777 && !text.starts_with('+') => Ok(Self(mask)),
            _ => Err("octal permissions up to 0777 expected"),
        }
    }
}

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let expected = "NAME=NUMBER, NAME=SOFT:HARD or NAME=unlimited expected";
        let (name, values) = text.split_once('=').ok_or(expected)?;
        let upper = name.to_ascii_uppercase();
        let upper = upper.strip_prefix("RLIMIT_").unwrap_or(&upper);
        let Some((_, resource)) = RESOURCES.iter().find(|(name, _)| *name == upper) else {
            let names: Vec<&str> = RESOURCES.iter().map(|(name, _)| *name).collect();
            return Err(format!("there is no resource {name}; those that can be limited are {}", names.join(", ")));
        };
        let value = |text: &str| match text {
            "unlimited" | "infinity" => Some(None),
            text if text.bytes().all(|byte| byte.is_ascii_digit()) => text.parse().ok().map(Some),
            _ => None,
        };
        let (soft, hard) = values.split_once(':').unwrap_or((values, values));
        let (current, maximum) = (value(soft).ok_or(expected)?, value(hard).ok_or(expected)?);
        if is_above(current, maximum) {
            return Err(format!("the soft limit {soft} is above the hard limit {hard}"));
        }
        Ok(Self { resource: *resource, limit: Rlimit { current, maximum } })
    }
}

/// Whether a limit is above another one; none is unlimited.
fn is_above(one: Option<u64>, other: Option<u64>) -> bool {
    other.is_some_and(|other| one.is_none_or(|one| one > other))
}

impl Privileges {
    /// Those of a command line. Of two limits of one resource the later one counts.
    pub fn new(
        user: Option<Account>,
        group: Option<Account>,
        umask: Option<Mask>,
        limits: Vec<Limit>,
        no_new_privileges: bool,
    ) -> Self {
        let counts = |(place, limit): (usize, &Limit)| {
            let is_last = !limits.iter().skip(place + 1).any(|later| later.resource == limit.resource);
            is_last.then_some(*limit)
        };
        let limits = limits.iter().enumerate().filter_map(counts).collect();
        Self { user, group, umask, limits, no_new_privileges }
    }

    /// Looks up who is meant, and whether we may do it.
    ///
    /// # Errors
    /// A sentence: there is no such user or group, or we lack the rights.
    pub fn resolve(&self) -> Result<Resolved, String> {
        self.limits.iter().try_for_each(Limit::check)?;
        let mut resolved = self.without_names();
        let Some(user) = self.look_up_user()? else {
            let Some(group) = self.look_up_group()? else { return Ok(resolved) };
            if is_ours(None, group) {
                return Ok(resolved);
            }
            permit(&format!("with the group {}", shown(&self.group)), CapabilitySet::SETGID)?;
            resolved.plan.group = Some(Gid::from_raw(group));
            return Ok(resolved);
        };
        let (id, account) = user;
        let group = match (self.look_up_group()?, &account) {
            (Some(group), _) => group,
            (None, Some(account)) => account.group,
            (None, None) => {
                return Err(format!("user {id} has no account that would tell its group; give --group as well"));
            }
        };
        resolved.variables = variables(account.as_ref());
        // What runs as another user has to be told to stop.
        let wanted = CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::KILL;
        if is_ours(Some(id), group) && !may(wanted) {
            // Its supplementary groups are ours, too.
            return Ok(resolved);
        }
        permit(&format!("as user {}", shown(&self.user)), wanted)?;
        let groups = account.map(|account| accounts::groups_of(&accounts::User { group, ..account })).transpose();
        let groups =
            groups.map_err(|error| format!("failed to find the groups of user {id}: {}", io_reason(&error)))?;
        resolved.plan.groups = Some(groups.unwrap_or_default().into_iter().map(Gid::from_raw).collect());
        resolved.plan.group = Some(Gid::from_raw(group));
        resolved.plan.user = Some(Uid::from_raw(id));
        Ok(resolved)
    }

    /// As another image of the program has looked them up: it crashed, and whoever answers such questions need not
    /// answer now.
    pub fn resume(&self, before: state::Privileges) -> Resolved {
        let state::Privileges { user, group, groups, variables } = before;
        let mut resolved = self.without_names();
        resolved.plan.user = user.map(Uid::from_raw);
        resolved.plan.group = group.map(Gid::from_raw);
        resolved.plan.groups = groups.map(|groups| groups.into_iter().map(Gid::from_raw).collect());
        resolved.variables = variables.into_iter().map(|(name, value)| (name.into(), value.map(Into::into))).collect();
        resolved
    }

    /// What needs no look-up.
    fn without_names(&self) -> Resolved {
        let plan = spawn::Privileges {
            limits: self.limits.iter().map(|limit| (limit.resource, limit.limit)).collect(),
            umask: self.umask.map(|mask| Mode::from_raw_mode(mask.0)),
            no_new_privileges: self.no_new_privileges,
            ..spawn::Privileges::default()
        };
        Resolved { plan, variables: Vec::new() }
    }

    /// The number of the user, and the account if there is one.
    fn look_up_user(&self) -> Result<Option<(u32, Option<accounts::User>)>, String> {
        match &self.user {
            None => Ok(None),
            Some(Account::Id(id)) => Ok(Some((*id, found("user", id, accounts::user_numbered(*id))?))),
            Some(Account::Name(name)) => match found("user", name, by_name(name, accounts::user_named))? {
                Some(user) => Ok(Some((user.id, Some(user)))),
                None => Err(format!("there is no user {name}; give one that exists, or a number")),
            },
        }
    }

    fn look_up_group(&self) -> Result<Option<u32>, String> {
        match &self.group {
            None => Ok(None),
            Some(Account::Id(id)) => Ok(Some(*id)),
            Some(Account::Name(name)) => match found("group", name, by_name(name, accounts::group_id))? {
                Some(id) => Ok(Some(id)),
                None => Err(format!("there is no group {name}; give one that exists, or a number")),
            },
        }
    }
}

impl Limit {
    /// # Errors
    /// It cannot be set: a sentence.
    fn check(&self) -> Result<(), String> {
        let name = RESOURCES.iter().find(|(_, resource)| *resource == self.resource).map_or("", |(name, _)| *name);
        let ours = getrlimit(self.resource).maximum;
        if is_above(self.limit.maximum, ours) && !may(CapabilitySet::SYS_RESOURCE) {
            return Err(format!(
                "failed to raise the limit {name} to {}: the hard limit of start_server is {}, and only root may go \
                 beyond (CAP_SYS_RESOURCE); start as root, or choose up to that",
                limit_text(self.limit.maximum),
                limit_text(ours)
            ));
        }
        if self.resource == Resource::Nofile {
            // Whoever it is: the kernel lets nobody go beyond.
            let most = fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|most| most.trim_end().parse().ok());
            if let Some(most) = most
                && is_above(self.limit.maximum, Some(most))
            {
                return Err(format!(
                    "failed to raise the limit {name} to {}: the kernel allows {most} (fs.nr_open); raise that, or \
                     choose up to that",
                    limit_text(self.limit.maximum)
                ));
            }
        }
        Ok(())
    }
}

impl Resolved {
    /// What a worker is spawned with.
    pub fn plan(&self) -> &spawn::Privileges {
        &self.plan
    }

    /// The user that was asked for, unless the superdaemon is that anyway and cannot be another.
    pub fn user(&self) -> Option<u32> {
        self.plan.user.map(Uid::as_raw)
    }

    /// Whom workers run as, in words that go after "the program runs as"; none if as we do.
    pub fn words(&self) -> Option<String> {
        let spawn::Privileges { user, group, groups, .. } = &self.plan;

        let named = user.map(|user| match self.variables.iter().find(|(name, _)| name == "USER") {
            Some((_, Some(name))) => format!("user {} ({})", user.as_raw(), name.display()),
            _ => format!("user {}", user.as_raw()),
        });
        let others: Vec<String> = groups
            .iter()
            .flatten()
            .filter(|one| Some(**one) != *group)
            .map(|group| group.as_raw().to_string())
            .collect();
        let group = group.map(|group| format!("group {}", group.as_raw()));
        let others = (!others.is_empty()).then(|| format!("supplementary groups {}", others.join(",")));
        let words: Vec<String> = [named, group, others].into_iter().flatten().collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    /// What the environment of the workers says of the user; without a value, nothing.
    pub fn variables(&self) -> &[(OsString, Option<OsString>)] {
        &self.variables
    }

    /// The highest descriptor that workers may have, and one more; none if we do not set that limit.
    pub fn most_descriptors(&self) -> Option<u64> {
        self.plan.limits.iter().find(|(resource, _)| *resource == Resource::Nofile).and_then(|(_, limit)| limit.current)
    }

    /// What the next image of the program has to know; nothing where nobody was looked up.
    pub fn state(&self) -> Option<state::Privileges> {
        let spawn::Privileges { user, group, groups, .. } = &self.plan;
        let is_nobody = user.is_none() && group.is_none() && self.variables.is_empty();
        let text = |text: &OsString| text.as_os_str().into();
        (!is_nobody).then(|| state::Privileges {
            user: user.map(Uid::as_raw),
            group: group.map(Gid::as_raw),
            groups: groups.as_ref().map(|groups| groups.iter().map(|group| group.as_raw()).collect()),
            variables: self.variables.iter().map(|(name, value)| (text(name), value.as_ref().map(text))).collect(),
        })
    }
}

/// A user or group as it was written; nothing if none was.
pub fn shown(account: &Option<Account>) -> String {
    match account {
        None => String::new(),
        Some(Account::Id(id)) => id.to_string(),
        Some(Account::Name(name)) => name.clone(),
    }
}

/// Without an account nothing is known, and what is said of our own user is wrong.
fn variables(account: Option<&accounts::User>) -> Vec<(OsString, Option<OsString>)> {
    let text = |text: &CString| Some(OsStr::from_bytes(text.to_bytes()).to_owned()).filter(|text| !text.is_empty());
    let of = |get: fn(&accounts::User) -> &CString| account.and_then(|account| text(get(account)));
    let names = NAMES.iter().map(|name| (OsString::from(name), of(|account| &account.name)));
    [(HOME.into(), of(|account| &account.home)), (SHELL.into(), of(|account| &account.shell))]
        .into_iter()
        .chain(names)
        .collect()
}

fn by_name<T>(name: &str, look_up: fn(&std::ffi::CStr) -> io::Result<Option<T>>) -> io::Result<Option<T>> {
    look_up(&CString::new(name).map_err(io::Error::from)?)
}

fn found<T>(what: &str, name: &dyn Display, answer: io::Result<Option<T>>) -> Result<Option<T>, String> {
    answer.map_err(|error| format!("failed to look up the {what} {name}: {}; give a number", io_reason(&error)))
}

/// Whether we are that already.
fn is_ours(user: Option<u32>, group: u32) -> bool {
    let is_user = user.is_none_or(|user| getuid().as_raw() == user && geteuid().as_raw() == user);
    is_user && getgid().as_raw() == group && getegid().as_raw() == group
}

fn may(what: CapabilitySet) -> bool {
    capabilities(None).is_ok_and(|ours| ours.effective.contains(what))
}

/// # Errors
/// We lack some of the capabilities: a sentence.
fn permit(what: &str, wanted: CapabilitySet) -> Result<(), String> {
    let missing = wanted.iter_names().filter(|(_, capability)| !may(*capability));
    let missing: Vec<String> = missing.map(|(name, _)| format!("CAP_{name}")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "failed to run the program {what}: start_server is user {} and lacks {}; start it as root",
        geteuid().as_raw(),
        missing.join(", ")
    ))
}

fn limit_text(limit: Option<u64>) -> String {
    limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string())
}

/// As on the command line.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = RESOURCES.iter().find(|(_, resource)| *resource == self.resource).map_or("", |(name, _)| *name);
        write!(f, "{name}={}:{}", limit_text(self.limit.current), limit_text(self.limit.maximum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        for (text, expected) in [
            ("NOFILE=65536", "NOFILE=65536:65536"),
            ("nofile=10:20", "NOFILE=10:20"),
            ("RLIMIT_CORE=unlimited", "CORE=unlimited:unlimited"),
            ("core=0:infinity", "CORE=0:unlimited"),
        ] {
            assert_eq!(text.parse::<Limit>().unwrap().to_string(), expected);
        }
        for (text, why) in [
            ("", "NAME="),
            ("NOFILE", "NAME="),
            ("NOFILE=", "NAME="),
            ("NOFILE=-1", "NAME="),
            ("NOFILE=5:", "NAME="),
            ("NOFILE=1k", "NAME="),
            ("FILES=5", "there is no resource FILES; "),
            ("NOFILE=9:5", "the soft limit 9 is above the hard limit 5"),
            ("NOFILE=unlimited:5", "the soft limit unlimited is above"),
        ] {
            let error = text.parse::<Limit>().unwrap_err();
            assert!(error.starts_with(why), "{text}: {error}");
        }
    }

    #[test]
    fn masks_are_octal() {
        assert_eq!(["022", "0", "777"].map(str::parse), [Ok(Mask(0o22)), Ok(Mask(0)), Ok(Mask(0o777))]);
        for text in ["", "8", "1000", "+2", "-2", "u=rw"] {
            assert!(text.parse::<Mask>().is_err(), "{text}");
        }
    }

    #[test]
    fn of_two_limits_the_later_one_counts() {
        let limits = ["CORE=1", "NOFILE=2", "CORE=3"].map(|text| text.parse().unwrap());
        let privileges = Privileges::new(None, None, None, limits.to_vec(), false);
        assert_eq!(privileges.limits.iter().map(Limit::to_string).collect::<Vec<_>>(), ["NOFILE=2:2", "CORE=3:3"]);
    }

    #[test]
    fn without_options_nothing_changes() {
        let resolved = Privileges::default().resolve().unwrap();
        assert_eq!(resolved, Resolved::default());
        assert_eq!(resolved.state(), None);
    }

    #[test]
    fn whom_nobody_knows_is_an_error() {
        let privileges = |user: &str, group: Option<&str>| Privileges {
            user: Some(Account::Name(user.to_owned())),
            group: group.map(|group| Account::Name(group.to_owned())),
            ..Privileges::default()
        };
        let error = privileges("nosuchuser", None).resolve().unwrap_err();
        assert_eq!(error, "there is no user nosuchuser; give one that exists, or a number");
        let error = privileges("root", Some("nosuchgroup")).resolve().unwrap_err();
        assert_eq!(error, "there is no group nosuchgroup; give one that exists, or a number");
        let number = Privileges { user: Some(Account::Id(64_001)), ..Privileges::default() };
        assert!(number.resolve().unwrap_err().ends_with("give --group as well"));
    }

    #[test]
    fn what_was_looked_up_comes_back_from_the_state() {
        let wanted = Privileges { user: Some(Account::Name("root".to_owned())), ..Privileges::default() };
        let resolved = wanted.resolve().unwrap();
        assert_eq!(wanted.resume(resolved.state().unwrap()), resolved);
        let name = |name: &str| resolved.variables().iter().find(|(found, _)| found == name).unwrap().1.clone();
        assert_eq!((name("USER"), name("LOGNAME")), (Some("root".into()), Some("root".into())));
    }
}
