//! How long to wait before the program is run again after it failed.

use std::time::Duration;

use crate::policy::Policy;
use crate::process::GenerationNumber;

/// The least time between the spawn of an attempt that failed and the next spawn, after `failures`
/// failures in a row.
///
/// Server::Starter waits the interval, always; so does this by default. Two exceptions: an interval
/// below a second grows to a second while failures go on, so that a program which cannot run does
/// not take the machine with it; and with a maximum chosen by the operator the pause doubles up to
/// it, less a jitter of up to a quarter, so that many hosts do not retry in step.
pub(crate) fn pause(policy: &Policy, failures: u32, generation: GenerationNumber) -> Duration {
    if failures == 0 {
        return Duration::ZERO;
    }
    let least = policy.interval.max(SHORTEST);
    let doubled = least.saturating_mul(1u32.checked_shl(failures - 1).unwrap_or(u32::MAX));
    match policy.backoff_max {
        None => doubled.min(policy.interval.max(SECOND)),
        Some(max) => {
            let pause = doubled.min(max.max(policy.interval));
            pause - pause.mul_f64(0.25 * jitter(policy.jitter_seed, generation))
        }
    }
}

/// How long a generation must have served so that its death is not one more failure in a row.
pub(crate) fn proven_after(policy: &Policy) -> Duration {
    SECOND.max(policy.backoff_max.unwrap_or_default())
}

const SHORTEST: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);

/// A number in 0..1 that differs from generation to generation and from superdaemon to superdaemon
/// (the mixing step of SplitMix64), but not from run to run of a test.
fn jitter(seed: u64, generation: GenerationNumber) -> f64 {
    let mut z = seed ^ u64::from(generation.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let fraction = u32::try_from((z ^ (z >> 31)) >> 32).unwrap_or(u32::MAX);
    f64::from(fraction) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(policy: &Policy) -> Vec<u128> {
        (0..6).map(|n| pause(policy, n, GenerationNumber(n)).as_millis()).collect()
    }

    #[test]
    fn the_interval_is_the_pause_by_default() {
        assert_eq!(pauses(&Policy::default()), [0, 1000, 1000, 1000, 1000, 1000]);
    }

    #[test]
    fn a_short_interval_grows_to_a_second() {
        let policy = Policy { interval: Duration::ZERO, ..Policy::default() };
        assert_eq!(pauses(&policy), [0, 100, 200, 400, 800, 1000]);
    }

    #[test]
    fn with_a_maximum_it_doubles_and_jitters() {
        let max = Some(Duration::from_secs(5));
        let policy = Policy { backoff_max: max, jitter_seed: 7, ..Policy::default() };
        for (n, full) in [(1, 1000), (2, 2000), (3, 4000), (4, 5000), (40, 5000)] {
            let pause = pause(&policy, n, GenerationNumber(n)).as_millis();
            assert!((full * 3 / 4..=full).contains(&pause), "failure {n}: {pause} ms");
        }
        let other = Policy { jitter_seed: 8, ..policy.clone() };
        assert_ne!(pauses(&policy), pauses(&other));
    }
}
