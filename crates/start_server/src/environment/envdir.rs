//! The envdir: a directory with a file for each variable, as in envdir(8) of daemontools, read as Server::Starter reads
//! it. `environment.rs` puts what it sets on top of the rest.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, RawDir, fstat};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::{GENERATION, PORT, Variables};
use crate::files::{follow_in, open_directory, open_in, other_writers};

/// The most that is read of a file in the envdir, in bytes. The kernel takes no more than twice this for a variable.
const LONGEST_VALUE: usize = 64 * 1024;

/// What the files of a directory say.
#[derive(Debug, Default)]
pub struct Envdir {
    /// The variables that they set.
    pub variables: Variables,
    /// What is wrong with single files, and what is doubtful about the directory, as sentences.
    pub faults: BTreeSet<String>,
}

/// Why a directory sets nothing.
#[derive(Debug)]
pub enum Unread {
    /// It cannot be read.
    Failed(io::Error),
    /// It must not be: why.
    Refused(String),
}

impl<E: Into<io::Error>> From<E> for Unread {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl fmt::Display for Unread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "{error}"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

/// Reads every file of a directory. One that is not there sets nothing.
///
/// Who can write there decides what the program is, by `LD_PRELOAD` alone. So root believes only what nobody else can
/// write, and no link that leads out of the directory; any other user is told.
///
/// # Errors
/// The directory is there, and cannot be read, or is not believed.
pub fn read(dir: &Path) -> Result<Envdir, Unread> {
    let mut found = Envdir::default();
    let are_we_root = geteuid().is_root();
    let opened = match open_directory(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(found);
        }
        // Somebody else's link is on the way.
        Err(error) if error.raw_os_error().is_none() && are_we_root => {
            return Err(Unread::Refused(error.to_string()));
        }
        Err(error) if error.raw_os_error().is_none() => {
            found.faults.insert(format!("the envdir {}: {error} by root, but here it is", dir.display()));
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            rustix::fs::open(dir, flags, Mode::empty())?
        }
        opened => opened?,
    };
    if let Some(writers) = other_writers(&opened, &fstat(&opened)?) {
        if are_we_root {
            return Err(Unread::Refused(could_be_root(&writers)));
        }
        found.faults.insert(format!("the envdir {}{}", dir.display(), decides(&writers)));
    }
    let mut space = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(&opened, &mut space);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        let path = || dir.join(name);
        let mut skip = |why: &str| {
            found.faults.insert(format!("skipping {} in the envdir: {why}", path().display()));
        };
        if name.as_bytes().contains(&b'=') {
            skip("the name of a variable cannot contain =");
        } else if name == PORT || name == GENERATION {
            skip("start_server sets this variable itself");
        } else {
            match read_value(opened.as_fd(), name, are_we_root) {
                Ok(Value::Set(value, writers)) => {
                    found.variables.insert(name.to_owned(), value);
                    found.faults.extend(
                        writers.map(|writers| format!("{} in the envdir{}", path().display(), decides(&writers))),
                    );
                }
                Ok(Value::Nothing) => {}
                Ok(Value::TooLong) => skip("its first line is longer than 64 KiB"),
                Err(error) => skip(&error.to_string()),
            }
        }
    }
    Ok(found)
}

/// What a file of the envdir says about its variable.
enum Value {
    /// And who else could have written it.
    Set(OsString, Option<String>),
    Nothing,
    TooLong,
}

/// Reads the first line of a file, as Server::Starter does: only the newline goes, a zero byte ends the value, and a
/// file without a single byte sets nothing.
fn read_value(dir: BorrowedFd, name: &OsStr, are_we_root: bool) -> io::Result<Value> {
    let Some((file, writers)) = open_regular(dir, name)? else { return Ok(Value::Nothing) };
    if let Some(writers) = writers.as_ref().filter(|_| are_we_root) {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, could_be_root(writers)));
    }
    let mut content = Vec::new();
    file.take(LONGEST_VALUE as u64).read_to_end(&mut content)?;
    if content.is_empty() {
        return Ok(Value::Nothing);
    }
    match content.iter().position(|byte| matches!(byte, b'\n' | 0)) {
        Some(end) => content.truncate(end),
        None if content.len() == LONGEST_VALUE => return Ok(Value::TooLong),
        None => {}
    }
    Ok(Value::Set(OsString::from_vec(content), writers))
}

/// Opens a file, or what a symbolic link leads to, and says who else can write it. Links into nowhere and whatever is no
/// regular file are `None`.
fn open_regular(dir: BorrowedFd, name: &OsStr) -> io::Result<Option<(File, Option<String>)>> {
    let opened = match open_in(dir, name) {
        // Root may have unpacked what somebody else has packed: so that a link is root's does not say that root wants it.
        Err(Errno::LOOP) => follow_in(dir, name, geteuid().is_root()),
        opened => opened.map_err(io::Error::from),
    };
    let file = match opened {
        Ok(file) => file,
        // A link that leads nowhere or in a circle, a file that has just gone, a socket.
        Err(error) => {
            return match Errno::from_io_error(&error) {
                Some(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::ISDIR | Errno::NOTDIR) => Ok(None),
                _ => Err(error),
            };
        }
    };
    let found = fstat(&file)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let writers = other_writers(&file, &found);
    Ok(Some((file.into(), writers)))
}

fn could_be_root(writers: &str) -> String {
    format!("it can be written by {writers}, who would be root by that; let root own it, and nobody else write it")
}

fn decides(writers: &str) -> String {
    format!(" can be written by {writers}, who can have the program do anything by that")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use testkit::TempDir;

    use super::*;

    fn write(dir: &TempDir, name: &str, content: impl AsRef<[u8]>) {
        fs::write(dir.path().join(name), content).unwrap();
    }

    #[test]
    fn files_are_read_as_the_original_reads_them() {
        let dir = TempDir::new();
        let full = "x".repeat(LONGEST_VALUE - 1);
        write(&dir, "PLAIN", "value\n");
        write(&dir, "NO_NEWLINE", "value");
        write(&dir, "SECOND_LINE", "first\nsecond\n");
        write(&dir, "BLANKS", "  a b \r\n");
        write(&dir, "JUST_NEWLINE", "\n");
        write(&dir, "EMPTY", "");
        write(&dir, "NUL", "a\0b\n");
        write(&dir, "NUL_FIRST", "\0b\n");
        write(&dir, "BACKUP~", "1\n");
        write(&dir, ".HIDDEN", "1\n");
        write(&dir, "FULL", &full);
        fs::create_dir(dir.path().join("DIRECTORY")).unwrap();
        symlink("PLAIN", dir.path().join("LINK")).unwrap();
        symlink("nothing", dir.path().join("DANGLING")).unwrap();
        symlink("CIRCLE", dir.path().join("CIRCLE")).unwrap();
        std::os::unix::net::UnixListener::bind(dir.path().join("SOCKET")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(dir.path().join("FIFO")).status().unwrap().success());

        let found = read(dir.path()).unwrap();
        assert!(found.faults.is_empty(), "{:?}", found.faults);
        let expected = [
            ("BACKUP~", "1"),
            ("BLANKS", "  a b \r"),
            ("FULL", &full),
            ("JUST_NEWLINE", ""),
            ("LINK", "value"),
            ("NO_NEWLINE", "value"),
            ("NUL", "a"),
            ("NUL_FIRST", ""),
            ("PLAIN", "value"),
            ("SECOND_LINE", "first"),
        ];
        assert_eq!(found.variables, expected.map(|(name, value)| (name.into(), value.into())).into());
    }

    #[test]
    fn an_unreadable_file_is_skipped() {
        use std::os::unix::fs::PermissionsExt;
        let dir = TempDir::new();
        write(&dir, "SECRET", "1\n");
        fs::set_permissions(dir.path().join("SECRET"), fs::Permissions::from_mode(0o000)).unwrap();
        if File::open(dir.path().join("SECRET")).is_ok() {
            return; // The permissions mean nothing to root.
        }
        let found = read(dir.path()).unwrap();
        assert_eq!((found.variables.len(), found.faults.len()), (0, 1), "{found:?}");
    }

    #[test]
    fn what_is_no_directory_sets_nothing() {
        let dir = TempDir::new();
        write(&dir, "file", "1");
        for name in ["nothing", "file"] {
            let found = read(&dir.path().join(name)).unwrap();
            assert!(found.variables.is_empty() && found.faults.is_empty(), "{name}: {found:?}");
        }
    }
}
