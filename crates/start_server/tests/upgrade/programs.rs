//! Programs to upgrade to, and looks at what an upgrade must leave alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use testkit::Daemon;

pub use crate::world::put_program;

/// The superdaemon under test.
pub const OURS: &str = env!("CARGO_BIN_EXE_start_server");

/// A copy of the program, which is another file. A process of its own writes it: see [`put_program`].
pub fn copy(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    assert!(Command::new("install").args(["-m", "755", OURS]).arg(&path).status().unwrap().success());
    path
}

/// Upgrades with the verb.
pub fn upgrade(daemon: &Daemon) -> Output {
    daemon.verb(["--upgrade", "--pid-file=pid"])
}

/// Upgrades, which must succeed and leave the process where it is.
pub fn upgraded(daemon: &Daemon) {
    let output = upgrade(daemon);
    assert_eq!(output.status.code(), Some(0), "{}\n{:?}", text(&output), daemon.lines());
    assert!(text(&output).contains(&format!("the superdaemon (pid {}) was start_server", daemon.pid())), "{output:?}");
    assert!(daemon.is_running());
}

/// Upgrades to another program.
pub fn upgrade_to(daemon: &Daemon, program: &Path) -> Output {
    daemon.verb([format!("--upgrade={}", program.display()), "--pid-file=pid".to_owned()])
}

/// What a verb has said.
pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The file that the superdaemon runs.
pub fn program_of(daemon: &Daemon) -> PathBuf {
    fs::read_link(format!("/proc/{}/exe", daemon.pid())).unwrap()
}

/// The superdaemon's state as it remembered it last.
pub fn state(daemon: &Daemon) -> Value {
    let states = || {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
        let of_states = descriptors.flatten().map(|entry| entry.path()).filter(|path| {
            fs::read_link(path).is_ok_and(|target| target.to_string_lossy().contains("start_server state"))
        });
        // Of the two one may be written just now.
        of_states.filter_map(|path| serde_json::from_slice(&fs::read(path).ok()?).ok()).collect::<Vec<Value>>()
    };
    daemon.wait_for("a state", || states().into_iter().last())
}

/// What is open, less the numbers that tell one from another.
pub fn descriptors(daemon: &Daemon) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap();
    let targets = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let mut names: Vec<String> = targets
        .map(|target| target.to_string_lossy().trim_end_matches(|c: char| c.is_ascii_digit() || c == ']').into())
        .collect();
    names.sort_unstable();
    names
}

/// A field of proc_pid_status(5), in kB.
pub fn memory(daemon: &Daemon, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// How many children have ended and were not reaped.
pub fn zombies(daemon: &Daemon) -> usize {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", daemon.pid())).unwrap();
    let is_zombie = |pid: &&str| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('Z'))
    };
    children.split_whitespace().filter(is_zombie).count()
}
