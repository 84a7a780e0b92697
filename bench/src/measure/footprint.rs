//! What the process that restarts costs while nothing happens, and what a thousand restarts leave behind.

use std::thread;
use std::time::Duration;

use super::{Plan, Results};
use crate::candidates::{Candidate, Restart, Serves};
use crate::clock::now;
use crate::process::Process;
use crate::running::{Running, Server};
use crate::samples::Set;

/// How long nothing happens, in seconds.
const IDLE: u64 = 10;
/// What a start leaves to do afterwards, an interval for example, is over then.
const REST: Duration = Duration::from_secs(4);
/// Restarts in a row end after that time, in seconds, however few there were.
const LONGEST: i64 = 8;
/// The same for servers that restart themselves, which rest in between: a few tell their CPU time.
const LONGEST_OF_ITSELF: i64 = 4;

/// All at once: they do nothing, and so do not disturb each other.
pub(super) fn measure(plan: &Plan, round: u32, candidates: &[&Candidate]) -> Vec<Set> {
    let mut sets = Vec::new();
    let mut all = Vec::new();
    for candidate in candidates.iter().filter(|candidate| candidate.serves != Serves::Becomes) {
        let mut results = Results::new(round, candidate);
        match Running::start(candidate, &plan.programs, 1, Server::default()) {
            Ok(running) => all.push((*candidate, results, running)),
            Err(why) => {
                results.fail("rss", Some("fresh"), why);
                sets.append(&mut results.sets);
            }
        }
    }
    thread::sleep(REST);
    let before: Vec<_> = all.iter().map(|(_, _, running)| spent(running.process())).collect();
    thread::sleep(Duration::from_secs(IDLE));
    for ((_, results, running), before) in all.iter_mut().zip(before) {
        if let (Some(before), Some(after)) = (before, spent(running.process())) {
            results.add("wakeups_10s", None, "", vec![after.wakeups - before.wakeups]);
            results.add("idle_cpu", None, "ms", vec![(after.time - before.time) * 60.0 / IDLE as f64]);
        }
    }
    // What is private is so only while nobody else maps it: from here on one runs at a time.
    let all: Vec<_> = all.into_iter().map(|(candidate, results, _)| (candidate, results)).collect();
    for (candidate, mut results) in all {
        let alone = Running::start(candidate, &plan.programs, 1, Server::default());
        let running = match alone {
            Ok(running) => running,
            Err(why) => {
                results.fail("rss", Some("fresh"), why);
                sets.append(&mut results.sets);
                continue;
            }
        };
        thread::sleep(REST);
        memory(running.process(), "fresh", &mut results);
        let wanted = if plan.quick { 50 } else { 1000 };
        // Where a restart takes a second, a thousand take too long.
        if candidate.restart != Restart::Never && !candidate.waits_for_timers() {
            many_restarts(candidate, &running, wanted, &mut results);
        }
        sets.append(&mut results.sets);
    }
    sets
}

struct Spent {
    wakeups: f64,
    time: f64,
}

fn spent(process: Process) -> Option<Spent> {
    Some(Spent { wakeups: process.wakeups()?, time: process.processor_time()? })
}

fn memory(process: Process, param: &str, results: &mut Results) {
    if let Some(memory) = process.memory() {
        results.add("rss", Some(param), "kB", vec![memory.resident]);
        results.add("private", Some(param), "kB", vec![memory.private]);
        results.add("anonymous", Some(param), "kB", vec![memory.anonymous]);
    }
    if let (Some(threads), Some(descriptors)) = (process.threads(), process.descriptors()) {
        results.add("threads", Some(param), "", vec![threads]);
        results.add("descriptors", Some(param), "", vec![descriptors]);
    }
}

/// The CPU time is that of the process alone: the time of children, reaped or not, is that of servers at work.
fn many_restarts(candidate: &Candidate, running: &Running, wanted: u32, results: &mut Results) {
    let process = running.process();
    let longest = if candidate.serves == Serves::Itself { LONGEST_OF_ITSELF } else { LONGEST };
    let end = now().saturating_add(longest.saturating_mul(1_000_000_000));
    let Some(before) = process.processor_time() else { return };
    let mut done = 0;
    while done < wanted && now() < end {
        thread::sleep(candidate.settles());
        if let Err(why) = running.replace() {
            results.fail("restart_cpu", None, format!("after {done} restarts: {why}"));
            return;
        }
        done += 1;
    }
    if let Some(after) = process.processor_time() {
        results.add("restart_cpu", None, "ms", vec![(after - before) / f64::from(done)]);
    }
    // Others would be compared at another number.
    if done == wanted {
        thread::sleep(REST);
        memory(process, &format!("after-{done}"), results);
    }
}
