//! Under a service manager: what it is told, what it passes and keeps, first with one that the tests play themselves,
//! then with a real systemd.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test reports what fails by panicking, and what it leaves out on standard error"
)]

mod machine;
mod manager;
mod passed;
mod real;
mod told;
mod upgrades;
#[path = "../world/mod.rs"]
mod world;
