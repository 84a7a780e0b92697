//! The types as which a listener can be taken: those of std, and with the feature `tokio` those of tokio.

use std::fmt;
use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener};

/// What sort of socket a listener is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Accepts TCP connections.
    Tcp,
    /// Takes UDP datagrams.
    Udp,
    /// Accepts connections to a unix socket.
    Unix,
    /// Takes datagrams sent to a unix socket.
    UnixDatagram,
}

impl Kind {
    /// Whether sockets of this kind accept connections; the others take datagrams.
    pub fn listens(self) -> bool {
        matches!(self, Self::Tcp | Self::Unix)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "a TCP listener",
            Self::Udp => "a UDP socket",
            Self::Unix => "a unix listener",
            Self::UnixDatagram => "a unix datagram socket",
        })
    }
}

/// A type as which a listener can be taken. It decides which kind of socket is looked for.
///
/// Sockets of std come in the blocking mode in which they were inherited; see
/// [the pitfalls](crate#blocking-mode-is-shared). Those of tokio are made non-blocking, since tokio needs that.
pub trait Socket: sealed::Socket {}

pub(crate) mod sealed {
    use super::{Kind, OwnedFd, io};

    pub trait Socket: Sized {
        const KIND: Kind;
        fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self>;
    }
}

macro_rules! std_sockets {
    ($($kind:ident: $socket:ty,)*) => {$(
        impl Socket for $socket {}
        impl sealed::Socket for $socket {
            const KIND: Kind = Kind::$kind;
            fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
                Ok(descriptor.into())
            }
        }
    )*};
}

std_sockets! {
    Tcp: TcpListener,
    Udp: UdpSocket,
    Unix: UnixListener,
    UnixDatagram: UnixDatagram,
}

#[cfg(feature = "tokio")]
macro_rules! tokio_sockets {
    ($($kind:ident: $socket:ident,)*) => {$(
        impl Socket for tokio::net::$socket {}
        impl sealed::Socket for tokio::net::$socket {
            const KIND: Kind = Kind::$kind;
            fn from_descriptor(descriptor: OwnedFd) -> io::Result<Self> {
                // Without a runtime tokio panics instead of saying so.
                tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
                let socket = $socket::from(descriptor);
                socket.set_nonblocking(true)?;
                Self::from_std(socket)
            }
        }
    )*};
}

#[cfg(feature = "tokio")]
tokio_sockets! {
    Tcp: TcpListener,
    Udp: UdpSocket,
    Unix: UnixListener,
    UnixDatagram: UnixDatagram,
}
