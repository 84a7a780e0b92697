//! The words for a listener that cannot be taken over: why, and what to do. They go after "because".

use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::{geteuid, getpid};
use sys::process_tree;

/// The number of CAP_SYS_PTRACE, see capabilities(7).
const SYS_PTRACE: u32 = 19;

/// Nobody holds the sockets, as far as we can see.
pub(super) fn unseen(sockets: &[u64]) -> String {
    if !process_tree::proc_is_ours() {
        return "who holds it cannot be seen without the /proc of this PID namespace; mount it".to_owned();
    }
    match sockets.iter().find_map(|inode| owner(*inode)) {
        Some(user) if user != geteuid().as_raw() => format!(
            "user {user} made it and we are user {}, which may not see who holds it; start as that user, or as root",
            geteuid().as_raw()
        ),
        _ => "nobody who can be seen holds it; it may be in another container, or be a process that may not be looked \
              into: start as root with the capability CAP_SYS_PTRACE"
            .to_owned(),
    }
}

/// A socket that was not made by our user, whoever holds it now, may have been made to be taken.
pub(super) fn made_by_another(user: u32) -> String {
    let us = geteuid().as_raw();
    format!("user {user} made it and we are user {us}; start as that user, or stop whoever holds it")
}

/// A worker that runs as another user.
pub(super) fn of_another_user(pid: i32, user: u32) -> String {
    let us = geteuid().as_raw();
    format!("its worker (pid {pid}) is of user {user} and we are user {us}; start as that user, or as root")
}

/// A process whose environment we may not read.
pub(super) fn closed(pid: i32) -> String {
    format!("pid {pid} holds it, and who that is may not be looked at: {}", not_permitted(pid))
}

/// A worker that pidfd_getfd(2) was refused for.
pub(super) fn does_not_share(pid: i32, errno: Errno) -> String {
    let why = match errno {
        Errno::PERM => not_permitted(pid),
        Errno::NOSYS => {
            "the kernel is older than Linux 5.6, or a seccomp filter keeps pidfd_getfd(2) from us; stop the \
                         worker, then start again"
                .to_owned()
        }
        Errno::MFILE | Errno::NFILE => "too many files are open; raise the limit (ulimit -n)".to_owned(),
        _ => "see pidfd_getfd(2)".to_owned(),
    };
    format!("its worker (pid {pid}) cannot be made to share it: {}: {why}", io::Error::from(errno))
}

/// Why one process may not look into another, and what to do: the rules of ptrace(2), in their order.
fn not_permitted(pid: i32) -> String {
    let (us, it) = (geteuid().as_raw(), process_tree::user(pid).unwrap_or(u32::MAX));
    let give = if us == 0 {
        "give start_server the capability CAP_SYS_PTRACE, which root lacks here (docker run --cap-add=SYS_PTRACE)"
    } else {
        "start as root, or give start_server the capability CAP_SYS_PTRACE (setcap cap_sys_ptrace+ep)"
    };
    let stop = format!("or stop it (kill {pid}) and start again");
    if has_capability() {
        return format!(
            "a security module, a seccomp filter or another user namespace forbids it; allow it there, {stop}"
        );
    }
    if it != us {
        return format!("it runs as user {it} and start_server as user {us}; {give}, {stop}");
    }
    match fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default().trim_end() {
        "" | "0" => format!(
            "it may not be traced, because it has changed its user, has more rights than start_server, or its program may \
             not be read; {give}, {stop}"
        ),
        "3" => {
            format!("kernel.yama.ptrace_scope is 3, which forbids it to everybody until the next boot; {}", &stop[3..])
        }
        scope => format!("kernel.yama.ptrace_scope is {scope}; {give}, set it to 0, {stop}"),
    }
}

fn has_capability() -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", getpid())).unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> SYS_PTRACE & 1 == 1)
}

/// The user that made an internet socket, see proc_pid_net(5).
fn owner(inode: u64) -> Option<u32> {
    ["tcp", "tcp6", "udp", "udp6"].iter().find_map(|table| {
        let table = fs::read_to_string(format!("/proc/net/{table}")).ok()?;
        table.lines().find_map(|line| {
            let mut columns = line.split_ascii_whitespace().skip(7);
            let user = columns.next()?.parse().ok()?;
            (columns.nth(1)?.parse() == Ok(inode)).then_some(user)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn the_maker_of_a_socket_is_known() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let inode = rustix::fs::fstat(&listener).unwrap().st_ino;
        assert_eq!(owner(inode), Some(fs::metadata("/proc/self").unwrap().uid()));
        assert_eq!(owner(u64::MAX), None);
    }

    #[test]
    fn words_say_what_to_do() {
        let us = getpid().as_raw_pid();
        for text in
            [unseen(&[]), made_by_another(7), of_another_user(us, 7), closed(us), does_not_share(us, Errno::PERM)]
        {
            assert!(["start ", "stop ", "allow "].iter().any(|advice| text.contains(advice)), "{text}");
        }
    }
}
