//! Servers in Python and JavaScript that are slow to start and tell what they live through, replaced while clients keep
//! asking: no request fails, no request waits, and nothing is left behind at the end. Well-known servers are tested in
//! `servers`.
//!
//! A server that is not installed is not tested, and the test says so; under `CI=true` it fails.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test reports what fails by panicking, and what it leaves out on standard error"
)]

mod load;
mod stage;

use std::path::PathBuf;
use std::time::Duration;

use load::Load;
use stage::{Stage, fixture, word};
use testkit::{find_program, needed};

const RESTARTS: u32 = 3;

#[test]
fn python() {
    let Some(python) = python3() else { return };
    replaced_under_load(Stage::start(&["--interval=0.5"], &[], |_| vec![word(&python), fixture("server.py")]));
}

/// A server that needs three seconds to start, and says when it is ready.
#[test]
fn python_that_is_slow_to_start_and_says_when_it_is_ready() {
    let Some(python) = python3() else { return };
    never_without_service("notify", "it said so", &[word(&python), fixture("server.py")]);
}

/// A server that needs three seconds to start, and is seen to be ready.
#[test]
fn node_that_is_slow_to_start_and_is_watched() {
    let Some(node) = needed("node", find_program(&["node"])) else { return };
    never_without_service("accept", "it waits for connections", &[word(&node), fixture("server.js")]);
}

/// That of a version manager may come first in the search path, and is slow.
fn python3() -> Option<PathBuf> {
    needed("python3", find_program(&["/usr/bin/python3", "python3"]))
}

fn replaced_under_load(stage: Stage) {
    let load = Load::on(&stage.address);
    for generation in 2..=1 + RESTARTS {
        stage.restart(generation);
    }
    let outcome = load.stop();
    stage.stop();
    assert_eq!(outcome.failed(), 0, "{outcome:?}");
    assert_eq!(outcome.generations.len(), 1 + RESTARTS as usize, "{outcome:?}");
}

fn never_without_service(rule: &str, proof: &str, words: &[String]) {
    const SLOW_RESTARTS: u32 = 2;
    let rule = format!("--ready={rule}");
    let options = ["--interval=1", &rule];
    let stage = Stage::start(&options, &[("SLOW_START", "3")], |_| words.to_vec());
    let load = Load::on(&stage.address);
    for generation in 2..=1 + SLOW_RESTARTS {
        stage.restart(generation);
    }
    let outcome = load.stop();
    let events = stage.events();
    let place = |generation, what| events.iter().position(|it| it.generation == generation && it.what == what).unwrap();
    for generation in 2..=1 + SLOW_RESTARTS {
        let told = place(generation - 1, "signal TERM");
        assert!(told > place(generation, "ready"), "told to go before the next one was ready: {events:?}");
        let line = stage.wait_line(&format!("generation {generation} (pid "));
        assert!(line.contains(" is ready after ") && line.ends_with(proof), "{line}");
    }
    stage.stop();
    assert_eq!(outcome.failed(), 0, "{outcome:?}");
    assert!(outcome.slowest < Duration::from_secs(1) + outcome.stall, "{outcome:?}");
    assert_eq!(outcome.generations.len(), 1 + SLOW_RESTARTS as usize, "{outcome:?}");
}
