//! A second, hidden name of a socket's file, by which it is put back after a server has removed it: many servers remove
//! the file of a unix socket when they stop, although the next generation serves on it.

use std::ffi::OsString;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Gid, Stat, Uid, chownat, fstat};
use rustix::io::Errno;

use crate::file_identity::FileIdentity;
use crate::files::{Directories, Place, Reach};

/// The names of one socket's file. Dropping it removes the hidden one.
#[derive(Debug)]
pub struct KeptName {
    path: PathBuf,
    /// None if the directory does not take it.
    kept: Option<PathBuf>,
    identity: FileIdentity,
    mode: u32,
    owner: (u32, u32),
    reach: Reach,
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
        let place = Place::of(path)?;
        Ok(Self::found(path, &place, &place.look()?))
    }

    fn found(path: &Path, place: &Place, found: &Stat) -> Self {
        let mut name = Self {
            path: path.to_owned(),
            kept: None,
            identity: FileIdentity::of_stat(found),
            mode: found.st_mode & 0o777,
            owner: (found.st_uid, found.st_gid),
            reach: place.reach(path),
        };
        if name.keep_at(place).is_ok() {
            name.kept = Some(path.with_file_name(hidden(place)));
        }
        name
    }

    /// The names of a file that is known already. If it has lost the one that is for everybody, it gets that back.
    ///
    /// # Errors
    /// It is gone, or something else has its name now.
    pub fn of(path: &Path, identity: FileIdentity, directories: &mut Directories) -> io::Result<Self> {
        let place = directories.place(path)?;
        let look = || place.look().ok().filter(|found| FileIdentity::of_stat(found) == identity);
        let mut found = look();
        if found.is_none() {
            let kept = place.beside(hidden(&place));
            if kept.has(identity) {
                kept.link(&place)?;
                found = look();
            }
        }
        found.map(|found| Self::found(path, &place, &found)).ok_or_else(|| io::ErrorKind::NotFound.into())
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
    pub fn check(&mut self) -> FileState {
        if !self.reach.answers() {
            // Nobody can connect to it or remove it either.
            return FileState::InPlace;
        }
        if self.identity.is_at(&self.path) {
            if let Some(kept) = &self.kept
                && !self.identity.is_at(kept)
            {
                // Somebody has cleaned up thoroughly; the next look will try again if this fails.
                let _ = Place::of(&self.path).and_then(|place| Ok(self.keep_at(&place)?));
            }
            return FileState::InPlace;
        }
        let put_back = self.put_back();
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
        if let Ok(place) = Place::of(&self.path)
            && let Ok(found) = place.look()
            && FileIdentity::of_stat(&found) == self.identity
        {
            (self.mode, self.owner) = (found.st_mode & 0o777, (found.st_uid, found.st_gid));
            let _ = place.remove();
        }
        self.forget();
    }

    /// The permissions of the file, as in `0o777`.
    pub fn mode(&self) -> u32 {
        self.mode
    }

    /// The names of the file of this new socket at the path, which gets the owner of the one before.
    ///
    /// # Errors
    /// There is no file at the path.
    pub fn renewed(&self, socket: BorrowedFd) -> io::Result<Self> {
        let place = Place::of(&self.path)?;
        // By a descriptor: whatever the name leads to meanwhile, nothing but this socket is given away.
        let file = place.hold()?;
        let found = fstat(&file)?;
        let is_given = (found.st_uid, found.st_gid) == self.owner;
        if !is_given && sys::unix_file::is_file_of(socket, &file).unwrap_or(!place.is_open_to_others()) {
            let (user, group) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
            // Where this superdaemon cannot give files away, it could not when the first one was made.
            let _ = chownat(&file, c"", Some(user), Some(group), AtFlags::EMPTY_PATH);
        }
        Self::new(&self.path)
    }

    fn put_back(&self) -> io::Result<()> {
        let kept = self.kept.as_ref().filter(|kept| self.identity.is_at(kept)).ok_or(Errno::NOENT)?;
        let place = Place::of(&self.path)?;
        Ok(place.beside(kept.file_name().unwrap_or_default()).link(&place)?)
    }

    fn keep_at(&self, place: &Place) -> rustix::io::Result<()> {
        let kept = place.beside(hidden(place));
        match place.link(&kept) {
            Err(Errno::EXIST) if kept.has(self.identity) => Ok(()),
            Err(Errno::EXIST) if kept.look().is_ok_and(|found| is_socket(&found)) => {
                let _ = kept.remove();
                place.link(&kept)
            }
            result => result,
        }
    }

    fn forget(&mut self) {
        if let Some(kept) = self.kept.take()
            && self.reach.answers()
            && self.identity.is_at(&kept)
            && let Ok(kept) = Place::of(&kept)
            && kept.has(self.identity)
        {
            let _ = kept.remove();
        }
    }
}

impl Drop for KeptName {
    fn drop(&mut self) {
        self.forget();
    }
}

/// `.app.sock.kept` for `app.sock`: always the same, so that what was left behind is found.
fn hidden(place: &Place) -> OsString {
    let mut name = OsString::from(".");
    name.push(place.name());
    name.push(".kept");
    name
}

fn is_socket(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Socket
}

#[cfg(test)]
mod tests {
    use std::fs;
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
        let mut name = KeptName::new(&path).unwrap();
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
        let mut name = KeptName::new(&path).unwrap();
        assert!(!name.is_kept());
        fs::remove_file(&path).unwrap();
        assert!(matches!(name.check(), FileState::Lost));
        drop(name);
        assert_eq!(fs::read_to_string(&kept).unwrap(), "precious");
        fs::remove_dir_all(directory).unwrap();
    }
}
