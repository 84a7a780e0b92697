//! Why something could not be done, as a sentence to whoever started the server. Made everywhere in this crate.

use std::{fmt, io};

/// Why a listener could not be had, or the supervisor not be told.
///
/// `Display` and `Debug` both give the sentence: what was asked for, what the variable held, what was found, and what to
/// do about it. So it can be returned from `main` as it is, and it becomes an [`io::Error`] by `?`.
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

/// What sort of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A variable holds something that cannot be understood.
    Variable,
    /// A descriptor is not what the variable says, or not even open.
    Descriptor,
    /// There are inherited listeners, but none of them is what was asked for.
    NoMatch,
    /// The listener was taken before.
    Taken,
    /// Nothing was inherited, and the address could not be bound.
    Bind,
    /// The supervisor could not be told.
    Notify,
    /// The listener was found, but could not be put to use.
    System,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What sort of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        io::Error::other(error)
    }
}
