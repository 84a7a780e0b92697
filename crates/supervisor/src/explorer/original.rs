//! How the original decides, in short: one thing at a time, and signals cut its sleeps. Kept to show
//! which of its faults the invariants rule out.

use std::collections::VecDeque;
use std::time::Duration;

use super::machine::Machine;
use crate::{Action, Event, GenerationNumber, Instant, Order, Pid, Requester, RunningWorker};

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Original {
    interval: Duration,
    kill_old_delay: Duration,
    last: GenerationNumber,
    doing: Doing,
    current: Option<RunningWorker>,
    old: Vec<RunningWorker>,
    /// Whether the old ones are to go when the new one has started.
    restarting: bool,
    /// Children that have ended and were not looked at.
    dead: Vec<Pid>,
    signals: VecDeque<Signal>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Doing {
    Nothing,
    Spawning,
    Sleeping { new: RunningWorker, until: Instant },
    Looking,
    DelayingTheKill { until: Instant },
    ShuttingDown,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Signal {
    Hup,
    Term,
}

impl Original {
    pub fn new(interval: Duration, kill_old_delay: Duration) -> Self {
        Self {
            interval,
            kill_old_delay,
            last: GenerationNumber(0),
            doing: Doing::Nothing,
            current: None,
            old: Vec::new(),
            restarting: false,
            dead: Vec::new(),
            signals: VecDeque::new(),
        }
    }

    fn start_worker(&mut self, actions: &mut Vec<Action>) {
        self.last.0 += 1;
        self.doing = Doing::Spawning;
        actions.push(Action::Spawn(self.last));
    }

    fn publish(&self, actions: &mut Vec<Action>) {
        let mut all: Vec<RunningWorker> = self.old.iter().chain(&self.current).copied().collect();
        all.sort_unstable();
        actions.push(Action::Publish(all));
    }

    fn tell_old(&self, order: Order, actions: &mut Vec<Action>) {
        actions.extend(self.old.iter().map(|old| Action::Signal { pid: old.pid, order }));
    }

    /// One turn; false when there is nothing to do before the next event.
    fn turn(&mut self, now: Instant, woken: bool, actions: &mut Vec<Action>) -> bool {
        match self.doing {
            Doing::Nothing | Doing::Spawning => false,
            Doing::Sleeping { new, until } => {
                if !woken && now < until {
                    return false;
                }
                let must_stop = self.signals.contains(&Signal::Term);
                if !must_stop && let Some(at) = self.dead.iter().position(|&pid| pid == new.pid) {
                    self.dead.remove(at);
                    self.start_worker(actions);
                    return false;
                }
                self.current = Some(new);
                self.publish(actions);
                self.doing = if self.restarting {
                    Doing::DelayingTheKill { until: now.plus(self.kill_old_delay) }
                } else {
                    Doing::Looking
                };
                true
            }
            Doing::DelayingTheKill { until } => {
                if now < until {
                    return false;
                }
                self.tell_old(Order::Retire, actions);
                self.restarting = false;
                self.doing = Doing::Looking;
                true
            }
            Doing::Looking => {
                if !self.dead.is_empty() {
                    let pid = self.dead.remove(0);
                    if self.current.is_some_and(|current| current.pid == pid) {
                        self.current = None;
                        self.start_worker(actions);
                        return false;
                    }
                    self.old.retain(|old| old.pid != pid);
                    self.publish(actions);
                    return true;
                }
                match self.signals.pop_front() {
                    None => return false,
                    Some(Signal::Hup) => {
                        self.old.extend(self.current.take());
                        self.restarting = true;
                        self.start_worker(actions);
                    }
                    Some(Signal::Term) => {
                        self.old.extend(self.current.take());
                        self.tell_old(Order::Stop, actions);
                        self.doing = Doing::ShuttingDown;
                    }
                }
                true
            }
            Doing::ShuttingDown => {
                let dead = std::mem::take(&mut self.dead);
                self.old.retain(|old| !dead.contains(&old.pid));
                self.publish(actions);
                if self.old.is_empty() {
                    self.doing = Doing::Nothing;
                    actions.push(Action::Exit { as_asked: true });
                }
                false
            }
        }
    }
}

impl Machine for Original {
    fn handle(&mut self, now: Instant, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut woken = false;
        match event {
            Event::Start if self.doing == Doing::Nothing => self.start_worker(&mut actions),
            Event::Spawned { generation, pid } if self.doing == Doing::Spawning => {
                let new = RunningWorker { generation, pid };
                self.doing = Doing::Sleeping { new, until: now.plus(self.interval) };
            }
            Event::Exited { pid, .. } => self.dead.push(pid),
            Event::Restart(Requester::Signal) => {
                self.signals.push_back(Signal::Hup);
                woken = true;
            }
            Event::Stop(_) => {
                self.signals.push_back(Signal::Term);
                woken = true;
            }
            _ => {}
        }
        while self.turn(now, woken, &mut actions) {
            woken = false;
        }
        actions
    }

    fn next_deadline(&self) -> Option<Instant> {
        match self.doing {
            Doing::Sleeping { until, .. } | Doing::DelayingTheKill { until } => Some(until),
            _ => None,
        }
    }

    fn workers(&self) -> Vec<Pid> {
        let new = match self.doing {
            Doing::Sleeping { new, .. } => Some(new),
            _ => None,
        };
        let all = self.old.iter().chain(&self.current).chain(&new);
        let mut pids: Vec<Pid> = all.map(|worker| worker.pid).filter(|pid| !self.dead.contains(pid)).collect();
        pids.sort_unstable();
        pids
    }
}

mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::Policy;
    use crate::explorer::invariants::{Broken, Invariant};
    use crate::explorer::search;
    use crate::explorer::setup::{Bounds, Setup, kill_old_delay, seconds};

    const BOUNDS: Bounds = Bounds { restarts: 0, give_ups: 0, kills: 0, ..Bounds::SMALL };

    /// The length and the text of the shortest story in which the original breaks an invariant.
    fn found(setup: Setup, invariant: Invariant, how: &'static str) -> (usize, String) {
        let delay = setup.settings[0].kill_old_delay;
        let original = Original::new(seconds(1), delay);
        let setup = Rc::new(setup);
        let story = search::shortest(&setup, &original, Broken { invariant, how }).unwrap();
        let text = story.tell(&setup, &original);
        println!("{text}");
        (story.steps.len(), text)
    }

    #[test]
    fn p2_a_hup_in_the_interval_ends_the_check() {
        let bounds = Bounds { hups: 2, ..BOUNDS };
        let setup = Setup::new("the original, P2", Policy::default(), bounds);
        let (length, text) =
            found(setup, Invariant::RetiredAtCommit, "it retires a generation without a proved successor");
        assert_eq!(length, 5, "{text}");
    }

    #[test]
    fn p22_the_old_goes_although_the_new_died_in_the_delay() {
        let bounds = Bounds { stops: 0, ..BOUNDS };
        let setup = Setup::new("the original, P22", Policy::default(), bounds).settings(&[kill_old_delay()]);
        let (length, text) =
            found(setup, Invariant::RetiredAtCommit, "it retires a generation without a proved successor");
        assert_eq!(length, 7, "{text}");
    }

    #[test]
    fn p5_a_stop_while_failing_spawns_one_more() {
        let setup = Setup::new("the original, P5", Policy::default(), BOUNDS);
        let (length, text) = found(setup, Invariant::StopIsTheEnd, "it spawns after a stop was asked for");
        assert_eq!(length, 4, "{text}");
    }
}
