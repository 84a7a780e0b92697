//! Finding and ending the processes that a test started, and no others: they are known by a word in their environment.

use std::collections::BTreeSet;
use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The environment variable that every process of a daemon under test carries.
pub(crate) const MARK: &str = "TESTKIT_ID";

/// The processes that carry the mark `id`, zombies not counted (they have no environment any more).
pub(crate) fn marked(id: &str) -> Vec<u32> {
    all().filter(|pid| is_marked(*pid, id)).collect()
}

/// The children of process `parent`, zombies not counted.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let parent = parent.to_string();
    // proc_pid_stat(5): the state, then the parent.
    let is_child = |pid: &u32| {
        stat(*pid).is_some_and(|fields| {
            let mut fields = fields.split_whitespace();
            !matches!(fields.next(), Some("Z" | "X")) && fields.next() == Some(parent.as_str())
        })
    };
    all().filter(is_child).collect()
}

/// The processes of these process groups, zombies not counted.
pub(crate) fn members(groups: &BTreeSet<u32>) -> Vec<u32> {
    // proc_pid_stat(5): the state, the parent, the group.
    let is_member = |pid: &u32| {
        stat(*pid).is_some_and(|fields| {
            let mut fields = fields.split_whitespace();
            let is_alive = !matches!(fields.next(), Some("Z" | "X"));
            let group = fields.nth(1).and_then(|group| group.parse().ok());
            is_alive && group.is_some_and(|group: u32| groups.contains(&group))
        })
    };
    all().filter(is_member).collect()
}

/// How often a process has gone to sleep: `voluntary_ctxt_switches` of proc_pid_status(5).
pub(crate) fn naps(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")?.trim().parse().ok())
}

/// Kills every process that carries the mark `id`, until none is left or a second round of patience is over.
pub(crate) fn kill_marked(id: &str) {
    // A process may fork while it is being looked for, hence the rounds.
    for _ in 0..200 {
        let left = marked(id);
        if left.is_empty() {
            return;
        }
        for pid in left {
            kill_if_marked(pid, id);
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// Sends `signal` to `pid` if it is a process that carries the mark; gives whether it did.
pub(crate) fn signal_if_marked(pid: u32, id: &str, signal: i32) -> bool {
    let Some((pid_of, signal)) = parse(pid, signal) else { return false };
    // The descriptor pins the process: should the PID be recycled after the look, the signal goes nowhere.
    let Ok(process) = pidfd_open(pid_of, PidfdFlags::empty()) else { return false };
    is_marked(pid, id) && pidfd_send_signal(process, signal).is_ok()
}

/// Whether `pid` is a process that is neither gone nor a zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// The state letter of `pid` (proc_pid_stat(5)): `R`, `S`, `T`, `Z`, …
pub(crate) fn state(pid: u32) -> Option<char> {
    stat(pid)?.chars().next()
}

/// The fields of /proc/PID/stat from the third on.
fn stat(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may itself hold blanks and parentheses.
    Some(stat.rsplit_once(')')?.1.trim_start().to_owned())
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn is_marked(pid: u32, id: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let wanted = format!("{MARK}={id}");
    environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
}

fn kill_if_marked(pid: u32, id: &str) {
    signal_if_marked(pid, id, libc::SIGKILL);
}

fn parse(pid: u32, signal: i32) -> Option<(Pid, Signal)> {
    Some((Pid::from_raw(i32::try_from(pid).ok()?)?, Signal::from_named_raw(signal)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    #[test]
    fn only_marked_processes_are_killed() {
        let mine = format!("unit-{}", std::process::id());
        let mut marked_one = Command::new("sleep").arg("600").env(MARK, &mine).spawn().unwrap();
        let mut other_one = Command::new("sleep").arg("600").env(MARK, "another").spawn().unwrap();
        crate::wait_for(|| "the mark".to_owned(), || (marked(&mine) == [marked_one.id()]).then_some(()));
        assert!(!signal_if_marked(other_one.id(), &mine, libc::SIGKILL));
        kill_marked(&mine);
        assert_eq!(marked_one.wait().unwrap().signal(), Some(libc::SIGKILL));
        assert!(other_one.try_wait().unwrap().is_none());
        assert!(is_alive(other_one.id()));
        assert!(children(std::process::id()).contains(&other_one.id()));
        other_one.kill().unwrap();
        other_one.wait().unwrap();
        assert!(!is_alive(other_one.id()));
    }
}
