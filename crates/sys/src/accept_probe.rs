//! Is some process of a tree waiting for connections on one of our listeners, or has it accepted one? The kernel
//! tells, without any help of the server program. The event loop looks every few milliseconds while a generation
//! starts under `--ready=accept`.
//!
//! A look reads, for a process and all its descendants, what proc(5) shows:
//!
//! - `/proc/PID/fd`: which descriptors are one of the listeners, an epoll set or an io_uring,
//! - `/proc/PID/fdinfo/FD`: which sockets an epoll set watches for input, which requests an io_uring has in hand,
//! - `/proc/PID/task/TID/syscall`: which system call each thread is blocked in. The descriptors that poll(2) and
//!   select(2) wait for are fetched from the memory of the process.
//!
//! Of a process that is not seen waiting, a few sockets are fetched for a moment (pidfd_getfd(2)): if one of them is a
//! connection that was accepted on a listener, that is proof as well. A server with more to do than it can do is never
//! seen waiting.
//!
//! A [`Answer::Yes`] is not taken back by a later look: the caller stops looking. What it must know about the others:
//!
//! - **Early yes.** A runtime that registers a listener with its event loop when it creates it, as those of Go and
//!   tokio do, is seen before it accepts for the first time. Usually that is a matter of microseconds, but a program
//!   that makes its listener first and reads its data then is called ready too early. It should say itself when it is.
//!   The same holds for an epoll set that nobody waits for, and for a process that accepts with io_uring from a
//!   listener of its own while it holds one of ours: the kernel does not say from which listener.
//! - **Late yes, or none.** An epoll set stays; everything else is a sample of what a thread does, or has open, at the
//!   moment of the look. Not seen waiting are a poll(2) that was stopped and continued, until it returns; programs that
//!   wait with aio(7), with a signal, with an io_uring poll request or an io_uring without a descriptor; programs whose
//!   first thread has ended; calls of programs for another architecture than ours.
//! - **Unknown.** For the descriptors of a process the caller must be allowed to read them: to be root with
//!   CAP_SYS_PTRACE, or to have the same user and capabilities as a process that has not changed its user since its
//!   exec. A container's root without CAP_SYS_PTRACE cannot look into workers that dropped their privileges. A strict
//!   Yama (`kernel.yama.ptrace_scope` 2 or 3) forbids the last of the three sources; then a thread that sleeps in
//!   accept is still recognised by `/proc/PID/task/TID/wchan`, if its process has no sockets but ours.
//! - **Cost.** On a slow virtual machine 30 µs for a small server, 2 to 9 µs for each further descriptor, 7 µs for each
//!   further thread (`what_a_look_costs` in the tests prints it). At most [`MOST_DESCRIPTORS`] of a process and
//!   [`MOST_STEPS`] in all are looked at; if nobody was seen waiting by then, the answer is unknown.
//! - A child that has not executed its program yet has the caller's descriptors, and with them any epoll set in which
//!   the caller watches its listeners. It must not be looked at before it has.

mod calls;
mod connections;
mod descriptors;
mod files;

use std::fmt;
use std::io;
use std::iter;
use std::os::fd::{BorrowedFd, RawFd};

use rustix::io::Errno;
use rustix::net::SocketType;

use connections::Name;

use crate::process_tree::{self, descendants, proc_is_ours};

/// How many descriptors of one process are looked at.
pub const MOST_DESCRIPTORS: usize = 4096;

/// How many descriptors and threads are looked at in one look.
pub const MOST_STEPS: usize = 16_384;

/// The listeners to look for.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Those that decide: the stream listeners, or the datagram sockets if there are no others.
    targets: Vec<Target>,
    kind: Kind,
}

#[derive(Clone, Debug)]
struct Target {
    index: usize,
    inode: u64,
    /// As the kernel prints it, see [`descriptors`].
    device: u64,
    name: Option<Name>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It accepts connections.
    Stream,
    /// It receives datagrams.
    Datagram,
}

/// What one look has shown.
#[derive(Debug)]
pub enum Answer {
    /// This process waits for connections on at least one listener, or for datagrams if there are only such sockets.
    Yes(Evidence),
    /// Nobody waits at this moment.
    No(Absence),
    /// It cannot be told.
    Unknown(Reason),
}

/// Who waits, and how. Displays as a part of a sentence about a listener: "pid 7 watches it with epoll".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The process.
    pub pid: i32,
    /// The listener, as a position among those given to [`Probe::new`]; `None` if the process holds several and the
    /// kernel does not say which of them.
    pub listener: Option<usize>,
    /// The way.
    pub how: How,
}

/// In which way a process waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// An epoll set watches the listener, see epoll(7).
    Epoll,
    /// A thread is blocked in accept(2).
    BlockedAccept,
    /// A thread is blocked in poll(2) or ppoll(2).
    Poll,
    /// A thread is blocked in select(2) or pselect(2).
    Select,
    /// An io_uring has a request to accept, or to receive datagrams, see io_uring(7).
    IoUring,
    /// A thread is blocked in recv(2), recvfrom(2), recvmsg(2), recvmmsg(2) or read(2) on a datagram socket.
    BlockedReceive,
    /// It waits for none at the moment, because it has one: a connection that it has accepted.
    Accepted,
}

/// How far from waiting the processes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// Some process has a listener open, but nobody waits.
    Held,
    /// No process has any of the listeners open: the program does not use them, or not any more.
    NotHeld,
    /// None of the processes lives any more.
    Gone,
}

/// Why it cannot be told whether anybody waits.
#[derive(Debug)]
pub enum Reason {
    /// There is nothing that anybody could wait on.
    NoListeners,
    /// There is no /proc, or that of another PID namespace.
    NoProc,
    /// /proc does not show a process that exists: it is mounted with `hidepid`.
    Hidden {
        /// The process.
        pid: i32,
    },
    /// We may not look.
    Denied {
        /// The process.
        pid: i32,
        /// What it was that we may not read, for example "/proc/7/fd".
        what: String,
    },
    /// We could not look, for example for lack of a descriptor.
    Failed {
        /// What could not be read.
        what: String,
        /// Why.
        error: io::Error,
    },
    /// There is more to look at than we are willing to.
    TooMuch {
        /// The process at which we gave up.
        pid: i32,
    },
    /// The numbers of the system calls are not known on this architecture, and nothing else told.
    Architecture,
}

/// What is known of one process after a look at it.
enum Finding {
    Waits(Evidence),
    Not(Absence),
}

/// What may still be looked at.
struct Budget(usize);

impl Probe {
    /// Remembers which sockets to look for. The descriptors are not needed any more after that.
    ///
    /// # Errors
    /// One of the descriptors is not a socket.
    pub fn new<'fd>(listeners: impl IntoIterator<Item = BorrowedFd<'fd>>) -> io::Result<Probe> {
        let mut sockets = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let kind = match rustix::net::sockopt::socket_type(listener)? {
                SocketType::DGRAM => Kind::Datagram,
                _ => Kind::Stream,
            };
            let stat = rustix::fs::fstat(listener)?;
            let (major, minor) = (rustix::fs::major(stat.st_dev), rustix::fs::minor(stat.st_dev));
            let device = u64::from(major) << 20 | u64::from(minor);
            let name = Name::of(listener);
            sockets.push((kind, Target { index, inode: stat.st_ino, device, name }));
        }
        let has_streams = sockets.iter().any(|(kind, _)| *kind == Kind::Stream);
        let kind = if has_streams { Kind::Stream } else { Kind::Datagram };
        let deciding = sockets.into_iter().filter(|(its_kind, _)| *its_kind == kind);
        Ok(Probe { targets: deciding.map(|(_, target)| target).collect(), kind })
    }

    /// Looks at a process and all its descendants.
    pub fn look(&self, root: i32) -> Answer {
        self.look_at(iter::once(root).chain(descendants(root)))
    }

    /// Looks at these processes only. For processes that belong together without being descendants of one.
    pub fn look_at(&self, processes: impl IntoIterator<Item = i32>) -> Answer {
        if self.targets.is_empty() {
            return Answer::Unknown(Reason::NoListeners);
        }
        if !proc_is_ours() {
            return Answer::Unknown(Reason::NoProc);
        }
        let mut budget = Budget(MOST_STEPS);
        let mut absence = Absence::Gone;
        let mut doubt = None;
        for pid in processes {
            match self.look_into(pid, &mut budget) {
                Ok(Finding::Waits(evidence)) => return Answer::Yes(evidence),
                Ok(Finding::Not(its_absence)) => absence = absence.nearer(its_absence),
                Err(Reason::Denied { .. }) if has_ended(pid) => {}
                // Another process may still be seen waiting.
                Err(reason) => doubt = doubt.or(Some(reason)),
            }
        }
        doubt.map_or(Answer::No(absence), Answer::Unknown)
    }

    fn look_into(&self, pid: i32, budget: &mut Budget) -> Result<Finding, Reason> {
        let open = match descriptors::open_in(pid, self, budget)? {
            Some(open) if !open.is_empty || !has_ended(pid) => open,
            Some(_) => return Ok(Finding::Not(Absence::Gone)),
            None if is_hidden(pid) => return Err(Reason::Hidden { pid }),
            None => return Ok(Finding::Not(Absence::Gone)),
        };
        if let Some((listener, how)) = descriptors::waiting(pid, self, &open)? {
            return Ok(Finding::Waits(Evidence { pid, listener, how }));
        }
        if !open.holds_target() {
            return if open.is_complete { Ok(Finding::Not(Absence::NotHeld)) } else { Err(Reason::TooMuch { pid }) };
        }
        if let Some((listener, how)) = calls::waiting(pid, self.kind, &open, budget)? {
            return Ok(Finding::Waits(Evidence { pid, listener, how }));
        }
        match self.accepted(pid, &open) {
            Some(listener) => Ok(Finding::Waits(Evidence { pid, listener: Some(listener), how: How::Accepted })),
            None if !open.is_complete => Err(Reason::TooMuch { pid }),
            None => Ok(Finding::Not(Absence::Held)),
        }
    }

    /// The listener on which this process has accepted a connection.
    fn accepted(&self, pid: i32, open: &descriptors::Open) -> Option<usize> {
        match self.kind {
            Kind::Stream => connections::accepted(pid, self, &open.other_sockets),
            Kind::Datagram => None,
        }
    }

    /// The position of a socket among the listeners that decide.
    fn index_of(&self, inode: u64) -> Option<usize> {
        self.targets.iter().find(|target| target.inode == inode).map(|target| target.index)
    }
}

/// Whether only an ancestor of a process may look into it, as a strict Yama has it for all but CAP_SYS_PTRACE: then the
/// looks cannot be left to another process.
pub fn needs_an_ancestor() -> bool {
    let scope = std::fs::read("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    !matches!(scope.first(), None | Some(b'0')) && !rustix::process::geteuid().is_root()
}

/// Whether it is ending, a zombie, or gone.
fn has_ended(pid: i32) -> bool {
    process_tree::read(pid).is_none_or(|process| !process.is_staying())
}

/// Whether it exists and /proc denies that.
fn is_hidden(pid: i32) -> bool {
    let exists = rustix::process::Pid::from_raw(pid)
        .is_some_and(|pid| !matches!(rustix::process::test_kill_process(pid), Err(Errno::SRCH)));
    exists && process_tree::read(pid).is_none()
}

impl Absence {
    fn nearer(self, other: Absence) -> Absence {
        match (self, other) {
            (Absence::Held, _) | (_, Absence::Held) => Absence::Held,
            (Absence::NotHeld, _) | (_, Absence::NotHeld) => Absence::NotHeld,
            (Absence::Gone, Absence::Gone) => Absence::Gone,
        }
    }
}

impl Budget {
    /// Whether one thing more may be looked at.
    fn spend(&mut self) -> bool {
        let left = self.0.checked_sub(1);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Yes(evidence) => evidence.fmt(out),
            Answer::No(absence) => absence.fmt(out),
            Answer::Unknown(reason) => reason.fmt(out),
        }
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Evidence { pid, how, .. } = self;
        match how {
            How::Epoll => write!(out, "pid {pid} watches it with epoll"),
            How::BlockedAccept => write!(out, "pid {pid} is blocked in accept on it"),
            How::Poll => write!(out, "pid {pid} is blocked in poll on it"),
            How::Select => write!(out, "pid {pid} is blocked in select on it"),
            How::IoUring => write!(out, "pid {pid} waits on it with io_uring"),
            How::BlockedReceive => write!(out, "pid {pid} is blocked in a receive on it"),
            How::Accepted => write!(out, "pid {pid} has accepted one"),
        }
    }
}

impl fmt::Display for Absence {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Absence::Held => "a listener is open in the program, but nobody waits on it",
            Absence::NotHeld => "the program has none of the listeners open",
            Absence::Gone => "the program is gone",
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoListeners => out.write_str("there are no listeners to wait on"),
            Reason::NoProc => out.write_str("there is no /proc of this PID namespace; mount it"),
            Reason::Hidden { pid } => {
                write!(out, "/proc does not show the process {pid}; mount it without the option hidepid")
            }
            Reason::Denied { what, .. } => write!(
                out,
                "no permission to read {what}; let the program run as the same user from its start, or grant \
                 CAP_SYS_PTRACE"
            ),
            Reason::Failed { what, error } => write!(out, "failed to read {what}: {error}"),
            Reason::TooMuch { pid } => {
                write!(out, "the process {pid} has too many descriptors or threads to look at them all")
            }
            Reason::Architecture => {
                out.write_str("system calls cannot be recognised on this architecture, and nothing else was seen")
            }
        }
    }
}

impl std::error::Error for Reason {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_say_who_and_what_to_do() {
        let evidence = |how| Evidence { pid: 7, listener: Some(0), how }.to_string();
        assert_eq!(evidence(How::Epoll), "pid 7 watches it with epoll");
        assert_eq!(evidence(How::BlockedAccept), "pid 7 is blocked in accept on it");
        let denied = Reason::Denied { pid: 7, what: "/proc/7/fd".to_owned() }.to_string();
        assert!(denied.contains("/proc/7/fd") && denied.contains("CAP_SYS_PTRACE"), "{denied}");
    }

    #[test]
    fn the_nearest_absence_is_told() {
        use Absence::{Gone, Held, NotHeld};
        assert_eq!(Gone.nearer(NotHeld).nearer(Gone), NotHeld);
        assert_eq!(Held.nearer(NotHeld), Held);
        assert_eq!(NotHeld.nearer(Held), Held);
        assert_eq!(Gone.nearer(Gone), Gone);
    }

    #[test]
    fn a_budget_ends() {
        let mut budget = Budget(2);
        assert_eq!([budget.spend(), budget.spend(), budget.spend(), budget.spend()], [true, true, false, false]);
    }
}
