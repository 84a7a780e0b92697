//! An HTTP server with a thread for each connection and nothing but std, which start_server can replace without losing
//! a request. The README's first command runs it; it is a pattern to copy.

// An example is a program of its own: it says what happens.
#![allow(clippy::print_stderr)]

use std::error::Error;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use server_starter::{Stop, Work, signal};

/// An idle connection is closed after this time.
const IDLE: Duration = Duration::from_secs(60);
/// After the stop, a client has this time to send a request that may be on its way.
const GRACE: Duration = Duration::from_secs(1);
/// A client may not take longer over a request or an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// After the stop, everything must be done in this time.
const DEADLINE: Duration = Duration::from_secs(20);

fn main() -> Result<(), Box<dyn Error>> {
    // Where to listen when nothing is inherited.
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener: TcpListener = server_starter::listen_or_bind("web", &address)?;
    let stop = Stop::on(&[signal::SIGTERM, signal::SIGINT])?;
    let work = Work::default();
    server_starter::ready()?;

    loop {
        match stop.accept(&listener) {
            Ok(None) => break,
            Ok(Some((connection, _))) => {
                let (stop, running) = (stop.clone(), work.begin());
                thread::spawn(move || {
                    // A client that goes away, or sends nonsense, is no concern of ours.
                    let _ = serve(&connection, &stop);
                    drop(running);
                });
            }
            Err(error) => eprintln!("failed to accept a connection: {error}"),
        }
    }

    server_starter::stopping()?;
    // From here on the next generation accepts alone: what it takes, this one cannot.
    drop(listener);
    match work.finish(DEADLINE) {
        0 => Ok(()),
        left => Err(format!("{left} connections were not done in {DEADLINE:?}").into()),
    }
}

/// Answers one request after the other, until the client has enough or the process is told to stop.
fn serve(connection: &TcpStream, stop: &Stop) -> io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(connection);
    loop {
        // What the reader has read already no descriptor will announce.
        if reader.buffer().is_empty() && !stop.wait_request(connection, IDLE, GRACE)? {
            return Ok(());
        }
        let Some(request) = Request::read(&mut reader)? else { return Ok(()) };
        if request.path == "/slow" {
            thread::sleep(Duration::from_millis(300));
        }
        let body = match server_starter::generation() {
            Some(generation) => format!("generation {generation}, pid {}\n", std::process::id()),
            None => format!("alone, pid {}\n", std::process::id()),
        };
        // Asked as late as possible. A client that reads this sends no more requests here, so none can be lost.
        let is_last = request.wants_close || stop.is_requested();
        let connection_header = if is_last { "close" } else { "keep-alive" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection_header}\r\n\r\n",
            body.len()
        );
        (&*connection).write_all((head + &body).as_bytes())?;
        if is_last {
            return Ok(());
        }
    }
}

/// As much of a request as this server needs. It does not take bodies.
struct Request {
    path: String,
    wants_close: bool,
}

impl Request {
    /// Reads a request; `None` if the client has ended the connection instead.
    fn read(reader: &mut impl BufRead) -> io::Result<Option<Self>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let mut wants_close = line.trim_end().ends_with("HTTP/1.0");
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                return Ok(Some(Self { path, wants_close }));
            }
            wants_close |= header.strip_prefix("connection:").is_some_and(|value| value.trim() == "close");
        }
    }
}
