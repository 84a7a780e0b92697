//! What a superdaemon that was killed leaves behind, and how the next one takes it over: under load (`load`), with
//! generations and listeners of every kind (`generations`), and where it may not (`refusals`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test reports what fails by panicking, and what it counted or leaves out on standard error"
)]

mod generations;
mod load;
mod refusals;
#[path = "../world/mod.rs"]
mod world;

use testkit::{Builder, Daemon, Port};

/// The option for this port of the loopback interface.
fn at(port: &Port) -> String {
    format!("--port=127.0.0.1:{port}")
}

/// A superdaemon with its files, in which a generation is ready as soon as it serves.
fn ours() -> Builder {
    world::ours().option("--ready=accept")
}

/// Kills the superdaemon and waits until it has gone.
fn kill(daemon: &mut Daemon) {
    daemon.signal("KILL");
    daemon.exit_status();
}

/// Waits until `daemon` has told every older generation to go.
fn wait_commit(daemon: &Daemon) {
    daemon.wait_line("killing old workers");
}
