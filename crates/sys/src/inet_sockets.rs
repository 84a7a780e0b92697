//! Which sockets are bound to a port, asked over netlink: see sock_diag(7), and `net/ipv4/inet_diag.c` of Linux. A
//! superdaemon that finds a port taken asks here. The tables in /proc/net say the same, but it takes a tenth of a second
//! to print them on a machine with some ten thousand connections.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::socket_diag::{dump, word};

/// What a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP: only sockets that listen are told.
    Tcp,
    /// UDP: every bound socket is told.
    Udp,
}

/// A bound socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InetSocket {
    /// Where it is bound. IPv4 in IPv6 clothes is undressed.
    pub address: SocketAddr,
    /// The user that made it.
    pub user: u32,
    /// Its inode, as in `/proc/PID/fd`.
    pub inode: u64,
}

/// The sockets of our network namespace that are bound to this port, on whatever address.
///
/// # Errors
/// The kernel was built without `CONFIG_INET_DIAG` or `CONFIG_INET_UDP_DIAG`, or there are no descriptors.
pub fn bound_to(protocol: Protocol, port: u16) -> io::Result<Vec<InetSocket>> {
    let mut found = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        dump(&question(family, protocol, port), |text| found.extend(socket(text)))?;
    }
    found.retain(|socket| socket.address.port() == port);
    Ok(found)
}

/// `struct inet_diag_req_v2`, in the byte order of the machine, ports in that of the network.
fn question(family: i32, protocol: Protocol, port: u16) -> Vec<u8> {
    /// `TCP_LISTEN` as a bit.
    const LISTENING: u32 = 1 << 10;
    let (protocol, states) = match protocol {
        Protocol::Tcp => (libc::IPPROTO_TCP, LISTENING),
        Protocol::Udp => (libc::IPPROTO_UDP, u32::MAX),
    };
    let mut text: Vec<u8> = [family, protocol, 0, 0].iter().filter_map(|byte| u8::try_from(*byte).ok()).collect();
    text.extend(states.to_ne_bytes());
    text.extend(port.to_be_bytes());
    // Any peer, address and interface; and no cookie.
    text.extend([0; 38]);
    text.extend([u8::MAX; 8]);
    text
}

/// Reads `struct inet_diag_msg`.
fn socket(text: &[u8]) -> Option<InetSocket> {
    let port = u16::from_be_bytes(*text.get(4..)?.first_chunk()?);
    let address: [u8; 16] = *text.get(8..)?.first_chunk()?;
    let address = if i32::from(*text.first()?) == libc::AF_INET {
        IpAddr::V4(Ipv4Addr::from(*address.first_chunk::<4>()?))
    } else {
        IpAddr::V6(Ipv6Addr::from(address)).to_canonical()
    };
    Some(InetSocket { address: SocketAddr::new(address, port), user: word(text, 64)?, inode: word(text, 68)?.into() })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::fd::AsFd;

    use super::*;

    fn expected(socket: impl AsFd, address: SocketAddr) -> InetSocket {
        let user = rustix::process::geteuid().as_raw();
        InetSocket { address, user, inode: rustix::fs::fstat(socket).unwrap().st_ino }
    }

    #[test]
    fn listeners_are_told_and_connections_are_not() {
        for host in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(host).unwrap();
            let address = listener.local_addr().unwrap();
            let _client = TcpStream::connect(address).unwrap();
            let _accepted = listener.accept().unwrap();
            assert_eq!(bound_to(Protocol::Tcp, address.port()).unwrap(), [expected(&listener, address)]);
            drop(listener);
            assert!(bound_to(Protocol::Tcp, address.port()).unwrap().is_empty());
        }
    }

    #[test]
    fn datagram_sockets_are_told() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        assert_eq!(bound_to(Protocol::Udp, address.port()).unwrap(), [expected(&socket, address)]);
        socket.connect(address).unwrap();
        assert_eq!(bound_to(Protocol::Udp, address.port()).unwrap(), [expected(&socket, address)]);
        assert!(bound_to(Protocol::Tcp, address.port()).unwrap().is_empty());
    }
}
