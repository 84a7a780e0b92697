//! Machines with one fault each, made from the real one, to show that the explorer finds it.

use std::time::Duration;

use super::machine::Machine;
use crate::{
    Action, Event, GenerationNumber, Instant, Order, Outcome, Pid, Policy, Report, Requester, RunningWorker, Settings,
    Supervisor,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    DropsAnAnswer,
    AnswersTwice,
    RetiresAtReadiness,
    SignalsTheReaped,
    SpawnsAfterStop,
    ForgetsTheRetry,
    TakesHupForReadiness,
    TellsTheOldAtOnce,
    StopsTheOldAtOnce,
    ForgetsHup,
    StartsTwoAtOnce,
    SpawnsForNobody,
    EndsAtOnce,
    PublishesTheUnready,
    IgnoresTicks,
    ForgetsOrphans,
    AnswersWithTheCurrent,
    BelievesStaleNews,
    RemembersTheGone,
    TakesHangingUpForGivingUp,
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct BrokenSupervisor {
    supervisor: Supervisor,
    fault: Fault,
    interval: Duration,
}

impl BrokenSupervisor {
    pub fn new(policy: &Policy, settings: &Settings, fault: Fault) -> Self {
        let interval = policy.interval;
        Self { supervisor: Supervisor::new(policy.clone(), settings.clone()), fault, interval }
    }

    fn current(&self) -> Option<Pid> {
        let current = self.supervisor.current()?;
        let states = self.supervisor.generations();
        states.iter().find(|state| state.number == current)?.workers.first().copied()
    }
}

impl Machine for BrokenSupervisor {
    fn handle(&mut self, now: Instant, mut event: Event) -> Vec<Action> {
        let mut before = Vec::new();
        match (self.fault, &mut event) {
            (Fault::TakesHupForReadiness, Event::Restart(Requester::Signal)) => {
                before = self.supervisor.handle(now.plus(self.interval), Event::Tick);
            }
            (Fault::TellsTheOldAtOnce | Fault::StopsTheOldAtOnce, Event::Restart(_)) => {
                let retires = self.fault == Fault::TellsTheOldAtOnce;
                let order = if retires { Order::Retire } else { Order::Stop };
                before.extend(self.current().map(|pid| Action::Signal { pid, order }));
            }
            (Fault::ForgetsHup, Event::Restart(Requester::Signal)) => return Vec::new(),
            (Fault::IgnoresTicks, Event::Tick) => return Vec::new(),
            (Fault::ForgetsOrphans, Event::Adopted { .. }) => return Vec::new(),
            (Fault::RemembersTheGone, Event::HungUp(_)) => return Vec::new(),
            (Fault::TakesHangingUpForGivingUp, Event::HungUp(request)) => {
                let mut actions = self.supervisor.handle(now, Event::GiveUp(*request));
                actions.retain(|action| !matches!(action, Action::Answer(..)));
                return actions;
            }
            (Fault::BelievesStaleNews, Event::Ready { generation, .. }) => {
                let states = self.supervisor.generations();
                *generation = states.last().map_or(*generation, |state| state.number);
            }
            (Fault::AnswersWithTheCurrent, Event::Restart(Requester::Client { request, .. })) => {
                if let Some(generation) = self.supervisor.current() {
                    return vec![Action::Answer(*request, Outcome::Restarted { generation })];
                }
            }
            _ => {}
        }
        let current = self.current();
        let was_stopping = self.supervisor.is_stopping();
        let mut actions = self.supervisor.handle(now, event.clone());
        actions.splice(0..0, before);
        let next = GenerationNumber(self.supervisor.generations().last().map_or(0, |state| state.number.0) + 1);
        match (self.fault, &event) {
            (Fault::DropsAnAnswer, _) => {
                actions.retain(|action| !matches!(action, Action::Answer(_, Outcome::Stopping)));
            }
            (Fault::AnswersTwice, _) => {
                let restarted = |action: &&Action| matches!(action, Action::Answer(_, Outcome::Restarted { .. }));
                let again: Vec<Action> = actions.iter().filter(restarted).cloned().collect();
                actions.extend(again);
            }
            (Fault::RetiresAtReadiness, _) => {
                let delayed = |action: &Action| matches!(action, Action::Report(Report::KillOldDelay(_)));
                if actions.iter().any(delayed) {
                    let order = Order::Retire;
                    actions.extend(current.map(|pid| Action::Signal { pid, order }));
                }
            }
            (Fault::SignalsTheReaped, Event::Exited { pid, .. }) => {
                actions.push(Action::Signal { pid: *pid, order: Order::Kill });
            }
            (Fault::SpawnsAfterStop, Event::Exited { .. }) if was_stopping => {
                actions.insert(0, Action::Spawn(next));
            }
            (Fault::StartsTwoAtOnce, Event::Restart(_))
                if !actions.iter().any(|action| matches!(action, Action::Spawn(_))) =>
            {
                actions.push(Action::Spawn(next));
            }
            (Fault::SpawnsForNobody, Event::Tick)
                if actions.iter().any(|action| matches!(action, Action::Report(Report::Ready { .. }))) =>
            {
                actions.push(Action::Spawn(next));
            }
            (Fault::EndsAtOnce, Event::Stop(_)) => actions.push(Action::Exit { as_asked: true }),
            (Fault::PublishesTheUnready, Event::Spawned { generation, pid }) => {
                let line = RunningWorker { generation: *generation, pid: *pid };
                actions.push(Action::Publish(vec![line]));
            }
            _ => {}
        }
        actions
    }

    fn next_deadline(&self) -> Option<Instant> {
        let deadline = self.supervisor.next_deadline();
        if self.fault == Fault::ForgetsTheRetry && self.supervisor.generations().is_empty() {
            return None;
        }
        deadline
    }

    fn workers(&self) -> Vec<Pid> {
        self.supervisor.workers()
    }
}

mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::explorer::invariants::{Broken, Invariant};
    use crate::explorer::search;
    use crate::explorer::setup::{Bounds, Setup, kill_old_delay, proved};

    const BOUNDS: Bounds = Bounds { hups: 2, give_ups: 0, kills: 0, ..Bounds::SMALL };

    fn setup(fault: Fault) -> Setup {
        let setup = Setup::new("a seeded fault", Policy::default(), BOUNDS);
        match fault {
            Fault::RemembersTheGone | Fault::TakesHangingUpForGivingUp => {
                Setup::new("a seeded fault", Policy::default(), Bounds { hang_ups: 1, ..BOUNDS })
            }
            Fault::RetiresAtReadiness => setup.settings(&[kill_old_delay()]),
            Fault::ForgetsOrphans => setup.orphans(&[7]),
            Fault::BelievesStaleNews => {
                let policy = Policy { readiness: proved(), ..Policy::default() };
                Setup::new("a seeded fault", policy, BOUNDS)
            }
            _ => setup,
        }
    }

    #[test]
    fn every_seeded_fault_is_found() {
        use Invariant::{
            DeadlinesPass, DeafToNonsense, KnowsItsProcesses, NeverStuck, OneAnswer, OneStart, RetiredAtCommit,
            SignalsReachTheirs, SomebodyServes, StatusIsTrue, StopIsTheEnd,
        };
        let expected = [
            (Fault::DropsAnAnswer, OneAnswer, "it ends and owes answers", 5),
            (Fault::AnswersTwice, OneAnswer, "it answers a request that waits for none", 6),
            (Fault::RetiresAtReadiness, RetiredAtCommit, "it retires a generation before the delay", 6),
            (Fault::SignalsTheReaped, SignalsReachTheirs, "it signals a process that is not there", 3),
            (Fault::SpawnsAfterStop, StopIsTheEnd, "it spawns after a stop was asked for", 4),
            (Fault::ForgetsTheRetry, NeverStuck, "it waits for nothing", 3),
            (Fault::TakesHupForReadiness, RetiredAtCommit, "it retires a generation without a proved successor", 5),
            (Fault::TellsTheOldAtOnce, RetiredAtCommit, "it retires a generation without a proved successor", 4),
            (Fault::StopsTheOldAtOnce, SomebodyServes, "it tells the last that serves to go", 4),
            (Fault::ForgetsHup, OneStart, "a restart that nobody waits for is forgotten", 4),
            (Fault::StartsTwoAtOnce, OneStart, "it spawns while another generation is starting", 3),
            (Fault::SpawnsForNobody, OneStart, "it spawns for nobody", 3),
            (Fault::EndsAtOnce, StopIsTheEnd, "it ends and leaves processes behind", 3),
            (Fault::PublishesTheUnready, StatusIsTrue, "the status holds a worker that was never ready", 2),
            (Fault::IgnoresTicks, DeadlinesPass, "what was due is due again", 3),
            (Fault::ForgetsOrphans, KnowsItsProcesses, "it is wrong about its processes", 1),
            (Fault::AnswersWithTheCurrent, OneStart, "a restart older than the request answers it", 4),
            (Fault::BelievesStaleNews, DeafToNonsense, "an event that cannot concern it changes it", 2),
            (Fault::RemembersTheGone, OneAnswer, "it answers a request that waits for none", 5),
            (Fault::TakesHangingUpForGivingUp, OneStart, "a restart that nobody waits for is forgotten", 5),
        ];
        let found = expected.map(|(fault, invariant, how, _)| {
            let setup = Rc::new(setup(fault));
            let machine = BrokenSupervisor::new(&setup.policy, &setup.settings[0], fault);
            let story = search::shortest(&setup, &machine, Broken { invariant, how });
            (fault, invariant, how, story.map_or(0, |story| story.steps.len()))
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn a_walk_finds_a_rare_fault_and_tells_it_shortly() {
        let mut setup = setup(Fault::AnswersTwice);
        setup.bounds = Bounds { stops: 0, kills: 0, ..Bounds::NONE };
        let setup = Rc::new(setup);
        let machine = BrokenSupervisor::new(&setup.policy, &setup.settings[0], Fault::AnswersTwice);
        let story = search::walk(&setup, &machine, 3, 1000).unwrap_err();
        assert_eq!(story.broken.invariant, Invariant::OneAnswer);
        assert!(story.steps.len() <= 7, "{}", story.tell(&setup, &machine));
    }
}
