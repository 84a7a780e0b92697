//! The service manager that runs the superdaemon, systemd as a rule: it is told how the superdaemon fares, keeps its
//! listeners for the case that it is killed, and may have passed some at the start. Without one, nothing is done here.
//! The event loop hands in each report; what to say is decided here, `channel` says it.

mod channel;
mod memory;
pub mod passed;
mod words;

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use supervisor::report::{Failure, FailureKind, Next, Report};
use supervisor::{GenerationNumber, GenerationState, Instant};
use sys::reexec::Inherited;

use self::channel::{Channel, Kind, Message};
use self::memory::Memory;
use self::passed::Passed;
use crate::config::{Config, ReadyRule};
use crate::handover::descriptor::{Kept, take};
use crate::handover::state;
use crate::listeners::{Listener, Listeners};
use crate::messages::describe;

/// Descriptors of ours that the manager keeps have names that begin so.
pub const STORED: &str = "start_server-";
/// The name of the [`Memory`].
const MEMORY: &str = "start_server-memory";

/// What an attempt may take beyond its own limit: the end of a worker that was not ready in time, and a loaded machine.
const MARGIN: Duration = Duration::from_secs(15);

/// The manager as it is known to the superdaemon.
#[derive(Debug)]
pub struct ServiceManager {
    channel: Option<Channel>,
    /// How often it wants to hear that the loop turns, and when next.
    watchdog: Option<(Duration, Instant)>,
    /// Whether it can be expected to keep descriptors.
    keeps: bool,
    memory: Option<Memory>,
    phase: Phase,
    /// A restart was asked for that the next spawn covers.
    is_restart_queued: bool,
    /// How long an attempt to start may take, from its spawn.
    attempt: Duration,
    /// Whether the attempts come to an end.
    is_limited: bool,
    /// Whether an attempt has failed since the restart, or the start, began.
    is_failing: bool,
    /// Why the last attempt failed, until one succeeds.
    failure: Option<String>,
    status: String,
}

/// What the manager believes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving,
    Reloading,
    Stopping,
}

impl Phase {
    const ALL: [Self; 4] = [Self::Starting, Self::Serving, Self::Reloading, Self::Stopping];

    fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Reloading => "reloading",
            Self::Stopping => "stopping",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.name() == name)
    }
}

impl ServiceManager {
    /// The manager that the environment tells of, through `variable`. Also a sentence about what makes no sense.
    pub fn find(variable: &dyn Fn(&str) -> Option<OsString>, config: &Config, now: Instant) -> (Self, Option<String>) {
        let (channel, warning) = match variable("NOTIFY_SOCKET").map(Channel::new) {
            None => (None, None),
            Some(Ok(channel)) => (Some(channel), None),
            Some(Err(error)) => (None, Some(error)),
        };
        let number = |name: &str| variable(name).and_then(|value| value.to_str()?.parse::<u64>().ok());
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let limit = number("WATCHDOG_USEC").filter(|limit| is_ours && *limit > 0 && channel.is_some());
        let attempt = match config.ready {
            ReadyRule::Alive => config.interval,
            ReadyRule::Notify | ReadyRule::Accept | ReadyRule::Exec(_) => config.ready_timeout,
        };
        let manager = Self {
            // Newer managers say how much they keep; of older ones it is not known.
            keeps: channel.is_some() && number("FDSTORE") != Some(0),
            channel,
            watchdog: limit.map(|limit| (Duration::from_micros(limit) / 2, now)),
            memory: None,
            phase: Phase::Starting,
            is_restart_queued: false,
            attempt,
            is_limited: config.max_attempts.is_some(),
            is_failing: false,
            failure: None,
            status: String::new(),
        };
        (manager, warning)
    }

    /// What the next image of the program has to know; nothing if there is no manager. What waits to be sent is sent
    /// again there, as far as it still matters.
    pub fn state(&self, kept: &mut Kept) -> Option<state::ServiceManager> {
        self.channel.as_ref()?;
        Some(state::ServiceManager {
            phase: self.phase.name().to_owned(),
            is_restart_queued: self.is_restart_queued,
            is_failing: self.is_failing,
            failure: self.failure.clone(),
            memory: self.memory.as_ref().map(|memory| kept.keep(memory.as_fd())),
        })
    }

    /// Goes on where another image of the program was.
    pub fn resume(&mut self, state: state::ServiceManager, inherited: &mut Inherited) {
        self.phase = Phase::named(&state.phase).unwrap_or(Phase::Serving);
        self.is_restart_queued = state.is_restart_queued;
        self.is_failing = state.is_failing;
        self.failure = state.failure;
        let memory = state.memory.and_then(|memory| take(inherited, memory));
        self.memory = memory.and_then(|memory| Memory::read(memory).ok());
    }

    /// Takes the memory out of what was passed. What is left are sockets.
    pub fn remember(&mut self, passed: Vec<Passed>) -> Vec<Passed> {
        let (ours, sockets): (Vec<Passed>, _) = passed.into_iter().partition(|one| one.name.as_deref() == Some(MEMORY));
        self.memory = ours.into_iter().find_map(|one| Memory::read(one.descriptor).ok());
        sockets
    }

    /// The number of the last generation of a superdaemon that was killed; 0 if it is not known.
    pub fn last_generation(&self) -> u32 {
        self.memory.as_ref().map_or(0, Memory::last_generation)
    }

    /// A generation gets its number.
    pub fn numbered(&mut self, generation: GenerationNumber) {
        if let Some(memory) = &mut self.memory {
            // If there is no memory for this, the next superdaemon counts from an older number.
            let _ = memory.set_last_generation(generation.0);
        }
    }

    /// Gives the manager all listeners to keep, except those that are its own.
    pub fn keep(&mut self, listeners: &mut Listeners) {
        if !self.keeps {
            return;
        }
        for name in listeners.take_released() {
            self.forget(&name);
        }
        for listener in listeners.all().iter().filter(|listener| !listener.is_managers()) {
            self.store(listener.as_fd(), &listener.stored_name());
        }
        if self.memory.is_none() {
            self.memory = Memory::new().ok();
        }
        if let Some(memory) = self.memory.take() {
            self.store(memory.as_fd(), MEMORY);
            self.memory = Some(memory);
        }
    }

    /// Gives the manager a listener that was bound again, for the one that it has.
    pub fn keep_instead(&mut self, listener: &Listener) {
        if self.keeps && !listener.is_managers() {
            self.forget(&listener.stored_name());
            self.store(listener.as_fd(), &listener.stored_name());
        }
    }

    /// The superdaemon ends. Listeners whose address goes with it are not to be kept; the others wait in case the service
    /// is started again, and so do those who connect meanwhile. After an end that was asked for, numbers begin anew.
    pub fn take_leave(&mut self, listeners: &Listeners, as_asked: bool) {
        if !self.keeps {
            return;
        }
        for listener in listeners.all().iter().filter(|listener| listener.path().is_some()) {
            self.forget(&listener.stored_name());
        }
        if as_asked {
            self.forget(MEMORY);
        }
    }

    /// What has happened, and how things stand now.
    pub fn hear(&mut self, report: &Report, states: &[GenerationState], now: Instant) {
        if self.channel.is_none() {
            return;
        }
        match report {
            Report::Ready { .. } => (self.failure, self.is_failing) = (None, false),
            Report::SpawnFailed { generation, errno, next } => {
                let kind = FailureKind::Spawn { errno: *errno };
                self.failed(&Failure { generation: *generation, pid: None, kind }, *next);
            }
            Report::StartFailed { failure, next, .. } | Report::DiedBeforeCommit { failure, next, .. } => {
                self.failed(failure, *next);
            }
            _ => {}
        }
        // Before what it belongs to: who waits for that can read this at once.
        self.show(words::picture(states, self.failure.as_deref()));
        match report {
            Report::RestartBegins(_) | Report::AutoRestart { .. } => self.reloading(now),
            Report::RestartQueued { .. } => self.is_restart_queued = true,
            Report::Spawned { .. } => {
                if self.is_restart_queued {
                    self.reloading(now);
                }
                self.attempt_takes(self.attempt);
            }
            Report::Ready { .. } if self.phase == Phase::Starting => self.ready(),
            Report::KillOldDelay(delay) => self.extend(*delay),
            // A reload cannot be told to have failed, only to be over; the status tells.
            Report::RetiringOld | Report::GaveUp { .. } if self.phase == Phase::Reloading => self.ready(),
            Report::Stopping { .. } | Report::KillingAll { .. } => self.stopping(),
            _ => {}
        }
    }

    /// The generation that is starting gets so much time from now.
    pub fn attempt_takes(&mut self, time: Duration) {
        // What fails again and again is not slow: let the manager come to an end, unless we do.
        if !self.is_failing || self.is_limited {
            self.extend(time);
        }
    }

    fn extend(&mut self, by: Duration) {
        // While all is well the manager would take it for a longer life.
        if matches!(self.phase, Phase::Starting | Phase::Reloading) {
            let time = by.saturating_add(MARGIN).as_micros();
            self.send(Kind::Extend, format!("EXTEND_TIMEOUT_USEC={}", u64::try_from(time).unwrap_or(u64::MAX)));
        }
    }

    /// Whether it ends whoever does not show that the loop turns.
    pub fn has_watchdog(&self) -> bool {
        self.watchdog.is_some()
    }

    /// When [`ServiceManager::pat_watchdog`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.watchdog.map(|(_, at)| at)
    }

    /// Lets the manager know that the loop turns, if it is time.
    pub fn pat_watchdog(&mut self, now: Instant) {
        if let Some((every, at)) = &mut self.watchdog
            && *at <= now
        {
            *at = now.plus(*every);
            self.send(Kind::Watchdog, "WATCHDOG=1".to_owned());
        }
    }

    /// To be polled for room to write, if something waits for it.
    pub fn pending(&self) -> Option<BorrowedFd<'_>> {
        self.channel.as_ref()?.pending()
    }

    /// Sends what waits, as far as it can be sent now.
    pub fn flush(&mut self) {
        if let Some(channel) = &mut self.channel {
            channel.flush();
        }
    }

    /// What a person should know, once.
    pub fn complaint(&mut self) -> Option<String> {
        self.channel.as_mut()?.complaint()
    }

    fn reloading(&mut self, now: Instant) {
        (self.is_restart_queued, self.is_failing) = (false, false);
        if matches!(self.phase, Phase::Serving | Phase::Reloading) {
            self.phase = Phase::Reloading;
            let time = now.since_start().as_micros();
            self.send(Kind::Begin, format!("RELOADING=1\nMONOTONIC_USEC={time}"));
        }
    }

    fn ready(&mut self) {
        self.phase = Phase::Serving;
        self.send(Kind::Complete, "READY=1".to_owned());
    }

    fn stopping(&mut self) {
        if self.phase != Phase::Stopping {
            self.phase = Phase::Stopping;
            self.send(Kind::Begin, "STOPPING=1".to_owned());
        }
    }

    fn failed(&mut self, failure: &Failure, next: Next) {
        self.is_failing = true;
        self.failure = Some(format!("the last attempt failed: {}", describe(failure)));
        if let Next::Retry { after, .. } = next {
            self.attempt_takes(after);
        }
    }

    fn show(&mut self, status: String) {
        if status != self.status {
            self.send(Kind::Status, format!("STATUS={status}"));
            self.status = status;
        }
    }

    /// FDPOLL=0: whatever a worker does to a socket, it is not thrown away for it.
    fn store(&mut self, descriptor: BorrowedFd<'_>, name: &str) {
        let Some(channel) = &mut self.channel else { return };
        if let Ok(descriptor) = descriptor.try_clone_to_owned() {
            let text = format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}");
            channel.send(Message { kind: Kind::Store, text, descriptor: Some(descriptor) });
        }
    }

    fn forget(&mut self, name: &str) {
        self.send(Kind::Store, format!("FDSTOREREMOVE=1\nFDNAME={name}"));
    }

    fn send(&mut self, kind: Kind, text: String) {
        if let Some(channel) = &mut self.channel {
            channel.send(Message { kind, text, descriptor: None });
        }
    }
}
