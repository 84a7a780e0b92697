//! What `--port`, `--path` and `--listen` ask for: the addresses to listen on, and how. Each option has its grammar in
//! a file of its own; the command line calls the parsers, and the listeners are bound from the result.

mod listener;
mod options;
mod path;
mod port;

use std::ffi::OsString;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

pub use self::listener::{is_name, parse_listener};
pub use self::options::{
    Account, KeepAlive, ListenOptions, parse_account, parse_defer_accept, parse_fastopen, parse_keepalive,
};
pub use self::options::{DEFAULT_BACKLOG, parse_backlog, parse_switch};
pub use self::path::parse_paths;
pub use self::port::parse_ports;

/// One listener as the user asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSpec {
    /// The address as typed, which is the left side of its entry in `SERVER_STARTER_PORT`.
    pub spelling: OsString,
    /// What the user calls it, if anything: letters, digits, and `.`, `_`, `-`; not all digits.
    pub name: Option<String>,
    /// Where to listen.
    pub address: ListenAddress,
    /// The descriptor that the server program is to find it at, if the user fixed one (`=FD`).
    pub descriptor: Option<i32>,
    /// How to listen.
    pub options: ListenOptions,
}

/// An address of one of the four kinds that can be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP port.
    Tcp(HostPort),
    /// A UDP port (`u` before the number).
    Udp(HostPort),
    /// A unix stream socket.
    Unix(UnixAddress),
    /// A unix datagram socket.
    UnixDatagram(UnixAddress),
}

/// A port on a host. Port 0 leaves the choice to the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The addresses of this machine to listen on.
    pub host: Host,
    /// The port number.
    pub port: u16,
}

/// The host part of a port specification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// All IPv4 addresses (`8000`, `:8000`, `*:8000`).
    AnyV4,
    /// One IPv4 address.
    V4(Ipv4Addr),
    /// One IPv6 address.
    V6(Ipv6Addr),
    /// A name that is still to be resolved, to its first IPv4 address. Short forms such as `127.1` are names as well.
    Name(String),
}

/// Where a unix socket is found; see unix(7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnixAddress {
    /// At this path, as typed.
    Path(PathBuf),
    /// Under this name, without a file.
    Abstract(Vec<u8>),
}

/// The longest path that fits into a unix socket address, in bytes: `sun_path` less its closing zero (unix(7)).
pub const LONGEST_PATH: usize = 107;

/// A listener that was not specified as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSpecError {
    option: &'static str,
    value: OsString,
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    NotUtf8,
    Grammar,
    PortTooHigh,
    DescriptorTooHigh,
    NotIpv6,
    ZoneId,
    MappedV4,
    EmptyPath,
    PathTooLong { length: usize },
    EmptyName,
    BadName,
    UnknownKey(String),
    BadValue { key: &'static str, value: String, expected: &'static str },
    NotFor { key: &'static str, what: &'static str },
}

impl fmt::Display for ListenSpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid ``{}'' value:{}: ", self.option, self.value.display())?;
        match &self.why {
            Why::NotUtf8 => f.write_str("it is not valid UTF-8"),
            Why::Grammar => f.write_str(
                "expected PORT, HOST:PORT or [IPv6 ADDRESS]:PORT, each with u before the number for UDP and =FD after \
                 it to fix the descriptor, and commas between several",
            ),
            Why::PortTooHigh => f.write_str("expected a port from 0 to 65535"),
            Why::DescriptorTooHigh => write!(f, "expected a descriptor from 0 to {}", i32::MAX),
            Why::NotIpv6 => f.write_str(
                "expected an IPv6 address before the port, because there is a colon in it, such as [::1]:8000",
            ),
            Why::ZoneId => f.write_str("expected an IPv6 address without a zone (%...), which is not supported"),
            Why::MappedV4 => {
                f.write_str("expected the IPv4 address itself, because IPv6 sockets are bound for IPv6 only")
            }
            Why::EmptyName => f.write_str("expected a name for the abstract socket after the @"),
            Why::BadName => f.write_str(
                "expected a name of letters, digits, and . _ - only, of at most 255 characters and not all digits",
            ),
            Why::UnknownKey(key) => write!(f, "there is no {key}; known are {}", listener::KEYS.join(", ")),
            Why::BadValue { key, value, expected } => write!(f, "{key}={value} makes no sense; {expected}"),
            Why::NotFor { key, what } => write!(f, "{key} is for {what} only"),
            Why::EmptyPath => f.write_str("expected the path of a unix socket, or several with commas between them"),
            Why::PathTooLong { length } => write!(
                f,
                "expected a path of at most {LONGEST_PATH} bytes, the limit for unix sockets; this one has {length}"
            ),
        }
    }
}

impl std::error::Error for ListenSpecError {}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a case expects in short: spelling, address, descriptor; or a part of the error.
    pub(super) fn summary(specs: Result<Vec<ListenSpec>, ListenSpecError>) -> String {
        match specs {
            Ok(specs) => specs.iter().map(one).collect::<Vec<_>>().join("; "),
            Err(error) => format!("error: {error}"),
        }
    }

    pub(super) fn one(spec: &ListenSpec) -> String {
        let address = match &spec.address {
            ListenAddress::Tcp(HostPort { host, port }) => format!("tcp {} {port}", host_text(host)),
            ListenAddress::Udp(HostPort { host, port }) => format!("udp {} {port}", host_text(host)),
            ListenAddress::Unix(at) => format!("unix {}", unix_text(at)),
            ListenAddress::UnixDatagram(at) => format!("unix-dgram {}", unix_text(at)),
        };
        let descriptor = spec.descriptor.map_or(String::new(), |fd| format!(" fd {fd}"));
        format!("{} -> {address}{descriptor}", spec.spelling.display())
    }

    fn host_text(host: &Host) -> String {
        match host {
            Host::AnyV4 => "any".to_owned(),
            Host::V4(address) => address.to_string(),
            Host::V6(address) => address.to_string(),
            Host::Name(name) => format!("name({name})"),
        }
    }

    fn unix_text(at: &UnixAddress) -> String {
        match at {
            UnixAddress::Path(path) => path.display().to_string(),
            UnixAddress::Abstract(name) => format!("abstract({})", String::from_utf8_lossy(name)),
        }
    }
}
