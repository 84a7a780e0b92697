//! A picture of a superdaemon at one moment, for `--status` and for programs.

use serde::{Deserialize, Serialize};

/// A superdaemon. Times are in whole milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The program's version.
    pub program_version: String,
    /// The superdaemon's process.
    pub pid: i32,
    /// How long it has been running.
    pub running_for_ms: u64,
    /// Where it answers commands; none if it has no control socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control_socket: Option<String>,
    /// The program that it runs, as typed.
    pub command: Vec<String>,
    /// The readiness rule in force: `alive`, `notify`, `accept` or `exec`.
    pub ready_rule: String,
    /// The generation that serves; none while nobody does.
    pub current: Option<u32>,
    /// Whether the end has begun.
    pub stopping: bool,
    /// How many commits there have been, the first start not counted.
    pub restarts: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// The last attempt that failed, in words.
    pub last_failure: Option<String>,
    /// How long ago that was.
    pub last_failure_ago_ms: Option<u64>,
    /// How often the superdaemon's own program was replaced in place.
    #[serde(default)]
    pub upgrades: u64,
    /// How often the superdaemon itself has crashed and gone on.
    #[serde(default)]
    pub crashes: u64,
    /// Every generation that has a process, by number.
    pub generations: Vec<Generation>,
    /// Every listener, in the order of the command line.
    pub listeners: Vec<Listener>,
}

/// A generation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// Its number.
    pub generation: u32,
    /// Its workers.
    pub pids: Vec<i32>,
    /// What it is doing.
    pub role: Role,
    /// How long ago it was spawned.
    pub spawned_ago_ms: u64,
    /// How long ago it became ready.
    pub ready_ago_ms: Option<u64>,
    /// What proved it ready: `alive`, `notify`, `accept` or `exec`.
    pub ready_by: Option<String>,
    /// What it last said of itself (`STATUS=` of sd_notify(3)).
    pub status: Option<String>,
    /// When it will be killed if it has not gone.
    pub killed_in_ms: Option<u64>,
}

/// What a generation is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It has not proved itself yet.
    Starting,
    /// It is ready; the kill-old delay runs.
    Soaking,
    /// It serves.
    Current,
    /// It serves until its successor is ready.
    Waiting,
    /// It was told to go and finishes.
    Draining,
    /// It failed and is being ended.
    Ending,
    /// The superdaemon ends, and so does it.
    Stopping,
}

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// The name that the user gave it, or else the address as typed.
    pub name: String,
    /// `tcp`, `udp`, `unix` or `unix-dgram`.
    pub kind: String,
    /// The address that it is bound to, the port as the kernel chose it where none was given.
    pub address: String,
    /// Its descriptor in workers.
    pub fd: i32,
    /// Connections that wait to be accepted; datagrams are not counted.
    pub queued: Option<u32>,
    /// How many may wait.
    pub backlog: Option<u32>,
}
