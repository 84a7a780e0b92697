//! Sums up what was noted: how much was lost, of which clients, in a restart or in calm, and how long clients waited.
//! Pure; the diagnosis and all reports are made from it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::sample::{Kind, Loss, Outcome, Restart, Sample};

/// When something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum When {
    /// While nothing was restarted.
    Calm,
    /// While a restart was under way.
    Restart,
}

/// The sums of one kind of client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KindTally {
    /// Requests, whatever became of them.
    pub requests: usize,
    /// Requests that were under way at some time of a restart.
    pub in_restarts: usize,
    /// Requests whose connection was closed while they were on their way, and that are safe to send again.
    pub races: usize,
    /// What was lost, and when.
    pub lost: BTreeMap<(Loss, When), usize>,
    /// How long the answers of calm times took.
    pub calm: Option<Latencies>,
    /// How long the answers took that were under way in a restart.
    pub restarts: Option<Latencies>,
}

/// The sums of a drill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// By kind of client; a kind that has sent nothing is not there.
    pub kinds: BTreeMap<Kind, KindTally>,
    /// As in [`KindTally`], of all clients but the slow ones, whose waiting is the page's.
    pub calm: Option<Latencies>,
    /// As in [`KindTally`], of all clients but the slow ones.
    pub restarts: Option<Latencies>,
}

/// How long answers took. Half of them took `p50` or less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latencies {
    /// How many there were.
    pub count: usize,
    /// The median.
    pub p50: Duration,
    /// 90 % took this long or less.
    pub p90: Duration,
    /// 99 % took this long or less.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl Latencies {
    /// Of no answers there is nothing to say.
    pub fn of(mut times: Vec<Duration>) -> Option<Self> {
        times.sort_unstable();
        // The nearest rank: the smallest time that at least so many per cent did not exceed.
        let rank = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(rank).copied()
        };
        Some(Self { count: times.len(), p50: rank(50)?, p90: rank(90)?, p99: rank(99)?, max: rank(100)? })
    }
}

impl Tally {
    /// Sums up.
    pub fn of(samples: &[Sample], restarts: &[Restart]) -> Self {
        let when = |sample: &Sample| {
            let hit = restarts.iter().any(|restart| sample.overlaps(restart.begun, restart.ended));
            if hit { When::Restart } else { When::Calm }
        };
        let mut kinds: BTreeMap<Kind, KindTally> = BTreeMap::new();
        let mut times: BTreeMap<(Kind, When), Vec<Duration>> = BTreeMap::new();
        for sample in samples {
            let tally = kinds.entry(sample.kind).or_default();
            let when = when(sample);
            tally.requests += 1;
            tally.in_restarts += usize::from(when == When::Restart);
            match sample.outcome {
                Outcome::Answered => times.entry((sample.kind, when)).or_default().push(sample.latency()),
                Outcome::KeepAliveRace => tally.races += 1,
                Outcome::Lost(loss) => *tally.lost.entry((loss, when)).or_default() += 1,
            }
        }
        let of_all = |when: When| {
            let those = times.iter().filter(|((kind, then), _)| *kind != Kind::Slow && *then == when);
            Latencies::of(those.flat_map(|(_, times)| times.iter().copied()).collect())
        };
        let (calm, in_restarts) = (of_all(When::Calm), of_all(When::Restart));
        for (kind, tally) in &mut kinds {
            let mut of = |when| Latencies::of(times.remove(&(*kind, when)).unwrap_or_default());
            (tally.calm, tally.restarts) = (of(When::Calm), of(When::Restart));
        }
        Self { kinds, calm, restarts: in_restarts }
    }

    /// All requests.
    pub fn requests(&self) -> usize {
        self.kinds.values().map(|tally| tally.requests).sum()
    }

    /// Requests that were under way at some time of a restart.
    pub fn in_restarts(&self) -> usize {
        self.kinds.values().map(|tally| tally.in_restarts).sum()
    }

    /// Requests that are safe to send again.
    pub fn races(&self) -> usize {
        self.kinds.values().map(|tally| tally.races).sum()
    }

    /// Everything that was lost.
    pub fn lost(&self) -> usize {
        self.losses().map(|(.., count)| count).sum()
    }

    /// What was lost, by kind of client, kind of loss and time.
    pub fn losses(&self) -> impl Iterator<Item = (Kind, Loss, When, usize)> {
        self.kinds
            .iter()
            .flat_map(|(kind, tally)| tally.lost.iter().map(|((loss, when), count)| (*kind, *loss, *when, *count)))
    }

    /// How many losses fit a description.
    pub fn lost_where(&self, fits: impl Fn(Kind, Loss, When) -> bool) -> usize {
        self.losses().filter(|(kind, loss, when, _)| fits(*kind, *loss, *when)).map(|(.., count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn sample(kind: Kind, begun: u64, asked: u64, ended: u64, outcome: Outcome) -> Sample {
        Sample { kind, begun: ms(begun), asked: ms(asked), ended: ms(ended), outcome }
    }

    fn restart(begun: u64, ended: u64) -> Restart {
        Restart {
            begun: ms(begun),
            ready_after: None,
            committed: None,
            drained: None,
            ended: ms(ended),
            generation: None,
            failure: None,
        }
    }

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        for (times, expected) in [
            (vec![], None),
            (vec![7], Some((7, 7, 7, 7))),
            (vec![2, 1], Some((1, 2, 2, 2))),
            ((1..=100).collect(), Some((50, 90, 99, 100))),
            ((1..=200).rev().collect(), Some((100, 180, 198, 200))),
            ((1..=10).collect(), Some((5, 9, 10, 10))),
        ] {
            let found = Latencies::of(times.iter().map(|time| ms(*time)).collect());
            let found = found.map(|found| (found.p50, found.p90, found.p99, found.max));
            assert_eq!(found, expected.map(|(a, b, c, d)| (ms(a), ms(b), ms(c), ms(d))), "{times:?}");
        }
    }

    #[test]
    fn a_request_belongs_to_a_restart_that_it_touches() {
        let restarts = [restart(100, 200), restart(300, 400)];
        for (begun, ended, expected) in [
            (0, 99, When::Calm),
            (0, 100, When::Restart),
            (150, 160, When::Restart),
            (200, 250, When::Restart),
            (201, 299, When::Calm),
            (50, 500, When::Restart),
            (401, 500, When::Calm),
        ] {
            let lost = Outcome::Lost(Loss::Refused);
            let tally = Tally::of(&[sample(Kind::New, begun, begun, ended, lost)], &restarts);
            assert_eq!(tally.losses().collect::<Vec<_>>(), [(Kind::New, Loss::Refused, expected, 1)]);
            assert_eq!(tally.in_restarts(), usize::from(expected == When::Restart));
        }
    }

    #[test]
    fn sums_are_kept_by_client_and_time() {
        let samples = [
            sample(Kind::New, 0, 0, 10, Outcome::Answered),
            sample(Kind::New, 110, 110, 130, Outcome::Answered),
            sample(Kind::Delayed, 0, 50, 55, Outcome::Answered),
            sample(Kind::KeepAlive, 110, 110, 111, Outcome::KeepAliveRace),
            sample(Kind::Slow, 0, 0, 90, Outcome::Answered),
            sample(Kind::Slow, 90, 90, 150, Outcome::Lost(Loss::ResetWithin)),
            sample(Kind::New, 110, 110, 111, Outcome::Lost(Loss::WrongStatus(502))),
            sample(Kind::New, 111, 111, 112, Outcome::Lost(Loss::WrongStatus(502))),
        ];
        let tally = Tally::of(&samples, &[restart(100, 200)]);
        assert_eq!((tally.requests(), tally.in_restarts(), tally.races(), tally.lost()), (8, 5, 1, 3));
        assert_eq!(tally.lost_where(|kind, _, _| kind == Kind::New), 2);
        let calm = tally.calm.unwrap();
        assert_eq!((calm.count, calm.p50, calm.max), (2, ms(5), ms(10)), "without the slow one");
        assert_eq!(tally.restarts.map(|found| (found.count, found.max)), Some((1, ms(20))));
        assert_eq!(tally.kinds.get(&Kind::Slow).and_then(|slow| slow.calm).map(|calm| calm.max), Some(ms(90)));
    }
}
