//! The figures in the README: a short table between two marks, written anew with every report.

use super::compared::{self, FLOOR, LIKE_OURS, OURS};
use super::figures::Figures;
use super::markdown::{NOTHING, Table, number};
use super::statistics::Summary;

const BEGIN: &str = "<!-- bench: begin -->\n";
const END: &str = "<!-- bench: end -->";

/// The README with its figures written anew; none if it has no marks for them.
pub fn with_figures(readme: &str, figures: &Figures) -> Option<String> {
    let (before, rest) = readme.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{}{END}{after}", block(figures)))
}

/// What the README says of a measure: its name, its mode, at what it was measured, its unit.
struct Line {
    what: &'static str,
    measure: &'static str,
    mode: &'static str,
    unit: &'static str,
}

const LINES: &[Line] = &[
    Line { what: "HUP → first instruction of the new server", measure: "hup_to_main", mode: "default", unit: " ms" },
    Line { what: "ready → the old server told to stop", measure: "ready_to_term", mode: "told", unit: " ms" },
    Line { what: "start → first accept", measure: "start_to_accept", mode: "default", unit: " ms" },
    Line { what: "private memory", measure: "private", mode: "default", unit: " kB" },
    Line { what: "resident memory", measure: "rss", mode: "default", unit: " kB" },
    Line { what: "threads", measure: "threads", mode: "default", unit: "" },
    Line { what: "wake-ups in ten idle seconds", measure: "wakeups_10s", mode: "default", unit: "" },
];

/// The table with an empty line before and after it.
fn block(figures: &Figures) -> String {
    let mut table = Table::new(["", "start_server", "Server::Starter (Perl)", "best of the others", "the floor"]);
    for line in LINES {
        // Memory and threads are those after many restarts, if they were measured then.
        let after = figures.after();
        let params = [None, after.as_deref(), Some("fresh")];
        let Some(param) = params.into_iter().find(|param| figures.ours(line.mode, line.measure, *param).is_some())
        else {
            continue;
        };
        let of = |candidate: &str| {
            let one = figures.counterpart(candidate, line.mode, line.measure, param)?;
            figures.summary(line.measure, param, &one)
        };
        let shown =
            |all: Option<Summary>| all.map_or(NOTHING.to_owned(), |all| format!("{}{}", number(all.median), line.unit));
        let others = figures.contestants(&[line.measure]).into_iter().filter(|one| {
            let same = figures.counterpart(&one.candidate, line.mode, line.measure, param);
            let candidate = one.candidate.as_str();
            candidate != FLOOR && !LIKE_OURS.contains(&candidate) && same.as_ref() == Some(one)
        });
        let medians =
            others.filter_map(|one| Some((figures.summary(line.measure, param, &one)?.median, one.candidate)));
        // Less than nothing is to stop the old server before the new one can serve.
        let best = medians.filter(|(median, _)| *median >= 0.0).min_by(|one, other| one.0.total_cmp(&other.0));
        let best = best.map_or(NOTHING.to_owned(), |(median, candidate)| {
            format!("{}{} ({})", number(median), line.unit, compared::name(&candidate))
        });
        table.row(vec![line.what.to_owned(), shown(of(OURS)), shown(of("perl")), best, shown(of(FLOOR))]);
    }
    format!("\n{}", table.render(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example::set;

    #[test]
    fn only_what_is_between_the_marks_is_written() {
        let sets = [
            set("ours", "default", "private", Some("fresh"), &[270.0]),
            set("ours", "default", "private", Some("after-1000"), &[272.0]),
            set("perl", "default", "private", Some("after-1000"), &[9300.0]),
            set("s6", "default", "private", Some("after-1000"), &[332.0]),
            set("floor", "default", "private", Some("after-1000"), &[64.0]),
            set("ours", "default", "ready_to_term", None, &[1000.0]),
            set("ours", "told", "ready_to_term", None, &[0.15]),
            set("circus", "default", "ready_to_term", None, &[-900.0]),
        ];
        let figures = Figures::new(None, &sets);
        let readme = format!("a\n{BEGIN}old\n{END}\nb\n");
        let expected = format!(
            "a\n{BEGIN}\n\
             |  | start_server | Server::Starter (Perl) | best of the others | the floor |\n|---|---:|---:|---:|---:|\n\
             | ready → the old server told to stop | 0.15 ms | – | – | – |\n\
             | private memory | 272 kB | 9,300 kB | 332 kB (s6) | 64 kB |\n\n{END}\nb\n"
        );
        assert_eq!(with_figures(&readme, &figures).unwrap(), expected);
        assert_eq!(with_figures(&expected, &figures).unwrap(), expected);
        for without in ["", "a\n", BEGIN, END] {
            assert_eq!(with_figures(without, &figures), None, "{without}");
        }
    }
}
