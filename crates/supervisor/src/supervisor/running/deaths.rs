//! Workers that have ended, and what follows: a failed try, a new generation at once, or one generation less that
//! drains. Called for every process that was reaped.

use super::attempt::{Attempt, Starting, Step};
use super::demand::Demand;
use super::{ABANDONED_GRACE, After, Running, Turn, has_proved_itself};
use crate::action::Outcome;
use crate::backoff;
use crate::generation::Generation;
use crate::process::{ExitStatus, Pid};
use crate::report::{Failure, FailureKind, Report};

impl Running {
    pub(super) fn exited(&mut self, pid: Pid, status: ExitStatus, turn: &mut Turn) -> After {
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
