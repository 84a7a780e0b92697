//! What the explorer needs of a machine: the real supervisor has it, and so have the broken ones
//! that show that the explorer would notice.

use std::hash::Hash;

use crate::{Action, Event, Instant, Pid, Supervisor};

/// A machine under test.
pub trait Machine: Clone + Eq + Hash {
    /// See [`Supervisor::handle`].
    fn handle(&mut self, now: Instant, event: Event) -> Vec<Action>;

    /// See [`Supervisor::next_deadline`].
    fn next_deadline(&self) -> Option<Instant>;

    /// The processes that it believes to exist, in numeric order.
    fn workers(&self) -> Vec<Pid>;
}

impl Machine for Supervisor {
    fn handle(&mut self, now: Instant, event: Event) -> Vec<Action> {
        Supervisor::handle(self, now, event)
    }

    fn next_deadline(&self) -> Option<Instant> {
        Supervisor::next_deadline(self)
    }

    fn workers(&self) -> Vec<Pid> {
        let mut workers: Vec<Pid> = self.generations().into_iter().flat_map(|generation| generation.workers).collect();
        workers.sort_unstable();
        workers
    }
}
