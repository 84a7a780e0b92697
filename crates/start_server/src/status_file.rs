//! The status file: a line `GENERATION:PID` for every worker that lives, for `--restart` and for scripts.
//! The event loop writes it whenever that changes; it is replaced whole, so that a reader never sees a half of it.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, fchmod, fstat};
use rustix::io::Errno;

use crate::errno::{io_reason, reason};
use crate::file_identity::FileIdentity;
use crate::files::{Place, Reach, SILENT, parent_of};

/// Everybody may read it, whatever the umask says: so do scripts of other users.
const MODE: Mode = Mode::from_raw_mode(0o644);

/// A status file, which need not exist yet.
#[derive(Debug)]
pub struct StatusFile {
    path: PathBuf,
    /// Ours, for the name of the temporary file.
    pid: u32,
    /// The file as we wrote it last.
    written: Option<FileIdentity>,
    reach: Reach,
}

/// Why the status file could not be written: a sentence that begins with the words of Server::Starter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusFileError(String);

impl fmt::Display for StatusFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StatusFileError {}

impl StatusFile {
    /// The status file at this path of the superdaemon with this PID. Touches nothing.
    pub fn new(path: &Path, pid: u32) -> StatusFile {
        StatusFile { path: path.to_owned(), pid, written: None, reach: Reach::of(parent_of(path)) }
    }

    /// The status file as the image before this one had it.
    pub fn resume(path: &Path, pid: u32, written: Option<FileIdentity>) -> StatusFile {
        StatusFile { path: path.to_owned(), pid, written, reach: Reach::of_unknown(parent_of(path)) }
    }

    /// The file as we wrote it last.
    pub fn written(&self) -> Option<FileIdentity> {
        self.written
    }

    /// Makes sure, at the start, that the file can be written later. Leaves no trace.
    ///
    /// # Errors
    /// No file can be created beside it, or a directory is in its place.
    pub fn check(&self) -> Result<(), StatusFileError> {
        let found = self.place().and_then(|place| Ok(place.look()?));
        if found.is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Directory) {
            let rename = self.cannot_rename("Is a directory");
            return Err(StatusFileError(format!("{rename}; choose another status file")));
        }
        let (_, temporary) = self.create().map_err(|StatusFileError(text)| {
            StatusFileError(format!("{text}; choose a status file in a directory where files can be created"))
        })?;
        discard(&temporary);
        Ok(())
    }

    /// Replaces the file by one that lists these workers, each with its generation and PID.
    ///
    /// # Errors
    /// The directory is gone or may not be written to, or the disk is full. The file is then as it was.
    pub fn write(&mut self, workers: &[(u32, i32)]) -> Result<(), StatusFileError> {
        if !self.reach.answers() {
            return Err(StatusFileError(format!("failed to write file:{}:{SILENT}", self.path.display())));
        }
        let mut workers = workers.to_vec();
        workers.sort_unstable();
        let mut text = String::new();
        for (generation, pid) in workers {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{generation}:{pid}");
        }
        let (mut file, temporary) = self.create()?;
        let written = self.fill(&mut file, &temporary, &text);
        if written.is_err() {
            discard(&temporary);
        }
        self.written = Some(written?);
        Ok(())
    }

    /// Removes the file if we wrote it and nobody has replaced it since.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&mut self) -> Result<(), StatusFileError> {
        let Some(written) = self.written.take() else { return Ok(()) };
        if !written.is_at(&self.path) {
            return Ok(());
        }
        let removed = self.place().and_then(|place| if place.has(written) { Ok(place.remove()?) } else { Ok(()) });
        removed.map_err(|error| {
            StatusFileError(format!("failed to unlink file:{}:{}", self.path.display(), io_reason(&error)))
        })
    }

    fn place(&self) -> io::Result<Place> {
        Place::of(&self.path)
    }

    /// A new file in the same directory, and its place.
    fn create(&self) -> Result<(File, Place), StatusFileError> {
        let cannot_create = |error: io::Error| {
            let why = io_reason(&error);
            StatusFileError(format!("failed to create temporary file:{}:{why}", self.temporary().display()))
        };
        let place = self.place().map_err(cannot_create)?;
        let temporary = place.beside(self.temporary().file_name().unwrap_or_default());
        let create = || temporary.open(OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL, MODE);
        let created = match create() {
            // Only a superdaemon that was killed can have left one of this name.
            Err(Errno::EXIST) => {
                discard(&temporary);
                create()
            }
            created => created,
        };
        let file = created.map_err(|errno| cannot_create(errno.into()))?;
        Ok((file.into(), temporary))
    }

    /// Fills the temporary file and moves it into place.
    fn fill(&self, file: &mut File, temporary: &Place, text: &str) -> Result<FileIdentity, StatusFileError> {
        let filled = file.write_all(text.as_bytes()).and_then(|()| {
            let found = fstat(&*file)?;
            if Mode::from_raw_mode(found.st_mode) != MODE {
                fchmod(&*file, MODE)?;
            }
            Ok(found)
        });
        let found = filled.map_err(|error| {
            let why = io_reason(&error);
            StatusFileError(format!("failed to write to temporary file:{}:{why}", self.temporary().display()))
        })?;
        let file_name = self.path.file_name().unwrap_or_default();
        temporary
            .rename(&temporary.beside(file_name))
            .map_err(|errno| StatusFileError(self.cannot_rename(&reason(errno.raw_os_error()))))?;
        Ok(FileIdentity::of_stat(&found))
    }

    fn temporary(&self) -> PathBuf {
        let mut path = self.path.as_os_str().to_owned();
        path.push(format!(".{}", self.pid));
        path.into()
    }

    fn cannot_rename(&self, why: &str) -> String {
        format!("failed to rename {} to {}:{why}", self.temporary().display(), self.path.display())
    }
}

fn discard(temporary: &Place) {
    // If this fails there is nothing better to do; the next write tries again.
    let _ = temporary.remove();
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("status_file-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn names(directory: &Path) -> Vec<String> {
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn workers_are_listed_by_generation() {
        let directory = directory("order");
        let path = directory.join("status");
        let mut file = StatusFile::new(&path, 99);
        file.check().unwrap();
        assert!(names(&directory).is_empty(), "checking leaves no trace");
        file.write(&[(10, 400), (2, 300), (1, 500)]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1:500\n2:300\n10:400\n");
        file.write(&[]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "");
        assert_eq!(names(&directory), ["status"]);
        file.remove().unwrap();
        file.remove().unwrap();
        fs::remove_dir(directory).unwrap();
    }

    #[test]
    fn what_others_wrote_is_not_removed() {
        let directory = directory("others");
        let path = directory.join("status");
        fs::write(&path, "1:1\n").unwrap();
        let mut file = StatusFile::new(&path, 99);
        file.remove().unwrap();
        assert!(path.exists(), "never written by us");
        file.write(&[(1, 2)]).unwrap();
        let mut other = StatusFile::new(&path, 100);
        other.write(&[(1, 3)]).unwrap();
        file.remove().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1:3\n");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn leftovers_and_links_in_the_way_of_the_temporary_file_do_no_harm() {
        let directory = directory("leftovers");
        let (path, temporary) = (directory.join("status"), directory.join("status.99"));
        let precious = directory.join("precious");
        fs::write(&precious, "precious").unwrap();
        symlink(&precious, &temporary).unwrap();
        let mut file = StatusFile::new(&path, 99);
        file.write(&[(1, 2)]).unwrap();
        fs::write(&temporary, "left over").unwrap();
        file.write(&[(1, 2), (2, 3)]).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1:2\n2:3\n");
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        assert!(!temporary.exists());
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn failures_are_told_and_leave_nothing_behind() {
        let directory = directory("failures");
        let nowhere = StatusFile::new(Path::new("/nonexistent/status"), 99);
        let text = nowhere.check().unwrap_err().to_string();
        let start = "failed to create temporary file:/nonexistent/status.99:No such file or directory; choose";
        assert!(text.starts_with(start), "{text}");
        let inside = directory.join("inside");
        fs::create_dir(&inside).unwrap();
        let mut file = StatusFile::new(&inside, 99);
        assert!(file.check().unwrap_err().to_string().contains(":Is a directory"));
        let text = file.write(&[(1, 2)]).unwrap_err().to_string();
        let place = inside.display();
        assert_eq!(text, format!("failed to rename {place}.99 to {place}:Is a directory"));
        assert_eq!(names(&directory), ["inside"]);
        file.remove().unwrap();
        fs::remove_dir_all(directory).unwrap();
    }
}
