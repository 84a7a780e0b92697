//! How the cost of a start and of a restart grows with the number of listeners, and of old generations that drain.

use super::{Plan, Results};
use crate::candidates::{Candidate, Restart, Serves};
use crate::running::{Running, Server};

const LISTENERS: [u32; 4] = [1, 10, 100, 1000];
const OLD_GENERATIONS: [usize; 3] = [1, 10, 50];
/// Longer than it takes to start as many.
const DRAIN: u32 = 60_000;

pub(super) fn measure(plan: &Plan, candidate: &Candidate, results: &mut Results) {
    // Timers would only make it longer.
    if candidate.serves == Serves::Itself || candidate.most_listeners == 1 || candidate.waits_for_timers() {
        return;
    }
    for count in LISTENERS {
        let param = count.to_string();
        match listeners(plan, candidate, count) {
            Ok((starts, restarts)) => {
                results.add("listeners_start", Some(&param), "ms", starts);
                if !restarts.is_empty() {
                    results.add("listeners_hup", Some(&param), "ms", restarts);
                }
            }
            Err(why) => results.fail("listeners_start", Some(&param), why),
        }
    }
    if candidate.overlaps && candidate.restart != Restart::Never {
        match generations(plan, candidate) {
            Ok(times) => {
                for (count, time) in times {
                    results.add("old_generations_hup", Some(&count.to_string()), "ms", vec![time]);
                }
            }
            Err(why) => results.fail("old_generations_hup", None, why),
        }
    }
}

fn listeners(plan: &Plan, candidate: &Candidate, count: u32) -> Result<(Vec<f64>, Vec<f64>), String> {
    let start = || Running::start(candidate, &plan.programs, count, Server::default());
    let starts = (0..if plan.quick { 1 } else { 4 }).map(|_| start()?.start_to_accept());
    let mut starts = starts.collect::<Result<Vec<f64>, String>>()?;
    let running = start()?;
    starts.push(running.start_to_accept()?);
    if candidate.restart == Restart::Never {
        return Ok((starts, Vec::new()));
    }
    let restarts = (0..if plan.quick { 2 } else { 5 }).map(|_| running.restart().map(|times| times.main));
    Ok((starts, restarts.collect::<Result<_, String>>()?))
}

fn generations(plan: &Plan, candidate: &Candidate) -> Result<Vec<(usize, f64)>, String> {
    let running = Running::start(candidate, &plan.programs, 1, Server { drain: DRAIN, ..Server::default() })?;
    let mut times = Vec::new();
    let most = if plan.quick { 10 } else { 50 };
    for old in 1..=most {
        let time = running.restart_beside_old_ones()?;
        if OLD_GENERATIONS.contains(&old) {
            times.push((old, time));
        }
    }
    Ok(times)
}
