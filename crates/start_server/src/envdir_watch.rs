//! Notices when a file of the environment directory changes, so that a setting takes effect without anybody asking
//! and without a look at the clock. The event loop polls it; see inotify(7).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};

/// So many events are read at a time; the kernel keeps 16,384.
const MOST_EVENTS: usize = 20_000;

/// A watch on a directory that may come and go.
#[derive(Debug)]
pub struct EnvdirWatch {
    directory: PathBuf,
    /// None if the kernel has no more to give; then changes are seen at the next restart, as by the original.
    events: Option<OwnedFd>,
}

impl EnvdirWatch {
    /// Watches a directory, which need not exist. One that cannot be asked for is watched after the next restart.
    pub fn new(directory: &Path, answers: bool) -> Self {
        let events = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok();
        let mut watch = Self { directory: directory.to_owned(), events };
        watch.renew(answers);
        watch
    }

    /// Forgets what has happened, and if its file system answers, watches the directory that has the name now.
    pub fn renew(&mut self, answers: bool) {
        let Some(events) = &self.events else { return };
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(events, &mut buffer);
        // What comes faster than that wakes us again.
        for _ in 0..MOST_EVENTS {
            if reader.next().is_err() {
                break;
            }
        }
        if !answers {
            return;
        }
        let changes = WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE
            | WatchFlags::CREATE
            | WatchFlags::ONLYDIR;
        // The same directory has the same watch. One that is not there yet is looked for at the next restart.
        let _ = inotify::add_watch(events, &self.directory, changes);
    }

    /// Readable when something has changed.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.events.as_ref().map(AsFd::as_fd)
    }
}
