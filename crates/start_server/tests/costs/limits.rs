//! The recorded limits: read, compared with what was measured, and written anew when that is asked for.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde_json::{Map, Value, json};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/costs/limits.json");
const RECORD: &str = "START_SERVER_RECORD_COSTS";
const COMMAND: &str = "START_SERVER_RECORD_COSTS=1 cargo test -p start_server --test costs";

/// How much more than its record a figure may be.
#[derive(Clone, Copy)]
pub enum Margin {
    /// The same in every run: a change is a change of the program.
    None,
    /// System calls of a hundred listeners: those of a turn of the loop more or less, but not one a listener.
    Turns,
    /// Instructions: the same but for one in 10,000. Compilers and C libraries differ by some hundredths.
    Twentieth,
    /// Memory in kB: the kernel counts pages, and how many the loader touches differs with the C library.
    Pages,
    /// Growth in kB over many restarts: some pages, whatever was measured.
    Growth,
}

impl Margin {
    fn limit(self, measured: u64) -> u64 {
        match self {
            Self::None => measured,
            Self::Turns => measured + 30,
            Self::Twentieth => measured + measured.div_ceil(20),
            Self::Pages => measured + 32,
            Self::Growth => 32,
        }
    }
}

/// What was measured.
#[derive(Default)]
pub struct Costs {
    figures: BTreeMap<&'static str, (u64, Margin)>,
    /// The system calls behind a figure, by name.
    calls: BTreeMap<&'static str, BTreeMap<String, u64>>,
}

impl Costs {
    pub fn add(&mut self, name: &'static str, measured: u64, margin: Margin) {
        self.figures.insert(name, (measured, margin));
    }

    /// A number of system calls, with their names.
    pub fn add_calls(&mut self, name: &'static str, calls: BTreeMap<String, u64>, margin: Margin) {
        self.add(name, calls.values().sum(), margin);
        self.calls.insert(name, calls);
    }

    pub fn merged(all: Vec<Self>) -> Self {
        all.into_iter().fold(Self::default(), |mut merged, costs| {
            merged.figures.extend(costs.figures);
            merged.calls.extend(costs.calls);
            merged
        })
    }
}

/// Fails when a figure is above its limit, with all that are; or writes the record, when told to.
pub fn judge(costs: &Costs) {
    if std::env::var_os(RECORD).is_some() {
        record(costs);
        return;
    }
    let text = fs::read_to_string(Path::new(FILE)).unwrap_or_else(|error| panic!("cannot read {FILE}: {error}"));
    let recorded: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{FILE}: {error}"));
    let mut complaints = Vec::new();
    for (name, (measured, margin)) in &costs.figures {
        let field = |field| recorded["costs"][name][field].as_u64();
        let (Some(before), Some(limit)) = (field("measured"), field("limit")) else {
            complaints.push(format!("{name}: {measured}, and no limit is recorded"));
            continue;
        };
        if *measured > limit {
            let mut complaint = format!("{name}: {measured}, limit {limit}, when recorded {before}");
            for (call, count) in costs.calls.get(name).into_iter().flatten() {
                let before = recorded["calls"][name][call].as_u64().unwrap_or(0);
                if *count > before {
                    complaint += &format!("\n    {call}: {count}, when recorded {before}");
                }
            }
            complaints.push(complaint);
        } else if margin.limit(*measured) < before {
            say(&format!("{name}: {measured}, when recorded {before}. Keep what was won: {COMMAND}"));
        }
    }
    assert!(
        complaints.is_empty(),
        "the superdaemon costs more than was recorded:\n  {}\nWhat is not meant is to be mended. If it is meant, \
         record it, and say why in the commit: {COMMAND}",
        complaints.join("\n  ")
    );
}

fn record(costs: &Costs) {
    let figures: Map<String, Value> = costs
        .figures
        .iter()
        .map(|(name, (measured, margin))| {
            ((*name).to_owned(), json!({"measured": measured, "limit": margin.limit(*measured)}))
        })
        .collect();
    let text = serde_json::to_string_pretty(&json!({"costs": figures, "calls": costs.calls})).unwrap();
    fs::write(FILE, text + "\n").unwrap();
    say(&format!("recorded in {FILE}"));
}

/// Says something that is seen though the test does not fail.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
