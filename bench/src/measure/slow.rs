//! A server that needs two seconds until it can serve: how long nobody answers during its restart.

use super::{Plan, Results};
use crate::candidates::{Candidate, Restart, Serves};
use crate::load::Crowd;
use crate::running::{Running, Server};

const DELAY: u32 = 2000;

pub(super) fn measure(plan: &Plan, candidate: &Candidate, results: &mut Results) {
    if candidate.serves != Serves::Tiny || candidate.restart == Restart::Never {
        return;
    }
    match longest_silence(plan, candidate) {
        Ok(silence) => results.add("slow_gap", None, "ms", vec![silence]),
        Err(why) => results.fail("slow_gap", None, why),
    }
}

/// Between two answers, whoever got them.
fn longest_silence(plan: &Plan, candidate: &Candidate) -> Result<f64, String> {
    let running = Running::start(candidate, &plan.programs, 1, Server { delay: DELAY, ..Server::default() })?;
    let crowd = Crowd::start(running.address(), false);
    let restarted = running.restart();
    let mut answers: Vec<i64> = crowd.stop().iter().filter(|one| one.is_answered()).map(|one| one.over).collect();
    restarted?;
    answers.sort_unstable();
    let silences = answers.windows(2).filter_map(|pair| Some(crate::clock::ms(*pair.first()?, *pair.last()?)));
    silences.max_by(f64::total_cmp).ok_or_else(|| "nobody answered".to_owned())
}
