//! Whether anybody accepts on a listener. A program that does not use the sockets that it was given looks fine, and
//! its clients wait in a queue that nobody empties.
//!
//! Nothing is done while nobody waits: the kernel tells once when the first client does. If somebody waits a moment later,
//! too, when most servers have taken all, who that is is compared with who waits another moment later, and else some
//! seconds later: if all of them still wait, nobody was accepted meanwhile, however many came. A server that is slow takes
//! at least one.

use std::time::Duration;

use supervisor::Instant;

/// After this time most servers have accepted somebody.
const SOON: Duration = Duration::from_millis(20);
/// After this time every server has that accepts at all.
const LIMIT: Duration = Duration::from_secs(5);
/// How long two looks are apart at most.
const SELDOM: Duration = Duration::from_secs(80);

/// What is known of one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AcceptWatch {
    /// Somebody accepts, or was accused already, or it cannot be told: nothing to look for.
    #[default]
    Over,
    /// The kernel will tell when a client waits.
    Armed,
    /// Clients wait.
    Waited {
        /// Who, when that was asked first. Nobody was asked before, or nobody was there any more.
        clients: Vec<u64>,
        /// When it was asked, or when they were seen.
        since: Instant,
        /// When to look again.
        look_at: Instant,
    },
}

/// What a look has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to say, or not yet.
    Nothing,
    /// Nobody was accepted for this time.
    NobodyAccepts {
        /// How many wait.
        waiting: usize,
        /// For how long nobody was accepted.
        span: Duration,
    },
}

impl AcceptWatch {
    /// When to look again.
    pub fn next_look(&self) -> Option<Instant> {
        match self {
            Self::Waited { look_at, .. } => Some(*look_at),
            Self::Over | Self::Armed => None,
        }
    }

    /// Whether the next look has to find out who waits, and it does not matter much when.
    pub fn can_be_put_off(&self) -> bool {
        matches!(self, Self::Waited { clients, .. } if clients.is_empty())
    }

    /// Puts off a look that can be: the longer the first client is there, the longer.
    pub fn put_off(&mut self, now: Instant) {
        if let Self::Waited { since, look_at, .. } = self {
            *look_at = now.plus(now.since(*since).clamp(SOON, SELDOM));
        }
    }

    /// Looks at who waits: `length` says how many by the length of the queue, `clients` who they are, which takes more
    /// to find out.
    pub fn look(
        &mut self,
        now: Instant,
        length: impl Fn() -> Option<u32>,
        clients: impl FnOnce() -> Option<Vec<u64>>,
    ) -> Verdict {
        let is_empty = || length() == Some(0);
        if is_empty() {
            *self = Self::Over;
            return Verdict::Nothing;
        }
        // The kernel takes milliseconds to say who waits, just when a server has come that is about to take them.
        if *self == Self::Armed {
            *self = Self::Waited { clients: Vec::new(), since: now, look_at: now.plus(SOON) };
            return Verdict::Nothing;
        }
        let Some(waiting) = clients().filter(|waiting| !waiting.is_empty() || !is_empty()) else {
            *self = Self::Over;
            return Verdict::Nothing;
        };
        match self {
            Self::Waited { clients, since, look_at } if !clients.is_empty() => {
                let (same, span) = (clients.iter().all(|client| waiting.contains(client)), now.since(*since));
                if same && span < LIMIT {
                    *look_at = since.plus(LIMIT);
                    return Verdict::Nothing;
                }
                *self = Self::Over;
                if same { Verdict::NobodyAccepts { waiting: waiting.len(), span } } else { Verdict::Nothing }
            }
            // The queue holds only connections that are gone already, like those of some health checks: who comes next?
            Self::Waited { since, look_at, .. } if waiting.is_empty() => {
                let pause = (now.since(*since) * 2).clamp(LIMIT, SELDOM);
                *look_at = now.plus(pause);
                Verdict::Nothing
            }
            _ => {
                *self = Self::Waited { clients: waiting, since: now, look_at: now.plus(SOON) };
                Verdict::Nothing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Instant {
        Instant::at(Duration::from_millis(milliseconds))
    }

    fn look(watch: &mut AcceptWatch, moment: u64, clients: &[u64]) -> Verdict {
        let length = u32::try_from(clients.len()).unwrap();
        watch.look(at(moment), || Some(length), || Some(clients.to_vec()))
    }

    #[test]
    fn a_queue_that_only_grows_is_nobodys() {
        let mut watch = AcceptWatch::Armed;
        for (moment, next) in [(9_980, 10_000), (10_000, 10_020), (10_020, 15_000)] {
            assert_eq!(look(&mut watch, moment, &[1]), Verdict::Nothing);
            assert_eq!(watch.next_look(), Some(at(next)));
        }
        let verdict = look(&mut watch, 15_000, &[1, 2, 3]);
        assert_eq!(verdict, Verdict::NobodyAccepts { waiting: 3, span: Duration::from_secs(5) });
        assert_eq!(watch, AcceptWatch::Over);
    }

    #[test]
    fn a_slow_server_is_not_accused() {
        for later in [&[2, 3, 4][..], &[2], &[]] {
            for moment in [10_020, 15_000] {
                let mut watch = AcceptWatch::Armed;
                look(&mut watch, 9_980, &[1]);
                look(&mut watch, 10_000, &[1, 2]);
                assert_eq!(look(&mut watch, moment, later), Verdict::Nothing);
                assert_eq!(watch, AcceptWatch::Over);
            }
        }
        let mut watch = AcceptWatch::Armed;
        assert_eq!(look(&mut watch, 10_000, &[]), Verdict::Nothing, "it was taken at once");
        assert_eq!(watch, AcceptWatch::Over);
    }

    #[test]
    fn what_cannot_be_seen_is_no_reason_to_accuse() {
        let mut watch = AcceptWatch::Armed;
        for moment in [10, 30] {
            assert_eq!(watch.look(at(moment), || None, || None), Verdict::Nothing);
        }
        assert_eq!(watch, AcceptWatch::Over);
    }

    #[test]
    fn what_is_put_off_comes_back_ever_more_slowly() {
        let mut watch = AcceptWatch::Armed;
        look(&mut watch, 0, &[1]);
        for (moment, next) in [(20, 40), (40, 80), (80, 160), (8_000, 16_000)] {
            assert!(watch.can_be_put_off());
            watch.put_off(at(moment));
            assert_eq!(watch.next_look(), Some(at(next)));
        }
        look(&mut watch, 16_000, &[1]);
        assert!(!watch.can_be_put_off());
    }

    #[test]
    fn who_waits_is_not_asked_where_a_moment_later_nobody_does() {
        let mut watch = AcceptWatch::Armed;
        for length in [1, 0] {
            let verdict = watch.look(at(10), || Some(length), || unreachable!("it was asked who waits"));
            assert_eq!(verdict, Verdict::Nothing);
        }
        assert_eq!(watch, AcceptWatch::Over);
    }

    #[test]
    fn connections_that_are_gone_are_no_proof_but_those_who_come_next_are() {
        let gone = |watch: &mut AcceptWatch, moment| watch.look(at(moment), || Some(1), || Some(Vec::new()));
        let mut watch = AcceptWatch::Armed;
        for (moment, next) in [(0, 20), (20, 5_020), (5_020, 15_060), (15_060, 45_180), (45_180, 125_180)] {
            assert_eq!(gone(&mut watch, moment), Verdict::Nothing);
            assert_eq!(watch.next_look(), Some(at(next)));
        }
        look(&mut watch, 125_180, &[7]);
        assert_eq!(watch.next_look(), Some(at(125_200)));
        look(&mut watch, 125_200, &[7]);
        assert!(matches!(look(&mut watch, 130_180, &[7, 8]), Verdict::NobodyAccepts { waiting: 2, .. }));
    }
}
