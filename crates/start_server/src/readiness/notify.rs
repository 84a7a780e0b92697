//! A generation's own notify socket, where it says that it is ready: the receiving side of sd_notify(3). The event
//! loop makes one for each generation under `--ready=notify` and polls it as long as the generation lives.
//!
//! A datagram belongs to the generation whose socket it came in on. That is more than its sender's PID can tell: the
//! sender may be any descendant of the worker, a short-lived `systemd-notify` among them, and may be gone already.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::process::geteuid;
use sys::credentials::{self, Credentials};
use sys::process_tree;
use sys::reexec::Inherited;

use crate::handover::descriptor::{Kept, take as take_over};
use crate::handover::state;
use crate::printable::printable;

/// systemd reads as much.
const LONGEST_DATAGRAM: usize = 4096;

/// The socket of one generation.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    name: String,
}

/// What a generation says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// `READY=1`
    Ready,
    /// `STOPPING=1`
    Stopping,
    /// `STATUS=…`
    Status(String),
    /// `ERRNO=…`: what it is failing of.
    Errno(i32),
    /// `EXTEND_TIMEOUT_USEC=…`: it wants so much time from now.
    Extend(Duration),
}

impl NotifySocket {
    /// A socket with a name that nobody can guess.
    ///
    /// # Errors
    /// No descriptors or no random numbers.
    pub fn open(generation: u32) -> io::Result<Self> {
        let mut random = [0; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let random: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("start_server/{}/notify/{generation}/{random}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        socket.set_nonblocking(true)?;
        credentials::ask_for_senders(&socket)?;
        Ok(Self { socket, name })
    }

    /// What the next image of the program has to know of it.
    pub fn state(&self, kept: &mut Kept) -> state::Notify {
        state::Notify { socket: kept.keep(self.socket.as_fd()), name: self.name.clone() }
    }

    /// The socket as the image before had it. None if it is not there.
    pub fn resume(notify: state::Notify, inherited: &mut Inherited) -> Option<Self> {
        Some(Self { socket: take_over(inherited, notify.socket)?.into(), name: notify.name })
    }

    /// The value of `NOTIFY_SOCKET`; the `@` stands for the abstract name space.
    pub fn variable(&self) -> String {
        format!("@{}", self.name)
    }

    /// To be polled for input.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// What has been said since the last time by `worker` and those who may speak for it: its descendants, their
    /// users, our own user and root. Anybody else is ignored.
    pub fn read(&self, worker: i32) -> Vec<Message> {
        let mut messages = Vec::new();
        // Somebody who never stops talking must not keep the superdaemon here.
        for _ in 0..100 {
            let Ok((text, sender)) = self.receive() else { break };
            if sender.is_some_and(|sender| speaks_for(sender, worker)) {
                messages.extend(parse(&text));
            }
        }
        messages
    }

    fn receive(&self) -> io::Result<(Vec<u8>, Option<Credentials>)> {
        let mut data = [0; LONGEST_DATAGRAM];
        let datagram = credentials::receive(&self.socket, &mut data)?;
        // A text that was cut may end in the middle of a word.
        let length = if datagram.truncated { 0 } else { datagram.length };
        Ok((data.get(..length).unwrap_or_default().to_vec(), datagram.sender))
    }
}

/// A sender that has already gone is nobody's descendant any more, but its user is known, and it may well have been
/// sent by a worker that has given up our user's rights.
fn speaks_for(sender: Credentials, worker: i32) -> bool {
    let user = Some(sender.uid);
    sender.uid == geteuid().as_raw()
        || sender.uid == 0
        || sender.pid == worker
        || process_tree::is_descendant(sender.pid, worker)
        || process_tree::user(worker) == user
        || process_tree::descendants(worker).into_iter().any(|pid| process_tree::user(pid) == user)
}

/// As many characters of a `STATUS` are kept.
const LONGEST_STATUS: usize = 200;

/// The assignments of a datagram that mean something to us; `RELOADING`, `MAINPID`, `WATCHDOG`, `FDSTORE` and whatever
/// else there is do not.
fn parse(datagram: &[u8]) -> Vec<Message> {
    let text = String::from_utf8_lossy(datagram);
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            match name {
                "READY" if value == "1" => Some(Message::Ready),
                "STOPPING" if value == "1" => Some(Message::Stopping),
                "STATUS" => Some(Message::Status(printable(value).chars().take(LONGEST_STATUS).collect())),
                "ERRNO" => value.parse().ok().map(Message::Errno),
                "EXTEND_TIMEOUT_USEC" => value.parse().ok().map(Duration::from_micros).map(Message::Extend),
                _ => None,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams() {
        for (datagram, messages) in [
            (&b"READY=1"[..], vec![Message::Ready]),
            (b"READY=1\n", vec![Message::Ready]),
            (b"RELOADING=1\nMONOTONIC_USEC=5\n", vec![]),
            (b"READY=1\nSTATUS=up\nMAINPID=7\n", vec![Message::Ready, Message::Status("up".to_owned())]),
            (b"READY=0\nREADY\n=1\n\n", vec![]),
            (b"STOPPING=1\nERRNO=2", vec![Message::Stopping, Message::Errno(2)]),
            (b"EXTEND_TIMEOUT_USEC=1500000", vec![Message::Extend(Duration::from_millis(1500))]),
            (b"EXTEND_TIMEOUT_USEC=-1\nERRNO=x", vec![]),
            (b"\xff\xfe\x00READY=1\x00", vec![]),
            (b"STATUS=a\x1b[31mb", vec![Message::Status("a\u{fffd}[31mb".to_owned())]),
        ] {
            assert_eq!(parse(datagram), messages, "{:?}", String::from_utf8_lossy(datagram));
        }
    }

    #[test]
    fn what_is_sent_is_read() {
        let socket = NotifySocket::open(1).unwrap();
        let peer = UnixDatagram::unbound().unwrap();
        let address = SocketAddr::from_abstract_name(&socket.name).unwrap();
        peer.send_to_addr(b"STATUS=soon", &address).unwrap();
        peer.send_to_addr(b"READY=1", &address).unwrap();
        peer.send_to_addr(&vec![b'x'; 100_000], &address).unwrap();
        let me = std::process::id() as i32;
        assert_eq!(socket.read(me), [Message::Status("soon".to_owned()), Message::Ready]);
        assert_eq!(socket.read(me), []);
    }
}
