//! What the tiny servers have written down: when each began, could serve, was told to stop, and ended.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Where the servers of one candidate write to.
#[derive(Debug)]
pub struct Record(PathBuf);

/// Something that happened to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The first line of its `main`.
    Main,
    /// It can serve.
    Ready,
    /// It has accepted for the first time.
    Accept,
    /// It was told to stop.
    Term,
    /// It has done its last.
    Exit,
}

/// One line of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Whose.
    pub pid: i32,
    /// What.
    pub event: Event,
    /// When, in nanoseconds of the monotonic clock.
    pub at: i64,
}

impl Record {
    /// In that directory.
    pub fn new(directory: &Path) -> Self {
        Self(directory.join("record"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// All lines so far.
    pub fn stamps(&self) -> Vec<Stamp> {
        fs::read_to_string(&self.0).unwrap_or_default().lines().filter_map(parse).collect()
    }

    /// When that happened to that server, one of the last.
    pub fn when(&self, pid: i32, event: Event) -> Option<i64> {
        self.latest().into_iter().find(|stamp| stamp.pid == pid && stamp.event == event).map(|stamp| stamp.at)
    }

    /// The server that began last.
    pub fn newest(&self) -> Option<Stamp> {
        self.latest().into_iter().filter(|stamp| stamp.event == Event::Main).max_by_key(|stamp| stamp.at)
    }
}

impl Record {
    /// The last lines: over many restarts the record grows long, and is asked for often.
    fn latest(&self) -> Vec<Stamp> {
        const ENOUGH: u64 = 8192;
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.0)?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(ENOUGH)))?;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        let text = String::from_utf8_lossy(&read().unwrap_or_default()).into_owned();
        // The first line may be cut.
        let cut = usize::from(text.len() as u64 == ENOUGH);
        text.lines().skip(cut).filter_map(parse).collect()
    }
}

fn parse(line: &str) -> Option<Stamp> {
    let mut words = line.split(' ');
    let pid = words.next()?.parse().ok()?;
    let event = match words.next()? {
        "main" => Event::Main,
        "ready" => Event::Ready,
        "accept" => Event::Accept,
        "term" => Event::Term,
        "exit" => Event::Exit,
        _ => return None,
    };
    Some(Stamp { pid, event, at: words.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood_or_left_out() {
        assert_eq!(parse("12 main 345"), Some(Stamp { pid: 12, event: Event::Main, at: 345 }));
        assert_eq!(parse("12 exit 345").map(|stamp| stamp.event), Some(Event::Exit));
        for line in ["", "12", "12 main", "12 sang 345", "x main 1", "12 main 3x"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
