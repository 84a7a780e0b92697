//! Options of TCP sockets that no crate in use wraps; see tcp(7). The listeners are given them when they are made.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::io::Errno;

/// Lets connections be accepted only once they have sent something, or after `seconds`; 0 turns that off. The kernel
/// rounds up to its own steps (1, 3, 7, 15, ... seconds).
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_defer_accept(socket: BorrowedFd<'_>, seconds: u32) -> Result<(), Errno> {
    set(socket, libc::TCP_DEFER_ACCEPT, seconds)
}

/// Lets as many connections send data before they are established; 0 turns that off.
///
/// # Errors
/// Those of setsockopt(2).
pub fn set_fastopen(socket: BorrowedFd<'_>, queue: u32) -> Result<(), Errno> {
    set(socket, libc::TCP_FASTOPEN, queue)
}

fn set(socket: BorrowedFd<'_>, option: c_int, value: u32) -> Result<(), Errno> {
    let value = c_int::try_from(value).unwrap_or(c_int::MAX);
    let length = libc::socklen_t::try_from(size_of::<c_int>()).unwrap_or(0);
    // SAFETY: the kernel reads one int, which lives during the call.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, (&raw const value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    use super::*;

    fn get(socket: &TcpListener, option: c_int) -> c_int {
        let mut value: c_int = -1;
        let mut length = libc::socklen_t::try_from(size_of::<c_int>()).unwrap();
        // SAFETY: the kernel writes at most one int, into ours.
        let result = unsafe {
            let value = (&raw mut value).cast();
            libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, option, value, &raw mut length)
        };
        assert_eq!(result, 0);
        value
    }

    #[test]
    fn options_are_set_and_taken_back() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        set_defer_accept(socket.as_fd(), 3).unwrap();
        set_fastopen(socket.as_fd(), 16).unwrap();
        assert_eq!((get(&socket, libc::TCP_DEFER_ACCEPT), get(&socket, libc::TCP_FASTOPEN)), (3, 16));
        set_defer_accept(socket.as_fd(), 0).unwrap();
        assert_eq!(get(&socket, libc::TCP_DEFER_ACCEPT), 0);
    }

    #[test]
    fn another_kind_of_socket_has_no_such_option() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert!(set_defer_accept(socket.as_fd(), 1).is_err());
    }
}
