//! How many connections wait to be accepted on a listener. The status that a superdaemon shows is made with it.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// An accept queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenQueue {
    /// Connections that are complete and wait for an accept(2).
    pub waiting: u32,
    /// As many may wait; the kernel may have given less than was asked for, see `net.core.somaxconn`.
    pub backlog: u32,
}

/// The accept queue of a listening TCP socket: of `TCP_INFO`, which for a listener has other meanings than its
/// fields' names say (Linux, `net/ipv4/tcp.c`, `tcp_get_info`).
///
/// # Errors
/// The socket is none of TCP.
pub fn of_tcp(listener: impl AsFd) -> io::Result<ListenQueue> {
    // SAFETY: the structure consists of integers only, for which all bits zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, and the kernel writes at most `length` bytes, which `info` has.
    let result = unsafe {
        libc::getsockopt(
            listener.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(ListenQueue { waiting: info.tcpi_unacked, backlog: info.tcpi_sacked })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn counts_those_who_wait() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let clients: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
        assert_eq!(of_tcp(&listener).unwrap().waiting, 3);
        let accepted = listener.accept().unwrap();
        let queue = of_tcp(&listener).unwrap();
        assert_eq!((queue.waiting, queue.backlog >= 3), (2, true));
        drop((clients, accepted));
    }

    #[test]
    fn only_tcp_has_one() {
        assert!(of_tcp(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).is_err());
    }
}
