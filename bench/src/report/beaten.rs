//! Where start_server is not the best, found in the data and put into sentences: the report begins with it.

use super::compared::{self, FLOOR, LIKE_OURS, OURS};
use super::figures::{Contestant, Figures, Known};
use super::markdown::{escaped, factor, number};
use super::statistics::{Summary, clearly_lower, ratio};

/// A measure in which less is better, in words.
struct Measure {
    id: &'static str,
    /// The sentence begins with it.
    what: &'static str,
    /// `takes` or `is`, and what is said of more of it.
    verb: &'static str,
    more: &'static str,
    unit: &'static str,
    /// Smaller differences than this are below what is measured.
    resolution: f64,
}

const fn time(id: &'static str, what: &'static str) -> Measure {
    Measure { id, what, verb: "takes", more: "as long as", unit: " ms", resolution: 0.02 }
}

const fn size(id: &'static str, what: &'static str) -> Measure {
    Measure { id, what, verb: "is", more: "as much as", unit: " kB", resolution: 4.0 }
}

const fn count(id: &'static str, what: &'static str) -> Measure {
    Measure { id, what, verb: "number", more: "as many as", unit: "", resolution: 0.0 }
}

const fn processor(id: &'static str, what: &'static str) -> Measure {
    Measure { id, what, verb: "is", more: "as much as", unit: " ms", resolution: 0.02 }
}

const MEASURES: &[Measure] = &[
    time("hup_to_main", "HUP → first instruction of the new server"),
    time("ready_to_term", "Ready → the old server told to stop"),
    time("hup_to_done", "HUP → all done"),
    time("hup_to_answer", "HUP → first answer of a new process"),
    time("start_to_accept", "Start → first accept"),
    time("listeners_start", "Start → first accept"),
    time("listeners_hup", "HUP → first instruction of the new server"),
    time("old_generations_hup", "HUP → first instruction of the new server"),
    Measure {
        id: "slow_gap",
        what: "The time without service while a slow server starts",
        verb: "is",
        more: "as long as",
        unit: " ms",
        // Between two requests of a client.
        resolution: 20.0,
    },
    size("private", "Private memory"),
    size("rss", "Resident memory"),
    size("anonymous", "Anonymous memory"),
    count("threads", "Threads"),
    count("descriptors", "Descriptors"),
    count("wakeups_10s", "Wake-ups in ten idle seconds"),
    processor("idle_cpu", "CPU time of an idle minute"),
    processor("restart_cpu", "CPU time of a restart"),
];

/// Latencies, of which what restarts add is compared: servers of their own have others also when nothing happens.
const LATENCIES: &[(&str, &str)] = &[
    ("latency_p50", "What restarts add to the median latency"),
    ("latency_p99", "What restarts add to the 99th percentile of latency"),
    ("latency_p999", "What restarts add to the 99.9th percentile of latency"),
];

/// Latencies differ by this many milliseconds at least between two runs of the same program.
const LATENCY_NOISE: f64 = 0.1;

/// What was found: a sentence each.
#[derive(Debug, Default)]
pub struct Beaten {
    /// By other candidates.
    pub by_others: Vec<String>,
    /// By the lower bound.
    pub by_the_floor: Vec<String>,
}

/// One that is better than ours, and its median.
struct Better {
    contestant: Contestant,
    median: f64,
}

/// Looks at every measure, in every mode and at every param.
pub fn find(figures: &Figures) -> Beaten {
    let mut beaten = Beaten { by_others: failures(figures), ..Beaten::default() };
    for better_is_floor in [false, true] {
        let list = if better_is_floor { &mut beaten.by_the_floor } else { &mut beaten.by_others };
        let counts = |contestant: &Contestant| {
            let candidate = contestant.candidate.as_str();
            !LIKE_OURS.contains(&candidate) && (candidate == FLOOR) == better_is_floor
        };
        list.extend(lost(figures, &counts));
        for measure in MEASURES {
            let mut params: Vec<Option<String>> = vec![None];
            params.extend(figures.params(measure.id).into_iter().map(Some));
            for param in params {
                list.extend(in_measure(figures, measure, param.as_deref(), &counts));
            }
        }
        for (id, what) in LATENCIES {
            list.extend(in_latency(figures, id, what, &counts));
        }
    }
    beaten
}

/// Where ours failed, or has no figure where others have one: who has none is not the best.
fn failures(figures: &Figures) -> Vec<String> {
    let what = |measure: &str| {
        let known = MEASURES.iter().map(|known| (known.id, known.what)).chain(LATENCIES.iter().copied());
        let known = known.chain([("lost", "Requests lost")]);
        known.into_iter().find(|(id, _)| *id == measure).map(|(_, what)| what)
    };
    let mut found: Vec<String> = figures
        .failures()
        .filter(|(contestant, ..)| contestant.candidate == OURS)
        .map(|(contestant, measure, param, why)| {
            let (name, with) = (what(measure).unwrap_or(measure), condition(measure, param));
            format!("{name}{with} (`{}`): start_server failed. {}", contestant.mode, escaped(why))
        })
        .collect();
    for measure in MEASURES.iter().map(|known| known.id).chain(LATENCIES.iter().map(|(id, _)| *id)).chain(["lost"]) {
        let contestants = figures.contestants(&[measure]);
        if !contestants.is_empty() && !contestants.iter().any(|contestant| contestant.candidate == OURS) {
            found.push(format!("{}: not measured of start_server.", what(measure).unwrap_or(measure)));
        }
    }
    found
}

/// A sentence for each of our modes in which somebody is better.
fn in_measure(
    figures: &Figures,
    measure: &Measure,
    param: Option<&str>,
    counts: &impl Fn(&Contestant) -> bool,
) -> Vec<String> {
    let samples = |contestant: &Contestant| figures.samples(measure.id, param, contestant).to_vec();
    // Told to stop before the new one is ready: that is not fast, but blind.
    let blind = |median: f64| measure.id == "ready_to_term" && median < 0.0;
    sentences(figures, (measure.id, param), &samples, measure.resolution, counts, |mode, our, better| {
        let better: Vec<&Better> = better.iter().filter(|other| !blind(other.median)).collect();
        if better.is_empty() || blind(our) {
            return None;
        }
        let with = condition(measure.id, param);
        let value = |median: f64| format!("{}{}", number(median), measure.unit);
        // Those with the same figure are named together.
        let mut equal: Vec<(f64, Vec<String>)> = Vec::new();
        for other in better {
            let name = named(&other.contestant, mode);
            match equal.last_mut() {
                Some((median, names)) if value(*median) == value(other.median) => names.push(name),
                _ => equal.push((other.median, vec![name])),
            }
        }
        let others: Vec<String> = equal
            .iter()
            .map(|(median, names)| {
                let (names, value) = (listed(names), value(*median));
                match ratio(our, *median) {
                    Some(times) => format!("{} times {} with {names} ({value})", factor(times), measure.more),
                    None => format!("against {value} with {names}"),
                }
            })
            .collect();
        let what = format!("{}{with} (`{mode}`)", measure.what);
        let ours = value(our);
        let others = listed(&others);
        let told = told(figures, measure, param, mode, our);
        Some(match measure.verb {
            "number" => format!("{what}: {ours} with start_server, {others}.{told}"),
            verb => format!("{what} {verb} {ours} with start_server, {others}.{told}"),
        })
    })
}

fn in_latency(figures: &Figures, id: &str, what: &str, counts: &impl Fn(&Contestant) -> bool) -> Vec<String> {
    let samples = |contestant: &Contestant| figures.added(id, contestant);
    // What calm makes of the same server in one round and the next is no effect of restarts.
    let calm = figures.contestants(&[id]).into_iter().filter(|one| one.candidate == OURS);
    let calm = calm.filter_map(|one| figures.known(id, Some("calm"), &one)).map(Known::wobble);
    let noise = calm.flatten().map(|(least, most)| most - least).fold(LATENCY_NOISE, f64::max);
    sentences(figures, (id, Some("restart")), &samples, noise, counts, |mode, our, better| {
        let value = |median| format!("{} ms", number(median));
        let others: Vec<String> = better
            .iter()
            .map(|other| format!("{} with {}", value(other.median), named(&other.contestant, mode)))
            .collect();
        Some(format!("{what} (`{mode}`) is {} with start_server, {}.", value(our), listed(&others)))
    })
}

/// For each mode in which we were measured, what `sentence` makes of those that are better in it. Those who do not
/// have the mode are compared with our first.
fn sentences(
    figures: &Figures,
    (measure, param): (&str, Option<&str>),
    samples: &impl Fn(&Contestant) -> Vec<f64>,
    resolution: f64,
    counts: &impl Fn(&Contestant) -> bool,
    sentence: impl Fn(&str, f64, &[Better]) -> Option<String>,
) -> Vec<String> {
    let contestants = figures.contestants(&[measure]);
    let ours: Vec<&Contestant> = contestants.iter().filter(|one| one.candidate == OURS).collect();
    let mut found = Vec::new();
    for our in &ours {
        let our_samples = samples(our);
        let Some(all) = Summary::of(&our_samples) else { continue };
        let opposite = |other: &Contestant| figures.ours(&other.mode, measure, param).as_ref() == Some(*our);
        let mut better: Vec<Better> = contestants
            .iter()
            .filter(|other| counts(other) && opposite(other))
            .filter_map(|other| {
                let theirs = samples(other);
                let median = Summary::of(&theirs)?.median;
                clearly_lower(&theirs, &our_samples, resolution).then(|| Better { contestant: other.clone(), median })
            })
            .collect();
        better.sort_by(|one, other| one.median.total_cmp(&other.median));
        if !better.is_empty() {
            found.extend(sentence(&our.mode, all.median, &better));
        }
    }
    found
}

/// Requests are summed up: one that is lost is one too many, in whichever round.
fn lost(figures: &Figures, counts: &impl Fn(&Contestant) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let mut params: Vec<Option<String>> = vec![None];
    params.extend(figures.params("lost").into_iter().map(Some));
    for param in params {
        let param = param.as_deref();
        let contestants = figures.contestants(&["lost"]);
        let rate = |contestant: &Contestant| {
            let lost: f64 = known(figures, "lost", param, contestant)?;
            Some(lost / known(figures, "requests", param, contestant).unwrap_or(1.0).max(1.0))
        };
        for our in contestants.iter().filter(|one| one.candidate == OURS) {
            let Some(our_rate) = rate(our) else { continue };
            let better: Vec<String> = contestants
                .iter()
                .filter(|other| counts(other) && other.mode == our.mode)
                .filter(|other| rate(other).is_some_and(|rate| rate < our_rate))
                .map(|other| {
                    let lost = known(figures, "lost", param, other).unwrap_or(0.0);
                    format!("{} with {}", number(lost), named(other, &our.mode))
                })
                .collect();
            if !better.is_empty() {
                let lost = known(figures, "lost", param, our).unwrap_or(0.0);
                let with = condition("lost", param);
                found.push(format!(
                    "Requests lost{with} (`{}`): {} with start_server, {}.",
                    our.mode,
                    number(lost),
                    listed(&better)
                ));
            }
        }
    }
    found
}

/// The sum of all samples, if there are any.
fn known(figures: &Figures, measure: &str, param: Option<&str>, contestant: &Contestant) -> Option<f64> {
    let samples = figures.samples(measure, param, contestant);
    (!samples.is_empty()).then(|| samples.iter().sum())
}

/// Where the timers of Server::Starter make ours slow, what it is without them.
fn told(figures: &Figures, measure: &Measure, param: Option<&str>, mode: &str, our: f64) -> String {
    let told = Contestant { candidate: OURS.to_owned(), mode: "told".to_owned() };
    match figures.summary(measure.id, param, &told) {
        Some(told) if mode == "default" && told.median < our * 0.9 && our - told.median > measure.resolution => {
            let verb = if measure.verb == "takes" { "takes" } else { "is" };
            format!(" It {verb} {}{} where the server tells that it is ready.", number(told.median), measure.unit)
        }
        _ => String::new(),
    }
}

/// What a measure was measured at, as part of a sentence.
pub fn condition(measure: &str, param: Option<&str>) -> String {
    let Some(param) = param else { return String::new() };
    let number = param.parse::<f64>().map(number);
    match (measure, param, number) {
        ("listeners_start" | "listeners_hup", "1", _) => " with 1 listener".to_owned(),
        ("listeners_start" | "listeners_hup", _, Ok(number)) => format!(" with {number} listeners"),
        ("old_generations_hup", "1", _) => " while 1 old generation drains".to_owned(),
        ("old_generations_hup", _, Ok(number)) => format!(" while {number} old generations drain"),
        (_, "fresh", _) => " before any restart".to_owned(),
        (_, "new", _) => " with new connections".to_owned(),
        (_, "keep-alive", _) => " on keep-alive connections".to_owned(),
        (_, param, _) => match param.strip_prefix("after-").and_then(|count| count.parse::<f64>().ok()) {
            Some(count) => format!(" after {} restarts", super::markdown::number(count)),
            None => format!(" ({})", escaped(param)),
        },
    }
}

fn named(contestant: &Contestant, mode: &str) -> String {
    let name = escaped(compared::name(&contestant.candidate));
    if contestant.mode == mode { name } else { format!("{name} (`{}`)", contestant.mode) }
}

/// `a, b and c`.
pub fn listed(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::example;
    use crate::samples::Set;

    /// The sentences about made-up data of ours and of others, in mode `default`.
    fn sentences(measure: &str, param: Option<&str>, sets: &[(&str, &[f64])]) -> (Vec<String>, Vec<String>) {
        let sets: Vec<_> =
            sets.iter().map(|(who, samples)| example::set(who, "default", measure, param, samples)).collect();
        let beaten = find(&Figures::new(None, &sets));
        (beaten.by_others, beaten.by_the_floor)
    }

    /// Measure, param, the samples of each, the sentences about others and about the floor.
    type Case = (&'static str, Option<&'static str>, Sets, &'static [&'static str], &'static [&'static str]);
    type Sets = &'static [(&'static str, &'static [f64])];

    #[test]
    fn who_is_better_is_named_with_by_how_much() {
        let cases: [Case; 9] = [
            (
                "hup_to_main",
                None,
                &[("ours", &[2.0, 2.2, 1.8]), ("perl", &[4.0]), ("circus", &[1.0, 1.1]), ("nginx", &[0.5])],
                &["HUP → first instruction of the new server (`default`) takes 2 ms with start_server, 4.0 times as \
                   long as with nginx (0.50 ms) and 1.9 times as long as with Circus (1.05 ms)."],
                &[],
            ),
            ("hup_to_main", None, &[("ours", &[1.0, 1.1]), ("perl", &[0.99, 1.2])], &[], &[]),
            ("threads", Some("fresh"), &[("perl", &[1.0])], &["Threads: not measured of start_server."], &[]),
            (
                "private",
                Some("fresh"),
                &[("ours", &[300.0]), ("floor", &[64.0]), ("s6", &[332.0])],
                &[],
                &["Private memory before any restart (`default`) is 300 kB with start_server, 4.7 times as much as \
                   with the floor (64 kB)."],
            ),
            (
                "wakeups_10s",
                None,
                &[("ours", &[10.0]), ("haproxy", &[0.0])],
                &["Wake-ups in ten idle seconds (`default`): 10 with start_server, against 0 with HAProxy."],
                &[],
            ),
            ("ready_to_term", None, &[("ours", &[0.2]), ("circus", &[-1000.0])], &[], &[]),
            ("private", Some("after-1000"), &[("ours", &[300.0]), ("s6", &[298.0])], &[], &[]),
            (
                "listeners_start",
                Some("1000"),
                &[("ours", &[30.0]), ("unheard|of", &[3.0])],
                &["Start → first accept with 1,000 listeners (`default`) takes 30 ms with start_server, 10 times as \
                   long as with unheard\\|of (3 ms)."],
                &[],
            ),
            (
                "lost",
                Some("new"),
                &[("ours", &[0.0, 1.0, 0.0]), ("perl", &[0.0]), ("s6", &[100.0])],
                &[
                    "Requests lost with new connections (`default`): 1 with start_server, 0 with Server::Starter (Perl).",
                ],
                &[],
            ),
        ];
        for (measure, param, sets, by_others, by_the_floor) in cases {
            let found = sentences(measure, param, sets);
            let found = (found.0.iter().map(String::as_str).collect(), found.1.iter().map(String::as_str).collect());
            assert_eq!(found, (by_others.to_vec(), by_the_floor.to_vec()), "{measure}");
        }
    }

    #[test]
    fn those_with_the_same_figure_are_named_together() {
        let all: [(&str, &[f64]); 5] =
            [("ours", &[9.0]), ("perl", &[6.0]), ("circus", &[7.0]), ("nginx", &[7.0]), ("ruby-gem", &[1.0])];
        let found = sentences("descriptors", Some("fresh"), &all).0;
        let expected = "Descriptors before any restart (`default`): 9 with start_server, 1.5 times as many as with \
                        Server::Starter (Perl) (6) and 1.3 times as many as with Circus and nginx (7).";
        assert_eq!(found, [expected]);
    }

    #[test]
    fn who_fails_is_not_the_best() {
        let sets = [example::failed("ours", "told", "listeners_hup", Some("1000"), "No answer | in 10 s.")];
        let expected = "HUP → first instruction of the new server with 1,000 listeners (`told`): start_server failed. \
                        No answer \\| in 10 s.";
        assert_eq!(find(&Figures::new(None, &sets)).by_others, [expected]);
    }

    #[test]
    fn timers_are_said_to_be_the_cause() {
        let sets = [
            example::set("ours", "default", "hup_to_done", None, &[1001.0]),
            example::set("ours", "told", "hup_to_done", None, &[1.1]),
            example::set("nginx", "default", "hup_to_done", None, &[185.0]),
        ];
        let found = find(&Figures::new(None, &sets)).by_others;
        assert_eq!(found.len(), 1);
        assert!(found[0].ends_with(" It takes 1.10 ms where the server tells that it is ready."), "{found:?}");
    }

    #[test]
    fn of_latencies_what_restarts_add_is_compared() {
        let latency = |who, param, value| example::set(who, "default", "latency_p99", Some(param), &[value]);
        let sets = [
            latency("ours", "calm", 1.0),
            latency("ours", "restart", 3.0),
            latency("gunicorn", "calm", 15.0),
            latency("gunicorn", "restart", 15.5),
            latency("perl", "calm", 0.1),
            latency("perl", "restart", 2.2),
        ];
        let found = find(&Figures::new(None, &sets)).by_others;
        let expected = "What restarts add to the 99th percentile of latency (`default`) is 2 ms with start_server, \
                        0.50 ms with gunicorn.";
        assert_eq!(found, [expected]);

        // When nothing happens, ours differs by more than that from round to round.
        let next = Set { round: 2, ..latency("ours", "calm", 9.0) };
        let sets: Vec<Set> = sets.into_iter().chain([next]).collect();
        assert!(find(&Figures::new(None, &sets)).by_others.is_empty());
    }
}
