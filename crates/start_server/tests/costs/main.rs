//! The gate: what the superdaemon costs, in figures that do not depend on how fast the machine is. Each is measured on a
//! build for release and held against its limit in `limits.json`.
//!
//! `START_SERVER_RECORD_COSTS=1 cargo test -p start_server --test costs` writes what is measured into that file, with
//! new limits: for growth that is meant, and after costs were lowered.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test reports what fails by panicking"
)]

mod instructions;
mod limits;
mod memory;
mod system_calls;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

use limits::Costs;
use testkit::{Builder, Daemon, is_installed};

#[test]
fn nothing_costs_more_than_was_recorded() {
    for tool in ["strace", "valgrind"] {
        if !is_installed(tool) {
            return;
        }
    }
    // Built once, before the measures ask for it side by side.
    release();
    let measures: [fn() -> Costs; 4] =
        [system_calls::of_a_restart, system_calls::of_listeners, instructions::measured, memory::measured];
    let running = measures.map(thread::spawn);
    let costs = running.into_iter().map(|measure| measure.join().expect("a figure could not be had")).collect();
    limits::judge(&Costs::merged(costs));
}

/// The superdaemon as it is released: built by the first caller, and fresh.
fn release() -> &'static PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // A test runs as TARGET/PROFILE/deps/NAME-HASH.
        let test = std::env::current_exe().unwrap();
        let target = test.ancestors().nth(3).unwrap();
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--release", "--package=start_server", "--bin=start_server", "--target-dir"]);
        let built = cargo.arg(target).status().unwrap();
        assert!(built.success(), "start_server does not build for release");
        target.join("release/start_server")
    })
}

/// A superdaemon with next to nothing asked of it, and as many unix listeners.
fn superdaemon(listeners: u32) -> Builder {
    let paths = (0..listeners).map(|number| format!("--path=socket.{number}"));
    Daemon::new(release()).with_files().option("--kill-old-delay=0").options(paths)
}

/// A program that serves nobody and ends on TERM.
const SLEEPER: [&str; 2] = ["sleep", "600"];

/// Waits until nothing but `generation` is left.
fn wait_only(daemon: &Daemon, generation: u32) {
    daemon.wait_status_file(|generations| generations == [generation]);
}
