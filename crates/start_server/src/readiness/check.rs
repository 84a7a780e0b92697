//! The check command of `--ready=exec:COMMAND`: run again and again until it succeeds. The event loop owns one while a
//! generation is to be proved, and drops it with the attempt: no check outlives what it checks.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::process::{Pid, test_kill_process_group};
use supervisor::{ExitStatus, GenerationNumber, Instant, RunningWorker};
use sys::process_tree::{self, Mark};
use sys::spawn::{Plan, spawn};

use crate::handover::state;

/// What runs the command.
pub const SHELL: &str = "/bin/sh";

/// The pause after the first failed check; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// So long it may take to ask processes whether a check has left them behind.
const PATIENCE: Duration = Duration::from_millis(200);

/// The checks of one generation.
#[derive(Debug)]
pub struct Check {
    worker: RunningWorker,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    directory: Option<CString>,
    pause: Duration,
    state: State,
}

#[derive(Debug)]
enum State {
    Running { pid: i32 },
    Pausing { until: Instant },
}

impl Check {
    /// Prepares the checks of a worker. `environment` is the worker's, and `SERVER_STARTER_PID` with it.
    ///
    /// # Errors
    /// The command contains a zero byte.
    pub fn new(
        worker: RunningWorker,
        command: &str,
        environment: Vec<CString>,
        directory: Option<CString>,
        now: Instant,
    ) -> io::Result<Self> {
        let arguments = [SHELL, "-c", command];
        Ok(Self {
            worker,
            arguments: arguments.into_iter().map(CString::new).collect::<Result<_, _>>()?,
            environment,
            directory,
            pause: FIRST_PAUSE,
            state: State::Pausing { until: now },
        })
    }

    /// What the next image of the program has to know of them.
    pub fn state(&self) -> state::Check {
        let (pid, due) = match self.state {
            State::Running { pid } => (Some(pid), None),
            State::Pausing { until } => (None, Some(until)),
        };
        state::Check { generation: self.worker.generation, pid, due, pause: self.pause }
    }

    /// Goes on where the image before was: a command that runs is waited for.
    pub fn resume(&mut self, check: state::Check) {
        if check.generation == self.worker.generation {
            self.pause = check.pause;
            if let Some(pid) = check.pid {
                self.state = State::Running { pid };
            } else if let Some(until) = check.due {
                self.state = State::Pausing { until };
            }
        }
    }

    /// Whose checks these are.
    pub fn generation(&self) -> GenerationNumber {
        self.worker.generation
    }

    /// The command while it runs.
    pub fn pid(&self) -> Option<i32> {
        match self.state {
            State::Running { pid } => Some(pid),
            State::Pausing { .. } => None,
        }
    }

    /// When [`Check::run_if_due`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Running { .. } => None,
            State::Pausing { until } => Some(until),
        }
    }

    /// Runs the command if its time has come.
    ///
    /// # Errors
    /// No process could be made; it is tried again after the pause.
    pub fn run_if_due(&mut self, now: Instant) -> io::Result<()> {
        if !matches!(self.state, State::Pausing { until } if until <= now) {
            return Ok(());
        }
        match self.run() {
            Ok(pid) => {
                self.state = State::Running { pid };
                Ok(())
            }
            Err(error) => {
                self.rest(now);
                Err(error)
            }
        }
    }

    /// The listeners are not the command's: it could hold on to them. Nor is what is typed at our terminal.
    fn run(&self) -> io::Result<i32> {
        let null = "/dev/null";
        let nothing = File::open(null).map_err(|error| io::Error::new(error.kind(), format!("{null}: {error}")))?;
        let spawned = spawn(&Plan {
            pid_variable: None,
            arguments: self.arguments.clone(),
            environment: self.environment.clone(),
            directory: self.directory.clone(),
            descriptors: vec![(nothing.as_fd(), 0)],
            ignored_signals: Vec::new(),
            own_process_group: true,
        })?;
        Ok(spawned.pid)
    }

    /// The command has ended and was reaped. Whether that proves the generation ready.
    pub fn ended(&mut self, status: ExitStatus, now: Instant) -> bool {
        if let Some(pid) = self.pid()
            && Pid::from_raw(pid).is_some_and(|group| test_kill_process_group(group).is_ok())
        {
            self.end_family(pid);
        }
        self.rest(now);
        status.code() == Some(0)
    }

    fn rest(&mut self, now: Instant) {
        self.state = State::Pausing { until: now.plus(self.pause) };
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Ends a command with all that it has started, and whatever earlier ones have left behind. `leader` is none of
    /// any process group if nothing but that is wanted.
    fn end_family(&self, leader: i32) {
        let worker = self.worker.pid.0;
        let mark = worker.to_string();
        // What cannot be killed has another user's rights, and so was let go on purpose.
        let _ = process_tree::kill_marked_family(
            leader,
            &Mark { name: "SERVER_STARTER_PID", value: &mark, except: &[worker], limit: PATIENCE },
        );
    }
}

impl Drop for Check {
    fn drop(&mut self) {
        const NO_GROUP: i32 = 0;
        self.end_family(self.pid().unwrap_or(NO_GROUP));
    }
}
