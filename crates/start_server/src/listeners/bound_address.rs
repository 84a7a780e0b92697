//! Where a socket really is, the port included that the kernel chose. The listeners tell it to `--status`, to the
//! placeholders in a command line and to the servers that want it in words of their own.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, getsockname};

/// The address that a socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoundAddress {
    /// A port of TCP or UDP.
    Internet(SocketAddr),
    /// A path.
    Path(Vec<u8>),
    /// An abstract name, less the zero byte before it.
    Abstract(Vec<u8>),
}

impl BoundAddress {
    /// The address of this socket.
    ///
    /// # Errors
    /// It is not a socket, or one that has no such address.
    pub fn of(socket: impl AsFd) -> io::Result<Self> {
        let address = getsockname(socket)?;
        if let Ok(internet) = SocketAddr::try_from(address.clone()) {
            return Ok(Self::Internet(internet));
        }
        let unix = SocketAddrUnix::try_from(address)?;
        if let Some(name) = unix.abstract_name() {
            return Ok(Self::Abstract(name.to_vec()));
        }
        let path = unix.path_bytes().filter(|path| !path.is_empty()).ok_or(Errno::INVAL)?;
        Ok(Self::Path(path.to_vec()))
    }

    /// As `HOST:PORT`, `[HOST]:PORT`, a path, or `@` and an abstract name.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Internet(address) => address.to_string().into_bytes(),
            Self::Path(path) => path.clone(),
            Self::Abstract(name) => [b"@", name.as_slice()].concat(),
        }
    }
}

impl fmt::Display for BoundAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.bytes()))
    }
}
