//! The superdaemon's end of the control socket: clients, what they ask for, and what they are told. The event loop
//! polls its descriptors and passes requests on.
//!
//! Nothing that a client does may delay or end the superdaemon: all is non-blocking, every buffer has a limit, and
//! whoever says nothing for a while is sent away.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use control::{Reply, Request, decode_request, encode};
use rustix::event::PollFlags;
use rustix::process::{Resource, geteuid, getrlimit, umask};
use supervisor::{Instant, RequestId};
use sys::credentials;
use sys::reexec::Inherited;

use crate::errno::io_reason;
use crate::file_identity::FileIdentity;
use crate::handover::descriptor::{Kept, take as take_over};
use crate::handover::state;

/// As many connections are served at a time, or fewer where descriptors are scarce.
const MOST_CLIENTS: usize = 256;
/// As many are taken in one turn of the loop: others want their turn, too.
const MOST_AT_ONCE: usize = 64;
/// A request is short, but for an upgrade with a command line in it.
const LONGEST_REQUEST: usize = 64 * 1024;
/// As much is read at a time.
const ONE_READ: usize = 4096;
/// A client that does not read loses progress lines beyond this.
const MOST_UNREAD: usize = 64 * 1024;
/// A client must have made its request by then, and must have read its answer by then.
const PATIENCE: Duration = Duration::from_secs(10);
/// After it ran out of descriptors, the socket rests.
const REST: Duration = Duration::from_secs(1);

/// The abstract name of the control socket of the superdaemon with this PID.
pub fn abstract_name(pid: i32) -> String {
    format!("start_server/{pid}")
}

/// The control socket with its clients.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    /// The file to remove at the end, if it still is ours.
    file: Option<(PathBuf, FileIdentity)>,
    /// In the order in which they came.
    clients: Vec<Client>,
    most_clients: usize,
    last_id: u64,
    /// Who was owed an answer and has gone.
    hung_up: Vec<RequestId>,
    /// No connection is taken before.
    rests_until: Option<Instant>,
}

/// What a descriptor of [`ControlSocket::descriptors`] belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The listening socket.
    Listener,
    /// This client's connection.
    Client(RequestId),
}

#[derive(Debug)]
struct Client {
    id: RequestId,
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    state: State,
    /// It will not say any more, but may still listen.
    is_silent: bool,
    /// It has asked for something, and was not told what became of it.
    is_owed: bool,
    /// It has said that it will not wait.
    has_given_up: bool,
    /// When it is sent away.
    until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Its request has not arrived.
    Asking,
    /// It hears what happens until it is answered.
    Waiting,
    /// It has its answer, or will when it reads.
    Answered,
}

impl ControlSocket {
    /// Opens the socket: at `path`, which only our user can use, or at the abstract name of our PID.
    ///
    /// # Errors
    /// A sentence. A socket file that nobody listens on is replaced; anything else at `path` is left alone.
    pub fn open(path: Option<&Path>, pid: u32) -> Result<Self, String> {
        let (listener, file) = match path {
            None => {
                let name = abstract_name(i32::try_from(pid).unwrap_or(0));
                let listener = SocketAddr::from_abstract_name(&name)
                    .and_then(|address| UnixListener::bind_addr(&address))
                    .map_err(|error| format!("failed to open the control socket @{name}: {}", io_reason(&error)))?;
                (listener, None)
            }
            Some(path) => {
                let (listener, identity) = listen_at(path)?;
                (listener, Some((path.to_owned(), identity)))
            }
        };
        listener
            .set_nonblocking(true)
            .map_err(|error| format!("failed to make the control socket non-blocking: {}", io_reason(&error)))?;
        let most_clients = most_clients(&listener);
        credentials::refuse_descriptors(&listener);
        let clients = Vec::new();
        Ok(Self { listener, file, clients, most_clients, last_id: 0, hung_up: Vec::new(), rests_until: None })
    }

    /// What the next image of the program has to know of it.
    pub fn state(&self, kept: &mut Kept) -> state::Control {
        let file = |(path, identity): &(PathBuf, FileIdentity)| state::File {
            path: path.as_path().into(),
            identity: *identity,
        };
        state::Control {
            listener: kept.keep(self.listener.as_fd()),
            file: self.file.as_ref().map(file),
            clients: self.clients.iter().map(|client| client.state(kept)).collect(),
            last_id: self.last_id,
            rests_until: self.rests_until,
        }
    }

    /// The socket as the image before had it, with all who are connected. Who is not any more is not missed.
    ///
    /// # Errors
    /// The socket is not there.
    pub fn resume(control: state::Control, inherited: &mut Inherited) -> Result<Self, String> {
        let listener = take_over(inherited, control.listener).ok_or("the control socket is not there")?;
        let listener = UnixListener::from(listener);
        credentials::refuse_descriptors(&listener);
        let clients = control.clients.into_iter().filter_map(|client| Client::resume(client, inherited)).collect();
        Ok(Self {
            most_clients: most_clients(&listener),
            listener,
            file: control.file.map(|file| (file.path.into(), file.identity)),
            clients,
            last_id: control.last_id,
            hung_up: Vec::new(),
            rests_until: control.rests_until,
        })
    }

    /// What to poll, and for what.
    pub fn descriptors(&self) -> impl Iterator<Item = (End, BorrowedFd<'_>, PollFlags)> {
        let listener = self.rests_until.is_none().then(|| (End::Listener, self.listener.as_fd(), PollFlags::IN));
        let clients =
            self.clients.iter().map(|client| (End::Client(client.id), client.stream.as_fd(), client.wishes()));
        listener.into_iter().chain(clients)
    }

    /// When [`ControlSocket::expire`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.clients.iter().filter_map(|client| client.until).chain(self.rests_until).min()
    }

    /// Sends away whoever took too long.
    pub fn expire(&mut self, now: Instant) {
        self.part_with(|client| client.until.is_some_and(|until| until <= now));
        self.rests_until = self.rests_until.filter(|until| *until > now);
    }

    /// Deals with a descriptor that is ready. The request, when one has arrived.
    pub fn serve(&mut self, end: End, now: Instant) -> Option<(RequestId, Request)> {
        match end {
            End::Listener => {
                self.accept(now);
                None
            }
            End::Client(id) => {
                let at = self.clients.iter().position(|client| client.id == id)?;
                let client = self.clients.get_mut(at)?;
                let result = client.exchange(now);
                if result.is_err() || client.has_its_answer() {
                    let id = client.id;
                    self.part_with(|client| client.id == id);
                }
                result.ok()?.map(|request| (id, request))
            }
        }
    }

    /// Tells everybody who waits what happened.
    pub fn progress(&mut self, line: &str) {
        if self.clients.iter().all(|client| client.state != State::Waiting) {
            return;
        }
        let message = encode(&Reply::Progress { line: line.to_owned() });
        for client in self.clients.iter_mut().filter(|client| client.state == State::Waiting) {
            if client.output.len() + message.len() <= MOST_UNREAD {
                client.say(&message);
            }
        }
    }

    /// Answers a request; the connection is closed when the answer was read. Whoever has hung up is not missed.
    pub fn answer(&mut self, id: RequestId, reply: &Reply, now: Instant) {
        if let Some(client) = self.clients.iter_mut().find(|client| client.id == id) {
            client.is_owed = false;
            client.answer(reply, now);
        }
        self.part_with(Client::has_its_answer);
    }

    /// Who has asked for something, and has gone before an answer came. Each is told of once.
    pub fn take_hung_up(&mut self) -> Vec<RequestId> {
        std::mem::take(&mut self.hung_up)
    }

    /// After a crash: whoever has asked for something in its turn would wait for nothing, and cannot be told from one
    /// who has not asked yet.
    pub fn apologize(&mut self, now: Instant) {
        let reason = "the superdaemon has crashed and goes on where it was; what was asked for just before is not tried \
                      again, see its log and ask again";
        for client in self.clients.iter_mut().filter(|client| client.state == State::Asking) {
            client.answer(&Reply::Error { reason: reason.to_owned() }, now);
        }
        self.part_with(Client::has_its_answer);
    }

    /// Gives answers that are still unread a last chance, and removes the socket file if it is ours.
    pub fn close(mut self) {
        for client in &mut self.clients {
            let _ = client.flush();
        }
        if let Some((path, identity)) = &self.file
            && identity.is_at(path)
        {
            let _ = std::fs::remove_file(path);
        }
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..MOST_AT_ONCE {
            match self.listener.accept() {
                Ok((stream, _)) => self.admit(stream, now),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // No descriptors left, most likely: without a rest this would be tried again and again.
                Err(_) => {
                    self.rests_until = Some(now.plus(REST));
                    return;
                }
            }
        }
    }

    fn admit(&mut self, stream: UnixStream, now: Instant) {
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        self.last_id += 1;
        credentials::refuse_descriptors(&stream);
        let mut client = Client {
            id: RequestId(self.last_id),
            stream,
            input: Vec::new(),
            output: Vec::new(),
            state: State::Asking,
            is_silent: false,
            is_owed: false,
            has_given_up: false,
            until: Some(now.plus(PATIENCE)),
        };
        let us = geteuid();
        match credentials::of_peer(&client.stream) {
            Ok(peer) if peer.uid == us.as_raw() || peer.uid == 0 => {
                if self.has_room() {
                    self.clients.push(client);
                } else {
                    let most = self.most_clients;
                    let reason = format!("{most} others wait for an answer of this superdaemon; try again later");
                    client.answer(&Reply::Error { reason }, now);
                }
            }
            _ => {
                let reason = format!("only user {} and root may talk to this superdaemon", us.as_raw());
                client.answer(&Reply::Error { reason }, now);
            }
        }
    }
}

impl ControlSocket {
    /// Ends these connections.
    fn part_with(&mut self, is_done: impl Fn(&Client) -> bool) {
        let hung_up = &mut self.hung_up;
        self.clients.retain(|client| {
            let goes = is_done(client);
            if goes && client.is_owed {
                hung_up.push(client.id);
            }
            !goes
        });
    }

    /// Whether one more client can be served; if need be, instead of the oldest that does not wait for anything: one
    /// that has not said what it wants, or does not read what it was told.
    fn has_room(&mut self) -> bool {
        if self.clients.len() >= self.most_clients
            && let Some(idle) = self.clients.iter().find(|client| client.state != State::Waiting).map(|client| client.id)
        {
            self.part_with(|client| client.id == idle);
        }
        self.clients.len() < self.most_clients
    }
}

impl Client {
    fn state(&self, kept: &mut Kept) -> state::Client {
        state::Client {
            id: self.id,
            stream: kept.keep(self.stream.as_fd()),
            input: self.input.as_slice().into(),
            output: self.output.as_slice().into(),
            stage: match self.state {
                State::Asking => state::ClientStage::Asking,
                State::Waiting => state::ClientStage::Waiting,
                State::Answered => state::ClientStage::Answered,
            },
            is_silent: self.is_silent,
            until: self.until,
        }
    }

    fn resume(client: state::Client, inherited: &mut Inherited) -> Option<Self> {
        Some(Self {
            id: client.id,
            stream: take_over(inherited, client.stream)?.into(),
            input: client.input.into_bytes(),
            output: client.output.into_bytes(),
            state: match client.stage {
                state::ClientStage::Asking => State::Asking,
                state::ClientStage::Waiting => State::Waiting,
                state::ClientStage::Answered => State::Answered,
            },
            is_silent: client.is_silent,
            is_owed: client.stage == state::ClientStage::Waiting,
            has_given_up: false,
            until: client.until,
        })
    }

    /// What to poll for. That the connection is gone is always reported.
    fn wishes(&self) -> PollFlags {
        let mut wishes = PollFlags::empty();
        wishes.set(PollFlags::IN, !self.is_silent);
        wishes.set(PollFlags::OUT, !self.output.is_empty());
        wishes
    }

    fn has_its_answer(&self) -> bool {
        self.state == State::Answered && self.output.is_empty()
    }

    /// Reads and writes what can be without waiting. The request, when it is complete.
    fn exchange(&mut self, now: Instant) -> io::Result<Option<Request>> {
        // One that is not polled for input and has nothing to be written to was reported because it is gone.
        if self.is_silent && self.output.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.flush()?;
        if self.is_silent || self.has_its_answer() {
            return Ok(None);
        }
        let Some(line) = self.next_line(now)? else { return Ok(None) };
        match (decode_request(&String::from_utf8_lossy(&line)), self.state) {
            (Ok(Request::GiveUp), State::Waiting) if !self.has_given_up => {
                self.has_given_up = true;
                Ok(Some(Request::GiveUp))
            }
            (Ok(Request::GiveUp), _) => self.refuse("there is nothing to give up yet", now),
            (Ok(request), State::Asking) => {
                self.state = State::Waiting;
                self.is_owed = true;
                self.until = None;
                Ok(Some(request))
            }
            (Ok(_), _) => self.refuse("a connection is for one request", now),
            (Err(reason), _) => self.refuse(&reason, now),
        }
    }

    /// The next line that the client has sent, if it is there.
    fn next_line(&mut self, now: Instant) -> io::Result<Option<Vec<u8>>> {
        if let Some(line) = self.buffered_line() {
            return Ok(Some(line));
        }
        let mut buffer = [0; ONE_READ];
        let length = match self.stream.read(&mut buffer) {
            // It may have hung up, or only said all that it has to say. What it asked for goes on.
            Ok(0) if self.state == State::Waiting => {
                self.is_silent = true;
                return Ok(None);
            }
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(length) => length,
            Err(error) if is_later(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        if self.state == State::Answered {
            return Ok(None);
        }
        self.input.extend_from_slice(buffer.get(..length).unwrap_or_default());
        let line = self.buffered_line();
        if line.is_none() && self.input.len() >= LONGEST_REQUEST {
            let reason = format!("a request is a line of at most {LONGEST_REQUEST} bytes");
            self.answer(&Reply::Error { reason }, now);
        }
        Ok(line)
    }

    fn buffered_line(&mut self) -> Option<Vec<u8>> {
        let end = self.input.iter().position(|&byte| byte == b'\n')?;
        Some(self.input.drain(..=end).collect())
    }

    fn refuse(&mut self, reason: &str, now: Instant) -> io::Result<Option<Request>> {
        self.answer(&Reply::Error { reason: reason.to_owned() }, now);
        Ok(None)
    }

    fn answer(&mut self, reply: &Reply, now: Instant) {
        self.state = State::Answered;
        self.until = Some(now.plus(PATIENCE));
        self.say(&encode(reply));
    }

    fn say(&mut self, message: &str) {
        self.output.extend_from_slice(message.as_bytes());
        // A lost connection shows when it is polled next.
        let _ = self.flush();
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(length) => drop(self.output.drain(..length)),
                Err(error) if is_later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Half of the descriptors that are left are for clients; the kernel has just given us the lowest free one.
fn most_clients(listener: &UnixListener) -> usize {
    let taken = u64::try_from(listener.as_raw_fd()).unwrap_or(0);
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(limit.saturating_sub(taken) / 2).unwrap_or(MOST_CLIENTS).clamp(1, MOST_CLIENTS)
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn listen_at(path: &Path) -> Result<(UnixListener, FileIdentity), String> {
    let failed = |error: io::Error| {
        let why = io_reason(&error);
        format!("failed to open the control socket {}: {why}; give a path in a directory of yours", path.display())
    };
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        if UnixStream::connect(path).is_ok() {
            return Err(format!(
                "the control socket {} is in use by another superdaemon; stop that one, or give another path",
                path.display()
            ));
        }
        std::fs::remove_file(path).map_err(failed)?;
    }
    let before = umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    let listener = listener.map_err(failed)?;
    Ok((listener, FileIdentity::at(path).map_err(failed)?))
}
