//! Sockets that the service manager has passed: from a `.socket` unit, or because it has kept them for a superdaemon
//! that was killed. Each takes the place of the listener that was asked for at its address; what is left of a `.socket`
//! unit becomes a listener of its own. The listeners are opened from the result.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::fstat;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::socket_file::SocketFile;
use super::{Bound, BoundAddress, Kind, ListenError, socket_options, unix};
use crate::errno::reason;
use crate::files::Directories;
use crate::listen_spec::{Host, HostPort, ListenAddress, ListenOptions, ListenSpec, UnixAddress, is_name};
use crate::orphans;
use crate::service_manager::STORED;
use crate::service_manager::passed::Passed;

/// Sockets that can be listened on.
#[derive(Debug, Default)]
pub struct PassedSockets {
    sockets: Vec<PassedSocket>,
    /// The names of those that were kept and are of no use any more.
    useless: Vec<String>,
}

/// One of them.
#[derive(Debug)]
pub struct PassedSocket {
    socket: OwnedFd,
    kind: Kind,
    address: BoundAddress,
    /// What the service manager calls it.
    name: Option<String>,
}

/// What is to be opened.
pub struct Claims {
    /// Every listener, with the socket that takes its place if there is one.
    pub listeners: Vec<(ListenSpec, Option<PassedSocket>)>,
    /// The names of sockets that were kept and that nobody asks for any more.
    pub released: Vec<String>,
}

impl PassedSockets {
    /// Looks at what was passed. `report` gets lines to log.
    ///
    /// # Errors
    /// Something that cannot be listened on: a sentence.
    pub fn examine(passed: Vec<Passed>, report: &mut dyn FnMut(String)) -> Result<Self, ListenError> {
        let mut found = Self::default();
        for Passed { descriptor, number, name } in passed {
            match (look(&descriptor), name) {
                (Ok((kind, address)), name) => {
                    found.sockets.push(PassedSocket { socket: descriptor, kind, address, name });
                }
                // A worker may have shut it down, or its file is gone: then there is nothing to go on with.
                (Err(why), Some(name)) if is_stored(&name) => {
                    report(format!("the service manager has kept {name}, but {why}; it is not used"));
                    found.useless.push(name);
                }
                (Err(why), name) => {
                    let name = name.map(|name| format!(" ({name})")).unwrap_or_default();
                    return Err(ListenError(format!(
                        "failed to listen on descriptor {number}{name}, which was passed: {why}; pass listening stream \
                         sockets and bound datagram sockets (in a socket unit ListenStream= and ListenDatagram=, with \
                         Accept=no)"
                    )));
                }
            }
        }
        Ok(found)
    }

    /// Says which socket is which listener.
    pub fn claim(mut self, specs: &[ListenSpec]) -> Claims {
        self.name_apart(specs);
        let mut listeners: Vec<(ListenSpec, Option<PassedSocket>)> = Vec::new();
        for spec in specs {
            let found = self.sockets.iter().position(|passed| passed.fits(spec));
            let passed = found.map(|index| self.sockets.remove(index));
            let mut spec = spec.clone();
            if let Some(passed) = passed.as_ref().filter(|passed| !passed.is_stored()) {
                spec.name = spec.name.or_else(|| passed.name.clone());
            }
            listeners.push((spec, passed));
        }
        let (stored, own): (Vec<_>, Vec<_>) = self.sockets.into_iter().partition(PassedSocket::is_stored);
        listeners.extend(own.into_iter().map(|passed| (passed.spec(), Some(passed))));
        let unwanted = stored.into_iter().filter_map(|passed| passed.name);
        Claims { listeners, released: self.useless.into_iter().chain(unwanted).collect() }
    }

    /// Leaves the sockets only names that say which one is meant. A `.socket` unit gives all of its sockets the same
    /// name unless it is told otherwise.
    fn name_apart(&mut self, specs: &[ListenSpec]) {
        let mut seen: BTreeSet<String> = specs.iter().filter_map(|spec| spec.name.clone()).collect();
        let ambiguous: BTreeSet<String> = self
            .sockets
            .iter()
            .filter_map(|passed| passed.name.clone())
            .filter(|name| !seen.insert(name.clone()))
            .collect();
        for passed in self.sockets.iter_mut().filter(|passed| !passed.is_stored()) {
            passed.name.take_if(|name| ambiguous.contains(name) || name == "unknown" || !is_name(name));
        }
    }
}

impl PassedSocket {
    /// Whether the service manager has it from a superdaemon.
    pub fn is_stored(&self) -> bool {
        self.name.as_deref().is_some_and(is_stored)
    }

    /// Makes it the listener that was asked for. `report` gets lines to log.
    pub(super) fn adopt(
        self,
        spec: &ListenSpec,
        directories: &mut Directories,
        report: &mut dyn FnMut(String),
    ) -> Result<Bound, ListenError> {
        let (is_stored, options) = (self.is_stored(), &spec.options);
        let (address, verb) = (self.address.to_string(), if is_stored { "kept" } else { "passed" });
        let spelling = spec.spelling.to_string_lossy();
        let whose = if spelling == address { String::new() } else { format!(" for {spelling}") };
        report(format!("listening on {address}, which the service manager has {verb}{whose}"));
        let failed = |what: &str, errno: Errno| {
            let reason = reason(errno.raw_os_error());
            ListenError(format!("failed to set {what} for {}:{reason}; leave the option out", spec.spelling.display()))
        };
        socket_options::set(&self.socket, self.kind == Kind::Tcp, options)
            .map_err(|(what, errno)| failed(what, errno))?;
        // How long the queue of a passed socket is, its unit has said.
        if self.kind.is_stream() && (is_stored || options.backlog.is_some()) {
            rustix::net::listen(&self.socket, socket_options::backlog(options))
                .map_err(|errno| failed("the backlog", errno))?;
        }
        let mut file = None;
        if let BoundAddress::Path(path) = &self.address {
            let path = Path::new(OsStr::from_bytes(path));
            let place = unix::place_of(path, directories)?;
            unix::set_permissions(&self.socket, path, &place, options.mode, options)?;
            // What a unit has made is not ours to remove.
            if is_stored {
                file = Some(SocketFile::of(&self.socket, path, &place)?);
            }
        }
        Ok(Bound::new(self.socket, file))
    }

    /// Whether this is what the specification, its host resolved, asks for.
    fn fits(&self, spec: &ListenSpec) -> bool {
        match (&spec.address, self.kind) {
            (ListenAddress::Tcp(at), Kind::Tcp) | (ListenAddress::Udp(at), Kind::Udp) => self.is_at(at, spec),
            (ListenAddress::Unix(at), Kind::Unix) | (ListenAddress::UnixDatagram(at), Kind::UnixDatagram) => {
                match (at, &self.address) {
                    (UnixAddress::Path(path), BoundAddress::Path(bound)) => {
                        same_path(path, Path::new(OsStr::from_bytes(bound)))
                    }
                    (UnixAddress::Abstract(name), BoundAddress::Abstract(bound)) => name == bound,
                    _ => false,
                }
            }
            _ => false,
        }
    }

    fn is_at(&self, at: &HostPort, spec: &ListenSpec) -> bool {
        let BoundAddress::Internet(bound) = &self.address else { return false };
        let is_host = match at.host {
            Host::AnyV4 => bound.is_ipv4() && bound.ip().is_unspecified(),
            // What is bound for IPv4 and IPv6 leaves no room for another socket on that port.
            Host::V4(host) => bound.ip() == host || (host.is_unspecified() && self.is_for_both()),
            Host::V6(host) => bound.ip() == host,
            Host::Name(_) => false,
        };
        // A port that the kernel has chosen is known by what was asked for then.
        let is_port = match at.port {
            0 => self.name.as_ref() == Some(&stored_name(self.kind, &spec.spelling)),
            port => bound.port() == port,
        };
        is_host && is_port
    }

    fn is_for_both(&self) -> bool {
        matches!(&self.address, BoundAddress::Internet(bound) if bound.is_ipv6() && bound.ip().is_unspecified())
            && sockopt::ipv6_v6only(&self.socket) == Ok(false)
    }

    fn spec(&self) -> ListenSpec {
        spec_of(self.kind, &self.address, self.name.clone())
    }
}

/// The specification of a listener that is on no command line.
///
/// # Errors
/// It cannot be listened on: a sentence.
pub(super) fn passed_spec(
    socket: &OwnedFd,
    address: &BoundAddress,
    name: Option<String>,
) -> Result<ListenSpec, String> {
    let (kind, _) = look(socket).map_err(|why| format!("failed to listen on {address}: {why}"))?;
    Ok(spec_of(kind, address, name))
}

/// The specification that a socket would have been made from.
fn spec_of(kind: Kind, address: &BoundAddress, name: Option<String>) -> ListenSpec {
    let host_port = |bound: &std::net::SocketAddr| HostPort {
        host: match bound.ip() {
            std::net::IpAddr::V4(host) => Host::V4(host),
            std::net::IpAddr::V6(host) => Host::V6(host),
        },
        port: bound.port(),
    };
    let unix = |at: UnixAddress| match kind {
        Kind::UnixDatagram => ListenAddress::UnixDatagram(at),
        _ => ListenAddress::Unix(at),
    };
    let place = match address {
        BoundAddress::Internet(bound) if kind == Kind::Udp => ListenAddress::Udp(host_port(bound)),
        BoundAddress::Internet(bound) => ListenAddress::Tcp(host_port(bound)),
        BoundAddress::Path(path) => unix(UnixAddress::Path(PathBuf::from(OsStr::from_bytes(path)))),
        BoundAddress::Abstract(name) => unix(UnixAddress::Abstract(name.clone())),
    };
    ListenSpec {
        spelling: OsStr::from_bytes(&address.bytes()).to_owned(),
        name,
        address: place,
        descriptor: None,
        options: ListenOptions::default(),
    }
}

/// What the service manager is to call a listener that it keeps: at most 255 printable characters without a colon.
pub fn stored_name(kind: Kind, spelling: &OsStr) -> String {
    const LONGEST: usize = 255;
    let spelling = spelling.to_string_lossy();
    let allowed = spelling.chars().map(|c| if c.is_ascii_graphic() && c != ':' { c } else { '_' });
    format!("{STORED}{kind}-").chars().chain(allowed).take(LONGEST).collect()
}

fn is_stored(name: &str) -> bool {
    name.starts_with(STORED)
}

/// What kind of a socket it is, and where. The error says what it is instead, in words that go after a colon.
fn look(descriptor: &OwnedFd) -> Result<(Kind, BoundAddress), String> {
    let no_socket = |errno: Errno| match errno {
        Errno::NOTSOCK => "it is no socket".to_owned(),
        errno => reason(errno.raw_os_error()),
    };
    let kind = sockopt::socket_type(descriptor).map_err(no_socket)?;
    let family = sockopt::socket_domain(descriptor).map_err(no_socket)?;
    let kind = match (family, kind) {
        (AddressFamily::INET | AddressFamily::INET6, SocketType::STREAM) => Kind::Tcp,
        (AddressFamily::INET | AddressFamily::INET6, SocketType::DGRAM) => Kind::Udp,
        (AddressFamily::UNIX, SocketType::STREAM) => Kind::Unix,
        (AddressFamily::UNIX, SocketType::DGRAM) => Kind::UnixDatagram,
        _ => return Err("it is neither TCP nor UDP nor a unix socket for streams or datagrams".to_owned()),
    };
    if kind.is_stream() && !sockopt::socket_acceptconn(descriptor).map_err(no_socket)? {
        return Err("it does not listen".to_owned());
    }
    let address = BoundAddress::of(descriptor).map_err(|_| "it is not bound to an address".to_owned())?;
    match &address {
        BoundAddress::Internet(bound) if bound.port() == 0 => Err("it is not bound to a port".to_owned()),
        // Without its file nobody can connect to it.
        BoundAddress::Path(path) if !is_bound_to(descriptor, Path::new(OsStr::from_bytes(path))) => {
            Err(format!("it is not what is at {address} any more"))
        }
        _ => Ok((kind, address)),
    }
}

/// Whether the file at this path leads to this socket.
fn is_bound_to(socket: &OwnedFd, path: &Path) -> bool {
    let at_path = orphans::unix_sockets_at(path);
    fstat(socket).is_ok_and(|found| at_path.contains(&found.st_ino))
}

fn same_path(one: &Path, other: &Path) -> bool {
    one == other
        || matches!((std::path::absolute(one), std::path::absolute(other)), (Ok(one), Ok(other)) if one == other)
}
