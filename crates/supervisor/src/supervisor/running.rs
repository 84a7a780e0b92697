//! The life between start and end: a generation serves, at most one other is being started, older ones drain. The
//! supervisor hands every event of this phase in here; what follows from it is in the files beside, one for each turn
//! that things can take.

mod attempt;
mod deadlines;
mod deaths;
mod demand;
mod failing;
mod requests;
mod starting;

use std::time::Duration;

use super::stopping::Stopping;
use super::{GenerationState, Phase, Role, Turn};
use crate::action::{Action, Order, RunningWorker};
use crate::backoff;
use crate::event::Event;
use crate::generation::Generation;
use crate::process::{GenerationNumber, RequestId};
use crate::report::Report;
use crate::time::Instant;

use attempt::{Attempt, Proof, Starting, Step};
use demand::{Demand, Queued};

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
            Event::HungUp(request) => self.hung_up(request),
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

    pub fn is_attempting(&self) -> bool {
        self.attempt.is_some()
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

/// Ends all of its workers, without more ado.
fn kill(generation: &mut Generation, turn: &mut Turn) {
    generation.kill_at = None;
    generation.killed = true;
    turn.signal(generation.workers.iter().copied(), Order::Kill);
}

/// Whether a generation has served long enough that its death is news, not one more failure.
fn has_proved_itself(generation: &Generation, turn: &Turn) -> bool {
    generation.ready_at.is_some_and(|ready| turn.now.since(ready) >= backoff::proven_after(turn.policy))
}
