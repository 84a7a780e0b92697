//! Learning which child has ended before its PID is given up. The event loop asks here, then reaps.

use std::io;
use std::mem::MaybeUninit;

/// The PID of a child that has ended and was not reaped, if there is one; never blocks. Until the child is reaped the
/// PID remains its own: what is still sent to it can reach nobody else. See waitid(2), `WNOWAIT`.
///
/// # Errors
/// Those of waitid(2); to have no children is none.
pub fn ended() -> io::Result<Option<i32>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the structure is ours to write to.
    while unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), flags) } != 0 {
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ECHILD) => return Ok(None),
            _ => return Err(error),
        }
    }
    // SAFETY: all zeros is a valid siginfo_t; it stays like that when no child has ended, else it is about a child.
    let pid = unsafe { info.assume_init().si_pid() };
    Ok((pid != 0).then_some(pid))
}

/// Whether this child has ended and was not reaped; never blocks.
pub fn has_ended(pid: i32) -> bool {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    let Ok(id) = libc::id_t::try_from(pid) else { return false };
    // SAFETY: the structure is ours to write to; all zeros is a valid one, which stays when the child has not ended.
    unsafe { libc::waitid(libc::P_PID, id, info.as_mut_ptr(), flags) == 0 && info.assume_init().si_pid() != 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_child_that_has_ended_is_told_until_it_is_reaped() {
        // Other tests of this process have children, too: this one is looked for only among those that are told.
        let mut child = Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let stat = format!("/proc/{pid}/stat");
        while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
            std::thread::yield_now();
        }
        assert!(ended().unwrap().is_some() && has_ended(pid));
        // It was not reaped: its status is there.
        assert!(child.wait().unwrap().success());
        assert!(ended().unwrap() != Some(pid) && !has_ended(pid));
        assert!(!has_ended(std::process::id() as i32));
    }
}
