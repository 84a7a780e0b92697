//! Where a superdaemon listens for commands: what the kernel says of the sockets that the process holds. The environment
//! of the one who asks tells nothing of that, since a service and an administrator have different ones.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use sys::unix_table::{self, Name};

use crate::run_directory::is_control_name;

/// As many sockets are tried where it cannot be seen who holds them.
const MOST: usize = 16;

/// A place where a superdaemon may listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A file, by its path in the process's own mount namespace.
    Path(PathBuf),
    /// The abstract name that superdaemons of version 0.1.0 have.
    Abstract(Vec<u8>),
}

/// The control sockets that a process holds; none if it has none, or if it cannot be seen what it holds.
pub fn held_by(pid: i32) -> Vec<Address> {
    match held_sockets(pid) {
        Some(held) => addresses(pid, |inode, _| held.contains(&inode)),
        None => Vec::new(),
    }
}

/// Where to try to reach a process: the control socket that it holds; or, if that cannot be seen, each of which the name
/// says that the process has made it. Whoever answers has to be asked who he is.
pub fn candidates(pid: i32) -> Vec<Address> {
    match held_sockets(pid) {
        Some(held) => addresses(pid, |inode, _| held.contains(&inode)),
        None => {
            let mut found = addresses(pid, |_, address| address.is_named_for(pid));
            found.truncate(MOST);
            found
        }
    }
}

impl Address {
    fn is_named_for(&self, pid: i32) -> bool {
        let name = match self {
            Self::Path(path) => path.file_name().map(OsStr::as_bytes).unwrap_or_default(),
            Self::Abstract(name) => name.rsplit(|&byte| byte == b'/').next().unwrap_or_default(),
        };
        let digits = name.split(|byte| !byte.is_ascii_digit()).next().unwrap_or_default();
        digits == pid.to_string().as_bytes()
    }
}

fn addresses(pid: i32, is_wanted: impl Fn(u64, &Address) -> bool) -> Vec<Address> {
    let table = unix_table::of_process(pid).or_else(|_| unix_table::of_this_process()).unwrap_or_default();
    let rows = table.into_iter().filter(|row| row.accepts);
    rows.filter_map(|row| Some((row.inode, control_address(row.name)?)))
        .filter(|(inode, address)| is_wanted(*inode, address))
        .map(|(_, address)| address)
        .collect()
}

/// The address, if it is one that a control socket may have.
fn control_address(name: Name) -> Option<Address> {
    match name {
        Name::Path(path) => {
            let is_ours = path.is_absolute() && path.file_name().is_some_and(is_control_name);
            (is_ours && is_in_run_directory(&path)).then_some(Address::Path(path))
        }
        Name::Abstract(name) => {
            let pid = name.strip_prefix(b"start_server/")?;
            (!pid.is_empty() && pid.iter().all(u8::is_ascii_digit)).then_some(Address::Abstract(name))
        }
    }
}

/// `…/start_server/…` or `…/start_server-1000/…`
fn is_in_run_directory(path: &Path) -> bool {
    let directory = path.parent().and_then(Path::file_name).map(OsStr::as_bytes).unwrap_or_default();
    match directory.strip_prefix(b"start_server") {
        Some([]) => true,
        Some([b'-', user @ ..]) => user.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// The sockets that a process has open, as inodes; none if that may not be seen.
fn held_sockets(pid: i32) -> Option<Vec<u64>> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let links = descriptors.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
    Some(links.filter_map(|link| sys::process_tree::socket_of(&link)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_control_sockets_have() {
        let path = |path: &str| control_address(Name::Path(path.into()));
        for ours in [
            "/run/start_server/4711-0123456789abcdef.control",
            "/run/user/1000/start_server/1-0123456789abcdef.control",
            "/tmp/start_server-1000/4711-0123456789abcdef.control",
        ] {
            assert_eq!(path(ours), Some(Address::Path(ours.into())));
        }
        for other in [
            "start_server/4711-0123456789abcdef.control",
            "/run/other/4711-0123456789abcdef.control",
            "/run/start_server/4711-0123456789abcdef.notify",
            "/run/start_server/app.sock",
            "/run/start_server-x/4711-0123456789abcdef.control",
        ] {
            assert_eq!(path(other), None, "{other}");
        }
        let name = |name: &str| control_address(Name::Abstract(name.into()));
        assert!(name("start_server/4711").is_some());
        for other in ["start_server/", "start_server/4711/notify/1/ab", "start_server", "x/4711"] {
            assert_eq!(name(other), None, "{other}");
        }
    }

    #[test]
    fn names_tell_whose_they_are() {
        let path = Address::Path("/run/start_server/4711-0123456789abcdef.control".into());
        assert!(path.is_named_for(4711) && !path.is_named_for(471) && !path.is_named_for(47_110));
        let name = Address::Abstract(b"start_server/4711".to_vec());
        assert!(name.is_named_for(4711) && !name.is_named_for(471));
    }
}
