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
    let answer = open(address).and_then(|mut stream| exchange(&mut stream));
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
    /// Whether it was answered.
    pub answered: bool,
}

impl Request {
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
    let mut kept: Option<TcpStream> = None;
    while !stop.load(Ordering::Relaxed) {
        // A connection that the server has closed meanwhile is no loss: nothing was asked on it.
        let usable = kept.take().filter(is_open);
        let sent = now();
        let outcome = usable.map_or_else(|| open(address), Ok).and_then(|mut stream| {
            let answer = exchange(&mut stream)?;
            Ok((stream, answer))
        });
        requests.push(Request { sent, over: now(), answered: outcome.is_ok() });
        if let Ok((stream, answer)) = outcome
            && keep_alive
            && !answer.last
        {
            kept = Some(stream);
        }
        thread::sleep(PAUSE);
    }
    requests
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

fn exchange(stream: &mut TcpStream) -> io::Result<Answer> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let (mut text, mut buffer) = (Vec::new(), [0; 1024]);
    loop {
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => text.extend_from_slice(buffer.get(..length).unwrap_or_default()),
        }
        if let Some(answer) = parse(&text)? {
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
    use super::*;

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
