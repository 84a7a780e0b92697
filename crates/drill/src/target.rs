//! What is asked: a URL or the address of a raw socket, read from the command line and looked up once. That it is on
//! this machine is checked here, before anything is sent.

use std::fmt;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;

use hyper::Uri;

/// An address as typed, not looked up yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Where to connect.
    pub place: Place,
    /// What to say there. `None` for a raw socket, whose words come from other options.
    pub page: Option<Page>,
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// By TCP, to a host by its name or number.
    Tcp(String, u16),
    /// To a unix socket at a path; an abstract name begins with a zero byte here, as in the kernel.
    Unix(PathBuf),
}

/// What is asked for by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The field Host.
    pub host: String,
    /// The path, with a query.
    pub path: String,
}

impl Address {
    /// Reads `http://HOST[:PORT][/PATH]`, `tcp:HOST:PORT`, `unix:PATH` or `unix:@NAME`.
    ///
    /// # Errors
    ///
    /// It is none of them; the error says so to a person.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("tcp:") {
            let (host, port) = rest.rsplit_once(':').unwrap_or(("", rest));
            let port = port.parse().map_err(|_| format!("{text}: expected tcp:HOST:PORT"))?;
            return Ok(Self { place: Place::Tcp(bare(host), port), page: None });
        }
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self { place: unix(path)?, page: None });
        }
        let uri: Uri = text.parse().map_err(|error| format!("{text}: {error}; {EXPECTED}"))?;
        match (uri.scheme_str(), uri.host()) {
            (Some("http"), Some(host)) => {
                let authority = uri.authority().map_or(host, |authority| authority.as_str());
                if authority.contains('@') {
                    return Err(format!("{text}: a user and password in the URL are not understood"));
                }
                let page = Page {
                    host: authority.to_owned(),
                    path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
                };
                Ok(Self { place: Place::Tcp(bare(host), uri.port_u16().unwrap_or(80)), page: Some(page) })
            }
            (Some("https"), _) => {
                Err(format!("{text}: https is not spoken; drill what stands behind the end of TLS, by http"))
            }
            _ => Err(format!("{text}: {EXPECTED}")),
        }
    }

    /// The same page, asked for at a unix socket.
    ///
    /// # Errors
    ///
    /// There is no page, or no such socket can be.
    pub fn over_unix(self, path: &str) -> Result<Self, String> {
        if self.page.is_none() {
            return Err("--unix goes with an http URL only".to_owned());
        }
        Ok(Self { place: unix(path)?, ..self })
    }
}

const EXPECTED: &str = "expected http://HOST:PORT/PATH, tcp:HOST:PORT, unix:PATH or unix:@NAME";

/// Without the brackets of `[::1]`; nothing means this machine.
fn bare(host: &str) -> String {
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if host.is_empty() { "127.0.0.1".to_owned() } else { host.to_owned() }
}

fn unix(path: &str) -> Result<Place, String> {
    if path.is_empty() || path == "@" || path.len() > 107 || path.contains('\0') {
        return Err(format!("{path}: the path of a unix socket has 1 to 107 bytes"));
    }
    Ok(Place::Unix(match path.strip_prefix('@') {
        Some(name) => format!("\0{name}").into(),
        None => path.into(),
    }))
}

/// An address that was looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// By TCP.
    Tcp(SocketAddr),
    /// By unix socket, as in [`Place::Unix`].
    Unix(PathBuf),
}

impl Endpoint {
    /// Looks the place up. There may be several addresses, as `localhost` has; which one serves has to be tried.
    ///
    /// # Errors
    ///
    /// It has no address, or one outside this machine although that is not allowed.
    pub fn look_up(place: &Place, anywhere: bool) -> Result<Vec<Self>, String> {
        let (host, port) = match place {
            Place::Unix(path) => return Ok(vec![Self::Unix(path.clone())]),
            Place::Tcp(host, port) => (host, *port),
        };
        let found =
            (host.as_str(), port).to_socket_addrs().map_err(|error| format!("{host} has no address: {error}"))?;
        let found: Vec<SocketAddr> = found.collect();
        if let Some(outside) = found.iter().find(|address| !anywhere && !is_here(address.ip())) {
            return Err(format!(
                "{outside} is not on the loopback interface: a drill is load, and meant for servers of your own. \
                 With --anywhere it is sent there all the same"
            ));
        }
        if found.is_empty() {
            return Err(format!("{host} has no address"));
        }
        Ok(found.into_iter().map(Self::Tcp).collect())
    }
}

/// Whether an address leads to this machine, whatever its interfaces.
fn is_here(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || ip.is_unspecified()
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "{}", path.display().to_string().replacen('\0', "@", 1)),
        }
    }
}

/// Reads a text with the escapes `\r`, `\n`, `\t`, `\0`, `\\` and `\xHH`.
///
/// # Errors
///
/// There is another escape in it.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        if char != '\\' {
            bytes.extend(char.encode_utf8(&mut [0; 4]).bytes());
            continue;
        }
        bytes.push(match rest.next() {
            Some('r') => b'\r',
            Some('n') => b'\n',
            Some('t') => b'\t',
            Some('0') => 0,
            Some('\\') => b'\\',
            Some('x') => {
                let digits: String = rest.by_ref().take(2).collect();
                u8::from_str_radix(&digits, 16).map_err(|_| format!("\\x{digits} is no byte; expected \\xHH"))?
            }
            other => {
                let other = other.map(String::from).unwrap_or_default();
                return Err(format!("\\{other} is not understood; there are \\r \\n \\t \\0 \\\\ and \\xHH"));
            }
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(host: &str, port: u16, authority: &str, path: &str) -> Address {
        let page = Page { host: authority.to_owned(), path: path.to_owned() };
        Address { place: Place::Tcp(host.to_owned(), port), page: Some(page) }
    }

    #[test]
    fn addresses_are_read() {
        for (text, expected) in [
            ("http://127.0.0.1:8080/a?b=c", http("127.0.0.1", 8080, "127.0.0.1:8080", "/a?b=c")),
            ("http://localhost", http("localhost", 80, "localhost", "/")),
            ("http://[::1]:81/", http("::1", 81, "[::1]:81", "/")),
            ("tcp:127.0.0.1:6379", Address { place: Place::Tcp("127.0.0.1".to_owned(), 6379), page: None }),
            ("tcp:[::1]:6379", Address { place: Place::Tcp("::1".to_owned(), 6379), page: None }),
            ("tcp:6379", Address { place: Place::Tcp("127.0.0.1".to_owned(), 6379), page: None }),
            ("unix:/run/app.sock", Address { place: Place::Unix("/run/app.sock".into()), page: None }),
            ("unix:@app", Address { place: Place::Unix("\0app".into()), page: None }),
        ] {
            assert_eq!(Address::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "localhost:80",
            "/x",
            "https://localhost/",
            "ftp://x/",
            "tcp:localhost",
            "tcp:x:99999",
            "unix:",
            "unix:@",
            "http://user:secret@localhost/",
            "http:///x",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
        assert!(Address::parse("https://localhost/").unwrap_err().contains("not spoken"));
        assert!(Address::parse(&format!("unix:{}", "x".repeat(108))).is_err());
        assert!(Address::parse("tcp:80").unwrap().over_unix("/x").is_err());
    }

    #[test]
    fn only_this_machine_is_drilled() {
        for (host, here) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
            ("0.0.0.0", true),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
            ("::ffff:192.0.2.1", false),
        ] {
            let place = Place::Tcp(host.to_owned(), 80);
            assert_eq!(Endpoint::look_up(&place, false).is_ok(), here, "{host}");
            assert!(Endpoint::look_up(&place, true).is_ok(), "{host}");
        }
    }

    #[test]
    fn escapes_are_read() {
        assert_eq!(unescape("PING\\r\\n\\x00\\\\é").unwrap(), [b"PING\r\n\0\\", "é".as_bytes()].concat());
        for text in ["\\", "\\q", "\\x", "\\xg0", "\\x1"] {
            let read = unescape(text);
            assert_eq!(read.is_err(), text != "\\x1", "{text}: {read:?}");
        }
    }
}
