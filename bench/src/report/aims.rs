//! What start_server aims for, beside what was measured.

use super::compared::{FLOOR, OURS};
use super::figures::{Contestant, Figures};
use super::markdown::{NOTHING, Table, factor, number, spread};
use super::statistics::{Summary, ratio};

/// Restarts are so many times as long as the floor's at most.
const TO_THE_FLOOR: f64 = 1.2;

/// The table.
pub fn render(figures: &Figures) -> String {
    let mut table = Table::new(["what", "aim", "measured", "met"]);
    for aim in aims(figures) {
        let met = match aim.met {
            None => NOTHING,
            Some(true) => "yes",
            Some(false) => "**no**",
        };
        table.row(vec![aim.what, aim.aim, aim.measured, met.to_owned()]);
    }
    // The stars are ours.
    table.render(4).replace("\\*\\*no\\*\\*", "**no**")
}

struct Aim {
    what: String,
    aim: String,
    measured: String,
    /// None if it was not measured.
    met: Option<bool>,
}

impl Aim {
    fn new(what: &str, aim: &str, found: Option<(String, bool)>) -> Self {
        let (measured, met) = found.map_or((NOTHING.to_owned(), None), |(measured, met)| (measured, Some(met)));
        Self { what: what.to_owned(), aim: aim.to_owned(), measured, met }
    }
}

fn aims(figures: &Figures) -> Vec<Aim> {
    let after = figures.after();
    let after = after.as_deref();
    let median_to = |mode: &str, measure: &str, param: Option<&str>, limit: f64, unit: &str| {
        let all = of_ours(figures, mode, measure, param)?;
        Some((format!("{}{unit}", spread(Some(all))), all.median <= limit))
    };
    let largest = |measure: &str, limit: f64, unit: &str| {
        let all =
            [Some("fresh"), after].into_iter().filter_map(|param| of_ours(figures, "told", measure, param?.into()));
        let all: Vec<Summary> = all.collect();
        let medians: Vec<String> = all.iter().map(|all| number(all.median)).collect();
        let most = all.iter().map(|all| all.max).fold(f64::NEG_INFINITY, f64::max);
        (!all.is_empty()).then(|| (format!("{}{unit}", medians.join(" → ")), most <= limit))
    };
    vec![
        Aim::new("requests lost", "0", lost(figures)),
        Aim::new(
            "HUP → first instruction of the new server, readiness told",
            "≤ 1.2 × the floor",
            to_the_floor(figures),
        ),
        Aim::new(
            "ready → the old server told to stop, readiness told",
            "≤ 0.3 ms",
            exactly(figures, "told", "ready_to_term", None, |all| (0.0..=0.3).contains(&all.median), " ms"),
        ),
        Aim::new("start → first accept", "≤ 3 ms", median_to("default", "start_to_accept", None, 3.0, " ms")),
        Aim::new("1,000 listeners more: start → first accept", "≤ 20 ms more", listeners_start(figures)),
        Aim::new(
            "1,000 listeners: HUP → first instruction",
            "≤ 1 ms",
            median_to("default", "listeners_hup", Some("1000"), 1.0, " ms"),
        ),
        Aim::new(
            "a server that needs two seconds: longest time between two answers, readiness told",
            "≤ 50 ms, as at any time",
            exactly(figures, "told", "slow_gap", None, |all| all.median <= 50.0, " ms"),
        ),
        Aim::new("private memory", "≤ 500 kB", largest("private", 500.0, " kB")),
        Aim::new("resident memory", "≤ 3,000 kB", largest("rss", 3000.0, " kB")),
        Aim::new("wake-ups in ten idle seconds", "0", {
            let all = of_ours(figures, "default", "wakeups_10s", None);
            all.map(|all| (spread(Some(all)), all.max <= 0.0))
        }),
        Aim::new("descriptors over restarts", "as many as before", {
            let fresh = of_ours(figures, "told", "descriptors", Some("fresh"));
            let later = after.and_then(|after| of_ours(figures, "told", "descriptors", Some(after)));
            fresh.zip(later).map(|(fresh, later)| {
                (format!("{} → {}", number(fresh.median), number(later.median)), later.max <= fresh.max)
            })
        }),
    ]
}

/// Ours in a mode, or in the first in which there are figures.
fn of_ours(figures: &Figures, mode: &str, measure: &str, param: Option<&str>) -> Option<Summary> {
    let ours = figures.ours(mode, measure, param)?;
    figures.summary(measure, param, &ours)
}

/// Ours in this mode and no other.
fn exactly(
    figures: &Figures,
    mode: &str,
    measure: &str,
    param: Option<&str>,
    met: impl Fn(Summary) -> bool,
    unit: &str,
) -> Option<(String, bool)> {
    let ours = Contestant { candidate: OURS.to_owned(), mode: mode.to_owned() };
    let all = figures.summary(measure, param, &ours)?;
    Some((format!("{}{unit}", spread(Some(all))), met(all)))
}

fn lost(figures: &Figures) -> Option<(String, bool)> {
    let sum = |measure: &str| {
        let params = figures.params(measure).into_iter().map(Some).chain([None]);
        let ours = figures.contestants(&[measure]).into_iter().filter(|one| one.candidate == OURS);
        let ours: Vec<Contestant> = ours.collect();
        let samples: Vec<f64> = params
            .flat_map(|param| ours.iter().flat_map(move |one| figures.samples(measure, param.as_deref(), one).to_vec()))
            .collect();
        (!samples.is_empty()).then(|| samples.iter().sum::<f64>())
    };
    let lost = sum("lost")?;
    let of = sum("requests").map(|all| format!(" of {}", number(all))).unwrap_or_default();
    Some((format!("{}{of}", number(lost)), lost <= 0.0))
}

/// In the mode in which both do the same, one restart right after the other.
fn to_the_floor(figures: &Figures) -> Option<(String, bool)> {
    let measure = "hup_to_main";
    let ours = of_ours(figures, "told", measure, None)?;
    let floor = figures.counterpart(FLOOR, "told", measure, None)?;
    let floor = figures.summary(measure, None, &floor)?;
    let times = ratio(ours.median, floor.median)?;
    let measured =
        format!("{} × ({} ms, the floor {} ms)", two_digits(times), number(ours.median), number(floor.median));
    Some((measured, times <= TO_THE_FLOOR))
}

/// So many that one sees which side of the limit it is on.
fn two_digits(times: f64) -> String {
    if times < 9.95 { format!("{times:.2}") } else { factor(times) }
}

fn listeners_start(figures: &Figures) -> Option<(String, bool)> {
    let at = |param| of_ours(figures, "default", "listeners_start", Some(param));
    let (one, many) = (at("1")?, at("1000")?);
    let more = many.median - one.median;
    Some((format!("{} ms more", number(more)), more <= 20.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example::set;

    #[test]
    fn each_aim_is_met_or_not_or_unknown() {
        let cases = [
            (vec![], "| requests lost | 0 | – | – |"),
            (vec![set("ours", "told", "lost", Some("new"), &[0.0, 0.0])], "| requests lost | 0 | 0 | yes |"),
            (
                vec![
                    set("ours", "told", "lost", Some("new"), &[0.0, 2.0]),
                    set("ours", "default", "requests", None, &[5000.0]),
                ],
                "| requests lost | 0 | 2 of 5,000 | **no** |",
            ),
            (
                vec![
                    set("ours", "told", "hup_to_main", None, &[0.6]),
                    set("floor", "told", "hup_to_main", None, &[0.5]),
                ],
                "≤ 1.2 × the floor | 1.20 × (0.60 ms, the floor 0.50 ms) | yes |",
            ),
            (
                vec![
                    set("ours", "told", "hup_to_main", None, &[0.61]),
                    set("floor", "told", "hup_to_main", None, &[0.5]),
                ],
                "| 1.22 × (0.61 ms, the floor 0.50 ms) | **no** |",
            ),
            (vec![set("ours", "default", "ready_to_term", None, &[1000.0])], "readiness told | ≤ 0.3 ms | – | – |"),
            (vec![set("ours", "told", "ready_to_term", None, &[0.1, 0.2, 0.9])], "| 0.20 [0.10..0.90] ms | yes |"),
            (vec![set("ours", "told", "ready_to_term", None, &[-0.1])], "| −0.10 ms | **no** |"),
            (
                vec![
                    set("ours", "default", "listeners_start", Some("1"), &[2.0]),
                    set("ours", "default", "listeners_start", Some("1000"), &[12.5]),
                ],
                "| ≤ 20 ms more | 10.5 ms more | yes |",
            ),
            (
                vec![
                    set("ours", "default", "private", Some("fresh"), &[272.0]),
                    set("ours", "default", "private", Some("after-1000"), &[600.0]),
                ],
                "| private memory | ≤ 500 kB | 272 → 600 kB | **no** |",
            ),
            (vec![set("ours", "default", "wakeups_10s", None, &[0.0, 0.0, 1.0])], "| 0 | 0 [0..1] | **no** |"),
            (
                vec![
                    set("ours", "default", "descriptors", Some("fresh"), &[9.0]),
                    set("ours", "default", "descriptors", Some("after-1000"), &[9.0]),
                ],
                "| as many as before | 9 → 9 | yes |",
            ),
        ];
        for (sets, expected) in cases {
            let text = render(&Figures::new(None, &sets));
            assert!(text.contains(expected), "“{expected}” is missing in\n{text}");
        }
    }
}
