//! The end: every worker is told to go, at once or after the term delay, and is waited for. Nothing is spawned any more.

use std::time::Duration;

use super::{GenerationState, Phase, Role, Turn};
use crate::action::{Action, Order, Outcome};
use crate::event::{Event, Requester, StopRequester};
use crate::generation::{Generation, pids};
use crate::process::{ExitStatus, GenerationNumber, Pid, RequestId};
use crate::report::{KillReason, Report};
use crate::time::Instant;

/// Workers get so long after the end was asked for a second time.
const HASTENED_GRACE: Duration = Duration::from_secs(5);

/// A signal so soon after the first is the same wish, not a second one: a terminal and the program
/// that runs us there may both deliver it.
const SAME_WISH: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Stopping {
    remaining: Vec<Generation>,
    /// A spawn that was asked for and not answered when the end began.
    in_flight: Option<GenerationNumber>,
    asked_at: Instant,
    urgency: Urgency,
    kill_at: Option<(Instant, KillReason)>,
    waiters: Vec<RequestId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
enum Urgency {
    /// Those that serve have not been told yet.
    Serving {
        tell_at: Instant,
    },
    /// As long as it takes; this is what workers were told.
    Patient(Order),
    Hastened,
    Killed,
}

impl Urgency {
    fn order(self) -> Order {
        match self {
            Self::Serving { .. } => Order::Stop,
            Self::Patient(order) => order,
            Self::Hastened => Order::Terminate,
            Self::Killed => Order::Kill,
        }
    }
}

impl Stopping {
    /// Tells every worker to go; those that serve after the term delay, if the end was asked for by SIGTERM.
    pub fn begin(
        remaining: Vec<Generation>,
        in_flight: Option<GenerationNumber>,
        by: StopRequester,
        turn: &mut Turn,
    ) -> Phase {
        let serves = remaining.iter().any(|generation| generation.ready_at.is_some() && !generation.told);
        let mut stopping = Self {
            remaining,
            in_flight,
            asked_at: turn.now,
            urgency: Urgency::Patient(Order::Stop),
            kill_at: None,
            waiters: Vec::new(),
        };
        match turn.policy.term_delay {
            Some(delay) if by == StopRequester::Terminate && serves => stopping.delay(delay, turn),
            _ => stopping.tell(by, turn),
        }
        stopping.settle(turn)
    }

    fn delay(&mut self, delay: Duration, turn: &mut Turn) {
        self.urgency = Urgency::Serving { tell_at: turn.now.plus(delay) };
        let told = pids(self.remaining.iter().filter(|generation| generation.ready_at.is_none()));
        turn.report(Report::StopDelayed { delay, told: told.clone() });
        turn.signal(told, Order::Stop);
    }

    /// Tells everybody, because of this wish.
    fn tell(&mut self, by: StopRequester, turn: &mut Turn) {
        let order = match by {
            StopRequester::Interrupt => Order::Terminate,
            StopRequester::Terminate | StopRequester::Client(_) => Order::Stop,
        };
        if let StopRequester::Client(request) = by {
            self.waiters.push(request);
        }
        self.asked_at = turn.now;
        self.urgency = Urgency::Patient(order);
        let limit = turn.policy.stop_timeout;
        self.kill_at = limit.map(|limit| (turn.now.plus(limit), KillReason::TimedOut(limit)));
        let workers = pids(&self.remaining);
        turn.report(Report::Stopping { by, workers: workers.clone() });
        turn.signal(workers, order);
    }

    /// Ends every worker without asking it.
    pub fn begin_killing(remaining: Vec<Generation>, in_flight: Option<GenerationNumber>, turn: &mut Turn) -> Phase {
        let mut stopping = Self {
            remaining,
            in_flight,
            asked_at: turn.now,
            urgency: Urgency::Patient(Order::Stop),
            kill_at: None,
            waiters: Vec::new(),
        };
        stopping.kill(KillReason::Asked, turn);
        stopping.settle(turn)
    }

    pub fn handle(mut self, event: Event, turn: &mut Turn) -> Phase {
        match event {
            Event::Exited { pid, status } => self.exited(pid, status, turn),
            Event::Spawned { generation, pid } if self.in_flight == Some(generation) => {
                self.in_flight = None;
                self.remaining.push(Generation::new(generation, pid, turn.now));
                turn.report(Report::Spawned { generation, pid });
                turn.signal([pid], self.urgency.order());
            }
            Event::SpawnFailed { generation, .. } if self.in_flight == Some(generation) => {
                self.in_flight = None;
            }
            Event::Stop(by) => self.asked_again(by, turn),
            Event::Kill => self.kill(KillReason::Asked, turn),
            Event::Restart(Requester::Client { request, .. }) => {
                turn.answer(request, Outcome::Stopping);
            }
            Event::GiveUp(request) => {
                if let Some(at) = self.waiters.iter().position(|&waiter| waiter == request) {
                    self.waiters.remove(at);
                    turn.answer(request, Outcome::TimedOut { committed: None, serving: None, abandoned: false });
                }
            }
            Event::HungUp(request) => self.waiters.retain(|&waiter| waiter != request),
            Event::Tick => {}
            // What a worker does or says while it ends changes nothing, a restart by signal comes
            // too late, and the rest belongs to a start that is over.
            Event::Start
            | Event::Adopted { .. }
            | Event::Restart(Requester::Signal | Requester::Superdaemon)
            | Event::Spawned { .. }
            | Event::SpawnFailed { .. }
            | Event::Executed(_)
            | Event::ExecFailed { .. }
            | Event::Ready { .. }
            | Event::ReadinessUnknown(_)
            | Event::ExtendReadiness { .. }
            | Event::Settings(_) => {}
        }
        if let Urgency::Serving { tell_at } = self.urgency
            && tell_at <= turn.now
        {
            self.tell(StopRequester::Terminate, turn);
        }
        if let Some((at, reason)) = self.kill_at
            && at <= turn.now
        {
            self.kill(reason, turn);
        }
        self.settle(turn)
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        match self.urgency {
            Urgency::Serving { tell_at } => Some(tell_at),
            _ => self.kill_at.map(|(at, _)| at),
        }
    }

    pub fn states(&self) -> Vec<GenerationState> {
        self.remaining.iter().map(|generation| GenerationState::of(generation, Role::Stopping)).collect()
    }

    fn exited(&mut self, pid: Pid, status: ExitStatus, turn: &mut Turn) {
        let Some(generation) = self.remaining.iter_mut().find(|generation| generation.has(pid)) else {
            return;
        };
        generation.workers.retain(|&worker| worker != pid);
        self.remaining.retain(|generation| !generation.workers.is_empty());
        turn.report(Report::WorkerExited { pid, status });
        let ready = self.remaining.iter().filter(|generation| generation.ready_at.is_some());
        let mut running: Vec<_> = ready.flat_map(Generation::running).collect();
        running.sort_unstable();
        turn.actions.push(Action::Publish(running));
    }

    fn asked_again(&mut self, by: StopRequester, turn: &mut Turn) {
        match (by, self.urgency) {
            (StopRequester::Client(_), Urgency::Serving { .. }) => self.tell(by, turn),
            (StopRequester::Client(request), _) => self.waiters.push(request),
            (StopRequester::Terminate | StopRequester::Interrupt, _) => self.hasten(by, turn),
        }
    }

    fn hasten(&mut self, by: StopRequester, turn: &mut Turn) {
        if turn.now.since(self.asked_at) < SAME_WISH {
            return;
        }
        match self.urgency {
            Urgency::Serving { .. } => self.tell(by, turn),
            Urgency::Patient(_) => {
                self.urgency = Urgency::Hastened;
                self.asked_at = turn.now;
                let workers = pids(&self.remaining);
                turn.report(Report::StopHastened { workers: workers.clone(), grace: HASTENED_GRACE });
                turn.signal(workers, Order::Terminate);
                let soon = (turn.now.plus(HASTENED_GRACE), KillReason::TimedOut(HASTENED_GRACE));
                self.kill_at = Some(match self.kill_at {
                    Some(earlier) if earlier.0 <= soon.0 => earlier,
                    _ => soon,
                });
            }
            Urgency::Hastened | Urgency::Killed => self.kill(KillReason::Asked, turn),
        }
    }

    fn kill(&mut self, reason: KillReason, turn: &mut Turn) {
        self.urgency = Urgency::Killed;
        self.kill_at = None;
        let workers = pids(&self.remaining);
        turn.report(Report::KillingAll { workers: workers.clone(), reason });
        turn.signal(workers, Order::Kill);
    }

    fn settle(self, turn: &mut Turn) -> Phase {
        if !self.remaining.is_empty() || self.in_flight.is_some() {
            return Phase::Stopping(self);
        }
        turn.report(Report::Exiting);
        for request in self.waiters {
            turn.answer(request, Outcome::Stopped);
        }
        turn.actions.push(Action::Exit { as_asked: true });
        Phase::Over
    }
}
