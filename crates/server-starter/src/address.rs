//! Addresses as people write them: for start_server (`8080`, `127.0.0.1:8080`, `/run/app.sock`), and for a server that
//! listens by itself. Compared with what the kernel says.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::OsStrExt;

use crate::Kind;
use crate::descriptor::Address;

/// An address as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written<'a> {
    /// A port, with the host before it if there is one.
    Port(Option<&'a str>, u16),
    /// A path, or a name of the abstract namespace with `@` before it.
    Path(&'a str),
}

impl<'a> Written<'a> {
    /// Understands `PORT`, `HOST:PORT`, `[IPV6]:PORT`, each with a `u` before the port or `tcp:`, `udp:` before it all;
    /// and takes everything else for a path, with or without `unix:` or `unix-dgram:`.
    pub fn parse(text: &'a str) -> Self {
        if let Some(path) = text.strip_prefix("unix:").or_else(|| text.strip_prefix("unix-dgram:")) {
            return Self::Path(path);
        }
        let rest = text.strip_prefix("tcp:").or_else(|| text.strip_prefix("udp:")).unwrap_or(text);
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) => (Some(host), port),
            None => (None, rest),
        };
        match port.strip_prefix('u').unwrap_or(port).parse() {
            Ok(port) if !rest.starts_with('/') && !rest.starts_with('@') => Self::Port(host, port),
            _ => Self::Path(text),
        }
    }

    /// Whether a socket that was bound to this address can have ended up at `actual`. Port 0 stands for any, and so
    /// does a host that is a name: names are not looked up here.
    pub fn can_be(self, actual: &Address) -> bool {
        match (self, actual) {
            (Self::Port(host, port), Address::Inet(actual)) => {
                let host = host.map(|host| host.trim_start_matches('[').trim_end_matches(']'));
                let same_host = match host.map(str::parse::<IpAddr>) {
                    Some(Ok(host)) => host.to_canonical() == actual.ip().to_canonical(),
                    Some(Err(_)) => true,
                    None => actual.ip().is_unspecified(),
                };
                same_host && (port == 0 || port == actual.port())
            }
            (Self::Path(path), Address::Path(actual)) => path.as_bytes() == actual.as_os_str().as_bytes(),
            (Self::Path(path), Address::Abstract(actual)) => {
                path.strip_prefix('@').is_some_and(|name| name.as_bytes() == actual.as_bytes())
            }
            _ => false,
        }
    }

    /// Whether this is the address `actual`, for who looks for it. Names are looked up; port 0 is no address.
    pub fn is(self, actual: &Address) -> bool {
        match (self, actual) {
            (Self::Port(_, 0), _) => false,
            (Self::Port(Some(host), port), Address::Inet(actual)) if actual.port() == port => {
                let same = |one: SocketAddr| one.ip().to_canonical() == actual.ip().to_canonical();
                resolve(host, port).is_ok_and(|mut all| all.any(same))
            }
            _ => self.can_be(actual),
        }
    }
}

/// The addresses of `host`, which may be in brackets.
pub fn resolve(host: &str, port: u16) -> std::io::Result<impl Iterator<Item = SocketAddr>> {
    (host.trim_start_matches('[').trim_end_matches(']'), port).to_socket_addrs()
}

/// What an address of this kind looks like, for those who wrote another.
pub fn example(kind: Kind) -> &'static str {
    match kind {
        Kind::Tcp | Kind::Udp => "127.0.0.1:8080, [::1]:8080, localhost:8080 or 8080",
        Kind::Unix | Kind::UnixDatagram => "/run/app.sock or @name",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_understood() {
        use Written::{Path, Port};
        for (text, expected) in [
            ("8080", Port(None, 8080)),
            ("u53", Port(None, 53)),
            ("127.0.0.1:8080", Port(Some("127.0.0.1"), 8080)),
            ("127.0.0.1:u53", Port(Some("127.0.0.1"), 53)),
            ("udp:[::1]:53", Port(Some("[::1]"), 53)),
            ("localhost:80", Port(Some("localhost"), 80)),
            ("/run/a:80", Path("/run/a:80")),
            ("/run/app.sock", Path("/run/app.sock")),
            ("app.sock", Path("app.sock")),
            ("@name:1", Path("@name:1")),
            ("unix:@name", Path("@name")),
            ("127.0.0.1:99999", Path("127.0.0.1:99999")),
        ] {
            assert_eq!(Written::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn addresses_are_compared_with_what_is() {
        let inet = |text: &str| Address::Inet(text.parse().unwrap());
        for (text, actual, can_be, is) in [
            ("8080", "0.0.0.0:8080", true, true),
            ("8080", "[::]:8080", true, true),
            ("8080", "127.0.0.1:8080", false, false),
            ("127.0.0.1:8080", "127.0.0.1:8080", true, true),
            ("127.0.0.1:8080", "[::ffff:127.0.0.1]:8080", true, true),
            ("127.0.0.1:8080", "127.0.0.2:8080", false, false),
            ("127.0.0.1:8080", "127.0.0.1:8081", false, false),
            ("127.0.0.1:0", "127.0.0.1:8081", true, false),
            ("[::1]:80", "[::1]:80", true, true),
            ("localhost:80", "127.0.0.1:80", true, true),
            ("localhost:80", "192.0.2.1:80", true, false),
            ("/run/x", "127.0.0.1:80", false, false),
        ] {
            let (written, actual) = (Written::parse(text), inet(actual));
            assert_eq!((written.can_be(&actual), written.is(&actual)), (can_be, is), "{text} {actual}");
        }
        assert!(Written::parse("/run/x").is(&Address::Path("/run/x".into())));
        assert!(!Written::parse("/run/x").is(&Address::Path("/run/y".into())));
        assert!(Written::parse("@x").is(&Address::Abstract("x".into())));
        assert!(!Written::parse("80").is(&Address::Unnamed));
    }
}
