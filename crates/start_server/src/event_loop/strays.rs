//! Processes that a worker has left behind: it has gone, they have not. A wrapper like `sh -c 'server; cleanup'` does
//! that when it dies of a signal that the server ignores. Where there is a deadline for the worker it holds for them
//! too; where there is none they are left alone, as ever.

use std::thread;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{WaitOptions, wait};
use supervisor::{GenerationNumber, Instant, Pid};
use sys::process_tree;
use sys::signal::Signal;

use super::{EventLoop, MOST_REAPED, MOST_SIGNALS, now};
use crate::handover::state;
use crate::messages::plural;

/// How often the last processes are looked for when nobody reports their end.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a worker may have left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Strays {
    generation: GenerationNumber,
    /// The worker, which led their process group.
    leader: Pid,
    kill_at: Instant,
}

impl Strays {
    pub(super) fn state(&self) -> state::Strays {
        state::Strays { generation: self.generation, leader: self.leader, kill_at: self.kill_at }
    }

    pub(super) fn resume(strays: state::Strays) -> Self {
        Self { generation: strays.generation, leader: strays.leader, kill_at: strays.kill_at }
    }
}

impl EventLoop {
    /// Remembers, before the supervisor forgets a worker, until when its strays may stay.
    pub(super) fn expect_strays(&mut self, pid: Pid) {
        let deadline = self
            .supervisor
            .generations()
            .into_iter()
            .find(|state| state.workers.contains(&pid))
            .and_then(|state| Some((state.number, state.kill_at?)));
        if let Some((generation, kill_at)) = deadline {
            self.strays.push(Strays { generation, leader: pid, kill_at });
        }
    }

    pub(super) fn next_strays_deadline(&self) -> Option<Instant> {
        self.strays.iter().map(|strays| strays.kill_at).min()
    }

    /// Ends the strays whose time has come.
    pub(super) fn end_strays(&mut self, now: Instant) {
        let (due, rest) = self.strays.iter().partition::<Vec<_>, _>(|strays| strays.kill_at <= now);
        self.strays = rest;
        for Strays { generation, leader, .. } in due {
            // The worker was reaped, so its PID may be another worker's by now. Then its group was empty; no process has
            // the PID 0, so that only those are meant that left the group.
            let taken = self.supervisor.generations().iter().any(|state| state.workers.contains(&leader));
            let group = if taken { Pid(0) } else { leader };
            let line = match self.kill_family(group, Some(generation)) {
                Ok(0) => continue,
                Ok(count) => format!(
                    "generation {generation} (pid {leader}) has gone and left {} behind; the drain timeout is over, all \
                     of that was killed",
                    plural(count, "process", "processes")
                ),
                Err(error) => {
                    format!("what generation {generation} (pid {leader}) has left behind could not be killed: {error}")
                }
            };
            self.tell(&line);
        }
    }

    /// After the last worker has gone: waits for what it may have left behind, as long as the stop timeout allows, and
    /// ends what is there then. Without a stop timeout there is nothing to wait for.
    pub(super) fn wait_for_strays(&mut self) {
        let (Some(since), Some(limit)) = (self.stopping_since, self.parts.config.stop_timeout) else { return };
        let deadline = since.plus(limit);
        while self.has_children() {
            let impatient = std::iter::from_fn(|| self.parts.signals.next().ok().flatten())
                .take(MOST_SIGNALS)
                .any(|received| matches!(received.signal, Signal::TERM | Signal::INT | Signal::QUIT));
            if impatient || now() >= deadline {
                if let Ok(count @ 1..) = self.kill_children() {
                    let left = plural(count, "process", "processes");
                    self.tell(&format!("the workers have gone and left {left} behind; all of that was killed"));
                }
                return;
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Reaps, and says whether anybody but our own helpers is left.
    fn has_children(&mut self) -> bool {
        // Whoever makes them faster than that has children all the more.
        for _ in 0..MOST_REAPED {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, _))) => drop(self.apart.reaped(pid.as_raw_pid())),
                Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(_) => return false,
            }
        }
        let us = rustix::process::getpid().as_raw_pid();
        process_tree::descendants(us).into_iter().any(|pid| !self.is_no_stray(pid))
    }

    fn kill_children(&self) -> std::io::Result<usize> {
        let us = rustix::process::getpid().as_raw_pid();
        // No process has the PID 0: only those that are named by the closure are meant.
        process_tree::kill_family(0, |process| process.parent == us && !self.is_no_stray(process.pid))
    }

    /// Our own helpers are nobody's strays.
    fn is_no_stray(&self, pid: i32) -> bool {
        self.apart.has(pid) || self.belongs_to_log_command(pid)
    }

    fn belongs_to_log_command(&self, pid: i32) -> bool {
        let Some(log_command) = self.parts.log_command.as_ref().and_then(|command| command.pid()) else {
            return false;
        };
        pid == log_command || process_tree::is_descendant(pid, log_command)
    }
}
