//! What the kernel says of a process: memory, threads, descriptors, wake-ups, processor time. `measure::footprint` asks.

use std::fs;

/// A process, by its number.
#[derive(Clone, Copy, Debug)]
pub struct Process(pub i32);

/// Memory in kB, from smaps_rollup (proc_pid_smaps(5)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    /// What is mapped and there.
    pub resident: f64,
    /// What no other process maps.
    pub private: f64,
    /// What is of no file.
    pub anonymous: f64,
}

impl Process {
    /// Its memory.
    pub fn memory(self) -> Option<Memory> {
        memory(&self.read("smaps_rollup")?)
    }

    /// How many threads it has.
    pub fn threads(self) -> Option<f64> {
        value(&self.read("status")?, "Threads")
    }

    /// How many descriptors it has.
    pub fn descriptors(self) -> Option<f64> {
        Some(fs::read_dir(format!("/proc/{}/fd", self.0)).ok()?.count() as f64)
    }

    /// How often it has gone to sleep of its own will, in all its threads: it has been woken as often.
    pub fn wakeups(self) -> Option<f64> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.0)).ok()?;
        let of_one = |status: String| value(&status, "voluntary_ctxt_switches");
        Some(threads.filter_map(|thread| of_one(fs::read_to_string(thread.ok()?.path().join("status")).ok()?)).sum())
    }

    /// The processor time that all its threads have had, in ms.
    pub fn processor_time(self) -> Option<f64> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.0)).ok()?;
        let of_one = |text: String| text.split(' ').next()?.parse::<f64>().ok();
        let times =
            threads.filter_map(|thread| of_one(fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?));
        Some(times.sum::<f64>() / 1e6)
    }

    /// Whether it lives, and is not only waiting for its parent to ask.
    pub fn lives(self) -> bool {
        self.read("stat").is_some_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
    }

    /// Whether that text is in its command line.
    pub fn is_run_with(self, text: &str) -> bool {
        self.read("cmdline").is_some_and(|words| words.contains(text))
    }

    /// Its children.
    pub fn children(self) -> Vec<i32> {
        let text = self.read(&format!("task/{}/children", self.0)).unwrap_or_default();
        text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
    }

    fn read(self, file: &str) -> Option<String> {
        let bytes = fs::read(format!("/proc/{}/{file}", self.0)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn memory(rollup: &str) -> Option<Memory> {
    Some(Memory {
        resident: value(rollup, "Rss")?,
        private: value(rollup, "Private_Clean")? + value(rollup, "Private_Dirty")?,
        anonymous: value(rollup, "Anonymous")?,
    })
}

/// The number of a line `NAME: NUMBER`.
fn value(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read() {
        let text = "x\nRss:    3000 kB\nPrivate_Clean:  20 kB\nPrivate_Dirty: 7 kB\nAnonymous:   6 kB\n";
        assert_eq!(memory(text), Some(Memory { resident: 3000.0, private: 27.0, anonymous: 6.0 }));
        assert_eq!(memory("Rss: many kB\n"), None);
    }

    #[test]
    fn this_process_is_there() {
        let us = Process(std::process::id().try_into().unwrap());
        assert!(us.lives() && us.threads().unwrap() >= 1.0 && us.descriptors().unwrap() >= 3.0);
        assert!(us.processor_time().unwrap() > 0.0 && us.memory().unwrap().resident > 0.0);
    }
}
