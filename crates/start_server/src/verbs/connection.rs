//! A verb's end of the control socket: connects, makes sure of whom it talks to, asks and listens.

use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use control::{LONGEST_LINE, Reply, Request, decode_reply, encode};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::geteuid;
use sys::credentials;

use super::deadline::Deadline;
use super::{Ending, Failure, tell};
use crate::control_address::{self, Address};
use crate::errno::io_reason;
use crate::files::hold_socket;
use crate::trusted_users::{Trusted, TrustedUsers};

/// A connection on which nothing was asked yet.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    /// The superdaemon; 0 if it is in another PID namespace.
    pub pid: i32,
}

impl Connection {
    /// To the superdaemon with this PID, where the kernel shows that it listens. None if it has no control socket that
    /// can be found so: an original, one that was given `--control-socket`, or one that could make none.
    pub fn to_pid(pid: i32, deadline: Deadline) -> Result<Option<Self>, Failure> {
        let mut refused = None;
        for address in control_address::candidates(pid) {
            match connect_in(pid, &address, deadline) {
                // Who has made the socket is the one, whatever it is called.
                Ok(stream) if credentials::of_peer(&stream).is_ok_and(|peer| peer.pid == pid) => {
                    return Ok(Some(Self { stream, pid }));
                }
                Ok(_) => {}
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {}
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match refused {
            None => Ok(None),
            Some(error) if is_timeout(&error) => {
                let reason = format!("the superdaemon (pid {pid}) does not take connections");
                Err(Failure::new(Ending::TimedOut, reason))
            }
            Some(error) if error.kind() == ErrorKind::PermissionDenied => {
                let user =
                    sys::process_tree::user(pid).map_or("another user".to_owned(), |user| format!("user {user}"));
                Err(Failure::new(
                    Ending::Failed,
                    format!(
                        "only {user} and root may talk to this superdaemon (pid {pid}), and you are user {}",
                        geteuid().as_raw()
                    ),
                ))
            }
            Some(error) => {
                let why = io_reason(&error);
                Err(Failure::new(Ending::Failed, format!("failed to connect to the superdaemon (pid {pid}): {why}")))
            }
        }
    }

    /// To the superdaemon that listens at this path; `expected` is its PID, where the command names that as well. No link
    /// is followed on the way that neither root nor our user has made.
    pub fn to_path(path: &Path, expected: Option<i32>, deadline: Deadline) -> Result<Self, Failure> {
        let stream = hold_socket(path).and_then(|(socket, found)| {
            let through = Path::new("/proc/self/fd").join(socket.as_raw_fd().to_string());
            match SocketAddrUnix::new(&through).map_err(io::Error::from).and_then(|at| connect_to(&at, deadline)) {
                // There is no /proc of ours.
                Err(error) if error.kind() == ErrorKind::NotFound => connect_to(&SocketAddrUnix::new(path)?, deadline),
                connected => connected,
            }
            .map(|stream| (stream, found.st_uid))
        });
        match stream {
            Ok((stream, owner)) => Self::verified(stream, owner, expected),
            Err(error) => {
                let ending = match error.kind() {
                    ErrorKind::NotFound | ErrorKind::ConnectionRefused => Ending::NotRunning,
                    _ if is_timeout(&error) => Ending::TimedOut,
                    _ => Ending::Failed,
                };
                Err(Failure::new(
                    ending,
                    format!("no superdaemon answers at {}: {}", path.display(), io_reason(&error)),
                ))
            }
        }
    }

    /// Only our own user's superdaemon, or root's, is believed. Root sees to those of all users: there the socket's file has
    /// to be of the user who answers.
    fn verified(stream: UnixStream, owner: u32, expected: Option<i32>) -> Result<Self, Failure> {
        let peer = credentials::of_peer(&stream).map_err(|error| {
            Failure::new(Ending::Failed, format!("failed to learn who holds the control socket: {}", io_reason(&error)))
        })?;
        let us = geteuid();
        let is_trusted = TrustedUsers::of_this_process().trust(peer) == Trusted::Yes;
        let is_users_own = us.is_root() && peer.uid == owner;
        if !(is_trusted || is_users_own) {
            return Err(Failure::new(
                Ending::Failed,
                format!(
                    "the control socket is held by user {}, not by you (user {}) or root; run this as that user",
                    peer.uid,
                    us.as_raw()
                ),
            ));
        }
        if let Some(expected) = expected.filter(|expected| *expected != peer.pid) {
            return Err(Failure::new(
                Ending::Failed,
                format!(
                    "the control socket is held by pid {}, and the superdaemon that was named has pid {expected}; give \
                     only one of them",
                    peer.pid
                ),
            ));
        }
        if !is_trusted {
            tell(format!("this is a superdaemon of user {} (pid {})", peer.uid, peer.pid));
        }
        Ok(Self { stream, pid: peer.pid })
    }

    /// Asks, passes every line of progress on, and returns the answer. Shortly before the deadline the request is given
    /// up; the answer then says how far it had come, and may still be that it was met.
    pub fn ask(self, request: Request, deadline: Deadline, progress: &mut dyn FnMut(&str)) -> Result<Reply, Failure> {
        let Self { mut stream, pid } = self;
        let broken = |error: io::Error| {
            Failure::new(
                Ending::Failed,
                format!("the connection to the superdaemon (pid {pid}) broke: {}", io_reason(&error)),
            )
        };
        match send(&mut stream, &request, deadline) {
            // It does not want to hear us, but has said why.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) if is_timeout(&error) => return Ok(no_answer()),
            other => other.map_err(broken)?,
        }
        let mut gave_up = false;
        let mut reader = BufReader::new(stream.try_clone().map_err(broken)?);
        let mut line = Vec::new();
        loop {
            let left = || if gave_up { deadline.left() } else { deadline.left_until_giving_up() };
            match read_line(&stream, &mut reader, &mut line, left) {
                Ok(true) => {}
                Ok(false) => {
                    return Err(Failure::new(
                        Ending::Failed,
                        format!("the superdaemon (pid {pid}) ended without an answer; its log may tell why"),
                    ));
                }
                Err(error) if is_timeout(&error) && !gave_up => {
                    gave_up = true;
                    match send(&mut stream, &Request::GiveUp, deadline) {
                        Err(error) if is_timeout(&error) => return Ok(no_answer()),
                        other => other.map_err(broken)?,
                    }
                    continue;
                }
                Err(error) if is_timeout(&error) => return Ok(no_answer()),
                Err(error) => return Err(broken(error)),
            }
            let text = String::from_utf8_lossy(&line).into_owned();
            line.clear();
            match decode_reply(&text).map_err(|reason| Failure::new(Ending::Failed, reason))? {
                Reply::Progress { line } => progress(&line),
                answer => return Ok(answer),
            }
        }
    }
}

/// What is known when the superdaemon did not even say how far it has come.
fn no_answer() -> Reply {
    Reply::TimedOut { committed: None, draining: Vec::new(), serving: None, abandoned: false }
}

fn send(stream: &mut UnixStream, request: &Request, deadline: Deadline) -> io::Result<()> {
    stream.set_write_timeout(deadline.left().map(|left| left.max(Duration::from_millis(1))))?;
    stream.write_all(encode(request).as_bytes())
}

/// Connects to where a process listens, as that process sees the file system.
fn connect_in(pid: i32, address: &Address, deadline: Deadline) -> io::Result<UnixStream> {
    let path = match address {
        Address::Abstract(name) => return connect_to(&SocketAddrUnix::new_abstract_name(name)?, deadline),
        Address::Path(path) => path,
    };
    let Some((directory, name)) = path.parent().zip(path.file_name()) else {
        return Err(ErrorKind::InvalidInput.into());
    };
    let directory = match in_root_of(pid, directory) {
        Ok(directory) => directory,
        // An old kernel, or not the right to look into the process: most often it is where we are.
        Err(_) => openat(CWD, directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?,
    };
    let through = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    match SocketAddrUnix::new(&through).map_err(io::Error::from).and_then(|at| connect_to(&at, deadline)) {
        // There is no /proc of ours.
        Err(error) if error.kind() == ErrorKind::NotFound => connect_to(&SocketAddrUnix::new(path)?, deadline),
        connected => connected,
    }
}

fn in_root_of(pid: i32, directory: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, format!("/proc/{pid}/root"), flags, Mode::empty())?;
    // A symbolic link in there must not lead out of it.
    openat2(&root, directory, flags, Mode::empty(), ResolveFlags::IN_ROOT)
}

/// Connects without waiting for longer than there is time. Somebody who does not take connections, and whose queue is
/// full, is tried again and again.
fn connect_to(address: &SocketAddrUnix, deadline: Deadline) -> io::Result<UnixStream> {
    const PAUSE: Duration = Duration::from_millis(10);
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match connect(&socket, address) {
            Ok(()) => {
                let stream = UnixStream::from(socket);
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(Errno::AGAIN) if deadline.is_over() => return Err(ErrorKind::TimedOut.into()),
            Err(Errno::AGAIN) => thread::sleep(PAUSE),
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Appends to `line` until it is complete; false at the end of the stream. What was read before a timeout is kept.
fn read_line(
    stream: &UnixStream,
    reader: &mut BufReader<UnixStream>,
    line: &mut Vec<u8>,
    left: impl Fn() -> Option<Duration>,
) -> io::Result<bool> {
    loop {
        // Asked each time: whoever sends a byte now and then must not hold us up.
        let left = left();
        if left.is_some_and(|left| left.is_zero()) && reader.buffer().is_empty() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(left.filter(|left| !left.is_zero()))?;
        let found = match reader.fill_buf() {
            Ok([]) => return Ok(false),
            Ok(buffer) => buffer,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = found.iter().position(|&byte| byte == b'\n');
        let taken = end.map_or(found.len(), |end| end + 1);
        line.extend_from_slice(found.get(..taken).unwrap_or_default());
        reader.consume(taken);
        if end.is_some() {
            return Ok(true);
        }
        if line.len() > LONGEST_LINE {
            return Err(io::Error::new(ErrorKind::InvalidData, "a line of the answer is too long"));
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
