//! What time alone brings: the next step of an attempt, the end of a drain, an automatic restart. Asked when the next
//! deadline is, and called after every event to meet those that have passed.

use super::attempt::{Attempt, Proof, Starting, Step};
use super::demand::Demand;
use super::{Running, Turn, kill};
use crate::policy::Settings;
use crate::process::GenerationNumber;
use crate::report::{AbandonReason, ReadyBy, Report};
use crate::time::Instant;

enum Deadline {
    Attempt,
    Drain(GenerationNumber),
    AutoRestart,
}

impl Running {
    pub fn next_deadline(&self, settings: &Settings) -> Option<Instant> {
        self.deadlines(settings).map(|(at, _)| at).min()
    }

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

    pub(super) fn meet_deadlines(&mut self, turn: &mut Turn) {
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
}
