//! What the service manager has passed to the superdaemon: descriptors with names, announced in the environment as in
//! `sd_listen_fds_with_names(3)`. The superdaemon takes them before it does anything else.

use std::ffi::{OsStr, OsString};
use std::os::fd::{OwnedFd, RawFd};

use rustix::fs::{fstat, fstatfs};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use sys::passed_descriptors;

use crate::errno::io_reason;

/// `SD_LISTEN_FDS_START`
const FIRST: RawFd = 3;

/// A descriptor that was passed.
#[derive(Debug)]
pub struct Passed {
    /// The descriptor, close-on-exec.
    pub descriptor: OwnedFd,
    /// Where it was.
    pub number: RawFd,
    /// What the service manager calls it, if it says so.
    pub name: Option<String>,
}

/// Takes all descriptors that were passed to this very process; none if none were.
///
/// # Errors
/// The announcement makes no sense, or does not fit what is open: a sentence.
pub fn take() -> Result<Vec<Passed>, String> {
    let announced = read(&|name| std::env::var_os(name), &is_our_pidfd)?;
    let take_one = |(number, name): (RawFd, Option<String>)| {
        let descriptor = passed_descriptors::take(number).map_err(|error| {
            format!(
                "failed to take descriptor {number}, which LISTEN_FDS announces: {}; start start_server with the \
                 sockets open, or without LISTEN_PID",
                io_reason(&error)
            )
        })?;
        Ok(Passed { descriptor, number, name })
    };
    announced.into_iter().map(take_one).collect()
}

/// The descriptors that are announced to us, with their names.
fn read(
    variable: &dyn Fn(&str) -> Option<OsString>,
    is_our_pidfd: &dyn Fn(u64) -> bool,
) -> Result<Vec<(RawFd, Option<String>)>, String> {
    let number = |name: &str| variable(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
    // Whoever is told nothing, or what is meant for another process, is not to touch anything.
    let is_for_us = number("LISTEN_PID").is_some_and(|pid| i32::try_from(pid) == Ok(getpid().as_raw_pid()));
    if !is_for_us || number("LISTEN_PIDFDID").is_some_and(|id| !is_our_pidfd(id)) {
        return Ok(Vec::new());
    }
    let Some(text) = variable("LISTEN_FDS") else { return Ok(Vec::new()) };
    let advice = "see sd_listen_fds(3), or unset LISTEN_PID";
    let shown = |value: &OsStr| format!("\"{}\"", value.display());
    let count = text
        .to_str()
        .and_then(|text| text.parse::<u16>().ok())
        .ok_or_else(|| format!("LISTEN_FDS is set to {}, which is no number of descriptors; {advice}", shown(&text)))?;
    let numbers = (FIRST..).take(count.into());
    let Some(names) = variable("LISTEN_FDNAMES") else { return Ok(numbers.map(|number| (number, None)).collect()) };
    let list: Vec<String> = names.to_string_lossy().split(':').map(str::to_owned).collect();
    if list.len() != usize::from(count) && count > 0 {
        return Err(format!(
            "LISTEN_FDNAMES is set to {}, which are not the names of {count} descriptors; {advice}",
            shown(&names)
        ));
    }
    Ok(numbers.zip(list.into_iter().map(Some)).collect())
}

/// Whether a pidfd of this process has this inode number. Where the kernel gives all pidfds the same one, the PID has
/// to do.
fn is_our_pidfd(id: u64) -> bool {
    const PID_FS_MAGIC: u64 = 0x5049_4446;
    let Ok(own) = pidfd_open(getpid(), PidfdFlags::empty()) else { return true };
    let is_unique = fstatfs(&own).is_ok_and(|system| u64::try_from(system.f_type) == Ok(PID_FS_MAGIC));
    !is_unique || fstat(&own).is_ok_and(|file| file.st_ino == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn announced(variables: &[(&str, &str)]) -> Result<Vec<(RawFd, Option<String>)>, String> {
        let get = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        read(&get, &|id| id == 77)
    }

    #[test]
    fn only_what_is_for_us_is_announced() {
        let us = std::process::id().to_string();
        let other = (std::process::id() + 1).to_string();
        let fds = ("LISTEN_FDS", "2");
        for variables in [
            &[][..],
            &[fds],
            &[fds, ("LISTEN_PID", &other)],
            &[fds, ("LISTEN_PID", "")],
            &[fds, ("LISTEN_PID", "x")],
            &[("LISTEN_PID", &us)],
            &[("LISTEN_PID", &us), ("LISTEN_FDS", "0")],
            &[("LISTEN_PID", &us), ("LISTEN_FDS", "0"), ("LISTEN_FDNAMES", "")],
            &[fds, ("LISTEN_PID", &us), ("LISTEN_PIDFDID", "78")],
            &[("LISTEN_PID", &other), ("LISTEN_FDS", "x")],
        ] {
            assert_eq!(announced(variables), Ok(Vec::new()), "{variables:?}");
        }
        for variables in [&[fds, ("LISTEN_PID", &us)][..], &[fds, ("LISTEN_PID", &us), ("LISTEN_PIDFDID", "77")]] {
            assert_eq!(announced(variables), Ok(vec![(3, None), (4, None)]), "{variables:?}");
        }
        let named = announced(&[fds, ("LISTEN_PID", &us), ("LISTEN_FDNAMES", "web:")]);
        assert_eq!(named, Ok(vec![(3, Some("web".to_owned())), (4, Some(String::new()))]));
    }

    #[test]
    fn nonsense_is_refused() {
        let us = std::process::id().to_string();
        for (fds, names, expected) in [
            ("x", "a", "LISTEN_FDS is set to \"x\""),
            ("", "a", "LISTEN_FDS is set to \"\""),
            ("-1", "a", "no number of descriptors"),
            ("99999999999", "a", "no number of descriptors"),
            ("2", "a", "LISTEN_FDNAMES is set to \"a\", which are not the names of 2"),
            ("1", "a:b", "not the names of 1"),
        ] {
            let error = announced(&[("LISTEN_PID", &us), ("LISTEN_FDS", fds), ("LISTEN_FDNAMES", names)]).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn our_own_pidfd_is_known() {
        let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        assert!(is_our_pidfd(fstat(&own).unwrap().st_ino));
    }
}
