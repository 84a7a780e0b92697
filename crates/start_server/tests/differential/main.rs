//! Plays scenarios to the original `start_server` (Server::Starter, Perl) and to ours, and compares everything that a
//! program, a script or an operator can see: messages, what workers got and lived through, files, exit statuses.
//!
//! `DIFFERENTIAL=WORD` in the environment plays only the scenarios with WORD in their name;
//! `ORIGINAL_START_SERVER=PATH` says where the original is, if not in the search path. Where it is not installed, there
//! is nothing to compare with: the test then says so and succeeds, except under `CI=true`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test reports what fails by panicking"
)]

mod comparison;
mod deviations;
mod names;
mod scenarios;
mod stage;
mod vocabulary;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use comparison::{Transcript, judge};
use scenarios::Scenario;
use stage::Stage;
use testkit::needed;

/// How many plays go on at the same time. They mostly sleep.
const PLAYS_AT_ONCE: usize = 16;

/// A finished play, or how it got stuck.
type Outcome = Result<Transcript, String>;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Side {
    Original,
    Ours,
}

#[test]
fn ours_behaves_as_the_original_does() {
    let Some(original) = original() else { return };
    let ours = Path::new(env!("CARGO_BIN_EXE_start_server"));
    let mut complaints = Vec::new();
    for (name, outcomes) in play_all(&original, ours, |side| side == Side::Original) {
        let wrong = match &outcomes[..] {
            [Ok(original), Ok(ours)] => judge(name, original, ours, deviations::KNOWN),
            _ => stuck(&outcomes),
        };
        complaints.extend(wrong.into_iter().map(|what| format!("{name}: {what}")));
    }
    let known: Vec<&str> = scenarios::all().into_iter().map(|scenario| scenario.name).collect();
    let stray = deviations::KNOWN.iter().filter(|entry| !known.contains(&entry.scenario));
    complaints.extend(stray.map(|entry| format!("{}: a deviation of no scenario", entry.scenario)));
    assert!(complaints.is_empty(), "{} complaint(s):\n\n{}\n", complaints.len(), complaints.join("\n\n"));
}

/// Whether the scenarios are sound: what differs between two runs of the same program cannot be compared.
#[test]
#[ignore = "checks the scenarios, not the program"]
fn the_original_behaves_as_itself() {
    let Some(original) = original() else { return };
    let mut complaints = Vec::new();
    for (name, outcomes) in play_all(&original, &original, |_| true) {
        let wrong = match &outcomes[..] {
            [Ok(one), Ok(other)] => judge(name, one, other, &[]),
            _ => stuck(&outcomes),
        };
        complaints.extend(wrong.into_iter().map(|what| format!("{name}: {what}")));
    }
    assert!(complaints.is_empty(), "{} complaint(s):\n\n{}\n", complaints.len(), complaints.join("\n\n"));
}

/// Plays every scenario on both sides.
fn play_all(
    original: &Path,
    ours: &Path,
    is_original: impl Fn(Side) -> bool + Sync,
) -> BTreeMap<&'static str, Vec<Outcome>> {
    let wanted = std::env::var("DIFFERENTIAL").unwrap_or_default();
    let scenarios = scenarios::all().into_iter().filter(|scenario| scenario.name.contains(&wanted));
    let plays: Vec<(Scenario, Side)> = scenarios
        .flat_map(|Scenario { name, play }| [Side::Original, Side::Ours].map(|side| (Scenario { name, play }, side)))
        .collect();
    let plays = Mutex::new(plays.into_iter());
    let outcomes = Mutex::new(BTreeMap::new());
    // Built once, before anybody waits for it.
    testkit::testserver();
    thread::scope(|scope| {
        for _ in 0..PLAYS_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = plays.lock().unwrap().next();
                    let Some((scenario, side)) = next else { break };
                    let (superdaemon, other) = match side {
                        Side::Original => (original, ours),
                        Side::Ours => (ours, original),
                    };
                    let outcome = play(&scenario, superdaemon, other, is_original(side));
                    outcomes.lock().unwrap().insert((scenario.name, side), outcome);
                }
            });
        }
    });
    let mut by_scenario: BTreeMap<&'static str, Vec<Outcome>> = BTreeMap::new();
    for ((name, _), outcome) in outcomes.into_inner().unwrap() {
        by_scenario.entry(name).or_default().push(outcome);
    }
    by_scenario
}

fn play(scenario: &Scenario, superdaemon: &Path, other: &Path, is_original: bool) -> Outcome {
    let play = || {
        let mut stage = Stage::new(superdaemon, other);
        (scenario.play)(&mut stage);
        stage.transcript(is_original)
    };
    catch_unwind(AssertUnwindSafe(play)).map_err(|panic| match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => {
            panic.downcast::<&str>().map_or_else(|_| "a panic without words".to_owned(), |text| text.to_string())
        }
    })
}

fn stuck(outcomes: &[Outcome]) -> Vec<String> {
    let sides = ["the original", "ours"];
    let failures = sides.iter().zip(outcomes).filter_map(|(side, outcome)| Some((side, outcome.as_ref().err()?)));
    failures.map(|(side, failure)| format!("{side} got stuck: {failure}")).collect()
}

/// The original, or nothing with a word about why.
fn original() -> Option<PathBuf> {
    let named = std::env::var_os("ORIGINAL_START_SERVER").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        named.or_else(|| std::env::split_paths(&path).map(|dir| dir.join("start_server")).find(|file| is_perl(file)));
    needed("start_server of Server::Starter (Perl)", found)
}

/// A program of the same name may be our own.
fn is_perl(file: &Path) -> bool {
    std::fs::read(file).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains("Server::Starter"))
}
