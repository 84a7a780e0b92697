//! The readiness rules: what proves that a generation serves, what does not, and that a slow server is replaced
//! without anybody noticing.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test reports what fails by panicking"
)]

mod accept;
mod exec;
mod notify;
mod slow_server;
#[path = "../world/mod.rs"]
mod world;
