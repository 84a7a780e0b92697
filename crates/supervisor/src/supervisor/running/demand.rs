//! Who wants a new generation, and waits for what to become of it. An attempt has a demand, and so has the restart that
//! comes after it.

use crate::event::{Requester, Until};
use crate::process::RequestId;

/// Who wants a new generation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Demand {
    /// Something that does not wait for an answer, and so never gives up: a signal, the clock, that nobody serves, or a
    /// client that has hung up.
    pub(super) stands: bool,
    pub(super) waiters: Vec<Waiter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Waiter {
    pub(super) request: RequestId,
    pub(super) until: Until,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub(super) struct Queued {
    pub(super) first: Requester,
    pub(super) demand: Demand,
}

impl Demand {
    pub(super) fn standing() -> Self {
        Self { stands: true, waiters: Vec::new() }
    }

    pub(super) fn of(requester: Requester) -> Self {
        match requester {
            Requester::Signal | Requester::Superdaemon => Self::standing(),
            Requester::Client { request, until } => Self { stands: false, waiters: vec![Waiter { request, until }] },
        }
    }

    pub(super) fn join(&mut self, other: Demand) {
        self.stands |= other.stands;
        self.waiters.extend(other.waiters);
    }

    /// Whether this request was among those that wait, and is not any more.
    pub(super) fn drop_out(&mut self, request: RequestId) -> bool {
        let before = self.waiters.len();
        self.waiters.retain(|waiter| waiter.request != request);
        self.waiters.len() < before
    }

    pub(super) fn is_gone(&self) -> bool {
        !self.stands && self.waiters.is_empty()
    }

    pub(super) fn requests(&self) -> impl Iterator<Item = RequestId> + '_ {
        self.waiters.iter().map(|waiter| waiter.request)
    }
}
