//! One line of the file in which `testserver` records its life. Written by the server program, read by the harness.

use std::fmt;
use std::str::FromStr;

/// Something that happened to a worker, in the order in which it happened to it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    /// `start`, `ready`, `signal NAME` or `exit CODE`.
    pub what: String,
    /// The value of `SERVER_STARTER_GENERATION`, 0 if there is none.
    pub generation: u32,
    /// The process.
    pub pid: u32,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} gen={} pid={}", self.what, self.generation, self.pid)
    }
}

impl FromStr for Event {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let parsed = line.split_once(" gen=").and_then(|(what, rest)| {
            let (generation, pid) = rest.split_once(" pid=")?;
            Some(Self { what: what.to_owned(), generation: generation.parse().ok()?, pid: pid.parse().ok()? })
        });
        parsed.ok_or_else(|| format!("this is no line of a record: {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let event = Event { what: "signal TERM".to_owned(), generation: 3, pid: 4711 };
        assert_eq!(event.to_string(), "signal TERM gen=3 pid=4711");
        assert_eq!(event.to_string().parse(), Ok(event));
        assert!("signal TERM".parse::<Event>().is_err());
    }
}
