//! The tables of the report, each with what it shows and how to read it.

use std::fmt::Write;

use super::beaten::condition;
use super::compared::{self, FLOOR, OURS};
use super::figures::{Contestant, Figures};
use super::markdown::{NOTHING, Table, escaped, number, spread, times};
use super::statistics::{Summary, ratio};
use crate::load::Loss;

/// All tables, under headings of the third level.
pub fn render(figures: &Figures) -> String {
    let mut out = String::new();
    let mut section = |title: &str, text: &str, table: String| {
        // Writing to a string cannot fail.
        let _ = write!(out, "### {title}\n\n{text}\n\n{table}");
    };
    let counted = " Restarts: a few apart from each other, for the latencies too, then up to 20 in all in a row, as many \
                   as there is time for; those who wait for timers only have the few.";
    section(
        "Requests lost",
        &format!(
            "Restarts under load. Lost is every request that was sent and got no whole answer: connection refused or \
             reset, answer cut off, nothing within the time that the client has. Sums over all rounds.{}",
            if tells_restarts(figures) { counted } else { "" }
        ),
        lost(figures),
    );
    if let Some(table) = lost_by_kind(figures) {
        section(
            "Requests lost, by kind",
            "What became of them, of those who lost any: refused, nobody listened; reset, \
             a new connection was reset or closed before the answer's first byte; reused, the same with a connection that \
             had served before, which was closed while the client asked: HTTP lets clients ask again; short, reset or \
             closed within the answer; timeout, nothing in five seconds; other, an answer that says no, for example.",
            table,
        );
    }
    for (measure, title, text) in TIMINGS {
        section(title, text, timing(figures, measure, None));
    }
    section(
        "Latency",
        "What clients see, in ms: medians of the rounds' percentiles while nothing happens (calm) and in the 1.25 s after a \
         restart is asked for (restarts). Only answers count, each of eight clients waits for its own before it asks \
         again. Servers of their own (gunicorn, nginx, HAProxy) have latencies of their own; compare what is added.",
        latency(figures),
    );
    let after = figures.after();
    let later = condition("private", after.as_deref());
    let later = if later.is_empty() { " after restarts" } else { &later };
    section(
        "Memory, threads, descriptors",
        &format!(
            "Of the process that restarts, without the server; kB, medians: fresh →{later}. Private is what would be free \
             if it were not there."
        ),
        footprint(figures, after.as_deref()),
    );
    section(
        "Wake-ups and CPU time",
        "Of the process that restarts, without the server. Wake-ups: voluntary context switches in ten idle seconds. The \
         CPU time of a restart is that of this process alone, without its children, be they reaped or not, and without \
         the command that asks for the restart; in servers of their own (gunicorn, nginx, HAProxy) the master does work of \
         the server in that time, too: it reads the configuration again.",
        processor(figures),
    );
    section(
        "Start → first accept",
        "From the start of the superdaemon to the server's first accept of a connection.",
        timing(figures, "start_to_accept", None),
    );
    section(
        "Many listeners: start → first accept",
        "The same with more listeners; ms, by the number of listeners.",
        growth(figures, "listeners_start"),
    );
    section(
        "Many listeners: HUP → first instruction",
        "A restart with as many listeners; ms, by the number of listeners.",
        growth(figures, "listeners_hup"),
    );
    section(
        "Many old generations: HUP → first instruction",
        "A restart while old generations are still draining; ms, by their number.",
        growth(figures, "old_generations_hup"),
    );
    section(
        "A slow server",
        "The server needs two seconds until it can serve. The longest time between two answers during a restart, whoever \
         got them, in ms; eight clients ask every few milliseconds.",
        timing(figures, "slow_gap", None),
    );
    let failures = failures(figures);
    if !failures.is_empty() {
        let _ = write!(out, "### What failed\n\n{failures}\n");
    }
    out
}

const TIMINGS: &[(&str, &str, &str)] = &[
    (
        "hup_to_main",
        "HUP → first instruction of the new server",
        "From the request to restart to the first line of the new server's `main`; ms.",
    ),
    (
        "ready_to_term",
        "Ready → the old server told to stop",
        "From the moment at which the new server can serve to the signal that stops the old one; ms. Less than nothing \
         means that the old one was told to stop *before* the new one could serve. In the mode `default` this is what the \
         timers of Server::Starter take.",
    ),
    ("hup_to_done", "HUP → all done", "Until the old server is gone and the new one serves; ms."),
    (
        "hup_to_answer",
        "HUP → first answer of a new process",
        "Until a client gets the first answer of the new server; the one time that can be taken of everybody; ms.",
    ),
];

/// Only with those who lost, and what they lost; none if the data do not tell kinds, or nobody lost anything.
fn lost_by_kind(figures: &Figures) -> Option<String> {
    let measures = Loss::ALL.map(|(_, measure)| measure);
    let contestants = figures.contestants(&measures);
    let sum = |measure, clients: &str, one| figures.samples(measure, Some(clients), one).iter().sum::<f64>();
    let mut rows: Vec<(&Contestant, String)> = Vec::new();
    for one in &contestants {
        let clients = figures.params("lost").into_iter();
        rows.extend(
            clients.filter(|clients| measures.iter().any(|kind| sum(kind, clients, one) > 0.0)).map(|c| (one, c)),
        );
    }
    // `lost_refused` is headed `refused`.
    let mut kinds = measures.map(|measure| (measure.trim_start_matches("lost_"), measure)).to_vec();
    kinds.retain(|(_, measure)| rows.iter().any(|(one, clients)| sum(measure, clients, one) > 0.0));
    let columns = [("restarts", "restarts"), ("requests", "requests"), ("lost", "lost")].into_iter().chain(kinds);
    let (names, measures): (Vec<&str>, Vec<&str>) = columns.unzip();
    let mut table = Table::new(["candidate", "mode", "clients"].into_iter().chain(names));
    for (one, clients) in &rows {
        let figure = |measure: &&str| match figures.samples(measure, Some(clients), one) {
            [] => NOTHING.to_owned(),
            samples => number(samples.iter().sum()),
        };
        let cells = named(one).into_iter().chain([clients.clone()]).chain(measures.iter().map(figure));
        table.row(cells.collect());
    }
    (!rows.is_empty()).then(|| table.render(3))
}

/// Whether the data tell how many restarts there were under load.
fn tells_restarts(figures: &Figures) -> bool {
    !figures.contestants(&["restarts"]).is_empty()
}

fn lost(figures: &Figures) -> String {
    let params = |measure| figures.params(measure);
    let mut kinds: Vec<Option<String>> = params("lost").into_iter().map(Some).collect();
    let contestants = figures.contestants(&["lost", "requests"]);
    if contestants.iter().any(|contestant| figures.known("lost", None, contestant).is_some()) {
        kinds.insert(0, None);
    }
    let mut head = vec!["candidate".to_owned(), "mode".to_owned()];
    let mut measures = vec!["requests", "lost"];
    if tells_restarts(figures) {
        measures.insert(0, "restarts");
    }
    for kind in &kinds {
        let with = kind.as_ref().map(|kind| format!(", {kind}")).unwrap_or_default();
        head.extend(measures.iter().map(|measure| format!("{measure}{with}")));
    }
    let mut table = Table::new(head);
    for contestant in &contestants {
        let mut cells = named(contestant);
        for kind in &kinds {
            for measure in &measures {
                let samples = figures.samples(measure, kind.as_deref(), contestant);
                let sum = (!samples.is_empty()).then(|| number(samples.iter().sum()));
                cells.push(sum.unwrap_or_else(|| absent(figures, measure, kind.as_deref(), contestant)));
            }
        }
        table.row(cells);
    }
    table.render(2)
}

fn timing(figures: &Figures, measure: &str, param: Option<&str>) -> String {
    let mut table = Table::new(["candidate", "mode", "n", "median [min..max]", "to ours", "to the floor"]);
    for contestant in figures.contestants(&[measure]) {
        let mut cells = named(&contestant);
        match figures.summary(measure, param, &contestant) {
            None => cells.extend([NOTHING.to_owned(), absent(figures, measure, param, &contestant)]),
            Some(all) => {
                let to = |base| to(figures, base, measure, param, &contestant, all);
                let failed = figures.known(measure, param, &contestant).map_or(0, |known| known.failures.len());
                let failed = if failed > 0 { ", also failed" } else { "" };
                cells.extend([all.count.to_string(), format!("{}{failed}", spread(Some(all))), to(OURS), to(FLOOR)]);
            }
        }
        table.row(cells);
    }
    table.render(2)
}

/// How many times it is of a base in the same mode, or in the mode in which the base was measured.
fn to(figures: &Figures, base: &str, measure: &str, param: Option<&str>, one: &Contestant, all: Summary) -> String {
    let base = figures.counterpart(base, &one.mode, measure, param);
    let base = base.and_then(|base| figures.summary(measure, param, &base));
    times(base.and_then(|base| ratio(all.median, base.median)))
}

fn latency(figures: &Figures) -> String {
    const PERCENTILES: [&str; 3] = ["latency_p50", "latency_p99", "latency_p999"];
    let mut table = Table::new([
        "candidate",
        "mode",
        "n",
        "p50 calm",
        "p50 restarts",
        "p50 added",
        "p99 calm",
        "p99 restarts",
        "p99 added",
        "p99.9 calm",
        "p99.9 restarts",
        "p99.9 added",
    ]);
    for contestant in figures.contestants(&PERCENTILES) {
        let mut cells = named(&contestant);
        let count = figures.samples("latency_p99", Some("restart"), &contestant).len();
        cells.push(if count > 0 { count.to_string() } else { NOTHING.to_owned() });
        for percentile in PERCENTILES {
            for phase in ["calm", "restart"] {
                let all = figures.summary(percentile, Some(phase), &contestant);
                let failed = || absent(figures, percentile, Some(phase), &contestant);
                cells.push(all.map_or_else(failed, |all| number(all.median)));
            }
            let added = Summary::of(&figures.added(percentile, &contestant));
            cells.push(added.map_or(NOTHING.to_owned(), |all| signed(all.median)));
        }
        table.row(cells);
    }
    table.render(2)
}

fn signed(value: f64) -> String {
    let text = number(value);
    if value > 0.0 && text != "0" { format!("+{text}") } else { text }
}

fn footprint(figures: &Figures, after: Option<&str>) -> String {
    const MEASURES: [&str; 5] = ["private", "rss", "anonymous", "threads", "descriptors"];
    let mut table = Table::new([
        "candidate",
        "mode",
        "n",
        "private",
        "to ours",
        "to the floor",
        "resident",
        "anonymous",
        "threads",
        "descriptors",
    ]);
    for contestant in figures.contestants(&MEASURES) {
        let mut cells = named(&contestant);
        let fresh = figures.summary("private", Some("fresh"), &contestant);
        cells.push(fresh.map_or(NOTHING.to_owned(), |all| all.count.to_string()));
        for measure in MEASURES {
            cells.push(before_and_after(figures, measure, after, &contestant));
            if measure == "private" {
                for base in [OURS, FLOOR] {
                    let to = fresh.map(|all| to(figures, base, measure, Some("fresh"), &contestant, all));
                    cells.push(to.unwrap_or(NOTHING.to_owned()));
                }
            }
        }
        table.row(cells);
    }
    table.render(2)
}

fn before_and_after(figures: &Figures, measure: &str, after: Option<&str>, contestant: &Contestant) -> String {
    let median = |param: &str| figures.summary(measure, Some(param), contestant).map(|all| number(all.median));
    match (median("fresh"), after.and_then(median)) {
        (Some(fresh), Some(after)) => format!("{fresh} → {after}"),
        (Some(fresh), None) => fresh,
        (None, Some(after)) => format!("{NOTHING} → {after}"),
        (None, None) => absent(figures, measure, Some("fresh"), contestant),
    }
}

fn processor(figures: &Figures) -> String {
    const MEASURES: [&str; 3] = ["wakeups_10s", "idle_cpu", "restart_cpu"];
    let mut table = Table::new([
        "candidate",
        "mode",
        "n",
        "wake-ups in 10 s",
        "CPU of an idle minute, ms",
        "CPU of a restart, ms",
        "to ours",
        "to the floor",
    ]);
    for contestant in figures.contestants(&MEASURES) {
        let summary = |measure| figures.summary(measure, None, &contestant);
        let mut cells = named(&contestant);
        let count = MEASURES.iter().filter_map(|measure| Some(summary(measure)?.count)).max();
        cells.push(count.map_or(NOTHING.to_owned(), |count| count.to_string()));
        for measure in MEASURES {
            let failed = || absent(figures, measure, None, &contestant);
            cells.push(summary(measure).map_or_else(failed, |all| spread(Some(all))));
        }
        for base in [OURS, FLOOR] {
            let to = summary("restart_cpu").map(|all| to(figures, base, "restart_cpu", None, &contestant, all));
            cells.push(to.unwrap_or(NOTHING.to_owned()));
        }
        table.row(cells);
    }
    table.render(2)
}

/// A column for each number at which it was measured.
fn growth(figures: &Figures, measure: &str) -> String {
    let params = figures.params(measure);
    let last = params.last().cloned();
    let mut head: Vec<String> = ["candidate", "mode", "n"].map(str::to_owned).to_vec();
    head.extend(params.iter().map(|param| param.parse().map_or(param.clone(), number)));
    if let Some(last) = &last {
        let last = last.parse().map_or(last.clone(), number);
        head.extend([format!("to ours at {last}"), format!("to the floor at {last}")]);
    }
    let mut table = Table::new(head);
    for contestant in figures.contestants(&[measure]) {
        let mut cells = named(&contestant);
        let count = params.iter().map(|param| figures.samples(measure, Some(param), &contestant).len()).max();
        cells.push(count.filter(|count| *count > 0).map_or(NOTHING.to_owned(), |count| count.to_string()));
        for param in &params {
            let failed = || absent(figures, measure, Some(param), &contestant);
            let all = figures.summary(measure, Some(param), &contestant);
            cells.push(all.map_or_else(failed, |all| spread(Some(all))));
        }
        if let Some(last) = &last {
            for base in [OURS, FLOOR] {
                let all = figures.summary(measure, Some(last), &contestant);
                let to = all.map(|all| to(figures, base, measure, Some(last), &contestant, all));
                cells.push(to.unwrap_or(NOTHING.to_owned()));
            }
        }
        table.row(cells);
    }
    table.render(2)
}

/// What stands in the place of a figure that is not there.
fn absent(figures: &Figures, measure: &str, param: Option<&str>, contestant: &Contestant) -> String {
    let failed = figures.known(measure, param, contestant).is_some_and(|known| !known.failures.is_empty());
    if failed { "failed".to_owned() } else { NOTHING.to_owned() }
}

fn named(contestant: &Contestant) -> Vec<String> {
    let name = compared::name(&contestant.candidate);
    let name = if contestant.candidate == OURS { format!("`{name}`") } else { name.to_owned() };
    vec![name, contestant.mode.clone()]
}

fn failures(figures: &Figures) -> String {
    figures
        .failures()
        .map(|(contestant, measure, param, why)| {
            let name = escaped(compared::name(&contestant.candidate));
            let param = param.map(|param| format!(", {}", escaped(param))).unwrap_or_default();
            format!("- {name} (`{}`), `{measure}`{param}: {}\n", contestant.mode, escaped(why))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example::{failed, set};

    #[test]
    fn what_is_not_known_is_a_dash_and_what_failed_says_so() {
        let sets = [
            set("ours", "default", "hup_to_main", None, &[0.8, 0.6, 1.0]),
            set("ours", "told", "hup_to_main", None, &[0.7]),
            set("floor", "told", "hup_to_main", None, &[0.5]),
            set("perl", "default", "hup_to_main", None, &[2.0]),
            failed("s6", "default", "hup_to_main", None, "s6-svc ended | with 111."),
            set("nginx", "default", "hup_to_answer", None, &[9.0]),
        ];
        let text = render(&Figures::new(None, &sets));
        for line in [
            "| `start_server` | default | 3 | 0.80 [0.60..1] | 1.0 × | 1.6 × |",
            "| `start_server` | told | 1 | 0.70 | 1.0 × | 1.4 × |",
            "| the floor | told | 1 | 0.50 | 0.7 × | 1.0 × |",
            "| Server::Starter (Perl) | default | 1 | 2 | 2.5 × | 4.0 × |",
            "| s6 | default | – | failed | – | – |",
            "| nginx | default | 1 | 9 | – | – |",
            "- s6 (`default`), `hup_to_main`: s6-svc ended \\| with 111.",
        ] {
            assert!(text.contains(&format!("{line}\n")), "“{line}” is missing in\n{text}");
        }
        assert!(text.contains("### A slow server\n\n") && text.contains("Not measured in this run."), "{text}");
    }

    #[test]
    fn each_table_takes_its_figures_where_they_are() {
        let sets = [
            set("perl", "default", "requests", Some("new"), &[1000.0, 2000.0]),
            set("perl", "default", "lost", Some("new"), &[0.0, 1.0]),
            set("perl", "default", "latency_p99", Some("calm"), &[1.0]),
            set("perl", "default", "latency_p99", Some("restart"), &[1.5]),
            set("perl", "default", "private", Some("fresh"), &[9260.0]),
            set("perl", "default", "private", Some("after-1000"), &[9300.0]),
            set("perl", "default", "descriptors", Some("fresh"), &[5.0]),
            set("perl", "default", "wakeups_10s", None, &[10.0]),
            set("perl", "default", "listeners_hup", Some("10"), &[2.0]),
            set("perl", "default", "listeners_hup", Some("1000"), &[3.0]),
            set("ours", "default", "listeners_hup", Some("1000"), &[1.5]),
        ];
        let text = render(&Figures::new(None, &sets));
        let perl = "| Server::Starter (Perl) | default |";
        for line in [
            format!("{perl} 3,000 | 1 |"),
            format!("{perl} 1 | – | – | – | 1 | 1.50 | +0.50 | – | – | – |"),
            format!("{perl} 1 | 9,260 → 9,300 | – | – | – | – | – | 5 |"),
            format!("{perl} 1 | 10 | – | – | – | – |"),
            format!("{perl} 1 | 2 | 3 | 2.0 × | – |"),
            "| `start_server` | default | 1 | – | 1.50 | 1.0 × | – |".to_owned(),
            "fresh → after 1,000 restarts.".to_owned(),
        ] {
            assert!(text.contains(&line), "“{line}” is missing in\n{text}");
        }
    }

    #[test]
    fn of_losses_only_kinds_that_there_were_are_shown() {
        let of = |who, measure, param, sum: f64| set(who, "default", measure, Some(param), &[sum, 0.0]);
        let mut sets = vec![
            of("ours", "restarts", "keep-alive", 20.0),
            of("ours", "requests", "keep-alive", 2000.0),
            of("ours", "lost", "keep-alive", 0.0),
            of("ours", "lost_reused", "keep-alive", 0.0),
        ];
        let heading = "### Requests lost, by kind\n";
        let text = render(&Figures::new(None, &sets));
        assert!(!text.contains(heading) && text.contains("| `start_server` | default | 20 | 2,000 | 0 |"), "{text}");
        for (measure, sum) in [("restarts", 3.0), ("requests", 900.0), ("lost", 75.0), ("lost_refused", 70.0)] {
            sets.push(of("s6", measure, "new connections", sum));
        }
        sets.push(of("s6", "lost_reset", "new connections", 5.0));
        sets.push(of("s6", "lost_short", "new connections", 0.0));
        let text = render(&Figures::new(None, &sets));
        let (_, table) = text.split_once(heading).unwrap();
        for line in [
            "| candidate | mode | clients | restarts | requests | lost | refused | reset |\n",
            "|\n| s6 | default | new connections | 3 | 900 | 75 | 70 | 5 |\n\n",
        ] {
            assert!(table.contains(line), "“{line}” is missing in\n{text}");
        }
    }

    #[test]
    fn without_data_no_table_breaks() {
        let text = render(&Figures::default());
        assert!(!text.contains('|') && text.contains("Not measured in this run."), "{text}");
    }
}
