//! A picture of the superdaemon at this moment, for whoever asks on the control socket.

use std::time::Duration;

use control::{Generation, Role, Status};
use supervisor::report::ReadyBy;
use supervisor::{GenerationState, Role as State};

use super::{EventLoop, ReadyRule, now};
use crate::listener_guard::SharedSocket;
use crate::listeners::Listener;

impl EventLoop {
    pub(super) fn status(&self) -> Status {
        let now = now();
        let config = &self.parts.config;
        let program = &config.program;
        Status {
            program_version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: rustix::process::getpid().as_raw_pid(),
            running_for_ms: milliseconds(now.since(self.tally.since)),
            control_socket: self.parts.control.as_ref().map(|control| control.path().to_string_lossy().into_owned()),
            command: std::iter::once(&program.name)
                .chain(&program.arguments)
                .map(|word| word.to_string_lossy().into_owned())
                .collect(),
            ready_rule: match config.ready {
                ReadyRule::Alive => "alive",
                ReadyRule::Notify => "notify",
                ReadyRule::Accept => "accept",
                ReadyRule::Exec(_) => "exec",
            }
            .to_owned(),
            current: self.supervisor.current().map(|generation| generation.0),
            stopping: self.supervisor.is_stopping(),
            restarts: self.tally.restarts,
            failures: self.tally.failures,
            upgrades: self.tally.upgrades,
            crashes: self.tally.crashes,
            last_failure: self.tally.last_failure.as_ref().map(|(text, _)| text.clone()),
            last_failure_ago_ms: self.tally.last_failure.as_ref().map(|(_, at)| milliseconds(now.since(*at))),
            generations: self.supervisor.generations().iter().map(|state| self.generation(state)).collect(),
            listeners: self.parts.listeners.all().iter().map(listener).collect(),
        }
    }

    fn generation(&self, state: &GenerationState) -> Generation {
        let now = now();
        let notes = self.notes.get(&state.number);
        Generation {
            generation: state.number.0,
            pids: state.workers.iter().map(|pid| pid.0).collect(),
            role: match state.role {
                State::Starting => Role::Starting,
                State::Soaking => Role::Soaking,
                State::Current => Role::Current,
                State::Waiting => Role::Waiting,
                State::Draining => Role::Draining,
                State::Ending => Role::Ending,
                State::Stopping => Role::Stopping,
            },
            spawned_ago_ms: milliseconds(now.since(state.spawned_at)),
            ready_ago_ms: state.ready_at.map(|ready| milliseconds(now.since(ready))),
            ready_by: notes.and_then(|notes| notes.ready_by).map(|by| {
                match by {
                    ReadyBy::Alive => "alive",
                    ReadyBy::Notify => "notify",
                    ReadyBy::Accept => "accept",
                    ReadyBy::Command => "exec",
                }
                .to_owned()
            }),
            status: notes.and_then(|notes| notes.says.clone()),
            killed_in_ms: state.kill_at.map(|at| milliseconds(at.since(now))),
        }
    }
}

fn listener(listener: &Listener) -> control::Listener {
    let queue = SharedSocket::of(listener).queue();
    control::Listener {
        name: listener.name().into_owned(),
        kind: listener.kind().to_string(),
        address: listener.address().to_string(),
        fd: listener.number(),
        queued: queue.map(|queue| queue.waiting),
        backlog: queue.map(|queue| queue.backlog),
    }
}

fn milliseconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
