//! Clients of an example server, each in a thread of its own, which ask without a pause and keep an account of every
//! answer and every loss. Used by the tests of the examples, with the clients of `http_load.rs` or their own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crate::wait_for;

/// What came of the requests of one class of clients, or of all.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Requests answered, by the first words of the answer: `generation 3`.
    pub answered: BTreeMap<String, u64>,
    /// Requests that were not, in words.
    pub lost: Vec<String>,
}

/// Clients that are at it.
#[derive(Debug, Default)]
pub struct Load {
    stop: Arc<AtomicBool>,
    clients: Vec<(&'static str, Arc<AtomicU64>, JoinHandle<Outcome>)>,
}

impl Load {
    /// No clients yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a client: `request` makes one request and gives the answer. `class` is what such clients are called when
    /// one of their requests is lost.
    pub fn client(
        mut self,
        class: &'static str,
        mut request: impl FnMut() -> Result<String, String> + Send + 'static,
    ) -> Self {
        let (stop, count) = (Arc::clone(&self.stop), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&count);
        let client = thread::spawn(move || {
            let mut outcome = Outcome::default();
            while !stop.load(Ordering::Relaxed) {
                match request() {
                    Ok(answer) => *outcome.answered.entry(first_words(&answer)).or_default() += 1,
                    Err(loss) => outcome.lost.push(format!("{class}: {loss}")),
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
            outcome
        });
        self.clients.push((class, count, client));
        self
    }

    /// Waits until each client has made some more requests.
    ///
    /// # Panics
    /// When that takes longer than [`patience`](crate::patience).
    pub fn wait_requests(&self, more: u64) {
        for (class, count, _) in &self.clients {
            let goal = count.load(Ordering::Relaxed) + more;
            let what = || format!("{more} more requests of the client “{class}”");
            wait_for(what, || (count.load(Ordering::Relaxed) >= goal).then_some(()));
        }
    }

    /// Lets the clients finish what they are at.
    ///
    /// # Panics
    /// When one of them has panicked.
    pub fn stop(mut self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Outcome::default();
        for (class, _, client) in self.clients.drain(..) {
            let one = client.join().unwrap_or_else(|_| panic!("the client “{class}” has panicked"));
            all.lost.extend(one.lost);
            for (who, count) in one.answered {
                *all.answered.entry(who).or_default() += count;
            }
        }
        all
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn first_words(answer: &str) -> String {
    answer.split([',', ':', '\n']).next().unwrap_or_default().to_owned()
}
