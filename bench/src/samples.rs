//! The raw data: what `bench measure` writes and `bench report` reads, one JSON object a line.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// What was measured of one candidate in one round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Set {
    /// From 1.
    pub round: u32,
    /// Who: `ours`, `floor`, `perl`, ….
    pub candidate: String,
    /// How it was run: `default` (timers as it has them), `told` (the server says when it is ready), `small` (the
    /// shortest timers).
    pub mode: String,
    /// What: `hup_to_main`, `lost`, ….
    pub measure: String,
    /// At what: the number of listeners, the phase, ….
    pub param: Option<String>,
    /// Of the samples: `ms`, `kB`, or nothing for what is counted.
    pub unit: String,
    /// As they were read.
    #[serde(default)]
    pub samples: Vec<f64>,
    /// Why there are none, or not as many as there should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// Where and with what a run was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// Of the beginning, in UTC.
    pub date: String,
    /// `uname -r`.
    pub kernel: String,
    /// As /proc/cpuinfo names it.
    pub cpu: String,
    /// How many of them.
    pub cores: u32,
    /// Of every candidate, by its id; of one that could not be had, why.
    pub versions: BTreeMap<String, String>,
    /// How often everything was measured.
    pub rounds: u32,
    /// Of this project.
    pub commit: String,
    /// The load average before the run.
    pub load_before: String,
    /// The load average after it.
    pub load_after: String,
    /// What else a reader has to know; written by hand.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub remark: String,
}

#[derive(Serialize, Deserialize)]
struct First {
    about: About,
}

/// Reads a run.
///
/// # Errors
/// A sentence: the file cannot be read, or a line of it is not understood.
pub fn read(path: &Path) -> Result<(Option<About>, Vec<Set>), String> {
    let text = fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let (mut about, mut sets) = (None, Vec::new());
    for (number, line) in text.lines().enumerate() {
        let wrong = |error| format!("line {} of {} is not understood: {error}", number + 1, path.display());
        if line.starts_with("{\"about\"") {
            about = Some(serde_json::from_str::<First>(line).map_err(wrong)?.about);
        } else {
            sets.push(serde_json::from_str(line).map_err(wrong)?);
        }
    }
    Ok((about, sets))
}

/// Writes a run.
///
/// # Errors
/// A sentence: the file cannot be written.
pub fn write(path: &Path, about: &About, sets: &[Set]) -> Result<(), String> {
    let write = || -> std::io::Result<()> {
        let mut file = File::create(path)?;
        writeln!(file, "{}", serde_json::to_string(&First { about: about.clone() })?)?;
        sets.iter().try_for_each(|set| writeln!(file, "{}", serde_json::to_string(set)?))
    };
    write().map_err(|error| format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let path = std::env::temp_dir().join(format!("bench-samples-{}", std::process::id()));
        let about = About { rounds: 3, ..About::default() };
        let set = Set {
            round: 2,
            candidate: "ours".into(),
            mode: "told".into(),
            measure: "lost".into(),
            param: None,
            unit: String::new(),
            samples: vec![0.0, 1.5],
            failed: Some("it \"broke\"".into()),
        };
        write(&path, &about, std::slice::from_ref(&set)).unwrap();
        assert_eq!(read(&path).unwrap(), (Some(about), vec![set]));
        fs::write(&path, "{\"round\":\n").unwrap();
        assert!(read(&path).unwrap_err().starts_with("line 1 of "));
        fs::remove_file(&path).unwrap();
    }
}
