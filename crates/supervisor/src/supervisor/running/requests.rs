//! What requesters ask of a running superdaemon, a restart, and that they give up waiting for it or hang up. Called when such an
//! event arrives, and at the beginning of the end.

use super::attempt::{Starting, Step};
use super::demand::{Demand, Queued};
use super::{Running, Turn};
use crate::action::Outcome;
use crate::event::Requester;
use crate::generation::Generation;
use crate::process::{GenerationNumber, RequestId};
use crate::report::{AbandonReason, Report};

impl Running {
    pub(super) fn restart(&mut self, requester: Requester, turn: &mut Turn) {
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

    pub(super) fn give_up(&mut self, request: RequestId, turn: &mut Turn) {
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

    /// Forgets a requester that has gone. Its restart goes on as if a signal had asked for it.
    pub(super) fn hung_up(&mut self, request: RequestId) {
        self.draining.retain(|(waiter, _)| *waiter != request);
        let queued = self.queued.as_mut().map(|queued| &mut queued.demand);
        let attempt = self.attempt.as_mut().map(|attempt| &mut attempt.demand);
        for demand in queued.into_iter().chain(attempt) {
            if demand.drop_out(request) {
                demand.stands = true;
            }
        }
    }

    /// Whether nobody wants the attempt any more. Where nobody serves, it is wanted whoever asked for it.
    pub(super) fn is_unwanted(&self) -> bool {
        self.current.is_some() && self.attempt.as_ref().is_some_and(|attempt| attempt.demand.is_gone())
    }

    /// Gives every generation and the number of a spawn under way to the end, and tells all who
    /// wait for a restart that there will be none.
    pub(super) fn dissolve(self, turn: &mut Turn) -> (Vec<Generation>, Option<GenerationNumber>) {
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
