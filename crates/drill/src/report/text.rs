//! The report for people.

use std::fmt::Write;
use std::time::Duration;

use super::{Report, strip};
use crate::drilling::Ending;
use crate::facts::Restarter;
use crate::sample::{Kind, Restart};
use crate::tally::{Latencies, When};
use crate::verdict::Verdict;

/// Lines of prose are at most this long.
const WIDTH: usize = 100;

/// The whole report, with a line end.
pub fn render(report: &Report<'_>) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = write_all(&mut text, report);
    text
}

fn write_all(out: &mut String, report: &Report<'_>) -> std::fmt::Result {
    let (drill, tally) = (report.drill, &report.tally);
    let (asked, done) = (report.plan.restarts, drill.restarts.len());
    writeln!(out, "{} ({}), {done} of {asked} restarts, {}", report.plan.address, drill.endpoint, time(drill.took))?;
    if let Some(why) = ending(&drill.ending) {
        writeln!(out, "{why}")?;
    }
    writeln!(out, "\n{}", headline(report))?;
    if !drill.facts.generations.is_empty() {
        let list: Vec<String> = drill.facts.generations.iter().map(u32::to_string).collect();
        writeln!(out, "generations seen: {}", list.join(", "))?;
    }

    if !drill.restarts.is_empty() {
        writeln!(out, "\nrestart   generation      ready    current    drained")?;
        for (number, restart) in drill.restarts.iter().enumerate() {
            let since = |at: Option<Duration>| span(at.map(|at| at.saturating_sub(restart.begun)));
            let generation = restart.generation.map_or_else(|| "-".to_owned(), |generation| generation.to_string());
            let (ready, current, drained) =
                (span(restart.ready_after), since(restart.committed), since(restart.drained));
            writeln!(out, "{:>7} {generation:>12} {ready:>10} {current:>10} {drained:>10}", number + 1)?;
            if let Some(failure) = &restart.failure {
                writeln!(out, "        {failure}")?;
            }
        }
        writeln!(out, "{}", wrapped(columns(drill.facts.restarter), "  "))?;
    }

    writeln!(out, "\nclient       requests  in restarts       lost      races")?;
    for (kind, one) in &tally.kinds {
        let lost: usize = one.lost.values().sum();
        writeln!(out, "{:<10} {:>10} {:>12} {lost:>10} {:>10}", kind.name(), one.requests, one.in_restarts, one.races)?;
        for ((loss, when), count) in &one.lost {
            let when = match when {
                When::Calm => "in calm",
                When::Restart => "in restarts",
            };
            let status = match loss {
                crate::sample::Loss::WrongStatus(status) => format!(" {status}"),
                _ => String::new(),
            };
            writeln!(out, "    {count} {}{status}, {when}", loss.name())?;
        }
    }

    writeln!(out, "\nlatency         answers       50 %       90 %       99 %        max")?;
    let mut line = |name: &str, latencies: Option<Latencies>| match latencies {
        None => Ok(()),
        Some(Latencies { count, p50, p90, p99, max }) => {
            let [p50, p90, p99, max] = [p50, p90, p99, max].map(time);
            writeln!(out, "{name:<14} {count:>8} {p50:>10} {p90:>10} {p99:>10} {max:>10}")
        }
    };
    line("in calm", tally.calm)?;
    line("in restarts", tally.restarts)?;
    if let Some(slow) = tally.kinds.get(&Kind::Slow) {
        line("slow, calm", slow.calm)?;
        line("slow, restarts", slow.restarts)?;
    }
    writeln!(out, "\n{}", strip::render(drill))?;

    for finding in &report.findings {
        let count = if finding.count > 0 { format!("{} × ", finding.count) } else { String::new() };
        writeln!(out, "\n{}", wrapped(&format!("[{}] {count}{}", finding.fault.name(), finding.what), ""))?;
        writeln!(out, "{}", wrapped(&format!("Why: {}", finding.why), "    "))?;
        writeln!(out, "{}", wrapped(&format!("What to do: {}", finding.advice), "    "))?;
    }
    Ok(())
}

fn headline(report: &Report<'_>) -> String {
    let (requests, in_restarts) = (report.tally.requests(), report.tally.in_restarts());
    let of = format!("{requests} requests, {in_restarts} of them under way in a restart");
    match report.verdict {
        Verdict::NothingLost => format!("NOTHING LOST of {of}"),
        Verdict::Lost => format!("{} LOST of {of}", report.tally.lost()),
        Verdict::RestartFailed => format!("A RESTART FAILED or did not end; nothing lost of {of}"),
        Verdict::Incomplete => format!("NOT FINISHED, nothing lost so far of {of}"),
    }
}

fn ending(ending: &Ending) -> Option<String> {
    match ending {
        Ending::Complete => None,
        Ending::TimeIsUp => Some("ended early: --duration is over".to_owned()),
        Ending::RequestsSpent => Some("ended early: --requests were sent".to_owned()),
        Ending::Interrupted => Some("ended early: interrupted".to_owned()),
        Ending::SuperdaemonGone(reason) => Some(format!("ended early: {reason}")),
    }
}

/// What the columns of the restarts mean.
fn columns(restarter: Restarter) -> &'static str {
    match restarter {
        Restarter::Ours => {
            "ready: spawn to proof that the new generation serves. Since the restart was asked for — current: the old one \
             was told to go; drained: only the new one is left."
        }
        Restarter::Original => {
            "drained: only the new generation is left, as the status file shows. A superdaemon of Server::Starter tells \
             no more."
        }
        Restarter::Command => "Of a restart by a command nothing can be seen but its effect on the clients.",
    }
}

/// One restart in a line, while the drill goes on.
pub fn restart_line(number: u32, restart: &Restart) -> String {
    let since = |at: Duration| time(at.saturating_sub(restart.begun));
    let mut line = format!("restart {number}");
    if let Some(generation) = restart.generation {
        let _ = write!(line, ": generation {generation}");
    }
    if let Some(committed) = restart.committed {
        let _ = write!(line, ", current after {}", since(committed));
    }
    if let Some(drained) = restart.drained {
        let _ = write!(line, ", drained after {}", since(drained));
    }
    if let Some(failure) = &restart.failure {
        let _ = write!(line, ", failed: {failure}");
    }
    line
}

/// A time in the unit that suits it, with three digits or so.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds >= 10.0 {
        format!("{seconds:.1} s")
    } else if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else if seconds >= 0.1 {
        format!("{:.0} ms", seconds * 1e3)
    } else if seconds >= 0.01 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{:.2} ms", seconds * 1e3)
    }
}

fn span(span: Option<Duration>) -> String {
    span.map_or_else(|| "-".to_owned(), time)
}

/// Breaks prose into lines, each but the first after `indent` and two spaces.
fn wrapped(prose: &str, indent: &str) -> String {
    let mut text = indent.to_owned();
    let mut column = indent.len();
    for (number, word) in prose.split_whitespace().enumerate() {
        let length = word.chars().count();
        if number > 0 && column + 1 + length > WIDTH {
            text = text + "\n" + indent + "  ";
            column = indent.len() + 2;
        } else if number > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;

    #[test]
    fn everything_is_told() {
        let (plan, drill) = (example::plan(), example::drill());
        let text = render(&Report::new(&plan, &drill));
        for part in [
            "1 LOST of 400 requests",
            "ended early: interrupted",
            "generations seen: 1, 2",
            "1 reset before a byte, in restarts",
            "it <broke>",
            "[server] 1 × ",
            "[nobody] 1 × ",
            "What to do: ",
            "3.00 ms",
        ] {
            assert!(text.contains(part), "“{part}” is missing in\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH + 2), "{text}");
    }

    #[test]
    fn times_have_units() {
        for (micros, expected) in [
            (0, "0.00 ms"),
            (1_234, "1.23 ms"),
            (12_345, "12.3 ms"),
            (123_456, "123 ms"),
            (1_234_567, "1.23 s"),
            (12_345_678, "12.3 s"),
        ] {
            assert_eq!(time(Duration::from_micros(micros)), expected);
        }
    }
}
