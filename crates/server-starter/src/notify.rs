//! Telling the supervisor how we are: the protocol of sd_notify(3), which systemd and start_server understand.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::environment::NOTIFY_SOCKET;
use crate::{Error, ErrorKind};

/// A supervisor that does not read must not stop the server.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends `message` to the supervisor's `socket`.
///
/// # Errors
/// The supervisor is not there, or does not read.
pub fn send(socket: &OsStr, message: &str) -> Result<(), Error> {
    let sent = || -> io::Result<()> {
        let sender = UnixDatagram::unbound()?;
        sender.set_write_timeout(Some(PATIENCE))?;
        sender.send_to_addr(message.as_bytes(), &address(socket)?).map(drop)
    };
    sent().map_err(|error| {
        let socket = socket.display();
        Error::new(
            ErrorKind::Notify,
            format!("{NOTIFY_SOCKET} is “{socket}”, and “{message}” cannot be sent there: {error}"),
        )
    })
}

/// The message for a status line, which can have no second line: that would be a message of its own.
pub fn status(text: &str) -> String {
    format!("STATUS={}", text.replace(['\n', '\r'], " "))
}

fn address(socket: &OsStr) -> io::Result<SocketAddr> {
    match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(socket),
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a path nor an abstract name with @")),
    }
}

/// Where the supervisor listens, if it does.
pub fn socket() -> Option<OsString> {
    std::env::var_os(NOTIFY_SOCKET).filter(|socket| !socket.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(supervisor: &UnixDatagram) -> String {
        let mut buffer = [0; 100];
        let length = supervisor.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    #[test]
    fn messages_go_to_a_path_and_to_an_abstract_name() {
        let dir = testkit::TempDir::new();
        let path = dir.path().join("notify");
        let at_path = UnixDatagram::bind(&path).unwrap();
        send(path.as_os_str(), "READY=1").unwrap();
        assert_eq!(received(&at_path), "READY=1");

        let name = format!("server-starter-test-{}", std::process::id());
        let abstract_one = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(OsStr::new(&format!("@{name}")), &status("two\nlines")).unwrap();
        assert_eq!(received(&abstract_one), "STATUS=two lines");
    }

    #[test]
    fn who_cannot_be_told_is_named() {
        let error = send(OsStr::new("/nowhere/notify"), "READY=1").unwrap_err().to_string();
        assert!(
            error.starts_with("NOTIFY_SOCKET is “/nowhere/notify”, and “READY=1” cannot be sent there: "),
            "{error}"
        );
        assert!(send(OsStr::new("nonsense"), "READY=1").unwrap_err().to_string().contains("neither a path nor"));
    }

    #[test]
    fn a_supervisor_that_does_not_read_does_not_stop_us() {
        let dir = testkit::TempDir::new();
        let path = dir.path().join("notify");
        let _deaf = UnixDatagram::bind(&path).unwrap();
        let failed = (0..10_000).find_map(|_| send(path.as_os_str(), "STATUS=x").err());
        assert!(failed.is_some_and(|error| error.kind() == ErrorKind::Notify));
    }
}
