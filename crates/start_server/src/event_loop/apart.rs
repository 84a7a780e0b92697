//! The throw-away processes of the superdaemon: what may wait is done by them, so that no turn of the loop does. The
//! event loop knows them among its children by this list, and nothing of it waits for one. They belong to no generation.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use sys::apart::{self, Apart, Reporter};

/// Where there are more than so many, the oldest hangs and is ended.
const MOST: usize = 8;
/// Some may hang in the kernel and not heed that. Beyond so many there are no more.
const MOST_AT_ALL: usize = 64;

/// Those that were not reaped.
#[derive(Debug, Default)]
pub struct ApartProcesses {
    /// The oldest first.
    processes: Vec<Known>,
    /// What there was no process to close with.
    unclosed: Vec<OwnedFd>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    pid: i32,
    was_ended: bool,
}

impl ApartProcesses {
    /// See [`Apart::begin`].
    ///
    /// # Errors
    /// Those of it, or too many hang.
    pub fn begin(&mut self, given: &[BorrowedFd<'_>], task: impl FnOnce(&Reporter)) -> io::Result<Apart> {
        self.make_room()?;
        let begun = Apart::begin(given, task)?;
        self.note(begun.pid());
        Ok(begun)
    }

    /// Closes a descriptor on which something may have come that was not read: that may be closed with it.
    pub fn close(&mut self, descriptor: OwnedFd) {
        self.unclosed.push(descriptor);
        while let Some(descriptor) = self.unclosed.pop() {
            let begun = match self.make_room() {
                Ok(()) => Apart::close(descriptor),
                Err(error) => Err((error, descriptor)),
            };
            match begun {
                Ok(begun) => self.note(begun.pid()),
                // It stays open until the next is to be closed.
                Err((_, descriptor)) => return self.unclosed.push(descriptor),
            }
        }
    }

    /// Whether this child is one of them.
    pub fn has(&self, pid: i32) -> bool {
        self.processes.iter().any(|known| known.pid == pid)
    }

    /// All of them.
    pub fn pids(&self) -> impl Iterator<Item = i32> + '_ {
        self.processes.iter().map(|known| known.pid)
    }

    /// Takes note that a child was reaped. Whether it was one of them.
    pub fn reaped(&mut self, pid: i32) -> bool {
        let before = self.processes.len();
        self.processes.retain(|known| known.pid != pid);
        self.processes.len() < before
    }

    /// Ends one that is not wanted any more.
    pub fn end(&mut self, pid: i32) {
        for known in self.processes.iter_mut().filter(|known| known.pid == pid && !known.was_ended) {
            apart::end(known.pid);
            known.was_ended = true;
        }
    }

    /// Ends all of them.
    pub fn end_all(&mut self) {
        let pids: Vec<i32> = self.pids().collect();
        pids.into_iter().for_each(|pid| self.end(pid));
    }

    /// Takes note of those of the image before, which nobody listens to.
    pub fn resume(pids: impl IntoIterator<Item = i32>) -> Self {
        let processes = pids.into_iter().map(|pid| Known { pid, was_ended: false }).collect();
        let mut resumed = Self { processes, unclosed: Vec::new() };
        resumed.end_all();
        resumed
    }

    fn make_room(&mut self) -> io::Result<()> {
        let at_work = self.processes.iter().filter(|known| !known.was_ended);
        if at_work.clone().count() >= MOST
            && let Some(oldest) = at_work.map(|known| known.pid).next()
        {
            self.end(oldest);
        }
        if self.processes.len() < MOST_AT_ALL { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    fn note(&mut self, pid: i32) {
        self.processes.push(Known { pid, was_ended: false });
    }
}
