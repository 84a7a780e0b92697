//! A client that says what it likes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use serde_json::Value;
use testkit::{Daemon, patience};

/// What can be asked for.
pub const RESTART: &str = "{\"version\":1,\"request\":\"restart\"}\n";
pub const GIVE_UP: &str = "{\"version\":1,\"request\":\"give-up\"}\n";
pub const STATUS: &str = "{\"version\":1,\"request\":\"status\"}\n";

/// A connection to a superdaemon.
pub struct Client(BufReader<UnixStream>);

impl Client {
    pub fn connect(daemon: &Daemon) -> Self {
        let stream = UnixStream::connect(daemon.control_socket()).unwrap();
        stream.set_read_timeout(Some(patience())).unwrap();
        Self(BufReader::new(stream))
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.get_mut().write_all(bytes.as_ref()).unwrap();
    }

    /// As much as is taken without waiting.
    pub fn send_all_that_fits(&mut self, bytes: &[u8]) {
        self.0.get_ref().set_nonblocking(true).unwrap();
        let _ = self.0.get_mut().write(bytes);
        self.0.get_ref().set_nonblocking(false).unwrap();
    }

    /// Sends nothing any more.
    pub fn shut(&mut self) {
        self.0.get_ref().shutdown(Shutdown::Write).unwrap();
    }

    /// The next message; none at the end of the connection.
    pub fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => {
                assert!(line.ends_with('\n'), "half a line: {line}");
                let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
                assert_eq!(message["version"], 1, "{line}");
                Some(message)
            }
            // It may hang up on somebody who has more to say than it wants to hear.
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The next line of progress that contains this.
    pub fn wait_progress(&mut self, text: &str) {
        loop {
            let message = self.next().unwrap_or_else(|| panic!("the connection ended without {text}"));
            assert_eq!(message["reply"], "progress", "{message}");
            if message["line"].as_str().unwrap().contains(text) {
                return;
            }
        }
    }

    /// Reads to the end, and gives the answer, which is the last message.
    pub fn answer(mut self) -> Value {
        let mut last = Value::Null;
        while let Some(message) = self.next() {
            assert!(last.is_null() || last["reply"] == "progress", "something came after the answer {last}: {message}");
            last = message;
        }
        last
    }

    /// The end of the connection, whatever comes before it.
    pub fn read_to_end(mut self) {
        let _ = self.0.read_to_end(&mut Vec::new());
    }
}
