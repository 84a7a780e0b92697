//! Orphans: workers of a superdaemon that was killed. They go on serving, and hold on to the listeners that the next
//! superdaemon wants. `listeners` asks here when an address is taken; the event loop then replaces the orphans like
//! any old generation, so that neither the address nor a connection is lost.
//!
//! Nothing but the kernel is believed about who they are. A process counts as an orphan if it holds the very socket
//! that is in the way, belongs to our user, and has in its environment what a superdaemon gives its workers; and only
//! if every other process that holds the socket does so too. The superdaemon itself, while it lives, holds the socket
//! without that environment: where it is found, nothing is touched.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::io::Errno;
use rustix::net::{SocketAddrAny, getsockname, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, geteuid, pidfd_getfd, pidfd_open, pidfd_send_signal};
use sys::process_tree;

/// A worker without a superdaemon, held so that its PID cannot pass to another process.
#[derive(Debug)]
pub struct Orphan {
    /// The generation that its superdaemon made it.
    pub generation: u32,
    /// The worker.
    pub pid: i32,
    process: OwnedFd,
}

impl Orphan {
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
}

/// A listener that was taken out of orphans.
#[derive(Debug)]
pub struct Inheritance {
    /// The very socket that they serve on.
    pub socket: OwnedFd,
    /// Those of them that their superdaemon had spawned. Their descendants belong to them.
    pub orphans: Vec<Orphan>,
}

/// Takes the socket at `address` out of orphans. `sockets` are those that are in the way, as inodes.
///
/// # Errors
/// Why not, in words that go after "and": it is not the orphans' only, or they do not let it go.
pub fn inherit(address: &SocketAddrAny, sockets: &[u64]) -> Result<Inheritance, String> {
    let holders: Vec<(i32, RawFd)> = sockets.iter().flat_map(|inode| holders_of(*inode)).collect();
    if holders.is_empty() {
        return Err("nobody who can be seen holds it".to_owned());
    }
    if let Some((pid, _)) = holders.iter().find(|(pid, _)| generation_of(*pid).is_none()) {
        return Err(format!("pid {pid}, which is no worker of a superdaemon, holds it"));
    }
    let mut socket = None;
    let mut orphans = Vec::new();
    for (pid, number) in &holders {
        let parent = process_tree::read(*pid).map(|process| process.parent);
        if holders.iter().any(|(other, _)| Some(*other) == parent) {
            continue;
        }
        let orphan = hold(*pid)?;
        let taken = take(&orphan, *number, address).map_err(|errno| {
            format!("its worker (pid {pid}) cannot be made to share it: {}", io::Error::from(errno))
        })?;
        socket = socket.or(taken);
        orphans.push(orphan);
    }
    match socket {
        Some(socket) => Ok(Inheritance { socket, orphans }),
        None => Err("what its workers hold is bound elsewhere".to_owned()),
    }
}

/// The inodes of the unix sockets that listen at this path. For the table see proc_pid_net(5).
pub fn unix_sockets_at(path: &Path) -> Vec<u64> {
    const LISTENING: &str = "01";
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let wanted = path.to_string_lossy();
    table
        .lines()
        .filter_map(|line| {
            let mut columns = line.split_ascii_whitespace();
            let state = columns.nth(5)?;
            let inode = columns.next()?.parse().ok()?;
            (state == LISTENING && columns.next()? == wanted).then_some(inode)
        })
        .collect()
}

/// Each process that holds the socket, with its descriptor there.
fn holders_of(inode: u64) -> Vec<(i32, RawFd)> {
    let link = format!("socket:[{inode}]");
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: i32| {
            let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
            let number = descriptors.flatten().find_map(|entry| {
                let target = fs::read_link(entry.path()).ok()?;
                (target.to_str() == Some(&link)).then(|| entry.file_name().to_str()?.parse().ok())?
            });
            Some((pid, number?))
        })
        .collect()
}

/// The generation of a worker of our user, or if we are root of anybody.
fn generation_of(pid: i32) -> Option<u32> {
    let owner = fs::metadata(format!("/proc/{pid}")).ok()?.uid();
    let us = geteuid();
    if owner != us.as_raw() && !us.is_root() {
        return None;
    }
    process_tree::variable(pid, "SERVER_STARTER_PORT")?;
    process_tree::variable(pid, "SERVER_STARTER_GENERATION")?.to_str()?.parse().ok()
}

fn hold(pid: i32) -> Result<Orphan, String> {
    let gone = || format!("its worker (pid {pid}) has just ended; try again");
    let process = Pid::from_raw(pid)
        .ok_or(Errno::SRCH)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()))
        .map_err(|_| gone())?;
    // Now that the PID cannot pass on: is it still who it was?
    let generation = generation_of(pid).ok_or_else(gone)?;
    Ok(Orphan { generation, pid, process })
}

/// A duplicate of the orphan's descriptor, if that is bound to the address; see pidfd_getfd(2).
fn take(orphan: &Orphan, number: RawFd, address: &SocketAddrAny) -> rustix::io::Result<Option<OwnedFd>> {
    let socket = pidfd_getfd(&orphan.process, number, PidfdGetfdFlags::empty())?;
    Ok((getsockname(&socket)? == *address && sockopt::socket_type(&socket).is_ok()).then_some(socket))
}
