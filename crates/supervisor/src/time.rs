//! Instants on a clock that never goes back. The program reads the clock; this crate only compares
//! and adds.

use std::time::Duration;

/// A moment, in nanoseconds since an arbitrary start that stays the same for the life of the
/// machine (Linux: `CLOCK_MONOTONIC`), and so keeps its meaning when a program replaces itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Instant(u64);

impl Instant {
    /// The moment `since_start` after the clock's start.
    pub fn at(since_start: Duration) -> Self {
        Self(nanoseconds(since_start))
    }

    /// How long after the clock's start this moment is.
    pub fn since_start(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// How long this moment is after `earlier`; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `span` later. A span too long for the clock ends at its last moment, which never
    /// comes.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(nanoseconds(span)))
    }
}

fn nanoseconds(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let late = Instant::at(Duration::MAX);
        assert_eq!(late.plus(Duration::from_secs(1)), late);
        assert_eq!(Instant::at(Duration::ZERO).since(late), Duration::ZERO);
        assert_eq!(Instant::at(Duration::from_secs(3)).since_start(), Duration::from_secs(3));
    }
}
