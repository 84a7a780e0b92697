//! Which pictures are made, of which figures.

use super::compared::{self, FLOOR, OURS};
use super::figures::{Contestant, Figures};
use super::statistics::Summary;
use super::svg::{self, Line, Row, Who};

/// A picture: the name of its file, what it shows in a line, the SVG.
#[derive(Debug)]
pub struct Plot {
    /// Without a folder.
    pub file: String,
    /// For those who do not see it.
    pub says: String,
    /// The whole file.
    pub svg: String,
}

/// All for which there are figures.
pub fn all(figures: &Figures) -> Vec<Plot> {
    let mut plots = Vec::new();
    for (measure, title) in [
        ("hup_to_main", "HUP → first instruction of the new server"),
        ("ready_to_term", "Ready → the old server told to stop"),
        ("hup_to_done", "HUP → all done"),
        ("hup_to_answer", "HUP → first answer of a new process"),
        ("start_to_accept", "Start → first accept"),
    ] {
        let rows = rows(figures, &[measure], |one| (figures.samples(measure, None, one).to_vec(), Vec::new()));
        let nothing = rows.iter().flat_map(|row| &row.before).any(|sample| *sample <= 0.0);
        let nothing = if nothing { "; what is not above zero is left out" } else { "" };
        let note =
            format!("a dot for each sample, a stroke at the median, which stands on the right; logarithmic{nothing}");
        add(&mut plots, measure, title, svg::strip(title, &note, "ms", &rows));
    }

    let after = figures.after();
    let private = rows(figures, &["private"], |one| {
        let at = |param| figures.samples("private", Some(param), one).to_vec();
        (at("fresh"), after.as_deref().map(at).unwrap_or_default())
    });
    let title = "Private memory of the process that restarts";
    let count = after.as_deref().and_then(|after| after.strip_prefix("after-")).unwrap_or("many");
    let note = format!("pale: fresh; full, and the number: after {count} restarts");
    add(&mut plots, "private", title, svg::bars(title, &note, "kB", &private));

    for (percentile, name) in
        [("latency_p50", "median latency"), ("latency_p99", "99th percentile"), ("latency_p999", "99.9th percentile")]
    {
        let rows = rows(figures, &[percentile], |one| {
            let at = |phase| figures.samples(percentile, Some(phase), one).to_vec();
            (at("calm"), at("restart"))
        });
        let title = format!("Latency: {name}");
        let note = "ring: while nothing happens; disk, and the number: while restarts do; logarithmic";
        add(&mut plots, percentile, &title, svg::pairs(&title, note, "ms", &rows));
    }

    for (measure, title, across) in [
        ("listeners_start", "Many listeners: start → first accept", "listeners"),
        ("listeners_hup", "Many listeners: HUP → first instruction", "listeners"),
        ("old_generations_hup", "Many old generations: HUP → first instruction", "old generations that drain"),
    ] {
        let lines = lines(figures, measure);
        add(&mut plots, measure, title, svg::lines(title, across, "medians, ms; both scales logarithmic", &lines));
    }
    plots
}

fn add(plots: &mut Vec<Plot>, name: &str, says: &str, svg: Option<String>) {
    if let Some(svg) = svg {
        plots.push(Plot { file: format!("{}.svg", name.replace('_', "-")), says: says.to_owned(), svg });
    }
}

/// A row for each contestant that has figures.
fn rows(figures: &Figures, measures: &[&str], samples: impl Fn(&Contestant) -> (Vec<f64>, Vec<f64>)) -> Vec<Row> {
    let contestants = figures.contestants(measures);
    let rows = contestants.iter().map(|one| {
        let (before, after) = samples(one);
        Row { label: label(&contestants, one), who: who(one, usize::MAX), before, after }
    });
    rows.filter(|row| !row.before.is_empty() || !row.after.is_empty()).collect()
}

/// A line for each contestant that was measured at two numbers at least.
fn lines(figures: &Figures, measure: &str) -> Vec<Line> {
    let params: Vec<String> = figures.params(measure);
    let contestants = figures.contestants(&[measure]);
    let lines = contestants.iter().enumerate().map(|(index, one)| {
        let points = params.iter().filter_map(|param| {
            let number: f64 = param.parse().ok()?;
            let all = Summary::of(figures.samples(measure, Some(param), one))?;
            // There is no place for nothing on such a scale.
            (number > 0.0 && all.median > 0.0).then_some((number, all.median))
        });
        Line { label: label(&contestants, one), who: who(one, index.saturating_sub(2)), points: points.collect() }
    });
    lines.filter(|line| line.points.len() > 1).collect()
}

/// The name, with the mode if there are others of the same name.
fn label(all: &[Contestant], one: &Contestant) -> String {
    let name = compared::name(&one.candidate);
    let alone = all.iter().filter(|other| other.candidate == one.candidate).count() == 1;
    if alone && one.mode == "default" { name.to_owned() } else { format!("{name}, {}", one.mode) }
}

fn who(one: &Contestant, number: usize) -> Who {
    match one.candidate.as_str() {
        OURS => Who::Ours,
        FLOOR => Who::Floor,
        _ => Who::Other(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example::set;

    #[test]
    fn there_is_a_picture_of_what_was_measured_and_of_nothing_else() {
        assert!(all(&Figures::default()).is_empty());
        let sets = [
            set("ours", "default", "hup_to_main", None, &[0.8]),
            set("ours", "told", "hup_to_main", None, &[0.7]),
            set("floor", "default", "hup_to_main", None, &[0.5]),
            set("ours", "default", "private", Some("fresh"), &[270.0]),
            set("ours", "default", "private", Some("after-1000"), &[280.0]),
            set("ours", "default", "listeners_hup", Some("1"), &[0.8]),
            set("ours", "default", "listeners_hup", Some("1000"), &[0.9]),
            set("ours", "default", "old_generations_hup", Some("1"), &[0.8]),
        ];
        let plots = all(&Figures::new(None, &sets));
        let files: Vec<&str> = plots.iter().map(|plot| plot.file.as_str()).collect();
        assert_eq!(files, ["hup-to-main.svg", "private.svg", "listeners-hup.svg"]);
        for part in ["start_server, told", "the floor<"] {
            assert!(plots[0].svg.contains(part), "“{part}” is missing");
        }
        assert!(plots[1].svg.contains("after 1000 restarts"));
    }
}
