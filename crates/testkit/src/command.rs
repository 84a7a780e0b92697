//! What whoever runs the tests has left open, ignored or blocked: a program under test starts without it, as from a
//! terminal. Used wherever the harness starts one, and by tests that start one by themselves.

use std::ffi::OsStr;
use std::mem::MaybeUninit;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::ptr;
use std::sync::Once;

/// `program`, to be started with no descriptors but 0, 1 and 2, no ignored signal and none blocked. A shell, for
/// example, ignores INT and QUIT in what it runs in the background, and nohup(1) HUP.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    keep_descriptors_from_children();
    let mut command = Command::new(program);
    let last = libc::SIGRTMAX();
    // SAFETY: between fork and exec signal(2), sigemptyset(3) and sigprocmask(2) are allowed: signal-safety(7). The set
    // is initialised by sigemptyset before it is used. What is refused (KILL, STOP, the C library's own signals) stays
    // as it is.
    unsafe {
        command.pre_exec(move || {
            for number in 1..=last {
                libc::signal(number, libc::SIG_DFL);
            }
            let mut none = MaybeUninit::uninit();
            libc::sigemptyset(none.as_mut_ptr());
            libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut());
            Ok(())
        });
    }
    command
}

/// Marks every descriptor of this process but 0, 1 and 2 close-on-exec, once.
fn keep_descriptors_from_children() {
    static ONCE: Once = Once::new();
    // SAFETY: the call changes nothing but the flag of descriptors, and this is the flag that std sets on all of its
    // own anyway. A kernel without it (before 5.11) refuses, and nothing is changed.
    ONCE.call_once(|| unsafe {
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The signals in a line of what proc_pid_status(5) says of a program, as a mask.
    fn signals(mut grep: Command, line: &str) -> u64 {
        let output = grep.args([line, "/proc/self/status"]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        u64::from_str_radix(text.rsplit('\t').next().unwrap().trim_end(), 16).unwrap()
    }

    fn bit(signal: i32) -> u64 {
        1 << (signal - 1)
    }

    #[test]
    fn no_signal_is_ignored_or_blocked() {
        // SAFETY: nobody sends this process these signals; the set is initialised before it is used.
        unsafe {
            libc::signal(libc::SIGUSR1, libc::SIG_IGN);
            let mut set = MaybeUninit::uninit();
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), libc::SIGUSR2);
            libc::sigprocmask(libc::SIG_BLOCK, set.as_ptr(), ptr::null_mut());
        }
        assert_ne!(signals(Command::new("grep"), "SigIgn") & bit(libc::SIGUSR1), 0, "it would be inherited");
        assert_ne!(signals(Command::new("grep"), "SigBlk") & bit(libc::SIGUSR2), 0, "it would be inherited");
        let of_the_c_library = bit(32) | bit(33);
        assert_eq!(signals(command("grep"), "SigIgn") & !of_the_c_library, 0);
        assert_eq!(signals(command("grep"), "SigBlk"), 0);
    }
}
