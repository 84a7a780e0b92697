//! `bench measure`: every measure of every candidate, in rounds, so that what the machine does meanwhile meets all alike.

mod footprint;
mod growth;
mod load;
mod slow;
mod timing;

use std::path::PathBuf;
use std::process::Command;

use crate::candidates::{ALL, Candidate};
use crate::running::{Programs, is_there, version};
use crate::samples::{About, Set, write};

/// What to measure, and how much of it.
#[derive(Debug)]
pub struct Plan {
    /// Where the programs are.
    pub programs: Programs,
    /// Where the raw data go.
    pub data: PathBuf,
    /// How often everything is measured.
    pub rounds: u32,
    /// Fewer of everything.
    pub quick: bool,
    /// Only these candidates, or candidates in one mode, `ours/told`; empty: all.
    pub only: Vec<String>,
    /// Only these kinds of measures; empty: all.
    pub measures: Vec<String>,
}

/// A kind of measure of one candidate at a time.
struct Measure {
    name: &'static str,
    /// So often a candidate has its turn in a round. What takes a millisecond takes half of one more for seconds on end,
    /// or for as long as a process lives, whoever is measured: samples that come together are hardly more than one.
    turns: usize,
    measure: fn(&Plan, &Candidate, &mut Results),
}

const MEASURES: &[Measure] = &[
    Measure { name: "timing", turns: 5, measure: timing::measure },
    Measure { name: "load", turns: 1, measure: load::measure },
    Measure { name: "growth", turns: 1, measure: growth::measure },
    Measure { name: "slow", turns: 1, measure: slow::measure },
];

/// What a candidate was found to take in one round.
#[derive(Debug)]
struct Results {
    round: u32,
    candidate: &'static str,
    mode: &'static str,
    sets: Vec<Set>,
}

impl Results {
    fn new(round: u32, candidate: &Candidate) -> Self {
        Self { round, candidate: candidate.id, mode: candidate.mode, sets: Vec::new() }
    }

    fn add(&mut self, measure: &str, param: Option<&str>, unit: &str, samples: Vec<f64>) {
        self.push(measure, param, unit, samples, None);
    }

    fn fail(&mut self, measure: &str, param: Option<&str>, why: String) {
        say(&format!("    {} ({}), {measure}: {why}", self.candidate, self.mode));
        self.push(measure, param, "", Vec::new(), Some(why));
    }

    fn push(&mut self, measure: &str, param: Option<&str>, unit: &str, samples: Vec<f64>, failed: Option<String>) {
        self.sets.push(Set {
            round: self.round,
            candidate: self.candidate.to_owned(),
            mode: self.mode.to_owned(),
            measure: measure.to_owned(),
            param: param.map(str::to_owned),
            unit: unit.to_owned(),
            samples,
            failed,
        });
    }
}

/// Measures, and writes the raw data after every round.
///
/// # Errors
/// A sentence: the data cannot be written. A candidate that fails is part of the data.
pub fn run(plan: &Plan) -> Result<(), String> {
    let wanted = |list: &[String], name: &str| list.is_empty() || list.iter().any(|one| one == name);
    let is_asked =
        |one: &&Candidate| wanted(&plan.only, one.id) || wanted(&plan.only, &format!("{}/{}", one.id, one.mode));
    let asked: Vec<&Candidate> = ALL.iter().filter(is_asked).collect();
    let (there, missing): (Vec<_>, Vec<_>) = asked.into_iter().partition(|one| is_there(one, &plan.programs));
    let mut about = about(plan);
    for candidate in &there {
        about.versions.insert(candidate.id.to_owned(), version(candidate, &plan.programs));
    }
    for candidate in missing {
        about.versions.insert(candidate.id.to_owned(), "not installed".to_owned());
    }
    let mut sets = Vec::new();
    for round in 1..=plan.rounds {
        for Measure { name, turns, measure } in MEASURES.iter().filter(|one| wanted(&plan.measures, one.name)) {
            let turns = if plan.quick { 1 } else { *turns };
            for place in 0..turns * there.len() {
                // Each round begins with another one.
                let Some(candidate) = there.get((place + round as usize) % there.len()) else { continue };
                say(&format!("round {round}, {name}: {} ({})", candidate.id, candidate.mode));
                let mut results = Results::new(round, candidate);
                measure(plan, candidate, &mut results);
                sets.append(&mut results.sets);
            }
        }
        if wanted(&plan.measures, "footprint") {
            say(&format!("round {round}, footprint: all"));
            sets.append(&mut footprint::measure(plan, round, &there));
        }
        about.load_after = load_average();
        write(&plan.data, &about, &sets)?;
    }
    Ok(())
}

fn about(plan: &Plan) -> About {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": ")).map(|(_, name)| name);
    About {
        remark: String::new(),
        date: output("date", &["-u", "+%Y-%m-%d %H:%M"]),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        cpu: model.unwrap_or("unknown").to_owned(),
        cores: std::thread::available_parallelism().map_or(0, |cores| u32::try_from(cores.get()).unwrap_or(0)),
        rounds: plan.rounds,
        commit: output("git", &["-C", &plan.programs.root.display().to_string(), "describe", "--always", "--dirty"]),
        load_before: load_average(),
        ..About::default()
    }
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(" ")
}

#[expect(clippy::print_stderr, reason = "the run tells how far it is")]
fn say(what: &str) {
    eprintln!("{what}");
}
