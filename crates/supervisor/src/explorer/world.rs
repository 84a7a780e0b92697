//! A machine and everything around it: the processes that it spawned, the people who ask it for
//! something, and the clock. The world knows what may happen next, lets it happen, and hands the
//! machine's answer to the judge.

use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::time::Duration;

use super::invariants::Broken;
use super::machine::Machine;
use super::setup::{Bounds, Setup};
use crate::event::Until;
use crate::report::{ReadyBy, SpawnStage};
use crate::{
    Action, Event, ExitStatus, GenerationNumber, Instant, Order, Pid, Readiness, RequestId, Requester, RunningWorker,
    Settings, StopRequester,
};

/// Something that may happen. It names processes and requests by their place among those that
/// exist, so that a story stays meaningful when a step before it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Start,
    Hup,
    Restart(Until),
    GiveUp {
        request: usize,
    },
    HangUp {
        request: usize,
    },
    Terminate,
    Interrupt,
    ClientStop,
    Kill,
    Spawned,
    SpawnFailed,
    Executed {
        process: usize,
    },
    ExecFailed {
        process: usize,
    },
    Ready {
        process: usize,
    },
    ReadinessUnknown {
        process: usize,
    },
    ExtendReadiness {
        process: usize,
    },
    Exits {
        process: usize,
        status: i32,
    },
    Settings {
        index: usize,
    },
    /// Time passes until the next deadline, and the machine hears of it.
    Due,
    /// A moment passes.
    Pause,
    /// The next deadline passes, and the machine does not hear of it yet.
    Delay,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    pub generation: GenerationNumber,
    pub pid: Pid,
    pub spawned_at: Instant,
    pub executed: bool,
    pub exec_failed: bool,
    /// Being alive must do.
    pub by_age: bool,
    pub extended: bool,
    /// Since when it has been known to serve, and the kill-old delay of that moment.
    pub proved: Option<(Instant, Duration)>,
    pub told: bool,
    pub retired: bool,
    pub killed: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Request {
    pub id: RequestId,
    pub wants: Wants,
    pub gave_up: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wants {
    /// A restart, with an attempt later than this one.
    Restart {
        until: Until,
        after: GenerationNumber,
    },
    Stop,
}

/// What one step did.
pub struct Turn {
    pub event: Option<Event>,
    pub passed: Duration,
    pub actions: Vec<Action>,
    pub broken: Option<Broken>,
}

#[derive(Clone)]
pub struct World<M> {
    pub machine: M,
    pub setup: Rc<Setup>,
    pub now: Instant,
    pub left: Bounds,
    pub settings: Settings,
    pub started: bool,
    /// Processes that were not reaped, oldest first.
    pub processes: Vec<Process>,
    pub spawning: Option<GenerationNumber>,
    pub last: GenerationNumber,
    /// Requests without an answer, oldest first.
    pub requests: Vec<Request>,
    pub next_request: u64,
    pub published: Option<Vec<RunningWorker>>,
    pub ever_served: bool,
    pub stop_asked: bool,
    pub over: bool,
    /// A generation that this machine spawned has proved itself.
    pub ever_ready: bool,
    /// The machine says that the program cannot be started.
    pub cannot_start: bool,
    /// A signal, or a client that has gone, asked for a restart when this was the last generation, and there was none
    /// since.
    pub owed_to_nobody: Option<GenerationNumber>,
    /// The machine went on where the bounds end.
    pub beyond: bool,
}

/// The clock starts here, far from every other number in a machine: see [`Digest`].
const BEGINNING: Duration = Duration::from_nanos(1 << 62);
const MOMENT: Duration = Duration::from_millis(400);
const EXTENSION: Duration = Duration::from_secs(4);

impl<M: Machine> World<M> {
    pub fn new(setup: &Rc<Setup>, mut machine: M) -> Self {
        let now = Instant::at(BEGINNING);
        let mut processes = Vec::new();
        for (place, &generation) in setup.orphans.iter().enumerate() {
            let generation = GenerationNumber(generation);
            let pid = Pid(50 + place as i32);
            machine.handle(now, Event::Adopted { generation, pid });
            processes.push(Process {
                executed: true,
                proved: Some((now, Duration::ZERO)),
                ..Process::new(generation, pid, now)
            });
        }
        Self {
            machine,
            now,
            left: setup.bounds,
            settings: setup.settings[0].clone(),
            started: false,
            spawning: None,
            last: GenerationNumber(setup.orphans.iter().copied().max().unwrap_or(0)),
            requests: Vec::new(),
            next_request: 1,
            published: None,
            ever_served: !processes.is_empty(),
            processes,
            stop_asked: false,
            over: false,
            ever_ready: false,
            cannot_start: false,
            owed_to_nobody: None,
            beyond: false,
            setup: Rc::clone(setup),
        }
    }

    /// Everything that may happen now.
    pub fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        let left = &self.left;
        let mut may = |step, possible: bool| {
            if possible {
                steps.push(step);
            }
        };
        let calm = self.spawning.is_none() || left.slow_spawns > 0;
        let until = if self.next_request % 2 == 1 { Until::Commit } else { Until::Drained };
        may(Step::Start, !self.started && !self.over && self.spawning.is_none());
        may(Step::Spawned, self.spawning.is_some());
        may(Step::SpawnFailed, self.spawning.is_some() && left.spawn_failures > 0);
        if !calm {
            return steps;
        }
        may(Step::Hup, left.hups > 0 && self.started);
        may(Step::Restart(until), left.restarts > 0);
        let early = self.started || !self.processes.is_empty();
        for stop in [Step::Terminate, Step::Interrupt, Step::ClientStop] {
            may(stop, left.stops > 0 && early && !self.over);
        }
        may(Step::ClientStop, left.stops > 0 && self.over);
        may(Step::Kill, left.kills > 0 && early && !self.over);
        for (request, _) in self.requests.iter().enumerate() {
            may(Step::GiveUp { request }, left.give_ups > 0);
            may(Step::HangUp { request }, left.hang_ups > 0);
        }
        for (place, process) in self.processes.iter().enumerate() {
            let running = !process.executed && !process.exec_failed;
            may(Step::Executed { process: place }, running);
            may(Step::ExecFailed { process: place }, running && left.exec_failures > 0);
            let to_be_proved = matches!(self.setup.policy.readiness, Readiness::Proved { .. })
                && process.executed
                && self.is_starting(process)
                && !process.by_age;
            may(Step::Ready { process: place }, to_be_proved);
            may(Step::ReadinessUnknown { process: place }, to_be_proved && left.unknowns > 0);
            may(Step::ExtendReadiness { process: place }, to_be_proved && left.extensions > 0 && !process.extended);
            let goes = process.told || process.exec_failed;
            let status = if process.told { 15 } else { 256 };
            may(Step::Exits { process: place, status }, goes || left.exits > 0);
        }
        for (index, settings) in self.setup.settings.iter().enumerate() {
            may(Step::Settings { index }, left.settings > 0 && *settings != self.settings);
        }
        let deadline = self.machine.next_deadline();
        may(Step::Due, deadline.is_some());
        let moment = self.now.plus(MOMENT);
        may(Step::Pause, left.pauses > 0 && deadline.is_none_or(|at| moment < at));
        may(Step::Delay, left.delays > 0 && deadline.is_some_and(|at| at > self.now));
        steps
    }

    /// Lets a step happen that is possible now.
    pub fn happen(&mut self, step: Step) -> Turn {
        let before = self.now;
        if self.spawning.is_some() && !matches!(step, Step::Spawned | Step::SpawnFailed) {
            self.left.slow_spawns -= 1;
        }
        let event = self.event(step);
        let passed = self.now.since(before);
        let Some(event) = event else {
            return Turn { event: None, passed, actions: Vec::new(), broken: None };
        };
        let (mut actions, mut broken) = self.hear(&event);
        if let Event::Spawned { generation, .. } = event
            && !self.setup.slow_exec
        {
            self.processes.iter_mut().for_each(|process| process.executed = true);
            let (more, broken_then) = self.hear(&Event::Executed(generation));
            actions.extend(more);
            broken = broken.or(broken_then);
        }
        Turn { event: Some(event), passed, actions, broken }
    }

    fn hear(&mut self, event: &Event) -> (Vec<Action>, Option<Broken>) {
        let served_before = self.serving();
        let actions = self.machine.handle(self.now, event.clone());
        let broken = self.judge(event, &actions, served_before).err();
        (actions, broken)
    }

    /// Changes the world around the machine, and says what the machine hears of it.
    fn event(&mut self, step: Step) -> Option<Event> {
        let left = &mut self.left;
        let event = match step {
            Step::Start => {
                self.started = true;
                Event::Start
            }
            Step::Hup => {
                left.hups -= 1;
                self.owed_to_nobody = Some(self.last);
                Event::Restart(Requester::Signal)
            }
            Step::Restart(until) => {
                left.restarts -= 1;
                let request = self.ask(Wants::Restart { until, after: self.last });
                Event::Restart(Requester::Client { request, until })
            }
            Step::GiveUp { request } => {
                left.give_ups -= 1;
                let request = &mut self.requests[request];
                request.gave_up = true;
                Event::GiveUp(request.id)
            }
            Step::HangUp { request } => {
                left.hang_ups -= 1;
                let request = self.requests.remove(request);
                if let Wants::Restart { after, .. } = request.wants {
                    self.owed_to_nobody = self.owed_to_nobody.max(Some(after));
                }
                Event::HungUp(request.id)
            }
            Step::Terminate => {
                left.stops -= 1;
                self.stop_asked = true;
                Event::Stop(StopRequester::Terminate)
            }
            Step::Interrupt => {
                left.stops -= 1;
                self.stop_asked = true;
                Event::Stop(StopRequester::Interrupt)
            }
            Step::ClientStop => {
                left.stops -= 1;
                self.stop_asked = true;
                Event::Stop(StopRequester::Client(self.ask(Wants::Stop)))
            }
            Step::Kill => {
                left.kills -= 1;
                self.stop_asked = true;
                Event::Kill
            }
            Step::Spawned => {
                let generation = self.spawning.take()?;
                let pid = self.free_pid(generation);
                self.processes.push(Process::new(generation, pid, self.now));
                Event::Spawned { generation, pid }
            }
            Step::SpawnFailed => {
                left.spawn_failures -= 1;
                Event::SpawnFailed { generation: self.spawning.take()?, errno: 11 }
            }
            Step::Executed { process } => {
                self.processes[process].executed = true;
                Event::Executed(self.processes[process].generation)
            }
            Step::ExecFailed { process } => {
                left.exec_failures -= 1;
                self.processes[process].exec_failed = true;
                let generation = self.processes[process].generation;
                Event::ExecFailed { generation, stage: SpawnStage::Exec, errno: 2 }
            }
            Step::Ready { process } => {
                let process = &mut self.processes[process];
                process.proved = Some((self.now, self.settings.kill_old_delay));
                Event::Ready { generation: process.generation, by: ReadyBy::Notify }
            }
            Step::ReadinessUnknown { process } => {
                left.unknowns -= 1;
                self.processes[process].by_age = true;
                Event::ReadinessUnknown(self.processes[process].generation)
            }
            Step::ExtendReadiness { process } => {
                left.extensions -= 1;
                self.processes[process].extended = true;
                let generation = self.processes[process].generation;
                Event::ExtendReadiness { generation, by: EXTENSION }
            }
            Step::Exits { process, status } => {
                let process = self.processes.remove(process);
                if !process.told && !process.exec_failed {
                    left.exits -= 1;
                }
                Event::Exited { pid: process.pid, status: ExitStatus(status) }
            }
            Step::Settings { index } => {
                left.settings -= 1;
                self.settings = self.setup.settings[index].clone();
                Event::Settings(self.settings.clone())
            }
            Step::Due => {
                self.now = self.machine.next_deadline()?.max(self.now);
                Event::Tick
            }
            Step::Pause => {
                left.pauses -= 1;
                self.now = self.now.plus(MOMENT);
                return None;
            }
            Step::Delay => {
                left.delays -= 1;
                self.now = self.machine.next_deadline()?.plus(MOMENT);
                return None;
            }
        };
        Some(event)
    }

    fn ask(&mut self, wants: Wants) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.requests.push(Request { id, wants, gave_up: false });
        id
    }

    fn free_pid(&self, generation: GenerationNumber) -> Pid {
        if !self.setup.reuses_pids {
            return Pid(100 + generation.0 as i32);
        }
        let taken = |pid: &Pid| self.processes.iter().any(|process| process.pid == *pid);
        (101..).map(Pid).find(|pid| !taken(pid)).unwrap()
    }

    /// Whether a process has proved that it serves, as far as anybody can know.
    pub fn is_proved(&self, process: &Process) -> bool {
        let by_age = process.by_age || self.setup.policy.readiness == Readiness::Alive;
        let age = self.now.since(process.spawned_at);
        process.proved.is_some() || by_age && process.executed && !process.told && age >= self.setup.policy.interval
    }

    /// The last generation of the orphans.
    pub fn orphaned(&self) -> u32 {
        self.setup.orphans.iter().copied().max().unwrap_or(0)
    }

    pub fn is_starting(&self, process: &Process) -> bool {
        !process.told && !self.is_proved(process)
    }

    /// The processes that have proved themselves and were not told to go.
    pub fn serving(&self) -> Vec<Pid> {
        let serves = |process: &&Process| !process.told && self.is_proved(process);
        self.processes.iter().filter(serves).map(|process| process.pid).collect()
    }

    /// The whole world as one number; the same number at another time means that the same may
    /// follow. It has 64 bits: among a million worlds two different ones are taken for the same
    /// with a chance of one in thirty million.
    pub fn digest(&self) -> u64 {
        let mut digest = Digest { now: self.now.since_start().as_nanos() as u64, sum: 0 };
        self.machine.hash(&mut digest);
        (&self.left, &self.settings, self.started, &self.processes).hash(&mut digest);
        (self.spawning, self.last, &self.requests, self.next_request).hash(&mut digest);
        (&self.published, self.ever_served, self.stop_asked, self.over).hash(&mut digest);
        (self.ever_ready, self.cannot_start, self.owed_to_nobody).hash(&mut digest);
        digest.finish()
    }
}

impl Process {
    fn new(generation: GenerationNumber, pid: Pid, spawned_at: Instant) -> Self {
        Self {
            generation,
            pid,
            spawned_at,
            executed: false,
            exec_failed: false,
            by_age: false,
            extended: false,
            proved: None,
            told: false,
            retired: false,
            killed: false,
        }
    }

    /// Takes note of a signal.
    pub fn hear(&mut self, order: Order) {
        self.told = true;
        self.retired |= order == Order::Retire;
        self.killed |= order == Order::Kill;
    }
}

/// A hash in which instants count from now: the clock starts so late that every number as large is
/// an instant. Two worlds that differ only in the time of day are the same.
struct Digest {
    now: u64,
    sum: u64,
}

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(n.into());
    }

    fn write_u16(&mut self, n: u16) {
        self.write_u64(n.into());
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(n.into());
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn write_isize(&mut self, n: isize) {
        self.write_u64(n as u32 as u64);
    }

    fn write_i32(&mut self, n: i32) {
        self.write_u64(n as u32 as u64);
    }

    fn write_u64(&mut self, n: u64) {
        let n = if n >= 1 << 61 { n.wrapping_sub(self.now) ^ (1 << 63) } else { n };
        self.sum = (self.sum.rotate_left(23) ^ n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.sum ^= self.sum >> 29;
    }

    fn finish(&self) -> u64 {
        self.sum
    }
}
