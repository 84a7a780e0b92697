//! Orphans: workers of a superdaemon that was killed. They go on serving, and hold on to the listeners that the next
//! superdaemon wants. `listeners` asks here when an address is taken; the event loop then replaces the orphans like
//! any old generation, so that neither the address nor a connection is lost.
//!
//! Nothing but the kernel is believed about who they are. A process counts as an orphan if it holds the very socket
//! that is in the way, which one of our user has made, and was executed with what a superdaemon gives its workers for
//! that socket; and only if every other process that holds the socket was so too. The superdaemon itself, while it
//! lives, holds the socket without that: where it is found, nothing is touched.

mod drainers;
mod holders;
mod left;
mod refusal;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketAddrUnix, getsockname};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, geteuid, pidfd_getfd, pidfd_open, pidfd_send_signal};
use sys::process_tree;
use sys::reexec::Inherited;

use crate::handover::descriptor::{Kept, take as take_over};
use crate::handover::state;

pub use drainers::drainers;
pub use holders::holders_of;
use holders::{Holder, Marks, Who, who};
pub use left::left_with;

/// What is only on its way to let a socket go, gets so long.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A worker without a superdaemon, held so that its PID cannot pass to another process.
#[derive(Debug)]
pub struct Orphan {
    /// The generation that its superdaemon made it, as far as it can be believed.
    pub generation: u32,
    /// The worker.
    pub pid: i32,
    /// The `SERVER_STARTER_PORT` that it was given.
    variable: OsString,
    process: OwnedFd,
}

impl Orphan {
    /// What the next image of the program has to know of it.
    pub fn state(&self, kept: &mut Kept) -> state::Orphan {
        state::Orphan {
            generation: self.generation,
            pid: self.pid,
            variable: self.variable.as_os_str().into(),
            process: kept.keep(self.process.as_fd()),
        }
    }

    /// As the image before had it. None if it is not held any more.
    pub fn resume(orphan: state::Orphan, inherited: &mut Inherited) -> Option<Self> {
        let process = take_over(inherited, orphan.process)?;
        Some(Self { generation: orphan.generation, pid: orphan.pid, variable: orphan.variable.into(), process })
    }

    /// Readable when it has ended.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.process.as_fd()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// It has changed its user, or is gone.
    pub fn signal(&self, signal: sys::signal::Signal) -> io::Result<()> {
        let signal = Signal::from_named_raw(signal.number()).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(pidfd_send_signal(&self.process, signal)?)
    }

    /// Ends it with its process group and its descendants.
    ///
    /// # Errors
    /// As [`Orphan::signal`].
    pub fn kill(&self) -> io::Result<()> {
        // While it lives nobody else has its number, neither as a process nor as a group.
        let family = process_tree::kill_anywhere(|other| other.pid == self.pid || other.group == self.pid);
        match self.signal(sys::signal::Signal::KILL) {
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => family.map(drop),
            sent => sent,
        }
    }

    /// Takes hold of a worker, if it is still who it was.
    fn hold(pid: i32, marks: &Marks) -> Result<Self, Obstacle> {
        let gone = || Obstacle::Passing(format!("its worker (pid {pid}) has just ended; try again"));
        let process = Pid::from_raw(pid)
            .ok_or(Errno::SRCH)
            .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
            .map_err(|_| gone())?;
        // Now that the PID cannot pass on.
        let now = Marks::of(pid).map_err(|_| gone())?.ok_or_else(gone)?;
        if now != *marks {
            return Err(gone());
        }
        Ok(Self { generation: believed(now.generation), pid, variable: now.variable, process })
    }
}

/// The number of a generation, as a worker has it in its environment, where it can write what it likes. A number that no
/// superdaemon has ever come to would leave none for the next generations; so it counts as the first, like a worker of
/// which nothing is known.
fn believed(number: u32) -> u32 {
    const HIGHEST: u32 = 1_000_000;
    if (1..=HIGHEST).contains(&number) { number } else { 1 }
}

/// A listener that was taken out of orphans.
#[derive(Debug)]
pub struct Inheritance {
    /// The very socket that they serve on.
    pub socket: OwnedFd,
    /// Those of them that their superdaemon had spawned. Their descendants belong to them.
    pub orphans: Vec<Orphan>,
}

/// Why a socket is not inherited, in words that go after "because".
enum Obstacle {
    /// It will go away by itself, and soon: somebody is just ending, or just beginning.
    Passing(String),
    Lasting(String),
}

/// Takes the socket at `address` out of orphans. `sockets` are those that are in the way, as inodes; for a unix socket
/// what tells them is the file, see [`unix_sockets_at`], since the address is only how the file was called once.
///
/// Takes up to two seconds if a superdaemon, or a child that it was about to make a worker, seems to be just ending.
///
/// # Errors
/// Why not and what to do, in words that go after "because": it is not the orphans' only, or they cannot be made to
/// share it.
pub fn inherit(address: &SocketAddrAny, sockets: &[u64]) -> Result<Inheritance, String> {
    let until = Instant::now() + PATIENCE;
    loop {
        match try_to_inherit(address, sockets) {
            Ok(inheritance) => return Ok(inheritance),
            Err(Obstacle::Passing(_)) if Instant::now() < until => thread::sleep(LOOK_EVERY),
            Err(Obstacle::Passing(why) | Obstacle::Lasting(why)) => return Err(why),
        }
    }
}

fn try_to_inherit(address: &SocketAddrAny, sockets: &[u64]) -> Result<Inheritance, Obstacle> {
    // The /proc of another PID namespace would show the PIDs of others.
    let holders = if process_tree::proc_is_ours() { holders_of(sockets) } else { Vec::new() };
    if holders.is_empty() {
        return Err(Obstacle::Lasting(refusal::unseen(sockets)));
    }
    let mut heads = BTreeMap::new();
    for holder in &holders {
        match who(holder, &holders, address) {
            Who::Worker(marks) => drop(heads.insert(marks.head_of_family(holder.pid), marks)),
            Who::Passing(why) => return Err(Obstacle::Passing(why)),
            Who::Foreign(why) => return Err(Obstacle::Lasting(why)),
        }
    }
    let socket = take_from_any(&holders, address)?;
    let orphans: Result<Vec<Orphan>, Obstacle> = heads.iter().map(|(pid, marks)| Orphan::hold(*pid, marks)).collect();
    Ok(Inheritance { socket, orphans: orphans? })
}

/// The socket, from the first of its holders that can be made to share it: it is the same for all.
fn take_from_any(holders: &[Holder], address: &SocketAddrAny) -> Result<OwnedFd, Obstacle> {
    let mut refused = None;
    for holder in holders {
        match take(holder) {
            Ok(socket) => {
                let owner = rustix::fs::fstat(&socket).map(|found| found.st_uid).unwrap_or(u32::MAX);
                if owner != geteuid().as_raw() {
                    return Err(Obstacle::Lasting(refusal::made_by_another(owner)));
                }
                // More than one socket may be in the way.
                if is_file(address) || getsockname(&socket).is_ok_and(|bound| bound == *address) {
                    return Ok(socket);
                }
            }
            // It may have gone, or closed the descriptor.
            Err(Errno::SRCH | Errno::BADF) => {}
            Err(errno) => refused = refused.or(Some(refusal::does_not_share(holder.pid, errno))),
        }
    }
    Err(match refused {
        Some(why) => Obstacle::Lasting(why),
        None => Obstacle::Lasting("what its workers hold is bound elsewhere".to_owned()),
    })
}

/// Whether the address is a path. What was bound to that file may have been bound by another path.
fn is_file(address: &SocketAddrAny) -> bool {
    SocketAddrUnix::try_from(address.clone()).is_ok_and(|unix| unix.path_bytes().is_some_and(|path| !path.is_empty()))
}

/// A duplicate of the holder's descriptor; see pidfd_getfd(2).
fn take(holder: &Holder) -> rustix::io::Result<OwnedFd> {
    let pid = Pid::from_raw(holder.pid).ok_or(Errno::SRCH)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let socket = pidfd_getfd(&process, holder.descriptor, PidfdGetfdFlags::empty())?;
    // Whoever has the PID, and whatever it has put there meanwhile: only the very socket counts.
    let is_the_one = rustix::fs::fstat(&socket).is_ok_and(|found| found.st_ino == holder.socket);
    if is_the_one { Ok(socket) } else { Err(Errno::BADF) }
}

/// The inodes of the unix sockets that are bound to the file at this path and wait for clients, by whatever name it
/// was called when they were bound; or, if it begins with `@`, to this abstract name.
pub fn unix_sockets_at(path: &Path) -> Vec<u64> {
    // The file systems that show other numbers for a file than the kernel uses (btrfs, overlayfs) need the second way.
    let by_file = sys::unix_file::sockets(path).unwrap_or_default();
    if by_file.is_empty() { holders::unix_sockets_named(path) } else { by_file }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_nobody_has_come_to_is_not_believed() {
        assert_eq!([1, 2, 1_000_000].map(believed), [1, 2, 1_000_000]);
        assert_eq!([0, 1_000_001, u32::MAX].map(believed), [1, 1, 1]);
    }
}
