//! Changing the permissions of a file that is held by a descriptor with `O_PATH`, whatever its name leads to by now: see
//! fchmodat(2), `AT_EMPTY_PATH`. A superdaemon does so with the file of a unix socket, which cannot be opened otherwise.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Gives the file these permissions, as in `0o660`.
///
/// # Errors
/// It is not ours; or the kernel is older than 6.6, and there is no `/proc`.
pub fn set(file: impl AsFd, mode: u32) -> io::Result<()> {
    // Libraries do not know it yet. The number is the same on all machines that Rust knows but for MIPS, whose numbers
    // begin elsewhere.
    #[cfg(not(any(target_arch = "mips", target_arch = "mips64")))]
    {
        const FCHMODAT2: libc::c_long = 452;
        // SAFETY: The path is an empty string that ends in a zero byte, and nothing is written to memory.
        let done =
            unsafe { libc::syscall(FCHMODAT2, file.as_fd().as_raw_fd(), c"".as_ptr(), mode, libc::AT_EMPTY_PATH) };
        if done == 0 {
            return Ok(());
        }
    }
    // By an older kernel, or one behind a filter of system calls that was made for older ones.
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    Ok(rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(mode))?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    use rustix::fs::{Mode, OFlags, open};

    use super::*;

    #[test]
    fn a_socket_file_is_changed_under_another_name() {
        let path = std::env::temp_dir().join(format!("file_mode-{}", std::process::id()));
        let _listener = UnixListener::bind(&path).unwrap();
        let file = open(&path, OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).unwrap();
        let moved = path.with_extension("moved");
        fs::rename(&path, &moved).unwrap();
        fs::write(&path, "").unwrap();
        set(&file, 0o604).unwrap();
        assert_eq!(fs::metadata(&moved).unwrap().permissions().mode() & 0o777, 0o604);
        assert_ne!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o604);
        fs::remove_file(path).unwrap();
        fs::remove_file(moved).unwrap();
    }
}
