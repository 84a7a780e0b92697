//! What is noted of each request, and of each restart: plain facts, collected by the clients and the restarts, summed
//! up by the tally. Times are counted from the beginning of the drill.

use std::time::Duration;

/// How a client behaves. Each kind meets another weakness of servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A new connection for each request.
    New,
    /// One connection for many requests.
    KeepAlive,
    /// A new connection, and the request only after a while: a client that is a round trip away.
    Delayed,
    /// Half a request before the restart, the rest after the commit: a client that is slow to say what it wants.
    Held,
    /// A request for a page that takes the server long.
    Slow,
}

impl Kind {
    /// All, in the order in which they are reported.
    pub const ALL: [Self; 5] = [Self::New, Self::KeepAlive, Self::Delayed, Self::Held, Self::Slow];

    /// The name in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::KeepAlive => "keep-alive",
            Self::Delayed => "delayed",
            Self::Held => "held",
            Self::Slow => "slow",
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered as it should be.
    Answered,
    /// The connection had served before and was closed while the request was on its way: nothing of an answer came.
    /// Clients and proxies send such a request again on a new connection, so it is not lost (RFC 9110, 9.2.2).
    KeepAliveRace,
    /// It was lost.
    Lost(Loss),
}

/// How a request was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// Nobody listened.
    Refused,
    /// No connection could be had, for another reason.
    Unreachable,
    /// The connection ended before a byte of the answer.
    ResetBefore,
    /// The connection ended within the answer.
    ResetWithin,
    /// No connection in time.
    ConnectTimeout,
    /// A connection, but no whole answer in time.
    AnswerTimeout,
    /// An answer with a status that is no success.
    WrongStatus(u16),
    /// An answer that cannot be understood, or not the one that was expected.
    Garbled,
}

impl Loss {
    /// The name in reports; statuses are not told apart by it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::ResetBefore => "reset before a byte",
            Self::ResetWithin => "reset within the answer",
            Self::ConnectTimeout => "timeout of the connection",
            Self::AnswerTimeout => "timeout of the answer",
            Self::WrongStatus(_) => "wrong status",
            Self::Garbled => "wrong answer",
        }
    }

    /// The name in JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::ResetBefore => "reset_before",
            Self::ResetWithin => "reset_within",
            Self::ConnectTimeout => "connect_timeout",
            Self::AnswerTimeout => "answer_timeout",
            Self::WrongStatus(_) => "wrong_status",
            Self::Garbled => "wrong_answer",
        }
    }
}

/// One request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Who sent it.
    pub kind: Kind,
    /// When it began: with its connection, or for a later one on the same connection, with its first byte.
    pub begun: Duration,
    /// When the client had nothing left to do but to wait: the waiting that is the client's own is no latency.
    pub asked: Duration,
    /// When it was over.
    pub ended: Duration,
    /// What became of it.
    pub outcome: Outcome,
}

impl Sample {
    /// How long the server let the client wait.
    pub fn latency(&self) -> Duration {
        self.ended.saturating_sub(self.asked)
    }

    /// Whether it was under way at some time of a span.
    pub fn overlaps(&self, begun: Duration, ended: Duration) -> bool {
        self.begun <= ended && self.ended >= begun
    }
}

/// One restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// When it was asked for.
    pub begun: Duration,
    /// How long the new generation took from its spawn until it was ready, where that can be seen.
    pub ready_after: Option<Duration>,
    /// When the old generation was told to go, where that can be seen.
    pub committed: Option<Duration>,
    /// When only the new generation was left, where that can be seen.
    pub drained: Option<Duration>,
    /// When it was over, as [`settle`] says. What is lost until then is lost in the restart.
    pub ended: Duration,
    /// The generation that it made current, where that can be seen.
    pub generation: Option<u32>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// Sets when restarts were over for the clients: when a request that was sent after the end that the superdaemon saw is
/// answered. Until then the new generation may not serve at all, although it is taken for ready. Without any such answer
/// it is the end of the drill.
pub fn settle(restarts: &mut [Restart], samples: &[Sample], end: Duration) {
    for restart in restarts {
        let answered = samples.iter().filter(|sample| sample.outcome == Outcome::Answered && sample.kind != Kind::Slow);
        let later = answered.filter(|sample| sample.begun >= restart.ended);
        restart.ended = later.map(|sample| sample.ended).min().unwrap_or(end).min(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_is_over_when_a_later_request_is_answered() {
        let ms = Duration::from_millis;
        let lost = Outcome::Lost(Loss::AnswerTimeout);
        for (samples, expected) in [
            (vec![], 9000),
            (vec![(100, 5000, Outcome::Answered)], 9000),
            (vec![(1000, 1002, Outcome::Answered), (2000, 2002, Outcome::Answered)], 1002),
            (vec![(1100, 2000, lost), (1200, 3000, Outcome::Answered)], 3000),
            (vec![(1100, 2000, lost)], 9000),
            (vec![(8000, 9500, Outcome::Answered)], 9000),
        ] {
            let sample = |&(begun, ended, outcome)| Sample {
                kind: Kind::New,
                begun: ms(begun),
                asked: ms(begun),
                ended: ms(ended),
                outcome,
            };
            let noted: Vec<Sample> = samples.iter().map(sample).collect();
            let mut restarts = [Restart {
                begun: ms(500),
                ready_after: None,
                committed: None,
                drained: None,
                ended: ms(1000),
                generation: None,
                failure: None,
            }];
            settle(&mut restarts, &noted, ms(9000));
            assert_eq!(restarts[0].ended, ms(expected), "{samples:?}");
        }
    }
}
