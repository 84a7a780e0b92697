//! The serving loop: one thread, one poll, listeners, connections and signals together.

use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{read, write};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, recvfrom, sendto};

use crate::http::{self, Wish};
use crate::options::Options;
use crate::{Life, watch};

/// How long a connection on which nothing was asked yet may hold up a graceful end.
const PATIENCE_WITH_SILENCE: Duration = Duration::from_secs(5);

pub struct Server<'a> {
    life: &'a Life<'a>,
    sockets: Vec<Socket>,
    connections: Vec<Connection>,
    told_to_stop: Option<Instant>,
}

struct Socket {
    fd: OwnedFd,
    datagrams: bool,
}

struct Connection {
    fd: OwnedFd,
    since: Instant,
    received: Vec<u8>,
    answered: bool,
    /// The answer that is due: when, and whether the connection stays open after it.
    due: Option<(Instant, bool)>,
    closed: bool,
}

impl<'a> Server<'a> {
    /// Takes the sockets from SERVER_STARTER_PORT.
    pub fn new(life: &'a Life<'a>) -> Self {
        let variable = std::env::var("SERVER_STARTER_PORT").unwrap_or_default();
        let numbers = variable.split(';').filter_map(|entry| entry.rsplit_once('=')?.1.parse::<i32>().ok());
        let sockets = numbers.map(Socket::inherit).collect();
        Self { life, sockets, connections: Vec::new(), told_to_stop: None }
    }

    /// Serves until told to stop, and gives the exit status.
    pub fn run(mut self) -> i32 {
        self.life.record.write("ready");
        loop {
            let now = Instant::now();
            if self.exits_by_itself(now) || self.has_drained(now) {
                return self.life.options.exit;
            }
            self.wait(now);
            self.heed_signals();
            self.accept();
            self.converse();
        }
    }

    fn exits_by_itself(&self, now: Instant) -> bool {
        let options = self.life.options;
        let concerned =
            options.exit_generations.is_empty() || options.exit_generations.contains(&self.life.record.generation());
        options.exit_after.is_some_and(|time| concerned && now >= self.life.begun + time)
    }

    fn has_drained(&self, now: Instant) -> bool {
        let Options { drain, linger, .. } = self.life.options;
        self.told_to_stop.is_some_and(|since| {
            let lingers = now < since + *linger && self.connections.iter().any(|one| one.answered);
            now >= since + *drain && !lingers && !self.connections.iter().any(|one| one.is_busy(now))
        })
    }

    /// Waits until there is something to do, at most 50 ms: the deadlines of this program are that coarse.
    fn wait(&self, now: Instant) {
        let due = self.connections.iter().filter_map(|one| one.due).map(|(due, _)| due.saturating_duration_since(now));
        let time = due.min().unwrap_or(Duration::MAX).min(Duration::from_millis(50));
        let mut fds = vec![PollFd::new(&self.life.signals, PollFlags::IN)];
        fds.extend(self.sockets.iter().map(|socket| PollFd::new(&socket.fd, PollFlags::IN)));
        fds.extend(self.connections.iter().map(|one| PollFd::new(&one.fd, PollFlags::IN)));
        let timeout = time.try_into().ok();
        let _ = poll(&mut fds, timeout.as_ref());
    }

    fn heed_signals(&mut self) {
        while let Some(name) = self.life.signals.next() {
            self.life.record.write(&format!("signal {name}"));
            if self.life.options.is_graceful(&name) && self.told_to_stop.is_none() {
                self.told_to_stop = Some(Instant::now());
                // What waits in their queues is for the next generation.
                self.sockets.clear();
            }
        }
    }

    fn accept(&mut self) {
        for socket in &self.sockets {
            if !is_readable(&socket.fd) {
                continue;
            }
            if socket.datagrams {
                echo(&socket.fd);
            } else if let Ok(fd) = accept_with(&socket.fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                self.connections.push(Connection::new(fd));
            }
        }
    }

    fn converse(&mut self) {
        let stopping = self.told_to_stop.is_some();
        for one in &mut self.connections {
            one.receive();
            if one.due.is_none()
                && let Some(request) = http::take_request(&mut one.received)
            {
                if self.life.options.die_on_request {
                    self.life.fail();
                }
                let delay = match request.wish {
                    Wish::Answer => Duration::ZERO,
                    Wish::AnswerAfter(time) => time,
                    Wish::Exit(code) => self.life.exit(code),
                    Wish::Die(number) => watch::die_of(number),
                };
                one.due = Some((Instant::now() + delay, request.keep_alive));
            }
            if let Some((due, keep_alive)) = one.due
                && Instant::now() >= due
            {
                let body = format!("generation={} pid={}\n", self.life.record.generation(), std::process::id());
                one.answer(&body, keep_alive && !stopping);
            }
        }
        self.connections.retain(|one| !one.closed);
    }
}

impl Socket {
    fn inherit(number: i32) -> Self {
        // SAFETY: the number comes from SERVER_STARTER_PORT, which gives us the descriptor; each is named once there.
        let fd = unsafe { OwnedFd::from_raw_fd(number) };
        let datagrams = sockopt::socket_type(&fd) == Ok(SocketType::DGRAM);
        // Another generation may take a connection between poll and accept. The flag O_NONBLOCK, shared by all
        // generations and visible to the tests, is left alone; a blocked accept is ended by this time-out instead.
        let _ = sockopt::set_socket_timeout(&fd, Timeout::Recv, Some(Duration::from_millis(20)));
        Self { fd, datagrams }
    }
}

impl Connection {
    fn new(fd: OwnedFd) -> Self {
        Self { fd, since: Instant::now(), received: Vec::new(), answered: false, due: None, closed: false }
    }

    /// Whether somebody waits for an answer here, or may be about to ask for the first time.
    fn is_busy(&self, now: Instant) -> bool {
        let fresh = !self.answered && now < self.since + PATIENCE_WITH_SILENCE;
        self.due.is_some() || !self.received.is_empty() || fresh
    }

    fn receive(&mut self) {
        let mut buffer = [0; 4096];
        match read(&self.fd, &mut buffer) {
            Ok(0) => self.closed = true,
            Ok(length) => self.received.extend(buffer.iter().take(length)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.closed = true,
        }
    }

    fn answer(&mut self, body: &str, keep_alive: bool) {
        // So short an answer fits into the buffer of any connection that reads its answers.
        let written = write(&self.fd, http::answer(body, keep_alive).as_bytes());
        self.due = None;
        self.answered = true;
        self.closed |= !keep_alive || written.is_err();
    }
}

fn is_readable(fd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&fd, PollFlags::IN)];
    poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 })) == Ok(1)
}

fn echo(fd: &OwnedFd) {
    let mut buffer = [0; 65536];
    if let Ok((length, _, Some(sender))) = recvfrom(fd, &mut buffer, RecvFlags::DONTWAIT)
        && let Some(datagram) = buffer.get(..length)
    {
        let _ = sendto(fd, datagram, SendFlags::DONTWAIT, &sender);
    }
}
