//! What can be asked of a listener and done to it, by the kind of its socket.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect_unspec, getpeername, listen, socket_with,
};
use rustix::process::umask;
use sys::listen_queue::{self, ListenQueue};
use sys::{unix_queue, waiting_clients};

/// A listener's socket.
#[derive(Clone, Copy, Debug)]
pub struct SharedSocket<'a> {
    /// What it is.
    pub kind: Kind,
    /// Ours; the workers have their own descriptors of the same socket.
    pub socket: BorrowedFd<'a>,
}

/// The kinds of sockets that can be listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// A unix socket with connections.
    Unix,
    /// A unix socket for datagrams.
    UnixDatagram,
}

impl Kind {
    /// Of this socket.
    pub fn of(socket: BorrowedFd) -> Self {
        let unix = socket_domain(socket) == Ok(AddressFamily::UNIX);
        let datagrams = socket_type(socket) == Ok(SocketType::DGRAM);
        match (unix, datagrams) {
            (false, false) => Self::Tcp,
            (false, true) => Self::Udp,
            (true, false) => Self::Unix,
            (true, true) => Self::UnixDatagram,
        }
    }

    /// Whether clients connect to it.
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Tcp | Self::Unix)
    }
}

impl SharedSocket<'_> {
    /// Its accept queue.
    pub fn queue(self) -> Option<ListenQueue> {
        match self.kind {
            Kind::Tcp => listen_queue::of_tcp(self.socket).ok(),
            Kind::Unix => unix_queue::of_unix(self.socket).ok(),
            Kind::Udp | Kind::UnixDatagram => None,
        }
    }

    /// Who waits in it; see [`waiting_clients`].
    pub fn clients(self) -> Option<Vec<u64>> {
        match self.kind {
            Kind::Tcp => waiting_clients::of_tcp(self.socket).ok(),
            Kind::Unix => waiting_clients::of_unix(self.socket).ok(),
            Kind::Udp | Kind::UnixDatagram => None,
        }
    }

    /// Whether somebody has shut it down for reading; shutdown(2).
    pub fn is_shut_down(self) -> bool {
        let mut set = [PollFd::from_borrowed_fd(self.socket, PollFlags::RDHUP)];
        poll(&mut set, Some(&Timespec::default())).is_ok() && set.iter().any(|entry| !entry.revents().is_empty())
    }

    /// Lets as many connections wait as `backlog` says; a TCP listener that was shut down listens again.
    ///
    /// # Errors
    /// See listen(2).
    pub fn listen(self, backlog: u32) -> rustix::io::Result<()> {
        listen(self.socket, i32::try_from(backlog).unwrap_or(i32::MAX))
    }

    /// Undoes a connect(2), after which a UDP socket takes datagrams of one peer only. Whether there was one.
    pub fn disconnect(self) -> bool {
        self.kind == Kind::Udp && getpeername(self.socket).is_ok() && connect_unspec(self.socket).is_ok()
    }

    /// A new socket of this kind at a path, which must be free, with the permissions `mode`. It listens, and it does not
    /// block if this one does not.
    ///
    /// # Errors
    /// See bind(2).
    pub fn another_at(self, path: &Path, mode: u32, backlog: u32) -> io::Result<OwnedFd> {
        let kind = if self.kind == Kind::UnixDatagram { SocketType::DGRAM } else { SocketType::STREAM };
        let address = SocketAddrUnix::new(path)?;
        let socket = socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        if fcntl_getfl(self.socket)?.contains(OFlags::NONBLOCK) {
            fcntl_setfl(&socket, fcntl_getfl(&socket)? | OFlags::NONBLOCK)?;
        }
        let before = umask(Mode::from_bits_truncate(!mode & 0o777));
        let bound = bind(&socket, &address);
        umask(before);
        bound?;
        if self.kind == Kind::Unix {
            listen(&socket, i32::try_from(backlog).unwrap_or(i32::MAX))?;
        }
        Ok(socket)
    }
}
