//! Whether a process has accepted a connection on a listener: a busy server may never be seen waiting for one, but it
//! has some. Their descriptors are fetched for a moment by pidfd_getfd(2), since the kernel tells nothing of a socket
//! in /proc but its number.
//!
//! The guards of the listeners go through the kernel's tables instead ([`crate::waiting_clients`]): what speaks against
//! a server must miss nothing, and may take milliseconds. Here a look comes every few milliseconds, and may miss.

use std::os::fd::{AsFd, BorrowedFd, RawFd};

use rustix::net::{AddressFamily, SocketAddr, SocketAddrAny, getpeername, getsockname};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::Probe;

/// So many sockets of a process are looked at: if one is a connection of a client, most are.
const MOST_SOCKETS: usize = 16;

/// The name of a listener, by which the connections that were accepted on it are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// The port is enough: nobody else accepts there while the listener is open.
    Port(u16),
    /// The path, or the abstract name, of a unix socket.
    Unix(SocketAddrAny),
}

impl Name {
    /// Of a listener, or of our end of a connection.
    pub(super) fn of(socket: BorrowedFd) -> Option<Name> {
        let address = getsockname(socket).ok()?;
        match SocketAddr::try_from(address.clone()) {
            Ok(internet) => Some(Name::Port(internet.port())),
            // A socket without a name is nobody's listener.
            Err(_) => (address.address_family() == AddressFamily::UNIX).then_some(Name::Unix(address)),
        }
    }
}

/// The listener on which this process has accepted a connection that one of `sockets` is. What may not be looked at is
/// passed over: this is evidence for a server, never against it.
pub(super) fn accepted(pid: i32, probe: &Probe, sockets: &[RawFd]) -> Option<usize> {
    if sockets.is_empty() {
        return None;
    }
    let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
    sockets.iter().take(MOST_SOCKETS).find_map(|&descriptor| {
        let socket = pidfd_getfd(&process, descriptor, PidfdGetfdFlags::empty()).ok()?;
        // A listener of the same name has no peer; a client's end of a connection has another name.
        getpeername(&socket).ok()?;
        let name = Name::of(socket.as_fd())?;
        probe.targets.iter().find(|target| target.name.as_ref() == Some(&name)).map(|target| target.index)
    })
}
