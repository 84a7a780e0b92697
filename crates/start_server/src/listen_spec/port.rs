//! The value of `--port`: ports, in the grammar of Server::Starter.
//! The command line calls [`parse_ports`]; the grammar of `--listen` begins with the same words.

use std::ffi::{OsStr, OsString};
use std::net::Ipv6Addr;

use super::{Host, HostPort, ListenAddress, ListenOptions, ListenSpec, ListenSpecError, Why};

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

/// Reads one port, with or without a descriptor.
pub(super) fn parse_port(item: &str) -> Result<ListenSpec, Why> {
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

    let (spelling, host) = match host {
        None => (digits.to_owned(), Host::AnyV4),
        Some(typed) => match parse_host(typed)? {
            host @ Host::V6(_) => (format!("[{typed}]:{digits}"), host),
            host => (format!("{typed}:{digits}"), host),
        },
    };
    let host_port = HostPort { host, port };
    let address = if is_udp { ListenAddress::Udp(host_port) } else { ListenAddress::Tcp(host_port) };
    Ok(ListenSpec { spelling: spelling.into(), name: None, address, descriptor, options: ListenOptions::default() })
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

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use super::super::tests::summary;
    use super::*;

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
}
