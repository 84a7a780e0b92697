//! The superdaemon executes its own program anew while it runs: upgrades in place, and what it does when it crashes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test reports what fails by panicking"
)]

#[path = "../control/client.rs"]
#[allow(dead_code, reason = "no test uses everything")]
mod client;
mod crashes;
mod formats;
mod init;
mod load;
mod options;
mod phases;
mod programs;
mod refusals;
#[path = "../world/mod.rs"]
mod world;
