//! The loop: waits for whatever comes next and tells the supervisor. It knows how to spawn, to signal, to write a
//! file; whether to is never decided here.

mod actions;
mod apart;
mod guards;
mod remembering;
mod status;
mod strays;
mod upgrading;

pub use apart::ApartProcesses;
pub use remembering::{Arrival, Succession};

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use control::Request;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{WaitOptions, waitpid};
use rustix::time::{ClockId, clock_gettime};
use supervisor::event::Until;
use supervisor::policy::Readiness;
use supervisor::report::ReadyBy;
use supervisor::{
    Event, ExitStatus, GenerationNumber, Instant, Pid, Policy, RequestId, Requester, Settings, StopRequester,
    Supervisor,
};
use sys::background::Voice;
use sys::signal::{Signal, SignalFd};
use sys::spawn::{ExecReport, ExecState, Stage};

use crate::config::{Config, LogTarget, ReadyRule};
use crate::control_socket::{ControlSocket, End};
use crate::envdir_watch::EnvdirWatch;
use crate::environment::Environment;
use crate::errno::reason;
use crate::listeners::Listeners;
use crate::log_command::LogCommand;
use crate::log_excerpt::LogExcerpt;
use crate::log_output::LogOutput;
use crate::messages::Words;
use crate::orphans::{Orphan, drainers};
use crate::pid_file::PidFile;
use crate::proving::{Looking, Proving};
use crate::readiness::check::Check;
use crate::readiness::notify::{Family, Message, NotifySocket};
use crate::run_directory::RunDirectory;
use crate::service_manager::ServiceManager;
use crate::status_file::StatusFile;
use crate::worker::Recipe;
use guards::Guards;
use strays::Strays;

/// So many signals are read in a turn. Those that can be queued have no meaning here.
const MOST_SIGNALS: usize = 128;

/// So many children are reaped in a turn.
const MOST_REAPED: usize = 64;

/// Everything that was set up before the loop, and is there to be cleaned up after it.
#[derive(Debug)]
pub struct Parts {
    pub config: Config,
    /// Where sockets and locks of ours are; or why there is no such directory.
    pub run_directory: Result<RunDirectory, String>,
    pub signals: SignalFd,
    pub environment: Environment,
    pub listeners: Listeners,
    pub recipe: Recipe,
    pub log: LogOutput,
    pub log_command: Option<LogCommand>,
    pub pid_file: Option<PidFile>,
    pub status_file: Option<StatusFile>,
    pub control: Option<ControlSocket>,
    pub service_manager: ServiceManager,
}

/// The superdaemon while it runs.
#[derive(Debug)]
pub struct EventLoop {
    parts: Parts,
    words: Words,
    supervisor: Supervisor,
    settings: Settings,
    /// What is wrong with the settings and has been said.
    known_warnings: Vec<String>,
    envdir_watch: Option<EnvdirWatch>,
    /// Workers that have not said yet whether they run the program.
    newborns: Vec<Newborn>,
    /// Who may be left of workers that have gone.
    strays: Vec<Strays>,
    stopping_since: Option<Instant>,
    /// Workers of a superdaemon that was killed, until they are replaced.
    orphans: Vec<Orphan>,
    /// What is known of each generation besides what the supervisor needs.
    notes: BTreeMap<GenerationNumber, Notes>,
    proving: Proving,
    /// What may wait is done by these.
    apart: ApartProcesses,
    /// Children have ended that there was no time to reap.
    has_unreaped: bool,
    guards: Guards,
    /// Proofs that were found in this turn.
    proofs: Vec<Event>,
    /// What the generation that was spawned last has written, where there is a log file.
    excerpt: Option<LogExcerpt>,
    tally: Tally,
    /// Who waits for the first worker in a launcher.
    voice: Option<Voice>,
    /// What was reported last, for the launcher in case of failure.
    last_words: Vec<String>,
    /// Who is to hear that everything has ended.
    farewells: Vec<RequestId>,
    /// Set when the supervisor has said that it is over: whether as asked.
    over: Option<bool>,
    /// What it takes to go on in another image of the program.
    succession: Succession,
}

/// A process that may not run the program yet.
#[derive(Debug)]
struct Newborn {
    generation: GenerationNumber,
    pid: Pid,
    report: ExecReport,
    /// When it is asked, if nothing happens before.
    ask_at: Instant,
}

/// What is known of a generation.
#[derive(Debug)]
struct Notes {
    worker: Option<Pid>,
    notify: Option<NotifySocket>,
    ready_by: Option<ReadyBy>,
    /// What it last said of itself.
    says: Option<String>,
    /// The readiness rule that it was spawned under.
    rule: ReadyRule,
}

/// What has happened so far.
#[derive(Debug)]
struct Tally {
    since: Instant,
    restarts: u64,
    failures: u64,
    last_failure: Option<(String, Instant)>,
    upgrades: u64,
    crashes: u64,
}

/// What a descriptor in the poll set means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Signals,
    Log,
    ServiceManager,
    Envdir,
    Newborn,
    Orphan(i32),
    Notify(GenerationNumber),
    Proof,
    Control(End),
    Listeners,
}

impl EventLoop {
    /// A superdaemon that is set up and has not spawned anything.
    pub fn new(mut parts: Parts, voice: Option<Voice>, succession: Succession) -> Self {
        let orphans = with_drainers(parts.listeners.take_orphans(), &mut parts);
        let (settings, warnings) = parts.environment.control_variables().settings();
        warnings.iter().for_each(|warning| parts.log.line(warning));
        let mut supervisor = Supervisor::new(policy(&parts.config), settings.clone());
        supervisor.skip_numbers(GenerationNumber(parts.service_manager.last_generation()));
        let words = Words::of(&parts.config);
        let envdir_watch = parts.environment.watch();
        let guards = Guards::new(&parts.listeners, &mut |line| parts.log.line(&line));
        Self {
            parts,
            words,
            supervisor,
            settings,
            known_warnings: warnings,
            envdir_watch,
            newborns: Vec::new(),
            strays: Vec::new(),
            stopping_since: None,
            orphans,
            notes: BTreeMap::new(),
            proving: Proving::Nothing,
            apart: ApartProcesses::default(),
            has_unreaped: false,
            guards,
            proofs: Vec::new(),
            excerpt: None,
            tally: Tally { since: now(), restarts: 0, failures: 0, last_failure: None, upgrades: 0, crashes: 0 },
            voice,
            last_words: Vec::new(),
            farewells: Vec::new(),
            over: None,
            succession,
        }
    }

    /// Runs from the beginning until everything has ended. Returns whether it ended as asked, and what is to be cleaned
    /// up.
    pub fn run(mut self) -> (bool, Parts) {
        // A signal that came during the set-up is heard before anything is spawned.
        self.read_signals();
        if self.over.is_none() {
            let orphans = self.orphans.iter().map(|orphan| (GenerationNumber(orphan.generation), Pid(orphan.pid)));
            for (generation, pid) in orphans.collect::<Vec<_>>() {
                self.feed(Event::Adopted { generation, pid });
            }
            self.feed(Event::Start);
        }
        self.go_on()
    }

    /// As [`EventLoop::run`], when it has begun already.
    pub fn go_on(mut self) -> (bool, Parts) {
        loop {
            self.remember();
            match self.over {
                Some(as_asked) => {
                    // What is ended now cannot be gone on with.
                    self.succession.survival = None;
                    self.wait_for_strays();
                    return (as_asked, self.end());
                }
                None => self.turn(),
            }
        }
    }

    /// Whether nothing is going on that will soon go on.
    fn is_quiet(&self, time_left: Option<Duration>) -> bool {
        const SOON: Duration = Duration::from_secs(10);
        self.newborns.is_empty()
            && !self.has_unreaped
            && self.strays.is_empty()
            && self.supervisor.awaiting_proof().is_none()
            && time_left.is_none_or(|time_left| time_left > SOON)
    }

    /// Waits for the next thing to happen, and deals with it.
    ///
    /// The order matters: what a new process reported comes before its death, a death before the requests and the
    /// deadlines that would otherwise take the dead for living.
    fn turn(&mut self) {
        let ready = self.wait();
        self.read_newborns();
        for source in &ready {
            if let Source::Notify(generation) = source {
                self.read_notifications(*generation);
            }
        }
        // Before deaths: who has done it is best seen while it lives.
        if ready.contains(&Source::Listeners) {
            self.see_to_listeners();
        }
        for source in &ready {
            if let Source::Orphan(pid) = source {
                self.orphan_ended(Pid(*pid));
            }
        }
        if ready.contains(&Source::Signals) || self.has_unreaped {
            self.read_signals();
        }
        if ready.contains(&Source::Envdir) {
            self.reload_environment();
        }
        for source in &ready {
            if let Source::Control(end) = source {
                self.serve_client(*end);
            }
        }
        self.forget_who_hung_up();
        if ready.contains(&Source::Log) {
            self.parts.log.flush();
        }
        if ready.contains(&Source::ServiceManager) {
            self.parts.service_manager.flush();
        }
        self.meet_deadlines();
        if self.over.is_none() {
            self.complete_upgrade();
        }
    }

    /// Sleeps until something happens or is due. Soon after the last that has, if nothing is about to, memory is given
    /// back.
    fn wait(&mut self) -> Vec<Source> {
        const PAUSE: Duration = Duration::from_secs(1);
        let now = now();
        let time_left = self.next_deadline().map(|deadline| deadline.since(now));
        let is_quiet = self.is_quiet(time_left);
        let parts = &self.parts;
        let mut descriptors: Vec<(Source, BorrowedFd, PollFlags)> =
            vec![(Source::Signals, parts.signals.as_fd(), PollFlags::IN)];
        let newborns = self.newborns.iter().filter(|newborn| newborn.ask_at <= now);
        descriptors.extend(newborns.map(|it| (Source::Newborn, it.report.as_fd(), PollFlags::IN)));
        descriptors.extend(self.orphans.iter().map(|it| (Source::Orphan(it.pid), it.as_fd(), PollFlags::IN)));
        descriptors.extend(self.notes.iter().filter_map(|(generation, notes)| {
            Some((Source::Notify(*generation), notes.notify.as_ref()?.as_fd()?, PollFlags::IN))
        }));
        descriptors.extend(self.proving.as_fd().map(|fd| (Source::Proof, fd, PollFlags::IN)));
        descriptors.extend(parts.log.pending().map(|fd| (Source::Log, fd, PollFlags::OUT)));
        descriptors.extend(parts.service_manager.pending().map(|fd| (Source::ServiceManager, fd, PollFlags::OUT)));
        let envdir = self.envdir_watch.as_ref().and_then(EnvdirWatch::as_fd);
        descriptors.extend(envdir.map(|fd| (Source::Envdir, fd, PollFlags::IN)));
        descriptors.extend(self.watched_listeners().map(|fd| (Source::Listeners, fd, PollFlags::IN)));
        let control = parts.control.iter().flat_map(ControlSocket::descriptors);
        descriptors.extend(control.map(|(end, fd, wishes)| (Source::Control(end), fd, wishes)));
        let mut set: Vec<PollFd> =
            descriptors.iter().map(|(_, fd, flags)| PollFd::from_borrowed_fd(*fd, *flags)).collect();
        let rest = time_left.map(|time_left| timespec(time_left.saturating_sub(PAUSE)));
        let timeout = match time_left {
            _ if self.has_unreaped => Some(Duration::ZERO),
            _ if is_quiet => Some(PAUSE),
            time_left => time_left,
        };
        let polled = match poll(&mut set, timeout.map(timespec).as_ref()) {
            // It may be days until the memory is needed again that the last turns took: it is given back, right before
            // the call that waits as long, so that next to nothing of it comes back.
            Ok(0) if is_quiet => {
                sys::idle_memory::give_back();
                poll(&mut set, rest.as_ref())
            }
            polled => polled,
        };
        match polled {
            Ok(_) => {
                let ready = set.iter().map(|entry| !entry.revents().is_empty());
                descriptors.iter().zip(ready).filter(|(_, ready)| *ready).map(|((source, ..), _)| *source).collect()
            }
            // Signals are blocked, but a tracer, or a stop and a continue, interrupt all the same. When the kernel
            // lacks memory for a moment, the next turn comes soon enough.
            Err(_) => Vec::new(),
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [
            self.supervisor.next_deadline(),
            self.proving.next_deadline(),
            self.next_question_to_a_newborn(),
            self.next_strays_deadline(),
            self.next_notifications(),
            self.next_look_at_clients(),
            self.trial_deadline(),
            self.parts.log_command.as_ref().and_then(LogCommand::restart_due),
            self.parts.control.as_ref().and_then(ControlSocket::next_deadline),
            self.parts.service_manager.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn meet_deadlines(&mut self) {
        let now = now();
        if let Some(log_command) = &mut self.parts.log_command
            && let Some(line) = log_command.restart_if_due(now)
        {
            self.parts.log.line(&line);
        }
        if let Some(control) = &mut self.parts.control {
            control.expire(now);
        }
        self.forget_who_hung_up();
        self.read_late_notifications(now);
        self.end_strays(now);
        self.look_at_clients(now);
        self.parts.service_manager.pat_watchdog(now);
        if let Some(complaint) = self.parts.service_manager.complaint() {
            self.parts.log.line(&complaint);
        }
        self.limit_trial(now);
        let step = self.proving.step(&mut self.apart, now);
        if let Some(line) = step.line {
            self.tell(&line);
        }
        self.proofs.extend(step.event);
        self.accept_proofs();
        if self.supervisor.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.reap();
            self.feed(Event::Tick);
        }
    }

    /// Tells the supervisor what was proved, unless those of whom it was proved have died meanwhile: a commit must not
    /// be made for the dead.
    fn accept_proofs(&mut self) {
        if self.proofs.is_empty() {
            return;
        }
        self.reap();
        for proof in std::mem::take(&mut self.proofs) {
            self.feed(proof);
        }
    }

    fn read_signals(&mut self) {
        let mut received = Vec::new();
        for _ in 0..MOST_SIGNALS {
            match self.parts.signals.next() {
                Ok(Some(signal)) => received.push(signal.signal),
                Ok(None) => break,
                Err(error) => {
                    self.parts.log.line(&format!("failed to read a signal: {error}"));
                    break;
                }
            }
        }
        if received.contains(&Signal::CHLD) || self.has_unreaped {
            self.reap();
        }
        for signal in received {
            match signal {
                Signal::HUP => {
                    self.reload_environment();
                    self.feed(Event::Restart(Requester::Signal));
                }
                Signal::TERM => self.feed(Event::Stop(StopRequester::Terminate)),
                Signal::INT => self.feed(Event::Stop(StopRequester::Interrupt)),
                Signal::QUIT => self.feed(Event::Kill),
                Signal::USR1 => self.reopen_log(),
                Signal::USR2 => self.begin_upgrade(None, None, None),
                // CHLD was seen to. ALRM, WINCH, CONT and the like have no meaning; and a superdaemon is not to be
                // stopped by TSTP, TTIN or TTOU, or ended by any other.
                _ => {}
            }
        }
    }

    /// Takes note of the children that have ended. One at a time, and with nothing in between: the supervisor must not
    /// signal a process that was reaped without its knowledge.
    ///
    /// Where somebody makes processes that end at once, and that lose their parents to us, there is no end of them: some
    /// are left for the next turn, but none of those that matter.
    fn reap(&mut self) {
        self.has_unreaped = false;
        for _ in 0..MOST_REAPED {
            match sys::children::ended() {
                Ok(Some(pid)) if self.reap_one(Pid(pid)) => {}
                Ok(_) => return,
                Err(error) => {
                    self.parts.log.line(&format!("failed to learn which children ended: {error}"));
                    return;
                }
            }
        }
        self.has_unreaped = true;
        for pid in self.children_that_matter() {
            if sys::children::has_ended(pid.0) {
                self.reap_one(pid);
            }
        }
    }

    /// Whether a child that has ended was reaped.
    fn reap_one(&mut self, pid: Pid) -> bool {
        if self.is_worker(pid) {
            self.hear_last_words(pid);
        }
        match waitpid(rustix::process::Pid::from_raw(pid.0), WaitOptions::NOHANG) {
            Ok(Some((_, status))) => self.ended(pid, ExitStatus(status.as_raw())),
            Ok(None) | Err(Errno::INTR) => {}
            Err(error) => {
                let error = io::Error::from(error);
                self.parts.log.line(&format!("failed to learn how process {pid} ended: {error}"));
                return false;
            }
        }
        true
    }

    /// Children whose end means something.
    fn children_that_matter(&self) -> Vec<Pid> {
        let states = self.supervisor.generations();
        let log_command = self.parts.log_command.as_ref().and_then(LogCommand::pid);
        let trial = self.succession.trial.as_ref().map(|trial| trial.pid);
        let helpers = [log_command, self.proving.check_pid(), trial].into_iter().flatten().map(Pid);
        states.iter().flat_map(|state| &state.workers).copied().chain(helpers).collect()
    }

    fn is_worker(&self, pid: Pid) -> bool {
        self.generation_of(pid).is_some()
            || self.supervisor.generations().iter().any(|state| state.workers.contains(&pid))
    }

    /// What a worker said before it died counts first. What follows from that may be signals, even to itself, so it is
    /// not reaped yet.
    fn hear_last_words(&mut self, pid: Pid) {
        self.read_newborns();
        if let Some(generation) = self.generation_of(pid) {
            self.read_notifications(generation);
        }
        self.reload_environment();
    }

    fn ended(&mut self, pid: Pid, status: ExitStatus) {
        let now = now();
        if self.apart.reaped(pid.0) {
            return;
        }
        if let Some(log_command) = &mut self.parts.log_command
            && log_command.pid() == Some(pid.0)
        {
            let line = log_command.died(status, now);
            self.parts.log.line(&line);
            return;
        }
        if self.proving.is_check(pid.0) {
            self.proofs.extend(self.proving.check_ended(status, now));
            return;
        }
        if self.trial_ended(pid, status) || !self.is_worker(pid) {
            return;
        }
        self.newborns.retain(|newborn| newborn.pid != pid);
        self.expect_strays(pid);
        self.feed(Event::Exited { pid, status });
    }

    fn orphan_ended(&mut self, pid: Pid) {
        self.orphans.retain(|orphan| orphan.pid != pid.0);
        self.feed(Event::Exited { pid, status: ExitStatus::UNKNOWN });
    }

    fn generation_of(&self, pid: Pid) -> Option<GenerationNumber> {
        self.notes.iter().find(|(_, notes)| notes.worker == Some(pid)).map(|(generation, _)| *generation)
    }

    /// From when on a new process wakes us as soon as it has something to say.
    fn next_question_to_a_newborn(&self) -> Option<Instant> {
        let now = now();
        self.newborns.iter().map(|newborn| newborn.ask_at).filter(|ask_at| *ask_at > now).min()
    }

    fn read_newborns(&mut self) {
        let mut events = Vec::new();
        self.newborns.retain(|newborn| match newborn.report.read() {
            Ok(ExecState::Pending) => true,
            Ok(ExecState::Failed { stage, errno }) => {
                let stage = actions::spawn_stage(stage);
                events.push(Event::ExecFailed { generation: newborn.generation, stage, errno });
                false
            }
            // After an error nothing will be learned any more: its life or its death shall tell.
            Ok(ExecState::Executed) | Err(_) => {
                events.push(Event::Executed(newborn.generation));
                false
            }
        });
        for event in events {
            if matches!(event, Event::Executed(_))
                && let Some(voice) = self.voice.take()
            {
                voice.started();
            }
            self.feed(event);
        }
    }

    fn read_notifications(&mut self, generation: GenerationNumber) {
        let Some(notes) = self.notes.get_mut(&generation) else { return };
        let Some(Pid(worker)) = notes.worker else { return };
        let Some(mut notify) = notes.notify.take() else { return };
        let is_awaited = self.supervisor.awaiting_proof().is_some_and(|worker| worker.generation == generation);
        let others = self.children_that_matter().into_iter().map(|pid| pid.0).filter(|pid| *pid != worker);
        let family = Family { worker, others: others.chain(self.apart.pids()).collect(), is_awaited };
        let messages = notify.read(&family, &mut self.apart, now());
        if let Some(notes) = self.notes.get_mut(&generation) {
            notes.notify = Some(notify);
        }
        for message in messages {
            match message {
                Message::Ready => self.proofs.push(Event::Ready { generation, by: ReadyBy::Notify }),
                Message::Extend(by) => {
                    if is_awaited {
                        self.parts.service_manager.attempt_takes(by);
                    }
                    self.feed(Event::ExtendReadiness { generation, by });
                }
                Message::Status(text) => self.note(generation, text),
                Message::Stopping => self.note(generation, "it is stopping".to_owned()),
                Message::Errno(errno) => {
                    let text = format!("it reports an error: {}", reason(errno));
                    self.tell(&format!("generation {generation}: {text}"));
                    self.note(generation, text);
                }
            }
        }
    }

    /// When a notify socket is to be read again that is not polled.
    fn next_notifications(&self) -> Option<Instant> {
        self.notes.values().filter_map(|notes| notes.notify.as_ref()?.next_deadline()).min()
    }

    fn read_late_notifications(&mut self, now: Instant) {
        let is_due = |notes: &Notes| notes.notify.as_ref().and_then(NotifySocket::next_deadline);
        let due = self.notes.iter().filter(|(_, notes)| is_due(notes).is_some_and(|due| due <= now));
        for generation in due.map(|(generation, _)| *generation).collect::<Vec<_>>() {
            self.read_notifications(generation);
        }
    }

    fn note(&mut self, generation: GenerationNumber, text: String) {
        if let Some(notes) = self.notes.get_mut(&generation) {
            notes.says = Some(text);
        }
    }

    fn serve_client(&mut self, end: End) {
        while let Some((id, request)) = self.parts.control.as_mut().and_then(|control| control.serve(end, now())) {
            self.meet_request(id, request);
        }
    }

    /// Nobody needs an answer who has hung up.
    fn forget_who_hung_up(&mut self) {
        for id in self.parts.control.as_mut().map(ControlSocket::take_hung_up).unwrap_or_default() {
            self.farewells.retain(|farewell| *farewell != id);
            self.feed(Event::HungUp(id));
        }
    }

    fn meet_request(&mut self, id: RequestId, request: Request) {
        match request {
            Request::Restart { until } => {
                let until = match until {
                    control::Until::Commit => Until::Commit,
                    control::Until::Drained => Until::Drained,
                };
                self.reload_environment();
                self.feed(Event::Restart(Requester::Client { request: id, until }));
            }
            Request::Stop => self.feed(Event::Stop(StopRequester::Client(id))),
            Request::GiveUp => {
                if !self.give_up_upgrade(id) {
                    self.feed(Event::GiveUp(id));
                }
            }
            Request::Upgrade { path, arguments } => {
                let arguments = arguments.map(|words| words.into_iter().map(Into::into).collect());
                self.begin_upgrade(Some(id), path.map(Into::into), arguments);
            }
            Request::Status => self.answer_status(id),
        }
    }

    fn answer_status(&mut self, id: RequestId) {
        let status = control::Reply::Status(Box::new(self.status()));
        if let Some(control) = &mut self.parts.control {
            control.answer(id, &status, now());
        }
    }

    fn reload_environment(&mut self) {
        if self.parts.environment.envdir().is_none() {
            return;
        }
        let answers = self.parts.environment.answers();
        if let Some(watch) = &mut self.envdir_watch {
            watch.renew(answers);
        }
        for warning in self.parts.environment.reload() {
            self.parts.log.line(&warning);
        }
        let (settings, warnings) = self.parts.environment.control_variables().settings();
        for warning in warnings.iter().filter(|warning| !self.known_warnings.contains(warning)) {
            self.parts.log.line(warning);
        }
        self.known_warnings = warnings;
        if settings != self.settings {
            self.settings = settings.clone();
            self.feed(Event::Settings(settings));
        }
    }

    /// Tells the supervisor what happened and does what it says, until nothing more follows from it.
    fn feed(&mut self, event: Event) {
        let before = self.who_serves(&event);
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.supervisor.handle(now(), event) {
                events.extend(self.carry_out(action));
            }
        }
        self.forget_the_gone();
        self.seek_proof();
        self.guard_listeners(before);
    }

    fn forget_the_gone(&mut self) {
        if self.notes.is_empty() {
            return;
        }
        let living: Vec<_> = self.supervisor.generations().iter().map(|state| state.number).collect();
        let gone: Vec<_> = self.notes.keys().filter(|generation| !living.contains(generation)).copied().collect();
        for notes in gone.iter().filter_map(|generation| self.notes.remove(generation)) {
            if let Some(notify) = notes.notify {
                notify.close(&mut self.apart);
            }
        }
    }

    /// Begins to look for a proof when one is wanted, and ends with the want.
    fn seek_proof(&mut self) {
        let wanted = self.supervisor.awaiting_proof();
        if wanted.map(|worker| worker.generation) == self.proving.generation() {
            return;
        }
        self.end_proving();
        let Some(worker) = wanted else { return };
        let now = now();
        let rule = self.notes.get(&worker.generation).map_or(&ReadyRule::Alive, |notes| &notes.rule);
        let begun = match rule {
            ReadyRule::Alive | ReadyRule::Notify => return,
            ReadyRule::Accept => {
                let listeners = self.parts.listeners.descriptors().map(|(fd, _)| fd);
                Looking::new(worker, listeners, now, self.parts.config.interval).map(Proving::Looking)
            }
            ReadyRule::Exec(command) => {
                let pid = ("SERVER_STARTER_PID", worker.pid.to_string().into());
                let (environment, recipe) = (&self.parts.environment, &self.parts.recipe);
                let environment = environment.for_worker(recipe.variables(), worker.generation.0, &[pid]);
                let directory = recipe.directory();
                let privileges = recipe.privileges().plan().clone();
                Check::new(worker, command, environment, directory, privileges, now).map(Proving::Checking)
            }
        };
        match begun {
            Ok(proving) => self.proving = proving,
            Err(error) => {
                self.tell(&format!("generation {} cannot be examined: {error}", worker.generation));
                self.feed(Event::ReadinessUnknown(worker.generation));
            }
        }
    }

    /// Looks for no proof any more.
    fn end_proving(&mut self) {
        if let Some(pid) = self.proving.apart() {
            self.apart.end(pid);
        }
        self.proving = Proving::Nothing;
    }

    fn end(mut self) -> Parts {
        for notes in std::mem::take(&mut self.notes).into_values() {
            if let Some(notify) = notes.notify {
                notify.close(&mut self.apart);
            }
        }
        if let Some(log_command) = &mut self.parts.log_command {
            log_command.finish();
        }
        if let Some(control) = &mut self.parts.control {
            self.farewells.iter().for_each(|id| control.answer(*id, &control::Reply::Stopped, now()));
        }
        if let Some(voice) = self.voice.take() {
            let last_words = match self.last_words.as_slice() {
                [] => "it was told to stop before it had started anything".to_owned(),
                lines => lines.join("\n"),
            };
            voice.failed(&last_words);
        }
        self.parts
    }
}

/// Orphans and those of their predecessors that are still there.
fn with_drainers(mut orphans: Vec<Orphan>, parts: &mut Parts) -> Vec<Orphan> {
    let Some(path) = &parts.config.status_file else { return orphans };
    for orphan in drainers(path, &orphans) {
        parts.log.line(&format!(
            "generation {} (pid {}), which the superdaemon that is gone had told to go, is watched, too",
            orphan.generation, orphan.pid
        ));
        orphans.push(orphan);
    }
    orphans
}

/// The time since the machine was started, not counting sleep: clock_gettime(2), CLOCK_MONOTONIC.
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::Monotonic);
    Instant::at(Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0)))
}

fn timespec(span: Duration) -> Timespec {
    Timespec { tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX), tv_nsec: span.subsec_nanos().into() }
}

fn policy(config: &Config) -> Policy {
    Policy {
        interval: config.interval,
        readiness: match config.ready {
            ReadyRule::Alive => Readiness::Alive,
            ReadyRule::Notify | ReadyRule::Accept | ReadyRule::Exec(_) => {
                Readiness::Proved { timeout: config.ready_timeout }
            }
        },
        max_attempts: config.max_attempts,
        backoff_max: config.backoff_max,
        drain_timeout: config.drain_timeout,
        stop_timeout: config.stop_timeout,
        term_delay: config.term_delay,
        max_old_generations: config.max_old_generations,
        jitter_seed: u64::from(std::process::id()) ^ u64::from(now().since_start().subsec_nanos()),
    }
}
