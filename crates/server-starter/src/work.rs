//! Counting what runs, so that a server with threads can finish it within a deadline.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The connections, or other pieces of work, that are under way. Clones count together.
///
/// ```
/// use std::time::Duration;
///
/// let work = server_starter::Work::default();
/// let running = work.begin();
/// std::thread::spawn(move || {
///     // … serve a connection …
///     drop(running);
/// });
/// // After the stop, when nothing is accepted any more:
/// assert_eq!(work.finish(Duration::from_secs(10)), 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Work {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    running: Mutex<usize>,
    one_less: Condvar,
}

/// A piece of work, which is over when this value is dropped, by a panic as well.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
}

impl Work {
    /// Counts one more.
    #[must_use = "the work is over when this value is dropped"]
    pub fn begin(&self) -> Running {
        *self.shared.count() += 1;
        Running { shared: Arc::clone(&self.shared) }
    }

    /// Waits until nothing runs, at most until the deadline. Gives how many were still running then.
    pub fn finish(&self, deadline: Duration) -> usize {
        let waited = self.shared.one_less.wait_timeout_while(self.shared.count(), deadline, |running| *running > 0);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Shared {
    fn count(&self) -> MutexGuard<'_, usize> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        *self.shared.count() -= 1;
        self.shared.one_less.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_waited_for_until_the_deadline() {
        let work = Work::default();
        assert_eq!(work.finish(Duration::ZERO), 0);
        let (one, other) = (work.begin(), work.clone().begin());
        assert_eq!(work.finish(Duration::from_millis(1)), 2);
        drop(one);
        assert_eq!(work.finish(Duration::from_millis(1)), 1);
        let thread = std::thread::spawn(move || {
            let _other = other;
            panic!("a connection that goes wrong");
        });
        assert_eq!(work.finish(Duration::from_secs(60)), 0);
        assert!(thread.join().is_err());
    }
}
