//! The identifiers of processes, generations and requests, and what a process leaves behind.

use std::fmt;

/// The identifier of a process that the superdaemon spawned, as the kernel numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Pid(pub i32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a generation: 1 for the first, and the next for every further attempt to run the
/// program, failed ones too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct GenerationNumber(pub u32);

impl fmt::Display for GenerationNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one request of somebody who waits for its answer. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RequestId(pub u64);

/// A wait status as wait(2) gives it: the exit code times 256, or the number of the signal that
/// ended the process, plus 128 if it dumped core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ExitStatus(pub i32);

impl ExitStatus {
    /// The end of a process that was not our child: only its parent was told how it ended.
    pub const UNKNOWN: Self = Self(-1);

    /// The exit code, if the process ended by itself.
    pub fn code(self) -> Option<i32> {
        (self.0 & 0x7f == 0).then_some((self.0 >> 8) & 0xff)
    }

    /// The number of the signal that ended the process.
    pub fn signal(self) -> Option<i32> {
        let signal = self.0 & 0x7f;
        (signal != 0 && signal != 0x7f).then_some(signal)
    }

    /// Whether it left a core dump.
    pub fn dumped_core(self) -> bool {
        self.signal().is_some() && self.0 & 0x80 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_wait_statuses() {
        assert_eq!(ExitStatus(0).code(), Some(0));
        assert_eq!(ExitStatus(65280).code(), Some(255));
        assert_eq!((ExitStatus(256).signal(), ExitStatus(256).dumped_core()), (None, false));
        assert_eq!((ExitStatus(15).code(), ExitStatus(15).signal()), (None, Some(15)));
        assert_eq!((ExitStatus::UNKNOWN.code(), ExitStatus::UNKNOWN.signal()), (None, None));
        assert_eq!((ExitStatus(139).signal(), ExitStatus(139).dumped_core()), (Some(11), true));
    }
}
