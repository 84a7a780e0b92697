//! What a restart and a start take while nobody asks for anything.

use std::thread;
use std::time::{Duration, Instant};

use super::{Plan, Results};
use crate::candidates::{Candidate, Restart, Serves};
use crate::running::{Running, Server};

pub(super) fn measure(plan: &Plan, candidate: &Candidate, results: &mut Results) {
    starts(plan, candidate, results);
    if candidate.restart != Restart::Never {
        if candidate.serves == Serves::Tiny {
            stamps(plan, candidate, results);
        }
        answers(plan, candidate, results);
    }
}

fn starts(plan: &Plan, candidate: &Candidate, results: &mut Results) {
    if candidate.serves == Serves::Itself {
        return;
    }
    let start = || Running::start(candidate, &plan.programs, 1, Server::default())?.start_to_accept();
    // As many as there is time for.
    let until = Instant::now() + Duration::from_millis(400);
    let (least, most) = if plan.quick { (2, 2) } else { (1, 4) };
    match (0..most).take_while(|number| *number < least || Instant::now() < until).map(|_| start()).collect() {
        Ok(samples) => results.add("start_to_accept", None, "ms", samples),
        Err(why) => results.fail("start_to_accept", None, why),
    }
}

/// How many restarts in a turn: those that wait for timers take a second each.
fn restarts(plan: &Plan, candidate: &Candidate) -> usize {
    match (candidate.mode, plan.quick) {
        ("default", true) => 2,
        ("default", false) => 1,
        (_, true) => 5,
        (_, false) => 4,
    }
}

/// Until a start is over, with its timers, and where a reload that is asked for during a reload is not heard, that too.
fn rest(candidate: &Candidate) {
    if candidate.mode == "default" {
        thread::sleep(Duration::from_millis(1200));
    }
}

fn stamps(plan: &Plan, candidate: &Candidate, results: &mut Results) {
    let run = || {
        let running = Running::start(candidate, &plan.programs, 1, Server::default())?;
        let restart = |_| {
            rest(candidate);
            running.restart()
        };
        (0..restarts(plan, candidate)).map(restart).collect::<Result<Vec<_>, String>>()
    };
    match run() {
        Ok(times) => {
            results.add("hup_to_main", None, "ms", times.iter().map(|one| one.main).collect());
            results.add("main_to_ready", None, "ms", times.iter().map(|one| one.ready).collect());
            results.add("ready_to_term", None, "ms", times.iter().map(|one| one.term).collect());
            results.add("hup_to_done", None, "ms", times.iter().map(|one| one.done).collect());
        }
        Err(why) => results.fail("hup_to_main", None, why),
    }
}

fn answers(plan: &Plan, candidate: &Candidate, results: &mut Results) {
    let run = || {
        let running = Running::start(candidate, &plan.programs, 1, Server::default())?;
        let restart = |_| {
            rest(candidate);
            running.restart_until_answer()
        };
        (0..restarts(plan, candidate)).map(restart).collect::<Result<Vec<_>, String>>()
    };
    match run() {
        Ok(times) => {
            results.add("hup_to_answer", None, "ms", times.iter().map(|one| one.0).collect());
            // The others have told it themselves.
            if candidate.serves == Serves::Itself {
                results.add("hup_to_done", None, "ms", times.iter().map(|one| one.1).collect());
            }
        }
        Err(why) => results.fail("hup_to_answer", None, why),
    }
}
