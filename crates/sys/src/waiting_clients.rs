//! Who waits to be accepted on a listener, one by one, asked over netlink: see sock_diag(7). The guards of the listeners
//! compare two such lists to tell a server that is slow from one that never accepts.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType, getsockname, netlink, recv, send,
    socket_with,
};

/// `SOCK_DIAG_BY_FAMILY`, the kind of a question and of its answers.
const BY_FAMILY: u16 = 20;
/// `NLMSG_ERROR` and `NLMSG_DONE`, the kinds of what ends an answer.
const REFUSAL: u16 = 2;
const DONE: u16 = 3;
/// `NLM_F_REQUEST`, and with `NLM_F_DUMP`.
const ONE: u16 = 1;
const ALL: u16 = 0x301;
/// `struct nlmsghdr`
const HEADER: usize = 16;
/// The kernel's answers come in pieces of up to so many bytes.
const PIECE: usize = 32 * 1024;

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
    let address = std::net::SocketAddr::try_from(address).map_err(|_| strange())?;
    let (family, at) = match address.ip() {
        std::net::IpAddr::V4(ip) => (AddressFamily::INET, ip.octets().to_vec()),
        std::net::IpAddr::V6(ip) => (AddressFamily::INET6, ip.octets().to_vec()),
    };
    let kernel = ask(&tcp_question(family, address.port()))?;
    let mut connections = Vec::new();
    read_answer(&kernel, |connection| {
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
    // The first piece of an answer to all is as long as the longest that was read before: so one is read before.
    let kernel = ask(&unix_question(ONE, inode))?;
    recv(&kernel, &mut vec![0; PIECE][..], RecvFlags::empty())?;
    send(&kernel, &unix_question(ALL, inode), SendFlags::empty())?;
    let mut waiting = None;
    read_answer(&kernel, |socket| {
        if word(socket, INODE) != Some(inode) {
            return;
        }
        let mut attributes = socket.get(LENGTH..).unwrap_or_default();
        let mut clients = Vec::new();
        while let (Some(length), Some(kind)) = (half(attributes, 0), half(attributes, 2)) {
            let length = usize::from(length).max(4);
            if kind == CLIENTS {
                let list = attributes.get(4..length).unwrap_or_default();
                clients = list.chunks_exact(4).filter_map(|entry| word(entry, 0)).map(u64::from).collect();
            }
            attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        clients.retain(|client| *client != 0);
        waiting = Some(clients);
    })?;
    waiting.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the kernel's answer leaves this unix socket out"))
}

fn ask(question: &[u8]) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))?;
    send(&kernel, question, SendFlags::empty())?;
    Ok(kernel)
}

/// `struct nlmsghdr` and `struct inet_diag_req_v2`, in the byte order of the machine; the port in that of the network.
fn tcp_question(family: AddressFamily, port: u16) -> Vec<u8> {
    const LENGTH: u32 = 72;
    const TCP: u8 = 6;
    /// `TCP_ESTABLISHED` and `TCP_CLOSE_WAIT`: connections that are complete and those that the client has ended.
    const STATES: u32 = 1 << 1 | 1 << 8;
    let mut text = header(LENGTH, ALL);
    text.extend([u8::try_from(family.as_raw()).unwrap_or(0), TCP, 0, 0]);
    text.extend(STATES.to_ne_bytes());
    text.extend(port.to_be_bytes());
    text.resize(LENGTH as usize, 0);
    text
}

/// `struct nlmsghdr` and `struct unix_diag_req`.
fn unix_question(kind: u16, inode: u32) -> Vec<u8> {
    const LENGTH: u32 = 40;
    const ANY_COOKIE: u32 = u32::MAX;
    /// `UDIAG_SHOW_ICONS` and, where nothing is known of the others, `UDIAG_SHOW_RQLEN`.
    const SHOW_CLIENTS: u32 = 0x08;
    const SHOW_LENGTH: u32 = 0x10;
    /// `TCP_LISTEN`, which unix sockets have as well.
    const LISTENING: u32 = 1 << 10;
    let mut text = header(LENGTH, kind);
    text.extend([u8::try_from(AddressFamily::UNIX.as_raw()).unwrap_or(1), 0, 0, 0]);
    let show = if kind == ALL { SHOW_CLIENTS } else { SHOW_LENGTH };
    for word in [LISTENING, inode, show, ANY_COOKIE, ANY_COOKIE] {
        text.extend(word.to_ne_bytes());
    }
    text
}

fn header(length: u32, kind: u16) -> Vec<u8> {
    let mut text = length.to_ne_bytes().to_vec();
    text.extend([BY_FAMILY.to_ne_bytes(), kind.to_ne_bytes()].concat());
    text.extend([0; 8]);
    text
}

/// Reads all pieces of an answer and hands on the body of each message.
fn read_answer(kernel: &OwnedFd, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer about sockets is strange");
    let mut space = vec![0; PIECE];
    loop {
        let (length, _) = recv(kernel, &mut space[..], RecvFlags::empty())?;
        let mut text = space.get(..length).unwrap_or_default();
        while let (Some(length), Some(kind)) = (word(text, 0), half(text, 4)) {
            let length = length as usize;
            match kind {
                DONE => return Ok(()),
                REFUSAL => {
                    let negative = word(text, HEADER).ok_or_else(strange)?.cast_signed();
                    return Err(io::Error::from_raw_os_error(negative.saturating_neg()));
                }
                BY_FAMILY => each(text.get(HEADER..length).ok_or_else(strange)?),
                _ => return Err(strange()),
            }
            text = text.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

fn half(text: &[u8], at: usize) -> Option<u16> {
    text.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

fn word(text: &[u8], at: usize) -> Option<u32> {
    text.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
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
