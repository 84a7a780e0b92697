//! What is told at the end, gathered once; each file below tells it in another form. All of them are pure.

pub mod json;
pub mod strip;
pub mod svg;
pub mod text;

use crate::cli::Plan;
use crate::diagnosis::{Finding, diagnose};
use crate::drilling::Drill;
use crate::tally::Tally;
use crate::verdict::Verdict;

/// Everything that a report needs.
pub struct Report<'a> {
    /// What was asked for.
    pub plan: &'a Plan,
    /// What happened.
    pub drill: &'a Drill,
    /// Its sums.
    pub tally: Tally,
    /// What they mean.
    pub findings: Vec<Finding>,
    /// The gist.
    pub verdict: Verdict,
}

impl<'a> Report<'a> {
    /// Gathers it.
    pub fn new(plan: &'a Plan, drill: &'a Drill) -> Self {
        let tally = Tally::of(&drill.samples, &drill.restarts);
        let findings = diagnose(&tally, &drill.restarts, &drill.facts);
        let verdict = Verdict::of(drill, &tally);
        Self { plan, drill, tally, findings, verdict }
    }
}

/// A drill for the tests of the reports.
#[cfg(test)]
pub mod example {
    use std::ffi::OsString;
    use std::time::Duration;

    use crate::cli::{Asked, Plan, parse};
    use crate::drilling::{Drill, Ending};
    use crate::facts::{Facts, Restarter};
    use crate::sample::{Kind, Loss, Outcome, Restart, Sample};
    use crate::target::Endpoint;

    pub fn plan() -> Plan {
        let words = ["http://localhost/?a=b&c", "--pid=1"].map(OsString::from);
        match parse(words.into_iter()) {
            Ok(Asked::Drill(plan)) => *plan,
            other => panic!("{other:?}"),
        }
    }

    /// Two restarts, one of which is not done; with a loss and a race.
    pub fn drill() -> Drill {
        let ms = Duration::from_millis;
        let endpoint = Endpoint::Tcp("127.0.0.1:80".parse().unwrap());
        let mut samples: Vec<Sample> = (0..400)
            .map(|number| Sample {
                kind: Kind::ALL[number % 4],
                begun: ms(number as u64 * 10),
                asked: ms(number as u64 * 10),
                ended: ms(number as u64 * 10 + 3),
                outcome: Outcome::Answered,
            })
            .collect();
        samples[150].outcome = Outcome::Lost(Loss::ResetBefore);
        samples[151].outcome = Outcome::KeepAliveRace;
        let first = Restart {
            begun: ms(1000),
            ready_after: Some(ms(40)),
            committed: Some(ms(1050)),
            drained: Some(ms(1600)),
            ended: ms(1600),
            generation: Some(2),
            failure: None,
        };
        let second = Restart {
            begun: ms(3000),
            ready_after: None,
            committed: None,
            drained: None,
            ended: ms(3500),
            generation: None,
            failure: Some("it <broke>".to_owned()),
        };
        let mut facts = Facts::new(Restarter::Ours, &endpoint);
        facts.generations.extend([1, 2]);
        facts.held_by_superdaemon = Some(true);
        Drill { endpoint, samples, restarts: vec![first, second], facts, took: ms(4000), ending: Ending::Interrupted }
    }
}
