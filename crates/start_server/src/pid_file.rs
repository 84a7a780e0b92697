//! The PID file: names the superdaemon, and is locked as long as it lives, so that two never share one.
//! Taken before anything is bound; the commands look into it to find whom to address.
//!
//! Whoever can read the file can lock it. So there is a second lock, of a file in the run directory that only our user
//! can open, and that one decides; the lock of the PID file itself is there for those who wait for it, as `--stop` of
//! Server::Starter does, and to see that one of those runs. If somebody else holds it, the file is replaced by another.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, Stat, fchmod, flock, fstat};
use rustix::io::Errno;
use rustix::process::geteuid;
use sys::process_tree;

use crate::errno::{io_reason, reason};
use crate::file_identity::FileIdentity;
use crate::files::{Place, is_ours, open_to_believe};
use crate::run_directory::{Lock, NotLocked, RunDirectory, lock_name};
use crate::superdaemon_process::{has_open, identify};

/// Others read it, whatever the umask of whoever has started us.
const MODE: Mode = Mode::from_raw_mode(0o644);

/// A PID file that is this process's. The locks belong to open files, which no other program inherits.
///
/// If it is dropped without [`PidFile::remove`], as when the start fails, a file that we made or wrote is removed and
/// one that was there before is left as it was.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
    /// Where our file is until it is written, if another one is to be replaced by it.
    beside: Option<Place>,
    /// Whether the file is our work, to be removed.
    ours: bool,
    /// The lock that decides. None where there is no run directory.
    lock: Option<Lock>,
}

/// What a PID file says, and who can have written that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// What is in it.
    pub content: Content,
    /// The user whose file it is.
    pub owner: u32,
    /// Its permissions, as in `0o644`.
    pub mode: u32,
    /// Which file it is.
    pub identity: FileIdentity,
}

/// What is in a PID file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The process that it names.
    Pid(i32),
    /// Nothing: a superdaemon is about to start, or never did.
    Empty,
    /// Something that is not a PID.
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
    /// Opens or creates the file and locks it. Its content stays as it is. `report` gets lines to log.
    ///
    /// # Errors
    /// It cannot be opened, it is not a regular file, it is another user's, or another superdaemon runs with it.
    pub fn lock(
        path: &Path,
        run: Option<&RunDirectory>,
        report: &mut dyn FnMut(String),
    ) -> Result<PidFile, PidFileError> {
        let place = Place::of(path).map_err(|error| cannot_open(path, &error))?;
        let lock = match run {
            Some(run) => take_own_lock(path, &place, run)?,
            None => None,
        };
        loop {
            let (file, created) = open(&place).map_err(|errno| cannot_open(path, &errno.into()))?;
            let found = fstat(&file).map_err(|errno| cannot_open(path, &errno.into()))?;
            must_be_usable(path, &found)?;
            let identity = FileIdentity::of_stat(&found);
            match take_lock(path, &file)? {
                Taken::Ours => {}
                Taken::ByAnother(holder) if lock.is_some() && live_user(&file, identity, holder).is_none() => {
                    let who = match holder {
                        Some(pid) => format!("pid {pid}, which is no superdaemon,"),
                        None => "a process that cannot be seen from here".to_owned(),
                    };
                    report(format!("{who} holds the lock of {}; another file takes its place", path.display()));
                    let made = make_beside(&place).map_err(|errno| cannot_open(path, &errno.into()))?;
                    return Ok(Self::to_replace(path, made, lock));
                }
                Taken::ByAnother(holder) => return Err(in_use(path, live_user(&file, identity, holder).or(holder))),
            }
            // Whatever it is: where others can put files, it may be one that matters to somebody.
            if !created && place.is_open_to_others() {
                match make_beside(&place) {
                    Ok(made) => return Ok(Self::to_replace(path, made, lock)),
                    // Where we may not put files ourselves, one that was made for us has to do.
                    Err(_) if found.st_nlink == 1 && !matches!(pid_in(&file), Ok(Content::Garbage) | Err(_)) => {}
                    Err(errno) => return Err(cannot_open(path, &errno.into())),
                }
            }
            // A superdaemon that ended meanwhile has removed the file that we waited for.
            if place.has(identity) {
                if found.st_mode & 0o7777 != MODE.bits() {
                    // If it is root's, and we are not, it is root who is trusted with that.
                    let _ = fchmod(&file, MODE);
                }
                return Ok(PidFile { path: path.to_owned(), file, beside: None, ours: created, lock });
            }
        }
    }

    /// A new file that is to replace the one at this path.
    fn to_replace(path: &Path, (file, beside): (File, Place), lock: Option<Lock>) -> Self {
        Self { path: path.to_owned(), file, beside: Some(beside), ours: true, lock }
    }

    /// The file at this path as the image before this one had it: locked and written. That image may have been of a
    /// version that had no lock of its own.
    pub fn resume(path: &Path, file: OwnedFd, lock: Option<OwnedFd>, run: Option<&RunDirectory>) -> Self {
        let take_anew = || take_own_lock(path, &Place::of(path).ok()?, run?).ok().flatten();
        let lock = lock.map(Lock::from).or_else(take_anew);
        Self { path: path.to_owned(), file: file.into(), beside: None, ours: true, lock }
    }

    /// The open file, by which it is known that we live.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// The lock that decides.
    pub fn lock_as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.lock.as_ref().map(Lock::as_fd)
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
        })?;
        if let Some(beside) = &self.beside {
            let place = beside.beside(self.path.file_name().unwrap_or_default());
            beside.rename(&place).map_err(|errno| cannot_open(&self.path, &errno.into()))?;
            self.beside = None;
        }
        Ok(())
    }

    /// Removes the file, unless another one has taken its place.
    ///
    /// # Errors
    /// It is gone already, belongs to somebody else by now, or cannot be removed.
    pub fn remove(mut self, run: Option<&RunDirectory>) -> Result<(), PidFileError> {
        self.ours = false;
        let removed = self.unlink();
        if let (Some(run), Some(lock)) = (run, self.lock.take())
            && let Some(name) = Place::of(&self.path).ok().as_ref().and_then(name_of_lock)
        {
            run.unlock(&name, lock);
        }
        removed.map_err(|why| PidFileError(format!("failed to unlink file:{}:{why}", self.path.display())))
    }

    /// What the file says, without changing anything.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn inspect(path: &Path) -> Result<Inspection, PidFileError> {
        let cannot_read = |error: io::Error| {
            let why = io_reason(&error);
            PidFileError(format!(
                "failed to open file:{}: {why}; is this the PID file of a superdaemon?",
                path.display()
            ))
        };
        let file = open_to_believe(path).map_err(cannot_read)?;
        let metadata = file.metadata().map_err(cannot_read)?;
        Ok(Inspection {
            content: pid_in(&file).map_err(cannot_read)?,
            owner: metadata.uid(),
            mode: metadata.mode() & 0o7777,
            identity: FileIdentity::of(&metadata),
        })
    }

    fn unlink(&self) -> Result<(), String> {
        let text = |errno: Errno| reason(errno.raw_os_error());
        let ours = FileIdentity::of_stat(&fstat(&self.file).map_err(text)?);
        let place = match &self.beside {
            Some(beside) => beside.clone(),
            None => Place::of(&self.path).map_err(|error| io_reason(&error))?,
        };
        match place.look() {
            Ok(found) if FileIdentity::of_stat(&found) == ours => place.remove().map_err(text),
            Ok(_) => Err("another file has taken its place, which is left alone".to_owned()),
            Err(errno) => Err(text(errno)),
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

const FLAGS: OFlags = OFlags::RDWR;

/// The open file, and whether it was not there before.
fn open(place: &Place) -> rustix::io::Result<(File, bool)> {
    loop {
        match place.open(FLAGS | OFlags::CREATE | OFlags::EXCL, MODE) {
            Err(Errno::EXIST) => {}
            other => return Ok((other?.into(), true)),
        }
        match place.open(FLAGS, MODE) {
            Err(Errno::NOENT) => {}
            other => return Ok((other?.into(), false)),
        }
    }
}

/// A new file in the same directory, locked, and its place.
fn make_beside(place: &Place) -> rustix::io::Result<(File, Place)> {
    let mut name = place.name().to_owned();
    name.push(format!(".{}", std::process::id()));
    let beside = place.beside(name);
    let create = || beside.open(FLAGS | OFlags::CREATE | OFlags::EXCL, MODE);
    let file = create().or_else(|_| {
        // Only a superdaemon that was killed can have left one of this name.
        beside.remove().and_then(|()| create())
    })?;
    fchmod(&file, MODE)?;
    // Nobody knows it yet.
    let _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
    Ok((file.into(), beside))
}

/// What another user has made can be changed by that user at any time, and so could name any process.
fn must_be_usable(path: &Path, found: &Stat) -> Result<(), PidFileError> {
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(PidFileError(format!(
            "failed to open file:{}: it is not a regular file; choose another PID file",
            path.display()
        )));
    }
    if !is_ours(found.st_uid) {
        let us = geteuid().as_raw();
        return Err(PidFileError(format!(
            "failed to open file:{}: it belongs to user {}, who could write another process into it, and we are user \
             {us}; remove it, or choose another PID file",
            path.display(),
            found.st_uid
        )));
    }
    Ok(())
}

/// The lock that only our user can take. None if there can be none, for which there is the other one.
fn take_own_lock(path: &Path, place: &Place, run: &RunDirectory) -> Result<Option<Lock>, PidFileError> {
    let Some(name) = name_of_lock(place) else { return Ok(None) };
    let begun = Instant::now();
    loop {
        match run.lock(&name) {
            Ok(lock) => return Ok(Some(lock)),
            Err(NotLocked::Failed(_)) => return Ok(None),
            // What a superdaemon that was killed was about to make a worker, holds it until it executes the program.
            Err(NotLocked::Held(pid)) if pid.is_some_and(is_gone) && begun.elapsed() < PATIENCE_WITH_THE_DEAD => {
                thread::sleep(PAUSE);
            }
            Err(NotLocked::Held(pid)) => return Err(in_use(path, pid)),
        }
    }
}

/// By the directory that it is in, whatever that is called.
fn name_of_lock(place: &Place) -> Option<OsString> {
    Some(lock_name(place.directory().ok()?, place.name()))
}

const PAUSE: Duration = Duration::from_millis(20);
const PATIENCE_WITH_THE_DEAD: Duration = Duration::from_secs(2);

/// Who has the lock of a PID file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Ours,
    /// This process, if it can be seen.
    ByAnother(Option<i32>),
}

/// Takes the lock that everybody can take who can read the file.
fn take_lock(path: &Path, file: &File) -> Result<Taken, PidFileError> {
    // A command of an older version that looks whether the file is locked holds a lock itself for a moment.
    const PATIENCE: Duration = Duration::from_millis(200);
    let begun = Instant::now();
    let is_dead = matches!(pid_in(file), Ok(Content::Pid(pid)) if is_gone(pid));
    let patience = if is_dead { PATIENCE_WITH_THE_DEAD } else { PATIENCE };
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(Taken::Ours),
            Err(Errno::WOULDBLOCK) => {}
            Err(errno) => {
                let why = reason(errno.raw_os_error());
                return Err(PidFileError(format!(
                    "flock failed({}): {why}; choose a PID file on a file system with locks",
                    path.display()
                )));
            }
        }
        // Of a superdaemon that was killed nobody has it who lives; a stranger is not waited for.
        let holder = sys::file_locks::holder(file);
        if begun.elapsed() >= patience || holder.is_some_and(|holder| !is_gone(holder) && begun.elapsed() >= PATIENCE) {
            return Ok(Taken::ByAnother(holder));
        }
        thread::sleep(PAUSE);
    }
}

fn is_gone(pid: i32) -> bool {
    process_tree::read(pid).is_none_or(|process| !process.is_living())
}

/// The superdaemon that uses a PID file: who holds its lock, or, since not every file system lets that be seen, who is
/// named in it and has it open.
fn live_user(file: &File, identity: FileIdentity, holder: Option<i32>) -> Option<i32> {
    let named = pid_in(file).ok().and_then(Content::pid).filter(|pid| has_open(*pid, identity) != Some(false));
    [holder, named].into_iter().flatten().find(|pid| identify(*pid).is_ok())
}

fn in_use(path: &Path, pid: Option<i32>) -> PidFileError {
    let who = match pid {
        Some(pid) => format!("another superdaemon (pid {pid})"),
        None => "another superdaemon, which is just starting,".to_owned(),
    };
    PidFileError(format!(
        "flock failed({}): {who} runs with this PID file; stop that one first, ask it to restart with --restart, or \
         choose another PID file",
        path.display()
    ))
}

impl Content {
    fn pid(self) -> Option<i32> {
        match self {
            Self::Pid(pid) => Some(pid),
            Self::Empty | Self::Garbage => None,
        }
    }
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
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("pid_file-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn lock(path: &Path) -> Result<PidFile, PidFileError> {
        PidFile::lock(path, None, &mut |line| panic!("{line}"))
    }

    fn content(path: &Path) -> Content {
        PidFile::inspect(path).unwrap().content
    }

    #[test]
    fn it_is_written_locked_and_removed() {
        let directory = directory("life");
        let path = directory.join("pid");
        fs::write(&path, "a very long line that was there before\n").unwrap();
        let mut file = lock(&path).unwrap();
        assert!(fs::read_to_string(&path).unwrap().starts_with("a very"), "nothing is changed yet");
        file.write(4711).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "4711\n");
        assert_eq!(content(&path), Content::Pid(4711));
        let busy = lock(&path).unwrap_err().to_string();
        assert!(busy.contains(&format!("another superdaemon (pid {})", std::process::id())), "{busy}");
        file.remove(None).unwrap();
        fs::remove_dir(directory).unwrap();
    }

    #[test]
    fn a_failed_start_leaves_things_as_they_were() {
        let directory = directory("failed");
        let (new, old) = (directory.join("new"), directory.join("old"));
        fs::write(&old, "1\n").unwrap();
        drop(lock(&new).unwrap());
        drop(lock(&old).unwrap());
        assert!(!new.exists());
        assert_eq!(fs::read_to_string(&old).unwrap(), "1\n");
        let mut written = lock(&old).unwrap();
        written.write(2).unwrap();
        drop(written);
        fs::remove_dir(directory).unwrap();
    }

    #[test]
    fn a_file_that_is_not_ours_any_more_is_left_alone() {
        let directory = directory("stolen");
        let path = directory.join("pid");
        let mut file = lock(&path).unwrap();
        file.write(1).unwrap();
        fs::remove_file(&path).unwrap();
        let thief = lock(&path).unwrap();
        let text = file.remove(None).unwrap_err().to_string();
        assert!(text.starts_with(&format!("failed to unlink file:{}:another file", path.display())), "{text}");
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        let text = thief.remove(None).unwrap_err().to_string();
        assert_eq!(text, format!("failed to unlink file:{}:No such file or directory", path.display()));
        fs::remove_dir(directory).unwrap();
    }

    #[test]
    fn what_cannot_be_a_pid_file_is_refused() {
        let directory = directory("refused");
        let (link, target) = (directory.join("link"), directory.join("target"));
        symlink(&target, &link).unwrap();
        let text = lock(&link).unwrap_err().to_string();
        assert!(text.contains("it is a symbolic link") && !target.exists(), "{text}");
        let text = lock(&directory).unwrap_err().to_string();
        assert!(text.starts_with(&format!("failed to open file:{}: Is a directory", directory.display())), "{text}");
        let text = lock(Path::new("/nonexistent/pid")).unwrap_err().to_string();
        assert!(text.ends_with("No such file or directory; create its directory first"), "{text}");
        assert!(lock(Path::new("/dev/null")).unwrap_err().to_string().contains("not a regular file"));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn commands_see_what_is_in_it() {
        let directory = directory("inspect");
        let path = directory.join("pid");
        assert!(PidFile::inspect(&path).unwrap_err().to_string().contains(": No such file or directory"));
        let cases = [
            ("4711\n", Content::Pid(4711)),
            ("4711", Content::Pid(4711)),
            (" 12 \n1\n", Content::Pid(12)),
            ("", Content::Empty),
            ("\n", Content::Empty),
            ("0\n", Content::Garbage),
            ("-5\n", Content::Garbage),
            ("+5\n", Content::Garbage),
            ("99999999999\n", Content::Garbage),
            ("\nx", Content::Garbage),
        ];
        for (text, found) in cases {
            fs::write(&path, text).unwrap();
            assert_eq!(content(&path), found, "{text:?}");
        }
        fs::write(&path, b"\xff\xfe").unwrap();
        assert_eq!(content(&path), Content::Garbage);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn its_mode_does_not_depend_on_what_was_there() {
        let directory = directory("mode");
        let path = directory.join("pid");
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let mut file = lock(&path).unwrap();
        file.write(1).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, MODE.bits());
        file.remove(None).unwrap();
        fs::remove_dir(directory).unwrap();
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
            lock(&path).unwrap().remove(None).unwrap();
        });
        fs::remove_dir(directory).unwrap();
    }
}
