//! What is said about a command line that cannot be followed. Everything that reads the command line makes these; the
//! program prints one and exits with status 2.

use std::fmt;

/// A sentence about what is wrong with the command line, in the words of the original where it has any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageError(String);

impl UsageError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nTry start_server --help", self.0)
    }
}

impl std::error::Error for UsageError {}
