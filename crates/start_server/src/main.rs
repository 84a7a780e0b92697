//! `start_server`: binds sockets, runs a server program that accepts on them, and replaces it on request.

mod cli;
mod config;
mod control_address;
mod control_socket;
mod envdir_watch;
mod environment;
mod errno;
mod event_loop;
mod export;
mod file_identity;
mod files;
mod handover;
mod listen_spec;
mod listener_guard;
mod listeners;
mod log_command;
mod log_excerpt;
mod log_output;
mod messages;
mod orphans;
mod pid_file;
mod placeholders;
mod port_holders;
mod preset;
mod printable;
mod privileges;
mod proving;
mod readiness;
mod run_directory;
mod service_manager;
mod span;
mod status_file;
mod superdaemon;
mod superdaemon_process;
mod trusted_users;
mod verbs;
mod worker;

use std::io::Write;
use std::process::ExitCode;

use config::Command;
use printable::printable_lines;
use sys::reexec::Arrival;

/// The command line, a file or the environment was not as it must be (sysexits are not used: scripts test for 0).
const USAGE: u8 = 2;

fn main() -> ExitCode {
    match sys::reexec::arrive() {
        Ok(None) => {}
        Ok(Some(Arrival::Trial { state, inherited })) => return handover::answer_trial(&state, inherited),
        Ok(Some(Arrival::Resumption(resumption))) => return superdaemon::resume(resumption),
        Err(error) => {
            say(&mut std::io::stderr(), &printable_lines(&format!("there is no state to go on from: {error}\n")));
            return ExitCode::FAILURE;
        }
    }
    let command = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            say(&mut std::io::stderr(), &printable_lines(&format!("{error}\n")));
            return ExitCode::from(USAGE);
        }
    };
    match command {
        Command::Help(text) | Command::Version(text) => say(&mut std::io::stdout(), &text),
        Command::Run(config) => superdaemon::run(*config),
        Command::Restart(verb) => verbs::restart(&verb),
        Command::Stop(verb) => verbs::stop(&verb),
        Command::Status(verb) => verbs::status(&verb),
        Command::Upgrade(verb) => verbs::upgrade(&verb),
    }
}

/// Prints a text that ends in a line end. That nobody can read it, or that the disk is full, is a failure.
fn say(stream: &mut dyn Write, text: &str) -> ExitCode {
    match stream.write_all(text.as_bytes()).and_then(|()| stream.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
