//! The listeners: sockets that the superdaemon binds once and holds for its whole life. Set up before anything is
//! spawned; every worker is given all of them, and `SERVER_STARTER_PORT` tells it which is which.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use rustix::process::{Resource, getrlimit, umask};

use crate::errno::{io_reason, reason};
use crate::file_identity::FileIdentity;
use crate::listen_spec::{Host, HostPort, ListenAddress, ListenSpec};
use crate::orphans::{Inheritance, Orphan, inherit, unix_sockets_at};
use crate::port_holders::{Protocol, holders, sockets};

/// All listeners, in the order of their specifications. Dropping them closes the sockets and removes the socket files.
#[derive(Debug)]
pub struct Listeners {
    all: Vec<Listener>,
    /// Workers of a superdaemon that was killed, from whom listeners were taken.
    orphans: Vec<Orphan>,
}

#[derive(Debug)]
struct Listener {
    name: OsString,
    socket: OwnedFd,
    /// The descriptor that workers find it at.
    number: RawFd,
    file: Option<SocketFile>,
}

/// A socket file that we made. While our socket is open no other file can have its inode.
#[derive(Debug)]
struct SocketFile {
    path: PathBuf,
    identity: FileIdentity,
}

/// A socket that is bound, and what came with it.
struct Bound {
    socket: OwnedFd,
    file: Option<SocketFile>,
    orphans: Vec<Orphan>,
}

impl Bound {
    fn new(socket: OwnedFd, file: Option<SocketFile>) -> Self {
        Self { socket, file, orphans: Vec::new() }
    }
}

/// Why a listener could not be set up: a sentence that begins with the words of Server::Starter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenError(String);

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ListenError {}

/// Finds the address of every host that is given by name. That may take long, and so comes before anything is set up
/// that would have to be cleaned up after a Ctrl-C.
///
/// # Errors
/// The first name that has none.
pub fn resolve_hosts(specs: &mut [ListenSpec]) -> Result<(), ListenError> {
    for spec in specs {
        if let ListenAddress::Tcp(at) | ListenAddress::Udp(at) = &mut spec.address {
            at.host = match resolve(at)? {
                IpAddr::V4(address) => Host::V4(address),
                IpAddr::V6(address) => Host::V6(address),
            };
        }
    }
    Ok(())
}

impl Listeners {
    /// Binds and listens. `backlog` is the length of each accept queue in connections; `report` gets lines to log.
    ///
    /// # Errors
    /// The first listener that cannot be had. Socket files made until then are removed again.
    pub fn open(specs: &[ListenSpec], backlog: u32, report: &mut dyn FnMut(String)) -> Result<Self, ListenError> {
        let numbers = numbers(specs)?;
        let mut listeners = Listeners { all: Vec::new(), orphans: Vec::new() };
        for (spec, number) in specs.iter().zip(numbers) {
            let bound = match &spec.address {
                ListenAddress::Tcp(at) => port_socket(&spec.name, at, Some(backlog))?,
                ListenAddress::Udp(at) => port_socket(&spec.name, at, None)?,
                ListenAddress::Unix(path) => unix_socket(path, report)?,
            };
            for orphan in bound.orphans {
                report(format!(
                    "{} is taken over from generation {} (pid {}), whose superdaemon is gone",
                    spec.name.display(),
                    orphan.generation,
                    orphan.pid
                ));
                listeners.add_orphan(orphan);
            }
            // From here on the file is removed if anything fails.
            listeners.all.push(Listener { name: spec.name.clone(), socket: bound.socket, number, file: bound.file });
            if let ListenAddress::Unix(path) = &spec.address {
                listen_at_path(&listeners, path, backlog)?;
            }
            if spec.descriptor.is_some() {
                report(format!("socket is duplicated to file descriptor {number}"));
            }
        }
        Ok(listeners)
    }

    /// The workers from whom listeners were taken, once.
    pub fn take_orphans(&mut self) -> Vec<Orphan> {
        std::mem::take(&mut self.orphans)
    }

    fn add_orphan(&mut self, orphan: Orphan) {
        if self.orphans.iter().all(|known| known.pid != orphan.pid) {
            self.orphans.push(orphan);
        }
    }

    /// The value of `SERVER_STARTER_PORT`: `NAME=FD` for each listener, with `;` between them.
    pub fn variable(&self) -> OsString {
        let mut value = OsString::new();
        for (index, listener) in self.all.iter().enumerate() {
            if index > 0 {
                value.push(";");
            }
            value.push(&listener.name);
            value.push(format!("={}", listener.number));
        }
        value
    }

    /// Each socket, with the descriptor that workers are to find it at.
    pub fn descriptors(&self) -> impl Iterator<Item = (BorrowedFd<'_>, RawFd)> {
        self.all.iter().map(|listener| (listener.socket.as_fd(), listener.number))
    }

    /// Each listener's name in `SERVER_STARTER_PORT`, its socket, and the descriptor in workers.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, BorrowedFd<'_>, RawFd)> {
        self.all.iter().map(|listener| (listener.name.as_os_str(), listener.socket.as_fd(), listener.number))
    }

    /// Whether a listener takes the place of standard input.
    pub fn uses_standard_input(&self) -> bool {
        self.all.iter().any(|listener| listener.number == 0)
    }

    /// Removes the socket files, except those that are not ours any more. `report` gets lines to log.
    pub fn remove_socket_files(&mut self, report: &mut dyn FnMut(String)) {
        for file in self.all.iter_mut().filter_map(|listener| listener.file.take()) {
            if file.identity.is_at(&file.path)
                && let Err(error) = fs::remove_file(&file.path)
            {
                report(format!("failed to unlink file:{}:{}", file.path.display(), io_reason(&error)));
            }
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.remove_socket_files(&mut |_| {});
    }
}

/// The descriptors for the workers: as fixed, the others from 3 on.
fn numbers(specs: &[ListenSpec]) -> Result<Vec<RawFd>, ListenError> {
    const FIRST: RawFd = 3;
    let mut taken = BTreeSet::new();
    for number in specs.iter().filter_map(|spec| spec.descriptor) {
        if !taken.insert(number) {
            return Err(ListenError(format!(
                "dup2(2) failed({number}): two ports are to have this descriptor; give each one of its own"
            )));
        }
        if number == 1 || number == 2 {
            return Err(ListenError(format!(
                "dup2(2) failed({number}): this is the descriptor of the standard {}, which the program needs for its \
                 messages; choose 0, or 3 and above",
                if number == 1 { "output" } else { "error output" }
            )));
        }
    }
    let mut free = (FIRST..).filter(|number| !taken.contains(number));
    let numbers: Vec<RawFd> = specs.iter().filter_map(|spec| spec.descriptor.or_else(|| free.next())).collect();
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    match numbers.iter().find(|number| u64::try_from(**number).is_ok_and(|number| number >= limit)) {
        Some(number) => Err(ListenError(format!(
            "dup2(2) failed({number}): Bad file descriptor; the limit on open files (ulimit -n) is {limit}, so choose a \
             descriptor below that or raise the limit"
        ))),
        None => Ok(numbers),
    }
}

/// A bound socket; with a backlog one for TCP that listens, without one for UDP.
fn port_socket(name: &OsString, at: &HostPort, backlog: Option<u32>) -> Result<Bound, ListenError> {
    let address = SocketAddr::new(resolve(at)?, at.port);
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if backlog.is_some() { SocketType::STREAM } else { SocketType::DGRAM };
    let create = || {
        let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        // Connections that a predecessor closed must not keep us from its port. With UDP the option would let two
        // superdaemons take the same port, and one of them the datagrams of the other.
        if backlog.is_some() {
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, true)?;
        }
        Ok(socket)
    };
    let socket = create().map_err(|errno: Errno| cannot_create(errno))?;
    let protocol = if backlog.is_some() { Protocol::Tcp } else { Protocol::Udp };
    let mut bound = Bound::new(socket, None);
    if let Err(errno) = rustix::net::bind(&bound.socket, &address) {
        let unavailable = |advice: String| {
            ListenError(format!("failed to bind to {}:{}; {advice}", name.display(), errno_reason(errno)))
        };
        if errno != Errno::ADDRINUSE || is_ours(protocol, address) {
            return Err(unavailable(bind_advice(errno, protocol, address)));
        }
        let inheritance = inherit(&address.into(), &sockets(protocol, address)).map_err(|why| {
            unavailable(format!("{}; it is not taken over, because {why}", bind_advice(errno, protocol, address)))
        })?;
        bound = Bound { socket: inheritance.socket, file: None, orphans: inheritance.orphans };
    }
    if let Some(backlog) = backlog {
        rustix::net::listen(&bound.socket, i32::try_from(backlog).unwrap_or(i32::MAX)).map_err(|errno| {
            let advice = bind_advice(errno, Protocol::Tcp, address);
            ListenError(format!("listen(2) failed:{} for {}; {advice}", errno_reason(errno), name.display()))
        })?;
    }
    Ok(bound)
}

fn is_ours(protocol: Protocol, address: SocketAddr) -> bool {
    holders(protocol, address).iter().any(|holder| holder.pid == std::process::id())
}

fn cannot_create(errno: Errno) -> ListenError {
    let advice = match errno {
        Errno::MFILE => "raise the limit on open files (ulimit -n)",
        Errno::AFNOSUPPORT => "this machine does not support addresses of that kind; use another address",
        _ => "this is the machine's refusal, see socket(2)",
    };
    ListenError(format!("failed to create socket:{}; {advice}", errno_reason(errno)))
}

fn bind_advice(errno: Errno, protocol: Protocol, address: SocketAddr) -> String {
    match errno {
        Errno::ADDRINUSE => {
            if is_ours(protocol, address) {
                return "the same port is given twice; give each port once".to_owned();
            }
            let holders = holders(protocol, address);
            if holders.is_empty() {
                return "another process has it, which this user may not see; stop it or choose another port"
                    .to_owned();
            }
            let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
            format!("{} has it; stop it or choose another port", names.join(", "))
        }
        Errno::ACCESS => "ports below 1024 are for root or need the capability CAP_NET_BIND_SERVICE; choose a higher \
                          port or start with that right"
            .to_owned(),
        Errno::ADDRNOTAVAIL => "no network interface of this machine has that address; use one that it has".to_owned(),
        _ => format!("tried to bind {address}, see bind(2)"),
    }
}

fn resolve(at: &HostPort) -> Result<IpAddr, ListenError> {
    let name = match &at.host {
        Host::AnyV4 => return Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        Host::V4(address) => return Ok(IpAddr::V4(*address)),
        Host::V6(address) => return Ok(IpAddr::V6(*address)),
        Host::Name(name) => name,
    };
    let failed = |why: &str| {
        let advice = "give an address, or a name that this machine can resolve";
        ListenError(format!("failed to resolve host:{name}:{why}; {advice}"))
    };
    let found: Vec<SocketAddr> = (name.as_str(), at.port)
        .to_socket_addrs()
        .map_err(|error| {
            let text = error.to_string();
            failed(text.strip_prefix("failed to lookup address information: ").unwrap_or(&text))
        })?
        .collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.map(SocketAddr::ip).ok_or_else(|| failed("it has no address"))
}

/// A bound unix socket, not listening yet, and its file.
fn unix_socket(path: &Path, report: &mut dyn FnMut(String)) -> Result<Bound, ListenError> {
    // The kernel would take a path without its closing zero, but not every client could connect to it.
    const LONGEST_PATH: usize = 107;
    let fitting = if path.as_os_str().len() > LONGEST_PATH { Err(Errno::NAMETOOLONG) } else { Ok(path) };
    let address = fitting.and_then(SocketAddrUnix::new).map_err(|errno| {
        refused(path, errno, "the path of a unix socket can have 107 bytes; choose a shorter one, or a relative one")
    })?;
    if let Some(inheritance) = make_way(path, &address, report)? {
        let file = SocketFile::at(path)?;
        return Ok(Bound { socket: inheritance.socket, file: Some(file), orphans: inheritance.orphans });
    }
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .map_err(cannot_create)?;
    // Whoever may enter the directory may connect, as ever.
    let before = umask(Mode::empty());
    let bound = rustix::net::bind(&socket, &address);
    umask(before);
    bound.map_err(|errno| {
        refused(
            path,
            errno,
            match errno {
                Errno::NOENT | Errno::NOTDIR => "create its directory first",
                Errno::ACCESS | Errno::PERM | Errno::ROFS => "choose a directory in which files can be created",
                _ => "choose another path",
            },
        )
    })?;
    Ok(Bound::new(socket, Some(SocketFile::at(path)?)))
}

impl SocketFile {
    /// The file that is at this path now.
    fn at(path: &Path) -> Result<Self, ListenError> {
        match FileIdentity::at(path) {
            Ok(identity) => Ok(Self { path: path.to_owned(), identity }),
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                Err(refused(path, errno, "something else removes files there; choose another path"))
            }
        }
    }
}

fn listen_at_path(listeners: &Listeners, path: &Path, backlog: u32) -> Result<(), ListenError> {
    let Some(listener) = listeners.all.last() else { return Ok(()) };
    rustix::net::listen(&listener.socket, i32::try_from(backlog).unwrap_or(i32::MAX))
        .map_err(|errno| refused(path, errno, "this is the machine's refusal, see listen(2)"))
}

fn refused(path: &Path, errno: Errno, advice: &str) -> ListenError {
    ListenError(format!("failed to listen to file {}:{}; {advice}", path.display(), errno_reason(errno)))
}

/// Removes what a superdaemon that was killed has left behind, and nothing else. If its workers still serve there, the
/// socket is taken over from them.
fn make_way(
    path: &Path,
    address: &SocketAddrUnix,
    report: &mut dyn FnMut(String),
) -> Result<Option<Inheritance>, ListenError> {
    // What cannot be looked at is left for bind(2) to complain about.
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(None) };
    let (link, target) = if found.is_symlink() {
        match fs::metadata(path) {
            Ok(target) => (true, Some(target)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (true, None),
            Err(_) => {
                let advice = "a symbolic link to something unknown is there and was left alone; remove it or choose \
                              another path";
                return Err(refused(path, Errno::ADDRINUSE, advice));
            }
        }
    } else {
        (false, Some(found))
    };
    if let Some(target) = target {
        if !link
            && target.file_type().is_socket()
            && let Ok(inheritance) = inherit(&address.clone().into(), &unix_sockets_at(path))
        {
            return Ok(Some(inheritance));
        }
        refuse_all_but_stale_sockets(path, address, &target, link)?;
    }
    report(format!("removing existing socket file:{}", path.display()));
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(ListenError(format!(
            "failed to remove existing socket file:{}:{}; remove it or choose another path",
            path.display(),
            io_reason(&error)
        ))),
        _ => Ok(None),
    }
}

fn refuse_all_but_stale_sockets(
    path: &Path,
    address: &SocketAddrUnix,
    found: &Metadata,
    link: bool,
) -> Result<(), ListenError> {
    let kind = found.file_type();
    let link = if link { "a symbolic link to " } else { "" };
    if !kind.is_socket() {
        let kind = if kind.is_file() {
            "a regular file"
        } else if kind.is_dir() {
            "a directory"
        } else {
            "something that is not a socket"
        };
        let advice = format!("{link}{kind} is there and was left alone; remove it or choose another path");
        return Err(refused(path, Errno::ADDRINUSE, &advice));
    }
    match probe(address) {
        // Nobody listens; or it went away while we looked.
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        // A full accept queue, and a socket of another type, show that it is in use as an answer does.
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS | Errno::PROTOTYPE) => {
            let advice =
                format!("{link}a socket is there on which another process listens; stop it or choose another path");
            Err(refused(path, Errno::ADDRINUSE, &advice))
        }
        Err(errno) => {
            let advice = format!(
                "{link}a socket is there, and whether somebody listens on it cannot be told ({}); remove it or choose \
                 another path",
                errno_reason(errno)
            );
            Err(refused(path, Errno::ADDRINUSE, &advice))
        }
    }
}

fn probe(address: &SocketAddrUnix) -> rustix::io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, address)
}

fn errno_reason(errno: Errno) -> String {
    reason(errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv6Addr, TcpListener, TcpStream, UdpSocket};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    fn tcp(host: Host, port: u16) -> ListenSpec {
        let name = format!("{port}").into();
        ListenSpec { name, address: ListenAddress::Tcp(HostPort { host, port }), descriptor: None }
    }

    fn local(port: u16) -> ListenSpec {
        tcp(Host::V4(Ipv4Addr::LOCALHOST), port)
    }

    fn udp(port: u16) -> ListenSpec {
        let at = HostPort { host: Host::V4(Ipv4Addr::LOCALHOST), port };
        ListenSpec { name: format!("u{port}").into(), address: ListenAddress::Udp(at), descriptor: None }
    }

    fn unix(path: &Path) -> ListenSpec {
        ListenSpec { name: path.into(), address: ListenAddress::Unix(path.to_owned()), descriptor: None }
    }

    fn fixed(number: RawFd) -> ListenSpec {
        ListenSpec { descriptor: Some(number), ..local(0) }
    }

    fn open(specs: &[ListenSpec]) -> (Result<Listeners, String>, Vec<String>) {
        let mut lines = Vec::new();
        let result = Listeners::open(specs, 16, &mut |line| lines.push(line));
        (result.map_err(|error| error.to_string()), lines)
    }

    fn error(specs: &[ListenSpec]) -> String {
        open(specs).0.unwrap_err()
    }

    fn address(listeners: &Listeners, index: usize) -> SocketAddr {
        rustix::net::getsockname(&listeners.all[index].socket).unwrap().try_into().unwrap()
    }

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("listeners-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn leave_stale_socket(path: &Path) {
        drop(UnixListener::bind(path).unwrap());
    }

    #[test]
    fn sockets_have_the_properties_that_servers_rely_on() {
        let specs = [local(0), tcp(Host::V6(Ipv6Addr::LOCALHOST), 0), udp(0)];
        let listeners = open(&specs).0.unwrap();
        for (index, listener) in listeners.all.iter().enumerate() {
            let socket = &listener.socket;
            let stream = index < 2;
            assert_eq!(sockopt::socket_reuseaddr(socket).unwrap(), stream);
            assert_eq!(sockopt::socket_acceptconn(socket).unwrap(), stream);
            assert!(!sockopt::socket_reuseport(socket).unwrap());
            assert!(!rustix::fs::fcntl_getfl(socket).unwrap().contains(rustix::fs::OFlags::NONBLOCK));
            assert!(rustix::io::fcntl_getfd(socket).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        }
        assert!(sockopt::ipv6_v6only(&listeners.all[1].socket).unwrap());
        TcpStream::connect(address(&listeners, 0)).unwrap();
        TcpStream::connect(address(&listeners, 1)).unwrap();
        UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"x", address(&listeners, 2)).unwrap();
    }

    #[test]
    fn names_are_resolved_to_ipv4_first() {
        for name in ["localhost", "127.1"] {
            let listeners = open(&[tcp(Host::Name(name.to_owned()), 0)]).0.unwrap();
            assert_eq!(address(&listeners, 0).ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
        }
        let text = error(&[tcp(Host::Name("no such host.invalid".to_owned()), 0)]);
        assert!(text.starts_with("failed to resolve host:no such host.invalid:"), "{text}");
    }

    #[test]
    fn workers_find_them_from_3_on_around_the_fixed_ones() {
        let directory = directory("numbers");
        let path = directory.join("a=b;c.sock");
        let specs = [local(0), fixed(4), local(0), fixed(0), unix(&path)];
        let (listeners, lines) = open(&specs);
        let listeners = listeners.unwrap();
        assert_eq!(listeners.variable(), OsString::from(format!("0=3;0=4;0=5;0=0;{}=6", path.display())));
        let numbers: Vec<RawFd> = listeners.descriptors().map(|(_, number)| number).collect();
        assert_eq!(numbers, [3, 4, 5, 0, 6]);
        assert!(listeners.uses_standard_input());
        assert_eq!(lines, [4, 0].map(|number| format!("socket is duplicated to file descriptor {number}")));
        let none = open(&[]).0.unwrap();
        assert_eq!(none.variable(), "");
        assert!(!none.uses_standard_input());
        drop(listeners);
        fs::remove_dir(directory).unwrap();
    }

    #[test]
    fn numbers_that_cannot_be_given_are_refused() {
        for number in [1, 2, 99_999_999, i32::MAX] {
            let text = error(&[fixed(number)]);
            assert!(text.starts_with(&format!("dup2(2) failed({number}): ")), "{text}");
        }
        assert!(error(&[fixed(99_999_999)]).contains(": Bad file descriptor"));
        assert!(error(&[fixed(7), fixed(7)]).starts_with("dup2(2) failed(7): "));
    }

    #[test]
    fn a_port_that_is_taken_is_refused_with_the_name_of_its_holder() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let text = error(&[local(port)]);
        // Here the holder is this very process.
        let expected = format!("failed to bind to {port}:Address already in use; the same port is given twice");
        assert!(text.starts_with(&expected), "{text}");
        let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let text = error(&[udp(port)]);
        assert!(text.starts_with(&format!("failed to bind to u{port}:Address already in use")), "{text}");
        let foreign = error(&[tcp(Host::V4(Ipv4Addr::new(192, 0, 2, 1)), 0)]);
        assert!(foreign.starts_with("failed to bind to 0:Cannot assign requested address; no network"), "{foreign}");
    }

    #[test]
    fn a_socket_file_is_for_everybody_and_goes_with_us() {
        let directory = directory("mode");
        let path = directory.join("s");
        let (listeners, lines) = open(&[unix(&path)]);
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o777);
        UnixStream::connect(&path).unwrap();
        assert!(lines.is_empty());
        listeners.unwrap().remove_socket_files(&mut |line| panic!("{line}"));
        fs::remove_dir(directory).unwrap();
    }

    #[test]
    fn stale_sockets_and_links_to_them_are_replaced() {
        let directory = directory("stale");
        let (stale, link, dangling) = (directory.join("stale"), directory.join("link"), directory.join("dangling"));
        let target = directory.join("target");
        leave_stale_socket(&stale);
        leave_stale_socket(&target);
        symlink(&target, &link).unwrap();
        symlink("/nonexistent/file", &dangling).unwrap();
        for path in [&stale, &link, &dangling] {
            let (listeners, lines) = open(&[unix(path)]);
            let listeners = listeners.unwrap();
            assert_eq!(lines, [format!("removing existing socket file:{}", path.display())]);
            UnixStream::connect(path).unwrap();
            drop(listeners);
            assert!(!path.exists());
        }
        assert!(fs::symlink_metadata(&target).is_ok(), "only the link was removed");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_is_in_use_or_no_socket_is_left_alone() {
        let directory = directory("refused");
        let at = |name: &str| directory.join(name);
        let _live = UnixListener::bind(at("live")).unwrap();
        let _datagram = UnixDatagram::bind(at("datagram")).unwrap();
        let full = UnixListener::bind(at("full")).unwrap();
        rustix::net::listen(&full, 0).unwrap();
        let _waiting = UnixStream::connect(at("full")).unwrap();
        fs::write(at("file"), "precious").unwrap();
        fs::create_dir(at("directory")).unwrap();
        for name in ["live", "file", "directory"] {
            symlink(at(name), at(&format!("link-to-{name}"))).unwrap();
        }
        let names = [
            ("live", "another process listens"),
            ("datagram", "another process listens"),
            ("full", "another process listens"),
            ("file", "; a regular file is there"),
            ("directory", "; a directory is there"),
            ("link-to-live", "; a symbolic link to a socket is there on which another process listens"),
            ("link-to-file", "; a symbolic link to a regular file is there"),
            ("link-to-directory", "; a symbolic link to a directory is there"),
        ];
        for (name, why) in names {
            let before = fs::symlink_metadata(at(name)).unwrap().ino();
            let (result, lines) = open(&[unix(&at(name))]);
            let text = result.unwrap_err();
            let start = format!("failed to listen to file {}:Address already in use; ", at(name).display());
            assert!(text.starts_with(&start) && text.contains(why), "{text}");
            assert!(lines.is_empty());
            assert_eq!(fs::symlink_metadata(at(name)).unwrap().ino(), before);
        }
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "precious");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn paths_that_cannot_be_bound_are_refused() {
        let long = PathBuf::from(format!("/tmp/{}", "x".repeat(103)));
        assert!(error(&[unix(&long)]).contains(":File name too long; the path of a unix socket can have 107 bytes"));
        let text = error(&[unix(Path::new("/nonexistent/s"))]);
        assert_eq!(
            text,
            "failed to listen to file /nonexistent/s:No such file or directory; create its directory first"
        );
    }

    #[test]
    fn a_failure_removes_the_socket_files_made_before_it() {
        let directory = directory("partial");
        let path = directory.join("s");
        error(&[unix(&path), unix(Path::new("/nonexistent/s"))]);
        fs::remove_dir(directory).unwrap();
    }

    #[test]
    fn a_socket_file_of_somebody_else_is_not_removed() {
        let directory = directory("stolen");
        let path = directory.join("s");
        let mut listeners = open(&[unix(&path)]).0.unwrap();
        fs::remove_file(&path).unwrap();
        let _thief = UnixListener::bind(&path).unwrap();
        listeners.remove_socket_files(&mut |line| panic!("{line}"));
        drop(listeners);
        UnixStream::connect(&path).unwrap();
        fs::remove_dir_all(directory).unwrap();
    }
}
