//! Other users, other namespaces and workers that have turned: what none of them may stop, command, read or fill.
//! `SECURITY.md` has the table of which each row is a test here.

#[path = "../world/mod.rs"]
mod world;

mod other_user;
mod strangers;
mod turned_workers;
mod users;
