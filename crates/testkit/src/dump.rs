//! What a worker saw when it was started, as `testserver --dump=FILE` wrote it down.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The dump of one worker: facts by name.
///
/// | fact | value |
/// |---|---|
/// | `argv` | the words of its command line, blank-separated |
/// | `cwd`, `umask` | the directory; octal digits |
/// | `env NAME` | the value of an environment variable |
/// | `SigBlk`, `SigIgn`, `SigCgt` | masks in hexadecimal, from /proc/self/status before anything was changed |
/// | `own group`, `own session` | `true` if it leads its process group, its session |
/// | `group`, `session`, `parent` | PIDs |
/// | `fd N` | an open descriptor: kind, address, flags and options |
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Dump {
    facts: BTreeMap<String, String>,
}

impl Dump {
    /// Reads the file; nothing if it is not there yet.
    pub fn read(file: &Path) -> Option<Self> {
        let text = fs::read(file).ok()?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let facts = text.split_terminator('\0').filter_map(|fact| fact.split_once('\t'));
        Some(Self { facts: facts.map(|(name, value)| (name.to_owned(), value.to_owned())).collect() })
    }

    /// The fact called `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.facts.get(name).map(String::as_str)
    }

    /// The value of the environment variable `name`.
    pub fn env(&self, name: &str) -> Option<&str> {
        self.get(&format!("env {name}"))
    }

    /// All facts whose names begin with `prefix`, with the rest of the name.
    pub fn all<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.facts.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }

    /// The descriptors that were open, by number.
    pub fn descriptors(&self) -> BTreeMap<i32, &str> {
        self.all("fd ").filter_map(|(number, description)| Some((number.parse().ok()?, description))).collect()
    }
}
