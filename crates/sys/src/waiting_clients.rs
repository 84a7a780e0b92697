//! Who waits to be accepted on a listener, one by one, asked over netlink: see sock_diag(7). The guards of the listeners
//! compare two such lists to tell a server that is slow from one that never accepts.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use rustix::net::{AddressFamily, SocketAddrAny, getsockname};

use crate::socket_diag::{attribute, dump, dump_at_length, word};

/// Those who wait on a listening TCP socket of our network namespace, by the cookies of their connections, which the
/// kernel never gives twice. The kernel's table of all connections is gone through for it, which takes milliseconds
/// where that is large. Never blocks.
///
/// # Errors
/// The socket is none of TCP, or the kernel was built without `CONFIG_INET_DIAG`, or there are no descriptors.
pub fn of_tcp(listener: impl AsFd) -> io::Result<Vec<u64>> {
    // What was accepted has an inode; until then there is no file.
    let connections = tcp_connections(listener)?.into_iter();
    Ok(connections.filter(|connection| connection.inode == 0).map(|connection| connection.cookie).collect())
}

/// The connections that were accepted on a listening TCP socket and are not closed, by the inodes of their sockets.
///
/// # Errors
/// As [`of_tcp`].
pub fn accepted_on_tcp(listener: impl AsFd) -> io::Result<Vec<u64>> {
    let connections = tcp_connections(listener)?.into_iter();
    Ok(connections.map(|connection| connection.inode.into()).filter(|inode| *inode != 0).collect())
}

struct TcpConnection {
    cookie: u64,
    inode: u32,
}

fn tcp_connections(listener: impl AsFd) -> io::Result<Vec<TcpConnection>> {
    // Of `struct inet_diag_msg`.
    const SOURCE: usize = 8;
    const COOKIE: usize = 44;
    const INODE: usize = 68;
    let strange = || io::Error::new(io::ErrorKind::InvalidInput, "this is no TCP socket");
    let address: SocketAddrAny = getsockname(listener)?;
    let address = SocketAddr::try_from(address).map_err(|_| strange())?;
    let (family, at) = match address.ip() {
        IpAddr::V4(ip) => (AddressFamily::INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (AddressFamily::INET6, ip.octets().to_vec()),
    };
    let mut connections = Vec::new();
    dump(&tcp_question(family, address.port()), |connection| {
        let source = connection.get(SOURCE..SOURCE + at.len());
        let is_here = address.ip().is_unspecified() || source == Some(&at);
        if let (true, Some(cookie), Some(inode)) = (is_here, double(connection, COOKIE), word(connection, INODE)) {
            connections.push(TcpConnection { cookie, inode });
        }
    })?;
    Ok(connections)
}

/// Those who wait on a listening unix socket of our network namespace, by the inodes of their sockets; not those who
/// have closed theirs meanwhile. Never blocks.
///
/// # Errors
/// The socket is no listening unix socket, or the kernel was built without `CONFIG_UNIX_DIAG`, or there are no
/// descriptors, or more wait than fit into an answer, some thousands.
pub fn of_unix(listener: impl AsFd) -> io::Result<Vec<u64>> {
    /// Of `struct unix_diag_msg`.
    const INODE: usize = 4;
    const LENGTH: usize = 16;
    /// `UNIX_DIAG_ICONS`
    const CLIENTS: u16 = 3;
    let inode = u32::try_from(rustix::fs::fstat(&listener)?.st_ino).map_err(io::Error::other)?;
    let mut waiting = None;
    dump_at_length(&unix_question(inode), |socket| {
        if word(socket, INODE) == Some(inode) {
            let clients =
                socket.get(LENGTH..).and_then(|attributes| attribute(attributes, CLIENTS)).unwrap_or_default();
            let clients = clients.chunks_exact(4).filter_map(|client| word(client, 0)).map(u64::from);
            waiting = Some(clients.filter(|client| *client != 0).collect());
        }
    })?;
    waiting.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the kernel's answer leaves this unix socket out"))
}

/// `struct inet_diag_req_v2`, in the byte order of the machine; the port in that of the network.
fn tcp_question(family: AddressFamily, port: u16) -> Vec<u8> {
    const TCP: u8 = 6;
    /// `TCP_ESTABLISHED` and `TCP_CLOSE_WAIT`: connections that are complete and those that the client has ended.
    const STATES: u32 = 1 << 1 | 1 << 8;
    let mut text = vec![u8::try_from(family.as_raw()).unwrap_or(0), TCP, 0, 0];
    text.extend(STATES.to_ne_bytes());
    text.extend(port.to_be_bytes());
    // Any peer, address and interface; and a cookie, at which nobody looks who asks for all.
    text.extend([0; 46]);
    text
}

/// `struct unix_diag_req`
fn unix_question(inode: u32) -> Vec<u8> {
    const ANY_COOKIE: u32 = u32::MAX;
    /// `UDIAG_SHOW_ICONS`
    const SHOW_CLIENTS: u32 = 0x08;
    /// `TCP_LISTEN`, which unix sockets have as well.
    const LISTENING: u32 = 1 << 10;
    let mut text = vec![u8::try_from(AddressFamily::UNIX.as_raw()).unwrap_or(1), 0, 0, 0];
    for word in [LISTENING, inode, SHOW_CLIENTS, ANY_COOKIE, ANY_COOKIE] {
        text.extend(word.to_ne_bytes());
    }
    text
}

fn double(text: &[u8], at: usize) -> Option<u64> {
    text.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    use super::*;

    #[test]
    fn tcp_clients_are_told_apart() {
        for at in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"] {
            let listener = TcpListener::bind(at).unwrap();
            let address =
                (if at.starts_with('[') { "::1" } else { "127.0.0.1" }, listener.local_addr().unwrap().port());
            assert_eq!(of_tcp(&listener).unwrap(), [], "{at}");
            let mut clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
            let before = of_tcp(&listener).unwrap();
            assert_eq!(before.len(), 3, "{at}");
            let accepted = listener.accept().unwrap();
            // One that has given up waits all the same.
            drop(clients.pop());
            clients.push(TcpStream::connect(address).unwrap());
            let after = of_tcp(&listener).unwrap();
            assert_eq!(after.len(), 3, "{at}");
            assert_eq!(before.iter().filter(|client| after.contains(client)).count(), 2, "{at}");
            let inode = rustix::fs::fstat(&accepted.0).unwrap().st_ino;
            assert_eq!(accepted_on_tcp(&listener).unwrap(), [inode], "{at}");
            drop((clients, accepted));
        }
    }

    fn unix_listener(line: u32) -> (UnixListener, SocketAddr) {
        let name = format!("waiting_clients-{}-{line}", std::process::id());
        let address = SocketAddr::from_abstract_name(name).unwrap();
        (UnixListener::bind_addr(&address).unwrap(), address)
    }

    #[test]
    fn unix_clients_are_told_apart() {
        let (listener, address) = unix_listener(line!());
        assert_eq!(of_unix(&listener).unwrap(), []);
        let mut clients: Vec<_> = (0..3).map(|_| UnixStream::connect_addr(&address).unwrap()).collect();
        let before = of_unix(&listener).unwrap();
        assert_eq!(before.len(), 3);
        let accepted = listener.accept().unwrap();
        clients.push(UnixStream::connect_addr(&address).unwrap());
        let after = of_unix(&listener).unwrap();
        assert_eq!(after.len(), 3);
        assert_eq!(before.iter().filter(|client| after.contains(client)).count(), 2);
        drop(clients.pop());
        assert_eq!(of_unix(&listener).unwrap().len(), 2, "who has gone is not seen");
        drop((clients, accepted));
    }

    #[test]
    fn two_thousand_unix_clients_are_seen() {
        const MANY: usize = 2000;
        let (listener, address) = unix_listener(line!());
        rustix::net::listen(&listener, 4000).unwrap();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        let raised = rustix::process::Rlimit { current: limit.maximum, ..limit };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).unwrap();
        if limit.maximum.is_some_and(|limit| limit < 2 * MANY as u64) {
            return;
        }
        let clients: Vec<_> = (0..MANY).map(|_| UnixStream::connect_addr(&address).unwrap()).collect();
        assert_eq!(of_unix(&listener).unwrap().len(), MANY);
        drop(clients);
    }

    #[test]
    fn other_sockets_are_refused() {
        assert!(of_unix(TcpListener::bind("127.0.0.1:0").unwrap()).is_err());
        let (listener, _) = unix_listener(line!());
        assert!(of_tcp(&listener).is_err());
    }
}
