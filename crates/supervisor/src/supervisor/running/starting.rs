//! An attempt that goes well: the process is spawned, proves itself, and the old generations are told to go. Called by
//! whatever wants a new generation, and by the events and deadlines that bring it on.

use super::attempt::{Attempt, Proof, Starting, Step};
use super::demand::Demand;
use super::{Running, Turn, has_proved_itself, kill};
use crate::action::{Action, Order, Outcome};
use crate::event::Until;
use crate::generation::{Generation, pids};
use crate::policy::Readiness;
use crate::process::{GenerationNumber, Pid};
use crate::report::{AbandonReason, ReadyBy, Report};
use crate::time::Instant;

impl Running {
    pub(super) fn begin_attempt(&mut self, replaces: bool, demand: Demand, at: Instant, turn: &mut Turn) {
        if self.current.as_ref().is_some_and(|current| has_proved_itself(current, turn)) {
            self.failures = 0;
        }
        let step = Step::Waiting { retry_at: at };
        self.attempt = Some(Attempt { replaces, tries: 0, demand, step });
        if at <= turn.now {
            self.spawn(turn);
        }
    }

    pub(super) fn spawn(&mut self, turn: &mut Turn) {
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

    pub(super) fn spawned(&mut self, generation: GenerationNumber, pid: Pid, turn: &mut Turn) {
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

    pub(super) fn starting(&mut self, generation: GenerationNumber) -> Option<&mut Starting> {
        match &mut self.attempt.as_mut()?.step {
            Step::Starting(starting) if starting.candidate.number == generation => Some(starting),
            _ => None,
        }
    }

    /// The generation that is starting has proved itself.
    pub(super) fn ready(&mut self, by: ReadyBy, turn: &mut Turn) {
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
    pub(super) fn commit(&mut self, turn: &mut Turn) {
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

    pub(super) fn begin_queued(&mut self, at: Instant, turn: &mut Turn) {
        if let Some(queued) = self.queued.take() {
            turn.report(Report::RestartBegins(queued.first));
            self.begin_attempt(true, queued.demand, at, turn);
        }
    }
}
