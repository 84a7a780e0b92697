//! Executing a program anew in this very process: an upgrade in place, and the way back to life after a crash. The PID
//! stays, children stay children, descriptors and blocked signals stay as they are; everything else that the process
//! knows has to be written down. The event loop keeps its state in a [`Survival`]; the program asks for its
//! [`Arrival`] first of all.
//!
//! ```text
//!   remember(state) ──► memory file ──► execute(another program)          upgrade
//!                            │
//!                            └── panic, SIGSEGV, … ──► execute(itself)     crash; the reason goes with it
//! ```
//!
//! The state travels in a memfd_create(2) file, whose number stands in an environment variable of the new image. That
//! variable is taken out of the environment at once, before anything else could inherit it.

mod arrival;
mod crash;
mod image;
mod survival;

pub use arrival::{Arrival, Inherited, Resumption, arrive};
pub use crash::MOST_IN_A_ROW;
pub(crate) use crash::stay_armed;
pub use survival::Survival;

use std::ffi::CString;
use std::io;
use std::os::fd::{OwnedFd, RawFd};

use rustix::fs::{MemfdFlags, memfd_create};

/// Names the memory file: `resume:STATE:PROGRAM` or `trial:STATE`, descriptors both.
const STATE_VARIABLE: &str = "START_SERVER_STATE";

/// Says after a crash when the last ones were, and what the last was.
const CRASH_VARIABLE: &str = "START_SERVER_CRASH";

/// The environment variable for a process that is to say whether it could go on from the state that it finds at this
/// descriptor: it gets [`Arrival::Trial`].
#[must_use]
pub fn trial_variable(state: RawFd) -> CString {
    variable(STATE_VARIABLE, &format!("trial:{state}"))
}

/// A file without a name, for a state.
///
/// # Errors
/// Those of memfd_create(2).
pub fn memory_file() -> io::Result<OwnedFd> {
    let create = |flags| memfd_create(c"start_server state", MemfdFlags::CLOEXEC | flags);
    // A machine can be told to refuse files of this kind that could be executed, and an old one does not know the flag.
    Ok(create(MemfdFlags::NOEXEC_SEAL).or_else(|_| create(MemfdFlags::empty()))?)
}

/// All descriptors of this process are the business of this image from now on: none is inherited by accident.
pub fn settle() {
    crate::spawn::mark_everything();
}

/// From now on a SIGABRT that another process sends is obeyed: it ends this one, and nothing is executed anew.
pub fn let_abort_end_it() {
    crash::let_abort_end_it();
}

/// How many crashes of this process there were within the last minute.
#[must_use]
pub fn recent_crashes() -> usize {
    crash::recent()
}

fn resume_variable(state: RawFd, program: RawFd) -> CString {
    variable(STATE_VARIABLE, &format!("resume:{state}:{program}"))
}

fn variable(name: &str, value: &str) -> CString {
    // Neither has a zero byte in it.
    CString::new(format!("{name}={value}")).unwrap_or_default()
}
