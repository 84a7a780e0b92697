//! One generation: its number, its workers, and how far it has come. Owned by the supervisor.

use crate::action::RunningWorker;
use crate::process::{GenerationNumber, Pid};
use crate::time::Instant;

/// A generation is the set of its workers; when the last of them has gone, so has it. Today it has
/// one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(crate) struct Generation {
    pub number: GenerationNumber,
    pub workers: Vec<Pid>,
    pub spawned_at: Instant,
    /// When it proved that it serves.
    pub ready_at: Option<Instant>,
    /// Whether it was told to go.
    pub told: bool,
    /// When it is killed if it has not gone.
    pub kill_at: Option<Instant>,
    /// Whether it was killed already; it is only waited for.
    pub killed: bool,
}

impl Generation {
    pub fn new(number: GenerationNumber, pid: Pid, spawned_at: Instant) -> Self {
        Self { number, workers: vec![pid], spawned_at, ready_at: None, told: false, kill_at: None, killed: false }
    }

    pub fn has(&self, pid: Pid) -> bool {
        self.workers.contains(&pid)
    }

    /// The worker to name when only one can be named.
    pub fn leader(&self) -> Option<Pid> {
        self.workers.first().copied()
    }

    pub fn running(&self) -> impl Iterator<Item = RunningWorker> + '_ {
        self.workers.iter().map(|&pid| RunningWorker { generation: self.number, pid })
    }
}

/// The PIDs of all workers of these generations, in numeric order.
pub(crate) fn pids<'a>(generations: impl IntoIterator<Item = &'a Generation>) -> Vec<Pid> {
    let mut pids: Vec<Pid> =
        generations.into_iter().flat_map(|generation| generation.workers.iter().copied()).collect();
    pids.sort_unstable();
    pids
}
