//! Tells what happened, in numbered lines that a person can follow.

use std::fmt::Write;
use std::rc::Rc;

use super::invariants::Broken;
use super::machine::Machine;
use super::setup::Setup;
use super::world::{Step, Turn, World};
use crate::{Action, Event, Pid, Report, Requester, StopRequester};

/// The way to a broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    pub steps: Vec<Step>,
    pub broken: Broken,
    /// The event that the machine should not have heard, if it is about that.
    pub nonsense: Option<Event>,
}

impl Story {
    /// The story, told by letting it happen once more.
    pub fn tell<M: Machine>(&self, setup: &Rc<Setup>, machine: &M) -> String {
        let mut world = World::new(setup, machine.clone());
        let mut text = format!("{}:\n", setup.name);
        for (place, step) in self.steps.iter().enumerate() {
            let turn = world.happen(*step);
            tell_turn(&mut text, place + 1, *step, &turn, &world).unwrap();
        }
        if let Some(event) = &self.nonsense {
            let number = self.steps.len() + 1;
            writeln!(text, "{number:>4}.          {event:?}").unwrap();
        }
        let Broken { invariant, how } = self.broken;
        writeln!(text, "      BROKEN: {invariant:?}: {how}").unwrap();
        text
    }
}

fn tell_turn<M: Machine>(
    text: &mut String,
    number: usize,
    step: Step,
    turn: &Turn,
    world: &World<M>,
) -> std::fmt::Result {
    let name = |pid: Pid| {
        let process = world.processes.iter().find(|process| process.pid == pid);
        match process {
            Some(process) => format!("generation {} (pid {pid})", process.generation),
            None => format!("the process that was pid {pid}"),
        }
    };
    let seconds = turn.passed.as_secs_f64();
    let event = match &turn.event {
        None => format!("a moment passes ({step:?})"),
        Some(Event::Start) => "the superdaemon starts".into(),
        Some(Event::Tick) => "the deadline comes".into(),
        Some(Event::Restart(Requester::Signal)) => "HUP".into(),
        Some(Event::Restart(Requester::Superdaemon)) => "the superdaemon wants a restart".into(),
        Some(Event::Restart(Requester::Client { request, until })) => {
            format!("request {}: restart, wait for {until:?}", request.0)
        }
        Some(Event::HungUp(request)) => format!("whoever made request {} hangs up", request.0),
        Some(Event::GiveUp(request)) => format!("request {} is given up", request.0),
        Some(Event::Stop(StopRequester::Terminate)) => "TERM".into(),
        Some(Event::Stop(StopRequester::Interrupt)) => "INT".into(),
        Some(Event::Stop(StopRequester::Client(request))) => format!("request {}: stop", request.0),
        Some(Event::Kill) => "QUIT".into(),
        Some(Event::Spawned { generation, pid }) => {
            format!("generation {generation} is spawned, pid {pid}")
        }
        Some(Event::SpawnFailed { generation, .. }) => {
            format!("generation {generation} cannot be spawned")
        }
        Some(Event::Executed(generation)) => format!("generation {generation} runs the program"),
        Some(Event::ExecFailed { generation, .. }) => {
            format!("generation {generation} cannot run the program")
        }
        Some(Event::Ready { generation, .. }) => format!("generation {generation} says it is ready"),
        Some(Event::Exited { pid, status }) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("pid {pid} exits with status {code}"),
            (_, signal) => format!("pid {pid} ends by signal {}", signal.unwrap_or_default()),
        },
        Some(event) => format!("{event:?}"),
    };
    writeln!(text, "{number:>4}. +{seconds:.1} s  {event}")?;
    for action in &turn.actions {
        let line = match action {
            Action::Spawn(generation) => format!("→ spawn generation {generation}"),
            Action::Signal { pid, order } => format!("→ tell {}: {order:?}", name(*pid)),
            Action::Publish(workers) => {
                let lines: Vec<String> =
                    workers.iter().map(|line| format!("{}:{}", line.generation, line.pid)).collect();
                format!("→ publish [{}]", lines.join(" "))
            }
            Action::Answer(request, outcome) => format!("→ answer {}: {outcome:?}", request.0),
            Action::Exit { as_asked: true } => "→ exit".into(),
            Action::Exit { as_asked: false } => "→ exit: it cannot be started".into(),
            Action::Report(Report::Spawned { .. }) => continue,
            Action::Report(report) => format!("says {report:?}"),
        };
        writeln!(text, "                   {line}")?;
    }
    Ok(())
}
