//! Clients: one that asks once, and a crowd of them that ask without a pause, keep a tally of what they lost, and note how
//! long each answer took.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::{ms, now};

/// So many clients ask at a time, in all about 2,000 times a second.
const CLIENTS: u32 = 8;
const PAUSE: Duration = Duration::from_millis(4);
const PATIENCE: Duration = Duration::from_secs(5);

/// One request, on a connection of its own. Gives the PID that answered.
///
/// # Errors
/// A sentence.
pub fn ask(address: SocketAddr) -> Result<i32, String> {
    let answer = open(address).and_then(|mut stream| exchange(&mut stream, &mut Vec::new()));
    let answer = answer.map_err(|error| format!("no answer: {error}"))?;
    answer.pid.ok_or_else(|| "the answer names no process".to_owned())
}

/// One request of a crowd.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// When it was sent.
    pub sent: i64,
    /// When it was answered, or not.
    pub over: i64,
    /// What became of it instead of an answer.
    pub loss: Option<Loss>,
}

/// How a request is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// Nobody listened.
    Refused,
    /// The connection, a new one, was closed or reset before the first byte of an answer.
    Reset,
    /// The same with a connection that had served before: the server closed it while the client asked. HTTP lets clients
    /// ask again then.
    Reused,
    /// The connection was closed or reset within an answer.
    Short,
    /// Nothing came within the time that the client has.
    Timeout,
    /// An answer that says no, or anything else.
    Other,
}

impl Loss {
    /// All of them, each with the measure that counts it.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::Refused, "lost_refused"),
        (Self::Reset, "lost_reset"),
        (Self::Reused, "lost_reused"),
        (Self::Short, "lost_short"),
        (Self::Timeout, "lost_timeout"),
        (Self::Other, "lost_other"),
    ];

    /// What an error means on a connection that was `reused` or not, when an answer had `begun` or not.
    fn of(error: &io::Error, reused: bool, begun: bool) -> Self {
        use io::ErrorKind::{
            BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, TimedOut, UnexpectedEof, WouldBlock,
        };
        match error.kind() {
            ConnectionRefused => Self::Refused,
            TimedOut | WouldBlock => Self::Timeout,
            UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe => match (begun, reused) {
                (true, _) => Self::Short,
                (false, true) => Self::Reused,
                (false, false) => Self::Reset,
            },
            _ => Self::Other,
        }
    }
}

impl Request {
    /// Whether it was answered.
    pub fn is_answered(&self) -> bool {
        self.loss.is_none()
    }

    /// How long it took, in ms.
    pub fn took(&self) -> f64 {
        ms(self.sent, self.over)
    }
}

/// Clients that ask until they are stopped.
#[derive(Debug)]
pub struct Crowd {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<Request>>>,
}

impl Crowd {
    /// A new connection for every request, or as few connections as possible.
    pub fn start(address: SocketAddr, keep_alive: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = || {
            let stop = Arc::clone(&stop);
            thread::spawn(move || client(address, keep_alive, &stop))
        };
        Self { clients: (0..CLIENTS).map(|_| client()).collect(), stop }
    }

    /// What they have seen.
    pub fn stop(self) -> Vec<Request> {
        self.stop.store(true, Ordering::Relaxed);
        self.clients.into_iter().flat_map(|client| client.join().unwrap_or_default()).collect()
    }
}

fn client(address: SocketAddr, keep_alive: bool, stop: &AtomicBool) -> Vec<Request> {
    let mut requests = Vec::new();
    let mut kept = None;
    while !stop.load(Ordering::Relaxed) {
        let (request, stream) = request(address, kept.take());
        requests.push(request);
        kept = stream.filter(|_| keep_alive);
        thread::sleep(PAUSE);
    }
    requests
}

/// One request, on a connection that was kept or on a new one, and the connection, if it can be kept.
fn request(address: SocketAddr, kept: Option<TcpStream>) -> (Request, Option<TcpStream>) {
    // A connection that the server has closed meanwhile is no loss: nothing was asked on it.
    let usable = kept.filter(is_open);
    let reused = usable.is_some();
    let mut text = Vec::new();
    let sent = now();
    let outcome = usable.map_or_else(|| open(address), Ok).and_then(|mut stream| {
        let answer = exchange(&mut stream, &mut text)?;
        Ok((stream, answer))
    });
    let loss = outcome.as_ref().err().map(|error| Loss::of(error, reused, !text.is_empty()));
    let stream = outcome.ok().filter(|(_, answer)| !answer.last).map(|(stream, _)| stream);
    (Request { sent, over: now(), loss }, stream)
}

struct Answer {
    pid: Option<i32>,
    /// The server wants the connection to end.
    last: bool,
}

fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn is_open(stream: &TcpStream) -> bool {
    let peek = || {
        stream.set_nonblocking(true)?;
        let peeked = stream.peek(&mut [0]);
        stream.set_nonblocking(false)?;
        peeked
    };
    peek().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

/// Asks, and reads the answer into `text`.
fn exchange(stream: &mut TcpStream, text: &mut Vec<u8>) -> io::Result<Answer> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut buffer = [0; 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => text.extend_from_slice(buffer.get(..length).unwrap_or_default()),
        }
        if let Some(answer) = parse(text)? {
            return Ok(answer);
        }
    }
}

/// None as long as something is missing.
fn parse(bytes: &[u8]) -> io::Result<Option<Answer>> {
    let text = String::from_utf8_lossy(bytes);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return Ok(None) };
    if !head.starts_with("HTTP/1.1 200") {
        return Err(io::Error::other(head.lines().next().unwrap_or_default().to_owned()));
    }
    let head = head.to_ascii_lowercase();
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let length: usize = header("content-length:").and_then(|value| value.parse().ok()).unwrap_or(0);
    let Some(body) = body.get(..length) else { return Ok(None) };
    Ok(Some(Answer { pid: body.trim().parse().ok(), last: header("connection:") == Some("close") }))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const WHOLE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n12\n";

    /// A server that reads one request a text, sends the text, and closes.
    fn server(answers: &'static [&'static str]) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serve = move || {
            let (mut stream, _) = listener.accept().unwrap();
            for answer in answers {
                assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        };
        (address, thread::spawn(serve))
    }

    #[test]
    fn what_is_lost_is_lost_in_a_way() {
        let cases: [(&[&str], Option<Loss>); 4] = [
            (&[WHOLE], None),
            (&[""], Some(Loss::Reset)),
            (&["HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n1"], Some(Loss::Short)),
            (&["HTTP/1.1 503 No\r\n\r\n"], Some(Loss::Other)),
        ];
        for (answers, loss) in cases {
            let (address, served) = server(answers);
            assert_eq!(request(address, None).0.loss, loss, "{answers:?}");
            served.join().unwrap();
        }
        let (address, served) = server(&[WHOLE, ""]);
        let (first, kept) = request(address, None);
        assert!(first.is_answered() && kept.is_some());
        assert_eq!(request(address, kept).0.loss, Some(Loss::Reused));
        served.join().unwrap();
        // Nobody gets this port by chance.
        assert_eq!(request(SocketAddr::from(([127, 0, 0, 1], 1)), None).0.loss, Some(Loss::Refused));
        assert_eq!(Loss::of(&io::ErrorKind::WouldBlock.into(), false, true), Loss::Timeout);
    }

    #[test]
    fn an_answer_is_taken_when_it_is_whole() {
        for part in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n12"] {
            assert!(parse(part.as_bytes()).unwrap().is_none(), "{part:?}");
        }
        let answer = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\n12\n").unwrap().unwrap();
        assert_eq!((answer.pid, answer.last), (Some(12), true));
        assert!(parse(b"HTTP/1.1 503 No\r\n\r\n").is_err());
    }
}
