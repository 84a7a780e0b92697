//! What `--port` and `--path` ask for: the addresses to listen on, under the names that the server program will see.
//! The command line calls the two parsers; the listeners are bound from the result.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// One listener as the user asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSpec {
    /// The left side of its entry in `SERVER_STARTER_PORT`.
    pub name: OsString,
    /// Where to listen.
    pub address: ListenAddress,
    /// The descriptor that the server program is to find it at, if the user fixed one (`=FD`).
    pub descriptor: Option<i32>,
}

/// An address of one of the three kinds that can be listened on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    /// A TCP port.
    Tcp(HostPort),
    /// A UDP port (`u` before the number).
    Udp(HostPort),
    /// A unix stream socket at this path, as typed.
    Unix(PathBuf),
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
    /// One IPv6 address, for IPv6 only.
    V6(Ipv6Addr),
    /// A name that is still to be resolved, to its first IPv4 address. Short forms such as `127.1` are names as well.
    Name(String),
}

/// The longest path that fits into a unix socket address, in bytes: `sun_path` less its closing zero (unix(7)).
const LONGEST_PATH: usize = 107;

/// Reads the value of one `--port`: a specification, or several with commas between them.
///
/// The grammar is that of Server::Starter, `[HOST:][u]PORT[=FD]` with blanks around it and brackets around the host
/// where wanted; `:PORT` and `*:PORT` are accepted as in its Ruby and Go ports.
///
/// # Errors
///
/// An item that does not follow the grammar, a port above 65535, or an IPv6 address that is none.
pub fn parse_ports(value: &OsStr) -> Result<Vec<ListenSpec>, ListenSpecError> {
    let invalid = |item: &str, why| ListenSpecError { option: "port", value: OsString::from(item), why };
    let Some(text) = value.to_str() else {
        return Err(ListenSpecError { option: "port", value: value.to_owned(), why: Why::NotUtf8 });
    };
    text.split(',').map(|item| parse_port(item).map_err(|why| invalid(item, why))).collect()
}

/// Reads the value of one `--path`: a path, or several with commas between them. A path may hold any other character.
///
/// # Errors
///
/// A path that is empty or too long for a unix socket.
pub fn parse_paths(value: &OsStr) -> Result<Vec<ListenSpec>, ListenSpecError> {
    value.as_bytes().split(|byte| *byte == b',').map(|path| parse_path(OsStr::from_bytes(path))).collect()
}

fn parse_path(path: &OsStr) -> Result<ListenSpec, ListenSpecError> {
    let why = match path.len() {
        0 => Why::EmptyPath,
        1..=LONGEST_PATH => {
            let address = ListenAddress::Unix(PathBuf::from(path));
            return Ok(ListenSpec { name: path.to_owned(), address, descriptor: None });
        }
        length => Why::PathTooLong { length },
    };
    Err(ListenSpecError { option: "path", value: path.to_owned(), why })
}

fn parse_port(item: &str) -> Result<ListenSpec, Why> {
    let item = item.trim_matches(is_blank);
    // What follows the host holds no colon, so the last colon ends the host, of an unbracketed `::1:8000` too.
    let (host, end) = match item.rsplit_once(':') {
        Some((host, end)) => (Some(strip_brackets(host)?), end.trim_start_matches(is_blank)),
        None => (None, item),
    };
    let (digits_and_kind, descriptor) = match end.split_once('=') {
        Some((left, right)) => (left.trim_end_matches(is_blank), Some(parse_descriptor(right)?)),
        None => (end, None),
    };
    let (is_udp, digits) = match digits_and_kind.strip_prefix('u') {
        Some(digits) => (true, digits),
        None => (false, digits_and_kind),
    };
    if !is_number(digits) {
        return Err(Why::Grammar);
    }
    // Only digits are left, so all that can go wrong is that they are too many.
    let port = digits.parse().map_err(|_| Why::PortTooHigh)?;

    let (name, host) = match host {
        None => (digits.to_owned(), Host::AnyV4),
        Some(typed) => match parse_host(typed)? {
            host @ Host::V6(_) => (format!("[{typed}]:{digits}"), host),
            host => (format!("{typed}:{digits}"), host),
        },
    };
    let host_port = HostPort { host, port };
    let address = if is_udp { ListenAddress::Udp(host_port) } else { ListenAddress::Tcp(host_port) };
    Ok(ListenSpec { name: name.into(), address, descriptor })
}

/// Takes off a bracket on either side; the two are independent of each other, as ever.
fn strip_brackets(host: &str) -> Result<&str, Why> {
    let host = host.trim_matches(is_blank);
    let inner = host.strip_prefix('[').unwrap_or(host);
    let inner = inner.strip_suffix(']').unwrap_or(inner).trim_matches(is_blank);
    // `[$ADDRESS]:80` with an unset variable must not open the port to the world.
    if inner.contains(['[', ']']) || (inner.is_empty() && !host.is_empty()) { Err(Why::Grammar) } else { Ok(inner) }
}

fn parse_host(host: &str) -> Result<Host, Why> {
    if host.is_empty() || host == "*" {
        return Ok(Host::AnyV4);
    }
    if host.contains(':') {
        return match host.parse::<Ipv6Addr>() {
            Ok(address) if address.to_ipv4_mapped().is_some() => Err(Why::MappedV4),
            Ok(address) => Ok(Host::V6(address)),
            Err(_) if host.contains('%') => Err(Why::ZoneId),
            Err(_) => Err(Why::NotIpv6),
        };
    }
    if host.contains(is_blank) {
        return Err(Why::Grammar);
    }
    Ok(host.parse().map_or_else(|_| Host::Name(host.to_owned()), Host::V4))
}

fn parse_descriptor(digits: &str) -> Result<i32, Why> {
    if is_number(digits) { digits.parse().map_err(|_| Why::DescriptorTooHigh) } else { Err(Why::Grammar) }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The white space of the original's grammar.
fn is_blank(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{b}'
}

/// A listener that was not specified as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenSpecError {
    option: &'static str,
    value: OsString,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl fmt::Display for ListenSpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid ``{}'' value:{}: ", self.option, self.value.display())?;
        match self.why {
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

    /// What a case expects in short: name, address, descriptor; or a part of the error.
    fn summary(specs: Result<Vec<ListenSpec>, ListenSpecError>) -> String {
        let one = |spec: &ListenSpec| {
            let address = match &spec.address {
                ListenAddress::Tcp(HostPort { host, port }) => format!("tcp {} {port}", host_text(host)),
                ListenAddress::Udp(HostPort { host, port }) => format!("udp {} {port}", host_text(host)),
                ListenAddress::Unix(path) => format!("unix {}", path.display()),
            };
            let descriptor = spec.descriptor.map_or(String::new(), |fd| format!(" fd {fd}"));
            format!("{} -> {address}{descriptor}", spec.name.display())
        };
        match specs {
            Ok(specs) => specs.iter().map(one).collect::<Vec<_>>().join("; "),
            Err(error) => format!("error: {error}"),
        }
    }

    fn host_text(host: &Host) -> String {
        match host {
            Host::AnyV4 => "any".to_owned(),
            Host::V4(address) => address.to_string(),
            Host::V6(address) => address.to_string(),
            Host::Name(name) => format!("name({name})"),
        }
    }

    #[test]
    fn ports_are_read() {
        for (value, expected) in [
            ("8000", "8000 -> tcp any 8000"),
            ("127.0.0.1:8000", "127.0.0.1:8000 -> tcp 127.0.0.1 8000"),
            ("localhost:8000", "localhost:8000 -> tcp name(localhost) 8000"),
            ("[::1]:8000", "[::1]:8000 -> tcp ::1 8000"),
            ("::1:8000", "[::1]:8000 -> tcp ::1 8000"),
            ("[::1:8000", "[::1]:8000 -> tcp ::1 8000"),
            ("::1]:8000", "[::1]:8000 -> tcp ::1 8000"),
            ("[::]:8000", "[::]:8000 -> tcp :: 8000"),
            (":::8000", "[::]:8000 -> tcp :: 8000"),
            ("[0:0::1]:8000", "[0:0::1]:8000 -> tcp ::1 8000"),
            ("[127.0.0.1]:8000", "127.0.0.1:8000 -> tcp 127.0.0.1 8000"),
            ("0.0.0.0:8000", "0.0.0.0:8000 -> tcp 0.0.0.0 8000"),
            (":8000", ":8000 -> tcp any 8000"),
            ("*:8000", "*:8000 -> tcp any 8000"),
            ("127.1:8000", "127.1:8000 -> tcp name(127.1) 8000"),
            ("8000=9", "8000 -> tcp any 8000 fd 9"),
            ("localhost:8000=9", "localhost:8000 -> tcp name(localhost) 8000 fd 9"),
            ("8000=0", "8000 -> tcp any 8000 fd 0"),
            ("8000 =9", "8000 -> tcp any 8000 fd 9"),
            ("u8000", "8000 -> udp any 8000"),
            ("127.0.0.1:u8000", "127.0.0.1:8000 -> udp 127.0.0.1 8000"),
            ("[::1]:u8000", "[::1]:8000 -> udp ::1 8000"),
            ("u8000=7", "8000 -> udp any 8000 fd 7"),
            ("0", "0 -> tcp any 0"),
            ("127.0.0.1:0", "127.0.0.1:0 -> tcp 127.0.0.1 0"),
            ("u8000,8000", "8000 -> udp any 8000; 8000 -> tcp any 8000"),
            (" 8000 ", "8000 -> tcp any 8000"),
            ("\t[ ::1 ] : 8000 =5\n", "[::1]:8000 -> tcp ::1 8000 fd 5"),
            ("020037", "020037 -> tcp any 20037"),
            ("000000008000", "000000008000 -> tcp any 8000"),
            ("8000,8001", "8000 -> tcp any 8000; 8001 -> tcp any 8001"),
            ("8000=7, [::1]:u8001=8", "8000 -> tcp any 8000 fd 7; [::1]:8001 -> udp ::1 8001 fd 8"),
            ("65535", "65535 -> tcp any 65535"),
        ] {
            assert_eq!(summary(parse_ports(OsStr::new(value))), expected, "{value:?}");
        }
    }

    #[test]
    fn wrong_ports_are_refused() {
        for (value, expected) in [
            ("65536", "error: invalid ``port'' value:65536: expected a port from 0 to 65535"),
            ("99999", "error: invalid ``port'' value:99999: expected a port"),
            ("99999999999999999999999", "expected a port"),
            ("http", "error: invalid ``port'' value:http: expected PORT,"),
            ("localhost:http", "error: invalid ``port'' value:localhost:http: expected PORT,"),
            ("", "error: invalid ``port'' value:: expected PORT,"),
            ("8000,", "expected PORT,"),
            (",8000", "expected PORT,"),
            ("U8000", "expected PORT,"),
            ("u 8000", "expected PORT,"),
            ("-1", "expected PORT,"),
            ("+1", "expected PORT,"),
            ("8000=", "expected PORT,"),
            ("8000= 9", "expected PORT,"),
            ("8000=-1", "expected PORT,"),
            ("8000=1=2", "expected PORT,"),
            ("8000=99999999999", "expected a descriptor from 0 to 2147483647"),
            ("[]:8000", "expected PORT,"),
            ("[[::1]]:8000", "expected PORT,"),
            ("a b:8000", "expected PORT,"),
            ("[::1]", "error: invalid ``port'' value:[::1]: expected"),
            ("http://localhost:80", "expected an IPv6 address before the port"),
            ("[::g]:8000", "expected an IPv6 address before the port"),
            ("[fe80::1%eth0]:8000", "without a zone"),
            ("[::ffff:127.0.0.1]:8000", "expected the IPv4 address itself"),
            ("8000,x,8001", "error: invalid ``port'' value:x: expected"),
            ("\u{0661}", "expected PORT,"),
        ] {
            let text = summary(parse_ports(OsStr::new(value)));
            assert!(text.starts_with("error: ") && text.contains(expected), "{value:?} gave {text}");
        }
        let text = summary(parse_ports(OsStr::from_bytes(b"80\xff")));
        assert!(text.contains("not valid UTF-8"), "{text}");
    }

    #[test]
    fn paths_are_read() {
        let longest = format!("/{}", "x".repeat(LONGEST_PATH - 1));
        for (value, expected) in [
            ("/p/s.sock", "/p/s.sock -> unix /p/s.sock".to_owned()),
            ("./s", "./s -> unix ./s".to_owned()),
            ("/a,/b", "/a -> unix /a; /b -> unix /b".to_owned()),
            ("/d/a=b", "/d/a=b -> unix /d/a=b".to_owned()),
            ("/d/a;b", "/d/a;b -> unix /d/a;b".to_owned()),
            (" /a ", " /a  -> unix  /a ".to_owned()),
            (&longest, format!("{longest} -> unix {longest}")),
        ] {
            assert_eq!(summary(parse_paths(OsStr::new(value))), expected, "{value:?}");
        }
        let odd = OsStr::from_bytes(b"/s\xff");
        assert_eq!(parse_paths(odd).map(|specs| specs[0].name.clone()), Ok(odd.to_owned()));
    }

    #[test]
    fn wrong_paths_are_refused() {
        let too_long = "x".repeat(LONGEST_PATH + 1);
        for (value, expected) in [
            ("", "error: invalid ``path'' value:: expected the path"),
            ("/a,", "expected the path"),
            ("/a,,/b", "expected the path"),
            (&too_long, "the limit for unix sockets; this one has 108"),
        ] {
            let text = summary(parse_paths(OsStr::new(value)));
            assert!(text.starts_with("error: ") && text.contains(expected), "{value:?} gave {text}");
        }
    }
}
