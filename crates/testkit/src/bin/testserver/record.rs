//! The file in which a worker records its life, for tests to wait for.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use testkit::Event;

/// The open record. Each event is appended in one write, so that workers may share the file.
pub struct Record {
    generation: u32,
    file: Option<File>,
}

impl Record {
    pub fn open(name: Option<&str>) -> Self {
        let generation = std::env::var("SERVER_STARTER_GENERATION").ok();
        let generation = generation.and_then(|text| text.parse().ok()).unwrap_or(0);
        let mut record = Self { generation, file: None };
        let options = File::options().create(true).append(true).to_owned();
        record.file = name.map(|name| options.open(record.expand(name)).expect("cannot open the record"));
        record
    }

    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// The path that the argument `name` means.
    pub fn expand(&self, name: &str) -> PathBuf {
        in_dir(&name.replace("%g", &self.generation.to_string()))
    }

    pub fn write(&self, what: &str) {
        let event = Event { what: what.to_owned(), generation: self.generation, pid: std::process::id() };
        if let Some(mut file) = self.file.as_ref() {
            file.write_all(format!("{event}\n").as_bytes()).expect("cannot write to the record");
        }
    }
}

/// The file `name` in the directory of the daemon under test, which need not be the working directory.
pub fn in_dir(name: &str) -> PathBuf {
    PathBuf::from(std::env::var_os("TESTKIT_DIR").unwrap_or_default()).join(name)
}
