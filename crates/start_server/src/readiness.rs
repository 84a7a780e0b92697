//! How a generation proves that it serves, beyond being alive: by a message, by what the kernel shows, or by a check.
//! The event loop owns what is here while a proof is wanted, and tells the supervisor when there is one.

pub mod check;
pub mod notify;
