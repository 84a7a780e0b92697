//! How long a command may take, from its beginning to its end, whatever the superdaemon does.

use std::time::{Duration, Instant};

/// A request is given up by so much before the deadline, or by a tenth of the time if that is less: the superdaemon is
/// to say how far it has come, and that takes a moment.
const MOST_FOR_GIVING_UP: Duration = Duration::from_millis(250);

/// When a command ends at the latest.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Option<Times>);

#[derive(Clone, Copy, Debug)]
struct Times {
    giving_up: Instant,
    end: Instant,
}

impl Deadline {
    /// So long from now; without it, never.
    pub fn after(timeout: Option<Duration>) -> Self {
        let now = Instant::now();
        let times = timeout.and_then(|timeout| {
            let for_giving_up = (timeout / 10).min(MOST_FOR_GIVING_UP);
            // A time that is too long to be told is as good as none.
            Some(Times { giving_up: now.checked_add(timeout - for_giving_up)?, end: now.checked_add(timeout)? })
        });
        Self(times)
    }

    /// How much time is left; none if there is no limit.
    pub fn left(self) -> Option<Duration> {
        self.0.map(|times| times.end.saturating_duration_since(Instant::now()))
    }

    /// How much is left until the request is to be given up; none if there is no limit.
    pub fn left_until_giving_up(self) -> Option<Duration> {
        self.0.map(|times| times.giving_up.saturating_duration_since(Instant::now()))
    }

    /// Whether it is over.
    pub fn is_over(self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }
}
