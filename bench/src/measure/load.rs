//! Restarts under load: what clients lose, and how much longer they wait.

use std::thread;
use std::time::Duration;

use super::{Plan, Results};
use crate::candidates::{Candidate, Restart};
use crate::clock::now;
use crate::load::{Crowd, Loss, Request};
use crate::running::{Running, Server};

pub(super) fn measure(plan: &Plan, candidate: &Candidate, results: &mut Results) {
    if candidate.restart == Restart::Never {
        return;
    }
    for (keep_alive, clients) in [(false, "new connections"), (true, "keep-alive")] {
        match restarts_under(plan, candidate, keep_alive) {
            Ok(Observed { requests, restarts, phases, apart }) => {
                let mut count = |measure, count: usize| results.add(measure, Some(clients), "", vec![count as f64]);
                count("restarts", restarts);
                count("requests", requests.len());
                count("lost", requests.iter().filter(|request| !request.is_answered()).count());
                for (loss, measure) in Loss::ALL.iter().filter(|(loss, _)| keep_alive || *loss != Loss::Reused) {
                    count(measure, requests.iter().filter(|request| request.loss == Some(*loss)).count());
                }
                if !keep_alive {
                    let requests: Vec<Request> = requests.into_iter().filter(|one| one.over <= apart).collect();
                    latencies(&requests, &phases, results);
                }
            }
            Err(why) => results.fail("lost", Some(clients), why),
        }
    }
}

/// When a restart was asked for, and when the old server had gone.
type Phase = (i64, i64);

/// So long after the request, for all: the timers of Server::Starter are over then, too.
const RESTART: Duration = Duration::from_millis(1250);

/// How many restarts of a kind of clients there are at most.
const RESTARTS: usize = 20;
/// Between two restarts in a row, at least.
const PAUSE: Duration = Duration::from_millis(100);
/// Restarts in a row end after that time, however few there were: with new connections, and with those that are kept,
/// which have no others.
const IN_A_ROW: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(5)];

/// What was seen under load.
struct Observed {
    requests: Vec<Request>,
    /// How many there were.
    restarts: usize,
    /// Those that stood apart.
    phases: Vec<Phase>,
    /// When the last of these was over.
    apart: i64,
}

/// First a few restarts with calm between them, for the latencies, which are taken with new connections; so are all of
/// those who wait for timers: none of their servers is younger than a second when it is replaced. Then, for more to be
/// lost, as many in a row as there is time for.
fn restarts_under(plan: &Plan, candidate: &Candidate, keep_alive: bool) -> Result<Observed, String> {
    let running = Running::start(candidate, &plan.programs, 1, Server::default())?;
    let crowd = Crowd::start(running.address(), keep_alive);
    let alone = if plan.quick { 1 } else { 3 };
    let run = || -> Result<(usize, Vec<Phase>, i64), String> {
        let mut phases = Vec::new();
        while phases.len() < alone && (!keep_alive || candidate.waits_for_timers()) {
            thread::sleep(RESTART);
            let begun = now();
            running.replace()?;
            phases.push((begun, now()));
            if !keep_alive {
                thread::sleep(RESTART.saturating_sub(since(begun)));
            }
        }
        let (apart, mut restarts) = (now(), phases.len());
        let wanted = if plan.quick { alone + 4 } else { RESTARTS };
        let [new, kept] = IN_A_ROW;
        let limit = if keep_alive { kept } else { new };
        while restarts < wanted && since(apart) < limit && !candidate.waits_for_timers() {
            thread::sleep(PAUSE.max(candidate.settles()));
            running.replace()?;
            restarts += 1;
        }
        thread::sleep(Duration::from_millis(300));
        Ok((restarts, phases, apart))
    };
    let observed = run();
    let requests = crowd.stop();
    let (restarts, phases, apart) = observed?;
    Ok(Observed { requests, restarts, phases, apart })
}

fn since(moment: i64) -> Duration {
    Duration::from_nanos(u64::try_from(now().saturating_sub(moment)).unwrap_or(0))
}

fn latencies(requests: &[Request], phases: &[Phase], results: &mut Results) {
    let window = i64::try_from(RESTART.as_nanos()).unwrap_or(i64::MAX);
    // Between request and window's end, or the old server's if that is later, nothing is calm.
    let within = |request: &Request, from: i64, to: i64| request.over >= from && request.sent <= to;
    let answered = || requests.iter().filter(|request| request.is_answered());
    let during = answered().filter(|one| phases.iter().any(|(from, _)| within(one, *from, from + window))).collect();
    let is_calm = |one: &&Request| !phases.iter().any(|(from, to)| within(one, *from, (from + window).max(*to)));
    let calm: Vec<&Request> = answered().filter(is_calm).collect();
    for (phase, requests) in [("calm", calm), ("restart", during)] {
        let mut times: Vec<f64> = requests.iter().map(|request| request.took()).collect();
        times.sort_by(f64::total_cmp);
        for (measure, share) in [("latency_p50", 0.5), ("latency_p99", 0.99), ("latency_p999", 0.999)] {
            // A percentile of fewer than that would be the maximum under another name.
            let enough = times.len() as f64 * (1.0 - share) >= 1.0;
            let place = (times.len() as f64 * share) as usize;
            if let Some(time) = times.get(place).filter(|_| enough) {
                results.add(measure, Some(phase), "ms", vec![*time]);
            }
        }
    }
}
