//! The run directory: where the superdaemon keeps its sockets and locks, and where nobody but its user can write. The
//! control socket, the notify sockets and the lock of the PID file are in it; the set-up opens it first of all.
//!
//! It is `/run/start_server` for root and `$XDG_RUNTIME_DIR/start_server` for others. Where that cannot be had, it is
//! `start_server-UID` in `/tmp`, or in `/dev/shm` where everything else is read-only: anybody can make a directory of
//! that name there before us, so it is used only if it is ours. Others may enter it, since workers may be of another
//! user, but not list it. Commands do not know where it is; they learn from the kernel where a superdaemon listens.

mod lock;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fchmod, fstat, mkdirat, openat, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Pid, geteuid, test_kill_process};

use crate::errno::reason;
use crate::listen_spec::LONGEST_PATH;
use lock::is_lock_name;
pub use lock::{Lock, NotLocked, lock_name};

/// Its mode: others may enter it, but neither list nor change it.
const MODE: Mode = Mode::from_raw_mode(0o711);

/// What follows the directory in the longest name that is made in it: a slash, a PID, random digits, a kind.
const LONGEST_NAME: usize = "/4194304-0123456789abcdef.control".len();

/// A directory that only our user can write to.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    directory: OwnedFd,
}

impl RunDirectory {
    /// The first directory that will do, made if need be. Sockets in it that a superdaemon which was killed has left are
    /// removed.
    ///
    /// # Errors
    /// None will do: which were tried and why not, as a part of a sentence.
    pub fn open() -> Result<Self, String> {
        let mut refusals = Vec::new();
        for path in candidates(std::env::var_os("XDG_RUNTIME_DIR")) {
            match Self::open_at(&path) {
                Ok(found) => {
                    found.remove_leftovers();
                    return Ok(found);
                }
                Err(why) => refusals.push(format!("{}: {why}", path.display())),
            }
        }
        Err(refusals.join("; "))
    }

    /// The directory at this path, made if need be.
    ///
    /// # Errors
    /// Why it will not do.
    fn open_at(path: &Path) -> Result<Self, String> {
        let text = |errno: Errno| reason(errno.raw_os_error());
        if path.as_os_str().len() + LONGEST_NAME > LONGEST_PATH {
            return Err("its path is too long for that of a socket".to_owned());
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err("it has no parent".to_owned());
        };
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = openat(CWD, parent, flags | OFlags::PATH, Mode::empty()).map_err(text)?;
        if !is_safe_parent(&fstat(&parent).map_err(text)?) {
            return Err("others could exchange it, since they can write to the directory that it is in".to_owned());
        }
        let is_new = match mkdirat(&parent, name, MODE) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(errno) => return Err(text(errno)),
        };
        let directory = openat(&parent, name, flags | OFlags::RDONLY | OFlags::NOFOLLOW, Mode::empty())
            .map_err(|errno| if errno == Errno::NOTDIR { "it is not a directory".to_owned() } else { text(errno) })?;
        let found = fstat(&directory).map_err(text)?;
        let us = geteuid().as_raw();
        if found.st_uid != us {
            return Err(format!("it belongs to user {}, not to user {us}", found.st_uid));
        }
        if is_new {
            // The umask has taken its part.
            fchmod(&directory, MODE).map_err(text)?;
        } else if found.st_mode & 0o022 != 0 {
            return Err(format!("others can write to it (mode {:o}); chmod go-w it", found.st_mode & 0o7777));
        }
        Ok(Self { path: path.to_owned(), directory })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The open directory.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// A path in it for a new socket, that no other has and nobody can guess: `/run/start_server/4711-8f3a….control`.
    ///
    /// # Errors
    /// No random numbers.
    pub fn new_name(&self, kind: Kind) -> io::Result<PathBuf> {
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let random = u64::from_ne_bytes(random);
        Ok(self.path.join(format!("{}-{random:016x}.{}", std::process::id(), kind.suffix())))
    }

    /// Removes the sockets and locks of superdaemons that are gone. That the process of a socket is gone is not enough,
    /// since it may be one of another PID namespace: nobody must listen either.
    fn remove_leftovers(&self) {
        let Ok(entries) = Dir::read_from(&self.directory) else { return };
        for entry in entries.flatten() {
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if is_lock_name(name) {
                self.remove_unused_lock(name);
            }
            if let Some((pid, kind)) = maker(name)
                && pid.is_none_or(|pid| test_kill_process(pid) == Err(Errno::SRCH))
                && is_refused(&self.path.join(name), kind)
            {
                // Whoever else starts at this moment may have been quicker.
                let _ = unlinkat(&self.directory, name, AtFlags::empty());
            }
        }
    }
}

/// What a socket in the run directory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Commands are answered there.
    Control,
    /// A generation says there that it is ready.
    Notify,
}

impl Kind {
    fn suffix(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Notify => "notify",
        }
    }

    fn socket_type(self) -> SocketType {
        match self {
            Self::Control => SocketType::STREAM,
            Self::Notify => SocketType::DGRAM,
        }
    }
}

/// Who has made the socket of this name, and what for. The PID counts in the namespace of its maker; it is none if it
/// is our own, by which nobody else can be meant.
///
/// None if it is not a name that [`RunDirectory::new_name`] makes.
fn maker(name: &OsStr) -> Option<(Option<Pid>, Kind)> {
    let (rest, suffix) = name.to_str()?.split_once('.')?;
    let kind = [Kind::Control, Kind::Notify].into_iter().find(|kind| kind.suffix() == suffix)?;
    let (pid, random) = rest.split_once('-')?;
    if random.len() != 16 || !random.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let pid = Pid::from_raw(pid.parse().ok().filter(|pid| *pid > 0)?)?;
    Some(((pid != rustix::process::getpid()).then_some(pid), kind))
}

/// Whether the file name at the end of a path is one that a control socket gets in a run directory. Commands ask.
pub fn is_control_name(name: &OsStr) -> bool {
    matches!(maker(name), Some((_, Kind::Control)))
}

fn is_refused(path: &Path, kind: Kind) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (Ok(socket), Ok(address)) =
        (socket_with(AddressFamily::UNIX, kind.socket_type(), flags, None), SocketAddrUnix::new(path))
    else {
        return false;
    };
    connect(&socket, &address) == Err(Errno::CONNREFUSED)
}

/// Where the directory may be, best first.
fn candidates(runtime: Option<OsString>) -> Vec<PathBuf> {
    let us = geteuid();
    let usual = if us.is_root() {
        Some(PathBuf::from("/run/start_server"))
    } else {
        runtime.map(PathBuf::from).filter(|runtime| runtime.is_absolute()).map(|runtime| runtime.join("start_server"))
    };
    let own = format!("start_server-{}", us.as_raw());
    let others = ["/tmp", "/dev/shm"].map(|directory| Path::new(directory).join(&own));
    usual.into_iter().chain(others).collect()
}

/// Whether nobody but root and us can rename what is in a directory.
fn is_safe_parent(directory: &Stat) -> bool {
    let is_trusted = directory.st_uid == 0 || directory.st_uid == geteuid().as_raw();
    let is_sticky = directory.st_mode & 0o1000 != 0;
    is_trusted && (is_sticky || directory.st_mode & 0o022 == 0) && is_directory(directory)
}

fn is_directory(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::Directory
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::os::unix::net::{UnixDatagram, UnixListener};

    use testkit::TempDir;

    use super::*;

    #[test]
    fn it_is_made_and_found_again() {
        let dir = TempDir::new();
        let path = dir.path().join("start_server");
        for _ in 0..2 {
            let run = RunDirectory::open_at(&path).unwrap();
            assert_eq!(run.path(), path);
            let found = fs::metadata(&path).unwrap();
            assert_eq!((found.mode() & 0o7777, found.uid()), (0o711, geteuid().as_raw()));
        }
    }

    #[test]
    fn what_others_can_change_is_refused() {
        let dir = TempDir::new();
        let refusal = |name: &str| RunDirectory::open_at(&dir.path().join(name)).unwrap_err();
        fs::create_dir(dir.path().join("open")).unwrap();
        fs::set_permissions(dir.path().join("open"), Permissions::from_mode(0o777)).unwrap();
        assert_eq!(refusal("open"), "others can write to it (mode 777); chmod go-w it");
        symlink("open", dir.path().join("link")).unwrap();
        assert_eq!(refusal("link"), "it is not a directory");
        fs::write(dir.path().join("file"), "").unwrap();
        assert_eq!(refusal("file"), "it is not a directory");
        assert!(refusal("open/in").starts_with("others could exchange it"));
        assert_eq!(refusal("nothing/in"), "No such file or directory");
        assert!(refusal(&"x".repeat(100)).contains("too long"));
        if geteuid().is_root() {
            fs::create_dir(dir.path().join("foreign")).unwrap();
            std::os::unix::fs::chown(dir.path().join("foreign"), Some(64_002), None).unwrap();
            assert_eq!(refusal("foreign"), "it belongs to user 64002, not to user 0");
            assert!(refusal("foreign/in").starts_with("others could exchange it"));
        }
    }

    #[test]
    fn only_what_nobody_listens_on_any_more_is_removed() {
        let dir = TempDir::new();
        let run = RunDirectory::open_at(&dir.path().join("run")).unwrap();
        let at = |name: &str| run.path().join(name);
        let gone = i32::MAX;
        let living = rustix::process::getppid().unwrap().as_raw_pid();
        let name = |pid: i32, suffix: &str| at(&format!("{pid}-0123456789abcdef.{suffix}"));
        drop(UnixListener::bind(name(gone, "control")).unwrap());
        drop(UnixDatagram::bind(name(gone, "notify")).unwrap());
        drop(UnixListener::bind(name(living, "control")).unwrap());
        let _used = UnixListener::bind(name(gone - 1, "control")).unwrap();
        for other in ["1-2-pid.other", "x-0123456789abcdef.control", "5-0123.control"] {
            fs::write(at(other), "").unwrap();
        }
        fs::write(at("1-2-pid.lock"), "").unwrap();
        let _lock = run.lock(OsStr::new("1-2-used.lock")).unwrap();
        run.remove_leftovers();
        let mut left: Vec<_> =
            fs::read_dir(run.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        let mut expected: Vec<String> = [name(living, "control"), name(gone - 1, "control")]
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .chain(
                ["1-2-pid.other", "1-2-used.lock", "x-0123456789abcdef.control", "5-0123.control"].map(str::to_owned),
            )
            .collect();
        expected.sort();
        assert_eq!(left, expected);
    }

    #[test]
    fn names_tell_who_made_them() {
        let dir = TempDir::new();
        let run = RunDirectory::open_at(&dir.path().join("run")).unwrap();
        let (one, other) = (run.new_name(Kind::Control).unwrap(), run.new_name(Kind::Control).unwrap());
        assert_ne!(one, other);
        assert!(one.starts_with(run.path()));
        assert!(is_control_name(one.file_name().unwrap()));
        assert!(!is_control_name(run.new_name(Kind::Notify).unwrap().file_name().unwrap()));
        assert!(one.as_os_str().len() <= run.path().as_os_str().len() + LONGEST_NAME);
    }

    #[test]
    fn where_it_may_be() {
        let us = geteuid().as_raw();
        let found = candidates(Some("/run/user/5".into()));
        let usual = if us == 0 { "/run/start_server" } else { "/run/user/5/start_server" };
        assert_eq!(found[0], Path::new(usual));
        assert_eq!(
            found[1..],
            [format!("/tmp/start_server-{us}"), format!("/dev/shm/start_server-{us}")].map(PathBuf::from)
        );
        if us != 0 {
            assert_eq!(candidates(Some("relative".into())).len(), 2);
            assert_eq!(candidates(None).len(), 2);
        }
    }
}
