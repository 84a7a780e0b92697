//! The facts that a person should hear, typed. The program puts them into the words that
//! Server::Starter's users know, into records and into the answers of its verbs.

use std::time::Duration;

use crate::event::{Requester, StopRequester};
use crate::process::{ExitStatus, GenerationNumber, Pid};

/// A fact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// A worker was spawned.
    Spawned {
        /// Its generation.
        generation: GenerationNumber,
        /// The worker.
        pid: Pid,
    },
    /// The process for a worker could not be made.
    SpawnFailed {
        /// Its generation.
        generation: GenerationNumber,
        /// errno(3).
        errno: i32,
        /// What follows.
        next: Next,
    },
    /// A worker's process could not run the program; that it failed to start is reported when it
    /// has exited.
    ExecFailed {
        /// Its generation.
        generation: GenerationNumber,
        /// What it was doing.
        stage: SpawnStage,
        /// errno(3).
        errno: i32,
    },
    /// A new generation failed before it was ready.
    StartFailed {
        /// Which and why.
        failure: Failure,
        /// How many attempts were made so far.
        attempts: u32,
        /// What follows.
        next: Next,
    },
    /// A new generation was ready but died before the commit.
    DiedBeforeCommit {
        /// Which and why.
        failure: Failure,
        /// How many attempts were made so far.
        attempts: u32,
        /// What follows.
        next: Next,
    },
    /// A generation was not ready in time, or nobody waits for it any more; it is being ended.
    AttemptAbandoned {
        /// Which.
        generation: GenerationNumber,
        /// Its worker.
        pid: Pid,
        /// Why.
        reason: AbandonReason,
    },
    /// Being alive must do as proof of readiness.
    ReadinessUnknown {
        /// Which.
        generation: GenerationNumber,
    },
    /// A generation is ready.
    Ready {
        /// Which.
        generation: GenerationNumber,
        /// Its worker.
        pid: Pid,
        /// The proof.
        by: ReadyBy,
        /// Since the spawn.
        took: Duration,
    },
    /// Somebody asked for a restart, and it begins.
    RestartBegins(Requester),
    /// Somebody asked for a restart while a generation is starting: one more restart will follow.
    RestartQueued {
        /// The one that is starting.
        starting: GenerationNumber,
    },
    /// A restart is due by the clock.
    AutoRestart {
        /// The interval in force.
        interval: Duration,
        /// Whether old generations are still there.
        forced: bool,
    },
    /// The new generation is ready; these workers will be told to go.
    Replacing {
        /// The old workers, by PID.
        old: Vec<Pid>,
    },
    /// Both generations serve for so long.
    KillOldDelay(Duration),
    /// The commit: the old workers are told to go now.
    RetiringOld,
    /// An old worker has gone.
    OldExited {
        /// Its generation.
        generation: GenerationNumber,
        /// The worker.
        pid: Pid,
        /// How.
        status: ExitStatus,
        /// It was still the current one, and its successor is not ready yet.
        nobody_serves: bool,
    },
    /// The current worker died, and no successor was under way.
    CurrentDied {
        /// Its generation.
        generation: GenerationNumber,
        /// The worker.
        pid: Pid,
        /// How.
        status: ExitStatus,
        /// When the next one is spawned, from now.
        respawn_in: Duration,
    },
    /// An old generation took longer than the drain timeout and is killed.
    DrainTimedOut {
        /// Which.
        generation: GenerationNumber,
        /// Its worker.
        pid: Pid,
        /// The drain timeout.
        after: Duration,
    },
    /// Too many old generations: the oldest is killed.
    TooManyOld {
        /// Which.
        generation: GenerationNumber,
        /// Its worker.
        pid: Pid,
        /// How many may stay.
        limit: u32,
    },
    /// An abandoned worker does not go and is killed.
    AbandonedKilled {
        /// Which.
        generation: GenerationNumber,
        /// Its worker.
        pid: Pid,
    },
    /// A restart was given up; who served goes on serving.
    GaveUp {
        /// The last attempt.
        failure: Option<Failure>,
        /// How many attempts were made.
        attempts: u32,
        /// Who serves.
        kept: Option<GenerationNumber>,
    },
    /// The program could not be started at all.
    CannotStart {
        /// How many attempts were made.
        attempts: u32,
    },
    /// SIGTERM came: nothing is spawned any more, and after this time the end begins.
    StopDelayed {
        /// Until those that serve are told.
        delay: Duration,
        /// Those that do not serve and so are told now, by PID.
        told: Vec<Pid>,
    },
    /// The end begins.
    Stopping {
        /// Who asked.
        by: StopRequester,
        /// All workers, by PID.
        workers: Vec<Pid>,
    },
    /// Somebody asked again: workers get SIGTERM and little time.
    StopHastened {
        /// All workers, by PID.
        workers: Vec<Pid>,
        /// Until they are killed.
        grace: Duration,
    },
    /// All workers are killed.
    KillingAll {
        /// All workers, by PID.
        workers: Vec<Pid>,
        /// Why.
        reason: KillReason,
    },
    /// A worker has gone in the course of the end.
    WorkerExited {
        /// The worker.
        pid: Pid,
        /// How.
        status: ExitStatus,
    },
    /// The last worker has gone.
    Exiting,
}

/// A generation that failed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    /// Which.
    pub generation: GenerationNumber,
    /// Its worker; none if there never was a process.
    pub pid: Option<Pid>,
    /// What happened.
    pub kind: FailureKind,
}

/// What a generation failed of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// No process could be made.
    Spawn {
        /// errno(3).
        errno: i32,
    },
    /// The process could not run the program.
    Exec {
        /// What it was doing.
        stage: SpawnStage,
        /// errno(3).
        errno: i32,
        /// How the process exited for it.
        status: ExitStatus,
    },
    /// It exited before it was ready.
    Exited(ExitStatus),
    /// It was ready, but exited within the kill-old delay.
    ExitedBeforeCommit(ExitStatus),
    /// It was ended before it was ready.
    Abandoned {
        /// Why.
        reason: AbandonReason,
        /// How it exited then.
        status: ExitStatus,
    },
}

/// Why an attempt was ended by the superdaemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum AbandonReason {
    /// It was not ready within this time of its spawn.
    NotReadyWithin(Duration),
    /// Whoever asked for it would not wait any longer.
    RequesterGaveUp,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// Another attempt after this time; `serving` goes on meanwhile.
    Retry {
        /// From now.
        after: Duration,
        /// Who serves meanwhile.
        serving: Option<GenerationNumber>,
    },
    /// Nothing: the restart is given up.
    GiveUp,
}

/// What proved a generation ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum ReadyBy {
    /// It lived for an interval.
    Alive,
    /// It said so on the notify socket.
    Notify,
    /// It waits for connections on a listener.
    Accept,
    /// The check command said so.
    Command,
}

/// What a new process does between fork and exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum SpawnStage {
    /// Entering a process group of its own.
    ProcessGroup,
    /// Changing to the working directory.
    Directory,
    /// Arranging the descriptors.
    Descriptors,
    /// Resetting the signals.
    Signals,
    /// Executing the program.
    Exec,
    /// Setting the resource limits.
    Limits,
    /// Setting the supplementary groups.
    Groups,
    /// Changing the group.
    Group,
    /// Changing the user.
    User,
    /// Giving up new privileges for good.
    NoNewPrivileges,
}

/// Why all workers are killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum KillReason {
    /// SIGQUIT, or the third request to stop.
    Asked,
    /// They took longer than this.
    TimedOut(Duration),
}
