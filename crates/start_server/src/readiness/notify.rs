//! A generation's own notify socket, where it says that it is ready: the receiving side of sd_notify(3). The event
//! loop makes one for each generation under `--ready=notify` and polls it as long as the generation lives.
//!
//! Whoever can write to the socket may send what it likes, as much as it likes, with any descriptors. So:
//!
//! - A datagram is looked at before it is taken. One with descriptors is taken by a throw-away process, which closes
//!   them, since a close can wait: so a `BARRIER=1` is answered, and nobody else waits for it.
//! - Its user comes first: our own, root, the user that the program runs as if that is known, and whoever is found to be a user of the
//!   generation's family. That is asked of /proc now and then at most, and a stranger is remembered for a second.
//! - `READY=1` counts from a living process only if it belongs to the generation: see [`Family::origin`]. One that has
//!   gone already, like a short-lived `systemd-notify`, cannot be asked any more. Its word counts: the socket's name is told
//!   this generation alone, cannot be guessed, and stands neither in `/proc/net/unix` nor in a directory that others can
//!   list. Only root and the same user could read it out of the environment of a worker; and they could also make that
//!   worker say whatever they like.
//! - So much is heard in a turn, and no more. What is left stays where it is until the next.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use rustix::process::{geteuid, getpid};
use supervisor::Instant;
use sys::apart::{Apart, News};
use sys::credentials::{self, Credentials};
use sys::process_tree;
use sys::reexec::Inherited;

use crate::event_loop::ApartProcesses;
use crate::handover::descriptor::{Kept, take as take_over};
use crate::handover::state;
use crate::printable::printable;

/// systemd reads as much.
const LONGEST_DATAGRAM: usize = 4096;
/// So many datagrams are heard in a turn.
const MOST_AT_ONCE: usize = 64;
/// So many datagrams with descriptors are taken by one process, if they are no friend's.
const MOST_TAKEN: usize = 64;
/// So many senders of `READY=1` are looked for in /proc in a turn.
const MOST_LOOKS: usize = 4;
/// From a process to the worker that it descends from there are not more steps.
const MOST_ANCESTORS: usize = 64;
/// So many of a worker's descendants are asked for their user.
const MOST_RELATIVES: usize = 256;
/// How long an unknown user is kept waiting after another one was looked for.
const PAUSE_BETWEEN_USERS: Duration = Duration::from_millis(20);
/// How long a user counts as a stranger before it is looked for again, and how many of them are remembered.
const STRANGE_FOR: Duration = Duration::from_secs(1);
const MOST_STRANGERS: usize = 64;
/// When no process can be made to take descriptors, it is tried again after this time.
const REST: Duration = Duration::from_millis(100);

/// The socket of one generation.
#[derive(Debug)]
pub struct NotifySocket {
    socket: UnixDatagram,
    name: Name,
    /// Who may speak.
    users: Vec<u32>,
    /// Who was found to be a stranger, and until when that counts.
    strangers: Vec<(u32, Instant)>,
    /// When the next unknown user is looked for.
    next_look: Option<Instant>,
    /// What takes the datagrams at the head of the queue. The socket is left alone meanwhile.
    taker: Option<Apart>,
    /// It is left alone until then.
    rests_until: Option<Instant>,
}

/// What the socket is called.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    /// A file in a directory of ours.
    File(PathBuf),
    /// A name in the abstract name space, as version 0.1.0 had it.
    Abstract(String),
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

/// The processes among which a sender is looked for.
#[derive(Clone, Debug)]
pub struct Family {
    /// The generation's worker, which was not reaped.
    pub worker: i32,
    /// Other children of ours: workers of other generations, and what works for us.
    pub others: Vec<i32>,
    /// Whether the generation is to say that it is ready.
    pub is_awaited: bool,
}

/// Where a process comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    Family,
    Elsewhere,
    Gone,
}

/// Whether a datagram is heard.
enum Judgement {
    Heard,
    /// But its `READY=1` is not.
    HeardInPart,
    Ignored,
    /// It stays where it is for now.
    Later,
}

impl NotifySocket {
    /// A socket at this path, which is new and in a directory that only we can write to. Whoever has `user` can send to
    /// it, and our own user and root; everybody if it is not known who the program will be.
    ///
    /// # Errors
    /// No descriptors, or the file cannot be made.
    ///
    /// `bound` is the path that it is bound to, in the same directory. That one is shown to everybody in
    /// `/proc/net/unix`; the file has another name by the time anybody could send to it, which only the generation is told.
    pub fn open(bound: &Path, path: &Path, user: Option<u32>) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
        credentials::ask_for_senders(&socket)?;
        // The file gets the mode of the socket, less the umask: nobody finds it more open than it is to be.
        if user.is_some() {
            fchmod(&socket, Mode::from_raw_mode(0o600))?;
        }
        bind(&socket, &SocketAddrUnix::new(bound)?)?;
        let given = fs::rename(bound, path).and_then(|()| match user {
            Some(_) => chown(path, user, None),
            None => fs::set_permissions(path, Permissions::from_mode(0o666)),
        });
        if let Err(error) = given {
            let _ = (fs::remove_file(bound), fs::remove_file(path));
            return Err(error);
        }
        Ok(Self::at(socket.into(), Name::File(path.to_owned()), user))
    }

    fn at(socket: UnixDatagram, name: Name, user: Option<u32>) -> Self {
        Self {
            socket,
            name,
            users: [geteuid().as_raw(), 0].into_iter().chain(user).collect(),
            strangers: Vec::new(),
            next_look: None,
            taker: None,
            rests_until: None,
        }
    }

    /// What the next image of the program has to know of it.
    pub fn state(&self, kept: &mut Kept) -> state::Notify {
        let socket = kept.keep(self.socket.as_fd());
        match &self.name {
            Name::File(path) => state::Notify { socket, name: String::new(), file: Some(path.as_path().into()) },
            Name::Abstract(name) => state::Notify { socket, name: name.clone(), file: None },
        }
    }

    /// The socket as the image before had it. None if it is not there.
    pub fn resume(notify: state::Notify, user: Option<u32>, inherited: &mut Inherited) -> Option<Self> {
        let socket = take_over(inherited, notify.socket)?.into();
        let name = notify.file.map_or(Name::Abstract(notify.name), |path| Name::File(path.into()));
        Some(Self::at(socket, name, user))
    }

    /// The value of `NOTIFY_SOCKET`; an `@` stands for the abstract name space.
    pub fn variable(&self) -> std::ffi::OsString {
        match &self.name {
            Name::File(path) => path.clone().into(),
            Name::Abstract(name) => format!("@{name}").into(),
        }
    }

    /// To be polled for input; none while it rests.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.taker {
            Some(taker) => Some(taker.as_fd()),
            None => self.rests_until.is_none().then(|| self.socket.as_fd()),
        }
    }

    /// When [`NotifySocket::read`] is due though there was nothing to poll.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.rests_until
    }

    /// What has been said since the last time by those who may speak, as much as is heard in a turn.
    pub fn read(&mut self, family: &Family, apart: &mut ApartProcesses, now: Instant) -> Vec<Message> {
        let mut messages = Vec::new();
        if self.is_being_emptied() || self.rests_until.is_some_and(|until| until > now) {
            return messages;
        }
        self.rests_until = None;
        let mut looks = MOST_LOOKS;
        let mut data = [0; LONGEST_DATAGRAM];
        for _ in 0..MOST_AT_ONCE {
            let Ok(datagram) = credentials::peek(&self.socket, &mut data) else { break };
            // A text that was cut may end in the middle of a word.
            let length = if datagram.truncated { 0 } else { datagram.length };
            let mut said = parse(data.get(..length).unwrap_or_default());
            match self.judge(datagram.sender, &said, family, &mut looks, now) {
                Judgement::Heard => {}
                Judgement::HeardInPart => said.retain(|message| *message != Message::Ready),
                Judgement::Ignored => said.clear(),
                Judgement::Later => break,
            }
            if datagram.has_descriptors {
                if !self.have_it_taken(apart) {
                    // It stays where it is, and so is heard then.
                    self.rests_until = Some(now.plus(REST));
                    break;
                }
            } else if credentials::take(&self.socket, &mut []).is_err() {
                break;
            }
            // More can be heard in the next turn, and there seldom is.
            let is_enough = said.contains(&Message::Ready) || self.taker.is_some();
            messages.extend(said);
            if is_enough {
                break;
            }
        }
        messages
    }

    /// Removes the file, and closes the socket: where that may wait if something is left in it.
    pub fn close(self, apart: &mut ApartProcesses) {
        if let Name::File(path) = &self.name {
            let _ = fs::remove_file(path);
        }
        // Nothing comes any more, so that what is seen now is all that there will be.
        let _ = self.socket.shutdown(std::net::Shutdown::Read);
        if let Some(taker) = &self.taker {
            apart.end(taker.pid());
        }
        if self.taker.is_some() || credentials::peek(&self.socket, &mut []).is_ok() {
            apart.close(self.socket.into());
        }
    }

    /// Whether somebody else is taking datagrams off the queue.
    fn is_being_emptied(&mut self) -> bool {
        self.taker = self.taker.take().filter(|taker| taker.news() == News::None);
        self.taker.is_some()
    }

    /// Has the datagram at the head of the queue taken by a process that can wait, and with it those that follow if
    /// they bring descriptors and cannot be meant for us.
    fn have_it_taken(&mut self, apart: &mut ApartProcesses) -> bool {
        let (socket, users) = (&self.socket, &self.users);
        let begun = apart.begin(&[socket.as_fd()], |reporter| {
            credentials::take_for_good(socket, |sender| !users.contains(&sender.uid), MOST_TAKEN);
            // What it has, it closes by its end, and only now.
            reporter.say(b"taken");
        });
        self.taker = begun.ok();
        self.taker.is_some()
    }

    fn judge(
        &mut self,
        sender: Option<Credentials>,
        said: &[Message],
        family: &Family,
        looks: &mut usize,
        now: Instant,
    ) -> Judgement {
        let Some(sender) = sender else { return Judgement::Ignored };
        if !self.users.contains(&sender.uid) {
            self.strangers.retain(|(_, until)| *until > now);
            if self.strangers.iter().any(|(stranger, _)| *stranger == sender.uid) {
                return Judgement::Ignored;
            }
            if let Some(next_look) = self.next_look.filter(|next_look| *next_look > now) {
                self.rests_until = Some(next_look);
                return Judgement::Later;
            }
            self.next_look = Some(now.plus(PAUSE_BETWEEN_USERS));
            if !family.has_user(sender) {
                self.strangers.truncate(MOST_STRANGERS - 1);
                self.strangers.push((sender.uid, now.plus(STRANGE_FOR)));
                return Judgement::Ignored;
            }
            if self.users.len() < MOST_STRANGERS {
                self.users.push(sender.uid);
            }
        }
        if !said.contains(&Message::Ready) {
            return Judgement::Heard;
        }
        if !family.is_awaited {
            return Judgement::HeardInPart;
        }
        match looks.checked_sub(1) {
            None => return Judgement::Later,
            Some(left) => *looks = left,
        }
        match family.origin(sender.pid) {
            Origin::Family | Origin::Gone => Judgement::Heard,
            Origin::Elsewhere => Judgement::HeardInPart,
        }
    }
}

impl Family {
    /// Whether a user that nobody knows is one of the family's: the worker's, that of a sender that belongs to it, or, if
    /// the sender has gone, that of another one.
    fn has_user(&self, sender: Credentials) -> bool {
        let is_users = |pid| process_tree::users(pid).is_some_and(|users| users.contains(&sender.uid));
        is_users(self.worker)
            || match self.origin(sender.pid) {
                Origin::Family => true,
                Origin::Elsewhere => false,
                Origin::Gone => process_tree::first_descendants(self.worker, MOST_RELATIVES).into_iter().any(is_users),
            }
    }

    /// Where a process comes from: from the family if the worker is among its ancestors; or if it has lost its parent and
    /// so became our child, and is none that is known, since only what comes of this generation is told of this socket.
    /// What has any other living ancestor comes from elsewhere, and so does a process that is outside of our
    /// PID namespace, which has no number here.
    fn origin(&self, pid: i32) -> Origin {
        // An ancestor may end between two looks, and its children get another parent.
        const TRIES: usize = 3;
        // It was not reaped, so that its number is still its own.
        if pid == self.worker {
            return Origin::Family;
        }
        if pid <= 0 {
            return Origin::Elsewhere;
        }
        if !process_tree::proc_is_ours() {
            return Origin::Gone;
        }
        (0..TRIES).find_map(|_| self.trace(pid)).unwrap_or(Origin::Gone)
    }

    /// None if an ancestor has gone meanwhile.
    fn trace(&self, pid: i32) -> Option<Origin> {
        let us = getpid().as_raw_pid();
        let Some(mut process) = process_tree::read(pid) else { return Some(Origin::Gone) };
        for _ in 0..MOST_ANCESTORS {
            if process.pid == self.worker {
                return Some(Origin::Family);
            }
            if process.parent == us {
                // One that has lost its parent. Which generation it was of cannot be asked without waiting for it.
                let is_other = self.others.contains(&process.pid);
                return Some(if is_other { Origin::Elsewhere } else { Origin::Family });
            }
            if process.parent <= 1 {
                return Some(Origin::Elsewhere);
            }
            process = process_tree::read(process.parent)?;
        }
        Some(Origin::Elsewhere)
    }
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

    fn family(is_awaited: bool) -> Family {
        Family { worker: getpid().as_raw_pid(), others: Vec::new(), is_awaited }
    }

    #[test]
    fn what_is_sent_is_read() {
        let dir = testkit::TempDir::new();
        let path = dir.path().join("notify");
        let mut socket = NotifySocket::open(&path.with_extension("bound"), &path, None).unwrap();
        let mut apart = ApartProcesses::default();
        let mut read = |is_awaited| socket.read(&family(is_awaited), &mut apart, crate::event_loop::now());
        let peer = UnixDatagram::unbound().unwrap();
        let send = |text: &[u8]| peer.send_to(text, &path).unwrap();
        send(b"STATUS=soon");
        send(b"READY=1");
        send(&vec![b'x'; 100_000]);
        assert_eq!(read(true), [Message::Status("soon".to_owned()), Message::Ready]);
        assert_eq!((read(true), read(true)), (vec![], vec![]));
        send(b"READY=1\nERRNO=2");
        assert_eq!(read(false), [Message::Errno(2)]);
        socket.close(&mut apart);
        assert!(!path.exists() && peer.send_to(b"x", &path).is_err());
    }

    #[test]
    fn who_may_write_is_a_matter_of_the_user() {
        let dir = testkit::TempDir::new();
        let mode = |user, name: &str| {
            let path = dir.path().join(name);
            let _socket = NotifySocket::open(&path.with_extension("bound"), &path, user).unwrap();
            fs::metadata(path).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode(None, "anybody"), mode(Some(geteuid().as_raw()), "known")), (0o666, 0o600));
    }

    #[test]
    fn a_process_is_traced_to_where_it_comes_from() {
        let us = family(true);
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let parent = rustix::process::getppid().map_or(0, |pid| pid.as_raw_pid());
        assert_eq!([us.worker, pid, parent, 0].map(|pid| us.origin(pid)), {
            use Origin::{Elsewhere, Family};
            [Family, Family, Elsewhere, Elsewhere]
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(us.origin(pid), Origin::Gone);
    }
}
