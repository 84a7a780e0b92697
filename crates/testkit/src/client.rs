//! A client of the server under test: one request at a time, each on a new connection, every outcome counted.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::wait::{patience, wait_for};

/// Where a server is reached.
#[derive(Clone, Debug)]
pub enum Address {
    /// By TCP.
    Tcp(SocketAddr),
    /// By the unix socket at this path.
    Unix(PathBuf),
}

impl Address {
    /// A port of the loopback interface.
    pub fn local(port: u16) -> Self {
        Self::Tcp(SocketAddr::from(([127, 0, 0, 1], port)))
    }
}

/// The answer of a `testserver`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reply {
    /// The generation that answered.
    pub generation: u32,
    /// Its process.
    pub pid: u32,
}

/// What became of a request that was not answered properly.
#[derive(Debug)]
pub enum Failure {
    /// Nobody listened.
    Refused(io::Error),
    /// The connection ended before the answer was complete.
    Reset(io::Error),
    /// No answer came in time.
    Timeout(io::Error),
    /// An answer came, but not one of a `testserver`.
    Wrong(String),
}

/// Asks for the page `path` on a new connection.
///
/// # Errors
/// A [`Failure`]: anything but a complete answer of a `testserver` within [`patience`].
pub fn get(address: &Address, path: &str) -> Result<Reply, Failure> {
    let limit = patience();
    let answer = match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect_timeout(address, limit).map_err(Failure::of_connect)?;
            stream.set_read_timeout(Some(limit)).map_err(Failure::of_exchange)?;
            exchange(stream, path)
        }
        Address::Unix(socket) => {
            let stream = UnixStream::connect(socket).map_err(Failure::of_connect)?;
            stream.set_read_timeout(Some(limit)).map_err(Failure::of_exchange)?;
            exchange(stream, path)
        }
    };
    parse(&answer.map_err(Failure::of_exchange)?)
}

fn exchange(mut stream: impl Read + Write, path: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    // One write, hence one segment.
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

fn parse(answer: &str) -> Result<Reply, Failure> {
    let reply = || {
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let (generation, pid) = body.trim_end().strip_prefix("generation=")?.split_once(" pid=")?;
        head.starts_with("HTTP/1.1 200 ").then_some(())?;
        Some(Reply { generation: generation.parse().ok()?, pid: pid.parse().ok()? })
    };
    reply().ok_or_else(|| Failure::Wrong(answer.to_owned()))
}

impl Failure {
    fn of_connect(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::Timeout(error),
            ErrorKind::ConnectionReset => Self::Reset(error),
            _ => Self::Refused(error),
        }
    }

    fn of_exchange(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock => Self::Timeout(error),
            _ => Self::Reset(error),
        }
    }
}

/// The outcomes of many requests.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Requests that were answered as they should be.
    pub ok: u64,
    /// Connections that were refused.
    pub refused: u64,
    /// Connections that ended without a complete answer.
    pub reset: u64,
    /// Requests that were not answered in time.
    pub timeout: u64,
    /// Answers that made no sense.
    pub wrong: u64,
    /// How many requests each generation answered.
    pub generations: BTreeMap<u32, u64>,
}

impl Tally {
    /// Requests that somebody would have missed.
    pub fn lost(&self) -> u64 {
        self.refused + self.reset + self.timeout + self.wrong
    }

    /// Counts one more outcome.
    pub fn count(&mut self, outcome: &Result<Reply, Failure>) {
        match outcome {
            Ok(reply) => {
                self.ok += 1;
                *self.generations.entry(reply.generation).or_default() += 1;
            }
            Err(Failure::Refused(_)) => self.refused += 1,
            Err(Failure::Reset(_)) => self.reset += 1,
            Err(Failure::Timeout(_)) => self.timeout += 1,
            Err(Failure::Wrong(_)) => self.wrong += 1,
        }
    }
}

/// A thread that sends request after request until it is told to stop.
#[derive(Debug)]
pub struct Client {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: Option<JoinHandle<Tally>>,
}

impl Client {
    /// Starts asking at `address` for `/`.
    pub fn start(address: Address) -> Self {
        Self::asking(address, "/")
    }

    /// Starts asking at `address` for `path`.
    pub fn asking(address: Address, path: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let (told, counted, path) = (Arc::clone(&stop), Arc::clone(&answered), path.to_owned());
        let thread = thread::spawn(move || {
            let mut tally = Tally::default();
            while !told.load(Ordering::Relaxed) {
                let outcome = get(&address, &path);
                if outcome.is_ok() {
                    counted.fetch_add(1, Ordering::Relaxed);
                }
                tally.count(&outcome);
                // Closed connections keep their port for a minute: without a pause, a minute's ports are soon gone.
                thread::sleep(Duration::from_millis(1));
            }
            tally
        });
        Self { stop, answered, thread: Some(thread) }
    }

    /// Waits until `more` further requests were answered.
    ///
    /// # Panics
    /// When that takes longer than [`patience`].
    pub fn wait_answers(&self, more: u64) {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        wait_for(|| format!("{more} more answers"), || (self.answered.load(Ordering::Relaxed) >= goal).then_some(()));
    }

    /// Ends the client after the request that is under way, and gives its count.
    ///
    /// # Panics
    /// When the client's thread has panicked.
    pub fn stop(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().and_then(|thread| thread.join().ok()).expect("the client's thread has panicked")
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Port;
    use std::net::TcpListener;

    fn answering(answer: &'static [u8]) -> Address {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1000];
            assert!(stream.read(&mut request).unwrap() > 0);
            stream.write_all(answer).unwrap();
        });
        address
    }

    #[test]
    fn a_proper_answer_is_understood() {
        let address = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 22\r\n\r\ngeneration=7 pid=4711\n");
        assert_eq!(get(&address, "/").unwrap(), Reply { generation: 7, pid: 4711 });
    }

    #[test]
    fn every_other_outcome_has_its_name() {
        assert!(matches!(get(&answering(b"HTTP/1.1 500 Oops\r\n\r\n"), "/"), Err(Failure::Wrong(_))));
        assert!(matches!(get(&answering(b""), "/"), Err(Failure::Reset(_))));
        let free = Port::new();
        assert!(matches!(get(&Address::local(free.number()), "/"), Err(Failure::Refused(_))));
        let nowhere = Address::Unix("/nowhere/to/be/found".into());
        assert!(matches!(get(&nowhere, "/"), Err(Failure::Refused(_))));
    }

    #[test]
    fn a_tally_counts_what_was_lost() {
        let mut tally = Tally::default();
        tally.count(&Ok(Reply { generation: 1, pid: 1 }));
        tally.count(&Ok(Reply { generation: 2, pid: 2 }));
        tally.count(&Err(Failure::Wrong(String::new())));
        tally.count(&Err(Failure::Refused(ErrorKind::ConnectionRefused.into())));
        assert_eq!((tally.ok, tally.lost()), (2, 2));
        assert_eq!(tally.generations, BTreeMap::from([(1, 1), (2, 1)]));
    }
}
