//! Descriptors in the state: each is named by its number, and by what it is open on, so that another one that has got
//! the number meanwhile is not taken for it. A program that crashes may have closed and opened some since its state was
//! written down.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::fs::fstat;
use serde::{Deserialize, Serialize};
use sys::reexec::Inherited;

/// A descriptor of the process, as it stands in the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Its number.
    pub fd: RawFd,
    /// What it is open on: `st_dev` and `st_ino` of fstat(2).
    pub device: u64,
    /// See `device`.
    pub inode: u64,
}

/// Collects the descriptors that a state speaks of: they are to stay open for whoever reads it.
#[derive(Debug, Default)]
pub struct Kept {
    numbers: Vec<RawFd>,
}

impl Kept {
    /// Keeps a descriptor.
    pub fn keep(&mut self, fd: BorrowedFd<'_>) -> Descriptor {
        self.numbers.push(fd.as_raw_fd());
        let (device, inode) = identity(fd).unwrap_or_default();
        Descriptor { fd: fd.as_raw_fd(), device, inode }
    }

    /// Keeps a descriptor that was kept before and is open on the same as then: the file need not be asked.
    pub fn keep_again(&mut self, known: Descriptor) -> Descriptor {
        self.numbers.push(known.fd);
        known
    }

    /// Keeps what another collection keeps, too.
    pub fn keep_all(&mut self, others: &Kept) {
        self.numbers.extend(&others.numbers);
    }

    /// All of them.
    pub fn numbers(&self) -> &[RawFd] {
        &self.numbers
    }
}

/// Takes a descriptor over that a state speaks of. None if it is not what it was.
pub fn take(inherited: &mut Inherited, named: Descriptor) -> Option<OwnedFd> {
    use std::os::fd::AsFd;
    // Whatever has the number now is nobody's: it is closed.
    let taken = inherited.take(named.fd)?;
    (identity(taken.as_fd()) == Some((named.device, named.inode))).then_some(taken)
}

fn identity(fd: BorrowedFd<'_>) -> Option<(u64, u64)> {
    let status = fstat(fd).ok()?;
    Some((status.st_dev, status.st_ino))
}
