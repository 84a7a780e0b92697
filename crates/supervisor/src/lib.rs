//! Decides what a superdaemon does next, and does none of it.
//!
//! A [`Supervisor`] is told what happened ([`Event`]) and answers with what is to be done
//! ([`Action`]). It holds no clock, no file and no process: time arrives with each event, and the
//! program that owns the supervisor carries the actions out and reports their results as further
//! events. The same events at the same times always give the same actions, so everything that
//! start_server can decide is tested here without a process, a socket or a sleep.
//!
//! | module | holds |
//! |---|---|
//! | [`event`] | everything that can happen |
//! | [`action`] | everything that can be asked for, and the answers to requests |
//! | [`report`] | the facts that a person is told, typed; the program puts them into words |
//! | [`policy`] | what the operator chose: intervals, limits, the readiness rule |
//! | [`process`] | a process identifier and what is left of a process when it has ended |
//! | [`time`] | instants |
//! | `generation` | one generation and its workers |
//! | `backoff` | how long to wait after a failure |
//! | `supervisor` | the state machine |

#![forbid(unsafe_code)]

pub mod action;
mod backoff;
pub mod event;
mod generation;
pub mod policy;
pub mod process;
pub mod report;
mod supervisor;
pub mod time;

#[cfg(test)]
mod explorer;

pub use action::{Action, Order, Outcome, RunningWorker};
pub use event::{Event, Requester, StopRequester};
pub use policy::{AutoRestart, Policy, Readiness, Settings};
pub use process::{ExitStatus, GenerationNumber, Pid, RequestId};
pub use report::Report;
pub use supervisor::{GenerationState, Memory, Role, Supervisor};
pub use time::Instant;
