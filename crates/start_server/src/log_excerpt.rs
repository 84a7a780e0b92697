//! What was written to the log file since a moment, less the superdaemon's own lines: what a failed generation had to
//! say. Kept by the event loop, for whoever asked for the restart.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::handover::state;

const MOST_LINES: usize = 20;
const MOST_BYTES: u64 = 16 * 1024;
/// Enough for every attempt that anybody looks at.
const MOST_OWN_LINES: usize = 200;

/// The part of a log file from a moment on.
#[derive(Debug)]
pub struct LogExcerpt {
    path: PathBuf,
    start: u64,
    own: HashSet<String>,
}

impl LogExcerpt {
    /// The part from now on.
    pub fn from_now(path: &Path) -> Self {
        let start = std::fs::metadata(path).map_or(0, |file| file.len());
        Self { path: path.to_owned(), start, own: HashSet::new() }
    }

    /// What the next image of the program has to know.
    pub fn state(&self) -> state::Excerpt {
        state::Excerpt { start: self.start, own: self.own.iter().cloned().collect() }
    }

    /// The part that the image before had in mind.
    pub fn resume(path: &Path, excerpt: state::Excerpt) -> Self {
        Self { path: path.to_owned(), start: excerpt.start, own: excerpt.own.into_iter().collect() }
    }

    /// Leaves this line out, which the superdaemon has written.
    pub fn without(&mut self, line: &str) {
        if self.own.len() < MOST_OWN_LINES {
            self.own.insert(line.to_owned());
        }
    }

    /// The last lines of it; none if the file cannot be read.
    pub fn lines(&self) -> Vec<String> {
        let Some(text) = self.read() else { return Vec::new() };
        let lines: Vec<&str> = text.lines().filter(|line| !self.own.contains(*line)).collect();
        let first = lines.len().saturating_sub(MOST_LINES);
        lines.iter().skip(first).map(|line| printable(line)).collect()
    }

    fn read(&self) -> Option<String> {
        let mut file = File::open(&self.path).ok()?;
        let length = file.metadata().ok()?.len();
        // A file that is shorter than before was rotated or truncated: all of it is new.
        let start = if length < self.start { 0 } else { self.start };
        file.seek(SeekFrom::Start(start.max(length.saturating_sub(MOST_BYTES)))).ok()?;
        let mut text = Vec::new();
        file.take(MOST_BYTES).read_to_end(&mut text).ok()?;
        Some(String::from_utf8_lossy(&text).into_owned())
    }
}

/// It goes to somebody's terminal, where control characters do harm.
fn printable(line: &str) -> String {
    line.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).take(500).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn only_what_is_new_and_not_ours() {
        let path = std::env::temp_dir().join(format!("log_excerpt-{}", std::process::id()));
        std::fs::write(&path, "before\n").unwrap();
        let mut excerpt = LogExcerpt::from_now(&path);
        excerpt.without("starting new worker 7");
        let mut file = File::options().append(true).open(&path).unwrap();
        write!(file, "starting new worker 7\nsyntax error\x1b[31m at line 3\n").unwrap();
        assert_eq!(excerpt.lines(), ["syntax error\u{fffd}[31m at line 3"]);
        (0..100).for_each(|n| writeln!(file, "line {n}").unwrap());
        assert_eq!(excerpt.lines().len(), MOST_LINES);
        assert_eq!(excerpt.lines().last().map(String::as_str), Some("line 99"));
        std::fs::write(&path, "rotated\n").unwrap();
        assert_eq!(LogExcerpt { start: 1000, ..excerpt }.lines(), ["rotated"]);
        std::fs::remove_file(&path).unwrap();
    }
}
