//! The files of unix sockets: made with the socket, and removed when the superdaemon ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::{ListenError, unix};
use crate::file_identity::FileIdentity;

/// A socket file that we made, removed when this goes. While our socket is open no other file can have its inode.
#[derive(Debug)]
pub struct SocketFile {
    /// Where it is.
    pub path: PathBuf,
    /// Which file it is.
    pub identity: FileIdentity,
    /// Whether workers serve there from before this program: then it is removed only on purpose, and they go on if it
    /// fails.
    pub inherited: bool,
}

impl SocketFile {
    /// The file that is at this path now.
    ///
    /// # Errors
    /// None is.
    pub fn at(path: &Path) -> Result<Self, ListenError> {
        match FileIdentity::at(path) {
            Ok(identity) => Ok(Self { path: path.to_owned(), identity, inherited: false }),
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                let advice = "something else removes files there; choose another path";
                Err(unix::refused(&path.display().to_string(), errno, advice))
            }
        }
    }

    /// Removes it, unless another one has taken its place.
    ///
    /// # Errors
    /// As of unlink(2).
    pub fn remove(&self) -> io::Result<()> {
        if self.identity.is_at(&self.path) { fs::remove_file(&self.path) } else { Ok(()) }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.inherited {
            // Whoever wants to know about a failure has tried before.
            let _ = self.remove();
        }
    }
}
