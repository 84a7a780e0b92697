//! Doing what the supervisor says, one action at a time.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use control::Reply;
use rustix::io::Errno;
use supervisor::report::{Failure, FailureKind, SpawnStage};
use supervisor::{Action, Event, GenerationNumber, Order, Outcome, Pid, Report, RequestId, Role, RunningWorker};
use sys::process_tree::{self, Mark};
use sys::signal::{Signal, send, send_group};

use super::{EventLoop, LogExcerpt, LogOutput, LogTarget, Newborn, Notes, NotifySocket, ReadyRule, Stage, now};
use crate::errno::io_reason;
use crate::files::{Reach, SILENT, open_log_file, parent_of};
use crate::messages::{describe, status_of};
use crate::printable::printable;
use crate::run_directory::{Kind, RunDirectory};
use crate::superdaemon::{no_notify_socket, redirect};

/// So long it may take to ask processes that have lost their parent for their generation.
pub(super) const MARK_PATIENCE: Duration = Duration::from_millis(200);

/// As many of the last lines are kept for the launcher.
const LAST_WORDS: usize = 5;

impl EventLoop {
    /// Does one thing. The result, where there is one to tell.
    pub(super) fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Spawn(generation) => return Some(self.spawn(generation)),
            Action::Signal { pid, order } => self.signal(pid, order),
            Action::Publish(running) => self.publish(&running),
            Action::Report(report) => self.report(&report),
            Action::Answer(request, outcome) => self.answer(request, outcome),
            Action::Exit { as_asked } => self.over = Some(as_asked),
        }
        None
    }

    fn spawn(&mut self, generation: GenerationNumber) -> Event {
        self.prepare_listeners();
        self.parts.service_manager.numbered(generation);
        for warning in self.parts.environment.reload() {
            self.parts.log.line(&warning);
        }
        if let Some(LogTarget::File(_)) = &self.parts.config.log {
            self.excerpt = self.parts.log.answers().then(|| LogExcerpt::from_now(io::stderr().as_fd()));
        }
        match self.try_spawn(generation) {
            Ok(pid) => Event::Spawned { generation, pid },
            Err(error) => {
                Event::SpawnFailed { generation, errno: error.raw_os_error().unwrap_or(Errno::AGAIN.raw_os_error()) }
            }
        }
    }

    fn open_notify_socket(&mut self) -> io::Result<NotifySocket> {
        let open = |run: &Result<RunDirectory, String>| match run {
            Ok(run) => {
                let (bound, path) = (run.new_name(Kind::Notify)?, run.new_name(Kind::Notify)?);
                NotifySocket::open(&bound, &path, self.parts.recipe.user()).map_err(|error| {
                    let path = run.path().display();
                    io::Error::new(
                        error.kind(),
                        format!("failed to make a notify socket in {path}: {}", io_reason(&error)),
                    )
                })
            }
            Err(why) => Err(io::Error::new(io::ErrorKind::NotFound, no_notify_socket(why))),
        };
        let opened = match open(&self.parts.run_directory) {
            // Somebody has removed the directory, or made room for one.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.parts.run_directory = RunDirectory::open();
                open(&self.parts.run_directory)
            }
            opened => opened,
        };
        opened.inspect_err(|error| self.tell(&error.to_string()))
    }

    fn try_spawn(&mut self, generation: GenerationNumber) -> io::Result<Pid> {
        let notify = match self.parts.config.ready {
            ReadyRule::Notify => Some(self.open_notify_socket()?),
            ReadyRule::Alive | ReadyRule::Accept | ReadyRule::Exec(_) => None,
        };
        let extra: Vec<_> = notify.iter().map(|notify| ("NOTIFY_SOCKET", notify.variable())).collect();
        let parts = &self.parts;
        let environment = parts.environment.for_worker(parts.recipe.variables(), generation.0, &extra);
        let spawned = match parts.recipe.spawn(generation.0, &parts.listeners, environment) {
            Ok(spawned) => spawned,
            Err(error) => {
                notify.into_iter().for_each(|notify| notify.close(&mut self.apart));
                return Err(error);
            }
        };
        let pid = Pid(spawned.pid);
        let ask_at = now().plus(self.patience_with_newborns());
        self.newborns.push(Newborn { generation, pid, report: spawned.exec, ask_at });
        self.notes.insert(
            generation,
            Notes { worker: Some(pid), notify, ready_by: None, says: None, rule: self.parts.config.ready.clone() },
        );
        Ok(pid)
    }

    /// How long a new process goes unasked whether it runs its program. It would wake us in the very moment when it
    /// does, and where both share a processor wait for us to hear so. Nobody misses the answer before the program has
    /// said more, or died, or its interval is over.
    fn patience_with_newborns(&self) -> Duration {
        const PATIENCE: Duration = Duration::from_millis(10);
        match self.parts.config.ready {
            _ if self.voice.is_some() => Duration::ZERO,
            ReadyRule::Notify => PATIENCE,
            ReadyRule::Alive => PATIENCE.min(self.parts.config.interval),
            ReadyRule::Accept | ReadyRule::Exec(_) => Duration::ZERO,
        }
    }

    fn signal(&mut self, pid: Pid, order: Order) {
        let sent = match order {
            Order::Retire => self.send(pid, self.parts.config.signal_on_hup),
            Order::Stop => self.send(pid, self.parts.config.signal_on_term),
            Order::Terminate => self.send(pid, Signal::TERM),
            Order::Kill => self.kill(pid),
        };
        // A worker that has ended but was not reaped takes any signal, so this is a lack of permission: the program
        // has changed its user.
        if let Err(error) = sent {
            self.tell(&format!("failed to send a signal to worker {pid}: {error}; it goes on as it is"));
        }
    }

    /// A worker of ours keeps its PID until we reap it. An orphan does not, but we hold it.
    fn send(&self, pid: Pid, signal: Signal) -> io::Result<()> {
        match self.orphans.iter().find(|orphan| orphan.pid == pid.0) {
            Some(orphan) => orphan.signal(signal),
            None => send(pid.0, signal),
        }
    }

    /// Ends a worker with all that it has started.
    fn kill(&self, pid: Pid) -> io::Result<()> {
        match self.orphans.iter().find(|orphan| orphan.pid == pid.0) {
            Some(orphan) => orphan.kill(),
            None => self.kill_family(pid, self.generation_of(pid)).map(drop).or_else(|error| {
                // The worker at least, and its group, whatever it was that kept the others from being found.
                send_group(pid.0, Signal::KILL).or_else(|_| send(pid.0, Signal::KILL)).map_err(|_| error)
            }),
        }
    }

    /// Ends the process group that `leader` leads or led, its descendants, and those that have lost their parent and so
    /// became our children. These are known by the generation in their environment. Returns how many there were.
    pub(super) fn kill_family(&self, leader: Pid, generation: Option<GenerationNumber>) -> io::Result<usize> {
        let Some(generation) = generation else { return process_tree::kill_family(leader.0, |_| false) };
        let others = self.children_that_matter().into_iter().map(|pid| pid.0).chain(self.apart.pids());
        process_tree::kill_marked_family(
            leader.0,
            &Mark {
                name: "SERVER_STARTER_GENERATION",
                value: &generation.0.to_string(),
                except: &others.collect::<Vec<_>>(),
                limit: MARK_PATIENCE,
            },
        )
    }

    /// As it was published last, or should have been.
    pub(super) fn publish_anew(&mut self) {
        let states = self.supervisor.generations();
        let ready = states.iter().filter(|state| state.ready_at.is_some());
        let running =
            ready.flat_map(|state| state.workers.iter().map(|&pid| RunningWorker { generation: state.number, pid }));
        let running: Vec<RunningWorker> = running.collect();
        self.publish(&running);
    }

    fn publish(&mut self, running: &[RunningWorker]) {
        let Some(status_file) = &mut self.parts.status_file else { return };
        let lines: Vec<(u32, i32)> = running.iter().map(|worker| (worker.generation.0, worker.pid.0)).collect();
        if let Err(error) = status_file.write(&lines) {
            self.tell(&format!("{error}; the status file is out of date until it can be written"));
        }
    }

    fn report(&mut self, report: &Report) {
        self.count(report);
        if let Report::StartFailed { failure: Failure { generation, pid: Some(pid), kind }, .. } = report
            && matches!(kind, FailureKind::Abandoned { .. })
        {
            // A shell that ran the program has obeyed and gone; the program has not heard of it. It must not begin to
            // serve after all.
            if let Err(error) = self.kill_family(*pid, Some(*generation)) {
                self.tell(&format!("failed to end the descendants of generation {generation}: {error}"));
            }
        }
        let lines = self.words.lines(report);
        for line in &lines {
            self.tell(line);
        }
        self.parts.service_manager.hear(report, &self.supervisor.generations(), now());
    }

    /// Says something in the log, and to everybody who waits for something.
    pub(super) fn tell(&mut self, line: &str) {
        let line = &*printable(line);
        if let Some(excerpt) = &mut self.excerpt {
            excerpt.without(line);
        }
        self.parts.log.line(line);
        if let Some(control) = &mut self.parts.control {
            control.progress(line);
        }
        if self.voice.is_some() {
            self.last_words.push(line.to_owned());
            let superfluous = self.last_words.len().saturating_sub(LAST_WORDS);
            self.last_words.drain(..superfluous);
        }
    }

    fn count(&mut self, report: &Report) {
        match report {
            Report::Ready { generation, by, .. } => {
                if let Some(notes) = self.notes.get_mut(generation) {
                    notes.ready_by = Some(*by);
                }
            }
            Report::RetiringOld => self.tally.restarts += 1,
            Report::Stopping { .. } | Report::KillingAll { .. } => {
                self.stopping_since.get_or_insert(now());
            }
            Report::StartFailed { failure, .. } | Report::DiedBeforeCommit { failure, .. } => {
                self.tally.failures += 1;
                self.tally.last_failure = Some((describe(failure), now()));
            }
            Report::SpawnFailed { generation, errno, .. } => {
                let failure =
                    Failure { generation: *generation, pid: None, kind: FailureKind::Spawn { errno: *errno } };
                self.tally.failures += 1;
                self.tally.last_failure = Some((describe(&failure), now()));
            }
            _ => {}
        }
    }

    fn answer(&mut self, request: RequestId, outcome: Outcome) {
        let number = |generation: GenerationNumber| generation.0;
        let reply = match outcome {
            Outcome::Restarted { generation } => Reply::Restarted { generation: generation.0 },
            Outcome::RestartFailed { failure, attempts, kept } => Reply::Failed {
                reason: failure.as_ref().map_or_else(|| "it was given up".to_owned(), describe),
                attempts,
                generation: failure.map(|failure| failure.generation.0),
                status: failure.and_then(|failure| status_of(&failure)).map(|status| status.0),
                kept: kept.map(number),
                log: self.last_lines(),
            },
            Outcome::TimedOut { committed, serving, abandoned } => {
                let draining = if committed.is_some() { self.draining() } else { Vec::new() };
                let (committed, serving) = (committed.map(number), serving.map(number));
                Reply::TimedOut { committed, draining, serving, abandoned }
            }
            Outcome::Stopping => Reply::Stopping,
            // It is not quite over: what the workers have left behind comes first.
            Outcome::Stopped => return self.farewells.push(request),
        };
        if let Some(control) = &mut self.parts.control {
            control.answer(request, &reply, now());
        }
    }

    /// What the generation that was spawned last has written.
    fn last_lines(&mut self) -> Vec<String> {
        let excerpt = self.excerpt.as_ref().filter(|_| self.parts.log.answers());
        excerpt.map(|excerpt| excerpt.lines(io::stderr().as_fd())).unwrap_or_default()
    }

    /// The workers that were told to go and have not gone.
    fn draining(&self) -> Vec<i32> {
        let states = self.supervisor.generations();
        let told = states.iter().filter(|state| state.role == Role::Draining);
        told.flat_map(|state| &state.workers).map(|pid| pid.0).collect()
    }

    /// For rotated logs: whoever runs from now on writes to the file that has the name now.
    pub(super) fn reopen_log(&mut self) {
        let Some(LogTarget::File(path)) = &self.parts.config.log else { return };
        let mut reach = Reach::of_unknown(parent_of(path));
        let reopened = if reach.answers() { open_log_file(path) } else { Err(io::Error::other(SILENT)) };
        let reopened = reopened.and_then(|file| redirect(&file));
        match reopened {
            Ok(()) => {
                self.parts.log.flush();
                self.parts.log = LogOutput::on(io::stderr().as_fd());
                self.tell("received USR1, log file reopened; the program writes to it from the next restart on");
            }
            Err(error) => {
                let why = io_reason(&error);
                let line =
                    format!("failed to open log file:{}: {why}; writing to the one that is open", path.display());
                self.tell(&line);
            }
        }
    }
}

pub(super) fn spawn_stage(stage: Stage) -> SpawnStage {
    match stage {
        Stage::ProcessGroup => SpawnStage::ProcessGroup,
        Stage::Directory => SpawnStage::Directory,
        Stage::Descriptors => SpawnStage::Descriptors,
        Stage::Signals => SpawnStage::Signals,
        Stage::Exec => SpawnStage::Exec,
        Stage::Limits => SpawnStage::Limits,
        Stage::Groups => SpawnStage::Groups,
        Stage::Group => SpawnStage::Group,
        Stage::User => SpawnStage::User,
        Stage::NoNewPrivileges => SpawnStage::NoNewPrivileges,
    }
}
