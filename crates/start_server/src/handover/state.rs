//! The format of the state, as a JSON document: what one image of the program tells the next. `docs/state.md` describes
//! the rules for changing it.
//!
//! Instants are nanoseconds of CLOCK_MONOTONIC, which goes on as long as the machine runs. Every member that was added
//! after format 1 has a default for documents without it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use supervisor::report::ReadyBy;
use supervisor::{GenerationNumber, Instant, Memory, Pid, RequestId};

use super::descriptor::Descriptor;
pub use super::text::Text;
use crate::file_identity::FileIdentity;

/// The format that this program writes.
pub const FORMAT: u32 = 1;

/// The oldest format that a program must know to make use of what this one writes.
pub const NEEDS: u32 = 1;

/// Everything that a superdaemon knows.
#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    /// The format of the document.
    pub format: u32,
    /// A program that knows this format can read it; what it does not know it may ignore.
    pub needs: u32,
    /// The version of the program that wrote it.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// Where the program's file was when it was started, an absolute path: what is there now is what an upgrade runs.
    pub path: Text,
    /// The words of the command line in force, the first one included.
    pub command_line: Vec<Text>,
    /// In the order of the command line.
    pub listeners: Box<RawValue>,
    /// What is going on.
    pub supervisor: Memory,
    /// What is known besides of each generation that has a process.
    pub generations: BTreeMap<u32, GenerationState>,
    /// Workers that may not run the program yet.
    pub newborns: Vec<Newborn>,
    /// Workers of a superdaemon that was killed.
    pub orphans: Vec<Orphan>,
    /// What workers have left behind.
    pub strays: Vec<Strays>,
    /// When the end began.
    pub stopping_since: Option<Instant>,
    /// The check command of the generation that is to prove itself with one.
    pub check: Option<Check>,
    /// What has happened so far.
    pub tally: Tally,
    /// What the envdir set when it was last read.
    pub envdir: Vec<(Text, Text)>,
    /// What waits to be logged.
    pub log: Log,
    /// The command that reads the log.
    pub log_command: Option<LogCommand>,
    /// The PID file, locked.
    pub pid_file: Option<Descriptor>,
    /// The lock of the PID file that nobody but our user can take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_file_lock: Option<Descriptor>,
    /// The status file as it was written last.
    pub status_file: Option<FileIdentity>,
    /// The control socket.
    pub control: Option<Control>,
    /// The pipe to the process that the user started, if that waits for the first worker.
    pub launcher: Option<Descriptor>,
    /// What was reported last, for the launcher in case of failure.
    pub last_words: Vec<String>,
    /// Who is to hear that everything has ended.
    pub farewells: Vec<RequestId>,
    /// Since when the log is of interest to those who wait for a restart.
    pub excerpt: Option<Excerpt>,
    /// The program file of before the last upgrade.
    pub previous: Option<Descriptor>,
    /// The upgrade by which this document reaches its reader, if it does not by a crash.
    pub upgrade: Option<Upgrade>,
    /// The program that is being tried out.
    pub trial: Option<Trial>,
    /// Processes that do what may wait. Nobody listens to them any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apart: Vec<i32>,
    /// The service manager, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_manager: Option<ServiceManager>,
    /// Who was looked up for the workers to run as.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privileges: Option<Privileges>,
}

/// Whom workers run as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Privileges {
    /// The user.
    pub user: Option<u32>,
    /// The group.
    pub group: Option<u32>,
    /// The supplementary groups.
    pub groups: Option<Vec<u32>>,
    /// What the environment says of the user; without a value, nothing.
    pub variables: Vec<(Text, Option<Text>)>,
}

/// What the service manager has been told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceManager {
    /// What it believes: `starting`, `serving`, `reloading` or `stopping`.
    pub phase: String,
    /// Whether a restart was asked for that the next spawn covers.
    pub is_restart_queued: bool,
    /// Whether an attempt has failed since the restart, or the start, began.
    pub is_failing: bool,
    /// Why the last attempt failed, until one succeeds.
    pub failure: Option<String>,
    /// The file that it keeps for the number of the last generation.
    pub memory: Option<Descriptor>,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its address as typed.
    pub address: Text,
    /// The socket.
    pub socket: Descriptor,
    /// The socket file that we made.
    pub file: Option<File>,
    /// Whether the service manager has made it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_managers: bool,
    /// What the service manager calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A file of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its path.
    pub path: Text,
    /// How it is known.
    pub identity: FileIdentity,
}

/// What is known of a generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationState {
    /// Its worker.
    pub worker: Option<Pid>,
    /// The readiness rule that it was spawned under, as on the command line.
    pub rule: String,
    /// Where it says that it is ready.
    pub notify: Option<Notify>,
    /// What proved it ready.
    pub ready_by: Option<ReadyBy>,
    /// What it last said of itself.
    pub says: Option<String>,
}

/// A notify socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notify {
    /// The socket.
    pub socket: Descriptor,
    /// Its name in the abstract name space, if it has no file: version 0.1.0 made such.
    pub name: String,
    /// Its file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<Text>,
}

/// A process that may not run the program yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newborn {
    /// Its generation.
    pub generation: GenerationNumber,
    /// The process.
    pub pid: Pid,
    /// Where it reports.
    pub report: Descriptor,
}

/// A worker of a superdaemon that was killed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orphan {
    /// Its generation.
    pub generation: u32,
    /// The process.
    pub pid: i32,
    /// The `SERVER_STARTER_PORT` that it was given.
    pub variable: Text,
    /// The descriptor by which it is held.
    pub process: Descriptor,
}

/// What a worker may have left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Strays {
    /// Its generation.
    pub generation: GenerationNumber,
    /// The worker.
    pub leader: Pid,
    /// When they are ended.
    pub kill_at: Instant,
}

/// A check command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The generation.
    pub generation: GenerationNumber,
    /// The command while it runs.
    pub pid: Option<i32>,
    /// When it is run next, if it does not run.
    pub due: Option<Instant>,
    /// The next pause.
    pub pause: Duration,
}

/// What has happened so far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// When the superdaemon was started.
    pub since: Instant,
    /// Commits.
    pub restarts: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// The last of them, in words, and when that was.
    pub last_failure: Option<(String, Instant)>,
    /// How often another program has taken the place of this one.
    pub upgrades: u64,
    /// How often the superdaemon itself has crashed and gone on.
    pub crashes: u64,
}

/// Lines that the log has not taken yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// Each with the number of lines that are lost if this one is.
    pub lines: Vec<(Text, u64)>,
    /// The lines that were lost since.
    pub lost: u64,
}

/// The command that reads the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogCommand {
    /// The pipe's reading end.
    pub reading_end: Descriptor,
    /// Standard output and standard error of the command.
    pub outputs: Option<[Descriptor; 2]>,
    /// The command while it runs.
    pub pid: Option<i32>,
    /// Where it reports whether it could be executed.
    pub report: Option<Descriptor>,
    /// When it is started again, if it does not run.
    pub due: Option<Instant>,
    /// When it was started again last.
    pub restarted: Option<Instant>,
    /// The next pause.
    pub pause: Duration,
}

/// The control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Control {
    /// The listening socket.
    pub listener: Descriptor,
    /// The file that we made.
    pub file: Option<File>,
    /// In the order in which they came.
    pub clients: Vec<Client>,
    /// The number that the last request took.
    pub last_id: u64,
    /// No connection is taken before.
    pub rests_until: Option<Instant>,
}

/// Somebody who is connected to the control socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The number of the request.
    pub id: RequestId,
    /// The connection.
    pub stream: Descriptor,
    /// What was read and is not a whole line yet.
    pub input: Text,
    /// What was not written yet.
    pub output: Text,
    /// How far it has come.
    pub stage: ClientStage,
    /// It will not say any more.
    pub is_silent: bool,
    /// When it is sent away.
    pub until: Option<Instant>,
}

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientStage {
    /// Its request has not arrived.
    Asking,
    /// It waits for its answer.
    Waiting,
    /// It has its answer, or will when it reads.
    Answered,
}

/// A part of the log file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// Which file it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<FileIdentity>,
    /// Where it begins, in bytes.
    pub start: u64,
    /// The superdaemon's own lines in it.
    pub own: Vec<String>,
}

/// How an upgrade came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upgrade {
    /// Who waits for it.
    pub request: Option<RequestId>,
    /// The file of the other program.
    pub path: Text,
    /// When the other program was executed.
    pub at: Instant,
}

/// A program that is being tried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Its process.
    pub pid: i32,
    /// Who waits for the upgrade.
    pub request: Option<RequestId>,
}
