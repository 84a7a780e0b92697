//! An attempt that does not go well: it is abandoned, tried again or given up, and whoever serves goes on. Called for
//! processes that cannot be spawned, have died, are late, or are not wanted any more.

use super::attempt::{Attempt, Starting, Step};
use super::demand::Demand;
use super::{ABANDONED_GRACE, After, Running, Turn};
use crate::action::{Action, Order, Outcome};
use crate::backoff;
use crate::policy::{Policy, Readiness};
use crate::process::GenerationNumber;
use crate::report::{AbandonReason, Failure, FailureKind, Next, Report};
use crate::time::Instant;

impl Running {
    pub(super) fn spawn_failed(&mut self, generation: GenerationNumber, errno: i32, turn: &mut Turn) -> After {
        let spawning = |attempt: &mut Attempt| matches!(attempt.step, Step::Spawning(number) if number == generation);
        let Some(attempt) = self.attempt.take_if(spawning) else { return After::GoOn };
        let failure = Failure { generation, pid: None, kind: FailureKind::Spawn { errno } };
        self.failed(attempt, failure, turn.now, turn)
    }

    /// Ends the generation that is being started; when it has gone, the try has failed.
    pub(super) fn abandon(&mut self, reason: AbandonReason, turn: &mut Turn) {
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
    pub(super) fn failed(
        &mut self,
        mut attempt: Attempt,
        failure: Failure,
        spawned_at: Instant,
        turn: &mut Turn,
    ) -> After {
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
