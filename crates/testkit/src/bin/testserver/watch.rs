//! Signals, without a handler: blocked, and read from a descriptor.

use std::fs::File;
use std::io::Read;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use testkit::signals;

/// Every signal that can be caught, except those of a crash.
pub struct Signals {
    file: File,
}

impl Signals {
    /// Blocks the signals and starts watching them.
    pub fn watch() -> Self {
        let mut set = MaybeUninit::uninit();
        // SAFETY: sigfillset initialises the set that it is given; the calls after it get that set, and signalfd gives
        // a new descriptor that nobody else owns, or -1, which is checked.
        let fd = unsafe {
            libc::sigfillset(set.as_mut_ptr());
            for crash in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT] {
                libc::sigdelset(set.as_mut_ptr(), crash);
            }
            libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut());
            let fd = libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            assert!(fd >= 0, "signalfd failed");
            OwnedFd::from_raw_fd(fd)
        };
        Self { file: fd.into() }
    }

    /// The name of the next signal that has arrived.
    pub fn next(&self) -> Option<String> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        let mut info = [0; SIZE];
        let read = (&self.file).read(&mut info).ok()?;
        // ssi_signo is the first member of the structure: signalfd(2).
        let number = info.first_chunk::<4>().filter(|_| read == SIZE)?;
        let number = i32::try_from(u32::from_ne_bytes(*number)).ok()?;
        Some(signals::name(number))
    }

    /// Waits until a signal has arrived, at most `time`.
    pub fn wait(&self, time: Duration) {
        let timeout = time.try_into().ok();
        // An interrupted wait is a short wait, and the caller looks at the clock.
        let _ = poll(&mut [PollFd::new(&self.file, PollFlags::IN)], timeout.as_ref());
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Ends this process by signal `number`, as if it had no handler and no mask.
pub fn die_of(number: i32) -> ! {
    // SAFETY: plain system calls on this process; no memory of ours is touched but the set, which sigfillset
    // initialises.
    unsafe {
        libc::signal(number, libc::SIG_DFL);
        let mut set = MaybeUninit::uninit();
        libc::sigfillset(set.as_mut_ptr());
        libc::sigprocmask(libc::SIG_UNBLOCK, set.as_ptr(), ptr::null_mut());
        libc::raise(number);
    }
    panic!("signal {number} does not end a process")
}

/// The length of the accept queue that a listening TCP socket was given with listen(2).
pub fn backlog(socket: BorrowedFd<'_>) -> Option<u32> {
    use std::os::fd::AsRawFd;
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = u32::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: the kernel writes at most `length` bytes into `info`, which is that long; all zeros is a valid tcp_info,
    // so whatever it leaves unwritten is initialised too.
    let info = unsafe {
        let into = info.as_mut_ptr().cast();
        let result = libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, into, &raw mut length);
        (result == 0).then(|| info.assume_init())
    };
    // Of a listening socket, this member is the limit of its queue (net/ipv4/tcp.c, tcp_get_info).
    info.map(|info| info.tcpi_sacked)
}
