//! What was written to the log file since a moment, less the superdaemon's own lines: what a failed generation had to
//! say. Kept by the event loop, for whoever asked for the restart.

use std::collections::HashSet;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat};

use crate::file_identity::FileIdentity;
use crate::handover::state;
use crate::printable::printable;

const MOST_LINES: usize = 20;
const MOST_BYTES: u64 = 16 * 1024;
const LONGEST_LINE: usize = 500;
/// Enough for every attempt that anybody looks at.
const MOST_OWN_LINES: usize = 200;

/// The part of a log file from a moment on. The file is the one that is open as our standard error: whatever has its
/// name, by now may be something else.
#[derive(Debug)]
pub struct LogExcerpt {
    /// None for a log that cannot be read, such as a device.
    file: Option<FileIdentity>,
    start: u64,
    own: HashSet<String>,
}

impl LogExcerpt {
    /// The part from now on of the log that is open here.
    pub fn from_now(log: BorrowedFd) -> Self {
        let found = regular(log);
        Self {
            file: found.as_ref().map(FileIdentity::of_stat),
            start: found.map_or(0, |found| length(&found)),
            own: HashSet::new(),
        }
    }

    /// What the next image of the program has to know.
    pub fn state(&self) -> state::Excerpt {
        state::Excerpt { file: self.file, start: self.start, own: self.own.iter().cloned().collect() }
    }

    /// The part that the image before had in mind.
    pub fn resume(excerpt: state::Excerpt) -> Self {
        Self { file: excerpt.file, start: excerpt.start, own: excerpt.own.into_iter().collect() }
    }

    /// Leaves this line out, which the superdaemon has written.
    pub fn without(&mut self, line: &str) {
        if self.own.len() < MOST_OWN_LINES {
            self.own.insert(line.to_owned());
        }
    }

    /// The last lines of it, from the log that is open here; none if that cannot be read.
    pub fn lines(&self, log: BorrowedFd) -> Vec<String> {
        let Some(text) = self.read(log) else { return Vec::new() };
        let lines: Vec<&str> = text.lines().filter(|line| !self.own.contains(*line)).collect();
        let first = lines.len().saturating_sub(MOST_LINES);
        lines.iter().skip(first).map(|line| printable(line).chars().take(LONGEST_LINE).collect()).collect()
    }

    fn read(&self, log: BorrowedFd) -> Option<String> {
        let found = regular(log)?;
        let length = length(&found);
        // Another file was opened meanwhile, or this one is shorter than before: it was rotated, and all of it is new.
        let is_new = self.file.is_some_and(|file| file != FileIdentity::of_stat(&found)) || length < self.start;
        let start = if is_new { 0 } else { self.start };
        // Ours is open for appending only.
        let path = format!("/proc/self/fd/{}", log.as_raw_fd());
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
        let mut text = Vec::new();
        let mut at = start.max(length.saturating_sub(MOST_BYTES));
        let mut space = [0; 4096];
        while at < length {
            let read = file.read_at(&mut space, at).ok()?;
            let Some(bytes) = space.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
            text.extend_from_slice(bytes);
            at = at.saturating_add(u64::try_from(read).ok()?);
        }
        Some(String::from_utf8_lossy(&text).into_owned())
    }
}

fn regular(log: BorrowedFd) -> Option<Stat> {
    fstat(log).ok().filter(|found| FileType::from_raw_mode(found.st_mode) == FileType::RegularFile)
}

fn length(found: &Stat) -> u64 {
    u64::try_from(found.st_size).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn only_what_is_new_and_not_ours() {
        let path = std::env::temp_dir().join(format!("log_excerpt-{}", std::process::id()));
        std::fs::write(&path, "before\n").unwrap();
        let mut file = File::options().append(true).open(&path).unwrap();
        let mut excerpt = LogExcerpt::from_now(file.as_fd());
        excerpt.without("starting new worker 7");
        write!(file, "starting new worker 7\nsyntax error\x1b[31m at line 3\n").unwrap();
        assert_eq!(excerpt.lines(file.as_fd()), ["syntax error\u{fffd}[31m at line 3"]);
        (0..100).for_each(|n| writeln!(file, "line {n}").unwrap());
        assert_eq!(excerpt.lines(file.as_fd()).len(), MOST_LINES);
        assert_eq!(excerpt.lines(file.as_fd()).last().map(String::as_str), Some("line 99"));
        // What has the name is of no interest.
        let moved = path.with_extension("1");
        std::fs::rename(&path, &moved).unwrap();
        std::fs::write(&path, "somebody else's\n").unwrap();
        assert_eq!(excerpt.lines(file.as_fd()).last().map(String::as_str), Some("line 99"));
        let other = File::options().append(true).open(&path).unwrap();
        assert_eq!(excerpt.lines(other.as_fd()), ["somebody else's"], "another log was opened");
        file.set_len(0).unwrap();
        writeln!(file, "rotated").unwrap();
        assert_eq!(LogExcerpt { start: 1000, ..excerpt }.lines(file.as_fd()), ["rotated"]);
        std::fs::remove_file(&path).unwrap();
        std::fs::remove_file(&moved).unwrap();
    }

    #[test]
    fn a_log_that_is_no_file_has_no_lines() {
        let (_reader, writer) = std::io::pipe().unwrap();
        let excerpt = LogExcerpt::from_now(writer.as_fd());
        assert!(excerpt.lines(writer.as_fd()).is_empty());
    }
}
