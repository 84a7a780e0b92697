//! The verdict: the one word of a drill, and its exit status. Pure; `main` and the reports ask.

use crate::drilling::{Drill, Ending};
use crate::tally::Tally;

/// How a drill ended, as its exit status. 2 and 5 are for those that never began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every restart was done, and nothing was lost.
    NothingLost = 0,
    /// Something was lost.
    Lost = 1,
    /// Nothing was lost, but a restart failed, or its old generation did not go.
    RestartFailed = 3,
    /// Nothing was lost, but not all restarts were done.
    Incomplete = 4,
}

impl Verdict {
    /// The gravest that applies.
    pub fn of(drill: &Drill, tally: &Tally) -> Self {
        if tally.lost() > 0 {
            Self::Lost
        } else if drill.restarts.iter().any(|restart| restart.failure.is_some())
            || matches!(drill.ending, Ending::SuperdaemonGone(_))
        {
            Self::RestartFailed
        } else if drill.ending == Ending::Complete {
            Self::NothingLost
        } else {
            Self::Incomplete
        }
    }

    /// The name in JSON.
    pub fn key(self) -> &'static str {
        match self {
            Self::NothingLost => "nothing_lost",
            Self::Lost => "lost",
            Self::RestartFailed => "restart_failed",
            Self::Incomplete => "incomplete",
        }
    }
}
