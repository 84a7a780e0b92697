//! The envdir: a directory with a file for each variable, as in envdir(8) of daemontools, read as Server::Starter reads
//! it. `environment.rs` puts what it sets on top of the rest.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::{GENERATION, PORT, Variables};

/// The most that is read of a file in the envdir, in bytes. The kernel takes no more than twice this for a variable.
const LONGEST_VALUE: usize = 64 * 1024;

/// What the files of a directory say.
#[derive(Debug, Default)]
pub struct Envdir {
    /// The variables that they set.
    pub variables: Variables,
    /// What is wrong with single files, as sentences.
    pub faults: BTreeSet<String>,
}

/// Reads every file of a directory. One that is not there sets nothing.
///
/// # Errors
/// The directory is there, and cannot be read.
pub fn read(dir: &Path) -> io::Result<Envdir> {
    let mut found = Envdir::default();
    let entries = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(found);
        }
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        let path = dir.join(&name);
        let mut skip = |why: &str| {
            found.faults.insert(format!("skipping {} in the envdir: {why}", path.display()));
        };
        if name.as_bytes().contains(&b'=') {
            skip("the name of a variable cannot contain =");
        } else if name == PORT || name == GENERATION {
            skip("start_server sets this variable itself");
        } else {
            match read_value(&path) {
                Ok(Value::Set(value)) => {
                    found.variables.insert(name, value);
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
    Set(OsString),
    Nothing,
    TooLong,
}

/// Reads the first line of a file, as Server::Starter does: only the newline goes, a zero byte ends the value, and a
/// file without a single byte sets nothing.
fn read_value(path: &Path) -> io::Result<Value> {
    let Some(file) = open_regular(path)? else { return Ok(Value::Nothing) };
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
    Ok(Value::Set(OsString::from_vec(content)))
}

/// Opens a file, or what a symbolic link leads to. Links into nowhere and whatever is no regular file are `None`.
fn open_regular(path: &Path) -> io::Result<Option<File>> {
    // Without NONBLOCK, opening a FIFO would wait for a writer.
    match rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => {
            let file = File::from(file);
            Ok(file.metadata()?.is_file().then_some(file))
        }
        // A link that leads nowhere or in a circle, a file that has just gone, a socket.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
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
