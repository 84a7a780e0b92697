//! The listeners: sockets that the superdaemon binds once and holds for its whole life. Set up before anything is
//! spawned; every worker is given all of them, and `SERVER_STARTER_PORT` tells it which is which.

mod bound_address;
mod handed_over;
mod internet;
mod listener;
mod numbers;
mod passed;
mod socket_file;
mod socket_options;
mod unix;

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SocketType;
use sys::apart::Apart;

pub use self::bound_address::BoundAddress;
pub use self::listener::{Kind, Listener};
use self::numbers::Numbers;
use self::passed::Claims;
pub use self::passed::PassedSockets;
use self::socket_file::{SocketFile, identity_of};
use crate::errno::{io_reason, reason};
use crate::files::Directories;
use crate::listen_spec::{Host, ListenAddress, ListenSpec};
use crate::orphans::{self, Orphan};

/// All listeners, in the order of their specifications. Dropping them closes the sockets and removes the socket files.
#[derive(Debug)]
pub struct Listeners {
    all: Vec<Listener>,
    /// Workers of a superdaemon that was killed, from whom listeners were taken.
    orphans: Vec<Orphan>,
    /// The names of sockets that the service manager has kept and that nobody asks for any more.
    released: Vec<String>,
    /// How often one of them was bound again.
    changes: u64,
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
            at.host = match internet::resolve(at)? {
                IpAddr::V4(address) => Host::V4(address),
                IpAddr::V6(address) => Host::V6(address),
            };
        }
    }
    Ok(())
}

impl Listeners {
    /// Binds and listens, where no socket was passed. Workers find the listeners from descriptor `first` on; `report`
    /// gets lines to log.
    ///
    /// # Errors
    /// The first listener that cannot be had. Socket files made until then are removed again.
    pub fn open(
        specs: &[ListenSpec],
        passed: PassedSockets,
        first: RawFd,
        report: &mut dyn FnMut(String),
    ) -> Result<Self, ListenError> {
        let Claims { listeners: claims, released } = passed.claim(specs);
        let numbers = Numbers::choose(claims.iter().map(|(spec, _)| spec.descriptor), first)?;
        let mut listeners = Listeners { all: Vec::new(), orphans: Vec::new(), released, changes: 0 };
        let mut directories = Directories::default();
        let mut passed_at = Vec::new();
        for ((spec, passed), number) in claims.into_iter().zip(numbers.each()) {
            passed_at.extend(passed.is_some().then_some(number));
            let (listener, orphans) = Listener::open(spec, passed, number, &numbers, &mut directories, report)?;
            for orphan in orphans {
                let Orphan { generation, pid, .. } = orphan;
                let address = listener.spelling().display();
                report(format!(
                    "{address} is taken over from generation {generation} (pid {pid}), whose superdaemon is gone"
                ));
                listeners.add_orphan(orphan);
            }
            listeners.all.push(listener);
        }
        // Nothing was in the way of those that were passed, so nobody has looked for workers there.
        let passed = listeners.all.iter().filter(|listener| passed_at.contains(&listener.number));
        for orphan in orphans::left_with(passed.map(AsFd::as_fd)) {
            report(format!(
                "generation {} (pid {}) serves there without its superdaemon, which is gone; it will be replaced",
                orphan.generation, orphan.pid
            ));
            listeners.add_orphan(orphan);
        }
        Ok(listeners)
    }

    /// The workers from whom listeners were taken, once.
    pub fn take_orphans(&mut self) -> Vec<Orphan> {
        std::mem::take(&mut self.orphans)
    }

    /// The names of sockets that the service manager need not keep any longer, once.
    pub fn take_released(&mut self) -> Vec<String> {
        std::mem::take(&mut self.released)
    }

    fn add_orphan(&mut self, orphan: Orphan) {
        if self.orphans.iter().all(|known| known.pid != orphan.pid) {
            self.orphans.push(orphan);
        }
    }

    /// The value of `SERVER_STARTER_PORT`: `ADDRESS=FD` for each listener, with `;` between them.
    pub fn variable(&self) -> OsString {
        let mut value = OsString::new();
        for (index, listener) in self.all.iter().enumerate() {
            if index > 0 {
                value.push(";");
            }
            value.push(listener.spelling());
            value.push(format!("={}", listener.number));
        }
        value
    }

    /// Each socket, with the descriptor that workers are to find it at.
    pub fn descriptors(&self) -> impl Iterator<Item = (BorrowedFd<'_>, RawFd)> {
        self.all.iter().map(|listener| (listener.as_fd(), listener.number))
    }

    /// All of them, in order.
    pub fn all(&self) -> &[Listener] {
        &self.all
    }

    /// Binds the unix socket at this place, counted from 0, to its path again, which must be free; workers find the new
    /// socket from now on, and its file has the permissions `mode`. The old socket comes back.
    ///
    /// # Errors
    /// It cannot be had; the old socket stays.
    pub fn bind_again(&mut self, place: usize, mode: u32) -> Result<Option<OwnedFd>, ListenError> {
        let Some(Listener { spec, socket, file: Some(file), .. }) = self.all.get_mut(place) else { return Ok(None) };
        let kind = if matches!(spec.address, ListenAddress::Unix(_)) { SocketType::STREAM } else { SocketType::DGRAM };
        let place = unix::place_of(&file.path, &mut Directories::default())?;
        let anew = unix::bind_again(&file.path, kind, mode, &spec.options)?;
        let old = std::mem::replace(socket, anew);
        // If it is gone already there is nothing to be removed at the end.
        if let Ok(identity) = identity_of(&*socket, &file.path, &place) {
            file.identity = identity;
        }
        self.changes += 1;
        Ok(Some(old))
    }

    /// Leaves the sockets to the kernel, at the end of this process. Somebody may have connected to a unix socket, or sent
    /// to it, and nobody has taken that: descriptors that came along are closed with the socket. A close that lingers
    /// does not do so in a process that exits. What else may wait is left to a process that has the sockets as well, and
    /// dies with this one.
    pub fn leave(self) {
        let unix = self.all.iter().filter(|listener| matches!(listener.kind(), Kind::Unix | Kind::UnixDatagram));
        let sockets: Vec<BorrowedFd<'_>> = unix.map(AsFd::as_fd).filter(|socket| is_readable(*socket)).collect();
        if !sockets.is_empty() {
            let _ = Apart::begin(&sockets, |_| {
                loop {
                    std::thread::sleep(Duration::from_secs(3600));
                }
            });
        }
        std::mem::forget(self);
    }

    /// A number that is another one when a listener has another socket or file.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether a listener takes the place of standard input.
    pub fn uses_standard_input(&self) -> bool {
        self.all.iter().any(|listener| listener.number == 0)
    }

    /// Removes the socket files, except those that are not ours any more. `report` gets lines to log.
    pub fn remove_socket_files(&mut self, report: &mut dyn FnMut(String)) {
        let mut directories = Directories::default();
        for file in self.all.iter_mut().filter_map(|listener| listener.file.take()) {
            if let Err(error) = file.remove(&mut directories) {
                report(format!("failed to unlink file:{}:{}", file.path.display(), io_reason(&error)));
            }
        }
    }
}

fn is_readable(socket: BorrowedFd<'_>) -> bool {
    poll(&mut [PollFd::from_borrowed_fd(socket, PollFlags::IN)], Some(&Timespec::default())) != Ok(0)
}

fn cannot_create(errno: Errno) -> ListenError {
    let advice = match errno {
        Errno::MFILE => "raise the limit on open files (ulimit -n)",
        Errno::AFNOSUPPORT => "this machine does not support addresses of that kind; use another address",
        _ => "this is the machine's refusal, see socket(2)",
    };
    ListenError(format!("failed to create socket:{}; {advice}", errno_reason(errno)))
}

fn errno_reason(errno: Errno) -> String {
    reason(errno.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen_spec::{HostPort, ListenOptions, UnixAddress};
    use rustix::net::sockopt;
    use std::fs;
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::path::{Path, PathBuf};

    fn spec(spelling: impl Into<OsString>, address: ListenAddress) -> ListenSpec {
        let options = ListenOptions { backlog: Some(16), ..ListenOptions::default() };
        ListenSpec { spelling: spelling.into(), name: None, address, descriptor: None, options }
    }

    fn tcp(host: Host, port: u16) -> ListenSpec {
        spec(port.to_string(), ListenAddress::Tcp(HostPort { host, port }))
    }

    fn local(port: u16) -> ListenSpec {
        tcp(Host::V4(Ipv4Addr::LOCALHOST), port)
    }

    fn udp(port: u16) -> ListenSpec {
        let at = HostPort { host: Host::V4(Ipv4Addr::LOCALHOST), port };
        spec(format!("u{port}"), ListenAddress::Udp(at))
    }

    fn unix(path: &Path) -> ListenSpec {
        spec(path, ListenAddress::Unix(UnixAddress::Path(path.to_owned())))
    }

    fn fixed(number: RawFd) -> ListenSpec {
        ListenSpec { descriptor: Some(number), ..local(0) }
    }

    fn open(specs: &[ListenSpec]) -> (Result<Listeners, String>, Vec<String>) {
        let mut lines = Vec::new();
        let result = Listeners::open(specs, PassedSockets::default(), 3, &mut |line| lines.push(line));
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
        let lines: Vec<_> = lines.iter().filter(|line| !line.starts_with("listening on 127.0.0.1:")).collect();
        assert_eq!(lines, ["socket is duplicated to file descriptor 4", "socket is duplicated to file descriptor 0"]);
        let none = open(&[]).0.unwrap();
        assert_eq!(none.variable(), "");
        assert!(!none.uses_standard_input());
        drop(listeners);
        fs::remove_dir(directory).unwrap();
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
