//! Who holds a port: the processes that /proc shows to have a socket on it. `listeners` asks when a port is taken, so
//! that the error can name what to stop.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

pub use sys::inet_sockets::Protocol;
use sys::inet_sockets::bound_to;
use sys::process_tree;

use crate::orphans::holders_of;
use crate::printable::printable;

/// A process that holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its PID.
    pub pid: i32,
    /// Its short name, as ps(1) shows it.
    pub name: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (pid {})", self.name, self.pid)
    }
}

/// The processes whose sockets keep `address` from being bound, as far as this user may see them.
pub fn holders(protocol: Protocol, address: SocketAddr) -> Vec<Holder> {
    let sockets = sockets(protocol, address);
    if sockets.is_empty() { Vec::new() } else { processes_with(&sockets) }
}

/// The sockets that keep `address` from being bound, by their inodes.
pub fn sockets(protocol: Protocol, address: SocketAddr) -> Vec<u64> {
    if let Ok(bound) = bound_to(protocol, address.port()) {
        let in_the_way = bound.iter().filter(|socket| is_same_place(socket.address, address));
        return in_the_way.map(|socket| socket.inode).collect();
    }
    // A kernel that does not answer questions prints tables.
    let tables = match protocol {
        Protocol::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Protocol::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    };
    tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .flat_map(|table| conflicting_sockets(&table, protocol, address))
        .collect()
}

/// The inodes of the sockets of a table that conflict with the address. For the format see proc_pid_net(5).
fn conflicting_sockets(table: &str, protocol: Protocol, address: SocketAddr) -> Vec<u64> {
    const LISTENING: &str = "0A";
    let conflicts = |line: &str| {
        let mut columns = line.split_ascii_whitespace();
        let local = parse_address(columns.nth(1)?)?;
        let state = columns.nth(1)?;
        let inode = columns.nth(5)?.parse().ok()?;
        let counts = protocol == Protocol::Udp || state == LISTENING;
        (is_same_place(local, address) && counts).then_some(inode)
    };
    table.lines().filter_map(conflicts).collect()
}

/// Whether a socket that is bound to `bound` keeps another from `wanted`.
fn is_same_place(bound: SocketAddr, wanted: SocketAddr) -> bool {
    let same_host =
        bound.ip().is_unspecified() || wanted.ip().is_unspecified() || bound.ip() == wanted.ip().to_canonical();
    bound.port() == wanted.port() && same_host
}

/// Reads `0100007F:1F90`: the address in words of the machine's byte order, the port as a plain number.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let words: Option<Vec<[u8; 4]>> = host
        .as_bytes()
        .chunks(8)
        .map(|word| Some(u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?.to_ne_bytes()))
        .collect();
    let bytes = words?.concat();
    let host = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(v4) => IpAddr::V4(Ipv4Addr::from(v4)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical(),
    };
    Some(SocketAddr::new(host, u16::from_str_radix(port, 16).ok()?))
}

fn processes_with(sockets: &[u64]) -> Vec<Holder> {
    let mut pids: Vec<i32> = holders_of(sockets).into_iter().map(|holder| holder.pid).collect();
    pids.sort_unstable();
    pids.into_iter()
        .map(|pid| Holder { pid, name: printable(&process_tree::name(pid).unwrap_or_default()).into_owned() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    fn is_held_by_us(protocol: Protocol, address: SocketAddr) -> bool {
        holders(protocol, address)
            .iter()
            .any(|holder| i64::from(holder.pid) == i64::from(std::process::id()) && !holder.name.is_empty())
    }

    #[test]
    fn the_holder_of_a_port_is_found() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert!(!is_held_by_us(Protocol::Tcp, tcp), "nobody has it any more");
        for (bound, asked) in
            [("127.0.0.1", "127.0.0.1"), ("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1"), ("::1", "::1")]
        {
            let asked: IpAddr = asked.parse().unwrap();
            let tcp = TcpListener::bind((bound, 0)).unwrap();
            let udp = UdpSocket::bind((bound, 0)).unwrap();
            let asked_tcp = SocketAddr::new(asked, tcp.local_addr().unwrap().port());
            let asked_udp = SocketAddr::new(asked, udp.local_addr().unwrap().port());
            assert!(is_held_by_us(Protocol::Tcp, asked_tcp), "{bound} {asked}");
            assert!(is_held_by_us(Protocol::Udp, asked_udp), "{bound} {asked}");
        }
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let printed = fs::read_to_string("/proc/net/tcp").unwrap();
        assert_eq!(conflicting_sockets(&printed, Protocol::Tcp, address), sockets(Protocol::Tcp, address));
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        assert!(!is_held_by_us(Protocol::Tcp, SocketAddr::from(([127, 0, 0, 2], elsewhere))));
    }

    #[test]
    fn tables_that_are_not_as_expected_name_nobody() {
        let address = SocketAddr::from(([127, 0, 0, 1], 80));
        for table in ["", "nonsense", "0: x:y 0:0 0A", "0: 0100007F:0050 0:0 0A 0 0 0 0"] {
            assert!(conflicting_sockets(table, Protocol::Tcp, address).is_empty(), "{table}");
        }
        assert_eq!(parse_address("0100007F"), None);
        assert_eq!(parse_address("0100007F0100007F:50"), None);
    }
}
