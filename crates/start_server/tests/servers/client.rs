//! One connection to a server, and one request on it: HTTP, FastCGI or datagrams, by TCP, UDP or unix socket.

mod fastcgi;
mod http;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rustix::net::{RecvFlags, recv};
use testkit::patience;

use crate::load::Loss;

/// What became of a request that was not answered, and the details.
pub type Failure = (Loss, String);

/// Where a server is reached.
#[derive(Clone, Debug)]
pub enum Place {
    Http(Socket),
    /// With the path of the script to run.
    FastCgi(Socket, String),
    /// The UDP port of the loopback interface.
    Datagrams(u16),
}

/// Where streams are accepted.
#[derive(Clone, Debug)]
pub enum Socket {
    /// The port of the loopback interface.
    Port(u16),
    Path(PathBuf),
}

/// An answer that is whole and right.
pub struct Answer {
    pub body: String,
    /// The connection can be used for another request.
    pub can_go_on: bool,
}

/// A connection.
pub enum Connection {
    Http(Stream),
    FastCgi(Stream, String),
    Datagrams(UdpSocket),
}

impl Place {
    pub fn connect(&self) -> Result<Connection, Failure> {
        match self {
            Self::Http(socket) => Ok(Connection::Http(socket.connect()?)),
            Self::FastCgi(socket, script) => Ok(Connection::FastCgi(socket.connect()?, script.clone())),
            Self::Datagrams(port) => {
                let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
                socket.connect((Ipv4Addr::LOCALHOST, *port)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
                Ok(Connection::Datagrams(socket))
            }
        }
    }
}

impl Socket {
    fn connect(&self) -> Result<Stream, Failure> {
        let stream = match self {
            Self::Port(port) => {
                TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, *port).into(), patience()).map(Stream::Tcp)
            }
            Self::Path(path) => UnixStream::connect(path).map(Stream::Unix),
        };
        let stream = stream.map_err(|error| match error.kind() {
            ErrorKind::TimedOut => (Loss::Timeout, error.to_string()),
            _ => (Loss::Refused, error.to_string()),
        })?;
        match &stream {
            Stream::Tcp(tcp) => tcp.set_nodelay(true).and_then(|()| tcp.set_read_timeout(Some(patience()))),
            Stream::Unix(unix) => unix.set_read_timeout(Some(patience())),
        }
        .unwrap();
        Ok(stream)
    }
}

impl Connection {
    /// Asks for the page `path` and waits for the whole answer. With `last`, the server is told that no other request
    /// will follow on this connection.
    pub fn ask(&mut self, path: &str, last: bool) -> Result<Answer, Failure> {
        self.ask_and(path, last, || {})
    }

    /// As [`ask`](Self::ask), and calls `sent` in between.
    pub fn ask_and(&mut self, path: &str, last: bool, sent: impl FnOnce()) -> Result<Answer, Failure> {
        let answer = match self {
            Self::Http(stream) => {
                let incoming = Incoming::after(stream, http::request(path, last).as_bytes())?;
                sent();
                http::answer(incoming, last)?
            }
            Self::FastCgi(stream, script) => {
                let incoming = Incoming::after(stream, &fastcgi::request(script, path, last))?;
                sent();
                fastcgi::answer(incoming, last)?
            }
            Self::Datagrams(socket) => echo(socket)?,
        };
        match ["hello", "generation"].iter().any(|word| answer.body.contains(word)) {
            true => Ok(answer),
            false => Err((Loss::Wrong, answer.body)),
        }
    }

    /// The port at this end of a stream by TCP.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Http(Stream::Tcp(tcp)) | Self::FastCgi(Stream::Tcp(tcp), _) => Some(tcp.local_addr().unwrap().port()),
            _ => None,
        }
    }

    /// Whether the server is seen to have closed it.
    pub fn is_closed(&self) -> bool {
        let (Self::Http(stream) | Self::FastCgi(stream, _)) = self else { return false };
        let mut byte = [0];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let seen = match stream {
            Stream::Tcp(tcp) => recv(tcp, &mut byte, flags),
            Stream::Unix(unix) => recv(unix, &mut byte, flags),
        };
        !matches!(seen, Err(rustix::io::Errno::AGAIN))
    }
}

fn echo(socket: &UdpSocket) -> Result<Answer, Failure> {
    let failure = |error: io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => (Loss::Timeout, error.to_string()),
        _ => (Loss::Refused, error.to_string()),
    };
    let word = format!("{:?}", SystemTime::now());
    socket.send(word.as_bytes()).map_err(failure)?;
    let mut bytes = [0; 2048];
    loop {
        let length = socket.recv(&mut bytes).map_err(failure)?;
        let body = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
        // The answer to one that was given up may come late.
        if body.starts_with(&word) {
            return Ok(Answer { body, can_go_on: true });
        }
    }
}

/// A stream of bytes.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Read for Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.read(bytes),
            Self::Unix(unix) => unix.read(bytes),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(tcp) => tcp.write(bytes),
            Self::Unix(unix) => unix.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What has come of an answer, until it is whole.
pub struct Incoming<'a> {
    stream: &'a mut Stream,
    bytes: Vec<u8>,
}

impl<'a> Incoming<'a> {
    /// Sends `request` at once, and is ready for its answer.
    fn after(stream: &'a mut Stream, request: &[u8]) -> Result<Self, Failure> {
        let sent = stream.write_all(request);
        let mut incoming = Self { stream, bytes: Vec::new() };
        match sent {
            Ok(()) => Ok(incoming),
            // It may have answered before it closed the connection.
            Err(error) => match incoming.more() {
                Ok(_) if !incoming.bytes.is_empty() => Ok(incoming),
                _ => Err((Loss::Reset, error.to_string())),
            },
        }
    }

    /// Waits for more bytes; gives whether there were any, which there are not at the end of the connection.
    fn more(&mut self) -> Result<bool, Failure> {
        let mut bytes = [0; 16384];
        match self.stream.read(&mut bytes) {
            Ok(length) => {
                self.bytes.extend_from_slice(bytes.get(..length).unwrap_or_default());
                Ok(length > 0)
            }
            Err(error) => Err((self.loss_by(&error), format!("{error}, after {} bytes", self.bytes.len()))),
        }
    }

    /// Waits for more bytes, of which there must be some.
    fn needs_more(&mut self) -> Result<(), Failure> {
        match self.more()? {
            true => Ok(()),
            false if self.bytes.is_empty() => Err((Loss::Eof, "closed without a word".to_owned())),
            false => Err((Loss::Partial, format!("closed after {} bytes", self.bytes.len()))),
        }
    }

    fn loss_by(&self, error: &io::Error) -> Loss {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Loss::Timeout,
            _ if self.bytes.is_empty() => Loss::Reset,
            _ => Loss::Partial,
        }
    }
}
