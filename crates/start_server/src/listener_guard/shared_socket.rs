//! What can be asked of a listener and done to it, by the kind of its socket.

use std::cell::OnceCell;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{bind, connect_unspec, getpeername, getsockname, listen};
use sys::listen_queue::{self, ListenQueue};
use sys::unix_queue::UnixQueues;
use sys::waiting_clients;

use crate::listeners::{BoundAddress, Kind, Listener};

/// A listener's socket.
#[derive(Clone, Copy, Debug)]
pub struct SharedSocket<'a> {
    /// What it is.
    pub kind: Kind,
    /// Ours; the workers have their own descriptors of the same socket.
    pub socket: BorrowedFd<'a>,
}

/// What takes longer than a question, and so is made once for many.
#[derive(Debug, Default)]
pub struct Queues(OnceCell<Option<UnixQueues>>);

impl<'a> SharedSocket<'a> {
    /// That of a listener.
    pub fn of(listener: &'a Listener) -> Self {
        Self { kind: listener.kind(), socket: listener.as_fd() }
    }

    /// Its accept queue.
    pub fn queue(self) -> Option<ListenQueue> {
        self.queue_of_many(&Queues::default())
    }

    /// Its accept queue, as one of many listeners that are asked for theirs.
    pub fn queue_of_many(self, queues: &Queues) -> Option<ListenQueue> {
        match self.kind {
            Kind::Tcp => listen_queue::of_tcp(self.socket).ok(),
            Kind::Unix => queues.0.get_or_init(|| UnixQueues::open().ok()).as_ref()?.of(self.socket).ok(),
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

    /// Lets as many connections wait as `backlog` says.
    ///
    /// # Errors
    /// See listen(2).
    pub fn listen(self, backlog: u32) -> rustix::io::Result<()> {
        listen(self.socket, i32::try_from(backlog).unwrap_or(i32::MAX))
    }

    /// Has a TCP socket listen again that was shut down, or that somebody has made a connection of, at its address.
    ///
    /// # Errors
    /// See listen(2) and bind(2).
    pub fn listen_again(self, address: SocketAddr, backlog: u32) -> rustix::io::Result<()> {
        // A port that the kernel chose is given up by a shutdown. Any other is not, and cannot be bound twice.
        match bind(self.socket, &address) {
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(errno),
        }
        match self.listen(backlog) {
            // Somebody has made a connection of it, by a connect(2) to no address and another one after that.
            Err(Errno::INVAL) => {
                connect_unspec(self.socket)?;
                match bind(self.socket, &address) {
                    Ok(()) | Err(Errno::INVAL) => self.listen(backlog)?,
                    Err(errno) => return Err(errno),
                }
            }
            listens => listens?,
        }
        let stays = getsockname(self.socket)? == address.into() && !self.is_shut_down();
        if stays { Ok(()) } else { Err(Errno::ADDRNOTAVAIL) }
    }

    /// Undoes a connect(2), after which a datagram socket takes datagrams of one peer only. Whether there was one.
    pub fn disconnect(self, address: &BoundAddress) -> bool {
        let is_connected = !self.kind.is_stream() && getpeername(self.socket).is_ok();
        if !is_connected || connect_unspec(self.socket).is_err() {
            return false;
        }
        // With the peer goes a port that the kernel has chosen.
        if let BoundAddress::Internet(address) = address
            && getsockname(self.socket).is_ok_and(|bound| bound != (*address).into())
        {
            return bind(self.socket, address).is_ok();
        }
        true
    }
}
