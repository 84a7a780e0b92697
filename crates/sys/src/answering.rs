//! Whether a file system answers. One over the network, or of a process (FUSE), may stop to; whoever asks it for anything
//! then waits for ever and hears no signal but KILL. So a process is made to ask, and is waited for only so long. A
//! superdaemon asks before it touches files that it can do without.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

/// Whether the file system that this file is on answers within this time. A file that is not there is an answer.
pub fn answers_for_path(path: &CStr, patience: Duration) -> bool {
    ask(libc::AT_FDCWD, path, patience)
}

/// Whether the file system that this open file is on answers within this time.
pub fn answers_for(file: BorrowedFd, patience: Duration) -> bool {
    ask(file.as_raw_fd(), c"", patience)
}

/// If no process can be made to ask, the answer is yes: then little is lost that would not be lost anyway.
fn ask(directory: RawFd, path: &CStr, patience: Duration) -> bool {
    let Ok(asker) = asker(directory, path) else { return true };
    let answered = ends_within(&asker, patience);
    if !answered {
        // What waits for an answer can be killed.
        let _ = pidfd_send_signal(&asker, Signal::KILL);
    }
    // It was never a child whose end is told of by SIGCHLD, or to those who wait for any child. If it does not even heed
    // KILL, it stays, and nobody waits for it.
    const ALL: u32 = 0x4000_0000;
    let options = WaitIdOptions::from_bits_retain(WaitIdOptions::EXITED.bits() | WaitIdOptions::NOHANG.bits() | ALL);
    if !answered {
        ends_within(&asker, Duration::from_millis(20));
    }
    let _ = waitid(WaitId::PidFd(asker.as_fd()), options);
    answered
}

fn ends_within(process: &OwnedFd, patience: Duration) -> bool {
    let begun = Instant::now();
    loop {
        let Some(left) = patience.checked_sub(begun.elapsed()) else { return false };
        let left = Timespec::try_from(left).unwrap_or_default();
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left)) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return true,
        }
    }
}

/// A process that asks, and ends when it has its answer, whatever that is.
fn asker(directory: RawFd, path: &CStr) -> io::Result<OwnedFd> {
    let mut process: RawFd = -1;
    let flags = libc::c_long::from(libc::CLONE_PIDFD);
    let mut space = std::mem::MaybeUninit::<libc::statx>::uninit();
    // SAFETY: With no stack given the child goes on with a copy of ours, as after fork(2), and makes nothing but system
    // calls, whose arguments are laid out already: so no lock that another thread holds is in its way. The kernel writes
    // the descriptor into `process`. The last two arguments, whose order depends on the machine, are not used.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, &raw mut process, 0, 0) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_FORCE_SYNC | libc::AT_NO_AUTOMOUNT;
            // SAFETY: The path ends in a zero byte, and the space is as large as what is written to it. Then this process
            // ends at once: what is to be cleaned up is the other's.
            unsafe {
                libc::syscall(
                    libc::SYS_statx,
                    directory,
                    path.as_ptr(),
                    flags,
                    libc::STATX_BASIC_STATS,
                    space.as_mut_ptr(),
                );
                libc::_exit(0)
            }
        }
        // SAFETY: The kernel has just opened it for us.
        _ => Ok(unsafe { OwnedFd::from_raw_fd(process) }),
    }
}

/// Does the last work of this process in another one, and waits for that only so long: files may be on a file system that
/// does not answer. What is left then is ended. If there is no other process to be had, it is done here.
///
/// To be called with one thread only.
pub fn finish_within(limit: Duration, work: impl FnOnce()) {
    // SAFETY: The caller has made sure that there is a single thread, so that no lock can be held by a thread that the
    // child does not have.
    match unsafe { libc::fork() } {
        -1 => work(),
        0 => {
            work();
            // SAFETY: Ends this process at once; nothing is buffered.
            unsafe { libc::_exit(0) }
        }
        pid => {
            // What the work owns is the child's to clean up.
            std::mem::forget(work);
            let Some(pid) = rustix::process::Pid::from_raw(pid) else { return };
            let Ok(child) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
            if !ends_within(&child, limit) {
                let _ = pidfd_send_signal(&child, Signal::KILL);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_answers_is_heard_and_nobody_is_left() {
        let long = Duration::from_secs(60);
        for path in [c"/", c"/proc/self/stat", c"/nonexistent/file"] {
            assert!(answers_for_path(path, long));
        }
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(answers_for(file.as_fd(), long));
        let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        assert_eq!(children, "");
    }
}
