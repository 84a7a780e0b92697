//! The raw data in the order in which the report asks for them: by measure and param, then by candidate and mode. All
//! rounds of a run together are one set.

use std::collections::{BTreeMap, BTreeSet};

use super::compared::{self, OURS};
use super::statistics::Summary;
use crate::samples::{About, Set};

/// A candidate in one of its modes: a line of a table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contestant {
    /// As in the data.
    pub candidate: String,
    /// `default`, `told`, `small`.
    pub mode: String,
}

/// What is known of one contestant in one measure.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known {
    /// The samples of all rounds.
    pub samples: Vec<f64>,
    /// For each round that has samples, those of it: what belongs together in time.
    pub rounds: BTreeMap<u32, Vec<f64>>,
    /// What went wrong, each reason once.
    pub failures: BTreeSet<String>,
}

/// A measure, and what it was measured at.
type Key = (String, Option<String>);

/// One run of the benchmark.
#[derive(Debug, Default)]
pub struct Figures {
    /// Where and with what it ran.
    pub about: Option<About>,
    sets: BTreeMap<Key, BTreeMap<Contestant, Known>>,
}

impl Known {
    /// The least and the most of the rounds' medians, if there were several rounds: how much is noise.
    pub fn wobble(&self) -> Option<(f64, f64)> {
        let medians = self.rounds.values().filter_map(|samples| Some(Summary::of(samples)?.median));
        let all = Summary::of(&medians.collect::<Vec<f64>>())?;
        (self.rounds.len() > 1).then_some((all.min, all.max))
    }
}

impl Contestant {
    fn order(&self) -> (usize, &str, usize) {
        let mode = ["default", "told", "small"].iter().position(|mode| *mode == self.mode).unwrap_or(usize::MAX);
        (compared::place(&self.candidate), &self.candidate, mode)
    }
}

impl Figures {
    /// Of all sets of a run, in any order.
    pub fn new(about: Option<About>, sets: &[Set]) -> Self {
        let mut figures = Self { about, sets: BTreeMap::new() };
        for set in sets {
            let contestant = Contestant { candidate: set.candidate.clone(), mode: set.mode.clone() };
            let key = (set.measure.clone(), set.param.clone());
            let known = figures.sets.entry(key).or_default().entry(contestant).or_default();
            known.samples.extend(&set.samples);
            if !set.samples.is_empty() {
                known.rounds.entry(set.round).or_default().extend(&set.samples);
            }
            known.failures.extend(set.failed.clone());
        }
        figures
    }

    /// Whether there are no samples at all.
    pub fn is_empty(&self) -> bool {
        self.sets.values().flat_map(BTreeMap::values).all(|known| known.samples.is_empty())
    }

    /// What is known, be it only that it failed.
    pub fn known(&self, measure: &str, param: Option<&str>, contestant: &Contestant) -> Option<&Known> {
        self.sets.get(&(measure.to_owned(), param.map(str::to_owned)))?.get(contestant)
    }

    /// The samples of all rounds; empty if there are none.
    pub fn samples(&self, measure: &str, param: Option<&str>, contestant: &Contestant) -> &[f64] {
        self.known(measure, param, contestant).map_or(&[], |known| &known.samples)
    }

    /// Median and spread.
    pub fn summary(&self, measure: &str, param: Option<&str>, contestant: &Contestant) -> Option<Summary> {
        Summary::of(self.samples(measure, param, contestant))
    }

    /// All that have been measured, or have failed, in one of the measures, ours first, the floor second.
    pub fn contestants(&self, measures: &[&str]) -> Vec<Contestant> {
        let found = self.sets.iter().filter(|((measure, _), _)| measures.contains(&measure.as_str()));
        let unique: BTreeSet<Contestant> = found.flat_map(|(_, known)| known.keys().cloned()).collect();
        let mut contestants: Vec<Contestant> = unique.into_iter().collect();
        contestants.sort_by(|one, other| one.order().cmp(&other.order()));
        contestants
    }

    /// What a measure was measured at, numbers in their order.
    pub fn params(&self, measure: &str) -> Vec<String> {
        let params = self.sets.keys().filter(|(name, _)| name == measure).filter_map(|(_, param)| param.clone());
        let mut params: Vec<String> = params.collect();
        params.sort_by_key(|param| (param.parse::<u64>().unwrap_or(u64::MAX), param.clone()));
        params
    }

    /// `after-N`, as the data have it: what was measured again after N restarts.
    pub fn after(&self) -> Option<String> {
        ["private", "rss", "descriptors", "threads"]
            .iter()
            .find_map(|measure| self.params(measure).into_iter().find(|param| param.starts_with("after-")))
    }

    /// Another contestant's counterpart: the same candidate in that mode or, if it has no such figure, in the first
    /// mode in which it has.
    pub fn counterpart(&self, candidate: &str, mode: &str, measure: &str, param: Option<&str>) -> Option<Contestant> {
        let all = self.sets.get(&(measure.to_owned(), param.map(str::to_owned)))?;
        let mut modes: Vec<&Contestant> = all
            .iter()
            .filter(|(contestant, known)| contestant.candidate == candidate && !known.samples.is_empty())
            .map(|(contestant, _)| contestant)
            .collect();
        modes.sort_by(|one, other| one.order().cmp(&other.order()));
        modes.iter().find(|contestant| contestant.mode == mode).or(modes.first()).map(|&contestant| contestant.clone())
    }

    /// Ours in a mode, or in the first that there is.
    pub fn ours(&self, mode: &str, measure: &str, param: Option<&str>) -> Option<Contestant> {
        self.counterpart(OURS, mode, measure, param)
    }

    /// What restarts add to a latency: for each round, the median of the restarts less that of the calm beside them.
    pub fn added(&self, latency: &str, contestant: &Contestant) -> Vec<f64> {
        let rounds = |param| self.known(latency, Some(param), contestant).map(|known| &known.rounds);
        let (Some(restart), Some(calm)) = (rounds("restart"), rounds("calm")) else { return Vec::new() };
        let median = |samples: &Vec<f64>| Summary::of(samples).map(|summary| summary.median);
        restart.iter().filter_map(|(round, samples)| Some(median(samples)? - median(calm.get(round)?)?)).collect()
    }

    /// Every failure: of whom, of what, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&Contestant, &str, Option<&str>, &str)> {
        self.sets.iter().flat_map(|((measure, param), all)| {
            all.iter().flat_map(move |(contestant, known)| {
                let reasons = known.failures.iter();
                reasons.map(move |why| (contestant, measure.as_str(), param.as_deref(), why.as_str()))
            })
        })
    }
}
