//! Restarts a superdaemon by the verbs of `start_server`, the official way, and asks for its status. Used by the drill
//! alone.

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use control::Status;
use tokio::process::Command;

/// A running superdaemon, as the verbs address it.
#[derive(Clone, Debug)]
pub struct Verbs {
    program: PathBuf,
    target: Vec<OsString>,
}

/// Why a verb did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its last line.
    pub reason: String,
    /// Whether there is no superdaemon (any more).
    pub nobody: bool,
}

/// What a verb ends with if nobody is there: `docs/operations.md`.
const NOT_RUNNING: i32 = 5;

/// The program `start_server`: the one that was named, or the one beside this program, or the one in the PATH.
pub fn start_server(named: Option<&Path>) -> PathBuf {
    let beside = || {
        let beside = env::current_exe().ok()?.parent()?.join("start_server");
        beside.is_file().then_some(beside)
    };
    named.map(Path::to_owned).or_else(beside).unwrap_or_else(|| "start_server".into())
}

impl Verbs {
    /// Addresses the superdaemon that `target`, options of a verb, names.
    pub fn new(program: PathBuf, target: Vec<OsString>) -> Self {
        Self { program, target }
    }

    /// The status file, for superdaemons that tell nothing else.
    pub fn status_file(&self) -> Option<PathBuf> {
        let words = self.target.iter().filter_map(|word| word.to_str());
        words.filter_map(|word| word.strip_prefix("--status-file=")).next().map(PathBuf::from)
    }

    /// What the superdaemon shows of itself.
    ///
    /// # Errors
    ///
    /// It shows nothing: it is not there, or it is one of Server::Starter's.
    pub async fn status(&self) -> Result<Status, Refusal> {
        let output = self.run(["--status", "--json"]).await?;
        serde_json::from_slice(&output.stdout).map_err(|error| Refusal {
            reason: format!("the status of the superdaemon is not understood: {error}"),
            nobody: false,
        })
    }

    /// Restarts, and waits until the new generation is current, or if `drained`, until no older one is left.
    ///
    /// # Errors
    ///
    /// The restart failed or took too long.
    pub async fn restart(&self, drained: bool, within: Duration) -> Result<(), Refusal> {
        let timeout = format!("--timeout={}ms", within.as_millis().max(1));
        let mut words = vec!["--restart", &timeout];
        if !drained {
            words.push("--until=commit");
        }
        self.run(words).await.map(drop)
    }

    async fn run<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Result<Output, Refusal> {
        let mut command = Command::new(&self.program);
        command.args(words).args(&self.target);
        let output = outcome(command).await.map_err(|error| Refusal {
            reason: format!("{} cannot be run: {error}; --start-server=PATH says where it is", self.program.display()),
            nobody: false,
        })?;
        if output.status.success() {
            return Ok(output);
        }
        let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        let reason = said.lines().rev().find(|line| !line.starts_with(' ')).unwrap_or_default().to_owned();
        Err(Refusal {
            reason: if reason.is_empty() { output.status.to_string() } else { reason },
            nobody: output.status.code() == Some(NOT_RUNNING),
        })
    }
}

/// Runs a command of the shell.
///
/// # Errors
///
/// It did not end with 0; the error says how, and its last line.
pub async fn shell(line: &str) -> Result<(), String> {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(line);
    let output = outcome(command).await.map_err(|error| format!("/bin/sh cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.trim_end().lines().last().map(|line| format!(": {line}")).unwrap_or_default();
    Err(format!("`{line}` ended with {}{last}", output.status))
}

/// Runs a command to its end. If this is dropped before, the command is killed. Ctrl-C does not reach it: it is for us.
async fn outcome(mut command: Command) -> io::Result<Output> {
    command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    command.output().await
}
