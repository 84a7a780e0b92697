//! Whether anybody accepts on a listener. A program that does not use the sockets that it was given looks fine, and
//! its clients wait in a queue that nobody empties.
//!
//! Nothing is done while nobody waits: the kernel tells once when the first client does. Who waits then is compared with
//! who waits some seconds later: when all of them still do, nobody was accepted meanwhile, however many came. A server
//! that is slow takes at least one.

use std::time::Duration;

use supervisor::Instant;

/// How long the clients of a server that accepts do not wait. Also the time between two looks.
pub const LIMIT: Duration = Duration::from_secs(5);
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
        /// Who, at the first look.
        clients: Vec<u64>,
        /// When that was.
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

    /// Looks at who waits: `length` says how many by the length of the queue, `clients` who they are, which takes more
    /// to find out.
    pub fn look(&mut self, now: Instant, length: Option<u32>, clients: impl FnOnce() -> Option<Vec<u64>>) -> Verdict {
        let waiting = if length == Some(0) { None } else { clients() };
        let Some(waiting) = waiting else {
            *self = Self::Over;
            return Verdict::Nothing;
        };
        match self {
            Self::Waited { clients, since, .. } if !clients.is_empty() => {
                let same = clients.iter().all(|client| waiting.contains(client));
                let span = now.since(*since);
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
                *self = Self::Waited { clients: waiting, since: now, look_at: now.plus(LIMIT) };
                Verdict::Nothing
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::at(Duration::from_secs(seconds))
    }

    fn look(watch: &mut AcceptWatch, second: u64, clients: &[u64]) -> Verdict {
        let length = u32::try_from(clients.len()).unwrap();
        watch.look(at(second), Some(length), || Some(clients.to_vec()))
    }

    #[test]
    fn a_queue_that_only_grows_is_nobodys() {
        let mut watch = AcceptWatch::Armed;
        assert_eq!(look(&mut watch, 10, &[1]), Verdict::Nothing);
        assert_eq!(watch.next_look(), Some(at(15)));
        let verdict = look(&mut watch, 15, &[1, 2, 3]);
        assert_eq!(verdict, Verdict::NobodyAccepts { waiting: 3, span: Duration::from_secs(5) });
        assert_eq!(watch, AcceptWatch::Over);
    }

    #[test]
    fn a_slow_server_is_not_accused() {
        for later in [&[2, 3, 4][..], &[2], &[]] {
            let mut watch = AcceptWatch::Armed;
            look(&mut watch, 10, &[1, 2]);
            assert_eq!(look(&mut watch, 15, later), Verdict::Nothing);
            assert_eq!(watch, AcceptWatch::Over);
        }
        let mut watch = AcceptWatch::Armed;
        assert_eq!(look(&mut watch, 10, &[]), Verdict::Nothing, "it was taken at once");
        assert_eq!(watch, AcceptWatch::Over);
    }

    #[test]
    fn what_cannot_be_seen_is_no_reason_to_accuse() {
        let mut watch = AcceptWatch::Armed;
        assert_eq!(watch.look(at(10), None, || None), Verdict::Nothing);
        assert_eq!(watch, AcceptWatch::Over);
    }

    #[test]
    fn connections_that_are_gone_are_no_proof_but_those_who_come_next_are() {
        let gone = |watch: &mut AcceptWatch, second| watch.look(at(second), Some(1), || Some(Vec::new()));
        let mut watch = AcceptWatch::Armed;
        for (second, next) in [(10, 15), (15, 25), (25, 55), (55, 135), (135, 215)] {
            assert_eq!(gone(&mut watch, second), Verdict::Nothing);
            assert_eq!(watch.next_look(), Some(at(next)));
        }
        look(&mut watch, 215, &[7]);
        assert_eq!(watch.next_look(), Some(at(220)));
        assert!(matches!(look(&mut watch, 220, &[7, 8]), Verdict::NobodyAccepts { waiting: 2, .. }));
    }
}
