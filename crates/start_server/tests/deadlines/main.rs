//! Deadlines and failures: what becomes of those who do not go, and of those who do not come.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test reports what fails by panicking"
)]

mod draining;
mod failing;
mod stopping;
#[path = "../world/mod.rs"]
mod world;
