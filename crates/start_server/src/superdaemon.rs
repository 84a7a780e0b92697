//! Being a superdaemon, from the command line to the exit code: sets everything up, in an order in which every error
//! is met before anything is spawned; hands over to the event loop; cleans up.

use std::ffi::{CString, OsString};
use std::fmt::Display;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use sys::answering::finish_within;
use sys::background::{Notice, Role, Voice, into_background};
use sys::reexec::Resumption;
use sys::signal::SignalFd;

use crate::config::{Config, LogTarget, ReadyRule};
use crate::control_socket::ControlSocket;
use crate::environment::Environment;
use crate::errno::io_reason;
use crate::event_loop::{Arrival, EventLoop, Parts, Succession, now};
use crate::files::open_log_file;
use crate::handover::descriptor::take;
use crate::handover::{self, Unknown};
use crate::listeners::{Listeners, PassedSockets, resolve_hosts};
use crate::log_command::LogCommand;
use crate::log_output::LogOutput;
use crate::pid_file::PidFile;
use crate::printable::printable_lines;
use crate::readiness::check::SHELL;
use crate::run_directory::RunDirectory;
use crate::service_manager::ServiceManager;
use crate::service_manager::passed::{self, Passed};
use crate::status_file::StatusFile;
use crate::worker::Recipe;

/// How long the last lines may take to reach a log that does not take them.
const LAST_LINES: Duration = Duration::from_secs(1);

/// How long the removal of files may take.
const CLEAN_UP: Duration = Duration::from_secs(2);

/// Runs until it is told to stop.
pub fn run(config: Config) -> ExitCode {
    // Before anything else is opened, and while this is the process that they were passed to.
    let passed = match passed::take() {
        Ok(passed) => passed,
        Err(error) => return complain(&error),
    };
    if !config.daemonize {
        return supervise(config, passed, None);
    }
    match into_background() {
        Ok(Role::Launcher(notice)) => launcher(notice),
        Ok(Role::Daemon(voice)) => supervise(config, passed, Some(voice)),
        Err(error) => complain(&format!("fork failed:{error}; the superdaemon was not started")),
    }
}

/// The process that the user started: ends when the first worker runs, or with the reason why it does not.
fn launcher(notice: Notice) -> ExitCode {
    match notice.wait() {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(reason)) => complain(&reason),
        Err(error) => complain(&format!("failed to hear from the process in the background: {error}")),
    }
}

fn supervise(config: Config, passed: Vec<Passed>, voice: Option<Voice>) -> ExitCode {
    match set_up(config, passed, voice.is_some()) {
        Ok((parts, succession)) => finish(EventLoop::new(parts, voice, succession).run()),
        Err(error) => match voice {
            Some(voice) => {
                voice.failed(&error);
                ExitCode::FAILURE
            }
            None => complain(&error),
        },
    }
}

fn finish((as_asked, mut parts): (bool, Parts)) -> ExitCode {
    parts.service_manager.take_leave(&parts.listeners, as_asked);
    // The files may be on a file system that does not answer any more.
    finish_within(CLEAN_UP, || clean_up(parts));
    if as_asked { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Goes on in this process where another image of the program was: nothing is set up, everything is taken over. What
/// cannot be taken over gives that image its place back.
pub fn resume(mut resumption: Resumption) -> ExitCode {
    let (mut state, unknown) = or_go_back(handover::read(&resumption.state));
    // If another program was executed and could not go on, this one gets back the command line that it had.
    let came_back = resumption.crash.is_some() && state.upgrade.is_some();
    let command_line: Vec<OsString> = if came_back {
        std::mem::take(&mut state.command_line).into_iter().map(Into::into).collect()
    } else {
        std::env::args_os().collect()
    };
    let config = *or_go_back(handover::config(command_line.iter().skip(1).cloned()));
    name_the_process(command_line.first());
    let mut log = LogOutput::on(std::io::stderr().as_fd());
    log.resume(std::mem::take(&mut state.log));
    let mut environment = Environment::new(std::env::vars_os(), config.overrides.clone());
    environment.resume(std::mem::take(&mut state.envdir));
    for warning in environment.reload() {
        log.line(&warning);
    }
    let signals = or_go_back(SignalFd::take_over().map_err(text("failed to take over the signals")));
    let inherited = &mut resumption.inherited;
    let listeners = or_go_back(handover::listeners(&state));
    let listeners = or_go_back(Listeners::resume(&config, listeners, inherited));
    environment.remove_stale(listeners.all());
    let privileges = match state.privileges.take().filter(|_| resumption.crash.is_some()) {
        Some(before) => config.privileges.resume(before),
        None => or_go_back(config.privileges.resolve()),
    };
    environment.tell_of_user(privileges.variables());
    let recipe = or_go_back(Recipe::new(&config, privileges, &listeners));
    let run_directory = RunDirectory::open();
    let pid_file = config.pid_file.as_ref().map(|path| {
        let file = state.pid_file.and_then(|file| take(inherited, file));
        let file = or_go_back(file.ok_or_else(|| "the PID file is not open".to_owned()));
        let lock = state.pid_file_lock.and_then(|lock| take(inherited, lock));
        PidFile::resume(path, file, lock, run_directory.as_ref().ok())
    });
    let status_file =
        config.status_file.as_ref().map(|path| StatusFile::resume(path, std::process::id(), state.status_file));
    let control = state.control.take().map(|control| {
        let path = config.control_socket.as_deref();
        or_go_back(ControlSocket::resume(control, path, &run_directory, inherited))
    });
    let log_command = match (&config.log, state.log_command.take()) {
        (Some(LogTarget::Command(command)), Some(log)) => {
            Some(or_go_back(LogCommand::resume(command, log, now(), inherited)))
        }
        _ => None,
    };
    // What is odd about it was said at the start.
    let (mut service_manager, _) = ServiceManager::find(&|name| std::env::var_os(name), &config, now());
    if let Some(state) = state.service_manager.take() {
        service_manager.resume(state, inherited);
    }
    let parts = Parts {
        control,
        config,
        run_directory,
        signals,
        environment,
        listeners,
        recipe,
        log,
        log_command,
        pid_file,
        status_file,
        service_manager,
    };
    finish(EventLoop::resume(parts, state, unknown, Arrival { resumption, command_line }).go_on())
}

/// An error must not clean anything up: it all belongs to the image that is gone back to.
fn or_go_back<T>(result: Result<T, String>) -> T {
    match result {
        Ok(value) => value,
        Err(reason) => Resumption::go_back(&reason),
    }
}

/// A program that is executed by its descriptor has a number for its name in ps(1).
fn name_the_process(first_word: Option<&OsString>) {
    let name = first_word.and_then(|word| Path::new(word).file_name()).unwrap_or_default();
    if let Ok(name) = CString::new(name.as_bytes()) {
        // If it does not work, it is only a name.
        let _ = rustix::thread::set_name(&name);
    }
}

/// Where the program's file is, as an absolute path: what is there later is what an upgrade executes.
fn own_path(first_word: Option<&OsString>) -> PathBuf {
    let word = first_word.map(PathBuf::from).unwrap_or_default();
    let found = if word.as_os_str().as_bytes().contains(&b'/') {
        std::path::absolute(&word).ok()
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let candidates = std::env::split_paths(&path).filter_map(|dir| std::path::absolute(dir.join(&word)).ok());
        candidates.into_iter().find(|candidate| candidate.is_file())
    };
    found.or_else(|| std::env::current_exe().ok()).unwrap_or(word)
}

/// Does everything that can fail before a worker is spawned. What was made is unmade if a later step fails.
fn set_up(mut config: Config, passed: Vec<Passed>, in_background: bool) -> Result<(Parts, Succession), String> {
    let mut environment = Environment::new(std::env::vars_os(), config.overrides.clone());
    let mut log = LogOutput::on(std::io::stderr().as_fd());
    for warning in environment.load()? {
        log.line(&warning);
    }
    if matches!(config.ready, ReadyRule::Exec(_)) && !Path::new(SHELL).exists() {
        return Err(format!(
            "failed to find {SHELL}, which runs the command of --ready=exec; use --ready=accept or --ready=notify in an \
             image without a shell"
        ));
    }
    let (log_command, log_target) = open_log(config.log.as_ref())?;
    log.line(&format!("start_server (pid:{}) starting now...", std::process::id()));
    for warning in &config.warnings {
        log.line(warning);
    }
    // Before anything is bound: who they are, and whether we may run anything as them.
    let privileges = config.privileges.resolve()?;
    environment.tell_of_user(privileges.variables());
    if let Some(words) = privileges.words() {
        log.line(&format!("the program runs as {words}"));
    }
    // Until here and while names are looked up, a Ctrl-C ends the process, and leaves nothing behind. But PID 1 gets no
    // signal that it neither handles nor blocks: the one that ends its container would be lost.
    let take_over = || SignalFd::take_over().map_err(text("failed to take over the signals"));
    let early = if std::process::id() == 1 { Some(take_over()?) } else { None };
    resolve_hosts(&mut config.listeners).map_err(|error| error.to_string())?;
    let signals = early.map_or_else(take_over, Ok)?;

    let run_directory = RunDirectory::open();
    if let (ReadyRule::Notify, Err(why)) = (&config.ready, &run_directory) {
        return Err(no_notify_socket(why));
    }
    let mut pid_file = match &config.pid_file {
        Some(path) => {
            let run = run_directory.as_ref().ok();
            Some(PidFile::lock(path, run, &mut |line| log.line(&line)).map_err(|error| error.to_string())?)
        }
        None => None,
    };
    let status_file = match &config.status_file {
        Some(path) => {
            let status = StatusFile::new(path, std::process::id());
            status.check().map_err(|error| error.to_string())?;
            Some(status)
        }
        None => None,
    };
    let (mut service_manager, warning) = ServiceManager::find(&|name| std::env::var_os(name), &config, now());
    warning.iter().for_each(|warning| log.line(warning));
    let passed = PassedSockets::examine(service_manager.remember(passed), &mut |line| log.line(&line))
        .map_err(|error| error.to_string())?;
    let mut listeners = Listeners::open(&config.listeners, passed, config.first_fd, &mut |line| log.line(&line))
        .map_err(|error| error.to_string())?;
    environment.remove_stale(listeners.all());
    let recipe = Recipe::new(&config, privileges, &listeners)?;

    // Before the PID file is written: whoever reads it can talk to us.
    let control = open_control(&config, &run_directory, &mut log)?;
    if let Some(file) = &mut pid_file {
        file.write(std::process::id()).map_err(|error| error.to_string())?;
    }
    // Descendants of workers that lose their parent come to us, so that none can hide from the end.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(text("failed to become the reaper of orphans"))?;
    if let Some(target) = log_target {
        redirect(&target).map_err(text("failed to redirect the output to the log"))?;
        log = LogOutput::on(std::io::stderr().as_fd());
    }
    if in_background && !listeners.uses_standard_input() {
        File::open("/dev/null")
            .and_then(|null| Ok(rustix::stdio::dup2_stdin(null)?))
            .map_err(text("failed to open /dev/null as standard input"))?;
    }
    service_manager.keep(&mut listeners);
    let mut parts = Parts {
        control,
        config,
        run_directory,
        signals,
        environment,
        listeners,
        recipe,
        log,
        log_command,
        pid_file,
        status_file,
        service_manager,
    };
    let command_line: Vec<OsString> = std::env::args_os().collect();
    let path = own_path(command_line.first());
    let mut succession = Succession::new(&parts, path, command_line, Unknown::default())?;
    if let Err(error) = succession.prepare(&parts, None) {
        parts.log.line(&format!(
            "failed to prepare for a crash or an upgrade: {error}; a crash of the superdaemon would be its end, and it \
             cannot be upgraded"
        ));
    }
    Ok((parts, succession))
}

fn open_log(target: Option<&LogTarget>) -> Result<(Option<LogCommand>, Option<OwnedFd>), String> {
    match target {
        None => Ok((None, None)),
        Some(LogTarget::File(path)) => {
            let file = open_log_file(path).map_err(|error| {
                let why = io_reason(&error);
                format!("failed to open log file:{}: {why}; give a file that can be appended to", path.display())
            })?;
            Ok((None, Some(file)))
        }
        Some(LogTarget::Command(command)) => {
            let (command, pipe) = LogCommand::start(command).map_err(|error| error.to_string())?;
            Ok((Some(command), Some(pipe)))
        }
    }
}

/// The control socket. Where none was asked for, the superdaemon does without if it must: nobody else depends on it.
fn open_control(
    config: &Config,
    run_directory: &Result<RunDirectory, String>,
    log: &mut LogOutput,
) -> Result<Option<ControlSocket>, String> {
    match ControlSocket::open(config.control_socket.as_deref(), run_directory) {
        Ok(control) => Ok(Some(control)),
        Err(error) if config.control_socket.is_some() => Err(error),
        Err(error) => {
            log.line(&format!("{error}; --restart and --stop work by signals, --status does not"));
            Ok(None)
        }
    }
}

/// Makes standard output and standard error this descriptor.
pub fn redirect(target: &OwnedFd) -> std::io::Result<()> {
    rustix::stdio::dup2_stdout(target)?;
    rustix::stdio::dup2_stderr(target)?;
    Ok(())
}

/// Removes what is ours, in the order of Server::Starter.
fn clean_up(parts: Parts) {
    let Parts { mut log, mut listeners, run_directory, pid_file, status_file, control, .. } = parts;
    if let Some(pid_file) = pid_file
        && let Err(error) = pid_file.remove(run_directory.as_ref().ok())
    {
        log.line(&error.to_string());
    }
    listeners.remove_socket_files(&mut |line| log.line(&line));
    if let Some(mut status_file) = status_file
        && let Err(error) = status_file.remove()
    {
        log.line(&error.to_string());
    }
    if let Some(control) = control {
        control.close();
    }
    log.finish(LAST_LINES);
    listeners.leave();
}

/// Why a generation cannot say that it is ready, where there is no run directory.
pub fn no_notify_socket(why: &str) -> String {
    format!(
        "there is no directory for the notify sockets of --ready=notify that only this user can write to ({why}); make \
         one, or use --ready=accept"
    )
}

fn text<E: Display>(what: &'static str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}

fn complain(error: &str) -> ExitCode {
    // That standard error is closed too cannot be told to anybody.
    let _ = writeln!(std::io::stderr(), "{}", printable_lines(error));
    ExitCode::FAILURE
}
