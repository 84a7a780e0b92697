//! As a container runs it: PID 1 of a PID namespace, with next to nothing around it. Needs root, or the namespaces
//! cannot be made; without it these tests say so and pass.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test reports what fails by panicking, and what it leaves out on standard error"
)]

mod ending;
mod minimal;
mod orphans;
mod probing;
#[path = "../world/mod.rs"]
mod world;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use testkit::{Address, Builder, Daemon};

/// Namespaces like those of a container. Sockets with a name are reached from outside, ports are not.
const NAMESPACES: &str = "unshare --pid --net --ipc --mount --fork --kill-child --mount-proc";

/// Whether containers can be made here; if not, says which test cannot.
fn can_contain(test: &str) -> bool {
    let mut words = NAMESPACES.split(' ');
    let probe = Command::new(words.next().unwrap()).args(words).arg("true").output();
    let can = probe.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("{test}: needs root and the right to make namespaces; not tested");
    }
    can
}

/// Ours, with its files and a socket that is reached from outside.
fn ours() -> Builder {
    world::ours().option("--path=socket").after_script(&format!("set -- {NAMESPACES} \"$@\""))
}

/// Starts it as PID 1 of a container.
fn start(builder: Builder) -> Daemon {
    let mut daemon = builder.start();
    let first = daemon.wait_for("PID 1", || daemon.workers().into_iter().find(|pid| is_first(*pid)));
    daemon.adopt(first);
    daemon
}

/// Whether a process is PID 1 of its namespace, see proc_pid_status(5).
fn is_first(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    pids.split_whitespace().count() > 1 && pids.split_whitespace().last() == Some("1")
}

fn address(daemon: &Daemon) -> Address {
    Address::Unix(daemon.path("socket"))
}

/// Runs our program in the container, as `docker exec` and probes do.
fn inside(daemon: &Daemon, arguments: &[&str]) -> Output {
    let target = daemon.pid().to_string();
    let enter = ["-t", &target, "-p", "-n", "-m", "-w", "--", env!("CARGO_BIN_EXE_start_server")];
    daemon.verb_of(Path::new("nsenter"), enter.iter().chain(arguments))
}
