//! What the user wants, as plain typed values: the result of reading the command line.
//! The command line makes them, the rest of the program only reads them.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use sys::signal::Signal;

use crate::export::Convention;
use crate::listen_spec::ListenSpec;
use crate::privileges::Privileges;
use crate::span::SpanText;

/// What this invocation is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Print this text, which ends in a newline.
    Help(String),
    /// Print this text, which ends in a newline.
    Version(String),
    /// Be a superdaemon.
    Run(Box<Config>),
    /// Ask a running superdaemon to replace its generation.
    Restart(RestartVerb),
    /// Ask a running superdaemon to end.
    Stop(StopVerb),
    /// Ask a running superdaemon what it is doing.
    Status(StatusVerb),
    /// Ask a running superdaemon to execute its own program anew.
    Upgrade(UpgradeVerb),
}

/// Everything that a superdaemon is told on its command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The server program.
    pub program: Program,
    /// The listeners: ports first, then paths, then `--listen`, each in the order of the command line. Fixed
    /// descriptors and given names are distinct.
    pub listeners: Vec<ListenSpec>,
    /// The directory that workers start in, instead of that of the superdaemon.
    pub dir: Option<PathBuf>,
    /// Whom workers run as and what they may do.
    pub privileges: Privileges,
    /// How long a worker must live to count as started, and the least time between two attempts.
    pub interval: Duration,
    /// What old generations are sent at a commit.
    pub signal_on_hup: Signal,
    /// What all workers are sent when the superdaemon gets TERM.
    pub signal_on_term: Signal,
    /// The descriptor at which workers find the first listener whose descriptor is not fixed.
    pub first_fd: i32,
    /// How workers are told of their listeners, besides `SERVER_STARTER_PORT`.
    pub exports: BTreeSet<Convention>,
    /// What is odd about the command line and has to be said, as sentences.
    pub warnings: Vec<String>,
    /// The file that holds the process id of the superdaemon.
    pub pid_file: Option<PathBuf>,
    /// The file that lists the living generations.
    pub status_file: Option<PathBuf>,
    /// Where standard output and standard error go, if not where the caller's go.
    pub log: Option<LogTarget>,
    /// Whether to go to the background. Implies a log.
    pub daemonize: bool,
    /// The options that reach workers, and the superdaemon itself, by way of the environment.
    pub overrides: EnvironmentOptions,
    /// The proof that a new generation has to give.
    pub ready: ReadyRule,
    /// How long it may take to give that proof. Not for [`ReadyRule::Alive`]. Never zero.
    pub ready_timeout: Duration,
    /// The attempts after which a restart is given up; without it, never.
    pub max_attempts: Option<NonZeroU32>,
    /// The longest pause between two attempts, when pauses are to grow; without it, every pause is the interval.
    pub backoff_max: Option<Duration>,
    /// How long an old generation may drain before it is killed; without it, for ever. Never zero.
    pub drain_timeout: Option<Duration>,
    /// How long workers may take to end once the superdaemon is told to; without it, for ever. Never zero.
    pub stop_timeout: Option<Duration>,
    /// How long workers that serve go on after a TERM before they are told to stop; without it, they are told at once.
    /// Never zero.
    pub term_delay: Option<Duration>,
    /// The number of old generations that may drain at the same time; without it, any.
    pub max_old_generations: Option<NonZeroU32>,
    /// Where to answer verbs, instead of at the address that is derived from the process id.
    pub control_socket: Option<PathBuf>,
}

/// A program and its arguments, as typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The first word: a path, or a name that is looked up in `PATH`. Never empty.
    pub name: OsString,
    /// The words after it.
    pub arguments: Vec<OsString>,
}

/// Where the log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// To the end of this file.
    File(PathBuf),
    /// To the standard input of this command. Never empty.
    Command(String),
}

/// The options that are exported to the environment of the workers, where envdir files may overrule them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvironmentOptions {
    /// `ENVDIR`: the directory of files that each set a variable.
    pub envdir: Option<PathBuf>,
    /// `ENABLE_AUTO_RESTART`: whether to restart from time to time.
    pub enable_auto_restart: bool,
    /// `AUTO_RESTART_INTERVAL`: how often.
    pub auto_restart_interval: Option<SpanText>,
    /// `KILL_OLD_DELAY`: how long old and new generation serve together.
    pub kill_old_delay: Option<SpanText>,
}

/// As on the command line.
impl fmt::Display for ReadyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alive => f.write_str("alive"),
            Self::Notify => f.write_str("notify"),
            Self::Accept => f.write_str("accept"),
            Self::Exec(command) => write!(f, "exec:{command}"),
        }
    }
}

impl FromStr for ReadyRule {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "alive" => Ok(Self::Alive),
            "notify" => Ok(Self::Notify),
            "accept" => Ok(Self::Accept),
            text => match text.strip_prefix("exec:").map(str::trim_ascii) {
                Some(command) if !command.is_empty() => Ok(Self::Exec(command.to_owned())),
                _ => Err("alive, notify, accept or exec:COMMAND expected"),
            },
        }
    }
}

/// The proof that a new generation serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadyRule {
    /// It has not exited when the interval is over.
    Alive,
    /// It sends `READY=1` to `$NOTIFY_SOCKET`.
    Notify,
    /// The kernel shows that it waits for connections.
    Accept,
    /// This command, run in its environment, exits with status 0. Never empty.
    Exec(String),
}

/// `--restart`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartVerb {
    /// Which superdaemon.
    pub target: Target,
    /// Its status file, for a superdaemon that has no control socket.
    pub status_file: Option<PathBuf>,
    /// How long to wait for the outcome; without it, as long as it takes. Never zero.
    pub timeout: Option<Duration>,
    /// What to wait for.
    pub until: Until,
}

/// `--stop`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopVerb {
    /// Which superdaemon.
    pub target: Target,
    /// How long to wait for its end; without it, as long as it takes. Never zero.
    pub timeout: Option<Duration>,
}

/// `--status`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusVerb {
    /// Which superdaemon.
    pub target: Target,
    /// Whether to answer in JSON.
    pub json: bool,
    /// Whether to answer only by the exit code: 0 if a generation serves and the end has not begun, else 1.
    pub serving: bool,
}

/// `--upgrade`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpgradeVerb {
    /// Which superdaemon.
    pub target: Target,
    /// The program to execute, if not the one that it was started from.
    pub path: Option<PathBuf>,
    /// The command line for it, if not the one in force: options written out in full, and the server program.
    pub arguments: Option<Vec<OsString>>,
    /// How long to wait for the outcome; without it, as long as it takes. Never zero.
    pub timeout: Option<Duration>,
}

/// The end of a restart for the one who asked for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// The old generations are gone.
    #[default]
    Drained,
    /// The new generation is current and the old ones were told to stop.
    Commit,
}

/// The ways in which a verb was told to find its superdaemon. At least one is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The file that holds its process id.
    pub pid_file: Option<PathBuf>,
    /// The socket that it answers on.
    pub control_socket: Option<PathBuf>,
    /// Its process id, above zero.
    pub pid: Option<i32>,
}
