//! A server that start_server can replace: the example of the README, and a pattern to copy.
//!
//! It does the two things that are asked of a server program. It takes its listener from `SERVER_STARTER_PORT` instead
//! of binding one, and on SIGTERM it finishes what it has accepted before it ends.

// An example is a program of its own: it prints, and may look into what it has just made.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::indexing_slicing)]

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, FromRawFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};

fn main() -> io::Result<()> {
    let listener = inherited_listener()?;
    // Two generations wait for connections on the same listener. Who comes too late for one must not hang in accept.
    listener.set_nonblocking(true)?;
    // A byte arrives here when SIGTERM does.
    let (stop, sender) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, sender)?;

    let mut running = Vec::new();
    loop {
        let mut events = [
            PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(stop.as_fd(), PollFlags::IN),
        ];
        match poll(&mut events, None) {
            Err(rustix::io::Errno::INTR) => continue,
            result => result?,
        };
        if !events[1].revents().is_empty() {
            break;
        }
        match listener.accept() {
            Ok((connection, _)) => running.push(thread::spawn(|| serve(connection))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => eprintln!("failed to accept a connection: {error}"),
        }
        running.retain(|thread| !thread.is_finished());
    }
    for thread in running {
        let _ = thread.join();
    }
    Ok(())
}

/// The first listener of `SERVER_STARTER_PORT`, which looks like `127.0.0.1:8080=3;/run/app.sock=4`.
fn inherited_listener() -> io::Result<TcpListener> {
    let variable = env::var("SERVER_STARTER_PORT").unwrap_or_default();
    let first = variable.split(';').next().unwrap_or_default();
    let fd = first.rsplit_once('=').and_then(|(_, fd)| fd.parse().ok());
    let fd = fd.ok_or_else(|| {
        io::Error::other("no listener in SERVER_STARTER_PORT; run this as: start_server --port=8080 -- hello")
    })?;
    // SAFETY: start_server has opened this descriptor for us, and nothing else in this program uses it.
    Ok(unsafe { TcpListener::from_raw_fd(fd) })
}

/// Answers one request with the generation that answers.
fn serve(connection: TcpStream) -> io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(&connection);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        line.clear();
    }
    let generation = env::var("SERVER_STARTER_GENERATION").unwrap_or_default();
    let body = format!("generation {generation}, pid {}\n", std::process::id());
    write!(
        &connection,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
