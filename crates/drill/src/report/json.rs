//! The report for programs. Members keep their names and meanings; new ones may come. Times are milliseconds, with
//! fractions; `null` means that there is no such thing, or that it cannot be seen.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Report;
use crate::drilling::Ending;
use crate::facts::Restarter;
use crate::sample::Restart;
use crate::tally::{KindTally, Latencies, When};

/// One object, with a line end.
pub fn render(report: &Report<'_>) -> String {
    let (plan, drill, tally) = (report.plan, report.drill, &report.tally);
    let clients: Map<String, Value> =
        tally.kinds.iter().map(|(kind, tally)| (kind.name().to_owned(), client(tally))).collect();
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| {
            json!({
                "id": finding.id,
                "fault": finding.fault.name(),
                "count": finding.count,
                "what": finding.what,
                "why": finding.why,
                "advice": finding.advice,
            })
        })
        .collect();
    let whole = json!({
        "version": 1,
        "verdict": report.verdict.key(),
        "exit_status": report.verdict as u8,
        "address": plan.address,
        "endpoint": drill.endpoint.to_string(),
        "restarter": match drill.facts.restarter {
            Restarter::Ours => "control-socket",
            Restarter::Original => "status-file",
            Restarter::Command => "command",
        },
        "took_ms": ms(drill.took),
        "ending": match &drill.ending {
            Ending::Complete => "complete",
            Ending::TimeIsUp => "time",
            Ending::RequestsSpent => "requests",
            Ending::Interrupted => "interrupted",
            Ending::SuperdaemonGone(_) => "superdaemon_gone",
        },
        "restarts_asked": plan.restarts,
        "restarts": drill.restarts.iter().map(restart).collect::<Vec<_>>(),
        "generations": drill.facts.generations,
        "requests": tally.requests(),
        "in_restarts": tally.in_restarts(),
        "lost": tally.lost(),
        "keep_alive_races": tally.races(),
        "clients": clients,
        "latency": { "calm": latencies(tally.calm), "restarts": latencies(tally.restarts) },
        "queue": drill.facts.fullest_queue.map(|(queued, backlog)| json!({"queued": queued, "backlog": backlog})),
        "findings": findings,
    });
    format!("{whole:#}\n")
}

fn client(tally: &KindTally) -> Value {
    let lost: Vec<Value> = tally
        .lost
        .iter()
        .map(|((loss, when), count)| {
            json!({
                "how": loss.key(),
                "status": match loss {
                    crate::sample::Loss::WrongStatus(status) => Some(status),
                    _ => None,
                },
                "when": match when {
                    When::Calm => "calm",
                    When::Restart => "restart",
                },
                "count": count,
            })
        })
        .collect();
    json!({
        "requests": tally.requests,
        "in_restarts": tally.in_restarts,
        "keep_alive_races": tally.races,
        "lost": lost,
        "latency": { "calm": latencies(tally.calm), "restarts": latencies(tally.restarts) },
    })
}

fn restart(restart: &Restart) -> Value {
    let since = |at: Option<Duration>| at.map(|at| ms(at.saturating_sub(restart.begun)));
    json!({
        "begun_ms": ms(restart.begun),
        "generation": restart.generation,
        "ready_ms": restart.ready_after.map(ms),
        "committed_ms": since(restart.committed),
        "drained_ms": since(restart.drained),
        "ended_ms": since(Some(restart.ended)),
        "failure": restart.failure,
    })
}

fn latencies(latencies: Option<Latencies>) -> Value {
    latencies.map_or(Value::Null, |Latencies { count, p50, p90, p99, max }| {
        json!({"answers": count, "p50_ms": ms(p50), "p90_ms": ms(p90), "p99_ms": ms(p99), "max_ms": ms(max)})
    })
}

/// To the microsecond.
fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn the_members_are_stable() {
        let (plan, drill) = (example::plan(), example::drill());
        let value: Value = serde_json::from_str(&render(&Report::new(&plan, &drill))).unwrap();
        let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        for (pointer, expected) in [
            (
                "",
                "address clients ending endpoint exit_status findings generations in_restarts keep_alive_races latency \
                 lost queue requests restarter restarts restarts_asked took_ms verdict version",
            ),
            ("/restarts/0", "begun_ms committed_ms drained_ms ended_ms failure generation ready_ms"),
            ("/clients", "delayed held keep-alive new"),
            ("/clients/new", "in_restarts keep_alive_races latency lost requests"),
            ("/clients/delayed/lost/0", "count how status when"),
            ("/latency/calm", "answers max_ms p50_ms p90_ms p99_ms"),
            ("/findings/0", "advice count fault id what why"),
        ] {
            let found = value.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
            assert_eq!(names(found), expected, "{pointer}");
        }
        for (pointer, expected) in [
            ("/version", json!(1)),
            ("/verdict", json!("lost")),
            ("/exit_status", json!(1)),
            ("/ending", json!("interrupted")),
            ("/lost", json!(1)),
            ("/keep_alive_races", json!(1)),
            ("/generations", json!([1, 2])),
            ("/restarts/0/ready_ms", json!(40.0)),
            ("/restarts/0/committed_ms", json!(50.0)),
            ("/restarts/0/drained_ms", json!(600.0)),
            ("/restarts/1/drained_ms", Value::Null),
            ("/restarts/1/failure", json!("it <broke>")),
            ("/clients/delayed/lost/0/how", json!("reset_before")),
            ("/clients/delayed/lost/0/when", json!("restart")),
            ("/latency/calm/p50_ms", json!(3.0)),
        ] {
            assert_eq!(value.pointer(pointer), Some(&expected), "{pointer}");
        }
    }
}
