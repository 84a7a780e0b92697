//! The clients that an HTTP server meets while it is replaced: those that come, ask and go; those that stay; those whose
//! answers take long; and those whose requests are still on their way.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crate::{Address, Load, patience};

/// Clients of every class at `address`. The server answers `/`, and `/slow` after 300 ms; the first words of its answer
/// say who it is.
pub fn http_load(address: &Address) -> Load {
    let at = || address.clone();
    let (new, other, slow, delayed, late) = (at(), at(), at(), at(), at());
    let (mut busy, mut calm) = (KeepAlive::new(at()), KeepAlive::new(at()));
    Load::new()
        .client("new", move || pause(1).and_then(|()| get_text(&new, "/")))
        .client("new", move || pause(3).and_then(|()| get_text(&other, "/")))
        .client("slow", move || get_text(&slow, "/slow"))
        .client("delayed", move || Connection::open(&delayed)?.ask_after(100, "/", true))
        .client("delayed", move || Connection::open(&late)?.ask_after(300, "/", true))
        .client("keep-alive", move || pause(1).and_then(|()| busy.ask()))
        .client("keep-alive, with long pauses", move || pause(250).and_then(|()| calm.ask()))
}

/// Asks for `path` on a connection of its own and gives the body of the answer.
///
/// # Errors
/// Whatever a client would complain about.
pub fn get_text(address: &Address, path: &str) -> Result<String, String> {
    Connection::open(address)?.ask_after(0, path, true)
}

/// A client that has asked for a page, keeps its connection, and then does nothing while the value lives.
///
/// # Errors
/// Whatever a client would complain about.
pub fn idle_client(address: &Address) -> Result<impl Sized + use<>, String> {
    let mut connection = Connection::open(address)?;
    connection.ask_after(0, "/", false)?;
    Ok(connection)
}

/// A closed connection keeps its port for a minute, and there are not so many.
fn pause(milliseconds: u64) -> Result<(), String> {
    thread::sleep(Duration::from_millis(milliseconds));
    Ok(())
}

/// A client that asks on one connection until the server says that it is over.
struct KeepAlive {
    address: Address,
    connection: Option<Connection>,
    asked: u64,
}

impl KeepAlive {
    fn new(address: Address) -> Self {
        Self { address, connection: None, asked: 0 }
    }

    fn ask(&mut self) -> Result<String, String> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.asked = 0;
                Connection::open(&self.address)?
            }
        };
        self.asked += 1;
        let answer = connection.ask_after(0, "/", false).map_err(|loss| format!("request {}: {loss}", self.asked))?;
        if !connection.is_over {
            self.connection = Some(connection);
        }
        Ok(answer)
    }
}

struct Connection {
    reader: BufReader<Box<dyn Read + Send>>,
    writer: Box<dyn Write + Send>,
    /// The server has said that it takes no more requests here.
    is_over: bool,
}

impl Connection {
    fn open(address: &Address) -> Result<Self, String> {
        let open = || -> std::io::Result<(Box<dyn Read + Send>, Box<dyn Write + Send>)> {
            Ok(match address {
                Address::Tcp(address) => {
                    let stream = TcpStream::connect_timeout(address, patience())?;
                    stream.set_read_timeout(Some(patience()))?;
                    stream.set_nodelay(true)?;
                    (Box::new(stream.try_clone()?), Box::new(stream))
                }
                Address::Unix(path) => {
                    let stream = UnixStream::connect(path)?;
                    stream.set_read_timeout(Some(patience()))?;
                    (Box::new(stream.try_clone()?), Box::new(stream))
                }
            })
        };
        let (reader, writer) = open().map_err(|error| format!("connecting: {error}"))?;
        Ok(Self { reader: BufReader::new(reader), writer, is_over: false })
    }

    fn ask_after(&mut self, milliseconds: u64, path: &str, close: bool) -> Result<String, String> {
        thread::sleep(Duration::from_millis(milliseconds));
        let connection = if close { "close" } else { "keep-alive" };
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n");
        self.writer.write_all(request.as_bytes()).map_err(|error| format!("sending: {error}"))?;
        self.answer()
    }

    fn answer(&mut self) -> Result<String, String> {
        let mut length = 0;
        let mut first = true;
        loop {
            let mut line = String::new();
            let read = self.reader.read_line(&mut line).map_err(|error| format!("receiving: {error}"))?;
            if read == 0 {
                return Err("receiving: the connection was closed before the end of the answer's head".to_owned());
            }
            if first && !line.starts_with("HTTP/1.1 200 ") {
                return Err(format!("the answer is {}", line.trim_end()));
            }
            first = false;
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(|_| format!("the answer has the header {header}"))?;
            }
            self.is_over |= header.strip_prefix("connection:").is_some_and(|value| value.trim() == "close");
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).map_err(|error| format!("receiving the body: {error}"))?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}
