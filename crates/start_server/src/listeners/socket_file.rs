//! The files of unix sockets: made with the socket, and removed when the superdaemon ends.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat, fstat};
use rustix::io::Errno;

use super::{ListenError, unix};
use crate::errno::{io_reason, reason};
use crate::file_identity::FileIdentity;
use crate::files::{Directories, Place};

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
    /// The file of this socket, which is at this path.
    ///
    /// # Errors
    /// It is not, or not for sure.
    pub fn of(socket: impl AsFd, path: &Path, place: &Place) -> Result<Self, ListenError> {
        Ok(Self { path: path.to_owned(), identity: identity_of(socket, path, place)?, inherited: false })
    }

    /// Removes it, unless another one has taken its place.
    ///
    /// # Errors
    /// As of unlink(2).
    pub fn remove(&self, directories: &mut Directories) -> io::Result<()> {
        if !self.identity.is_at(&self.path) {
            return Ok(());
        }
        let place = directories.place(&self.path)?;
        if place.has(self.identity) { Ok(place.remove()?) } else { Ok(()) }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.inherited {
            // Whoever wants to know about a failure has tried before.
            let _ = self.remove(&mut Directories::default());
        }
    }
}

/// Which file this socket has at this path. Where nobody else can put files, it is the one that is there.
///
/// # Errors
/// Another one is there, or none.
pub fn identity_of(socket: impl AsFd, path: &Path, place: &Place) -> Result<FileIdentity, ListenError> {
    let gone = |errno| {
        unix::refused(&path.display().to_string(), errno, "something else removes files there; choose another path")
    };
    let found = place.look().map_err(gone)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return Err(exchanged(path));
    }
    let identity = FileIdentity::of_stat(&found);
    if place.is_open_to_others() {
        let held = place.hold().map_err(gone)?;
        // If the kernel does not tell, little harm can come of it: the file is looked at, and at most removed.
        let is_ours = sys::unix_file::is_file_of(socket, &held).unwrap_or(true);
        if !is_ours || fstat(&held).is_ok_and(|held| FileIdentity::of_stat(&held) != identity) {
            return Err(exchanged(path));
        }
    }
    Ok(identity)
}

/// Changes a file, by a descriptor that is seen to be that of the socket's own file.
///
/// # Errors
/// Something else is at the path; or `change` fails, of which it says what.
pub fn change<T>(
    socket: impl AsFd,
    path: &Path,
    place: &Place,
    change: impl FnOnce(&OwnedFd, &Stat) -> Result<T, ListenError>,
) -> Result<T, ListenError> {
    let cannot = |why: &str| {
        let advice = "choose a path in a directory that only root can write";
        unix::cannot_change(path, "mode or owner", why, advice)
    };
    let held = place.hold().map_err(|errno| cannot(&reason(errno.raw_os_error())))?;
    let found = fstat(&held).map_err(|errno| cannot(&reason(errno.raw_os_error())))?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Socket {
        return Err(exchanged(path));
    }
    match sys::unix_file::is_file_of(socket, &held) {
        Ok(true) => {}
        Ok(false) => return Err(exchanged(path)),
        // The kernel does not tell. Where nobody else can put sockets, it is ours.
        Err(_) if !place.is_open_to_others() => {}
        Err(error) => {
            return Err(cannot(&format!("whether it is the socket's own file cannot be seen ({})", io_reason(&error))));
        }
    }
    change(&held, &found)
}

fn exchanged(path: &Path) -> ListenError {
    let advice = "somebody has put something else in the place of the socket file; choose a path in a directory that \
                  only root can write";
    unix::refused(&path.display().to_string(), Errno::ADDRINUSE, advice)
}
