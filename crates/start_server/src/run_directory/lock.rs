//! A lock in the run directory: a file that only our user can open, locked as long as somebody who has it open lives.
//! The PID file has one, since anybody can lock the PID file itself.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, openat, statat, unlinkat};
use rustix::io::Errno;

use super::RunDirectory;
use crate::file_identity::FileIdentity;

/// A lock that this process holds. Programs that it executes do not inherit it.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// Why a lock cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotLocked {
    /// Another process holds it; its PID, if it has written that down.
    Held(Option<i32>),
    /// The file cannot be opened or locked.
    Failed(Errno),
}

impl RunDirectory {
    /// Takes the lock of this name, without waiting, and writes our PID into its file.
    ///
    /// # Errors
    /// Somebody has it, or there can be none.
    pub fn lock(&self, name: &OsStr) -> Result<Lock, NotLocked> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        loop {
            let file = openat(self.as_fd(), name, flags, Mode::from_raw_mode(0o600)).map_err(NotLocked::Failed)?;
            let file = File::from(file);
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Err(NotLocked::Held(pid_in(&file))),
                Err(errno) => return Err(NotLocked::Failed(errno)),
            }
            // Who had it may have removed the file in the moment before.
            let ours = fstat(&file).map_err(NotLocked::Failed)?;
            let is_there = statat(self.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)
                .is_ok_and(|there| (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino));
            if is_there {
                // Only for the message of the next one who wants it.
                let _ = file.set_len(0).and_then(|()| file.write_all_at(std::process::id().to_string().as_bytes(), 0));
                return Ok(Lock { file });
            }
        }
    }

    /// Removes the file of a lock that nobody holds, as a superdaemon that was killed leaves it.
    pub(super) fn remove_unused_lock(&self, name: &OsStr) {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let Ok(file) = openat(self.as_fd(), name, flags, Mode::empty()) else { return };
        // Whoever opened it just before, and waits for us, will see that it is gone and make another.
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            let _ = unlinkat(self.as_fd(), name, AtFlags::empty());
        }
    }

    /// Gives a lock of this name back, and removes its file.
    pub fn unlock(&self, name: &OsStr, lock: Lock) {
        // While it is locked nobody else's can be there. One that stays does no harm.
        let _ = unlinkat(self.as_fd(), name, AtFlags::empty());
        drop(lock);
    }
}

impl Lock {
    /// The open file, to which the lock belongs.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<OwnedFd> for Lock {
    /// A lock as another image of this process had it.
    fn from(file: OwnedFd) -> Self {
        Self { file: file.into() }
    }
}

/// The name of the lock for a file: by the directory that it is in, whatever that is called, and its name there.
pub fn lock_name(directory: FileIdentity, name: &OsStr) -> OsString {
    /// What fits into a name besides the rest; see NAME_MAX in limits.h.
    const MOST: usize = 200;
    use std::os::unix::ffi::OsStrExt;
    let bytes = name.as_bytes();
    let end = bytes.get(bytes.len().saturating_sub(MOST)..).unwrap_or(bytes);
    let mut lock = OsString::from(format!("{directory:x}-"));
    lock.push(OsStr::from_bytes(end));
    lock.push(".lock");
    lock
}

/// Whether a name in the run directory is one of [`lock_name`].
pub(super) fn is_lock_name(name: &OsStr) -> bool {
    use std::os::unix::ffi::OsStrExt;
    name.as_bytes().ends_with(b".lock")
}

fn pid_in(file: &File) -> Option<i32> {
    let mut text = [0; 16];
    let length = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(text.get(..length)?).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use testkit::TempDir;

    use super::*;

    #[test]
    fn only_one_has_it() {
        let dir = TempDir::new();
        let run = RunDirectory::open_at(&dir.path().join("run")).unwrap();
        let directory = FileIdentity::at(dir.path()).unwrap();
        let name = lock_name(directory, OsStr::new("pid"));
        assert!(name.to_str().unwrap().ends_with("-pid.lock"), "{name:?}");
        let us = i32::try_from(std::process::id()).unwrap();
        let lock = run.lock(&name).unwrap();
        assert_eq!(run.lock(&name).unwrap_err(), NotLocked::Held(Some(us)));
        drop(lock);
        let lock = run.lock(&name).unwrap();
        run.unlock(&name, lock);
        assert!(!run.path().join(&name).exists());
        let name = lock_name(directory, OsStr::new(&"x".repeat(255)));
        assert!(name.len() <= 255);
        run.lock(&name).unwrap();
        // Something else of the name.
        std::os::unix::fs::symlink("nowhere", run.path().join("link")).unwrap();
        assert_eq!(run.lock(OsStr::new("link")).unwrap_err(), NotLocked::Failed(Errno::LOOP));
    }
}
