//! What the tests of start_server share: [`Daemon`] runs a superdaemon (ours or the original) in a directory of its
//! own, [`Client`] keeps asking it for pages and counts what went wrong, and the program `testserver` of this crate is
//! the server program that behaves or misbehaves on request.
//!
//! Everything here waits for events with a generous limit ([`patience`]) and panics when the event does not come: a
//! test that uses it has nothing to check but what it is about.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a harness for tests reports what fails by panicking"
)]

pub mod http_server;
pub mod signals;

mod client;
mod command;
mod daemon;
mod deployment;
mod dump;
mod event;
mod http_load;
mod installed;
mod load;
mod ports;
mod processes;
mod program;
mod temp_dir;
mod wait;

pub use client::{Address, Client, Failure, Reply, Tally, get};
pub use command::command;
pub use daemon::{Builder, Daemon};
pub use deployment::{Deployment, exit_of};
pub use dump::Dump;
pub use event::Event;
pub use http_load::{get_text, http_load, idle_client};
pub use installed::{find_program, is_installed, needed};
pub use load::{Load, Outcome};
pub use ports::Port;
pub use program::{start_server, testserver};
pub use temp_dir::TempDir;
pub use wait::{patience, wait_for};
