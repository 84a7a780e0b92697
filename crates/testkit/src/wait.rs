//! Waiting for something to happen: the only place of the test kit that sleeps. Used by everything else here.

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for one event before it gives up: 20 s, times `TEST_PATIENCE` (a number) where that is set.
///
/// The limit is never a measure of what is expected: a test that meets it has failed.
pub fn patience() -> Duration {
    let factor = std::env::var("TEST_PATIENCE").ok().and_then(|text| text.parse::<f64>().ok()).unwrap_or(1.0);
    Duration::from_secs(20).mul_f64(factor.max(0.1))
}

/// Calls `look` every few milliseconds until it finds something, and gives that.
///
/// # Panics
/// When nothing was found within [`patience`]; the message says that `what` did not happen.
pub fn wait_for<T>(what: impl Fn() -> String, mut look: impl FnMut() -> Option<T>) -> T {
    let limit = patience();
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < limit, "waited {} s in vain for {}", limit.as_secs(), what());
        thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_late_is_found() {
        let mut turns = 0;
        let found = wait_for(
            || "the third turn".to_owned(),
            || {
                turns += 1;
                (turns == 3).then_some(turns)
            },
        );
        assert_eq!(found, 3);
    }
}
