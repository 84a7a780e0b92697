//! What differs between any two runs, and the words that stand for it in a transcript. Used by `vocabulary.rs` and
//! `transcript.rs`.

/// The directory, ports and processes of one run.
#[derive(Debug)]
pub struct Names {
    /// The directory of the daemon: `DIR`.
    pub dir: String,
    /// The ports that the scenario asked for: `PORT1`, …
    pub ports: Vec<u16>,
    /// The process of the superdaemon: `SELF`.
    pub superdaemon: u32,
    /// Its workers in the order in which they were started: `P1`, …
    pub workers: Vec<u32>,
}

impl Names {
    /// The name of the worker `pid`, `P?` for a process of which nobody said that it was started.
    pub fn worker(&self, pid: u32) -> String {
        match self.place(pid) {
            Some(place) => format!("P{}", place + 1),
            None => "P?".to_owned(),
        }
    }

    /// When the worker `pid` was started, relative to the others.
    pub fn place(&self, pid: u32) -> Option<usize> {
        self.workers.iter().position(|worker| *worker == pid)
    }

    /// `SELF` for the superdaemon.
    pub fn superdaemon(&self, pid: u32) -> String {
        if pid == self.superdaemon { "SELF".to_owned() } else { "SOMEBODY".to_owned() }
    }

    /// The text with its directory and port names replaced.
    pub fn in_text(&self, text: &str) -> String {
        let mut text = text.replace(&self.dir, "DIR");
        for (index, port) in self.ports.iter().enumerate() {
            text = replace_number(&text, &port.to_string(), &format!("PORT{}", index + 1));
        }
        text
    }

    /// The lines `GENERATION:PID` of a status file.
    pub fn in_status_file(&self, text: &str) -> String {
        let line = |line: &str| match line.split_once(':').map(|(generation, pid)| (generation, pid.parse())) {
            Some((generation, Ok(pid))) => format!("{generation}:{}\n", self.worker(pid)),
            _ => format!("{line}\n"),
        };
        text.lines().map(line).collect()
    }

    /// The text of a pid file.
    pub fn in_pid_file(&self, text: &str) -> String {
        text.replace(&self.superdaemon.to_string(), "SELF")
    }
}

/// Replaces `number` where it is not part of a longer one.
fn replace_number(text: &str, number: &str, name: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(number) {
        let (before, from) = rest.split_at(at);
        let after = from.strip_prefix(number).unwrap_or_default();
        let longer = before.ends_with(|c: char| c.is_ascii_digit()) || after.starts_with(|c: char| c.is_ascii_digit());
        result += before;
        result += if longer { number } else { name };
        rest = after;
    }
    result + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_varies_has_a_name() {
        let names = Names { dir: "/tmp/d".to_owned(), ports: vec![20001, 20002], superdaemon: 7, workers: vec![8, 9] };
        assert_eq!(names.in_text("20002=4;/tmp/d/s=5;120001=3"), "PORT2=4;DIR/s=5;120001=3");
        assert_eq!(names.in_status_file("1:8\n12:9\n13:10\n"), "1:P1\n12:P2\n13:P?\n");
        assert_eq!(names.in_pid_file("7\n"), "SELF\n");
        assert_eq!((names.superdaemon(7), names.superdaemon(8)), ("SELF".to_owned(), "SOMEBODY".to_owned()));
    }
}
