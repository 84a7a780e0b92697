//! A verb's end of the control socket: connects, makes sure of whom it talks to, asks and listens.

use std::io::{self, BufRead, BufReader, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use control::{LONGEST_LINE, Reply, Request, decode_reply, encode};
use rustix::process::geteuid;
use sys::credentials;

use super::{Ending, Failure};
use crate::control_socket::abstract_name;
use crate::errno::io_reason;

/// How long a superdaemon that was told that its client gave up may take to say where it stands.
const LAST_WORD: Duration = Duration::from_secs(5);

/// A connection on which nothing was asked yet.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    /// The superdaemon; 0 if it is in another PID namespace.
    pub pid: i32,
}

impl Connection {
    /// To the superdaemon with this PID, at the name that follows from it. None if it has no control socket there:
    /// an original, or one that was given `--control-socket`.
    pub fn to_pid(pid: i32) -> Result<Option<Self>, Failure> {
        let stream =
            SocketAddr::from_abstract_name(abstract_name(pid)).and_then(|address| UnixStream::connect_addr(&address));
        match stream {
            Ok(stream) => {
                let connection = Self::verified(stream)?;
                if connection.pid == pid {
                    Ok(Some(connection))
                } else {
                    Err(Failure::new(
                        Ending::Failed,
                        format!(
                            "the control socket of pid {pid} is held by pid {}, which is not to be trusted; give \
                             --control-socket to the superdaemon and to this command",
                            connection.pid
                        ),
                    ))
                }
            }
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
            Err(error) => Err(Failure::new(
                Ending::Failed,
                format!("failed to connect to the control socket @{}: {}", abstract_name(pid), io_reason(&error)),
            )),
        }
    }

    /// To the superdaemon that listens at this path.
    pub fn to_path(path: &Path) -> Result<Self, Failure> {
        match UnixStream::connect(path) {
            Ok(stream) => Self::verified(stream),
            Err(error) => {
                let ending = match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ending::NotRunning,
                    _ => Ending::Failed,
                };
                Err(Failure::new(
                    ending,
                    format!("no superdaemon answers at {}: {}", path.display(), io_reason(&error)),
                ))
            }
        }
    }

    /// Only our own user's superdaemon, or root's, is believed.
    fn verified(stream: UnixStream) -> Result<Self, Failure> {
        let peer = credentials::of_peer(&stream).map_err(|error| {
            Failure::new(Ending::Failed, format!("failed to learn who holds the control socket: {}", io_reason(&error)))
        })?;
        let us = geteuid();
        if peer.uid == us.as_raw() || peer.uid == 0 || us.is_root() {
            return Ok(Self { stream, pid: peer.pid });
        }
        Err(Failure::new(
            Ending::Failed,
            format!(
                "the control socket is held by user {}, not by you (user {}) or root; run this as that user",
                peer.uid,
                us.as_raw()
            ),
        ))
    }

    /// Asks, passes every line of progress on, and returns the answer. After `timeout` the request is given up; the
    /// answer then says how far it had come, and may still be that it was met.
    pub fn ask(
        self,
        request: Request,
        timeout: Option<Duration>,
        progress: &mut dyn FnMut(&str),
    ) -> Result<Reply, Failure> {
        let Self { mut stream, pid } = self;
        let broken = |error: io::Error| {
            Failure::new(
                Ending::Failed,
                format!("the connection to the superdaemon (pid {pid}) broke: {}", io_reason(&error)),
            )
        };
        match stream.write_all(encode(&request).as_bytes()) {
            // It does not want to hear us, but has said why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other.map_err(broken)?,
        }
        let mut deadline = timeout.map(|timeout| Instant::now() + timeout);
        let mut gave_up = false;
        let mut reader = BufReader::new(stream.try_clone().map_err(broken)?);
        let mut line = Vec::new();
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
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
                    deadline = Some(Instant::now() + LAST_WORD);
                    stream.write_all(encode(&Request::GiveUp).as_bytes()).map_err(broken)?;
                    continue;
                }
                Err(error) if is_timeout(&error) => {
                    return Ok(Reply::TimedOut {
                        committed: None,
                        draining: Vec::new(),
                        serving: None,
                        abandoned: false,
                    });
                }
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

/// Appends to `line` until it is complete; false at the end of the stream. What was read before a timeout is kept.
fn read_line(
    stream: &UnixStream,
    reader: &mut BufReader<UnixStream>,
    line: &mut Vec<u8>,
    left: Option<Duration>,
) -> io::Result<bool> {
    loop {
        if left.is_some_and(|left| left.is_zero()) && reader.buffer().is_empty() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(left.filter(|left| !left.is_zero()))?;
        let found = match reader.fill_buf() {
            Ok([]) => return Ok(false),
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
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
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a line of the answer is too long"));
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
