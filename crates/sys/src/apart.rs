//! A throw-away process that does what may wait, so that the process that made it need not: it takes and closes what
//! strangers have sent, or looks into somebody who may have arranged for whoever looks to wait. The event loop makes
//! them, polls what they report, and ends those that hang.
//!
//! Such a process has a copy of its parent's memory, but only those of its descriptors that it is given, so that one
//! that hangs in the kernel for ever keeps no listener of its parent open. It dies with its parent.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use libc::{c_int, c_uint};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::signal::{self, Mask, Signal};

/// A process at work. It is a child that is to be reaped.
#[derive(Debug)]
pub struct Apart {
    pid: i32,
    reports: OwnedFd,
}

/// What a process has let its parent know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing yet.
    None,
    /// This.
    Said(Vec<u8>),
    /// It has ended, or says nothing any more.
    Ended,
}

/// Where the process reports to its parent.
#[derive(Debug)]
pub struct Reporter(RawFd);

/// As much can be reported at a time, in bytes; it arrives whole. See `PIPE_BUF` of pipe(7).
pub const LONGEST_REPORT: usize = 4096;

impl Apart {
    /// Has `task` done by a new process, with the standard descriptors, those in `given` and no others. The caller must
    /// have one thread only, since the task may allocate.
    ///
    /// # Errors
    /// No process, descriptor or memory left.
    pub fn begin(given: &[BorrowedFd<'_>], task: impl FnOnce(&Reporter)) -> io::Result<Self> {
        let (reports, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let mut kept: Vec<RawFd> = given.iter().map(AsRawFd::as_raw_fd).chain([writer.as_raw_fd()]).collect();
        kept.sort_unstable();
        let parent = rustix::process::getpid().as_raw_pid();
        // No signal is to be handled by the child as its parent would.
        let before = Mask::ALL.set()?;
        // SAFETY: the caller has one thread, so the child has a consistent memory; it never returns from here.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            if prepare(parent, &kept) {
                task(&Reporter(writer.as_raw_fd()));
            }
            // SAFETY: ends the process, and runs no code of the parent's.
            unsafe { libc::_exit(0) }
        }
        let failure = io::Error::last_os_error();
        before.set()?;
        if pid < 0 { Err(failure) } else { Ok(Self { pid, reports }) }
    }

    /// Closes a descriptor where it is no matter how long that takes. What came over it, and was never read, is closed
    /// with it.
    ///
    /// # Errors
    /// As of [`Apart::begin`]; the descriptor comes back.
    pub fn close(descriptor: OwnedFd) -> Result<Self, (io::Error, OwnedFd)> {
        let (until, parent_has_closed) = match pipe_with(PipeFlags::CLOEXEC) {
            Ok(pipe) => pipe,
            Err(error) => return Err((error.into(), descriptor)),
        };
        // The child must be the last to close it. It ends when the parent has closed it, and the pipe after it.
        let begun = Self::begin(&[descriptor.as_fd(), until.as_fd()], |_| {
            let _ = rustix::io::retry_on_intr(|| rustix::io::read(&until, &mut [0; 1]));
        });
        match begun {
            Ok(begun) => {
                drop(descriptor);
                drop(parent_has_closed);
                Ok(begun)
            }
            Err(error) => Err((error, descriptor)),
        }
    }

    /// Its PID.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What it has reported; never blocks.
    pub fn news(&self) -> News {
        let mut report = [0; LONGEST_REPORT];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.reports, &mut report)) {
            Ok(0) => News::Ended,
            Ok(length) => News::Said(report.get(..length).unwrap_or_default().to_vec()),
            Err(rustix::io::Errno::AGAIN) => News::None,
            Err(_) => News::Ended,
        }
    }
}

/// Readable when there is news.
impl AsFd for Apart {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reports.as_fd()
    }
}

impl Reporter {
    /// Tells the parent, at most [`LONGEST_REPORT`] bytes.
    pub fn say(&self, report: &[u8]) {
        // SAFETY: the bytes live during the call. Whoever does not hear it any more is not missed.
        unsafe { libc::write(self.0, report.as_ptr().cast(), report.len().min(LONGEST_REPORT)) };
    }
}

/// Ends such a process, which was not reaped. One that hangs in the kernel does not heed it before that lets it go.
pub fn end(pid: i32) {
    let _ = signal::send(pid, Signal::KILL);
}

/// Makes the child what it is to be. Whether it is to go on.
fn prepare(parent: i32, kept: &[RawFd]) -> bool {
    // SAFETY: takes integers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // SAFETY: takes nothing.
    if unsafe { libc::getppid() } != parent {
        return false;
    }
    const FIRST_AFTER_STDERR: RawFd = 3;
    let mut first = FIRST_AFTER_STDERR;
    for &number in kept.iter().filter(|&&number| number >= FIRST_AFTER_STDERR) {
        close_all(first, number - 1);
        first = number + 1;
    }
    close_all(first, RawFd::MAX);
    true
}

/// Closes the descriptors from the first to the last of these numbers: the parent has them still.
fn close_all(first: RawFd, last: RawFd) {
    const FAR_ENOUGH: RawFd = 1 << 20;
    if first > last {
        return;
    }
    // SAFETY: takes integers only; whatever owns the descriptors in the child's copy of the memory is never dropped.
    if unsafe { libc::syscall(libc::SYS_close_range, first as c_uint, last as c_uint, 0) } == 0 {
        return;
    }
    // Before Linux 5.9.
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure is ours to write to.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    let end = c_int::try_from(limit.rlim_cur).unwrap_or(FAR_ENOUGH).min(FAR_ENOUGH);
    for number in first..=last.min(end) {
        // SAFETY: as above.
        unsafe { libc::close(number) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, Instant};

    use super::*;

    /// What comes first that is news.
    fn wait_for_news(apart: &Apart) -> News {
        let begun = Instant::now();
        loop {
            match apart.news() {
                News::None => std::thread::sleep(Duration::from_millis(1)),
                news => return news,
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "no news");
        }
    }

    fn reap(pid: i32) {
        rustix::process::waitpid(rustix::process::Pid::from_raw(pid), rustix::process::WaitOptions::empty()).unwrap();
    }

    #[test]
    fn it_reports_and_ends() {
        let apart = Apart::begin(&[], |reporter| reporter.say(b"done")).unwrap();
        assert_eq!(wait_for_news(&apart), News::Said(b"done".to_vec()));
        assert_eq!(wait_for_news(&apart), News::Ended);
        reap(apart.pid());
    }

    #[test]
    fn it_has_no_descriptor_that_it_was_not_given() {
        let (null, zero) = (File::open("/dev/null").unwrap(), File::open("/dev/zero").unwrap());
        let apart = Apart::begin(&[zero.as_fd()], |reporter| {
            let is_open = |fd: BorrowedFd| rustix::io::fcntl_getfd(fd).is_ok();
            reporter.say(&[is_open(null.as_fd()).into(), is_open(zero.as_fd()).into()]);
        });
        let apart = apart.unwrap();
        assert_eq!(wait_for_news(&apart), News::Said(vec![0, 1]));
        reap(apart.pid());
    }

    #[test]
    fn one_that_hangs_is_ended() {
        let apart = Apart::begin(&[], |_| std::thread::sleep(Duration::from_secs(600))).unwrap();
        assert_eq!(apart.news(), News::None);
        end(apart.pid());
        assert_eq!(wait_for_news(&apart), News::Ended);
        reap(apart.pid());
    }

    #[test]
    fn a_descriptor_is_closed_apart() {
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        let apart = Apart::close(writer).unwrap();
        // End of file: nobody has it any more.
        assert_eq!(rustix::io::read(&reader, &mut [0; 1]), Ok(0));
        reap(apart.pid());
    }
}
