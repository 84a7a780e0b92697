//! The way to the service manager: datagrams to the socket that `NOTIFY_SOCKET` names, see sd_notify(3). The
//! superdaemon never waits for it: what the manager does not take at once is kept and sent when it does. What a later
//! message makes pointless is not kept, so that a manager that stands still costs no memory.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

/// The socket, and what waits for it.
#[derive(Debug)]
pub struct Channel {
    name: OsString,
    address: SocketAddrUnix,
    /// None while the manager cannot be reached.
    socket: Option<OwnedFd>,
    waiting: VecDeque<Message>,
    /// What went wrong, to be said once.
    complaint: Option<String>,
    has_complained: bool,
}

/// A datagram.
#[derive(Debug)]
pub struct Message {
    /// What it is about: it makes earlier ones of the same kind pointless, except for [`Kind::Store`].
    pub kind: Kind,
    /// Assignments, one a line.
    pub text: String,
    /// A descriptor for the manager.
    pub descriptor: Option<OwnedFd>,
}

/// What a datagram is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A descriptor to be kept or forgotten.
    Store,
    /// Ready, reloading, stopping: the first of these or the answer to the one before.
    Begin,
    /// The other half of [`Kind::Begin`].
    Complete,
    /// What a person may read.
    Status,
    /// More time.
    Extend,
    /// Being alive.
    Watchdog,
}

impl Channel {
    /// The way to the socket of this name: a path, or `@` and an abstract name.
    ///
    /// # Errors
    /// The name is none of the two: a sentence.
    pub fn new(name: OsString) -> Result<Self, String> {
        let address = match name.as_bytes() {
            [b'@', rest @ ..] if !rest.is_empty() => SocketAddrUnix::new_abstract_name(rest),
            [b'/', ..] => SocketAddrUnix::new(name.as_os_str()),
            _ => Err(Errno::AFNOSUPPORT),
        };
        let address = address.map_err(|errno| {
            format!(
                "NOTIFY_SOCKET is set to \"{}\", which is not usable ({}); the service manager is told nothing",
                name.display(),
                std::io::Error::from(errno)
            )
        })?;
        Ok(Self { name, address, socket: None, waiting: VecDeque::new(), complaint: None, has_complained: false })
    }

    /// Sends a message, at once if the manager takes it, else as soon as [`Channel::flush`] can.
    pub fn send(&mut self, message: Message) {
        let pointless = |earlier: Kind| match message.kind {
            Kind::Store => false,
            Kind::Begin => matches!(earlier, Kind::Begin | Kind::Complete),
            kind => earlier == kind,
        };
        self.waiting.retain(|earlier| !pointless(earlier.kind));
        self.waiting.push_back(message);
        self.flush();
    }

    /// To be polled for room to write, if something waits.
    pub fn pending(&self) -> Option<BorrowedFd<'_>> {
        if self.waiting.is_empty() { None } else { self.socket.as_ref().map(AsFd::as_fd) }
    }

    /// Sends as much of what waits as the manager takes. What cannot be sent at all is given up.
    pub fn flush(&mut self) {
        while !self.waiting.is_empty() {
            let was_connected = self.socket.is_some();
            match self.send_first() {
                Ok(()) => drop(self.waiting.pop_front()),
                Err(Errno::AGAIN | Errno::INTR) => return,
                // A manager that was replaced has another socket under the same name.
                Err(_) if was_connected => self.socket = None,
                Err(errno) => {
                    self.waiting.pop_front();
                    self.socket = None;
                    self.complain(errno);
                }
            }
        }
    }

    fn send_first(&mut self) -> rustix::io::Result<()> {
        let Some(message) = self.waiting.front() else { return Ok(()) };
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => none.insert(connect(&self.address)?),
        };
        let descriptor: Vec<BorrowedFd> = message.descriptor.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !descriptor.is_empty() {
            // There is room for one.
            let _ = ancillary.push(SendAncillaryMessage::ScmRights(&descriptor));
        }
        let text = [IoSlice::new(message.text.as_bytes())];
        rustix::net::sendmsg(&*socket, &text, &mut ancillary, SendFlags::DONTWAIT | SendFlags::NOSIGNAL).map(drop)
    }

    /// What a person should know, once.
    pub fn complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    fn complain(&mut self, errno: Errno) {
        if !std::mem::replace(&mut self.has_complained, true) {
            self.complaint = Some(format!(
                "failed to send to the service manager at {}: {}; it may not know how the superdaemon fares",
                self.name.display(),
                std::io::Error::from(errno)
            ));
        }
    }
}

/// A connected socket can be polled for room at the other end.
fn connect(address: &SocketAddrUnix) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    rustix::net::connect(&socket, address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn manager(name: &str) -> (UnixDatagram, Channel) {
        let name = format!("channel-{}-{name}", std::process::id());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        socket.set_nonblocking(true).unwrap();
        (socket, Channel::new(format!("@{name}").into()).unwrap())
    }

    fn say(channel: &mut Channel, kind: Kind, text: &str) {
        channel.send(Message { kind, text: text.to_owned(), descriptor: None });
    }

    fn heard(manager: &UnixDatagram) -> Vec<String> {
        let mut buffer = [0; 100];
        let texts = std::iter::from_fn(|| manager.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec()));
        texts.map(|text| String::from_utf8(text).unwrap()).collect()
    }

    #[test]
    fn what_is_said_is_heard_in_order() {
        let (manager, mut channel) = manager("order");
        say(&mut channel, Kind::Status, "STATUS=a");
        say(&mut channel, Kind::Complete, "READY=1");
        say(&mut channel, Kind::Status, "STATUS=b");
        assert_eq!(heard(&manager), ["STATUS=a", "READY=1", "STATUS=b"]);
        assert!(channel.pending().is_none() && channel.complaint().is_none());
    }

    #[test]
    fn a_manager_that_does_not_read_hears_later_what_still_matters() {
        let (manager, mut channel) = manager("slow");
        let mut sent = 0;
        while channel.pending().is_none() {
            sent += 1;
            say(&mut channel, Kind::Store, "FDSTORE=1");
        }
        for round in 0..1000 {
            say(&mut channel, Kind::Begin, &format!("RELOADING=1 {round}"));
            say(&mut channel, Kind::Complete, &format!("READY=1 {round}"));
            say(&mut channel, Kind::Status, &format!("STATUS={round}"));
            say(&mut channel, Kind::Watchdog, "WATCHDOG=1");
            say(&mut channel, Kind::Extend, &format!("EXTEND={round}"));
        }
        assert_eq!(channel.waiting.len(), 6);
        let mut all = heard(&manager);
        while let Some(fd) = channel.pending() {
            let limit = Timespec { tv_sec: 10, tv_nsec: 0 };
            assert_eq!(poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], Some(&limit)), Ok(1));
            channel.flush();
            all.extend(heard(&manager));
        }
        let expected = ["RELOADING=1 999", "READY=1 999", "STATUS=999", "WATCHDOG=1", "EXTEND=999"];
        assert_eq!(all[sent..], expected);
    }

    #[test]
    fn a_manager_that_came_back_is_found_again() {
        let (first, mut channel) = manager("back");
        say(&mut channel, Kind::Status, "STATUS=a");
        let address = first.local_addr().unwrap();
        drop(first);
        let second = UnixDatagram::bind_addr(&address).unwrap();
        second.set_nonblocking(true).unwrap();
        say(&mut channel, Kind::Status, "STATUS=b");
        assert_eq!(heard(&second), ["STATUS=b"]);
        drop(second);
        say(&mut channel, Kind::Status, "STATUS=c");
        say(&mut channel, Kind::Status, "STATUS=d");
        assert!(channel.complaint().unwrap().starts_with("failed to send to the service manager at @channel-"));
        assert!(channel.complaint().is_none() && channel.pending().is_none());
    }

    #[test]
    fn other_names_are_refused() {
        for name in ["", "@", "relative", "vsock:2:1234"] {
            assert!(Channel::new(name.into()).unwrap_err().contains("NOTIFY_SOCKET is set to"), "{name}");
        }
    }
}
