//! Listening by oneself, for a server that was given no listener. Asked by `table.rs`.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{self, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;

use crate::address::{Written, example, resolve};
use crate::{Error, ErrorKind, Kind};

/// Binds a socket of this kind to `address`. `source` are the variables that named no listener for it, if there are any.
///
/// # Errors
/// What the kernel or the resolver had against it.
pub fn bind(kind: Kind, address: &str, source: &str) -> Result<OwnedFd, Error> {
    bound(kind, address).map_err(|error| {
        let mut message = format!("{kind} was not inherited, and {address} cannot be listened on: {error}");
        if error.kind() == io::ErrorKind::AddrInUse && !source.is_empty() {
            message += &format!(
                "; the supervisor passed {source}: if {address} is held by the generation before this one, have the \
                 supervisor hold it (start_server --port={address})"
            );
        }
        Error::new(ErrorKind::Bind, message)
    })
}

fn bound(kind: Kind, address: &str) -> io::Result<OwnedFd> {
    match (kind, Written::parse(address)) {
        (Kind::Tcp, Written::Port(host, port)) => TcpListener::bind(&*resolved(host, port)?).map(Into::into),
        (Kind::Udp, Written::Port(host, port)) => UdpSocket::bind(&*resolved(host, port)?).map(Into::into),
        (Kind::Unix, Written::Path(path)) => {
            let address = unix_address(path)?;
            make_way(&address, || UnixStream::connect_addr(&address).map(drop))?;
            UnixListener::bind_addr(&address).map(Into::into)
        }
        (Kind::UnixDatagram, Written::Path(path)) => {
            let address = unix_address(path)?;
            make_way(&address, || UnixDatagram::unbound()?.connect_addr(&address))?;
            UnixDatagram::bind_addr(&address).map(Into::into)
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("its address looks like {}", example(kind)))),
    }
}

fn resolved(host: Option<&str>, port: u16) -> io::Result<Vec<SocketAddr>> {
    // As start_server has it: a port alone means every IPv4 address.
    Ok(resolve(host.unwrap_or("0.0.0.0"), port)?.collect())
}

fn unix_address(path: &str) -> io::Result<net::SocketAddr> {
    match path.strip_prefix('@') {
        Some(name) => net::SocketAddr::from_abstract_name(name),
        None => net::SocketAddr::from_pathname(path),
    }
}

/// Removes the socket file that an earlier process left behind: one that refuses us, so nobody has it open.
fn make_way(address: &net::SocketAddr, connect: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let Some(path) = address.as_pathname() else { return Ok(()) };
    let is_socket = |path: &Path| path.symlink_metadata().is_ok_and(|file| file.file_type().is_socket());
    if is_socket(path) && connect().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}
