//! The verbs: what `start_server` does when it addresses a running superdaemon instead of being one.

mod connection;
mod deadline;
mod find;
mod original;
mod reach;
mod restart;
mod status;
mod stop;
mod upgrade;

pub use restart::restart;
pub use status::status;
pub use stop::stop;
pub use upgrade::upgrade;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::printable::printable;

/// How a verb ends, as its exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// As asked.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The new generation failed and the old one still serves.
    Kept = 3,
    /// It took longer than the user wanted to wait.
    TimedOut = 4,
    /// There is no running superdaemon.
    NotRunning = 5,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(ending as u8)
    }
}

/// Why a verb could not be carried out, and its exit code.
#[derive(Debug)]
struct Failure {
    ending: Ending,
    reason: String,
}

impl Failure {
    fn new(ending: Ending, reason: impl Into<String>) -> Self {
        Self { ending, reason: reason.into() }
    }
}

/// Ends a verb: with what it came to, or with the reason why it did not.
fn end(result: Result<Ending, Failure>) -> ExitCode {
    match result {
        Ok(ending) => ending.into(),
        Err(failure) => {
            tell(&failure.reason);
            failure.ending.into()
        }
    }
}

/// A line for the user, whatever others have put into it. If nobody reads it, the exit code still tells.
fn tell(line: impl Display) {
    let _ = writeln!(io::stderr(), "{}", printable(&line.to_string()));
}
