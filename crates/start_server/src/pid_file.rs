//! The PID file: names the superdaemon, and is locked as long as it lives, so that two never share one.
//! Taken before anything is bound; the verbs look into it to find whom to address.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use sys::process_tree;

use crate::errno::{io_reason, reason};
use crate::file_identity::FileIdentity;

/// A PID file that this process holds the lock of. The lock belongs to the open file, which no
/// other program inherits.
///
/// If it is dropped without [`PidFile::remove`], as when the start fails, a file that we made or wrote is removed and
/// one that was there before is left as it was.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
    /// Whether the file is our work, to be removed.
    ours: bool,
}

/// What a PID file says about the superdaemon it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The superdaemon of this PID holds the lock.
    Running(i32),
    /// Nobody holds the lock: the process of this PID is gone, or it belongs to an implementation that does not lock.
    Unlocked(i32),
    /// There is nothing in it: a superdaemon is about to start, or never did.
    Empty,
    /// What is in it is not a PID.
    Garbage,
}

/// Why a PID file could not be used: a sentence that begins with the words of Server::Starter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PidFileError(String);

impl fmt::Display for PidFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PidFileError {}

impl PidFile {
    /// Opens or creates the file and locks it. Its content stays as it is.
    ///
    /// # Errors
    /// It cannot be opened, it is not a regular file, or another superdaemon holds the lock.
    pub fn lock(path: &Path) -> Result<PidFile, PidFileError> {
        loop {
            let (file, created) = open(path).map_err(|error| cannot_open(path, &error))?;
            let metadata = file.metadata().map_err(|error| cannot_open(path, &error))?;
            if !metadata.is_file() {
                return Err(PidFileError(format!(
                    "failed to open file:{}: it is not a regular file; choose another PID file",
                    path.display()
                )));
            }
            take_lock(path, &file)?;
            // A superdaemon that ended meanwhile has removed the file that we waited for.
            if FileIdentity::of(&metadata).is_at(path) {
                return Ok(PidFile { path: path.to_owned(), file, ours: created });
            }
        }
    }

    /// The file at this path as the image before this one had it: locked and written.
    pub fn resume(path: &Path, file: OwnedFd) -> Self {
        Self { path: path.to_owned(), file: file.into(), ours: true }
    }

    /// The open file, to which the lock belongs.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Writes the PID of the superdaemon, which replaces whatever was in the file.
    ///
    /// # Errors
    /// The disk is full, or does not work.
    pub fn write(&mut self, pid: u32) -> Result<(), PidFileError> {
        let text = format!("{pid}\n");
        // In this order there is a whole PID in the first line at every moment.
        let written = self.file.write_all_at(text.as_bytes(), 0);
        self.ours = true;
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        written.and_then(|()| self.file.set_len(length)).map_err(|error| {
            let why = io_reason(&error);
            PidFileError(format!("failed to write to file:{}: {why}; make room for it", self.path.display()))
        })
    }

    /// Removes the file, unless another one has taken its place.
    ///
    /// # Errors
    /// It is gone already, belongs to somebody else by now, or cannot be removed.
    pub fn remove(mut self) -> Result<(), PidFileError> {
        self.ours = false;
        self.unlink().map_err(|why| PidFileError(format!("failed to unlink file:{}:{why}", self.path.display())))
    }

    /// What the file says, without changing anything.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn inspect(path: &Path) -> Result<Found, PidFileError> {
        let cannot_read = |error: io::Error| {
            let why = io_reason(&error);
            PidFileError(format!(
                "failed to open file:{}: {why}; is this the PID file of a superdaemon?",
                path.display()
            ))
        };
        // Not to be held up by a pipe of that name.
        let flags = flag_bits(OFlags::NONBLOCK);
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(cannot_read)?;
        let content = pid_in(&file).map_err(cannot_read)?;
        let locked = match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => false,
            Err(Errno::WOULDBLOCK) => true,
            Err(errno) => return Err(cannot_read(errno.into())),
        };
        Ok(match content {
            Content::Pid(pid) if locked => Found::Running(pid),
            Content::Pid(pid) => Found::Unlocked(pid),
            Content::Empty => Found::Empty,
            Content::Garbage => Found::Garbage,
        })
    }

    fn unlink(&self) -> Result<(), String> {
        let ours = self.file.metadata().map_err(|error| io_reason(&error))?;
        match FileIdentity::at(&self.path) {
            Ok(found) if found == FileIdentity::of(&ours) => {
                fs::remove_file(&self.path).map_err(|error| io_reason(&error))
            }
            Ok(_) => Err("another file has taken its place, which is left alone".to_owned()),
            Err(error) => Err(io_reason(&error)),
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if self.ours {
            // Only at a failed start, which has its own message.
            let _ = self.unlink();
        }
    }
}

/// The open file, and whether it was not there before.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let flags = flag_bits(OFlags::NOFOLLOW | OFlags::NONBLOCK);
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(flags);
    loop {
        match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return Ok((other?, true)),
        }
        match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => return Ok((other?, false)),
        }
    }
}

fn take_lock(path: &Path, file: &File) -> Result<(), PidFileError> {
    // A verb that looks whether the file is locked holds a lock itself for a moment.
    const PATIENCE: Duration = Duration::from_millis(200);
    // So does what a superdaemon that was killed was about to make a worker, until it executes the program.
    const PATIENCE_WITH_THE_DEAD: Duration = Duration::from_secs(2);
    const PAUSE: Duration = Duration::from_millis(20);
    let begun = Instant::now();
    let is_dead = matches!(pid_in(file), Ok(Content::Pid(pid)) if process_tree::read(pid).is_none());
    let patience = if is_dead { PATIENCE_WITH_THE_DEAD } else { PATIENCE };
    while begun.elapsed() < patience {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) => thread::sleep(PAUSE),
            Err(errno) => {
                let why = reason(errno.raw_os_error());
                return Err(PidFileError(format!(
                    "flock failed({}): {why}; choose a PID file on a file system with locks",
                    path.display()
                )));
            }
        }
    }
    let who = match pid_in(file) {
        Ok(Content::Pid(pid)) => format!("another superdaemon (pid {pid})"),
        _ => "another superdaemon, which is just starting,".to_owned(),
    };
    Err(PidFileError(format!(
        "flock failed({}): {who} runs with this PID file; stop that one first, ask it to restart with --restart, or \
         choose another PID file",
        path.display()
    )))
}

enum Content {
    Pid(i32),
    Empty,
    Garbage,
}

fn pid_in(file: &File) -> io::Result<Content> {
    // Longer than any PID with its blanks, so that a big file is not read for nothing.
    let mut space = [0; 64];
    let length = file.read_at(&mut space, 0)?;
    let bytes = space.get(..length).unwrap_or_default();
    let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default().trim_ascii();
    if bytes.trim_ascii().is_empty() {
        return Ok(Content::Empty);
    }
    let digits = first.iter().all(u8::is_ascii_digit);
    let pid = std::str::from_utf8(first).ok().and_then(|text| text.parse().ok());
    Ok(match pid {
        Some(pid) if digits && pid > 0 => Content::Pid(pid),
        _ => Content::Garbage,
    })
}

fn flag_bits(flags: OFlags) -> i32 {
    flags.bits().cast_signed()
}

fn cannot_open(path: &Path, error: &io::Error) -> PidFileError {
    let why = io_reason(error);
    let advice = match Errno::from_io_error(error) {
        Some(Errno::LOOP) => "it is a symbolic link, which is not followed; name the file itself",
        Some(Errno::NOENT) => "create its directory first",
        _ => "choose a PID file that can be created and written",
    };
    PidFileError(format!("failed to open file:{}: {why}; {advice}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("pid_file-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn it_is_written_locked_and_removed() {
        let directory = directory("life");
        let path = directory.join("pid");
        fs::write(&path, "a very long line that was there before\n").unwrap();
        let mut file = PidFile::lock(&path).unwrap();
        assert!(fs::read_to_string(&path).unwrap().starts_with("a very"), "nothing is changed yet");
        file.write(4711).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "4711\n");
        assert_eq!(PidFile::inspect(&path), Ok(Found::Running(4711)));
        let busy = PidFile::lock(&path).unwrap_err().to_string();
        assert!(busy.contains("another superdaemon (pid 4711)"), "{busy}");
        file.remove().unwrap();
        fs::remove_dir(directory).unwrap();
    }

    #[test]
    fn a_failed_start_leaves_things_as_they_were() {
        let directory = directory("failed");
        let (new, old) = (directory.join("new"), directory.join("old"));
        fs::write(&old, "1\n").unwrap();
        drop(PidFile::lock(&new).unwrap());
        drop(PidFile::lock(&old).unwrap());
        assert!(!new.exists());
        assert_eq!(fs::read_to_string(&old).unwrap(), "1\n");
        let mut written = PidFile::lock(&old).unwrap();
        written.write(2).unwrap();
        drop(written);
        fs::remove_dir(directory).unwrap();
    }

    #[test]
    fn a_file_that_is_not_ours_any_more_is_left_alone() {
        let directory = directory("stolen");
        let path = directory.join("pid");
        let mut file = PidFile::lock(&path).unwrap();
        file.write(1).unwrap();
        fs::remove_file(&path).unwrap();
        let thief = PidFile::lock(&path).unwrap();
        let text = file.remove().unwrap_err().to_string();
        assert!(text.starts_with(&format!("failed to unlink file:{}:another file", path.display())), "{text}");
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        let text = thief.remove().unwrap_err().to_string();
        assert_eq!(text, format!("failed to unlink file:{}:No such file or directory", path.display()));
        fs::remove_dir(directory).unwrap();
    }

    #[test]
    fn what_cannot_be_a_pid_file_is_refused() {
        let directory = directory("refused");
        let (link, target) = (directory.join("link"), directory.join("target"));
        symlink(&target, &link).unwrap();
        let text = PidFile::lock(&link).unwrap_err().to_string();
        assert!(text.contains("it is a symbolic link") && !target.exists(), "{text}");
        let text = PidFile::lock(&directory).unwrap_err().to_string();
        assert!(text.starts_with(&format!("failed to open file:{}: Is a directory", directory.display())), "{text}");
        let text = PidFile::lock(Path::new("/nonexistent/pid")).unwrap_err().to_string();
        assert!(text.ends_with("No such file or directory; create its directory first"), "{text}");
        assert!(PidFile::lock(Path::new("/dev/null")).unwrap_err().to_string().contains("not a regular file"));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn verbs_see_what_is_in_it() {
        let directory = directory("inspect");
        let path = directory.join("pid");
        assert!(PidFile::inspect(&path).unwrap_err().to_string().contains(": No such file or directory"));
        let cases = [
            ("4711\n", Found::Unlocked(4711)),
            ("4711", Found::Unlocked(4711)),
            (" 12 \n1\n", Found::Unlocked(12)),
            ("", Found::Empty),
            ("\n", Found::Empty),
            ("0\n", Found::Garbage),
            ("-5\n", Found::Garbage),
            ("+5\n", Found::Garbage),
            ("99999999999\n", Found::Garbage),
            ("\nx", Found::Garbage),
        ];
        for (content, found) in cases {
            fs::write(&path, content).unwrap();
            assert_eq!(PidFile::inspect(&path), Ok(found), "{content:?}");
        }
        fs::write(&path, b"\xff\xfe").unwrap();
        assert_eq!(PidFile::inspect(&path), Ok(Found::Garbage));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn looking_at_it_does_not_keep_a_superdaemon_from_starting() {
        let directory = directory("looking");
        let path = directory.join("pid");
        fs::write(&path, "1\n").unwrap();
        let looking = File::open(&path).unwrap();
        flock(&looking, FlockOperation::NonBlockingLockShared).unwrap();
        let (told, heard) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                heard.recv().unwrap();
                drop(looking);
            });
            told.send(()).unwrap();
            PidFile::lock(&path).unwrap().remove().unwrap();
        });
        fs::remove_dir(directory).unwrap();
    }
}
