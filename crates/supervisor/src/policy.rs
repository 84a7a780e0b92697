//! What the operator chose: how a generation is proved, how failures are met, how long anything
//! may take. Made from the command line by the program.

use std::num::NonZeroU32;
use std::time::Duration;

/// Choices that hold for the life of the superdaemon.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// How long a worker must live to count as alive; also the least pause between two attempts.
    pub interval: Duration,
    /// What makes a generation ready.
    pub readiness: Readiness,
    /// After so many failed attempts in a row a restart is given up, and so is a first start.
    /// `None`: never.
    pub max_attempts: Option<NonZeroU32>,
    /// Pauses between attempts double from the interval up to this. `None`: they stay at the
    /// interval.
    pub backoff_max: Option<Duration>,
    /// How long an old generation may take to go after it was told to. `None`: for ever.
    pub drain_timeout: Option<Duration>,
    /// How long all workers together may take to go at the end. `None`: for ever.
    pub stop_timeout: Option<Duration>,
    /// How long those that serve go on after SIGTERM, before they are told to stop: for clients that have not heard of
    /// the end yet. `None`: they are told at once.
    pub term_delay: Option<Duration>,
    /// How many told generations may still be there after a commit; the oldest beyond that are
    /// ended. `None`: any number.
    pub max_old_generations: Option<NonZeroU32>,
    /// Makes the jitter of this superdaemon differ from another's.
    pub jitter_seed: u64,
}

impl Default for Policy {
    /// What Server::Starter does when no option is given.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1),
            readiness: Readiness::Alive,
            max_attempts: None,
            backoff_max: None,
            drain_timeout: None,
            stop_timeout: None,
            term_delay: None,
            max_old_generations: None,
            jitter_seed: 0,
        }
    }
}

/// The readiness rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Readiness {
    /// Ready when the worker has not exited an interval after its spawn.
    Alive,
    /// Ready when somebody proves it ([`crate::Event::Ready`]), failed when nobody has within
    /// `timeout` of the spawn.
    Proved {
        /// Counted from the spawn; the worker may ask for more ([`crate::Event::ExtendReadiness`]).
        timeout: Duration,
    },
}

/// Choices that may change while the superdaemon runs: the environment directory can hold them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Settings {
    /// How long both generations serve between readiness and commit.
    pub kill_old_delay: Duration,
    /// Restart by itself from time to time.
    pub auto_restart: Option<AutoRestart>,
}

/// A restart is due so long after the last generation became ready, once no old one is left; after
/// twice that time it comes all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AutoRestart {
    /// Must not be zero.
    pub interval: Duration,
}
