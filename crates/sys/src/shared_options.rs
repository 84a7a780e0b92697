//! Options of a socket that keep clients from whoever shares it, and that a process without any rights can set: whether
//! one is, and setting it back. The guard of the listeners asks. See socket(7), ip(7), ipv6(7), tcp(7) and udp(7).

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::socklen_t;
use rustix::io::Errno;

/// An option, by what it does when it is not as a new socket has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedOption {
    /// `SO_BINDTODEVICE`, `SO_BINDTOIFINDEX`: only what comes by one network device is taken.
    Device,
    /// `SO_ATTACH_FILTER`, `SO_ATTACH_BPF`: a filter decides what is taken.
    Filter,
    /// `SO_DONTROUTE`: nothing is sent by way of a gateway.
    DontRoute,
    /// `SO_RCVLOWAT`: nothing is reported before so much has come; accepted connections inherit it.
    LowWater,
    /// `SO_MAX_PACING_RATE`: not more is sent in a second; accepted connections inherit it.
    Pacing,
    /// `IP_TTL`: what is sent does not go far.
    Ttl,
    /// `IPV6_UNICAST_HOPS`: the same.
    Hops,
    /// `IP_MINTTL`: nothing is taken from afar.
    MinTtl,
    /// `IPV6_MINHOPCOUNT`: the same.
    MinHops,
    /// `IPV6_RTHDR`: what is sent goes by a way of one's own.
    RoutingHeader,
    /// `IP_UNICAST_IF`: what is sent goes by one network device.
    OutDevice,
    /// `IPV6_UNICAST_IF`: the same.
    OutDevice6,
    /// `UDP_CORK`: nothing is sent.
    Cork,
    /// `UDP_ENCAP`: the kernel takes some datagrams for itself.
    Encapsulation,
    /// `SO_REUSEADDR` of UDP: others may bind to the port and take the datagrams.
    Reuse,
    /// `SO_RCVBUF` of datagrams: most find no room.
    ReceiveBuffer,
    /// `SO_SNDBUF` of datagrams: large ones find no room.
    SendBuffer,
    /// `IPV6_DONTFRAG`: large datagrams are not sent.
    DontFragment,
    /// `TCP_CORK`: what is sent waits to be more; accepted connections inherit it.
    TcpCork,
    /// `SO_PASSRIGHTS`: peers cannot pass descriptors.
    NoRights,
    /// `SO_LINGER`: what a close finds unsent is lost; accepted connections inherit it.
    Linger,
    /// `SO_RCVTIMEO`: accept(2) and recv(2) give up.
    ReceiveTimeout,
    /// `SO_SNDTIMEO`: send(2) gives up.
    SendTimeout,
    /// `TCP_USER_TIMEOUT`: connections break soon; accepted ones inherit it.
    UserTimeout,
    /// `UDP_SEGMENT`: datagrams are sent in pieces.
    Segments,
    /// `UDP_NO_CHECK6_TX`: datagrams are sent without a sum, and dropped.
    NoSum,
}

/// Room for every value that is read.
const LARGEST: usize = 16;

/// How an option is read and set back.
struct Entry {
    level: c_int,
    name: c_int,
    /// Whether a value, as the kernel wrote it, does harm.
    harms: fn(&[u8]) -> bool,
    /// What sets it back.
    cure: &'static [u8],
}

/// Of `asm-generic/socket.h`, `linux/in.h`, `in6.h` and `udp.h`, as far as libc does not have them.
mod number {
    use std::ffi::c_int;

    pub const SO_BINDTOIFINDEX: c_int = 62;
    pub const SO_PASSRIGHTS: c_int = 83;
    pub const IP_UNICAST_IF: c_int = 50;
    pub const IPV6_MINHOPCOUNT: c_int = 73;
    pub const IPV6_UNICAST_IF: c_int = 76;
    pub const UDP_CORK: c_int = 1;
    pub const UDP_ENCAP: c_int = 100;
    pub const UDP_NO_CHECK6_TX: c_int = 101;
    pub const UDP_SEGMENT: c_int = 103;
    pub const SO_DETACH_FILTER: c_int = 27;
    pub const SO_GET_FILTER: c_int = 26;
}

const ZERO: &[u8] = &0i32.to_ne_bytes();
const ONE: &[u8] = &1i32.to_ne_bytes();
/// The system's default, or no limit.
const MINUS_ONE: &[u8] = &(-1i32).to_ne_bytes();
/// What is sent with less may not reach the other end of the world. The defaults of systems are 64 and more.
const SHORT_WAY: i32 = 64;
/// What is less has no room for a datagram of the largest size.
const SMALL_BUFFER: i32 = 65_536;
/// Doubled by the kernel, which makes it the usual default.
const USUAL_BUFFER: &[u8] = &106_496i32.to_ne_bytes();

impl SharedOption {
    /// Whether it is set, so that it does harm. What the kernel does not have, does none.
    pub fn does_harm(self, socket: BorrowedFd<'_>) -> bool {
        let Some(Entry { level, name, harms, .. }) = self.entry() else { return has_filter(socket) };
        let mut value = [0; LARGEST];
        get(socket, level, name, &mut value).is_ok_and(|length| harms(value.get(..length).unwrap_or_default()))
    }

    /// Sets it back, if it does harm. Whether it did.
    ///
    /// # Errors
    /// It cannot be set back: those of setsockopt(2).
    pub fn put_back(self, socket: BorrowedFd<'_>) -> Result<bool, Errno> {
        let Some(Entry { level, name, cure, .. }) = self.entry() else { return detach_filter(socket) };
        if !self.does_harm(socket) {
            return Ok(false);
        }
        set(socket, level, name, cure)?;
        // The kernel may have another opinion of what is right.
        Ok(!self.does_harm(socket))
    }

    /// None for the filter, which is not a value.
    fn entry(self) -> Option<Entry> {
        use libc::{
            IPPROTO_IP as IP, IPPROTO_IPV6 as IPV6, IPPROTO_TCP as TCP, IPPROTO_UDP as UDP, SOL_SOCKET as SOCKET,
        };
        let entry = |level, name, harms, cure| Some(Entry { level, name, harms, cure });
        let is_set: fn(&[u8]) -> bool = |value| value.iter().any(|byte| *byte != 0);
        match self {
            Self::Device => entry(SOCKET, number::SO_BINDTOIFINDEX, is_set, ZERO),
            Self::Filter => None,
            Self::DontRoute => entry(SOCKET, libc::SO_DONTROUTE, is_set, ZERO),
            Self::LowWater => entry(SOCKET, libc::SO_RCVLOWAT, |value| int(value) > 1, ONE),
            Self::Pacing => {
                entry(SOCKET, libc::SO_MAX_PACING_RATE, |value| value.iter().any(|byte| *byte != u8::MAX), MINUS_ONE)
            }
            Self::Ttl => entry(IP, libc::IP_TTL, |value| int(value) < SHORT_WAY, MINUS_ONE),
            Self::Hops => entry(IPV6, libc::IPV6_UNICAST_HOPS, |value| int(value) < SHORT_WAY, MINUS_ONE),
            Self::MinTtl => entry(IP, libc::IP_MINTTL, is_set, ZERO),
            Self::MinHops => entry(IPV6, number::IPV6_MINHOPCOUNT, is_set, ZERO),
            // It has no length where there is none.
            Self::RoutingHeader => entry(IPV6, libc::IPV6_RTHDR, |value| !value.is_empty(), &[]),
            Self::OutDevice => entry(IP, number::IP_UNICAST_IF, is_set, ZERO),
            Self::OutDevice6 => entry(IPV6, number::IPV6_UNICAST_IF, is_set, ZERO),
            Self::Cork => entry(UDP, number::UDP_CORK, is_set, ZERO),
            Self::Encapsulation => entry(UDP, number::UDP_ENCAP, is_set, ZERO),
            Self::Reuse => entry(SOCKET, libc::SO_REUSEADDR, is_set, ZERO),
            Self::ReceiveBuffer => entry(SOCKET, libc::SO_RCVBUF, |value| int(value) < SMALL_BUFFER, USUAL_BUFFER),
            Self::SendBuffer => entry(SOCKET, libc::SO_SNDBUF, |value| int(value) < SMALL_BUFFER, USUAL_BUFFER),
            Self::DontFragment => entry(IPV6, libc::IPV6_DONTFRAG, is_set, ZERO),
            Self::TcpCork => entry(TCP, libc::TCP_CORK, is_set, ZERO),
            Self::NoRights => entry(SOCKET, number::SO_PASSRIGHTS, |value| int(value) == 0, ONE),
            Self::Linger => entry(SOCKET, libc::SO_LINGER, |value| int(value) != 0, &[0; 8]),
            Self::ReceiveTimeout => entry(SOCKET, libc::SO_RCVTIMEO, is_set, &[0; size_of::<libc::timeval>()]),
            Self::SendTimeout => entry(SOCKET, libc::SO_SNDTIMEO, is_set, &[0; size_of::<libc::timeval>()]),
            Self::UserTimeout => entry(TCP, libc::TCP_USER_TIMEOUT, is_set, ZERO),
            Self::Segments => entry(UDP, number::UDP_SEGMENT, is_set, ZERO),
            Self::NoSum => entry(UDP, number::UDP_NO_CHECK6_TX, is_set, ZERO),
        }
    }
}

/// The first int of a value.
fn int(value: &[u8]) -> i32 {
    value.first_chunk().copied().map_or(0, i32::from_ne_bytes)
}

/// Whether there was one that is gone now. One that was locked (`SO_LOCK_FILTER`) cannot be detached: `EPERM`.
fn detach_filter(socket: BorrowedFd<'_>) -> Result<bool, Errno> {
    match set(socket, libc::SOL_SOCKET, number::SO_DETACH_FILTER, ZERO) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        // The lock alone does nothing.
        Err(Errno::PERM) if !has_filter(socket) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// A filter of the newer kind cannot be read, and the refusal tells of it.
fn has_filter(socket: BorrowedFd<'_>) -> bool {
    match get(socket, libc::SOL_SOCKET, number::SO_GET_FILTER, &mut []) {
        Ok(instructions) => instructions > 0,
        Err(errno) => errno == Errno::ACCESS,
    }
}

/// Reads an option of the table above. Returns the length that the kernel says it has.
fn get(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &mut [u8]) -> Result<usize, Errno> {
    let mut length = socklen_t::try_from(value.len()).unwrap_or(0);
    // SAFETY: the kernel writes at most `length` bytes, which the value has.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), level, name, value.as_mut_ptr().cast::<c_void>(), &raw mut length)
    };
    if result == 0 { Ok(usize::try_from(length).unwrap_or(0)) } else { Err(last_error()) }
}

/// Sets an option of the table above, none of which has a pointer in its value.
fn set(socket: BorrowedFd<'_>, level: c_int, name: c_int, value: &[u8]) -> Result<(), Errno> {
    let length = socklen_t::try_from(value.len()).unwrap_or(0);
    let pointer = if value.is_empty() { std::ptr::null() } else { value.as_ptr().cast::<c_void>() };
    // SAFETY: the kernel reads `length` bytes, which the value has.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, pointer, length) };
    if result == 0 { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> Errno {
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use super::*;

    const ALL: [SharedOption; 26] = [
        SharedOption::Device,
        SharedOption::Filter,
        SharedOption::DontRoute,
        SharedOption::LowWater,
        SharedOption::Pacing,
        SharedOption::Ttl,
        SharedOption::Hops,
        SharedOption::MinTtl,
        SharedOption::MinHops,
        SharedOption::RoutingHeader,
        SharedOption::OutDevice,
        SharedOption::OutDevice6,
        SharedOption::Cork,
        SharedOption::Encapsulation,
        SharedOption::Reuse,
        SharedOption::ReceiveBuffer,
        SharedOption::SendBuffer,
        SharedOption::DontFragment,
        SharedOption::TcpCork,
        SharedOption::NoRights,
        SharedOption::Linger,
        SharedOption::ReceiveTimeout,
        SharedOption::SendTimeout,
        SharedOption::UserTimeout,
        SharedOption::Segments,
        SharedOption::NoSum,
    ];

    /// The standard library has a listener of TCP reuse its address, which is right there.
    fn harmful(socket: impl AsFd, is_tcp: bool) -> Vec<SharedOption> {
        let of_datagrams = [SharedOption::Reuse, SharedOption::ReceiveBuffer, SharedOption::SendBuffer];
        let asked = ALL.into_iter().filter(|option| !is_tcp || !of_datagrams.contains(option));
        asked.filter(|option| option.does_harm(socket.as_fd())).collect()
    }

    #[test]
    fn a_new_socket_does_no_harm() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            assert_eq!(harmful(TcpListener::bind(address).unwrap(), true), []);
            assert_eq!(harmful(UdpSocket::bind(address).unwrap(), false), []);
        }
        assert_eq!(harmful(UnixDatagram::unbound().unwrap(), false), []);
        let path = std::env::temp_dir().join(format!("shared-options-{}", std::process::id()));
        assert_eq!(harmful(UnixListener::bind(&path).unwrap(), true), []);
        std::fs::remove_file(path).unwrap();
    }

    /// Sets what a process that has turned sets, and has it put back.
    fn restores(socket: impl AsFd, option: SharedOption, value: &[u8]) {
        let socket = socket.as_fd();
        let Entry { level, name, .. } = option.entry().unwrap();
        set(socket, level, name, value).unwrap();
        assert!(option.does_harm(socket), "{option:?}");
        assert_eq!(option.put_back(socket), Ok(true), "{option:?}");
        assert!(!option.does_harm(socket), "{option:?}");
        assert_eq!(option.put_back(socket), Ok(false), "{option:?}");
    }

    #[test]
    fn each_is_put_back() {
        let (v4, v6) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("[::1]:0").unwrap());
        let int = |value: i32| value.to_ne_bytes();
        for option in [SharedOption::Device, SharedOption::DontRoute, SharedOption::MinTtl, SharedOption::UserTimeout] {
            restores(&v4, option, ONE);
        }
        restores(&v4, SharedOption::LowWater, &int(5000));
        restores(&v4, SharedOption::Pacing, ONE);
        restores(&v4, SharedOption::Ttl, ONE);
        restores(&v4, SharedOption::TcpCork, ONE);
        restores(&v6, SharedOption::Hops, ONE);
        restores(&v6, SharedOption::MinHops, &int(255));
        // `struct ipv6_rt_hdr` of type 4 with two addresses.
        restores(&v6, SharedOption::RoutingHeader, &[&[0, 4, 4, 1, 1, 0, 0, 0][..], &[0xfd; 32]].concat());
        restores(&v4, SharedOption::Linger, &[int(1), int(0)].concat());
        let moment = [&0i64.to_ne_bytes()[..], &10_000i64.to_ne_bytes()].concat();
        restores(&v4, SharedOption::ReceiveTimeout, &moment);
        restores(&v4, SharedOption::SendTimeout, &moment);
        let (v4, v6) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("[::1]:0").unwrap());
        for option in [SharedOption::Cork, SharedOption::Reuse, SharedOption::ReceiveBuffer, SharedOption::Segments] {
            restores(&v4, option, ONE);
        }
        restores(&v4, SharedOption::OutDevice, &1i32.to_be_bytes());
        restores(&v6, SharedOption::OutDevice6, &1i32.to_be_bytes());
        restores(&v6, SharedOption::NoSum, ONE);
        restores(&v6, SharedOption::DontFragment, ONE);
        let unix = UnixDatagram::unbound().unwrap();
        restores(&unix, SharedOption::ReceiveTimeout, &moment);
    }

    fn attach(socket: impl AsFd) {
        let mut nothing = libc::sock_filter { code: 6, jt: 0, jf: 0, k: 0 };
        let program = libc::sock_fprog { len: 1, filter: &raw mut nothing };
        let length = socklen_t::try_from(size_of::<libc::sock_fprog>()).unwrap();
        let fd = socket.as_fd().as_raw_fd();
        // SAFETY: the program has one instruction, which lives during the call.
        let result = unsafe {
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const program).cast(), length)
        };
        assert_eq!(result, 0);
    }

    #[test]
    fn a_filter_is_detached_unless_it_is_locked() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        attach(&socket);
        assert!(SharedOption::Filter.does_harm(socket.as_fd()));
        assert_eq!(SharedOption::Filter.put_back(socket.as_fd()), Ok(true));
        assert_eq!(SharedOption::Filter.put_back(socket.as_fd()), Ok(false));
        set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_LOCK_FILTER, ONE).unwrap();
        assert_eq!(SharedOption::Filter.put_back(socket.as_fd()), Ok(false), "there is nothing that is locked");
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        attach(&socket);
        set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_LOCK_FILTER, ONE).unwrap();
        assert_eq!(SharedOption::Filter.put_back(socket.as_fd()), Err(Errno::PERM));
    }
}
