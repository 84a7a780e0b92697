//! Everything that can happen to a superdaemon. The program's event loop makes these.

use std::time::Duration;

use crate::policy::Settings;
use crate::process::{ExitStatus, GenerationNumber, Pid, RequestId};
use crate::report::{ReadyBy, SpawnStage};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// All is set up: run the first generation.
    Start,
    /// Workers of a superdaemon that has died go on serving on our listeners; they are to be
    /// replaced like an old generation. Comes before [`Event::Start`].
    Adopted {
        /// The number that their superdaemon gave them.
        generation: GenerationNumber,
        /// The orphan.
        pid: Pid,
    },
    /// Replace the program.
    Restart(Requester),
    /// End all workers and then the superdaemon. Asked for again by a signal, it hastens the end.
    Stop(StopRequester),
    /// End everything now.
    Kill,
    /// Whoever made this request will not wait any longer.
    GiveUp(RequestId),
    /// Whoever made this request has gone without a word: there is nobody to answer any more. What was asked for goes on,
    /// since hanging up is not giving up.
    HungUp(RequestId),
    /// [`crate::Action::Spawn`] made a process.
    Spawned {
        /// The generation that was to be spawned.
        generation: GenerationNumber,
        /// Its worker.
        pid: Pid,
    },
    /// [`crate::Action::Spawn`] could not make a process.
    SpawnFailed {
        /// The generation that was to be spawned.
        generation: GenerationNumber,
        /// Why, as errno(3).
        errno: i32,
    },
    /// The worker's process now runs the program.
    Executed(GenerationNumber),
    /// The worker's process could not run the program; its exit follows.
    ExecFailed {
        /// Whose worker.
        generation: GenerationNumber,
        /// What it was doing.
        stage: SpawnStage,
        /// Why, as errno(3).
        errno: i32,
    },
    /// The generation has proved that it serves.
    Ready {
        /// Which.
        generation: GenerationNumber,
        /// What the proof was.
        by: ReadyBy,
    },
    /// Nothing can be learned about the generation's readiness on this machine: being alive must
    /// do.
    ReadinessUnknown(GenerationNumber),
    /// The generation asks for more time to become ready.
    ExtendReadiness {
        /// Which.
        generation: GenerationNumber,
        /// From now.
        by: Duration,
    },
    /// A process has ended and was reaped.
    Exited {
        /// Which; it may be none of ours.
        pid: Pid,
        /// How.
        status: ExitStatus,
    },
    /// The settings may have changed.
    Settings(Settings),
    /// Nothing but time has passed: [`crate::Supervisor::next_deadline`] has come.
    Tick,
}

/// Who wants a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Requester {
    /// A signal, to which nobody can be answered.
    Signal,
    /// The superdaemon itself, which has seen that who serves cannot go on doing so.
    Superdaemon,
    /// A client that waits for the outcome.
    Client {
        /// Its request.
        request: RequestId,
        /// What it waits for.
        until: Until,
    },
}

/// What somebody who asked for a restart waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Until {
    /// The new generation has become current.
    Commit,
    /// And every older one has gone.
    Drained,
}

/// Who wants the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopRequester {
    /// SIGTERM: workers get the signal chosen for it.
    Terminate,
    /// SIGINT: workers always get SIGTERM.
    Interrupt,
    /// A client that waits for the end; workers get the signal chosen for SIGTERM.
    Client(RequestId),
}
