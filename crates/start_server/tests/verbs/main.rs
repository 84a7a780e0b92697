//! The verbs as a shell sees them: what they print, how they end, and what they leave behind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test reports what fails by panicking"
)]

mod finding;
mod original;
mod restart;
mod shell;
mod status;
mod stop;
#[path = "../world/mod.rs"]
mod world;
