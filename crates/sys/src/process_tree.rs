//! Who is whose child, as /proc tells it, and the end of a whole family of processes.
//! The event loop calls [`kill_family`] when a deadline has passed; the accept probe asks for [`descendants`].
//!
//! A process may vanish between any two looks at it. That is an answer here ("not there"), never an error.
//!
//! What is read of others is `/proc/PID/status`, `comm` and `task/TID/children`, and that does not wait for them. Most other
//! files do: `stat`, `environ`, and the links `exe`, `cwd`, `root` and `fd/N`, take a lock that a process holds from the moment at
//! which it executes another program until its old descriptors are closed; so whoever has a file of a file system that does
//! not answer can make all who look wait for ever. They are for throw-away processes: see [`crate::apart`].

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::str;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use crate::apart::{self, Apart, News};
use crate::signal::{self, Signal};

/// A process at the moment at which /proc/PID/status was read, see proc_pid_status(5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its PID.
    pub pid: i32,
    /// The PID of its parent; 0 if that is outside of the PID namespace.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// What its first thread is doing: `R` running, `S` sleeping, `Z` zombie, …
    pub state: char,
    /// How many threads it has.
    pub threads: u32,
    /// Whether its first thread has memory. Without are kernel threads and those that are ending or have ended.
    pub has_memory: bool,
}

/// How processes are known that have left the family.
#[derive(Clone, Copy, Debug)]
pub struct Mark<'a> {
    /// A variable in their environment.
    pub name: &'a str,
    /// Its value.
    pub value: &'a str,
    /// Children that are known to be others.
    pub except: &'a [i32],
    /// How long it may take to ask them all, if one of them has it so that reading its environment waits.
    pub limit: Duration,
}

/// More levels or members than any family has: only a loop or a fork bomb gets there.
const MOST: usize = 32_768;

/// Environments are seldom larger than some kilobytes; what a process put there itself may be of any size.
const LARGEST_ENVIRONMENT: u64 = 1 << 20;

/// How often [`kill_family`] looks for processes that were born while it was killing their parents.
const ROUNDS: usize = 10;

impl Process {
    /// Whether it still does anything: a zombie has only its exit status left. A process whose first thread has ended
    /// looks like one, but has other threads.
    pub fn is_living(&self) -> bool {
        self.threads > 1 || !matches!(self.state, 'Z' | 'X' | 'x')
    }

    /// Whether it lives and has not begun to end. One that has begun to can no longer be looked into by its own user.
    pub fn is_staying(&self) -> bool {
        self.threads > 1 || (self.is_living() && self.has_memory)
    }

    fn parse(pid: i32, status: &[u8]) -> Option<Process> {
        let mut process = Process { pid, parent: 0, group: 0, session: 0, state: '?', threads: 0, has_memory: false };
        let mut found = 0;
        for line in status.split(|&byte| byte == b'\n') {
            let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
            let (name, value) = line.split_at(colon);
            // Of several numbers the first is that of our PID namespace.
            let mut words = value.split(u8::is_ascii_whitespace).skip(1).filter(|word| !word.is_empty());
            match name {
                b"State" => process.state = char::from(*words.next()?.first()?),
                b"PPid" => process.parent = number(words.next()?)?,
                b"NSpgid" => process.group = number(words.next()?)?,
                b"NSsid" => process.session = number(words.next()?)?,
                b"Threads" => process.threads = number(words.next()?)?,
                b"VmSize" => {
                    process.has_memory = true;
                    continue;
                }
                _ => continue,
            }
            found += 1;
        }
        const FIELDS: usize = 5;
        (found == FIELDS).then_some(process)
    }
}

fn number<N: str::FromStr>(digits: &[u8]) -> Option<N> {
    str::from_utf8(digits).ok()?.parse().ok()
}

/// The process with this PID, zombies included; `None` if there is none, or none that /proc shows to us.
pub fn read(pid: i32) -> Option<Process> {
    // The lines that matter come before those with masks as long as the machine is large.
    let mut status = [0; 4096];
    let length = File::open(format!("/proc/{pid}/status")).and_then(|mut file| file.read(&mut status)).ok()?;
    Process::parse(pid, status.get(..length)?)
}

/// When a process was started, in clock ticks since boot, see proc_pid_stat(5). With the PID this tells it from every
/// other process. Whoever asks may have to wait for it: see the top of this file.
pub fn start_time(pid: i32) -> Option<u64> {
    stat_field(pid, 22)
}

/// All living descendants of `root`, without `root` itself, parents before their children. Processes whose parent
/// died meanwhile belong to somebody else: to the nearest child subreaper among their ancestors, or to PID 1.
///
/// Costs some 10 µs for each thread of the family where the kernel lists the children of a process, else as much for
/// each process of the machine.
pub fn descendants(root: i32) -> Vec<i32> {
    first_descendants(root, MOST)
}

/// As [`descendants`], but not all of them where there are more than so many: for whoever must not look for long.
pub fn first_descendants(root: i32, most: usize) -> Vec<i32> {
    let mut found = if lists_children() {
        descendants_by_children(root, most)
    } else {
        scan().map(|all| descendants_among(&all, root)).unwrap_or_default()
    };
    found.truncate(most);
    found.retain(|&pid| read(pid).is_some_and(|process| process.is_living()));
    found
}

fn descendants_by_children(root: i32, most: usize) -> Vec<i32> {
    let mut found: Vec<i32> = Vec::new();
    let mut seen = HashSet::from([root]);
    let mut parent = Some(root);
    let mut asked = 0;
    while let Some(pid) = parent
        && found.len() < most
    {
        for child in children(pid) {
            if seen.insert(child) {
                found.push(child);
            }
        }
        parent = found.get(asked).copied();
        asked += 1;
    }
    found
}

/// Something that tells one program that a process executes from the next: where its stack begins, which is chosen anew
/// at each exec, see proc_pid_stat(5). `None` if it is gone or may not be looked into.
pub fn image(pid: i32) -> Option<u64> {
    stat_field(pid, 28).filter(|start| *start != 0)
}

/// A number in `/proc/PID/stat`, counted as in proc_pid_stat(5).
fn stat_field(pid: i32, field: usize) -> Option<u64> {
    const FIRST_AFTER_NAME: usize = 3;
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses, and may itself hold spaces and parentheses.
    let end_of_name = stat.iter().rposition(|&byte| byte == b')')?;
    number(stat.get(end_of_name + 2..)?.split(|&byte| byte == b' ').nth(field.checked_sub(FIRST_AFTER_NAME)?)?)
}

/// What a process is called, see proc_pid_comm(5): at most 15 bytes, of the process's own choice; `None` if it is gone.
pub fn name(pid: i32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(name.strip_suffix(b"\n").unwrap_or(&name)).into_owned())
}

/// The inode of the socket that a link in `/proc/PID/fd` leads to: the number in `socket:[4711]`, see proc_pid_fd(5).
pub fn socket_of(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// The children of all threads of a process, zombies included. None where the kernel does not list them.
pub fn children(pid: i32) -> Vec<i32> {
    let mut found = Vec::new();
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().map_while(Result::ok);
    for thread in threads {
        if let Ok(list) = fs::read_to_string(thread.path().join("children")) {
            found.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
    }
    found
}

fn descendants_among(all: &[Process], root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut asked = 0;
    while let Some(&parent) = found.get(asked) {
        found.extend(all.iter().filter(|process| process.parent == parent).map(|process| process.pid));
        asked += 1;
    }
    found.split_off(1)
}

/// Whether `ancestor` is the parent of `pid`, or the parent of its parent, and so on. No process descends from itself.
pub fn is_descendant(pid: i32, ancestor: i32) -> bool {
    let mut process = read(pid);
    for _ in 0..MOST {
        match process {
            None => return false,
            Some(Process { parent, .. }) if parent == ancestor => return true,
            Some(Process { parent, .. }) => process = read(parent),
        }
    }
    false
}

/// The effective user of the process, see proc_pid_status(5); `None` if it is gone.
pub fn user(pid: i32) -> Option<u32> {
    users(pid)?.get(1).copied()
}

/// The real, effective, saved and file system users of the process; `None` if it is gone.
pub fn users(pid: i32) -> Option<[u32; 4]> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    // The owner of the directory is root for a process that has changed its user and executed nothing since.
    let users = status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"Uid:"))?;
    let mut words = users.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).map_while(number);
    Some([words.next()?, words.next()?, words.next()?, words.next()?])
}

/// A variable of the environment with which the process was executed; `None` as well if that cannot be read, for lack
/// of permission or because the process is a zombie or gone.
///
/// A child between fork and exec still shows the environment of its parent.
pub fn variable(pid: i32, name: &str) -> Option<OsString> {
    let environment = File::open(format!("/proc/{pid}/environ")).ok()?.take(LARGEST_ENVIRONMENT);
    BufReader::new(environment).split(0).map_while(Result::ok).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(OsStr::from_bytes(value).to_owned())
    })
}

/// The children of the caller that were executed with this variable in their environment. So those are known
/// that have lost their parent and were given to the caller, a child subreaper: the strays of [`kill_family`]. Zombies have nothing to
/// say.
///
/// To read an environment is to read the memory of the process, which can be a page of a file system that does not
/// answer. So another process reads; after the limit it is ended, and what it has not found is not there.
pub fn marked_children(mark: &Mark<'_>) -> Vec<i32> {
    let living = |pid: &i32| !mark.except.contains(pid) && read(*pid).is_some_and(|process| process.is_staying());
    let asked: Vec<i32> = children_of(own_pid()).into_iter().filter(living).collect();
    let found = variables(&asked, mark.name, mark.limit).into_iter();
    found.filter(|(_, value)| value == mark.value).map(|(pid, _)| pid).collect()
}

/// A variable of the environments of these processes, of those that have it and whose value has at most 64 bytes, as far as
/// they can be read within `limit`. See [`marked_children`].
pub fn variables(pids: &[i32], name: &str, limit: Duration) -> Vec<(i32, OsString)> {
    const LONGEST_VALUE: usize = 64;
    let mut found = Vec::new();
    if pids.is_empty() {
        return found;
    }
    let answer = apart::ask(limit, |reporter| {
        for &pid in pids {
            if let Some(value) = variable(pid, name).filter(|value| value.len() <= LONGEST_VALUE) {
                reporter.say(&[&pid.to_ne_bytes()[..], value.as_bytes(), b"\0"].concat());
            }
        }
    });
    let text = answer.map(|answer| answer.text).unwrap_or_default();
    let mut rest = text.as_slice();
    while let Some((pid, after)) = rest.split_first_chunk()
        && let Some(end) = after.iter().position(|&byte| byte == 0)
    {
        let (value, after) = after.split_at(end);
        found.push((i32::from_ne_bytes(*pid), OsStr::from_bytes(value).to_owned()));
        rest = after.get(1..).unwrap_or_default();
    }
    found
}

/// The processes of the machine that whoever looks into has to wait for, for longer than `limit`: see the top of this file.
/// Every other one can be looked into, unless it changes meanwhile. There is no end to them if somebody makes them on
/// purpose, so no more than so many are found.
///
/// Costs a process, and some 50 µs for each process of the machine.
pub fn find_blocking(limit: Duration, most: usize) -> HashSet<i32> {
    let mut found = HashSet::new();
    let Ok(entries) = fs::read_dir("/proc") else { return found };
    let pids: Vec<i32> = entries.flatten().filter_map(|entry| number(entry.file_name().as_bytes())).collect();
    let mut rest = pids.as_slice();
    while !rest.is_empty() && found.len() < most {
        let Some(reached) = looked_into(rest, limit) else { return found };
        let Some((&blocking, after)) = rest.get(reached..).and_then(<[i32]>::split_first) else { return found };
        found.insert(blocking);
        rest = after;
    }
    found
}

/// How many of these can be looked into before one that makes whoever looks wait; none if nobody can look.
fn looked_into(pids: &[i32], limit: Duration) -> Option<usize> {
    let looker = Apart::begin(&[], |reporter| {
        for pid in pids {
            let _ = fs::read_link(format!("/proc/{pid}/exe"));
            for name in ["stat", "environ"] {
                let _ = File::open(format!("/proc/{pid}/{name}")).and_then(|mut file| file.read(&mut [0]));
            }
            reporter.say(b".");
        }
    });
    let looker = looker.ok()?;
    let mut reached = 0;
    loop {
        match looker.news() {
            News::Said(dots) => reached += dots.len(),
            News::Ended => break,
            News::None if looker.wait(limit) => {}
            News::None => break,
        }
    }
    apart::end(looker.pid());
    Some(reached)
}

fn children_of(pid: i32) -> Vec<i32> {
    if lists_children() {
        return children(pid);
    }
    let all = scan().unwrap_or_default();
    all.iter().filter(|process| process.parent == pid).map(|process| process.pid).collect()
}

/// Whether /proc is mounted and tells about the PID namespace in which this process is. Another namespace's PIDs mean
/// other processes than ours.
pub fn proc_is_ours() -> bool {
    fs::read_link("/proc/self").is_ok_and(|pid| pid.into_os_string().into_vec() == own_pid().to_string().into_bytes())
}

/// Ends with SIGKILL the process `leader`, the process group that it leads, every descendant of it, and every process
/// for which `strays` says so together with its descendants. Returns how many processes were signalled; zombies do not
/// count.
///
/// `leader` is a child of the calling process that has not been reaped. If it has been, then of its process group only
/// descendants of the caller are ended, since the number may lead another group by now. `strays` is for processes that
/// left the family: after a double fork they are children of the caller, if that is a child subreaper. It is asked
/// about all descendants of the caller.
///
/// Never signalled are PID 1, the caller, and the ancestors of the caller. A victim is signalled by a pidfd and only if
/// it is still the process that was seen. After that the family is looked for again, up to ten times, until nobody
/// new is found. A look costs some 20 µs for each descendant of the caller; or for each process of the machine, where the
/// kernel does not list the children of a process or the caller is no child subreaper. Two are usual.
///
/// # Errors
/// There is no usable /proc, or no descriptor to read it with; or a process could not be signalled, for example for
/// lack of permission. All others have been signalled then.
pub fn kill_family(leader: i32, strays: impl Fn(&Process) -> bool) -> io::Result<usize> {
    kill_all(leader, relatives, |all| all.iter().filter(|process| strays(process)).map(|process| process.pid).collect())
}

/// As [`kill_family`], for processes that need not descend from the caller, with their descendants. `which` is asked
/// about each process of the machine.
///
/// # Errors
/// As of [`kill_family`].
pub fn kill_anywhere(which: impl Fn(&Process) -> bool) -> io::Result<usize> {
    const NO_LEADER: i32 = 0;
    kill_all(NO_LEADER, scan, |all| all.iter().filter(|process| which(process)).map(|process| process.pid).collect())
}

/// As [`kill_family`], where the strays are known by a variable in their environment: see [`marked_children`].
///
/// # Errors
/// As of [`kill_family`]. That an environment cannot be read is none.
pub fn kill_marked_family(leader: i32, mark: &Mark<'_>) -> io::Result<usize> {
    let deadline = Instant::now() + mark.limit;
    kill_all(leader, relatives, |_| {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            HashSet::new()
        } else {
            marked_children(&Mark { limit: left, ..*mark }).into_iter().collect()
        }
    })
}

fn kill_all(
    leader: i32,
    look: fn() -> io::Result<Vec<Process>>,
    mut strays: impl FnMut(&[Process]) -> HashSet<i32>,
) -> io::Result<usize> {
    if !proc_is_ours() {
        let text = "a family of processes cannot be found without the /proc of this PID namespace: mount it";
        return Err(io::Error::new(io::ErrorKind::NotFound, text));
    }
    let mut seen = HashSet::new();
    let mut signalled = 0;
    let mut failure = None;
    for _ in 0..ROUNDS {
        let all = look()?;
        let family = Family::find(&all, leader, &strays(&all));
        let before = seen.len();
        for victim in family.victims {
            if seen.insert(victim.pid) {
                match kill(&victim) {
                    Ok(true) => signalled += 1,
                    Ok(false) => {}
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
        }
        if family.whole_group {
            // Unlike a look, this cannot be outrun by processes that fork all the time. Those that could not be
            // signalled have been noticed above.
            let _ = signal::send_group(leader, Signal::KILL);
        }
        if seen.len() == before {
            break;
        }
    }
    failure.map_or(Ok(signalled), Err)
}

/// What one look at the machine says about the processes to be ended.
struct Family {
    victims: Vec<Process>,
    /// Whether the leader's number surely stands for the leader's group, and nobody protected is in it.
    whole_group: bool,
}

impl Family {
    fn find(all: &[Process], leader: i32, strays: &HashSet<i32>) -> Family {
        let caller = own_pid();
        let mut protected = ancestors(all, caller);
        protected.extend([caller, 1]);

        let ours = with_descendants(all, HashSet::from([caller]), &HashSet::new());
        let head = all.iter().find(|process| process.pid == leader);
        // A number that stands for somebody else's child by now says nothing about the family.
        let is_ours = head.is_some_and(|head| head.parent == caller && !protected.contains(&leader));
        let is_reaped = head.is_none() && leader > 1;
        let seeds = all.iter().filter(|process| {
            let is_member = process.group == leader && (is_ours || (is_reaped && ours.contains(&process.pid)));
            let is_leader = process.pid == leader && is_ours;
            !protected.contains(&process.pid) && (is_leader || is_member || strays.contains(&process.pid))
        });
        let family = with_descendants(all, seeds.map(|process| process.pid).collect(), &protected);
        Family {
            victims: all.iter().filter(|who| who.is_living() && family.contains(&who.pid)).copied().collect(),
            whole_group: is_ours && all.iter().all(|who| who.group != leader || !protected.contains(&who.pid)),
        }
    }
}

fn ancestors(all: &[Process], pid: i32) -> HashSet<i32> {
    let mut found = HashSet::new();
    let mut below = pid;
    while let Some(process) = all.iter().find(|process| process.pid == below)
        && found.insert(process.parent)
    {
        below = process.parent;
    }
    found
}

fn with_descendants(all: &[Process], mut family: HashSet<i32>, except: &HashSet<i32>) -> HashSet<i32> {
    loop {
        let before = family.len();
        for process in all {
            if family.contains(&process.parent) && !except.contains(&process.pid) {
                family.insert(process.pid);
            }
        }
        if family.len() == before {
            return family;
        }
    }
}

/// The caller and all who descend from it, zombies included. If it does not get those that lose their parent, they may be
/// anywhere, so these are all processes.
fn relatives() -> io::Result<Vec<Process>> {
    let us = own_pid();
    let gets_orphans = || us == 1 || matches!(rustix::process::child_subreaper(), Ok(Some(_)));
    if !lists_children() || !gets_orphans() {
        return scan();
    }
    Ok([us].into_iter().chain(descendants_by_children(us, MOST)).filter_map(read).collect())
}

/// Whether the kernel lists the children of a process (`CONFIG_PROC_CHILDREN`).
fn lists_children() -> bool {
    Path::new("/proc/thread-self/children").exists()
}

/// All processes that /proc shows.
fn scan() -> io::Result<Vec<Process>> {
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = number(entry?.file_name().as_bytes()) {
            all.extend(read(pid));
        }
    }
    Ok(all)
}

/// Whether a process is the one that was seen, or another one that belongs to its family as it did. It may have lost its
/// parent, which was killed before it, and then be ours.
fn is_same(seen: &Process, now: &Process) -> bool {
    now.group == seen.group || now.parent == seen.parent || now.parent == own_pid()
}

/// Whether the process was there to be signalled.
fn kill(victim: &Process) -> io::Result<bool> {
    let Some(pid) = rustix::process::Pid::from_raw(victim.pid) else {
        return Ok(false);
    };
    let handle = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(handle) => Some(handle),
        Err(Errno::SRCH) => return Ok(false),
        // An old kernel, a filter of system calls, no descriptor left: the check below must do.
        Err(_) => None,
    };
    // Only now is it certain whether the descriptor stands for the process that was seen.
    if !read(victim.pid).is_some_and(|now| is_same(victim, &now)) {
        return Ok(false);
    }
    let sent = match handle {
        Some(handle) => pidfd_send_signal(handle, rustix::process::Signal::KILL).map_err(io::Error::from),
        None => signal::send(victim.pid, Signal::KILL),
    };
    match sent {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(error) => Err(io::Error::new(error.kind(), format!("failed to kill the process {}: {error}", victim.pid))),
    }
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_pid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    /// Waits until something holds, with a limit that is only met when it never will.
    fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !holds() {
            assert!(begun.elapsed() < Duration::from_secs(60), "still not so: {what}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// A shell in a process group of its own, its output, and what it said until an empty line.
    fn shell(script: &str) -> (Child, Vec<i32>) {
        let mut child = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let pids = lines.take_while(|line| !line.is_empty()).map(|line| line.trim().parse().unwrap()).collect();
        (child, pids)
    }

    fn is_living(pid: i32) -> bool {
        read(pid).is_some_and(|process| process.is_living())
    }

    fn pid_of(child: &Child) -> i32 {
        i32::try_from(child.id()).unwrap()
    }

    fn is_killed(child: &mut Child) -> bool {
        child.wait().unwrap().signal() == Some(libc::SIGKILL)
    }

    #[test]
    fn a_status_is_read_whatever_the_name_of_the_program() {
        let rest = "Umask:\t0022\nState:\tS (sleeping)\nTgid:\t42\nPid:\t42\nPPid:\t7\nUid:\t0\t0\t0\t0\nNStgid:\t42\t1\n\
                    NSpgid:\t8\t1\nNSsid:\t9\t1\nVmSize:\t    4 kB\nThreads:\t3\n";
        let expected = Process { pid: 42, parent: 7, group: 8, session: 9, state: 'S', threads: 3, has_memory: true };
        for name in ["sh", "a b", "State:\\tZ", "x\\nPPid:\\t1", "\u{e9}"] {
            assert_eq!(Process::parse(42, format!("Name:\t{name}\n{rest}").as_bytes()), Some(expected), "{name}");
        }
        let zombie = rest.replace("S (sleeping)", "Z (zombie)").replace("VmSize:\t    4 kB\n", "");
        let zombie = Process::parse(42, zombie.as_bytes()).unwrap();
        assert_eq!((zombie.state, zombie.has_memory), ('Z', false));
        for broken in ["", "State:", "State:\n", "State:\tS\nPPid:\t1\n", &rest.replace("PPid:\t7", "PPid:\tx")] {
            assert_eq!(Process::parse(42, broken.as_bytes()), None, "{broken}");
        }
    }

    #[test]
    fn this_process_is_seen_as_it_is() {
        let me = read(own_pid()).unwrap();
        assert!(me.is_living());
        assert_eq!(me.pid, own_pid());
        // Any of the three is 0 where the process it names is outside of the PID namespace.
        // SAFETY: all three only return a number.
        let (parent, group, session) = unsafe { (libc::getppid(), libc::getpgrp(), libc::getsid(0)) };
        assert_eq!((me.parent, me.group, me.session), (parent, group, session));
        assert!(proc_is_ours());
        assert_eq!(read(i32::MAX), None);
        assert_eq!(read(-1), None);
    }

    #[test]
    fn another_program_is_another_image() {
        let (mut child, _) = shell("echo; read line; exec sleep 600");
        let before = image(pid_of(&child)).unwrap();
        assert_eq!(image(pid_of(&child)), Some(before));
        child.stdin.take().unwrap().write_all(b"go on\n").unwrap();
        wait_until("another image", || image(pid_of(&child)).is_some_and(|now| now != before));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(image(i32::MAX), None);
    }

    #[test]
    fn the_user_is_the_effective_one() {
        assert_eq!(user(own_pid()), Some(rustix::process::geteuid().as_raw()));
        assert_eq!(user(1), Some(0));
        assert_eq!(user(i32::MAX), None);
    }

    #[test]
    fn the_name_of_a_program_may_look_like_the_rest_of_the_line() {
        let (mut child, _) = shell("printf ') R 1 1 (' > /proc/$$/comm; echo; read line");
        let process = read(pid_of(&child)).unwrap();
        assert_eq!((process.parent, process.group), (own_pid(), pid_of(&child)));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn descendants_are_found_in_whatever_session_they_are() {
        let (mut child, pids) = shell("sh -c 'echo $$; setsid sh -c \"echo \\$\\$; echo; sleep 600; :\"; :'; :");
        let leader = pid_of(&child);
        let [son, grandson] = pids[..] else { panic!("{pids:?}") };
        // The grandson starts its sleep a moment after it has spoken.
        let mut found = Vec::new();
        wait_until("three descendants", || {
            found = descendants(leader);
            found.len() == 3
        });
        assert_eq!(found[..2], pids);
        assert_eq!(descendants_among(&scan().unwrap(), leader), found, "by a scan too");
        assert!(is_descendant(grandson, leader) && is_descendant(grandson, son) && is_descendant(son, own_pid()));
        assert!(!is_descendant(leader, son) && !is_descendant(leader, leader) && !is_descendant(i32::MAX, 1));
        assert_ne!(read(grandson).unwrap().session, read(leader).unwrap().session);

        assert_eq!(kill_family(leader, |_| false).unwrap(), 4);
        wait_until("all gone", || found.iter().all(|&pid| !is_living(pid)));
        assert!(!is_living(leader), "a zombie does not live");
        assert_eq!(descendants(own_pid()).iter().find(|&&pid| pid == leader), None, "nor is it a living descendant");
        assert_eq!(kill_family(leader, |_| false).unwrap(), 0, "nobody is left");
        assert!(is_killed(&mut child));
        assert_eq!(descendants(leader), []);
    }

    #[test]
    fn members_of_the_group_are_ended_though_their_parent_is_gone() {
        let (mut child, pids) = shell("(sleep 600 >&- & echo $!; echo); read line");
        let [orphan] = pids[..] else { panic!("{pids:?}") };
        wait_until("an orphan", || !is_descendant(orphan, pid_of(&child)));
        assert!(is_living(orphan));
        assert_eq!(kill_family(pid_of(&child), |_| false).unwrap(), 2);
        wait_until("gone", || !is_living(orphan));
        assert!(is_killed(&mut child));
    }

    #[test]
    fn a_variable_is_read_from_the_environment_of_a_process() {
        let mut child = Command::new("sleep")
            .arg("600")
            .env_clear()
            .envs([("GENERATION", "5"), ("GENERATION_OLD", "4"), ("EMPTY", ""), ("LONG", &"x".repeat(100_000))])
            .spawn()
            .unwrap();
        let pid = pid_of(&child);
        wait_until("executed", || variable(pid, "GENERATION").is_some_and(|value| value == "5"));
        assert_eq!(variable(pid, "GENERATION_OLD"), Some("4".into()));
        assert_eq!(variable(pid, "EMPTY"), Some("".into()));
        assert_eq!(variable(pid, "LONG").unwrap().len(), 100_000);
        assert_eq!(variable(pid, "GEN"), None);
        child.kill().unwrap();
        wait_until("a zombie", || !is_living(pid));
        assert_eq!(variable(pid, "GENERATION"), None);
        child.wait().unwrap();
        assert_eq!(variable(pid, "GENERATION"), None);
    }

    #[test]
    fn nobody_here_makes_others_wait() {
        assert_eq!(looked_into(&[own_pid(), i32::MAX, 1], Duration::from_secs(60)), Some(3));
        assert!(!find_blocking(Duration::from_secs(60), 1).contains(&own_pid()));
    }

    #[test]
    fn nobody_who_is_protected_is_ever_a_victim() {
        let all = scan().unwrap();
        for leader in [i32::MIN, -1, 0, 1, own_pid(), read(own_pid()).unwrap().parent] {
            let family = Family::find(&all, leader, &HashSet::new());
            assert_eq!((family.victims, family.whole_group), (vec![], false), "{leader}");
        }
        let everybody = all.iter().map(|process| process.pid).collect();
        let everybody = Family::find(&all, -1, &everybody).victims;
        let mut protected = vec![1, own_pid()];
        let mut pid = own_pid();
        while let Some(process) = read(pid) {
            protected.push(process.parent);
            pid = process.parent;
        }
        assert!(everybody.iter().all(|victim| !protected.contains(&victim.pid)));
    }

    #[test]
    fn a_number_that_was_given_to_somebody_else_ends_nobody() {
        let process =
            |pid, parent, group| Process { pid, parent, group, session: 1, state: 'S', threads: 1, has_memory: true };
        let me = own_pid();
        let [leader, other, orphan, stranger] = [me + 1, me + 2, me + 3, me + 4];
        let pids = |all: &[Process]| {
            let family = Family::find(all, leader, &HashSet::new());
            (family.victims.iter().map(|victim| victim.pid).collect::<Vec<_>>(), family.whole_group)
        };
        let caller = process(me, 1, 1);
        let ours = [caller, process(leader, me, leader), process(other, leader, leader)];
        assert_eq!(pids(&ours), (vec![leader, other], true));
        let taken = [caller, process(leader, 1, leader), process(other, leader, leader)];
        assert_eq!(pids(&taken), (vec![], false));
        let reaped = [caller, process(orphan, me, leader), process(stranger, 1, leader)];
        assert_eq!(pids(&reaped), (vec![orphan], false));
        let joined = [process(me, 1, leader), process(leader, me, leader)];
        assert_eq!(pids(&joined), (vec![leader], false));
    }

    #[test]
    fn a_process_that_is_not_the_one_that_was_seen_is_spared() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let seen = read(pid_of(&child)).unwrap();
        let other = Process { parent: seen.parent + 1, group: seen.group + 1, ..seen };
        assert!(!is_same(&other, &Process { parent: 1, ..seen }));
        assert!(is_same(&seen, &seen) && is_same(&other, &seen), "it has become ours");
        assert!(is_living(seen.pid));
        assert!(kill(&seen).unwrap());
        assert!(is_killed(&mut child));
        assert!(!kill(&seen).unwrap());
    }

    #[test]
    fn a_process_lives_on_after_its_first_thread() {
        let script = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(600,)).start(); \
                      ctypes.CDLL(None).pthread_exit(None)";
        let mut child = Command::new("python3").args(["-c", script]).process_group(0).spawn().unwrap();
        let pid = pid_of(&child);
        wait_until("the first thread has ended", || read(pid).is_some_and(|process| process.state == 'Z'));
        assert!(is_living(pid));
        assert_eq!(kill_family(pid, |_| false).unwrap(), 1);
        wait_until("all ended", || !is_living(pid));
        assert!(is_killed(&mut child));
    }

    /// Runs `act` in a forked process that adopts orphans, and returns what it wrote.
    fn as_subreaper(act: fn(&mut io::PipeWriter)) -> String {
        let (mut reader, mut writer) = io::pipe().unwrap();
        // SAFETY: glibc keeps its allocator usable in the child, and `act` takes no other lock of the harness.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            drop(reader);
            rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
            act(&mut writer);
            // SAFETY: ends the process without running anything of the test harness.
            unsafe { libc::_exit(0) };
        }
        drop(writer);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        // SAFETY: nothing is written anywhere.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        said
    }

    const STRAYS: Mark = Mark { name: "E_FAMILY", value: "1", except: &[], limit: Duration::from_secs(60) };

    #[test]
    fn a_daemon_that_left_the_family_is_ended_with_its_children() {
        let said = as_subreaper(|out| {
            let script = "E_FAMILY=1 setsid sh -c 'setsid sh -c \"sleep 600 & echo \\$\\$; echo \\$!; echo; \
                          exec >&-; wait\" & exit'; read line";
            let (mut child, pids) = shell(script);
            let leader = pid_of(&child);
            let [daemon, son] = pids[..] else { panic!("{pids:?}") };
            wait_until("adopted", || read(daemon).unwrap().parent == own_pid());
            let without = Family::find(&scan().unwrap(), leader, &HashSet::new()).victims.len();
            let killed = kill_marked_family(leader, &STRAYS).unwrap();
            wait_until("gone", || !is_living(daemon) && !is_living(son));
            write!(out, "{without} {killed} {}", is_killed(&mut child)).unwrap();
        });
        assert_eq!(said, "1 3 true");
    }

    #[test]
    fn a_storm_of_forks_is_ended() {
        let said = as_subreaper(|out| {
            // Each process starts another one in a session of its own and ends, some hundred times, while a
            // second line of descent does the same within the group.
            let script = "storm() { i=0; while [ $i -lt 300 ]; do sleep 600 & i=$((i+1)); done; wait; }\n\
                          export E_FAMILY=1; (storm) >&- & \
                          setsid sh -c 'i=0; while [ $i -lt 300 ]; do setsid sleep 600 & i=$((i+1)); done; wait' >&- &\n\
                          echo; storm >&-";
            let (mut child, _) = shell(script);
            let leader = pid_of(&child);
            wait_until("a storm", || descendants(leader).len() > 50);
            let killed = kill_marked_family(leader, &STRAYS).unwrap();
            assert!(killed > 50, "{killed}");
            // The killed ones that were adopted are zombies until they are reaped.
            wait_until("nobody left", || descendants(own_pid()).is_empty());
            assert_eq!(kill_marked_family(leader, &STRAYS).unwrap(), 0);
            write!(out, "{}", is_killed(&mut child)).unwrap();
        });
        assert_eq!(said, "true");
    }

    #[test]
    fn what_a_look_costs() {
        let begun = Instant::now();
        let rounds = 20;
        let mut processes = 0;
        for _ in 0..rounds {
            processes += scan().unwrap().len();
        }
        let each = begun.elapsed().as_secs_f64() / processes as f64 * 1e6;
        println!("a look costs {each:.1} µs for each of {} processes", processes / rounds);
    }
}
