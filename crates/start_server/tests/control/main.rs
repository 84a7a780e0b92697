//! The control socket: its language, who may speak it, and that nobody who does can do any harm.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test reports what fails by panicking"
)]

mod client;
mod language;
mod rudeness;
mod trust;
#[path = "../world/mod.rs"]
mod world;
