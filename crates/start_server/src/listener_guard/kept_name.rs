//! A second, hidden name of a socket's file, by which it is put back after a server has removed it: many servers remove
//! the file of a unix socket when they stop, although the next generation serves on it.

use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, linkat, openat};
use rustix::io::Errno;

use crate::file_identity::FileIdentity;

/// The names of one socket's file. Dropping it removes the hidden one.
#[derive(Debug)]
pub struct KeptName {
    path: PathBuf,
    /// None if the directory does not take it.
    kept: Option<PathBuf>,
    identity: FileIdentity,
    mode: u32,
    owner: (u32, u32),
}

/// What has become of the file.
#[derive(Debug)]
pub enum FileState {
    /// It is where it was.
    InPlace,
    /// It was gone and has its name again.
    PutBack,
    /// Something else has its name now; that is not touched.
    Replaced(FileIdentity),
    /// It is gone for good.
    Lost,
}

impl KeptName {
    /// Gives the socket's file at this path a second name. What a superdaemon that was killed has left under that name
    /// is removed.
    ///
    /// # Errors
    /// There is no file at the path.
    pub fn new(path: &Path) -> io::Result<Self> {
        Ok(Self::found(path, &fs::symlink_metadata(path)?))
    }

    fn found(path: &Path, found: &Metadata) -> Self {
        let mut name = Self {
            path: path.to_owned(),
            kept: None,
            identity: FileIdentity::of(found),
            mode: found.mode() & 0o777,
            owner: (found.uid(), found.gid()),
        };
        if let Some(kept) = hidden(path)
            && name.keep_at(&kept).is_ok()
        {
            name.kept = Some(kept);
        }
        name
    }

    /// The names of a file that is known already. If it has lost the one that is for everybody, it gets that back.
    ///
    /// # Errors
    /// It is gone, or something else has its name now.
    pub fn of(path: &Path, identity: FileIdentity) -> io::Result<Self> {
        let look = || fs::symlink_metadata(path).ok().filter(|found| FileIdentity::of(found) == identity);
        let mut found = look();
        if found.is_none()
            && let Some(kept) = hidden(path).filter(|kept| identity.is_at(kept))
        {
            linkat(CWD, &kept, CWD, path, AtFlags::empty())?;
            found = look();
        }
        found.map(|found| Self::found(path, &found)).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The name that is for everybody.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the directory has taken the second name.
    pub fn is_kept(&self) -> bool {
        self.kept.is_some()
    }

    /// Looks whether the file is where it should be, and puts it back if its place is free.
    pub fn check(&self) -> FileState {
        if self.identity.is_at(&self.path) {
            if let Some(kept) = &self.kept
                && !self.identity.is_at(kept)
            {
                // Somebody has cleaned up thoroughly; the next look will try again if this fails.
                let _ = self.keep_at(kept);
            }
            return FileState::InPlace;
        }
        let put_back = match &self.kept {
            Some(kept) if self.identity.is_at(kept) => linkat(CWD, kept, CWD, &self.path, AtFlags::empty()),
            _ => Err(Errno::NOENT),
        };
        match (put_back, FileIdentity::at(&self.path)) {
            (Ok(()), _) => FileState::PutBack,
            (Err(_), Ok(found)) if found == self.identity => FileState::InPlace,
            (Err(_), Ok(found)) => FileState::Replaced(found),
            (Err(_), Err(_)) => FileState::Lost,
        }
    }

    /// Removes both names, for a new socket to take the path. Nothing is removed that is not this file.
    pub fn give_way(&mut self) {
        // Its owner may have changed them since.
        if let Ok(found) = fs::symlink_metadata(&self.path)
            && FileIdentity::of(&found) == self.identity
        {
            (self.mode, self.owner) = (found.mode() & 0o777, (found.uid(), found.gid()));
            let _ = fs::remove_file(&self.path);
        }
        self.forget();
    }

    /// The permissions of the file, as in `0o777`.
    pub fn mode(&self) -> u32 {
        self.mode
    }

    /// The names of a new socket's file at the path, which gets the owner of this one.
    ///
    /// # Errors
    /// There is no file at the path.
    pub fn renewed(&self) -> io::Result<Self> {
        // By a descriptor: whatever the name leads to meanwhile, nothing but a socket is given away.
        let file = openat(CWD, &self.path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let found = fstat(&file)?;
        if FileType::from_raw_mode(found.st_mode) == FileType::Socket && (found.st_uid, found.st_gid) != self.owner {
            let (user, group) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
            // Where this superdaemon cannot give files away, it could not when the first one was made.
            let _ = chownat(&file, "", Some(user), Some(group), AtFlags::EMPTY_PATH);
        }
        Self::new(&self.path)
    }

    fn keep_at(&self, kept: &Path) -> rustix::io::Result<()> {
        let link = || linkat(CWD, &self.path, CWD, kept, AtFlags::empty());
        match link() {
            Err(Errno::EXIST) if self.identity.is_at(kept) => Ok(()),
            Err(Errno::EXIST) if fs::symlink_metadata(kept).is_ok_and(|found| found.file_type().is_socket()) => {
                let _ = fs::remove_file(kept);
                link()
            }
            result => result,
        }
    }

    fn forget(&mut self) {
        if let Some(kept) = self.kept.take()
            && self.identity.is_at(&kept)
        {
            let _ = fs::remove_file(&kept);
        }
    }
}

impl Drop for KeptName {
    fn drop(&mut self) {
        self.forget();
    }
}

/// `/run/.app.sock.kept` for `/run/app.sock`: always the same, so that what was left behind is found.
fn hidden(path: &Path) -> Option<PathBuf> {
    let mut name = OsString::from(".");
    name.push(path.file_name()?);
    name.push(".kept");
    Some(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("kept_name-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn a_file_that_was_removed_is_put_back() {
        let directory = directory("back");
        let path = directory.join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let name = KeptName::new(&path).unwrap();
        assert!(name.is_kept() && matches!(name.check(), FileState::InPlace));
        for _ in 0..3 {
            fs::remove_file(&path).unwrap();
            assert!(matches!(name.check(), FileState::PutBack));
            UnixStream::connect(&path).unwrap();
        }
        // Its hidden name as well.
        fs::remove_file(directory.join(".s.kept")).unwrap();
        assert!(matches!(name.check(), FileState::InPlace));
        fs::remove_file(&path).unwrap();
        assert!(matches!(name.check(), FileState::PutBack));
        drop(name);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_somebody_else_has_put_there_is_left_alone() {
        let directory = directory("other");
        let path = directory.join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let mut name = KeptName::new(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        let other = FileIdentity::at(&path).unwrap();
        assert!(matches!(name.check(), FileState::Replaced(found) if found == other));
        name.give_way();
        assert!(other.is_at(&path));
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn what_a_killed_superdaemon_has_left_is_replaced_and_nothing_else() {
        let directory = directory("left");
        let (path, kept) = (directory.join("s"), directory.join(".s.kept"));
        drop(UnixListener::bind(&kept).unwrap());
        let _listener = UnixListener::bind(&path).unwrap();
        let name = KeptName::new(&path).unwrap();
        assert!(name.is_kept());
        assert_eq!(FileIdentity::at(&kept).unwrap(), FileIdentity::at(&path).unwrap());
        // One of the same socket, which was taken over from workers of a superdaemon that was killed.
        std::mem::forget(name);
        assert!(KeptName::new(&path).unwrap().is_kept());
        fs::write(&kept, "precious").unwrap();
        let name = KeptName::new(&path).unwrap();
        assert!(!name.is_kept());
        fs::remove_file(&path).unwrap();
        assert!(matches!(name.check(), FileState::Lost));
        drop(name);
        assert_eq!(fs::read_to_string(&kept).unwrap(), "precious");
        fs::remove_dir_all(directory).unwrap();
    }
}
