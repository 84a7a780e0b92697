//! The way to a new generation as far as it has come, as data. The other files of the running phase take it on from
//! step to step.

use std::time::Duration;

use super::demand::Demand;
use crate::generation::Generation;
use crate::process::{GenerationNumber, Pid};
use crate::report::{AbandonReason, SpawnStage};
use crate::time::Instant;

/// The way to a new generation, over as many tries as it takes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Attempt {
    /// Whether the old ones are told to go at the end: not if the new one only fills a gap.
    pub(super) replaces: bool,
    pub(super) tries: u32,
    pub(super) demand: Demand,
    pub(super) step: Step,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub(super) enum Step {
    /// The process was asked for.
    Spawning(GenerationNumber),
    /// It runs and has not proved itself.
    Starting(Starting),
    /// It is ready; the kill-old delay runs.
    Soaking { candidate: Generation, commit_at: Instant },
    /// It failed but still runs.
    Ending { candidate: Generation, reason: AbandonReason },
    /// It has failed; the next try comes.
    Waiting { retry_at: Instant },
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Starting {
    pub(super) candidate: Generation,
    /// The worker's process runs the program; before that, being alive means nothing.
    pub(super) executed: bool,
    pub(super) exec_error: Option<(SpawnStage, i32)>,
    pub(super) proof: Proof,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub(super) enum Proof {
    /// Be alive then.
    AliveAt(Instant),
    /// Be proved ready before then.
    ProvedBy { deadline: Instant, timeout: Duration },
}

impl Attempt {
    pub(super) fn candidate(&self) -> Option<&Generation> {
        match &self.step {
            Step::Starting(Starting { candidate, .. })
            | Step::Soaking { candidate, .. }
            | Step::Ending { candidate, .. } => Some(candidate),
            Step::Spawning(_) | Step::Waiting { .. } => None,
        }
    }

    pub(super) fn candidate_number(&self) -> Option<GenerationNumber> {
        match self.step {
            Step::Spawning(number) => Some(number),
            _ => self.candidate().map(|candidate| candidate.number),
        }
    }

    pub(super) fn has(&self, pid: Pid) -> bool {
        self.candidate().is_some_and(|candidate| candidate.has(pid))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.step {
            Step::Spawning(_) => None,
            Step::Starting(Starting { proof: Proof::AliveAt(at), executed, .. }) => executed.then_some(*at),
            Step::Starting(Starting { proof: Proof::ProvedBy { deadline, .. }, .. }) => Some(*deadline),
            Step::Soaking { commit_at, .. } => Some(*commit_at),
            Step::Ending { candidate, .. } => candidate.kill_at,
            Step::Waiting { retry_at } => Some(*retry_at),
        }
    }
}
