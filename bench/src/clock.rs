//! The clock that all stamps are of, and waiting with a limit. Everything that measures uses it.

use std::thread;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Nobody waits for anything longer than this.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Nanoseconds of the monotonic clock, as in the servers' records.
pub fn now() -> i64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec)
}

/// From one moment to another, in milliseconds.
pub fn ms(from: i64, to: i64) -> f64 {
    (to.saturating_sub(from)) as f64 / 1e6
}

/// Looks again and again until there is something to see.
///
/// # Errors
/// A sentence that names what did not come.
pub fn wait<T>(what: &str, look: impl FnMut() -> Option<T>) -> Result<T, String> {
    wait_in_steps(what, Duration::from_millis(1), look)
}

/// The same, looking as often as that.
pub fn wait_in_steps<T>(what: &str, step: Duration, mut look: impl FnMut() -> Option<T>) -> Result<T, String> {
    let end = now().saturating_add(i64::try_from(PATIENCE.as_nanos()).unwrap_or(i64::MAX));
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if now() > end {
            return Err(format!("{what} did not come within {} s", PATIENCE.as_secs()));
        }
        thread::sleep(step);
    }
}
