//! `--log-file '| command'`: a command that reads the log from a pipe. The superdaemon keeps the pipe's reading end as
//! well, so that when the command dies nothing that was written is lost, nobody gets a broken pipe, and the command
//! can be started again.

use std::ffi::{CString, OsStr};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, pipe_with};
use supervisor::{ExitStatus, Instant};
use sys::reexec::Inherited;
use sys::spawn::{ExecReport, ExecState, Plan, Spawned, spawn};

use crate::errno::{io_reason, reason};
use crate::handover::descriptor::{Kept, take as take_over};
use crate::handover::state;
use crate::messages::ended;
use crate::span::seconds_text;

/// The pause before a command that died is started again. It doubles each time, up to the longest.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What runs a command with characters that mean something to it.
const SHELL: &str = "/bin/sh";

/// A command that is fed with the log.
#[derive(Debug)]
pub struct LogCommand {
    command: String,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    reading_end: OwnedFd,
    /// Where standard output and standard error led before they became the log; the command's own lead there.
    outputs: Option<[OwnedFd; 2]>,
    state: State,
    /// When it was started again last.
    restarted: Option<Instant>,
    pause: Duration,
}

#[derive(Debug)]
enum State {
    /// Where it reports whether it could be executed is not known after a crash of ours.
    Running {
        pid: i32,
        exec: Option<ExecReport>,
    },
    Dead {
        restart_due: Instant,
    },
}

/// Why the command could not be started: a sentence that begins with the words of Server::Starter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCommandError(String);

impl fmt::Display for LogCommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LogCommandError {}

impl LogCommand {
    /// Starts the command. Returns with it the pipe's writing end, which is to become standard output and standard
    /// error. The command ends by itself when the last process that holds that end is gone.
    ///
    /// # Errors
    /// The command cannot be executed. (Of a command for the shell only the shell knows.)
    pub fn start(command: &str) -> Result<(LogCommand, OwnedFd), LogCommandError> {
        let failed = |why: &str| {
            LogCommandError(format!(
                "failed to open pipe:| {command}: {why}; give a command that can be executed, or a file"
            ))
        };
        let failed_io = |error: io::Error| failed(&io_reason(&error));
        let (reading_end, writing_end) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| failed_io(errno.into()))?;
        let arguments = arguments(command).ok_or_else(|| failed("there is a zero byte in it"))?;
        if arguments.is_empty() {
            return Err(failed("there is no command"));
        }
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let outputs = rustix::io::fcntl_dupfd_cloexec(&stdout, 3)
            .and_then(|stdout| Ok([stdout, rustix::io::fcntl_dupfd_cloexec(&stderr, 3)?]));
        let environment = own_environment();
        let spawned = run(&arguments, &environment, &reading_end, outputs.as_ref().ok()).map_err(failed_io)?;
        if let ExecState::Failed { errno, .. } = outcome(&spawned.exec).map_err(failed_io)? {
            // In an image without a shell the command itself may well be there.
            let by_shell = arguments.first().is_some_and(|word| word.as_bytes() == SHELL.as_bytes());
            let who = if by_shell { format!("{SHELL}, which is to run it: ") } else { String::new() };
            return Err(failed(&format!("{who}{}", reason(errno))));
        }
        let log_command = LogCommand {
            command: command.to_owned(),
            arguments,
            environment,
            reading_end,
            outputs: outputs.ok(),
            state: State::Running { pid: spawned.pid, exec: Some(spawned.exec) },
            restarted: None,
            pause: SHORTEST_PAUSE,
        };
        Ok((log_command, writing_end))
    }

    /// What the next image of the program has to know of it.
    pub fn state(&self, kept: &mut Kept) -> state::LogCommand {
        let outputs = self.outputs.as_ref();
        let (pid, report, due) = match &self.state {
            State::Running { pid, exec } => (Some(*pid), exec.as_ref().map(|exec| kept.keep(exec.as_fd())), None),
            State::Dead { restart_due } => (None, None, Some(*restart_due)),
        };
        state::LogCommand {
            reading_end: kept.keep(self.reading_end.as_fd()),
            outputs: outputs.map(|[stdout, stderr]| [kept.keep(stdout.as_fd()), kept.keep(stderr.as_fd())]),
            pid,
            report,
            due,
            restarted: self.restarted,
            pause: self.pause,
        }
    }

    /// The command as the image before had it.
    ///
    /// # Errors
    /// Its pipe is not there.
    pub fn resume(
        command: &str,
        log: state::LogCommand,
        now: Instant,
        inherited: &mut Inherited,
    ) -> Result<Self, String> {
        let reading_end = take_over(inherited, log.reading_end).ok_or("the pipe of the log command is not there")?;
        let outputs = log
            .outputs
            .and_then(|[stdout, stderr]| Some([take_over(inherited, stdout)?, take_over(inherited, stderr)?]));
        let exec = log.report.and_then(|report| take_over(inherited, report)).map(ExecReport::from);
        Ok(Self {
            command: command.to_owned(),
            arguments: arguments(command).ok_or("there is a zero byte in the log command")?,
            environment: own_environment(),
            reading_end,
            outputs,
            state: match log.pid {
                Some(pid) => State::Running { pid, exec },
                None => State::Dead { restart_due: log.due.unwrap_or(now) },
            },
            restarted: log.restarted,
            pause: log.pause,
        })
    }

    /// The PID of the command while it runs.
    pub fn pid(&self) -> Option<i32> {
        match &self.state {
            State::Running { pid, .. } => Some(*pid),
            State::Dead { .. } => None,
        }
    }

    /// To be called when the process of [`LogCommand::pid`] was reaped. Returns what to tell the user.
    pub fn died(&mut self, status: ExitStatus, now: Instant) -> String {
        let State::Running { pid, exec } = &self.state else {
            return format!("a log command that was not running {}", ended(status));
        };
        let fate = match exec.as_ref().map(ExecReport::read) {
            Some(Ok(ExecState::Failed { errno, .. })) => format!("could not be executed: {}", reason(errno)),
            _ => ended(status),
        };
        if self.restarted.is_some_and(|restarted| now.since(restarted) >= LONGEST_PAUSE) {
            self.pause = SHORTEST_PAUSE;
        }
        let pause = self.pause;
        self.pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
        let line = format!(
            "log command `{}` (pid {pid}) {fate}; what is written meanwhile waits in its pipe, starting it again in {} \
             seconds",
            self.command,
            seconds_text(pause)
        );
        self.state = State::Dead { restart_due: now.plus(pause) };
        line
    }

    /// When the command is to be started again, if it is dead.
    pub fn restart_due(&self) -> Option<Instant> {
        match &self.state {
            State::Running { .. } => None,
            State::Dead { restart_due } => Some(*restart_due),
        }
    }

    /// Starts the command again if it is time for that. Returns what to tell the user.
    pub fn restart_if_due(&mut self, now: Instant) -> Option<String> {
        self.restart_due().filter(|due| *due <= now)?;
        Some(self.restart(now))
    }

    /// The superdaemon ends: if the command is dead, starts it a last time, to take what is still in the pipe. It ends
    /// when it has read everything.
    pub fn finish(&mut self) {
        if let State::Dead { restart_due } = self.state {
            self.restart(restart_due);
        }
    }

    fn restart(&mut self, now: Instant) -> String {
        self.restarted = Some(now);
        match run(&self.arguments, &self.environment, &self.reading_end, self.outputs.as_ref()) {
            Ok(Spawned { pid, exec }) => {
                self.state = State::Running { pid, exec: Some(exec) };
                format!("log command `{}` started again (pid {pid})", self.command)
            }
            Err(error) => {
                self.state = State::Dead { restart_due: now.plus(self.pause) };
                let (why, pause) = (io_reason(&error), seconds_text(self.pause));
                format!(
                    "log command `{}` could not be started again: {why}; trying again in {pause} seconds",
                    self.command
                )
            }
        }
    }
}

fn run(
    arguments: &[CString],
    environment: &[CString],
    reading_end: &OwnedFd,
    outputs: Option<&[OwnedFd; 2]>,
) -> io::Result<Spawned> {
    let mut descriptors = vec![(reading_end.as_fd(), 0)];
    if let Some([stdout, stderr]) = outputs {
        descriptors.extend([(stdout.as_fd(), 1), (stderr.as_fd(), 2)]);
    }
    spawn(&Plan {
        arguments: arguments.to_vec(),
        environment: environment.to_vec(),
        descriptors,
        // Ctrl-C is for the superdaemon: the command has to read to the end what the others have to say.
        own_process_group: true,
        ..Plan::default()
    })
}

fn own_environment() -> Vec<CString> {
    std::env::vars_os()
        .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .collect()
}

/// Waits until the command is executed, or is not.
fn outcome(exec: &ExecReport) -> io::Result<ExecState> {
    loop {
        match exec.read()? {
            ExecState::Pending => {
                retry_on_intr(|| poll(&mut [PollFd::new(exec, PollFlags::IN)], None))?;
            }
            state => return Ok(state),
        }
    }
}

/// The words to execute, found as Perl finds them (perldoc -f exec): a command with characters that mean something to
/// a shell is left to one, any other is split at its blanks. `None` if there is a zero byte in it.
fn arguments(command: &str) -> Option<Vec<CString>> {
    const SPECIAL: &str = "$&*(){}[]'\";\\|?<>~`\n";
    let command = command.trim_ascii();
    let first = command.split_ascii_whitespace().next().unwrap_or_default();
    let is_assignment = first
        .split_once('=')
        .is_some_and(|(name, _)| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
    let for_shell = first == "exec" || is_assignment || command.contains(|character| SPECIAL.contains(character));
    let words: Vec<&str> =
        if for_shell { vec![SHELL, "-c", command] } else { command.split_ascii_whitespace().collect() };
    words.into_iter().map(|word| CString::new(OsStr::new(word).as_bytes()).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{Pid, WaitOptions, waitpid};
    use std::fs::{self, File};
    use std::io::Write;
    use std::path::{Path, PathBuf};

    fn words(command: &str) -> Vec<String> {
        arguments(command).unwrap().into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("log_command-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn at(seconds: u64) -> Instant {
        Instant::at(Duration::from_secs(seconds))
    }

    fn reap(pid: i32) -> ExitStatus {
        let pid = Pid::from_raw(pid);
        ExitStatus(retry_on_intr(|| waitpid(pid, WaitOptions::empty())).unwrap().unwrap().1.as_raw())
    }

    fn wait_for(path: &Path, wanted: &str) {
        let begun = std::time::Instant::now();
        loop {
            let text = fs::read_to_string(path).unwrap_or_default();
            if text == wanted {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "{text:?} instead of {wanted:?}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn only_what_needs_a_shell_gets_one() {
        assert_eq!(words(" logger  -t web\n"), ["logger", "-t", "web"]);
        assert_eq!(words("/usr/bin/cat"), ["/usr/bin/cat"]);
        assert_eq!(words("rotate --size=10M log"), ["rotate", "--size=10M", "log"]);
        for command in ["cat > log", "TZ=UTC rotate", "exec cat", "a; b", "tee '/a b'", "cat ~/x", "a\nb"] {
            assert_eq!(words(command), ["/bin/sh", "-c", command]);
        }
        assert_eq!(words("  "), Vec::<String>::new());
        assert_eq!(arguments("a\0b"), None);
    }

    #[test]
    fn a_command_that_is_not_there_is_an_error_at_the_start() {
        let text = LogCommand::start("/nonexistent/logger -x").unwrap_err().to_string();
        assert!(
            text.starts_with("failed to open pipe:| /nonexistent/logger -x: No such file or directory; "),
            "{text}"
        );
        assert!(LogCommand::start(" ").unwrap_err().to_string().contains("there is no command"));
    }

    #[test]
    fn no_line_is_lost_when_the_command_dies() {
        let directory = directory("dies");
        let log = directory.join("log");
        // Not by a shell: its child would still be there, and might read, when the shell is known to be dead.
        let dd = format!("dd of={} oflag=append conv=notrunc bs=4096 status=none", log.display());
        let (mut command, writing_end) = LogCommand::start(&dd).unwrap();
        let mut writer = File::from(writing_end);
        writer.write_all(b"one\n").unwrap();
        wait_for(&log, "one\n");
        let pid = command.pid().unwrap();
        assert_eq!(command.restart_due(), None);
        // It leads a group, so that Ctrl-C does not reach it.
        sys::signal::send_group(pid, sys::signal::Signal::KILL).unwrap();
        let line = command.died(reap(pid), at(100));
        assert!(line.contains(&format!("(pid {pid}) was killed by signal KILL")), "{line}");
        assert_eq!((command.pid(), command.restart_due()), (None, Some(at(101))));
        writer.write_all(b"two\n").unwrap();
        assert_eq!(command.restart_if_due(at(100)), None);
        assert!(command.restart_if_due(at(101)).unwrap().contains("started again (pid "));
        writer.write_all(b"three\n").unwrap();
        wait_for(&log, "one\ntwo\nthree\n");
        // After the last writer it ends by itself.
        let pid = command.pid().unwrap();
        drop((writer, command));
        assert_eq!(reap(pid).code(), Some(0));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn the_pauses_grow_and_shrink_again() {
        let (mut command, _writing_end) = LogCommand::start("false").unwrap();
        let mut now = 0;
        let mut pauses = Vec::new();
        for lifetime in [0, 0, 0, 0, 0, 0, 0, 0, 59, 60, 0] {
            now += lifetime;
            let status = reap(command.pid().unwrap());
            let line = command.died(status, at(now));
            assert!(line.contains("exited with status 1"), "{line}");
            let due = command.restart_due().unwrap();
            pauses.push(due.since(at(now)).as_secs());
            now += due.since(at(now)).as_secs();
            command.restart_if_due(at(now)).unwrap();
        }
        reap(command.pid().unwrap());
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60, 1, 2]);
    }

    #[test]
    fn a_command_that_vanishes_is_tried_again() {
        let directory = directory("vanishes");
        let program = directory.join("cat");
        std::os::unix::fs::symlink("/bin/cat", &program).unwrap();
        let (mut command, writing_end) = LogCommand::start(program.to_str().unwrap()).unwrap();
        fs::remove_file(&program).unwrap();
        let pid = command.pid().unwrap();
        sys::signal::send(pid, sys::signal::Signal::TERM).unwrap();
        command.died(reap(pid), at(0));
        command.restart_if_due(at(1)).unwrap();
        let pid = command.pid().unwrap();
        let line = command.died(reap(pid), at(1));
        assert!(line.contains("could not be executed: No such file or directory"), "{line}");
        drop(writing_end);
        fs::remove_dir_all(directory).unwrap();
    }
}
