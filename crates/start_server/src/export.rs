//! What servers that do not know `SERVER_STARTER_PORT` want to find in their environment: the conventions of systemd,
//! unicorn, puma, nginx, php-fpm and einhorn. `worker` asks for them at each spawn, if `--export` names them.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStringExt;

use crate::listeners::{BoundAddress, Kind, Listener};

/// A convention by which a server takes over listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Convention {
    /// `LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES`: `sd_listen_fds_with_names(3)`.
    ListenFds,
    /// The same without `LISTEN_PID`, for a program that is not the worker's own process.
    ListenFdsNoPid,
    /// `UNICORN_FD`: unicorn.
    Unicorn,
    /// `PUMA_INHERIT_n`: puma.
    Puma,
    /// `NGINX`: nginx and its descendants.
    Nginx,
    /// `FPM_SOCKETS`: php-fpm.
    Fpm,
    /// `EINHORN_FD_n`: workers of einhorn.
    Einhorn,
}

/// Each convention with its name in `--export`.
pub const CONVENTIONS: [(&str, Convention); 7] = [
    ("listen-fds", Convention::ListenFds),
    ("listen-fds-no-pid", Convention::ListenFdsNoPid),
    ("unicorn", Convention::Unicorn),
    ("puma", Convention::Puma),
    ("nginx", Convention::Nginx),
    ("fpm", Convention::Fpm),
    ("einhorn", Convention::Einhorn),
];

/// The variable that holds the PID of the process that it is meant for, see `sd_listen_fds(3)`.
pub const LISTEN_PID: &str = "LISTEN_PID";

/// The first descriptor of `sd_listen_fds(3)`, `SD_LISTEN_FDS_START`.
const LISTEN_FDS_START: RawFd = 3;

/// Reads a list of conventions with commas between them, or `none`.
///
/// # Errors
/// What was expected, in words.
pub fn parse_conventions(text: &str) -> Result<BTreeSet<Convention>, String> {
    if text == "none" {
        return Ok(BTreeSet::new());
    }
    let find = |word: &str| {
        let found = CONVENTIONS.iter().find(|(name, _)| *name == word.trim());
        found.map(|(_, convention)| *convention).ok_or_else(|| {
            let names: Vec<&str> = CONVENTIONS.iter().map(|(name, _)| *name).collect();
            format!("none or a list of {} expected", names.join(", "))
        })
    };
    text.split(',').map(find).collect()
}

/// Whether some variable has to hold the worker's PID.
pub fn wants_pid(conventions: &BTreeSet<Convention>) -> bool {
    conventions.contains(&Convention::ListenFds)
}

/// The variables of these conventions, less `LISTEN_PID`. `parent` is the PID of the superdaemon.
///
/// # Errors
/// The listeners cannot be told in this way: a sentence that says why, and what to do.
pub fn variables(
    conventions: &BTreeSet<Convention>,
    listeners: &[Listener],
    parent: u32,
) -> Result<Vec<(OsString, OsString)>, String> {
    let mut variables = Vec::new();
    for convention in conventions {
        match convention {
            Convention::ListenFds | Convention::ListenFdsNoPid => {
                variables.extend(listen_fds(listeners)?);
            }
            Convention::Unicorn => {
                let numbers: Vec<String> = streams(listeners).map(|listener| listener.number().to_string()).collect();
                variables.push(("UNICORN_FD".into(), numbers.join(",").into()));
            }
            Convention::Puma => {
                let one = |(index, listener): (usize, &Listener)| {
                    let scheme = if listener.kind() == Kind::Unix { "unix" } else { "tcp" };
                    let start = format!("{}:{scheme}://", listener.number()).into_bytes();
                    let value = [start, listener.address().bytes()].concat();
                    (format!("PUMA_INHERIT_{index}").into(), OsString::from_vec(value))
                };
                variables.extend(streams(listeners).enumerate().map(one));
            }
            Convention::Nginx => {
                let value: String = listeners.iter().map(|listener| format!("{};", listener.number())).collect();
                variables.push(("NGINX".into(), value.into()));
            }
            Convention::Fpm => {
                let one = |listener: &Listener| {
                    let end = format!("={}", listener.number()).into_bytes();
                    [listener.address().bytes(), end].concat()
                };
                let value = streams(listeners).map(one).collect::<Vec<_>>().join(&b',');
                variables.push(("FPM_SOCKETS".into(), OsString::from_vec(value)));
            }
            Convention::Einhorn => {
                variables.push(("EINHORN_MASTER_PID".into(), parent.to_string().into()));
                variables.push(("EINHORN_FD_COUNT".into(), listeners.len().to_string().into()));
                let one = |(index, listener): (usize, &Listener)| {
                    (format!("EINHORN_FD_{index}").into(), listener.number().to_string().into())
                };
                variables.extend(listeners.iter().enumerate().map(one));
            }
        }
    }
    Ok(variables)
}

/// The names of variables that come from outside and tell of descriptors that no worker has. Whoever believed them
/// would take another socket for a listener, or none at all.
pub fn stale<'a>(environment: impl Iterator<Item = (&'a OsStr, &'a OsStr)>, listeners: &[Listener]) -> Vec<&'a OsStr> {
    let is_ours = |text: &str| {
        let number: Option<RawFd> = text.trim().parse().ok();
        listeners.iter().any(|listener| Some(listener.number()) == number)
    };
    let all_ours = |text: &str, separator: char| text.split(separator).filter(|part| !part.is_empty()).all(is_ours);
    let is_stale = |name: &str, value: &str| match name {
        "UNICORN_FD" | "GUNICORN_FD" => !all_ours(value, ','),
        "NGINX" => !all_ours(value, ';'),
        "FPM_SOCKETS" => {
            !value.split(',').all(|entry| entry.rsplit_once('=').is_some_and(|(_, number)| is_ours(number)))
        }
        _ if name.starts_with("PUMA_INHERIT_") => !value.split_once(':').is_some_and(|(number, _)| is_ours(number)),
        // Without their master they mean nothing.
        _ => name.starts_with("EINHORN_") || name == "GUNICORN_PID",
    };
    environment
        .filter(|(name, value)| is_stale(&name.to_string_lossy(), &value.to_string_lossy()))
        .map(|(name, _)| name)
        .collect()
}

fn streams(listeners: &[Listener]) -> impl Iterator<Item = &Listener> {
    listeners.iter().filter(|listener| listener.kind().is_stream())
}

fn listen_fds(listeners: &[Listener]) -> Result<[(OsString, OsString); 2], String> {
    let expected = LISTEN_FDS_START..;
    if let Some((number, listener)) = expected.zip(listeners).find(|(number, listener)| listener.number() != *number) {
        return Err(format!(
            "--export=listen-fds needs the listeners at descriptors from 3 on without a gap, but {} is at {} instead of \
             {number}; leave out =FD, fd= and --first-fd",
            listener.name(),
            listener.number()
        ));
    }
    let names: Vec<String> = listeners.iter().map(name).collect();
    Ok([("LISTEN_FDS".into(), listeners.len().to_string().into()), ("LISTEN_FDNAMES".into(), names.join(":").into())])
}

/// The name as it was given, or else one made of the address, in which a `u` before the port tells UDP from TCP.
fn name(listener: &Listener) -> String {
    if let Some(name) = listener.given_name() {
        return name.to_owned();
    }
    let text = match listener.address() {
        BoundAddress::Internet(address) if listener.kind() == Kind::Udp => {
            format!("{}:u{}", address.ip(), address.port())
        }
        address => address.to_string(),
    };
    // Colons separate names; and whatever is not printable ASCII is not allowed.
    text.chars().map(|c| if c.is_ascii_graphic() && c != ':' { c } else { '_' }).take(255).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen_spec::{parse_listener, parse_ports};
    use crate::listeners::{Listeners, PassedSockets};

    fn listeners(values: &[&str], first: RawFd) -> Listeners {
        let specs: Vec<_> = values.iter().map(|value| parse_listener(OsStr::new(value)).unwrap()).collect();
        Listeners::open(&specs, PassedSockets::default(), first, &mut |_| {}).unwrap()
    }

    fn exported(text: &str, listeners: &Listeners) -> Result<Vec<String>, String> {
        let all = variables(&parse_conventions(text).unwrap(), listeners.all(), 99)?;
        Ok(all.iter().map(|(name, value)| format!("{}={}", name.display(), value.display())).collect())
    }

    #[test]
    fn each_convention_has_its_words() {
        let abstract_name = format!("@export-{}", std::process::id());
        let unix = format!("unix:{abstract_name}");
        let listeners = listeners(&["127.0.0.1:0,name=web", &unix, "[::1]:u0"], 3);
        let [web, udp] = [0, 2].map(|index| listeners.all()[index].address().to_string());
        let port = udp.rsplit_once(':').unwrap().1;
        let udp_name = format!("[__1]_u{port}").replace(['[', ']'], "");
        for (convention, expected) in [
            ("none", vec![]),
            ("listen-fds", vec!["LISTEN_FDS=3".to_owned(), format!("LISTEN_FDNAMES=web:{abstract_name}:{udp_name}")]),
            ("unicorn", vec!["UNICORN_FD=3,4".to_owned()]),
            ("puma", vec![format!("PUMA_INHERIT_0=3:tcp://{web}"), format!("PUMA_INHERIT_1=4:unix://{abstract_name}")]),
            ("nginx", vec!["NGINX=3;4;5;".to_owned()]),
            ("fpm", vec![format!("FPM_SOCKETS={web}=3,{abstract_name}=4")]),
            (
                "einhorn",
                ["EINHORN_MASTER_PID=99", "EINHORN_FD_COUNT=3", "EINHORN_FD_0=3", "EINHORN_FD_1=4", "EINHORN_FD_2=5"]
                    .map(str::to_owned)
                    .to_vec(),
            ),
        ] {
            assert_eq!(exported(convention, &listeners), Ok(expected), "{convention}");
        }
        assert_eq!(exported("listen-fds-no-pid", &listeners), exported("listen-fds", &listeners));
        assert!(wants_pid(&parse_conventions("nginx,listen-fds").unwrap()));
        assert!(!wants_pid(&parse_conventions("listen-fds-no-pid").unwrap()));
        assert_eq!(exported("nginx, unicorn", &listeners).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_convention_is_refused() {
        for text in ["", "systemd", "nginx,", "none,nginx"] {
            assert!(parse_conventions(text).unwrap_err().contains("none or a list of listen-fds, "), "{text}");
        }
    }

    #[test]
    fn listen_fds_need_the_descriptors_from_3_on() {
        let error = exported("listen-fds", &listeners(&["127.0.0.1:0"], 50)).unwrap_err();
        assert!(error.contains("but 127.0.0.1:0 is at 50 instead of 3; leave out"), "{error}");
        assert!(exported("listen-fds", &listeners(&["127.0.0.1:0=4", "127.0.0.1:0"], 3)).is_err());
        assert_eq!(exported("nginx", &listeners(&["127.0.0.1:0"], 50)), Ok(vec!["NGINX=50;".to_owned()]));
    }

    #[test]
    fn only_what_tells_of_other_descriptors_is_stale() {
        let specs = parse_ports(OsStr::new("127.0.0.1:0,127.0.0.1:0")).unwrap();
        let listeners = Listeners::open(&specs, PassedSockets::default(), 3, &mut |_| {}).unwrap();
        let is_stale = |name: &str, value: &str| {
            let environment = [(OsStr::new(name), OsStr::new(value))];
            !stale(environment.into_iter(), listeners.all()).is_empty()
        };
        for (name, value) in [
            ("NGINX", "3;"),
            ("NGINX", "3;4;"),
            ("UNICORN_FD", "4"),
            ("FPM_SOCKETS", "127.0.0.1:9000=3"),
            ("PUMA_INHERIT_0", "3:tcp://x"),
            ("PATH", "7"),
            ("MY_NGINX", "7;"),
        ] {
            assert!(!is_stale(name, value), "{name}={value}");
        }
        for (name, value) in [
            ("NGINX", "5;"),
            ("NGINX", "3;5;"),
            ("NGINX", "x"),
            ("UNICORN_FD", "3,9"),
            ("GUNICORN_FD", "9"),
            ("GUNICORN_PID", "1"),
            ("FPM_SOCKETS", "127.0.0.1:9000=9"),
            ("FPM_SOCKETS", ""),
            ("PUMA_INHERIT_0", "9:tcp://x"),
            ("PUMA_INHERIT_7", ""),
            ("EINHORN_FD_COUNT", "1"),
        ] {
            assert!(is_stale(name, value), "{name}={value}");
        }
    }
}
