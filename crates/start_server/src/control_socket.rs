//! The superdaemon's end of the control socket: clients, what they ask for, and what they are told. The event loop
//! polls its descriptors and passes requests on.
//!
//! Nothing that a client does may delay or end the superdaemon: all is non-blocking, every buffer has a limit, and
//! whoever says nothing for a while is sent away.

mod endpoint;

use std::cell::OnceCell;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Duration;

use control::{Reply, Request, decode_request, encode};
use rustix::event::PollFlags;
use rustix::process::{Resource, geteuid, getrlimit};
use supervisor::{Instant, RequestId};
use sys::credentials;
use sys::reexec::Inherited;

use crate::handover::descriptor::{Kept, take as take_over};
use crate::handover::state;
use crate::run_directory::RunDirectory;
use crate::trusted_users::{Trusted, TrustedUsers};
use endpoint::Endpoint;

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

/// The control socket with its clients.
#[derive(Debug)]
pub struct ControlSocket {
    endpoint: Endpoint,
    /// Who may connect; found out when the first one does.
    users: OnceCell<TrustedUsers>,
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
    /// Opens the socket: at `path`, or if there is none in the run directory. Only our user and root can use it.
    ///
    /// # Errors
    /// A sentence.
    pub fn open(path: Option<&Path>, run: &Result<RunDirectory, String>) -> Result<Self, String> {
        let endpoint = match (path, run) {
            (Some(path), _) => Endpoint::at(path)?,
            (None, Ok(run)) => Endpoint::within(run)?,
            (None, Err(why)) => {
                return Err(format!(
                    "there is no directory for the control socket that only this user can write to ({why}); make one, or \
                     give --control-socket"
                ));
            }
        };
        Ok(Self::at(endpoint))
    }

    fn at(endpoint: Endpoint) -> Self {
        Self {
            most_clients: most_clients(&endpoint.listener),
            endpoint,
            users: OnceCell::new(),
            clients: Vec::new(),
            last_id: 0,
            hung_up: Vec::new(),
            rests_until: None,
        }
    }

    /// What the next image of the program has to know of it.
    pub fn state(&self, kept: &mut Kept) -> state::Control {
        let (listener, file) = self.endpoint.state(kept);
        state::Control {
            listener,
            file: Some(file),
            clients: self.clients.iter().map(|client| client.state(kept)).collect(),
            last_id: self.last_id,
            rests_until: self.rests_until,
        }
    }

    /// The socket as the image before had it, with all who are connected. Who is not any more is not missed.
    ///
    /// # Errors
    /// The socket is not there, and no other can be opened.
    pub fn resume(
        control: state::Control,
        path: Option<&Path>,
        run: &Result<RunDirectory, String>,
        inherited: &mut Inherited,
    ) -> Result<Self, String> {
        let clients = control.clients.into_iter().filter_map(|client| Client::resume(client, inherited)).collect();
        let before = Endpoint::resume(control.listener, control.file, inherited);
        let anew = before.map_or_else(|| Self::open(path, run), |endpoint| Ok(Self::at(endpoint)))?;
        Ok(Self { clients, last_id: control.last_id, rests_until: control.rests_until, ..anew })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.endpoint.path()
    }

    /// What to poll, and for what.
    pub fn descriptors(&self) -> impl Iterator<Item = (End, BorrowedFd<'_>, PollFlags)> {
        let listener =
            self.rests_until.is_none().then(|| (End::Listener, self.endpoint.listener.as_fd(), PollFlags::IN));
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
        self.endpoint.remove();
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..MOST_AT_ONCE {
            match self.endpoint.listener.accept() {
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
        // Connections do not take this over from the listener.
        credentials::refuse_descriptors(&client.stream);
        match credentials::of_peer(&client.stream)
            .map(|peer| self.users.get_or_init(TrustedUsers::of_this_process).trust(peer))
        {
            Ok(Trusted::Yes) => {
                if self.has_room() {
                    self.clients.push(client);
                } else {
                    let most = self.most_clients;
                    let reason = format!("{most} others wait for an answer of this superdaemon; try again later");
                    client.answer(&Reply::Error { reason }, now);
                }
            }
            _ => {
                let us = geteuid().as_raw();
                let reason = format!("only user {us} and root may talk to this superdaemon");
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
            && let Some(idle) =
                self.clients.iter().find(|client| client.state != State::Waiting).map(|client| client.id)
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
