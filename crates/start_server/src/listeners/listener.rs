//! One listener: how it is had, and what can be asked of it. `listeners.rs` holds them all.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use rustix::net::SocketType;

use super::numbers::Numbers;
use super::passed::PassedSocket;
use super::socket_file::SocketFile;
use super::{Bound, BoundAddress, ListenError, internet, passed, unix};
use crate::file_identity::FileIdentity;
use crate::files::Directories;
use crate::listen_spec::{ListenAddress, ListenSpec};
use crate::orphans::Orphan;
use crate::port_holders::Protocol;

/// One listener.
#[derive(Debug)]
pub struct Listener {
    /// What it was asked for, its port as the kernel chose it.
    pub(super) spec: ListenSpec,
    pub(super) address: BoundAddress,
    pub(super) socket: OwnedFd,
    /// The descriptor that workers find it at.
    pub(super) number: RawFd,
    pub(super) file: Option<SocketFile>,
    /// Whether the service manager has it anyway.
    pub(super) is_managers: bool,
}

/// The kinds of sockets that can be listened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A TCP socket.
    Tcp,
    /// A UDP socket.
    Udp,
    /// A unix stream socket.
    Unix,
    /// A unix datagram socket.
    UnixDatagram,
}

impl Listener {
    /// Binds it and listens, unless a socket was passed for it. `report` gets lines to log.
    ///
    /// Beside it come the workers of a superdaemon that was killed, from whom it was taken.
    ///
    /// # Errors
    /// It cannot be had. A socket file that was made is removed again.
    pub(super) fn open(
        spec: ListenSpec,
        passed: Option<PassedSocket>,
        number: RawFd,
        numbers: &Numbers,
        directories: &mut Directories,
        report: &mut dyn FnMut(String),
    ) -> Result<(Self, Vec<Orphan>), ListenError> {
        let options = &spec.options;
        let is_managers = passed.as_ref().is_some_and(|passed| !passed.is_stored());
        let Bound { socket, file, orphans } = match (passed, &spec.address) {
            (Some(passed), _) => passed.adopt(&spec, directories, report)?,
            (None, ListenAddress::Tcp(at)) => internet::open(&spec.spelling, at, Protocol::Tcp, options)?,
            (None, ListenAddress::Udp(at)) => internet::open(&spec.spelling, at, Protocol::Udp, options)?,
            (None, ListenAddress::Unix(at)) => unix::open(at, SocketType::STREAM, options, directories, report)?,
            (None, ListenAddress::UnixDatagram(at)) => unix::open(at, SocketType::DGRAM, options, directories, report)?,
        };
        let address = BoundAddress::of(&socket).map_err(|error| {
            ListenError(format!("failed to ask for the address of {}: {error}", spec.spelling.display()))
        })?;
        if matches!(&spec.address, ListenAddress::Tcp(at) | ListenAddress::Udp(at) if at.port == 0) {
            report(format!("listening on {address}, which the system chose for {}", spec.spelling.display()));
        }
        if spec.descriptor.is_some() {
            report(format!("socket is duplicated to file descriptor {number}"));
        }
        let socket = numbers.place(socket, number);
        Ok((Self { spec, address, socket, number, file, is_managers }, orphans))
    }

    /// What people call it: the name that the user gave it, or else the address as typed.
    pub fn name(&self) -> Cow<'_, str> {
        match &self.spec.name {
            Some(name) => Cow::Borrowed(name),
            None => self.spec.spelling.to_string_lossy(),
        }
    }

    /// The name that the user gave it.
    pub fn given_name(&self) -> Option<&str> {
        self.spec.name.as_deref()
    }

    /// The address as typed, which is the left side of its entry in `SERVER_STARTER_PORT`.
    pub fn spelling(&self) -> &OsStr {
        &self.spec.spelling
    }

    /// Where it really is.
    pub fn address(&self) -> &BoundAddress {
        &self.address
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.spec.address {
            ListenAddress::Tcp(_) => Kind::Tcp,
            ListenAddress::Udp(_) => Kind::Udp,
            ListenAddress::Unix(_) => Kind::Unix,
            ListenAddress::UnixDatagram(_) => Kind::UnixDatagram,
        }
    }

    /// The socket file that we made, if it is still to be there.
    pub fn file(&self) -> Option<(&Path, FileIdentity)> {
        self.file.as_ref().map(|file| (file.path.as_path(), file.identity))
    }

    /// The descriptor that workers find it at.
    pub fn number(&self) -> RawFd {
        self.number
    }

    /// The path of its file.
    pub fn path(&self) -> Option<&Path> {
        self.file.as_ref().map(|file| file.path.as_path())
    }

    /// Whether the service manager has made it, and keeps it.
    pub fn is_managers(&self) -> bool {
        self.is_managers
    }

    /// What the service manager is to call it, if it is to keep it.
    pub fn stored_name(&self) -> String {
        passed::stored_name(self.kind(), &self.spec.spelling)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Kind {
    /// Whether connections are accepted on it.
    pub fn is_stream(self) -> bool {
        matches!(self, Self::Tcp | Self::Unix)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Unix => "unix",
            Self::UnixDatagram => "unix-dgram",
        })
    }
}
