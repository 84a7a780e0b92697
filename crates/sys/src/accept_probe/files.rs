//! Reading files of /proc/PID for the accept probe: a file that has vanished is `None`, one that may not be read is a
//! [`Reason`].

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use super::Reason;

/// A file of a process, or nothing if it or the process is gone.
pub(super) fn open(pid: i32, name: &str) -> Result<Option<File>, Reason> {
    let path = format!("/proc/{pid}/{name}");
    unless_gone(File::open(&path), pid, &path)
}

/// The names in a directory of a process; what cannot be read of a directory that vanishes meanwhile is left out.
pub(super) fn names(pid: i32, name: &str) -> Result<impl Iterator<Item = String>, Reason> {
    let path = format!("/proc/{pid}/{name}");
    let entries = unless_gone(fs::read_dir(&path), pid, &path)?;
    Ok(entries.into_iter().flatten().map_while(Result::ok).filter_map(|entry| entry.file_name().into_string().ok()))
}

/// A short file, as far as it fits.
pub(super) fn read_short(pid: i32, name: &str) -> Result<Option<String>, Reason> {
    let Some(mut file) = open(pid, name)? else { return Ok(None) };
    let mut text = [0; 512];
    let length = unless_gone(file.read(&mut text), pid, &format!("/proc/{pid}/{name}"))?;
    Ok(length.map(|length| String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned()))
}

/// Hands the lines of a file to `see`, until that has found something or so many bytes are read. Tells what was found,
/// and whether all was read.
pub(super) fn find_in_lines<T>(
    file: File,
    most_bytes: u64,
    mut see: impl FnMut(&str) -> Option<T>,
) -> (Option<T>, bool) {
    let mut reader = BufReader::with_capacity(4096, file.take(most_bytes));
    let mut line = String::new();
    // An error means that the file's owner is gone: these files are made up by the kernel.
    while let Ok(1..) = reader.read_line(&mut line) {
        if let Some(found) = see(&line) {
            return (Some(found), true);
        }
        line.clear();
    }
    (None, reader.into_inner().limit() > 0)
}

/// `None` for what is gone.
pub(super) fn unless_gone<T>(result: io::Result<T>, pid: i32, what: &str) -> Result<Option<T>, Reason> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => Ok(None),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(Reason::Denied { pid, what: what.to_owned() }),
        Err(error) => Err(Reason::Failed { what: what.to_owned(), error }),
    }
}
