//! The judge: what must hold whatever happens. It goes by the world's own books (which processes
//! exist, what they were told, who asked for what), never by what the machine believes.

use std::time::Duration;

use super::machine::Machine;
use super::world::{Process, Request, Wants, World};
use crate::event::Until;
use crate::report::{AbandonReason, FailureKind};
use crate::{
    Action, Event, GenerationNumber, Instant, Order, Outcome, Pid, Report, RequestId, Requester, RunningWorker,
};

/// What must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invariant {
    /// Once somebody serves, somebody serves until a stop is asked for; unless all died by
    /// themselves, and then the next is on its way.
    SomebodyServes,
    /// Signals go to processes that were not reaped.
    SignalsReachTheirs,
    /// One start at a time, each for a reason; requests are merged, none is forgotten, and the
    /// answer to each comes from a later attempt.
    OneStart,
    /// Old generations are told to go at a commit: a newer one has proved itself, lives, and did so
    /// for the kill-old delay.
    RetiredAtCommit,
    /// After a stop nothing is spawned, and the machine ends when the last process was reaped.
    StopIsTheEnd,
    /// Deadlines make progress, and end with the machine.
    DeadlinesPass,
    /// Each request gets one answer, and a true one; whoever has hung up gets none.
    OneAnswer,
    /// As long as it is not over, something is there or is coming.
    NeverStuck,
    /// The status holds the living workers that have been ready.
    StatusIsTrue,
    /// The machine knows exactly the processes that exist.
    KnowsItsProcesses,
    /// What cannot concern it does not change it.
    DeafToNonsense,
}

/// An invariant that was broken, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    pub invariant: Invariant,
    pub how: &'static str,
}

/// Where nobody serves, something must happen within this time.
const SOON: Duration = Duration::from_secs(10);

type Judgement = Result<(), Broken>;

fn must(holds: bool, invariant: Invariant, otherwise: &'static str) -> Judgement {
    if holds { Ok(()) } else { Err(Broken { invariant, how: otherwise }) }
}

use Invariant::{
    DeadlinesPass, DeafToNonsense, KnowsItsProcesses, NeverStuck, OneAnswer, OneStart, RetiredAtCommit,
    SignalsReachTheirs, SomebodyServes, StatusIsTrue, StopIsTheEnd,
};

impl<M: Machine> World<M> {
    /// Takes note of what the machine does about an event, and checks everything.
    pub fn judge(&mut self, event: &Event, actions: &[Action], mut served_before: Vec<Pid>) -> Judgement {
        if let Event::Exited { pid, .. } = event {
            served_before.retain(|served| served != pid);
        }
        let mut verdict = Ok(());
        for action in actions {
            let speaks = matches!(action, Action::Answer(..) | Action::Report(_));
            let acts_in_time = must(!self.over || speaks, StopIsTheEnd, "it acts after the end");
            // All books are kept, and the first verdict counts.
            verdict = verdict.and(acts_in_time).and(match action {
                Action::Spawn(generation) => self.judge_spawn(*generation),
                Action::Signal { pid, order } => self.judge_signal(*pid, *order),
                Action::Publish(workers) => {
                    self.published = Some(workers.clone());
                    Ok(())
                }
                Action::Report(report) => {
                    self.note_report(report);
                    Ok(())
                }
                Action::Answer(request, outcome) => self.judge_answer(*request, outcome),
                Action::Exit { .. } => self.judge_exit(),
            });
        }
        self.note_proofs();
        verdict?;
        self.judge_service(&served_before)?;
        self.judge_status()?;
        self.judge_time()?;
        self.judge_rest(event)
    }

    fn judge_spawn(&mut self, generation: GenerationNumber) -> Judgement {
        let verdict = self.may_spawn(generation);
        self.last = generation;
        self.spawning = Some(generation);
        match self.left.spawns.checked_sub(1) {
            Some(left) => self.left.spawns = left,
            None => self.beyond = true,
        }
        verdict
    }

    fn may_spawn(&self, generation: GenerationNumber) -> Judgement {
        must(!self.stop_asked, StopIsTheEnd, "it spawns after a stop was asked for")?;
        must(self.spawning.is_none(), OneStart, "it spawns while a spawn is under way")?;
        let starting = self.processes.iter().any(|process| self.is_starting(process));
        must(!starting, OneStart, "it spawns while another generation is starting")?;
        must(self.is_spawn_wanted(), OneStart, "it spawns for nobody")?;
        must(generation.0 == self.last.0 + 1, OneStart, "the number is not the next")
    }

    /// Whether a generation later than the last is good for anything.
    fn is_spawn_wanted(&self) -> bool {
        let by_clock = self.setup.settings.iter().any(|settings| settings.auto_restart.is_some());
        let by_request = self.requests.iter().any(|request| match request.wants {
            Wants::Restart { after, .. } => !self.is_restarted_since(after),
            Wants::Stop => false,
        });
        let for_nobody = self.owed_to_nobody.is_some();
        let nobody_serves = !self.is_restarted_since(GenerationNumber(self.orphaned()));
        by_clock || by_request || for_nobody || nobody_serves
    }

    /// Whether a generation later than that has become current.
    fn is_restarted_since(&self, last: GenerationNumber) -> bool {
        let rest: Vec<&Process> = self.processes.iter().skip_while(|old| old.told).collect();
        rest.first().is_some_and(|first| self.is_proved(first) && first.generation > last)
    }

    fn judge_signal(&mut self, pid: Pid, order: Order) -> Judgement {
        let Some(place) = self.processes.iter().position(|process| process.pid == pid) else {
            return must(false, SignalsReachTheirs, "it signals a process that is not there");
        };
        let verdict = match order {
            Order::Retire => self.judge_retirement(&self.processes[place]),
            Order::Stop | Order::Terminate | Order::Kill => Ok(()),
        };
        self.processes[place].hear(order);
        verdict
    }

    fn judge_retirement(&self, old: &Process) -> Judgement {
        let successor = self
            .processes
            .iter()
            .rfind(|process| !process.told && self.is_proved(process))
            .filter(|successor| successor.generation > old.generation);
        let Some(successor) = successor else {
            return must(false, RetiredAtCommit, "it retires a generation without a proved successor");
        };
        let (since, delay) = successor.proved.unwrap_or(self.proof_now(successor));
        let soaked = self.now >= since.plus(delay);
        must(old.retired || soaked, RetiredAtCommit, "it retires a generation before the delay")
    }

    fn note_report(&mut self, report: &Report) {
        self.cannot_start |= matches!(report, Report::CannotStart { .. });
        let Report::GaveUp { failure: Some(failure), .. } = report else { return };
        let reason = AbandonReason::RequesterGaveUp;
        let withdrawn = matches!(failure.kind, FailureKind::Abandoned { reason: given, .. } if given == reason);
        // A restart that was tried after the signal and failed is what the signal asked for.
        if !withdrawn && self.owed_to_nobody.is_some_and(|last| failure.generation > last) {
            self.owed_to_nobody = None;
        }
    }

    fn judge_answer(&mut self, id: RequestId, outcome: &Outcome) -> Judgement {
        let Some(place) = self.requests.iter().position(|request| request.id == id) else {
            return must(false, OneAnswer, "it answers a request that waits for none");
        };
        let Request { wants, gave_up, .. } = self.requests.remove(place);
        let serves = |generation: GenerationNumber| {
            self.processes
                .iter()
                .any(|process| process.generation == generation && !process.told && self.is_proved(process))
        };
        match (outcome, wants) {
            (Outcome::Restarted { generation }, Wants::Restart { until, after }) => {
                must(*generation > after, OneStart, "a restart older than the request answers it")?;
                let mut older = self.processes.iter().filter(|old| old.generation < *generation);
                match until {
                    Until::Commit => {
                        must(serves(*generation), OneAnswer, "the restarted generation is not ready")?;
                        let told = older.all(|old| old.told);
                        must(told, OneAnswer, "it says restarted before the commit")
                    }
                    Until::Drained => must(older.next().is_none(), OneAnswer, "it says drained and some are left"),
                }
            }
            (Outcome::RestartFailed { failure, kept, .. }, Wants::Restart { after, .. }) => {
                // When the program cannot be started at all there is no later attempt.
                let covers = self.cannot_start || failure.is_none_or(|failure| failure.generation > after);
                must(covers, OneStart, "a failure older than the request answers it")?;
                let serves = kept.is_none_or(serves);
                must(serves, OneAnswer, "the generation that is said to be kept does not serve")
            }
            (Outcome::TimedOut { serving, .. }, _) => {
                must(gave_up, OneAnswer, "it says timed out and nobody gave up")?;
                let serves = serving.is_none_or(serves);
                must(serves, OneAnswer, "the generation that is said to serve does not")
            }
            (Outcome::Stopping, Wants::Restart { .. }) => {
                let ends = self.stop_asked || self.over || !self.started;
                must(ends, OneAnswer, "it says stopping and is not")
            }
            (Outcome::Stopped, Wants::Stop) => {
                let gone = self.processes.is_empty() && self.spawning.is_none();
                must(gone, OneAnswer, "it says stopped and processes are left")
            }
            _ => must(false, OneAnswer, "the answer does not fit the request"),
        }
    }

    fn judge_exit(&mut self) -> Judgement {
        self.over = true;
        let gone = self.processes.is_empty() && self.spawning.is_none();
        must(gone, StopIsTheEnd, "it ends and leaves processes behind")?;
        let asked = self.stop_asked || !self.ever_ready;
        must(asked, StopIsTheEnd, "it ends and nobody asked it to")
    }

    /// When a process that proves itself by its age did so, and the delay that counts from there.
    fn proof_now(&self, process: &Process) -> (Instant, Duration) {
        let by_age = process.spawned_at.plus(self.setup.policy.interval);
        (by_age, self.settings.kill_old_delay)
    }

    fn note_proofs(&mut self) {
        for place in 0..self.processes.len() {
            let process = &self.processes[place];
            if process.proved.is_none() && !process.told && self.is_proved(process) {
                self.processes[place].proved = Some(self.proof_now(process));
            }
            let process = &self.processes[place];
            self.ever_ready |= process.proved.is_some() && process.generation.0 > self.orphaned();
        }
        if self.owed_to_nobody.is_some_and(|last| self.is_restarted_since(last)) {
            self.owed_to_nobody = None;
        }
    }

    fn judge_service(&mut self, served_before: &[Pid]) -> Judgement {
        let somebody_serves = !self.serving().is_empty();
        self.ever_served |= somebody_serves;
        if !self.started || !self.ever_served || self.stop_asked || self.over || somebody_serves {
            return Ok(());
        }
        must(served_before.is_empty(), SomebodyServes, "it tells the last that serves to go")?;
        let starting = self.spawning.is_some() || self.processes.iter().any(|process| self.is_starting(process));
        let killed = self.processes.iter().any(|process| process.killed && !process.retired);
        let deadline = self.machine.next_deadline();
        must(starting || killed || deadline.is_some(), SomebodyServes, "nobody serves and nobody will")?;
        let soon = deadline.is_some_and(|at| at <= self.now.plus(SOON));
        must(starting || killed || soon, SomebodyServes, "nobody serves and the next start is far off")
    }

    fn judge_status(&self) -> Judgement {
        let Some(published) = &self.published else { return Ok(()) };
        let worker = |process: &Process| RunningWorker { generation: process.generation, pid: process.pid };
        let all = |worker: &RunningWorker| {
            self.processes.iter().find(|process| process.pid == worker.pid && process.generation == worker.generation)
        };
        for line in published {
            let process = all(line);
            must(process.is_some(), StatusIsTrue, "the status holds a worker that was reaped")?;
            let proved = process.is_some_and(|process| self.is_proved(process));
            must(proved, StatusIsTrue, "the status holds a worker that was never ready")?;
        }
        // One that proved itself and was abandoned before the commit may be left out.
        let must_be_listed = |process: &&Process| self.is_proved(process) && (!process.told || process.retired);
        let listed = self.processes.iter().filter(must_be_listed).all(|process| published.contains(&worker(process)));
        must(listed, StatusIsTrue, "the status lacks a living worker that was ready")
    }

    fn judge_time(&self) -> Judgement {
        let deadline = self.machine.next_deadline();
        let later = deadline.is_none_or(|at| at > self.now);
        must(later, DeadlinesPass, "what was due is due again")?;
        must(deadline.is_none() || !self.over, DeadlinesPass, "a deadline outlives the machine")
    }

    fn judge_rest(&self, event: &Event) -> Judgement {
        if let Event::GiveUp(id) = event {
            let answered = self.requests.iter().all(|request| request.id != *id);
            must(answered, OneAnswer, "who gave up got no answer")?;
        }
        if self.over {
            return must(self.requests.is_empty(), OneAnswer, "it ends and owes answers");
        }
        let mut pids: Vec<Pid> = self.processes.iter().map(|process| process.pid).collect();
        pids.sort_unstable();
        must(self.machine.workers() == pids, KnowsItsProcesses, "it is wrong about its processes")?;
        let empty = self.processes.is_empty() && self.spawning.is_none();
        must(!empty || !self.stop_asked, StopIsTheEnd, "all have gone and it does not end")?;
        let waits = self.spawning.is_some() || self.machine.next_deadline().is_some();
        must(!self.started || !empty || waits, NeverStuck, "it waits for nothing")?;
        let busy = self.processes.iter().any(|process| !process.retired && (process.told || !self.is_proved(process)));
        if !self.started || self.stop_asked || waits || busy {
            return Ok(());
        }
        self.judge_idleness()
    }

    /// Nothing goes on and nothing is due: then nothing may be left to do.
    fn judge_idleness(&self) -> Judgement {
        let covered = self.owed_to_nobody.is_none();
        must(covered, OneStart, "a restart that nobody waits for is forgotten")?;
        let draining = self.processes.iter().any(|process| process.retired);
        let owed = self
            .requests
            .iter()
            .all(|request| draining && matches!(request.wants, Wants::Restart { until: Until::Drained, .. }));
        must(owed, OneAnswer, "an idle machine owes an answer")
    }

    /// Checks that events which cannot concern the machine leave it as it is.
    pub fn judge_nonsense(&self) -> Result<(), (Event, Broken)> {
        for event in self.nonsense() {
            let mut machine = self.machine.clone();
            let actions = machine.handle(self.now, event.clone());
            let same = actions.is_empty() && machine == self.machine;
            must(same, DeafToNonsense, "an event that cannot concern it changes it")
                .map_err(|broken| (event, broken))?;
        }
        Ok(())
    }

    fn nonsense(&self) -> Vec<Event> {
        use crate::ExitStatus;
        use crate::report::{ReadyBy, SpawnStage};
        // Late news of a generation that is not starting any more, if there is one.
        let stale = self.processes.iter().find(|process| !self.is_starting(process));
        let generation = stale.map_or(GenerationNumber(0), |process| process.generation);
        let mut events = vec![
            Event::Tick,
            Event::Settings(self.settings.clone()),
            Event::GiveUp(RequestId(9999)),
            Event::HungUp(RequestId(9999)),
            Event::Exited { pid: Pid(9999), status: ExitStatus(0) },
            Event::Spawned { generation, pid: Pid(9999) },
            Event::SpawnFailed { generation, errno: 11 },
            Event::Executed(generation),
            Event::ExecFailed { generation, stage: SpawnStage::Exec, errno: 2 },
            Event::Ready { generation, by: ReadyBy::Notify },
            Event::ReadinessUnknown(generation),
            Event::ExtendReadiness { generation, by: Duration::from_secs(60) },
        ];
        if self.started || self.over {
            events.push(Event::Adopted { generation, pid: Pid(9999) });
            events.push(Event::Start);
        }
        if self.over || self.stop_asked {
            events.push(Event::Restart(Requester::Signal));
        }
        events
    }
}
