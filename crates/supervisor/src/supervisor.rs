//! The state machine. Owned by the program's event loop, which feeds it every event and carries out
//! every action before it feeds the next.
//!
//! ```text
//!            Start                Stop, Kill              last worker gone
//!   Fresh ───────────► Running ───────────────► Stopping ─────────────────► Over
//!                         └──── the program cannot be started at all ────────┘
//! ```

mod running;
mod stopping;

use crate::action::{Action, Order, Outcome, RunningWorker};
use crate::event::{Event, Requester, StopRequester};
use crate::generation::Generation;
use crate::policy::{Policy, Settings};
use crate::process::{GenerationNumber, Pid, RequestId};
use crate::report::Report;
use crate::time::Instant;

use running::Running;
use stopping::Stopping;

/// What a superdaemon knows and what it means to do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Supervisor {
    policy: Policy,
    settings: Settings,
    memory: Memory,
}

/// All that a supervisor knows besides what the operator chose. Who has it can go on where the supervisor was: with the
/// feature `serde` it can be written down, for the program that takes the place of this one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Memory {
    /// The number that the last spawn took.
    last: GenerationNumber,
    phase: Phase,
}

impl Supervisor {
    /// A supervisor that waits for [`Event::Start`].
    pub fn new(policy: Policy, settings: Settings) -> Self {
        let phase = Phase::Fresh { adopted: Vec::new() };
        Self { policy, settings, memory: Memory { last: GenerationNumber(0), phase } }
    }

    /// A supervisor that goes on where another one was. What is under way keeps the deadlines that it has; the policy and
    /// the settings, which may be others than before, hold for what begins from now on.
    pub fn resume(policy: Policy, settings: Settings, memory: Memory) -> Self {
        Self { policy, settings, memory }
    }

    /// What there is to know for [`Supervisor::resume`].
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The number that the last spawn took.
    pub fn last_number(&self) -> GenerationNumber {
        self.memory.last
    }

    /// Takes note that these numbers are taken, by attempts that nothing else is known of.
    pub fn skip_numbers(&mut self, up_to: GenerationNumber) {
        self.memory.last = self.memory.last.max(up_to);
    }

    /// Takes note of an event and says what is to be done about it, in order.
    ///
    /// `now` must not be earlier than in the call before.
    #[must_use]
    pub fn handle(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Event::Settings(settings) = event {
            self.settings = settings;
            return self.handle(now, Event::Tick);
        }
        let Self { policy, settings, memory } = self;
        let mut turn = Turn { now, policy, settings, last: &mut memory.last, actions: &mut actions };
        let phase = std::mem::replace(&mut memory.phase, Phase::Over);
        memory.phase = match phase {
            Phase::Fresh { adopted } => fresh(adopted, event, &mut turn),
            Phase::Running(running) => running.handle(event, &mut turn),
            Phase::Stopping(stopping) => stopping.handle(event, &mut turn),
            Phase::Over => over(&event, &mut turn),
        };
        actions
    }

    /// When [`Event::Tick`] is due; none while only outside events matter.
    ///
    /// Deadlines are part of the state that they belong to. There is nothing to arm or to disarm,
    /// so none can be left behind by a state that has passed.
    pub fn next_deadline(&self) -> Option<Instant> {
        match &self.memory.phase {
            Phase::Running(running) => running.next_deadline(&self.settings),
            Phase::Stopping(stopping) => stopping.next_deadline(),
            Phase::Fresh { .. } | Phase::Over => None,
        }
    }

    /// The generation whose proof of readiness is wanted now, if any, and its worker.
    pub fn awaiting_proof(&self) -> Option<RunningWorker> {
        match &self.memory.phase {
            Phase::Running(running) => running.awaiting_proof(),
            _ => None,
        }
    }

    /// Whether a new generation is being started, or will be at a deadline that is set.
    pub fn is_attempting(&self) -> bool {
        matches!(&self.memory.phase, Phase::Running(running) if running.is_attempting())
    }

    /// The generation that serves.
    pub fn current(&self) -> Option<GenerationNumber> {
        match &self.memory.phase {
            Phase::Running(running) => running.current_number(),
            _ => None,
        }
    }

    /// Every generation that has a process, in the order of their numbers, and what it is doing.
    pub fn generations(&self) -> Vec<GenerationState> {
        let mut states: Vec<GenerationState> = match &self.memory.phase {
            Phase::Fresh { adopted } => adopted.iter().map(|old| GenerationState::of(old, Role::Waiting)).collect(),
            Phase::Running(running) => running.states(),
            Phase::Stopping(stopping) => stopping.states(),
            Phase::Over => Vec::new(),
        };
        states.sort_by_key(|state| state.number);
        states
    }

    /// Whether the end has begun.
    pub fn is_stopping(&self) -> bool {
        matches!(self.memory.phase, Phase::Stopping(_) | Phase::Over)
    }

    /// Whether [`Action::Exit`] was given.
    pub fn is_over(&self) -> bool {
        matches!(self.memory.phase, Phase::Over)
    }
}

/// A generation as it can be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GenerationState {
    /// Its number.
    pub number: GenerationNumber,
    /// Its living workers.
    pub workers: Vec<Pid>,
    /// When it was spawned.
    pub spawned_at: Instant,
    /// When it became ready.
    pub ready_at: Option<Instant>,
    /// When it will be killed, if it was told to go and there is a limit.
    pub kill_at: Option<Instant>,
    /// What it is doing.
    pub role: Role,
}

impl GenerationState {
    fn of(generation: &Generation, role: Role) -> Self {
        Self {
            number: generation.number,
            workers: generation.workers.clone(),
            spawned_at: generation.spawned_at,
            ready_at: generation.ready_at,
            kill_at: generation.kill_at,
            role,
        }
    }
}

/// What a generation is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It has not proved itself yet.
    Starting,
    /// It is ready and serves beside the current one until the kill-old delay is over.
    Soaking,
    /// It serves.
    Current,
    /// It serves, left by a superdaemon that died, until its successor is ready.
    Waiting,
    /// It was told to go and finishes its connections.
    Draining,
    /// It failed, and is being ended.
    Ending,
    /// The superdaemon ends, and so does it.
    Stopping,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
enum Phase {
    Fresh { adopted: Vec<Generation> },
    Running(Box<Running>),
    Stopping(Stopping),
    Over,
}

/// What one call of [`Supervisor::handle`] works with.
struct Turn<'a> {
    now: Instant,
    policy: &'a Policy,
    settings: &'a Settings,
    last: &'a mut GenerationNumber,
    actions: &'a mut Vec<Action>,
}

impl Turn<'_> {
    fn report(&mut self, report: Report) {
        self.actions.push(Action::Report(report));
    }

    fn answer(&mut self, request: RequestId, outcome: Outcome) {
        self.actions.push(Action::Answer(request, outcome));
    }

    fn signal(&mut self, workers: impl IntoIterator<Item = Pid>, order: Order) {
        self.actions.extend(workers.into_iter().map(|pid| Action::Signal { pid, order }));
    }
}

fn fresh(mut adopted: Vec<Generation>, event: Event, turn: &mut Turn) -> Phase {
    match event {
        Event::Start => return Phase::Running(Box::new(Running::begin(adopted, turn))),
        Event::Adopted { generation, pid } => {
            *turn.last = generation.max(*turn.last);
            match adopted.iter_mut().find(|old| old.number == generation) {
                Some(old) => old.workers.push(pid),
                // It serves already, and since when is not known.
                None => {
                    adopted.push(Generation { ready_at: Some(turn.now), ..Generation::new(generation, pid, turn.now) })
                }
            }
        }
        Event::Exited { pid, .. } => {
            adopted.iter_mut().for_each(|old| old.workers.retain(|&worker| worker != pid));
            adopted.retain(|old| !old.workers.is_empty());
        }
        Event::Stop(by) => return Stopping::begin(adopted, None, by, turn),
        Event::Kill => return Stopping::begin_killing(adopted, None, turn),
        // Nobody can be connected before the start; should they be, the answer is honest.
        Event::Restart(Requester::Client { request, .. }) => {
            turn.answer(request, Outcome::Stopping);
        }
        Event::Restart(Requester::Signal | Requester::Superdaemon)
        | Event::GiveUp(_)
        | Event::HungUp(_)
        | Event::Spawned { .. }
        | Event::SpawnFailed { .. }
        | Event::Executed(_)
        | Event::ExecFailed { .. }
        | Event::Ready { .. }
        | Event::ReadinessUnknown(_)
        | Event::ExtendReadiness { .. }
        | Event::Settings(_)
        | Event::Tick => {}
    }
    Phase::Fresh { adopted }
}

fn over(event: &Event, turn: &mut Turn) -> Phase {
    match event {
        Event::Restart(Requester::Client { request, .. }) => {
            turn.answer(*request, Outcome::Stopping);
        }
        Event::Stop(StopRequester::Client(request)) => turn.answer(*request, Outcome::Stopped),
        _ => {}
    }
    Phase::Over
}
