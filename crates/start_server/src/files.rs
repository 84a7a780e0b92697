//! Files in directories that others can write: opened, created, changed and removed without harm, whoever exchanges what
//! there meanwhile. Everything that touches a file by its name goes through here, since it may be done as root.
//!
//! The rules:
//! - A symbolic link, on the way or at its end, is followed only if root or our user has made it. A path is walked
//!   component by component; what was found is acted on by descriptor, or by its name in the directory that was found.
//! - Nothing is waited for: whatever may be a FIFO is opened without blocking, and one that nobody reads is an error.
//! - What is written to is ours: in a directory that others can write, a regular file must have no other name (somebody
//!   may have given one to a file of root's), and belong to root, to us, or to whom the directory belongs.
//! - Permissions are changed, and files given away, by a descriptor that was seen to be the right file.
//! - A file is removed by its name in the directory that was found, and only if it is the file that was meant.
//! - What we create has permissions of its own, whatever the umask gives away: never are others allowed to write.
//!
//! To look at a file by its path (is it the one that we know?) needs none of this: it changes nothing, and tells nobody.

mod reach;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags, Stat, StatVfsMountFlags, fcntl_setfl, fstat, fstatfs, fstatvfs,
    getxattr, linkat, openat, openat2, readlinkat, renameat, statat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

pub use self::reach::{Reach, SILENT};
use crate::file_identity::FileIdentity;

/// As many links are followed on one path, as by the kernel.
const MOST_LINKS: usize = 40;

/// The permissions of a log file, before a stricter umask takes some away.
const LOG_MODE: Mode = Mode::from_raw_mode(0o644);

/// Opens a log file for appending, and creates it if need be. A device or a FIFO with a reader will do, too.
///
/// # Errors
/// Those of open(2); or it is what the rules forbid, as an error with words of its own.
pub fn open_log_file(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
    let (file, directory) = match Walk::along(path).open(flags, LOG_MODE) {
        Err(error) if error.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => {
            return Err(refusal("it is a FIFO that nobody reads, or a socket".to_owned()));
        }
        opened => opened?,
    };
    let found = fstat(&file)?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile | FileType::Fifo => directory.map_or(Ok(()), |it| it.must_not_be_a_trap(&found))?,
        // Only root makes devices.
        _ => {}
    }
    // Workers write to it, too, and do not expect that it tells them to come back later.
    fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file)
}

/// Opens a regular file that somebody else may have written, to be read.
///
/// # Errors
/// Those of open(2); or it is no regular file, or reached by somebody else's link.
pub fn open_to_read(path: &Path) -> io::Result<File> {
    let (file, _) = Walk::along(path).open(OFlags::RDONLY, Mode::empty())?;
    match FileType::from_raw_mode(fstat(&file)?.st_mode) {
        FileType::RegularFile => Ok(file.into()),
        _ => Err(refusal("it is not a regular file".to_owned())),
    }
}

/// Opens a regular file that names whom a command is to address. As [`open_to_read`]; and in a directory that others can
/// write, it must not be one that somebody has given another name.
///
/// # Errors
/// As of [`open_to_read`].
pub fn open_to_believe(path: &Path) -> io::Result<File> {
    let (file, directory) = Walk::along(path).open(OFlags::RDONLY, Mode::empty())?;
    let found = fstat(&file)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Err(refusal("it is not a regular file".to_owned()));
    }
    directory.map_or(Ok(()), |directory| directory.must_have_one_name(&found))?;
    Ok(file.into())
}

/// Takes hold of a socket's file that is to be connected to. In a directory that others can write, it must not be one that
/// somebody has given another name.
///
/// # Errors
/// There is none, or it is reached by somebody else's link.
pub fn hold_socket(path: &Path) -> io::Result<(OwnedFd, Stat)> {
    let (file, directory) = Walk::along(path).open(OFlags::PATH, Mode::empty())?;
    let found = fstat(&file)?;
    directory.map_or(Ok(()), |directory| directory.must_have_one_name(&found))?;
    Ok((file, found))
}

/// Opens a directory, to be read.
///
/// # Errors
/// Those of open(2); or it is reached by somebody else's link.
pub fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).or_else(|_| {
        Walk::along(path).directory().and_then(|found| Ok(openat(found.as_fd(), c".", flags, Mode::empty())?))
    })
}

/// Opens a file of this directory, which is to be read, if it is no symbolic link.
///
/// # Errors
/// Those of open(2): `LOOP` for a link.
pub fn open_in(directory: BorrowedFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    openat(directory, name, OFlags::RDONLY | WITHOUT_WAITING | OFlags::NOFOLLOW, Mode::empty())
}

/// Opens what a link of root's or ours in this directory leads to, to be read. `beneath` refuses to leave the directory.
///
/// # Errors
/// Those of open(2); or a link is somebody else's, or leads out.
pub fn follow_in(directory: BorrowedFd, name: &OsStr, beneath: bool) -> io::Result<OwnedFd> {
    let walk = Walk { base: Some(directory), beneath, ..Walk::along(Path::new(name)) };
    let (file, directory) = walk.open(OFlags::RDONLY, Mode::empty())?;
    // Somebody may have given a file of root's another name there.
    directory.map_or(Ok(()), |it| it.must_not_be_a_trap(&fstat(&file)?))?;
    Ok(file)
}

/// Who else can write a file or a directory: None if only root and our user can, and our group. Words to go after "by".
///
/// Nobody can where it is mounted for reading only: so Kubernetes passes directories that everybody might write.
pub fn other_writers(file: impl AsFd, found: &Stat) -> Option<String> {
    let writers = if !is_ours(found.st_uid) {
        format!("user {}", found.st_uid)
    } else if found.st_mode & 0o002 != 0 {
        "everybody".to_owned()
    } else if found.st_mode & 0o020 == 0 {
        return None;
    } else if found.st_gid != 0 && found.st_gid != getegid().as_raw() {
        format!("group {}", found.st_gid)
    } else if has_access_list(&file) {
        "those whom its access control list names".to_owned()
    } else {
        return None;
    };
    let is_read_only = fstatvfs(&file).is_ok_and(|mount| mount.f_flag.contains(StatVfsMountFlags::RDONLY));
    (!is_read_only).then_some(writers)
}

/// With one, the bits of the group say only what is granted at most. See acl(5).
fn has_access_list(file: impl AsFd) -> bool {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    matches!(getxattr(path, c"system.posix_acl_access", &mut [0u8; 8]), Ok(_) | Err(Errno::RANGE))
}

/// Whether this is root or our user. Root of our user namespace, that is: who has no number there is neither.
pub fn is_ours(user: u32) -> bool {
    user == 0 || user == geteuid().as_raw()
}

fn refusal(why: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

/// A directory that was reached without anybody else's link.
#[derive(Debug)]
pub struct Directory {
    /// None for the working directory.
    found: Option<OwnedFd>,
    /// What is known of it, once somebody has asked.
    access: OnceCell<Access>,
    is_local: OnceCell<bool>,
}

/// Who owns a directory, and who can put files there.
#[derive(Clone, Copy, Debug)]
struct Access {
    owner: u32,
    by_others: bool,
    by_everybody: bool,
}

/// A name in a directory, whether or not there is such a file.
#[derive(Clone, Debug)]
pub struct Place {
    directory: Rc<Directory>,
    name: OsString,
}

/// Directories that were found already, for one piece of work on many files: what is kept longer may have another name
/// by then.
#[derive(Debug, Default)]
pub struct Directories(BTreeMap<PathBuf, Rc<Directory>>);

impl Directories {
    /// The place of this path. Its last component is not looked at.
    ///
    /// # Errors
    /// Its directory is not there, or is reached by somebody else's link.
    pub fn place(&mut self, path: &Path) -> io::Result<Place> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(Errno::ISDIR.into());
        };
        let directory = match self.0.get(parent) {
            Some(known) => Rc::clone(known),
            None => {
                let found = Rc::new(Directory::at(parent)?);
                self.0.insert(parent.to_owned(), Rc::clone(&found));
                found
            }
        };
        Ok(Place { directory, name: name.to_owned() })
    }
}

impl Place {
    /// As [`Directories::place`], for a single file.
    ///
    /// # Errors
    /// The same.
    pub fn of(path: &Path) -> io::Result<Self> {
        Directories::default().place(path)
    }

    /// The place of another name in the same directory.
    pub fn beside(&self, name: impl Into<OsString>) -> Self {
        Self { directory: Rc::clone(&self.directory), name: name.into() }
    }

    /// The name in the directory.
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// What is known of the file system that it is on.
    pub fn reach(&self, path: &Path) -> Reach {
        if *self.directory.is_local.get_or_init(|| Reach::of(parent_of(path)).is_local()) {
            return Reach::default();
        }
        Reach::of(parent_of(path))
    }

    /// Whether others can put something there, too.
    pub fn is_open_to_others(&self) -> bool {
        self.directory.access().by_others
    }

    /// What has the name now; of a symbolic link, that itself.
    ///
    /// # Errors
    /// There is none, or it cannot be looked at.
    pub fn look(&self) -> rustix::io::Result<Stat> {
        statat(self.directory.as_fd(), &self.name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Which directory it is in.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub fn directory(&self) -> rustix::io::Result<FileIdentity> {
        statat(self.directory.as_fd(), c"", AtFlags::EMPTY_PATH).map(|found| FileIdentity::of_stat(&found))
    }

    /// Whether this file has the name.
    pub fn has(&self, identity: FileIdentity) -> bool {
        self.look().is_ok_and(|found| FileIdentity::of_stat(&found) == identity)
    }

    /// Opens what has the name, without waiting for anybody; a symbolic link is an error (`LOOP`). `mode` is that of a
    /// file that is made; the umask takes some of it away.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(&self, flags: OFlags, mode: Mode) -> rustix::io::Result<OwnedFd> {
        openat(self.directory.as_fd(), &self.name, flags | WITHOUT_WAITING | OFlags::NOFOLLOW, mode)
    }

    /// Takes hold of what has the name, to change its owner or its permissions: even a socket or a link.
    ///
    /// # Errors
    /// As open(2).
    pub fn hold(&self) -> rustix::io::Result<OwnedFd> {
        self.open(OFlags::PATH, Mode::empty())
    }

    /// Gives the file that has this name another one.
    ///
    /// # Errors
    /// As link(2).
    pub fn link(&self, other: &Self) -> rustix::io::Result<()> {
        linkat(self.directory.as_fd(), &self.name, other.directory.as_fd(), &other.name, AtFlags::empty())
    }

    /// Gives the file that has this name another one instead, which may be taken.
    ///
    /// # Errors
    /// As rename(2).
    pub fn rename(&self, other: &Self) -> rustix::io::Result<()> {
        renameat(self.directory.as_fd(), &self.name, other.directory.as_fd(), &other.name)
    }

    /// Removes the name. Whose it is must have been seen before: see [`Place::has`].
    ///
    /// # Errors
    /// As unlink(2).
    pub fn remove(&self) -> rustix::io::Result<()> {
        unlinkat(self.directory.as_fd(), &self.name, AtFlags::empty())
    }
}

/// The directory that this path is in, as a path.
pub fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Directory {
    fn at(path: &Path) -> io::Result<Self> {
        if path.as_os_str().is_empty() {
            return Ok(Self::new(None));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        // In one step, where there is no link at all.
        match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
            Ok(found) => Ok(Self::new(Some(found))),
            Err(_) => Walk::along(path).directory(),
        }
    }

    fn new(found: Option<OwnedFd>) -> Self {
        Self { found, access: OnceCell::new(), is_local: OnceCell::new() }
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        self.found.as_ref().map_or(CWD, AsFd::as_fd)
    }

    /// What cannot be looked at is everybody's.
    fn access(&self) -> Access {
        *self.access.get_or_init(|| match statat(self.as_fd(), c"", AtFlags::EMPTY_PATH) {
            Ok(found) => Access {
                owner: found.st_uid,
                by_others: !is_ours(found.st_uid) || found.st_mode & 0o022 != 0,
                by_everybody: found.st_mode & 0o002 != 0,
            },
            Err(_) => Access { owner: u32::MAX, by_others: true, by_everybody: true },
        })
    }

    /// Refuses what somebody may have given another name here.
    fn must_have_one_name(&self, found: &Stat) -> io::Result<()> {
        if found.st_nlink > 1 && self.access().by_others {
            return Err(refusal(
                "it has another name elsewhere, and its directory can be written by others, so it may be somebody else's"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Refuses a file that somebody may have put there for us to use. The kernel does, too, if fs.protected_regular and
    /// its like in sysctl(8) are set, and only where the directory is everybody's.
    fn must_not_be_a_trap(&self, found: &Stat) -> io::Result<()> {
        let Access { owner, by_others, by_everybody } = self.access();
        if !by_others {
            return Ok(());
        }
        let is_regular = FileType::from_raw_mode(found.st_mode) == FileType::RegularFile;
        if is_regular && found.st_nlink > 1 {
            return Err(refusal(
                "the file has another name elsewhere, and its directory can be written by others, so it may be \
                 somebody else's"
                    .to_owned(),
            ));
        }
        // Who owns the directory may lend us a file, but a FIFO is his to have us wait. Where only he and root can put
        // files, another user's was put there by root.
        let is_lent = is_regular && (found.st_uid == owner || (is_ours(owner) && !by_everybody));
        if is_ours(found.st_uid) || is_lent {
            return Ok(());
        }
        let kind = if is_regular { "file" } else { "FIFO" };
        Err(refusal(format!("a {kind} of user {} is there, which is not taken for ours", found.st_uid)))
    }
}

/// For everything that is opened: no FIFO, terminal or tape is waited for, and no terminal becomes ours.
const WITHOUT_WAITING: OFlags = OFlags::NONBLOCK.union(OFlags::NOCTTY).union(OFlags::CLOEXEC);

/// A path that is being walked.
struct Walk<'a> {
    /// Where it begins, if not in the working directory.
    base: Option<BorrowedFd<'a>>,
    /// Whether it must not leave the directory where it begins.
    beneath: bool,
    /// Where we are, if not at the beginning.
    at: Option<OwnedFd>,
    /// How many directories below the beginning that is.
    depth: usize,
    /// The components that are left, the next one last.
    rest: Vec<OsString>,
    /// The way so far, to be named in errors.
    so_far: PathBuf,
    links: usize,
}

impl Walk<'_> {
    fn along(path: &Path) -> Self {
        let mut walk =
            Self { base: None, beneath: false, at: None, depth: 0, rest: Vec::new(), so_far: PathBuf::new(), links: 0 };
        walk.add(path.as_os_str().as_bytes());
        walk
    }

    /// Goes to the end, which is a directory.
    fn directory(mut self) -> io::Result<Directory> {
        while let Some(name) = self.rest.pop() {
            self.enter(&name)?;
        }
        Ok(Directory::new(self.at))
    }

    /// Goes to the end and opens it. Beside it comes the directory that it is in, unless that is the one where the walk
    /// began, or a descriptor led there.
    fn open(mut self, flags: OFlags, mode: Mode) -> io::Result<(OwnedFd, Option<Directory>)> {
        let flags = flags | WITHOUT_WAITING;
        loop {
            let Some(name) = self.rest.pop() else { return Err(Errno::ISDIR.into()) };
            if !self.rest.is_empty() || name == ".." || name == "/" {
                self.enter(&name)?;
                continue;
            }
            match openat(self.here(), &name, flags | OFlags::NOFOLLOW, mode) {
                Ok(file) => {
                    let is_at_its_base = self.at.is_none() && self.base.is_some();
                    let directory = Directory::new(self.at);
                    return Ok((file, (!is_at_its_base).then_some(directory)));
                }
                Err(Errno::LOOP) => {
                    if self.follow(&name)? {
                        continue;
                    }
                    return Ok((openat(self.here(), &name, flags, mode)?, None));
                }
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.at.as_ref().map(AsFd::as_fd).or(self.base).unwrap_or(CWD)
    }

    /// Puts the components of a path, or of what a link says, before those that are left.
    fn add(&mut self, path: &[u8]) {
        let components = path.split(|byte| *byte == b'/').rev().filter(|name| !name.is_empty() && *name != b".");
        self.rest.extend(components.map(|name| OsStr::from_bytes(name).to_owned()));
        if path.first() == Some(&b'/') {
            self.rest.push("/".into());
        }
    }

    /// Goes on to a directory, or to where a link leads.
    fn enter(&mut self, name: &OsStr) -> io::Result<()> {
        let leads_out = name == "/" || (name == ".." && self.depth == 0);
        if self.beneath && leads_out {
            return Err(refusal("it is a symbolic link that leads out of the directory".to_owned()));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match openat(self.here(), name, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(next) => self.at = Some(next),
            // What is no directory may be a link.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                if self.follow(name)? {
                    return Ok(());
                }
                self.at = Some(openat(self.here(), name, flags, Mode::empty())?);
            }
            Err(errno) => return Err(errno.into()),
        }
        self.depth = if name == ".." { self.depth.saturating_sub(1) } else { self.depth + 1 };
        self.so_far.push(name);
        Ok(())
    }

    /// Goes on where a link leads. False for one that leads to a descriptor, not to a name: only the kernel can follow it.
    fn follow(&mut self, name: &OsStr) -> io::Result<bool> {
        const PROC: u64 = 0x9fa0;
        let link = openat(self.here(), name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let found = fstat(&link)?;
        if FileType::from_raw_mode(found.st_mode) != FileType::Symlink {
            return Err(Errno::NOTDIR.into());
        }
        let path = self.so_far.join(name);
        if !is_ours(found.st_uid) {
            return Err(refusal(format!(
                "{} is a symbolic link of user {}, which is not followed",
                path.display(),
                found.st_uid
            )));
        }
        self.links += 1;
        if self.links > MOST_LINKS {
            return Err(Errno::LOOP.into());
        }
        // See PROC_SUPER_MAGIC in statfs(2).
        if !self.beneath && fstatfs(&link).is_ok_and(|system| system.f_type as u64 == PROC) {
            return Ok(false);
        }
        let target = readlinkat(&link, c"", Vec::new())?.into_bytes();
        if target.is_empty() {
            return Err(Errno::NOENT.into());
        }
        self.add(&target);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use testkit::TempDir;

    use super::*;

    fn read(path: &Path) -> io::Result<String> {
        let mut text = String::new();
        open_to_read(path)?.read_to_string(&mut text)?;
        Ok(text)
    }

    #[test]
    fn our_links_lead_where_the_kernel_says() {
        let dir = TempDir::new();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("a/b/c")).unwrap();
        fs::write(at("a/file"), "found").unwrap();
        for (name, target) in [
            ("last", "a/file".to_owned()),
            ("absolute", at("a/file").display().to_string()),
            ("way", "a/b".to_owned()),
            ("a/b/up", "..".to_owned()),
            ("slashes", "a//./b/../file".to_owned()),
            ("chain", "last".to_owned()),
        ] {
            symlink(target, at(name)).unwrap();
        }
        for path in ["a/file", "a/b/../file", "last", "absolute", "way/../file", "way/up/file", "slashes", "./chain"] {
            assert_eq!(read(&at(path)).unwrap(), "found", "{path}");
            // The kernel agrees.
            assert_eq!(fs::read_to_string(at(path)).unwrap(), "found", "{path}");
        }
        assert!(read(Path::new("/")).is_err() && read(&at("a/b/..")).is_err() && read(&at("a/file/x")).is_err());
    }

    #[test]
    fn what_leads_nowhere_or_in_a_circle_is_an_error() {
        let dir = TempDir::new();
        symlink("nothing", dir.path().join("dangling")).unwrap();
        symlink("circle", dir.path().join("circle")).unwrap();
        let errno = |name: &str| read(&dir.path().join(name)).unwrap_err().raw_os_error();
        assert_eq!(errno("dangling"), Some(Errno::NOENT.raw_os_error()));
        assert_eq!(errno("circle"), Some(Errno::LOOP.raw_os_error()));
        assert_eq!(errno("circle/x"), Some(Errno::LOOP.raw_os_error()));
        // As many as the kernel follows, and no more.
        fs::write(dir.path().join("0"), "found").unwrap();
        (1..=41).for_each(|n: u32| symlink((n - 1).to_string(), dir.path().join(n.to_string())).unwrap());
        assert_eq!(read(&dir.path().join("40")).unwrap(), "found");
        assert_eq!(errno("41"), Some(Errno::LOOP.raw_os_error()));
    }

    #[test]
    fn a_dangling_link_of_ours_is_where_the_log_is_made() {
        let dir = TempDir::new();
        fs::create_dir(dir.path().join("real")).unwrap();
        symlink("real/log", dir.path().join("log")).unwrap();
        open_log_file(&dir.path().join("log")).unwrap();
        assert!(dir.path().join("real/log").is_file());
    }

    #[test]
    fn a_link_that_leads_out_is_not_followed_beneath() {
        let dir = TempDir::new();
        let env = dir.path().join("env");
        fs::create_dir_all(env.join("inner")).unwrap();
        fs::write(env.join("inner/file"), "in").unwrap();
        fs::write(dir.path().join("outside"), "out").unwrap();
        let absolute = dir.path().join("outside").display().to_string();
        for (name, target) in [
            ("in", "inner/file"),
            ("around", "inner/../inner/./file"),
            ("out", "../outside"),
            ("back", "../env/inner/file"),
            ("deep", "inner/../../outside"),
            ("absolute", &absolute),
            ("root", "/"),
            ("proc", "/proc/self/root"),
        ] {
            symlink(target, env.join(name)).unwrap();
        }
        let opened = open_directory(&env).unwrap();
        let follow = |name: &str, beneath| follow_in(opened.as_fd(), OsStr::new(name), beneath);
        for name in ["in", "around"] {
            assert!(follow(name, true).is_ok(), "{name}");
        }
        for name in ["out", "back", "deep", "absolute", "root", "proc"] {
            let text = follow(name, true).unwrap_err().to_string();
            assert_eq!(text, "it is a symbolic link that leads out of the directory", "{name}");
        }
        assert!(follow("out", false).is_ok() && follow("back", false).is_ok());
    }

    #[test]
    fn a_place_is_found_once_for_all_names_of_a_directory() {
        let dir = TempDir::new();
        let mut directories = Directories::default();
        let one = directories.place(&dir.path().join("one")).unwrap();
        let two = directories.place(&dir.path().join("two")).unwrap();
        assert!(Rc::ptr_eq(&one.directory, &two.directory));
        one.open(OFlags::WRONLY | OFlags::CREATE, LOG_MODE).unwrap();
        one.rename(&two).unwrap();
        assert!(one.look().is_err() && dir.path().join("two").exists());
        let identity = FileIdentity::at(&dir.path().join("two")).unwrap();
        assert!(two.has(identity) && !one.has(identity));
        two.remove().unwrap();
        assert!(Place::of(&dir.path().join("nothing/x")).is_err() && Place::of(Path::new("/")).is_err());
    }

    #[test]
    fn who_can_write_is_said_in_words() {
        let dir = TempDir::new();
        let path = dir.path().join("file");
        fs::write(&path, "").unwrap();
        let writers = |mode: u32| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let file = File::open(&path).unwrap();
            other_writers(&file, &fstat(&file).unwrap())
        };
        assert_eq!([0o644, 0o600, 0o664].map(&writers), [const { None }; 3], "our group is ours");
        assert_eq!(writers(0o666).as_deref(), Some("everybody"));
    }
}
