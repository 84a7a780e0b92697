//! Other users, other namespaces and workers that have turned: what none of them may stop, command, read or fill.
//! `SECURITY.md` has the table of which each row is a test here.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test reports what fails by panicking"
)]

#[path = "../world/mod.rs"]
mod world;

mod addressing;
mod control_socket;
mod envdir;
mod escapes;
mod files;
mod floods;
mod gone_clients;
mod hostile_load;
mod namespaces;
mod notify;
mod other_user;
mod pid_file;
mod traps;
mod turned_workers;
mod users;
mod version_0_1;
