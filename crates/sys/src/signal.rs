//! Signals: their names as people write them, receiving them through a descriptor, and sending them.
//! The program calls [`SignalFd::take_over`] before anything else; `spawn` undoes its effects in every child.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use libc::c_int;

/// A signal that exists on Linux: a number from 1 to 64.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Signal(c_int);

/// Names and numbers, as `kill` of Perl and of the shell know them. The first name of a number is the one shown.
const NAMES: &[(&str, c_int)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
    ("IOT", libc::SIGIOT),
    ("CLD", libc::SIGCHLD),
    ("POLL", libc::SIGPOLL),
];

const LAST: c_int = 64;

impl Signal {
    /// Hang-up: restart.
    pub const HUP: Signal = Signal(libc::SIGHUP);
    /// Interrupt, as by Ctrl-C.
    pub const INT: Signal = Signal(libc::SIGINT);
    /// Quit, as by Ctrl-\.
    pub const QUIT: Signal = Signal(libc::SIGQUIT);
    /// The end that no process can refuse.
    pub const KILL: Signal = Signal(libc::SIGKILL);
    /// First signal without a meaning of its own.
    pub const USR1: Signal = Signal(libc::SIGUSR1);
    /// Second signal without a meaning of its own.
    pub const USR2: Signal = Signal(libc::SIGUSR2);
    /// Writing to a pipe that nobody reads.
    pub const PIPE: Signal = Signal(libc::SIGPIPE);
    /// Alarm clock.
    pub const ALRM: Signal = Signal(libc::SIGALRM);
    /// The request to end.
    pub const TERM: Signal = Signal(libc::SIGTERM);
    /// A child ended, stopped or went on.
    pub const CHLD: Signal = Signal(libc::SIGCHLD);
    /// Go on after a stop.
    pub const CONT: Signal = Signal(libc::SIGCONT);
    /// The stop that no process can refuse.
    pub const STOP: Signal = Signal(libc::SIGSTOP);
    /// Stop, as by Ctrl-Z.
    pub const TSTP: Signal = Signal(libc::SIGTSTP);
    /// Reading from the terminal in the background.
    pub const TTIN: Signal = Signal(libc::SIGTTIN);
    /// Writing to the terminal in the background.
    pub const TTOU: Signal = Signal(libc::SIGTTOU);
    /// The window changed its size; some servers stop their workers gracefully on it.
    pub const WINCH: Signal = Signal(libc::SIGWINCH);

    /// Reads a signal as people write it: a name in any case, with or without `SIG`, or a number from 1 to 64.
    /// Real-time signals are `RTMIN`, `RTMAX`, `RTMIN+n`, `RTMAX-n` or, as Perl has it, `NUMn`.
    ///
    /// # Errors
    /// Whatever is not a signal, the empty word and `0` among it.
    pub fn parse(text: &str) -> Result<Signal, UnknownSignal> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let number = if upper.starts_with(|first: char| first.is_ascii_digit()) {
            decimal(&upper)
        } else if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            Some(*number)
        } else {
            real_time(name)
        };
        number.and_then(Signal::from_number).ok_or_else(|| UnknownSignal(text.to_owned()))
    }

    /// The signal with this number, if there is one.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Signal> {
        (1..=LAST).contains(&number).then_some(Signal(number))
    }

    /// The number that the kernel knows it by.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }
}

fn decimal(text: &str) -> Option<c_int> {
    // `parse` alone would let a sign pass.
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn real_time(name: &str) -> Option<c_int> {
    // The C library keeps the first real-time signals for itself, so its limits are asked at run time.
    let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let number = if let Some(digits) = name.strip_prefix("NUM") {
        decimal(digits)
    } else if let Some(rest) = name.strip_prefix("RTMIN") {
        if rest.is_empty() { Some(first) } else { first.checked_add(decimal(rest.strip_prefix('+')?)?) }
    } else if let Some(rest) = name.strip_prefix("RTMAX") {
        if rest.is_empty() { Some(last) } else { last.checked_sub(decimal(rest.strip_prefix('-')?)?) }
    } else {
        None
    }?;
    let lowest = if name.starts_with("NUM") { 1 } else { first };
    (lowest..=last).contains(&number).then_some(number)
}

/// The name without `SIG`, also when the signal was given by number.
impl fmt::Display for Signal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = NAMES.iter().find(|(_, number)| *number == self.0) {
            return out.write_str(name);
        }
        let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
        match self.0 {
            number if number == first => out.write_str("RTMIN"),
            number if number == last => out.write_str("RTMAX"),
            number if number > first => write!(out, "RTMIN+{}", number.saturating_sub(first)),
            number => write!(out, "NUM{number}"),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "SIG{self}")
    }
}

/// The word that should have been a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSignal(String);

impl fmt::Display for UnknownSignal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "there is no signal \"{}\"; give a name such as TERM, HUP, INT, QUIT, USR1, USR2, WINCH, CONT or KILL, \
             with or without SIG before it, or a number from 1 to 64",
            self.0
        )
    }
}

impl std::error::Error for UnknownSignal {}

/// All signals of this process, to be read from a descriptor in the poll set instead of arriving at any moment.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

/// One signal read from a [`SignalFd`]. Signals below `RTMIN` coalesce: several that were sent may be one here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which signal.
    pub signal: Signal,
    /// Who sent it; `None` when the kernel did by itself (the terminal, a child's end, a timer).
    pub sender: Option<Sender>,
}

/// The process that sent a signal, as the kernel saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sender {
    /// Its PID; 0 when it lives outside of this PID namespace.
    pub pid: i32,
    /// Its real user ID.
    pub uid: u32,
}

impl SignalFd {
    /// Takes over all signals of the process. To be called once, first thing, while there is a single thread.
    ///
    /// Whatever the caller of the program had ignored or blocked is undone: all dispositions become the default
    /// (an inherited ignored CHLD would make children vanish unseen), only PIPE is ignored, and every other signal
    /// is blocked but KILL and STOP, which cannot be, and the faults, which must end the process at once. The descriptor
    /// is non-blocking and close-on-exec. See signalfd(2).
    ///
    /// # Errors
    /// Those of signalfd(2): no descriptor or no memory left.
    pub fn take_over() -> io::Result<SignalFd> {
        reset_dispositions()?;
        ignore(Signal::PIPE)?;
        crate::reexec::stay_armed()?;
        let mask = Mask::all_but_fatal();
        mask.set()?;
        let number = mask.descriptor();
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us, nobody else owns it.
        Ok(SignalFd(unsafe { OwnedFd::from_raw_fd(number) }))
    }

    /// The next signal that has arrived, or `None` if there is none at the moment.
    ///
    /// # Errors
    /// Those of read(2) that do not mean "not now"; none is expected.
    pub fn next(&self) -> io::Result<Option<Received>> {
        const SIZE: usize = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the structure consists of integers only, for which all bits zero is a value.
        let mut record: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let length = loop {
            // SAFETY: the record is SIZE bytes long and ours to write to.
            let length = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut record).cast(), SIZE) };
            if length >= 0 {
                break length;
            }
            match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => {}
                error if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                error => return Err(error),
            }
        };
        let signal = c_int::try_from(record.ssi_signo).ok().and_then(Signal::from_number);
        let (Ok(SIZE), Some(signal)) = (usize::try_from(length), signal) else {
            return Err(io::Error::other("the kernel's record of a signal is not as signalfd(2) describes it"));
        };
        // Codes above zero say that the kernel sent the signal; the PID is then a child's, if anything.
        let sender = (record.ssi_code <= 0)
            .then(|| Sender { pid: i32::try_from(record.ssi_pid).unwrap_or(0), uid: record.ssi_uid });
        Ok(Some(Received { signal, sender }))
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends a signal to one process.
///
/// # Errors
/// Those of kill(2): `NotFound` for ESRCH is not mapped, look at `raw_os_error`. `InvalidInput` when `pid` is not a
/// positive number: kill(2) would take such a one for a group or for everybody.
pub fn send(pid: i32, signal: Signal) -> io::Result<()> {
    kill(positive(pid)?, signal)
}

/// Sends a signal to all processes of a process group.
///
/// # Errors
/// As [`send`]; also for group 1, whose negative means "every process" to kill(2).
pub fn send_group(pid: i32, signal: Signal) -> io::Result<()> {
    match positive(pid)? {
        1 => Err(io::Error::new(io::ErrorKind::InvalidInput, "process group 1 cannot be addressed")),
        group => kill(-group, signal),
    }
}

fn positive(pid: i32) -> io::Result<c_int> {
    if pid > 0 {
        return Ok(pid);
    }
    let message = format!("{pid} is not the PID of a process");
    Err(io::Error::new(io::ErrorKind::InvalidInput, message))
}

fn kill(pid: c_int, signal: Signal) -> io::Result<()> {
    // SAFETY: kill(2) takes two integers and touches no memory.
    match unsafe { libc::kill(pid, signal.0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A set of signals as the kernel has it: signal n is bit n - 1. The C library's own functions are not used because
/// they refuse to touch the signals 32 and 33.
#[derive(Clone, Copy)]
pub(crate) struct Mask(u64);

impl Mask {
    pub(crate) const ALL: Mask = Mask(u64::MAX);
    pub(crate) const EMPTY: Mask = Mask(0);
    const SIZE: usize = size_of::<u64>();

    /// All that a superdaemon reads from a descriptor: every signal but the faults, which must end the process at once,
    /// and PIPE: a signal that is blocked is kept even if it is ignored, so we would be told of each broken pipe.
    pub(crate) fn all_but_fatal() -> Mask {
        const LEFT_ALONE: [c_int; 8] = [
            libc::SIGSEGV,
            libc::SIGBUS,
            libc::SIGFPE,
            libc::SIGILL,
            libc::SIGTRAP,
            libc::SIGABRT,
            libc::SIGSYS,
            libc::SIGPIPE,
        ];
        LEFT_ALONE.iter().fold(Mask::ALL, |mask, signal| mask.without(Signal(*signal)))
    }

    pub(crate) fn of(signals: &[Signal]) -> Mask {
        signals.iter().fold(Mask::EMPTY, |mask, signal| Mask(mask.0 | 1_u64 << signal.0.saturating_sub(1)))
    }

    /// A descriptor to read these signals from, non-blocking and close-on-exec; below zero on failure. See signalfd(2).
    /// Async-signal-safe.
    pub(crate) fn descriptor(self) -> c_int {
        // SAFETY: the mask lives during the call and is 8 bytes long, as the size argument says.
        let number = unsafe {
            libc::syscall(
                libc::SYS_signalfd4,
                -1,
                &raw const self.0,
                Mask::SIZE,
                libc::SFD_NONBLOCK | libc::SFD_CLOEXEC,
            )
        };
        c_int::try_from(number).unwrap_or(-1)
    }

    #[cfg(test)]
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    fn has(self, signal: Signal) -> bool {
        self.0 & Mask::of(&[signal]).0 != 0
    }

    fn without(self, signal: Signal) -> Mask {
        Mask(self.0 & !(1_u64 << signal.0.saturating_sub(1)))
    }

    /// Blocks exactly these signals in the calling thread and returns those that were blocked before. Async-signal-safe.
    pub(crate) fn set(self) -> io::Result<Mask> {
        let mut before = Mask::EMPTY;
        // SAFETY: both masks live during the call and are 8 bytes long, as the size argument says.
        let result = unsafe {
            libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const self.0, &raw mut before.0, Mask::SIZE)
        };
        if result == 0 { Ok(before) } else { Err(io::Error::last_os_error()) }
    }
}

/// The signals that this process may ignore, as a [`Mask`] has them: all of them until they were reset. A program that it
/// executes would go on ignoring them; those that are handled get their default disposition by execve(2) itself.
static MAYBE_IGNORED: AtomicU64 = AtomicU64::new(u64::MAX);

/// Gives every signal its default disposition. Async-signal-safe.
pub(crate) fn reset_dispositions() -> io::Result<()> {
    reset(Mask::ALL)
}

/// Has the program that is executed next find these signals ignored, and no others. Async-signal-safe.
pub(crate) fn ignore_only(signals: &[Signal]) -> io::Result<()> {
    reset(Mask(MAYBE_IGNORED.load(Ordering::Relaxed) & !Mask::of(signals).0))?;
    signals.iter().try_for_each(|signal| ignore(*signal))
}

fn reset(signals: Mask) -> io::Result<()> {
    // An all-zero structure means "default, no flags, no mask", whatever its layout on this machine.
    const DEFAULT: [u64; 16] = [0; 16];
    for number in (1..=LAST).filter(|number| signals.has(Signal(*number))) {
        if number == libc::SIGKILL || number == libc::SIGSTOP {
            continue;
        }
        let nothing: *const u64 = std::ptr::null();
        // SAFETY: the new action is zeros over more than the kernel reads, the old one is not asked for, and the
        // default disposition runs no code of ours. The system call itself is used since sigaction(3) refuses 32, 33.
        let result = unsafe { libc::syscall(libc::SYS_rt_sigaction, number, DEFAULT.as_ptr(), nothing, Mask::SIZE) };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    MAYBE_IGNORED.fetch_and(!signals.0, Ordering::Relaxed);
    Ok(())
}

/// Ignores a signal from now on, across exec too. Async-signal-safe.
pub(crate) fn ignore(signal: Signal) -> io::Result<()> {
    MAYBE_IGNORED.fetch_or(Mask::of(&[signal]).0, Ordering::Relaxed);
    // SAFETY: a zeroed sigaction is a valid one, and SIG_IGN runs no code of ours.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = libc::SIG_IGN;
        libc::sigaction(signal.0, &raw const action, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<i32> {
        Signal::parse(text).ok().map(Signal::number)
    }

    #[test]
    fn names_in_any_case_with_or_without_sig() {
        for text in ["TERM", "term", "SIGTERM", "SigTerm", "15", "015"] {
            assert_eq!(Signal::parse(text), Ok(Signal::TERM), "{text}");
        }
        assert_eq!(parsed("CLD"), Some(libc::SIGCHLD));
        assert_eq!(parsed("IOT"), Some(libc::SIGABRT));
        assert_eq!(parsed("poll"), Some(libc::SIGIO));
        assert_eq!(parsed("RTMIN"), Some(libc::SIGRTMIN()));
        assert_eq!(parsed("SIGRTMIN+3"), Some(libc::SIGRTMIN() + 3));
        assert_eq!(parsed("RTMAX-1"), Some(63));
        assert_eq!(parsed("RTMAX"), Some(64));
        assert_eq!(parsed("64"), Some(64));
    }

    #[test]
    fn what_is_no_signal_is_refused() {
        for text in [
            "",
            "0",
            "65",
            "99999999999",
            "+15",
            "-15",
            "15 ",
            " TERM",
            "SIG",
            "NOSUCH",
            "SIG15",
            "SIGSIGTERM",
            "ZERO",
            "RTMIN+31",
            "RTMIN-1",
            "RTMAX+1",
            "RTMAX-40",
            "RTMIN+",
            "RTMIN+99999999999",
            "NUM0",
            "TÉRM",
        ] {
            assert_eq!(Signal::parse(text), Err(UnknownSignal(text.to_owned())), "{text}");
        }
        let text = Signal::parse("NOSUCH").unwrap_err().to_string();
        assert!(text.contains("\"NOSUCH\"") && text.contains("USR1"), "{text}");
    }

    #[test]
    fn every_signal_is_shown_by_a_name_that_reads_back() {
        for number in 1..=64 {
            let signal = Signal::from_number(number).unwrap();
            assert_eq!(Signal::parse(&signal.to_string()), Ok(signal));
            assert_eq!(Signal::parse(&number.to_string()), Ok(signal));
        }
        assert_eq!(Signal::CHLD.to_string(), "CHLD");
        assert_eq!(Signal::parse("6").unwrap().to_string(), "ABRT");
        assert_eq!(format!("{:?}", Signal::HUP), "SIGHUP");
        assert_eq!(Signal::from_number(0), None);
        assert_eq!(Signal::from_number(65), None);
    }

    #[test]
    fn numbers_that_mean_many_processes_never_reach_the_kernel() {
        for pid in [0, -1, -4711, i32::MIN] {
            assert_eq!(send(pid, Signal::CONT).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            assert_eq!(send_group(pid, Signal::CONT).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(send_group(1, Signal::CONT).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        // Above the highest PID that Linux can give.
        assert_eq!(send(0x7fff_fffe, Signal::CONT).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }

    /// Runs `check` in a forked child, which is free to turn its signals upside down; true is exit code 0.
    fn in_a_child(check: fn() -> bool) -> i32 {
        // SAFETY: the child calls only what `check` does, which needs no lock that another thread may hold.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            let code = if check() { 0 } else { 1 };
            // SAFETY: ends the child without running anything of the test harness.
            unsafe { libc::_exit(code) };
        }
        assert!(pid > 0);
        let mut status = 0;
        // SAFETY: the status is ours to write to.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        status
    }

    #[test]
    fn after_taking_over_signals_are_read_and_kill_nobody() {
        let status = in_a_child(|| {
            ignore(Signal::CHLD).unwrap();
            let signals = SignalFd::take_over().unwrap();
            let own = i32::try_from(std::process::id()).unwrap();
            if signals.next().unwrap().is_some() {
                return false;
            }
            for number in (1..=64).rev() {
                let signal = Signal::from_number(number).unwrap();
                let fault = [4, 5, 6, 7, 8, 11, 31].contains(&number);
                // An ignored signal is not queued at all.
                if [Signal::KILL, Signal::STOP, Signal::PIPE].contains(&signal) || fault {
                    continue;
                }
                send(own, signal).unwrap();
                let received = signals.next().unwrap().unwrap();
                // SAFETY: takes nothing, touches nothing.
                let uid = unsafe { libc::getuid() };
                if received != (Received { signal, sender: Some(Sender { pid: own, uid }) }) {
                    return false;
                }
            }
            send(own, Signal::PIPE).unwrap();
            if signals.next().unwrap().is_some() {
                return false;
            }
            // A child's end is told, although CHLD was ignored before.
            // SAFETY: the child ends at once.
            unsafe {
                if libc::fork() == 0 {
                    libc::_exit(0);
                }
                libc::waitpid(-1, std::ptr::null_mut(), 0);
            }
            signals.next().unwrap() == Some(Received { signal: Signal::CHLD, sender: None })
        });
        assert_eq!(status, 0);
    }

    #[test]
    fn faults_still_end_the_process() {
        let status = in_a_child(|| {
            let _signals = SignalFd::take_over().unwrap();
            send(i32::try_from(std::process::id()).unwrap(), Signal(libc::SIGSEGV)).unwrap();
            true
        });
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGSEGV, "{status}");
    }
}
