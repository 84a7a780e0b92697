//! Whose orders count: root's and our own user's, as our user namespace sees them. The control socket asks for each
//! client, commands ask about whom they are connected to.

use rustix::process::{Pid, geteuid, test_kill_process};
use sys::credentials::Credentials;

/// A user that has no number in our namespace gets this one, unless the machine says another.
const USUAL_OVERFLOW: u32 = 65_534;

/// The users whose orders count.
#[derive(Clone, Copy, Debug)]
pub struct TrustedUsers {
    us: u32,
    /// The number that stands for every user who has none here. None if all users have one.
    overflow: Option<u32>,
}

/// Whether a user's orders count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trusted {
    /// It is root or our own user.
    Yes,
    /// It is somebody else.
    No,
}

impl TrustedUsers {
    /// Those of this process.
    pub fn of_this_process() -> Self {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let overflow = std::fs::read_to_string("/proc/sys/kernel/overflowuid").unwrap_or_default();
        Self {
            us: geteuid().as_raw(),
            overflow: (!has_everybody(&map)).then(|| overflow.trim().parse().unwrap_or(USUAL_OVERFLOW)),
        }
    }

    /// Whether the orders of a process count. The number that stands for all users without one is nobody's.
    ///
    /// If that is our own number as well, it is ours only if we may signal the process: the kernel compares the users
    /// themselves for that, and we have no other rights.
    pub fn trust(self, peer: Credentials) -> Trusted {
        let is_known = Some(peer.uid) != self.overflow;
        let is_same = || !self.is_root() && Pid::from_raw(peer.pid).is_some_and(|pid| test_kill_process(pid).is_ok());
        if (peer.uid == 0 || peer.uid == self.us) && (is_known || is_same()) { Trusted::Yes } else { Trusted::No }
    }

    fn is_root(self) -> bool {
        self.us == 0
    }
}

/// Whether every user of the machine has a number in this namespace, see user_namespaces(7).
fn has_everybody(uid_map: &str) -> bool {
    let mut lines = uid_map.lines().map(|line| line.split_ascii_whitespace().collect::<Vec<_>>());
    lines.any(|line| line == ["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusts(us: u32, overflow: Option<u32>, uid: u32, pid: i32) -> bool {
        TrustedUsers { us, overflow }.trust(Credentials { pid, uid }) == Trusted::Yes
    }

    #[test]
    fn root_and_we_are_trusted() {
        assert_eq!([0, 1000, 1001, 65_534].map(|uid| trusts(1000, None, uid, 1)), [true, true, false, false]);
        assert!(trusts(65_534, None, 65_534, 1));
    }

    #[test]
    fn who_has_no_number_here_is_nobody() {
        let ourselves = i32::try_from(std::process::id()).unwrap();
        for us in [0, 1000] {
            assert!(!trusts(us, Some(65_534), 65_534, ourselves));
        }
        assert!(trusts(65_534, Some(65_534), 65_534, ourselves));
        assert!(!trusts(65_534, Some(65_534), 65_534, 0), "it is in another PID namespace");
        assert!(!trusts(65_534, Some(65_534), 65_534, i32::MAX), "it is gone");
    }

    #[test]
    fn namespaces_that_know_everybody() {
        assert!(has_everybody("         0          0 4294967295\n"));
        for map in ["", "0 1000 1\n", "0 100000 65536\n", "0 0 65536\n"] {
            assert!(!has_everybody(map), "{map}");
        }
    }
}
