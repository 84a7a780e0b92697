//! The life between start and end: a generation serves, at most one other is being started, older
//! ones drain.

use super::stopping::Stopping;
use super::{GenerationState, Phase, Role, Turn};
use crate::action::{Action, Order, Outcome, RunningWorker};
use crate::backoff;
use crate::event::{Event, Requester, Until};
use crate::generation::{Generation, pids};
use crate::policy::{Policy, Readiness, Settings};
use crate::process::{ExitStatus, GenerationNumber, Pid, RequestId};
use crate::report::{AbandonReason, Failure, FailureKind, Next, ReadyBy, Report, SpawnStage};
use crate::time::Instant;
use std::time::Duration;

/// An attempt that was abandoned gets so long to go, or the drain timeout if there is one.
const ABANDONED_GRACE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Running {
    /// The generation that serves; none before the first is ready and after it died.
    current: Option<Generation>,
    /// What is being done to get a new one.
    attempt: Option<Attempt>,
    /// Generations that were told to go, and orphans that will be; by number.
    old: Vec<Generation>,
    /// One more restart is wanted after the attempt.
    queued: Option<Queued>,
    /// Who waits until nothing older than this generation is left.
    draining: Vec<(RequestId, GenerationNumber)>,
    /// Attempts and workers that failed in a row.
    failures: u32,
    /// Whether any generation of this superdaemon has ever been ready.
    ever_ready: bool,
    /// When the clock of the auto-restart was set last.
    auto_restart_from: Option<Instant>,
}

/// The way to a new generation, over as many tries as it takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Attempt {
    /// Whether the old ones are told to go at the end: not if the new one only fills a gap.
    replaces: bool,
    tries: u32,
    demand: Demand,
    step: Step,
}

/// Who wants a new generation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Demand {
    /// Something that does not wait for an answer, and so never gives up: a signal, the clock, or that nobody serves.
    stands: bool,
    waiters: Vec<Waiter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
enum Step {
    /// The process was asked for.
    Spawning(GenerationNumber),
    /// It runs and has not proved itself.
    Starting(Starting),
    /// It is ready; the kill-old delay runs.
    Soaking { candidate: Generation, commit_at: Instant },
    /// It failed but still runs.
    Ending { candidate: Generation, reason: AbandonReason },
    /// It has failed; the next try comes.
    Waiting { retry_at: Instant },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Starting {
    candidate: Generation,
    /// The worker's process runs the program; before that, being alive means nothing.
    executed: bool,
    exec_error: Option<(SpawnStage, i32)>,
    proof: Proof,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
enum Proof {
    /// Be alive then.
    AliveAt(Instant),
    /// Be proved ready before then.
    ProvedBy { deadline: Instant, timeout: Duration },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Waiter {
    request: RequestId,
    until: Until,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
struct Queued {
    first: Requester,
    demand: Demand,
}

/// Whether the machine goes on after an event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    GoOn,
    Over,
}

impl Running {
    /// Spawns the first generation.
    pub fn begin(mut adopted: Vec<Generation>, turn: &mut Turn) -> Self {
        adopted.sort_by_key(|old| old.number);
        let mut running = Self {
            current: None,
            attempt: None,
            queued: None,
            draining: Vec::new(),
            failures: 0,
            ever_ready: false,
            auto_restart_from: None,
            old: adopted,
        };
        let replaces = !running.old.is_empty();
        running.begin_attempt(replaces, Demand::standing(), turn.now, turn);
        running
    }

    pub fn handle(mut self: Box<Self>, event: Event, turn: &mut Turn) -> Phase {
        let mut after = After::GoOn;
        match event {
            Event::Restart(requester) => self.restart(requester, turn),
            Event::Stop(by) => {
                let (generations, in_flight) = self.dissolve(turn);
                return Stopping::begin(generations, in_flight, by, turn);
            }
            Event::Kill => {
                let (generations, in_flight) = self.dissolve(turn);
                return Stopping::begin_killing(generations, in_flight, turn);
            }
            Event::GiveUp(request) => self.give_up(request, turn),
            Event::Spawned { generation, pid } => self.spawned(generation, pid, turn),
            Event::SpawnFailed { generation, errno } => {
                after = self.spawn_failed(generation, errno, turn);
            }
            Event::Executed(generation) => {
                if let Some(starting) = self.starting(generation) {
                    starting.executed = true;
                }
            }
            Event::ExecFailed { generation, stage, errno } => {
                if let Some(starting) = self.starting(generation) {
                    starting.exec_error = Some((stage, errno));
                    turn.report(Report::ExecFailed { generation, stage, errno });
                }
            }
            Event::Ready { generation, by } => {
                if let Some(Starting { proof: Proof::ProvedBy { .. }, .. }) = self.starting(generation) {
                    self.ready(by, turn);
                }
            }
            Event::ReadinessUnknown(generation) => {
                if let Some(starting) = self.starting(generation)
                    && let Proof::ProvedBy { .. } = starting.proof
                {
                    let alive_at = starting.candidate.spawned_at.plus(turn.policy.interval);
                    starting.proof = Proof::AliveAt(alive_at);
                    turn.report(Report::ReadinessUnknown { generation });
                }
            }
            Event::ExtendReadiness { generation, by } => {
                let extended = turn.now.plus(by);
                if let Some(Starting { proof: Proof::ProvedBy { deadline, .. }, .. }) = self.starting(generation) {
                    *deadline = extended.max(*deadline);
                }
            }
            Event::Exited { pid, status } => after = self.exited(pid, status, turn),
            Event::Tick => {}
            // Started already; orphans are only taken over before.
            Event::Start | Event::Adopted { .. } | Event::Settings(_) => {}
        }
        if after == After::Over {
            return Phase::Over;
        }
        self.meet_deadlines(turn);
        Phase::Running(self)
    }

    pub fn next_deadline(&self, settings: &Settings) -> Option<Instant> {
        self.deadlines(settings).map(|(at, _)| at).min()
    }

    pub fn awaiting_proof(&self) -> Option<RunningWorker> {
        match &self.attempt.as_ref()?.step {
            Step::Starting(Starting { candidate, executed: true, proof: Proof::ProvedBy { .. }, .. }) => {
                candidate.running().next()
            }
            _ => None,
        }
    }

    pub fn current_number(&self) -> Option<GenerationNumber> {
        self.current.as_ref().map(|current| current.number)
    }

    pub fn states(&self) -> Vec<GenerationState> {
        let attempt = self.attempt.as_ref().and_then(|attempt| match &attempt.step {
            Step::Starting(starting) => Some((&starting.candidate, Role::Starting)),
            Step::Soaking { candidate, .. } => Some((candidate, Role::Soaking)),
            Step::Ending { candidate, .. } => Some((candidate, Role::Ending)),
            Step::Spawning(_) | Step::Waiting { .. } => None,
        });
        let old = self.old.iter().map(|old| (old, if old.told || old.killed { Role::Draining } else { Role::Waiting }));
        old.chain(self.current.iter().map(|current| (current, Role::Current)))
            .chain(attempt)
            .map(|(generation, role)| GenerationState::of(generation, role))
            .collect()
    }
}

/// Requests.
impl Running {
    fn restart(&mut self, requester: Requester, turn: &mut Turn) {
        let demand = Demand::of(requester);
        match &mut self.attempt {
            None => {
                turn.report(Report::RestartBegins(requester));
                self.begin_attempt(true, demand, turn.now, turn);
            }
            // Whoever asks has perhaps just mended what made it fail: no reason to wait.
            Some(attempt) if matches!(attempt.step, Step::Waiting { .. }) => {
                turn.report(Report::RestartBegins(requester));
                attempt.replaces = true;
                attempt.demand.join(demand);
                attempt.step = Step::Waiting { retry_at: turn.now };
            }
            // What is starting may have read its files before they were changed: it does not count as the restart that
            // is asked for now.
            Some(attempt) => {
                if let Some(starting) = attempt.candidate_number() {
                    turn.report(Report::RestartQueued { starting });
                }
                match &mut self.queued {
                    Some(queued) => queued.demand.join(demand),
                    None => self.queued = Some(Queued { first: requester, demand }),
                }
            }
        }
    }

    fn give_up(&mut self, request: RequestId, turn: &mut Turn) {
        let serving = self.current_number();
        let timed_out = |committed, abandoned| Outcome::TimedOut { committed, serving, abandoned };
        if let Some(queued) = &mut self.queued
            && queued.demand.drop_out(request)
        {
            let abandoned = queued.demand.is_gone();
            turn.answer(request, timed_out(None, abandoned));
            if abandoned {
                self.queued = None;
            }
        } else if let Some(at) = self.draining.iter().position(|(waiter, _)| *waiter == request) {
            let (_, generation) = self.draining.remove(at);
            turn.answer(request, timed_out(Some(generation), false));
        } else if let Some(attempt) = &mut self.attempt
            && attempt.demand.drop_out(request)
        {
            let abandoned = self.is_unwanted();
            turn.answer(request, timed_out(None, abandoned));
            if abandoned {
                self.abandon(AbandonReason::RequesterGaveUp, turn);
            }
        }
    }

    /// Whether nobody wants the attempt any more. Where nobody serves, it is wanted whoever asked for it.
    fn is_unwanted(&self) -> bool {
        self.current.is_some() && self.attempt.as_ref().is_some_and(|attempt| attempt.demand.is_gone())
    }

    /// Gives every generation and the number of a spawn under way to the end, and tells all who
    /// wait for a restart that there will be none.
    fn dissolve(self, turn: &mut Turn) -> (Vec<Generation>, Option<GenerationNumber>) {
        let mut generations = self.old;
        generations.extend(self.current);
        let mut waiting: Vec<RequestId> = Vec::new();
        let mut in_flight = None;
        if let Some(attempt) = self.attempt {
            waiting.extend(attempt.demand.requests());
            match attempt.step {
                Step::Spawning(number) => in_flight = Some(number),
                Step::Starting(Starting { candidate, .. })
                | Step::Soaking { candidate, .. }
                | Step::Ending { candidate, .. } => generations.push(candidate),
                Step::Waiting { .. } => {}
            }
        }
        waiting.extend(self.queued.iter().flat_map(|queued| queued.demand.requests()));
        waiting.extend(self.draining.iter().map(|(request, _)| *request));
        for request in waiting {
            turn.answer(request, Outcome::Stopping);
        }
        (generations, in_flight)
    }
}

/// The attempt, step by step.
impl Running {
    fn begin_attempt(&mut self, replaces: bool, demand: Demand, at: Instant, turn: &mut Turn) {
        if self.current.as_ref().is_some_and(|current| has_proved_itself(current, turn)) {
            self.failures = 0;
        }
        let step = Step::Waiting { retry_at: at };
        self.attempt = Some(Attempt { replaces, tries: 0, demand, step });
        if at <= turn.now {
            self.spawn(turn);
        }
    }

    fn spawn(&mut self, turn: &mut Turn) {
        let Some(attempt) = &mut self.attempt else { return };
        // This spawn comes after whatever was asked for until now, and so covers it.
        if let Some(queued) = self.queued.take() {
            attempt.replaces = true;
            attempt.demand.join(queued.demand);
        }
        attempt.tries = attempt.tries.saturating_add(1);
        turn.last.0 = turn.last.0.saturating_add(1);
        attempt.step = Step::Spawning(*turn.last);
        turn.actions.push(Action::Spawn(*turn.last));
    }

    fn spawned(&mut self, generation: GenerationNumber, pid: Pid, turn: &mut Turn) {
        let Some(attempt) = &mut self.attempt else { return };
        if !matches!(attempt.step, Step::Spawning(number) if number == generation) {
            return;
        }
        turn.report(Report::Spawned { generation, pid });
        let proof = match turn.policy.readiness {
            Readiness::Alive => Proof::AliveAt(turn.now.plus(turn.policy.interval)),
            Readiness::Proved { timeout } => Proof::ProvedBy { deadline: turn.now.plus(timeout), timeout },
        };
        attempt.step = Step::Starting(Starting {
            candidate: Generation::new(generation, pid, turn.now),
            executed: false,
            exec_error: None,
            proof,
        });
        if self.is_unwanted() {
            self.abandon(AbandonReason::RequesterGaveUp, turn);
        }
    }

    fn spawn_failed(&mut self, generation: GenerationNumber, errno: i32, turn: &mut Turn) -> After {
        let spawning = |attempt: &mut Attempt| matches!(attempt.step, Step::Spawning(number) if number == generation);
        let Some(attempt) = self.attempt.take_if(spawning) else { return After::GoOn };
        let failure = Failure { generation, pid: None, kind: FailureKind::Spawn { errno } };
        self.failed(attempt, failure, turn.now, turn)
    }

    fn starting(&mut self, generation: GenerationNumber) -> Option<&mut Starting> {
        match &mut self.attempt.as_mut()?.step {
            Step::Starting(starting) if starting.candidate.number == generation => Some(starting),
            _ => None,
        }
    }

    /// The generation that is starting has proved itself.
    fn ready(&mut self, by: ReadyBy, turn: &mut Turn) {
        let Some(mut attempt) = self.attempt.take_if(|attempt| matches!(attempt.step, Step::Starting(_))) else {
            return;
        };
        let Step::Starting(Starting { mut candidate, .. }) = attempt.step else { return };
        candidate.ready_at = Some(turn.now);
        self.ever_ready = true;
        self.auto_restart_from = Some(turn.now);
        if let Some(pid) = candidate.leader() {
            let took = turn.now.since(candidate.spawned_at);
            turn.report(Report::Ready { generation: candidate.number, pid, by, took });
        }
        if !attempt.replaces {
            self.current = Some(candidate);
            self.publish(turn);
            self.begin_queued(turn.now, turn);
            return;
        }
        self.failures = 0;
        let old = pids(self.old.iter().chain(&self.current));
        let delay = turn.settings.kill_old_delay;
        attempt.step = Step::Soaking { candidate, commit_at: turn.now.plus(delay) };
        self.attempt = Some(attempt);
        turn.report(Report::Replacing { old });
        if delay.is_zero() {
            self.commit(turn);
        } else {
            self.publish(turn);
            turn.report(Report::KillOldDelay(delay));
        }
    }

    /// The new generation becomes current, and the old ones are told to go: here and nowhere else.
    fn commit(&mut self, turn: &mut Turn) {
        let Some(attempt) = self.attempt.take_if(|attempt| matches!(attempt.step, Step::Soaking { .. })) else {
            return;
        };
        let Step::Soaking { candidate, .. } = attempt.step else { return };
        let committed = candidate.number;
        let is_published = candidate.ready_at != Some(turn.now);
        self.old.extend(self.current.replace(candidate));
        self.old.sort_by_key(|old| old.number);
        turn.report(Report::RetiringOld);
        // Those that were told before are told again, as ever: some servers go faster then.
        turn.signal(pids(&self.old), Order::Retire);
        for old in &mut self.old {
            old.told = true;
            if let Some(timeout) = turn.policy.drain_timeout
                && !old.killed
            {
                old.kill_at.get_or_insert(turn.now.plus(timeout));
            }
        }
        self.limit_old(turn);
        if !is_published {
            // Not before the old ones have been told: what is proved need not wait for a disk.
            self.publish(turn);
        }
        for waiter in attempt.demand.waiters {
            if waiter.until == Until::Commit || self.old.is_empty() {
                turn.answer(waiter.request, Outcome::Restarted { generation: committed });
            } else {
                self.draining.push((waiter.request, committed));
            }
        }
        self.begin_queued(turn.now, turn);
    }

    /// Kills the oldest of too many old generations.
    fn limit_old(&mut self, turn: &mut Turn) {
        let Some(limit) = turn.policy.max_old_generations else { return };
        let limit = limit.get();
        let excess = self.old.len().saturating_sub(limit as usize);
        for old in self.old.iter_mut().take(excess).filter(|old| !old.killed) {
            if let Some(pid) = old.leader() {
                turn.report(Report::TooManyOld { generation: old.number, pid, limit });
            }
            kill(old, turn);
        }
    }

    fn begin_queued(&mut self, at: Instant, turn: &mut Turn) {
        if let Some(queued) = self.queued.take() {
            turn.report(Report::RestartBegins(queued.first));
            self.begin_attempt(true, queued.demand, at, turn);
        }
    }

    /// Ends the generation that is being started; when it has gone, the try has failed.
    fn abandon(&mut self, reason: AbandonReason, turn: &mut Turn) {
        let Some(mut attempt) = self.attempt.take() else { return };
        let mut candidate = match attempt.step {
            Step::Starting(Starting { candidate, .. }) | Step::Soaking { candidate, .. } => candidate,
            Step::Waiting { .. } => {
                self.end_attempt(None, attempt.tries, attempt.demand, turn.now, turn);
                return;
            }
            // It is abandoned when there is a process, and ends with it if that is ending already.
            Step::Spawning(_) | Step::Ending { .. } => {
                self.attempt = Some(attempt);
                return;
            }
        };
        // One that has been ready may have connections to finish, if that keeps nobody waiting.
        let grace = match turn.policy.drain_timeout {
            Some(timeout) if candidate.ready_at.is_some() && self.current.is_some() => timeout,
            _ => ABANDONED_GRACE,
        };
        candidate.kill_at = Some(turn.now.plus(grace));
        if let Some(pid) = candidate.leader() {
            let generation = candidate.number;
            turn.report(Report::AttemptAbandoned { generation, pid, reason });
        }
        turn.signal(candidate.workers.iter().copied(), Order::Stop);
        attempt.step = Step::Ending { candidate, reason };
        self.attempt = Some(attempt);
    }

    /// A try has failed and its process has gone: try again or give up.
    fn failed(&mut self, mut attempt: Attempt, failure: Failure, spawned_at: Instant, turn: &mut Turn) -> After {
        self.failures = self.failures.saturating_add(1);
        let attempts = attempt.tries;
        let retry_at = self.retry_at(failure.generation, spawned_at, turn);
        let given_up = self.is_given_up(&failure, &attempt, turn.policy);
        let next = if given_up {
            Next::GiveUp
        } else {
            Next::Retry { after: retry_at.since(turn.now), serving: self.current_number() }
        };
        turn.report(match failure.kind {
            FailureKind::Spawn { errno } => Report::SpawnFailed { generation: failure.generation, errno, next },
            FailureKind::ExitedBeforeCommit(_) => Report::DiedBeforeCommit { failure, attempts, next },
            _ => Report::StartFailed { failure, attempts, next },
        });
        if !given_up {
            attempt.step = Step::Waiting { retry_at };
            self.attempt = Some(attempt);
            return After::GoOn;
        }
        if self.is_first_start() {
            turn.report(Report::CannotStart { attempts });
            if let Some(queued) = self.queued.take() {
                attempt.demand.join(queued.demand);
            }
            for request in attempt.demand.requests() {
                let outcome = Outcome::RestartFailed { failure: Some(failure), attempts, kept: None };
                turn.answer(request, outcome);
            }
            turn.actions.push(Action::Exit { as_asked: false });
            return After::Over;
        }
        self.end_attempt(Some(failure), attempts, attempt.demand, retry_at, turn);
        After::GoOn
    }

    /// Nothing has ever served: an error that would not mend itself had better be told at once.
    fn is_first_start(&self) -> bool {
        !self.ever_ready && self.old.is_empty()
    }

    fn is_given_up(&self, failure: &Failure, attempt: &Attempt, policy: &Policy) -> bool {
        let enough = policy.max_attempts.is_some_and(|max| attempt.tries >= max.get());
        if self.is_first_start() {
            let cannot_run = matches!(failure.kind, FailureKind::Spawn { .. } | FailureKind::Exec { .. });
            return enough || (cannot_run && attempt.tries == 1);
        }
        // Without a generation that serves there is nothing to go back to.
        self.current.is_some() && (enough || attempt.demand.is_gone())
    }

    /// The restart was given up; who serves goes on.
    fn end_attempt(
        &mut self,
        failure: Option<Failure>,
        attempts: u32,
        demand: Demand,
        next_at: Instant,
        turn: &mut Turn,
    ) {
        let kept = self.current_number();
        turn.report(Report::GaveUp { failure, attempts, kept });
        for request in demand.requests() {
            turn.answer(request, Outcome::RestartFailed { failure, attempts, kept });
        }
        // Or it would be due again at once.
        self.auto_restart_from = Some(turn.now);
        self.begin_queued(next_at, turn);
    }

    /// When the next try may be spawned. Under the alive rule the pause runs from the spawn, so
    /// that tries come an interval apart, as ever; a try that was allowed minutes to prove itself
    /// is followed by a real pause.
    fn retry_at(&self, generation: GenerationNumber, spawned_at: Instant, turn: &Turn) -> Instant {
        let pause = backoff::pause(turn.policy, self.failures, generation);
        let from = match turn.policy.readiness {
            Readiness::Alive => spawned_at,
            Readiness::Proved { .. } => turn.now,
        };
        from.plus(pause).max(turn.now)
    }
}

/// Deaths.
impl Running {
    fn exited(&mut self, pid: Pid, status: ExitStatus, turn: &mut Turn) -> After {
        if let Some(attempt) = self.attempt.take_if(|attempt| attempt.has(pid)) {
            return self.candidate_exited(attempt, pid, status, turn);
        }
        if let Some(current) = self.current.take_if(|current| current.has(pid)) {
            self.current_exited(&current, pid, status, turn);
        } else if let Some(at) = self.old.iter().position(|old| old.has(pid)) {
            self.old_exited(at, pid, status, turn);
        }
        // Else it is nobody we know: an orphan that was handed to us. It was reaped, that is all.
        After::GoOn
    }

    fn candidate_exited(&mut self, attempt: Attempt, pid: Pid, status: ExitStatus, turn: &mut Turn) -> After {
        let (candidate, kind) = match &attempt.step {
            Step::Starting(Starting { candidate, exec_error: Some((stage, errno)), .. }) => {
                (candidate, FailureKind::Exec { stage: *stage, errno: *errno, status })
            }
            Step::Starting(Starting { candidate, .. }) => (candidate, FailureKind::Exited(status)),
            Step::Soaking { candidate, .. } => (candidate, FailureKind::ExitedBeforeCommit(status)),
            Step::Ending { candidate, reason } => (candidate, FailureKind::Abandoned { reason: *reason, status }),
            Step::Spawning(_) | Step::Waiting { .. } => return After::GoOn,
        };
        let failure = Failure { generation: candidate.number, pid: Some(pid), kind };
        let spawned_at = candidate.spawned_at;
        let was_published = candidate.ready_at.is_some();
        let after = self.failed(attempt, failure, spawned_at, turn);
        if was_published && after == After::GoOn {
            self.publish(turn);
        }
        after
    }

    fn current_exited(&mut self, current: &Generation, pid: Pid, status: ExitStatus, turn: &mut Turn) {
        let generation = current.number;
        if let Some(attempt) = &mut self.attempt {
            let nobody_serves = !matches!(attempt.step, Step::Soaking { .. });
            turn.report(Report::OldExited { generation, pid, status, nobody_serves });
            // This is no time to wait, neither for a pause nor long for what has failed.
            match &mut attempt.step {
                Step::Waiting { retry_at } => *retry_at = turn.now,
                Step::Ending { candidate, .. } => {
                    let soon = turn.now.plus(ABANDONED_GRACE);
                    candidate.kill_at = candidate.kill_at.map(|at| at.min(soon));
                }
                Step::Spawning(_) | Step::Starting(_) | Step::Soaking { .. } => {}
            }
            self.publish(turn);
            return;
        }
        let respawn_at = if has_proved_itself(current, turn) {
            self.failures = 0;
            turn.now
        } else {
            self.failures = self.failures.saturating_add(1);
            let pause = backoff::pause(turn.policy, self.failures, generation);
            current.spawned_at.plus(pause).max(turn.now)
        };
        let respawn_in = respawn_at.since(turn.now);
        turn.report(Report::CurrentDied { generation, pid, status, respawn_in });
        self.publish(turn);
        self.begin_attempt(false, Demand::standing(), respawn_at, turn);
    }

    fn old_exited(&mut self, at: usize, pid: Pid, status: ExitStatus, turn: &mut Turn) {
        let Some(old) = self.old.get_mut(at) else { return };
        old.workers.retain(|&worker| worker != pid);
        let generation = old.number;
        self.old.retain(|old| !old.workers.is_empty());
        turn.report(Report::OldExited { generation, pid, status, nobody_serves: false });
        self.publish(turn);
        let oldest = self.old.first().map(|old| old.number);
        self.draining.retain(|&(request, generation)| {
            let drained = oldest.is_none_or(|oldest| oldest >= generation);
            if drained {
                turn.answer(request, Outcome::Restarted { generation });
            }
            !drained
        });
    }
}

/// Time.
impl Running {
    /// Everything that time alone will bring, with its moment.
    fn deadlines(&self, settings: &Settings) -> impl Iterator<Item = (Instant, Deadline)> {
        let attempt = self.attempt.as_ref().and_then(Attempt::deadline);
        let drains = self.old.iter().filter_map(|old| Some((old.kill_at?, Deadline::Drain(old.number))));
        attempt
            .map(|at| (at, Deadline::Attempt))
            .into_iter()
            .chain(drains)
            .chain(self.auto_restart_at(settings).map(|at| (at, Deadline::AutoRestart)))
    }

    fn meet_deadlines(&mut self, turn: &mut Turn) {
        while let Some((_, deadline)) =
            self.deadlines(turn.settings).filter(|(at, _)| *at <= turn.now).min_by_key(|(at, _)| *at)
        {
            match deadline {
                Deadline::Attempt => self.meet_attempt_deadline(turn),
                Deadline::Drain(number) => self.drain_timed_out(number, turn),
                Deadline::AutoRestart => self.auto_restart(turn),
            }
        }
    }

    fn meet_attempt_deadline(&mut self, turn: &mut Turn) {
        let Some(attempt) = &mut self.attempt else { return };
        match &mut attempt.step {
            Step::Starting(Starting { proof: Proof::AliveAt(_), .. }) => {
                self.ready(ReadyBy::Alive, turn);
            }
            Step::Starting(Starting { proof: Proof::ProvedBy { timeout, .. }, .. }) => {
                let reason = AbandonReason::NotReadyWithin(*timeout);
                self.abandon(reason, turn);
            }
            Step::Soaking { .. } => self.commit(turn),
            Step::Ending { candidate, .. } => {
                if let Some(pid) = candidate.leader() {
                    turn.report(Report::AbandonedKilled { generation: candidate.number, pid });
                }
                kill(candidate, turn);
            }
            Step::Waiting { .. } => self.spawn(turn),
            Step::Spawning(_) => {}
        }
    }

    fn drain_timed_out(&mut self, number: GenerationNumber, turn: &mut Turn) {
        let after = turn.policy.drain_timeout.unwrap_or_default();
        if let Some(old) = self.old.iter_mut().find(|old| old.number == number) {
            if let Some(pid) = old.leader() {
                turn.report(Report::DrainTimedOut { generation: number, pid, after });
            }
            kill(old, turn);
        }
    }

    /// One interval after the last readiness if no old generation is left, two if there is.
    fn auto_restart_at(&self, settings: &Settings) -> Option<Instant> {
        let interval = settings.auto_restart?.interval;
        if self.attempt.is_some() || self.current.is_none() {
            return None;
        }
        let due = self.auto_restart_from?.plus(interval);
        Some(if self.old.is_empty() { due } else { due.plus(interval) })
    }

    fn auto_restart(&mut self, turn: &mut Turn) {
        let interval = turn.settings.auto_restart.map(|auto| auto.interval).unwrap_or_default();
        turn.report(Report::AutoRestart { interval, forced: !self.old.is_empty() });
        self.begin_attempt(true, Demand::standing(), turn.now, turn);
    }

    /// Every living worker whose generation has been ready, by generation.
    fn publish(&self, turn: &mut Turn) {
        let candidate = self.attempt.as_ref().and_then(Attempt::candidate);
        let proved = candidate.filter(|candidate| candidate.ready_at.is_some());
        let generations = self.old.iter().chain(&self.current).chain(proved);
        let mut running: Vec<RunningWorker> = generations.flat_map(Generation::running).collect();
        running.sort_unstable();
        turn.actions.push(Action::Publish(running));
    }
}

enum Deadline {
    Attempt,
    Drain(GenerationNumber),
    AutoRestart,
}

impl Demand {
    fn standing() -> Self {
        Self { stands: true, waiters: Vec::new() }
    }

    fn of(requester: Requester) -> Self {
        match requester {
            Requester::Signal | Requester::Superdaemon => Self::standing(),
            Requester::Client { request, until } => Self { stands: false, waiters: vec![Waiter { request, until }] },
        }
    }

    fn join(&mut self, other: Demand) {
        self.stands |= other.stands;
        self.waiters.extend(other.waiters);
    }

    /// Whether this request was among those that wait, and is not any more.
    fn drop_out(&mut self, request: RequestId) -> bool {
        let before = self.waiters.len();
        self.waiters.retain(|waiter| waiter.request != request);
        self.waiters.len() < before
    }

    fn is_gone(&self) -> bool {
        !self.stands && self.waiters.is_empty()
    }

    fn requests(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.waiters.iter().map(|waiter| waiter.request)
    }
}

impl Attempt {
    fn candidate(&self) -> Option<&Generation> {
        match &self.step {
            Step::Starting(Starting { candidate, .. })
            | Step::Soaking { candidate, .. }
            | Step::Ending { candidate, .. } => Some(candidate),
            Step::Spawning(_) | Step::Waiting { .. } => None,
        }
    }

    fn candidate_number(&self) -> Option<GenerationNumber> {
        match self.step {
            Step::Spawning(number) => Some(number),
            _ => self.candidate().map(|candidate| candidate.number),
        }
    }

    fn has(&self, pid: Pid) -> bool {
        self.candidate().is_some_and(|candidate| candidate.has(pid))
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.step {
            Step::Spawning(_) => None,
            Step::Starting(Starting { proof: Proof::AliveAt(at), executed, .. }) => executed.then_some(*at),
            Step::Starting(Starting { proof: Proof::ProvedBy { deadline, .. }, .. }) => Some(*deadline),
            Step::Soaking { commit_at, .. } => Some(*commit_at),
            Step::Ending { candidate, .. } => candidate.kill_at,
            Step::Waiting { retry_at } => Some(*retry_at),
        }
    }
}

fn kill(generation: &mut Generation, turn: &mut Turn) {
    generation.kill_at = None;
    generation.killed = true;
    turn.signal(generation.workers.iter().copied(), Order::Kill);
}

/// Whether a generation has served long enough that its death is news, not one more failure.
fn has_proved_itself(generation: &Generation, turn: &Turn) -> bool {
    generation.ready_at.is_some_and(|ready| turn.now.since(ready) >= backoff::proven_after(turn.policy))
}
