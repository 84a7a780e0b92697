//! Whose orders count: root's and our own user's, as our user namespace sees them. The control socket asks for each
//! client, commands ask about whom they are connected to.

use rustix::process::geteuid;

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

    /// Whether the orders of this user count. The number that stands for all users without one is nobody's, even if it
    /// is ours.
    pub fn trust(self, user: u32) -> Trusted {
        let is_known = Some(user) != self.overflow;
        if is_known && (user == 0 || user == self.us) { Trusted::Yes } else { Trusted::No }
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

    #[test]
    fn root_and_we_are_trusted() {
        let users = TrustedUsers { us: 1000, overflow: None };
        assert_eq!([0, 1000, 1001, 65_534].map(|user| users.trust(user) == Trusted::Yes), [true, true, false, false]);
        let we_are_nobody = TrustedUsers { us: 65_534, overflow: None };
        assert_eq!(we_are_nobody.trust(65_534), Trusted::Yes);
    }

    #[test]
    fn who_has_no_number_here_is_nobody() {
        for us in [0, 1000, 65_534] {
            assert_eq!(TrustedUsers { us, overflow: Some(65_534) }.trust(65_534), Trusted::No);
        }
    }

    #[test]
    fn namespaces_that_know_everybody() {
        assert!(has_everybody("         0          0 4294967295\n"));
        for map in ["", "0 1000 1\n", "0 100000 65536\n", "0 0 65536\n"] {
            assert!(!has_everybody(map), "{map}");
        }
    }
}
