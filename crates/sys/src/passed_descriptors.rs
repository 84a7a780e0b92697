//! Descriptors that were open when this program was executed, left for it by whoever executed it (`sd_listen_fds(3)`).
//! The program takes them at its very start.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Takes a descriptor that was left open for this program, and closes it for the programs that it will execute.
///
/// Nobody can take what somebody in this program has: what the program opens is close-on-exec, and that is what no
/// descriptor can be that has survived the execution.
///
/// # Errors
/// `EBADF` of fcntl(2) if there is none of that number; `AlreadyExists` if it is this program's.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call reads flags; a number without a descriptor is an error.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if flags < 0 {
        return Err(io::Error::last_os_error());
    }
    if flags & libc::FD_CLOEXEC != 0 {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // SAFETY: as above; only the flag changes.
    if unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and it was not close-on-exec, so nobody in this program owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::*;

    #[test]
    fn what_is_open_on_purpose_can_be_taken_once() {
        let file = File::open("/dev/null").unwrap();
        assert_eq!(take(file.as_raw_fd()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        let number = file.into_raw_fd();
        // SAFETY: the descriptor is nobody's since the line above.
        unsafe { libc::fcntl(number, libc::F_SETFD, 0) };
        let taken = take(number).unwrap();
        assert_eq!(taken.as_raw_fd(), number);
        assert!(rustix::io::fcntl_getfd(&taken).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        assert!(take(number).is_err());
        assert_eq!(take(1_000_000).unwrap_err().raw_os_error(), Some(libc::EBADF));
    }
}
