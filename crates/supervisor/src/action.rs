//! Everything that a supervisor can ask the program to do, in the order in which it is to be done.

use crate::process::{GenerationNumber, Pid, RequestId};
use crate::report::{Failure, Report};

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Run the program once more. [`crate::Event::Spawned`] or [`crate::Event::SpawnFailed`] must
    /// follow.
    Spawn(GenerationNumber),
    /// Send a signal to a worker that has not been reaped.
    Signal {
        /// Whom.
        pid: Pid,
        /// What it is to do.
        order: Order,
    },
    /// Let the world know which workers there are: those that have been ready and live, in the
    /// order of their generations.
    Publish(Vec<RunningWorker>),
    /// Tell a person.
    Report(Report),
    /// Answer a request; each gets exactly one answer, unless its requester has hung up.
    Answer(RequestId, Outcome),
    /// The superdaemon is done; nothing follows.
    Exit {
        /// Whether it ends as somebody asked, not because it could not start.
        as_asked: bool,
    },
}

/// What a worker is told. The program knows which signal means it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Order {
    /// A newer generation serves: finish and go (`--signal-on-hup`).
    Retire,
    /// The superdaemon ends: finish and go (`--signal-on-term`).
    Stop,
    /// SIGTERM, whatever the options say.
    Terminate,
    /// SIGKILL, for the worker, its process group and whatever else descends from it.
    Kill,
}

/// A line of the published status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunningWorker {
    /// Whose worker.
    pub generation: GenerationNumber,
    /// The worker.
    pub pid: Pid,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This generation is current (and, if that was asked for, alone).
    Restarted {
        /// The number of the new generation.
        generation: GenerationNumber,
    },
    /// The restart was given up; the generation named in `kept` goes on.
    RestartFailed {
        /// The last generation that was tried and why it failed; none if it was never spawned.
        failure: Option<Failure>,
        /// How often it was tried.
        attempts: u32,
        /// Who serves.
        kept: Option<GenerationNumber>,
    },
    /// The requester did not want to wait any longer.
    TimedOut {
        /// The generation that is current all the same: the commit came in time, only the old ones
        /// still drain.
        committed: Option<GenerationNumber>,
        /// Who serves.
        serving: Option<GenerationNumber>,
        /// What was asked for will not be done. If false, it goes on: it is done already, somebody else wants it too,
        /// or nobody would serve without it.
        abandoned: bool,
    },
    /// The superdaemon is ending: no restart any more.
    Stopping,
    /// Everything has ended, as asked.
    Stopped,
}
