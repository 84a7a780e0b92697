//! The trial of a program that is to take over: it is run on a copy of the state, in a process of its own, and says
//! whether it could go on from there. The event loop owns one at a time and waits for its end like for any child's.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use serde::{Deserialize, Serialize};
use supervisor::{ExitStatus, Instant, RequestId};
use sys::process_tree;
use sys::reexec::{Inherited, memory_file, trial_variable};
use sys::spawn::{ExecReport, ExecState, Plan, spawn};

use super::state::FORMAT;
use crate::cli;
use crate::config::{Command, Config};
use crate::errno::{io_reason, reason};
use crate::files::{Reach, SILENT};
use crate::listeners::Listeners;
use crate::messages::ended;
use crate::printable::printable;
use crate::worker::Recipe;

/// A program that takes longer than this to read a state is not one to trust with it.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// As much of what it writes is read.
const MOST_WORDS: u64 = 16 * 1024;
/// As much of one line is shown.
const MOST_SHOWN: usize = 300;

/// A trial under way.
#[derive(Debug)]
pub struct Trial {
    /// Its process.
    pub pid: i32,
    /// Who waits for the upgrade.
    pub request: Option<RequestId>,
    /// The program.
    pub path: PathBuf,
    /// The words that it is to be executed with, the first included.
    pub command_line: Vec<OsString>,
    /// When it is ended.
    pub deadline: Instant,
    output: File,
    exec: ExecReport,
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It can take over.
    Accepted {
        /// The version of the program.
        version: String,
    },
    /// It cannot.
    Refused {
        /// Why, as a sentence.
        reason: String,
    },
}

/// The line that the program on trial writes last.
#[derive(Serialize, Deserialize)]
struct Answer {
    /// Its version.
    start_server: String,
    /// The format of the state that it writes.
    format: u32,
    /// Why it cannot take over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
}

impl Trial {
    /// Runs the program on a copy of the state, with the listeners at the numbers that they have in it.
    ///
    /// # Errors
    /// A sentence: it is not a program, or no process could be made.
    pub fn begin(
        request: Option<RequestId>,
        path: PathBuf,
        command_line: Vec<OsString>,
        state: &[u8],
        listeners: &Listeners,
        now: Instant,
    ) -> Result<Self, String> {
        must_be_a_program(&path)?;
        let failed = |error: io::Error| format!("{} could not be tried out: {}", path.display(), io_reason(&error));
        let mut copy = File::from(memory_file().map_err(failed)?);
        copy.write_all(state).and_then(|()| copy.rewind()).map_err(failed)?;
        let nothing = File::open("/dev/null").map_err(failed)?;
        let (output, words) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).map_err(|e| failed(e.into()))?;
        let program = CString::new(path.as_os_str().as_bytes()).map_err(|e| failed(e.into()))?;
        let arguments = command_line.iter().skip(1).map(|word| CString::new(word.as_bytes()));
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok());
        let sockets = listeners.descriptors().map(|(socket, _)| (socket, socket.as_raw_fd()));
        let mut descriptors = vec![(nothing.as_fd(), 0), (words.as_fd(), 1), (words.as_fd(), 2)];
        descriptors.extend(sockets);
        let place = descriptors.iter().map(|(_, number)| *number).max().unwrap_or_default() + 1;
        descriptors.push((copy.as_fd(), place));
        let spawned = spawn(&Plan {
            arguments: std::iter::once(Ok(program))
                .chain(arguments)
                .collect::<Result<_, _>>()
                .map_err(|e| failed(e.into()))?,
            environment: environment.chain([trial_variable(place)]).collect(),
            descriptors,
            own_process_group: true,
            ..Plan::default()
        })
        .map_err(failed)?;
        Ok(Self {
            pid: spawned.pid,
            request,
            path,
            command_line,
            deadline: now.plus(PATIENCE),
            output: output.into(),
            exec: spawned.exec,
        })
    }

    /// What came of it, now that its process has ended.
    pub fn verdict(&mut self, status: ExitStatus) -> Verdict {
        let path = self.path.display();
        if let Ok(ExecState::Failed { errno, .. }) = self.exec.read() {
            return Verdict::Refused { reason: format!("{path} cannot be executed: {}", reason(errno)) };
        }
        let mut words = Vec::new();
        // Only what is there now: somebody whom it has left behind may hold the other end.
        let _ = (&mut self.output).take(MOST_WORDS).read_to_end(&mut words);
        let words = String::from_utf8_lossy(&words);
        let answer = words.lines().rev().find_map(|line| serde_json::from_str::<Answer>(line).ok());
        match answer {
            Some(Answer { start_server, refused: None, .. }) if status.code() == Some(0) => {
                Verdict::Accepted { version: start_server }
            }
            Some(Answer { start_server, refused: Some(why), .. }) => {
                Verdict::Refused { reason: format!("{path} (start_server {start_server}) cannot take over: {why}") }
            }
            _ => {
                let said = match words.lines().map(str::trim).rfind(|line| !line.is_empty()) {
                    Some(line) => {
                        format!("; it said: {}", printable(line).chars().take(MOST_SHOWN).collect::<String>())
                    }
                    None => String::new(),
                };
                let ended = ended(status);
                let reason = format!("{path} is no start_server that could take over: on trial it {ended}{said}");
                Verdict::Refused { reason }
            }
        }
    }

    /// Ends it, with all that it has started.
    pub fn end(&self) {
        // What cannot be killed was not started by it.
        let _ = process_tree::kill_family(self.pid, |_| false);
    }
}

/// A shell would make something of any text, so it is not asked.
fn must_be_a_program(path: &Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("{} cannot be executed: {}", path.display(), io_reason(&error));
    if !Reach::of_unknown(path).answers() {
        return Err(failed(io::Error::other(SILENT)));
    }
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(format!("{} cannot be executed: it is not a file", path.display()));
    }
    let mut start = Vec::new();
    File::open(path).and_then(|file| file.take(4).read_to_end(&mut start)).map_err(failed)?;
    if start.starts_with(b"\x7fELF") || start.starts_with(b"#!") {
        return Ok(());
    }
    Err(format!("{} cannot be executed: it is no program", path.display()))
}

/// Being on trial: says whether this program could go on from a state with the command line that it was given.
pub fn answer_trial(state: &[u8], inherited: Inherited) -> ExitCode {
    let refused = examine(state, inherited).err();
    let answer = Answer { start_server: env!("CARGO_PKG_VERSION").to_owned(), format: FORMAT, refused };
    let line = serde_json::to_string(&answer).unwrap_or_default() + "\n";
    match io::stdout().write_all(line.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn examine(text: &[u8], mut inherited: Inherited) -> Result<(), String> {
    let (state, _) = super::read(text)?;
    let wanted = config(std::env::args_os().skip(1))?;
    let running = config(state.command_line.iter().skip(1).cloned().map(Into::into))?;
    super::agree(&wanted, &running)?;
    let mut listeners = super::listeners(&state)?;
    // The files are another process's.
    listeners.iter_mut().for_each(|listener| listener.file = None);
    let listeners = Listeners::resume(&wanted, listeners, &mut inherited)?;
    Recipe::new(&wanted, wanted.privileges.resolve()?, &listeners).map(drop)
}

/// The configuration that a command line stands for.
///
/// # Errors
/// A sentence: it is not the command line of a superdaemon.
pub fn config(words: impl Iterator<Item = OsString>) -> Result<Box<Config>, String> {
    match cli::parse(words) {
        Ok(Command::Run(config)) => Ok(config),
        Ok(_) => Err("the command line is not that of a superdaemon".to_owned()),
        Err(error) => Err(format!("the command line is not understood: {error}")),
    }
}
