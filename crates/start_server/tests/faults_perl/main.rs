//! The faults of the original in Perl, one by one, with their numbers in docs/compatibility.md. Each test is named
//! after a fault, says what it was, and fails against a superdaemon that has it: `SUPERDAEMON=PATH` in the environment
//! names another one to be tested.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test reports what fails by panicking"
)]

mod command_line;
mod disasters;
mod environment;
mod failing_starts;
mod logs;
mod old_workers;
mod pid_file;
mod restart_verb;
mod signals;
mod sockets;
mod status_file;

use std::path::PathBuf;
use std::process::Output;

use testkit::{Builder, Daemon, Port};

/// The superdaemon under test.
fn superdaemon() -> PathBuf {
    std::env::var_os("SUPERDAEMON").unwrap_or_else(|| env!("CARGO_BIN_EXE_start_server").into()).into()
}

fn daemon() -> Builder {
    Daemon::new(superdaemon())
}

/// The option that makes it listen at this port of the loopback interface.
fn at(port: &Port) -> String {
    format!("--port=127.0.0.1:{port}")
}

/// How many lines of the log contain `text`.
fn lines_with(daemon: &Daemon, text: &str) -> usize {
    daemon.lines().iter().filter(|line| line.contains(text)).count()
}

/// Whether the worker of `generation` has recorded `what`.
fn has_recorded(daemon: &Daemon, generation: u32, what: &str) -> bool {
    daemon.events().iter().any(|event| event.generation == generation && event.what == what)
}

/// What a verb, or a start that failed, had to say.
fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The state letter, the parent, the process group and the session of a process, zombies included; see
/// proc_pid_stat(5).
fn process(pid: u32) -> Option<(char, [u32; 3])> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let mut number = || fields.next()?.parse().ok();
    Some((state, [number()?, number()?, number()?]))
}
