//! Inherited descriptors: taking possession of them, and seeing what they really are. Used by `table.rs`.
//!
//! The `unsafe` of the crate is here, but for the environment's: that a number in a variable is an open descriptor, and
//! ours, no type can say.
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};
use rustix::net::{AddressFamily, SocketAddrAny, SocketAddrUnix, SocketType, getsockname, sockopt};

use crate::Kind;

/// Takes possession of descriptor `number`.
///
/// Nobody can take what somebody in this program has: what a program of Rust opens is close-on-exec, and that is what no
/// descriptor can be that was there before it.
///
/// # Errors
/// `EBADF` if it is not open; `EEXIST` if it is this program's.
pub fn adopt(number: RawFd) -> Result<OwnedFd, Errno> {
    if number < 0 {
        return Err(Errno::BADF);
    }
    // SAFETY: the number is not -1. Should nothing be open there, this call says so, and does nothing.
    let flags = fcntl_getfd(unsafe { BorrowedFd::borrow_raw(number) })?;
    if flags.contains(FdFlags::CLOEXEC) {
        return Err(Errno::EXIST);
    }
    // SAFETY: it is open and was so before this program began, since it is not close-on-exec, and the variable says that
    // it is for us; the one table of this process adopts each number once, so nobody else closes it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Makes a descriptor that was adopted, and found to be what it should be, one of our own: with close-on-exec.
///
/// Standard input moves to another number, and `/dev/null` takes its place: what is opened next must not become
/// standard input.
///
/// # Errors
/// The process has no descriptors left.
pub fn keep(descriptor: OwnedFd) -> Result<OwnedFd, Errno> {
    if descriptor.as_raw_fd() != 0 {
        fcntl_setfd(&descriptor, FdFlags::CLOEXEC)?;
        return Ok(descriptor);
    }
    let moved = fcntl_dupfd_cloexec(&descriptor, 3)?;
    // Number 0 stays open, with something else behind it.
    std::mem::forget(descriptor);
    if let Ok(null) = std::fs::File::open("/dev/null") {
        rustix::stdio::dup2_stdin(&null)?;
    }
    Ok(moved)
}

/// What the kernel says about a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Nature {
    /// A socket that a server can use: it listens, or takes datagrams.
    Listener(Kind, Address),
    /// Anything else, in words.
    Other(String),
}

impl Nature {
    pub fn of(descriptor: impl AsFd) -> Self {
        let descriptor = descriptor.as_fd();
        match Self::of_socket(descriptor) {
            Ok(nature) => nature,
            Err(Errno::NOTSOCK) => Self::Other("no socket".to_owned()),
            Err(errno) => Self::Other(format!("something that cannot be looked at ({errno})")),
        }
    }

    fn of_socket(descriptor: BorrowedFd<'_>) -> Result<Self, Errno> {
        let address = Address::of(getsockname(descriptor)?);
        let kind = match (sockopt::socket_domain(descriptor)?, sockopt::socket_type(descriptor)?) {
            (AddressFamily::INET | AddressFamily::INET6, SocketType::STREAM) => Kind::Tcp,
            (AddressFamily::INET | AddressFamily::INET6, SocketType::DGRAM) => Kind::Udp,
            (AddressFamily::UNIX, SocketType::STREAM) => Kind::Unix,
            (AddressFamily::UNIX, SocketType::DGRAM) => Kind::UnixDatagram,
            (family, kind) => {
                return Ok(Self::Other(format!("a socket of family {} and type {}", family.as_raw(), kind.as_raw())));
            }
        };
        if kind.listens() && !sockopt::socket_acceptconn(descriptor)? {
            return Ok(Self::Other(format!("a socket at {address} that does not listen")));
        }
        Ok(Self::Listener(kind, address))
    }
}

impl fmt::Display for Nature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listener(kind, address) => write!(f, "{kind} at {address}"),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// Where a socket is bound, as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// An address and a port.
    Inet(SocketAddr),
    /// A file.
    Path(PathBuf),
    /// A name of the abstract namespace.
    Abstract(OsString),
    /// None.
    Unnamed,
}

impl Address {
    fn of(address: SocketAddrAny) -> Self {
        if let Ok(inet) = SocketAddr::try_from(address.clone()) {
            return Self::Inet(inet);
        }
        let Ok(unix) = SocketAddrUnix::try_from(address) else { return Self::Unnamed };
        if let Some(path) = unix.path_bytes() {
            return Self::Path(OsString::from_vec(path.to_vec()).into());
        }
        match unix.abstract_name() {
            None | Some([]) => Self::Unnamed,
            Some(name) => Self::Abstract(OsString::from_vec(name.to_vec())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inet(address) => address.fmt(f),
            Self::Path(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{}", name.display()),
            Self::Unnamed => f.write_str("no address"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::IntoRawFd;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    #[test]
    fn every_kind_is_recognised() {
        let dir = testkit::TempDir::new();
        let path = dir.path().join("a=b;c");
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp_at = Address::Inet(tcp.local_addr().unwrap());
        assert_eq!(Nature::of(&tcp), Nature::Listener(Kind::Tcp, tcp_at));
        let udp = UdpSocket::bind("[::1]:0").unwrap();
        let udp_at = Address::Inet(udp.local_addr().unwrap());
        assert_eq!(Nature::of(&udp), Nature::Listener(Kind::Udp, udp_at));
        let unix = UnixListener::bind(&path).unwrap();
        assert_eq!(Nature::of(&unix), Nature::Listener(Kind::Unix, Address::Path(path)));
        assert_eq!(
            Nature::of(UnixDatagram::unbound().unwrap()),
            Nature::Listener(Kind::UnixDatagram, Address::Unnamed)
        );
    }

    #[test]
    fn what_is_no_listener_is_told_in_words() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(Nature::of(&connection).to_string().ends_with("that does not listen"));
        assert_eq!(Nature::of(std::fs::File::open("/dev/null").unwrap()).to_string(), "no socket");
        let pair = UnixStream::pair().unwrap();
        assert_eq!(Nature::of(&pair.0).to_string(), "a socket at no address that does not listen");
    }

    #[test]
    fn an_adopted_descriptor_is_not_passed_on() {
        let descriptor = TcpListener::bind("127.0.0.1:0").unwrap();
        fcntl_setfd(&descriptor, FdFlags::empty()).unwrap();
        let adopted = keep(adopt(descriptor.into_raw_fd()).unwrap()).unwrap();
        assert_eq!(fcntl_getfd(&adopted).unwrap(), FdFlags::CLOEXEC);
    }

    #[test]
    fn a_closed_descriptor_is_refused() {
        assert_eq!(adopt(1_000_000).unwrap_err(), Errno::BADF);
        assert_eq!(adopt(-1).unwrap_err(), Errno::BADF);
    }

    #[test]
    fn what_this_program_has_opened_is_refused() {
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        assert_eq!(adopt(own.as_raw_fd()).unwrap_err(), Errno::EXIST);
    }
}
