//! Sees at once what happens to the listeners: one epoll set holds them all, so that the event loop polls one descriptor
//! however many there are; and the files of unix sockets are watched by inotify(7).
//!
//! The kernel wakes nobody here for the connections that come and go, since only hang-ups are asked for. The set is that
//! of the superdaemon alone: workers close it at their exec, and it holds no socket that the superdaemon has closed.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::fs::inotify::{self, Reader, WatchFlags};

/// The entry of the inotify descriptor; listeners have the numbers of their places.
const FILES: u64 = u64::MAX;

/// The set, and the watch on files. Without either, if the kernel has none to give, what is seen late is seen when a
/// generation comes or goes.
#[derive(Debug)]
pub struct ListenerWatch {
    set: Option<OwnedFd>,
    files: Option<OwnedFd>,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The listener at this place was shut down.
    HungUp(usize),
    /// Clients wait on it.
    Waiting(usize),
    /// Something has happened to a socket's file.
    Files,
}

impl ListenerWatch {
    /// An empty set.
    pub fn new() -> Self {
        Self { set: epoll::create(CreateFlags::CLOEXEC).ok(), files: None }
    }

    /// Readable when there is something to see.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        self.set.as_ref().map(AsFd::as_fd)
    }

    /// Begins to watch a listener for being shut down.
    pub fn add(&self, place: usize, listener: BorrowedFd) {
        let Some(set) = &self.set else { return };
        let _ = epoll::add(set, listener, EventData::new_u64(place as u64), EventFlags::RDHUP);
    }

    /// Ends that: for a listener that hangs up for good, or is about to be closed.
    pub fn remove(&self, listener: BorrowedFd) {
        if let Some(set) = &self.set {
            let _ = epoll::delete(set, listener);
        }
    }

    /// Tells by a [`Sight::Waiting`], too, that clients wait on a watched listener, or stops to do so. Nobody who waits
    /// is told of again and again, so it must be stopped at the first sight.
    pub fn tell_of_clients(&self, place: usize, listener: BorrowedFd, tell: bool) {
        let Some(set) = &self.set else { return };
        let flags = if tell { EventFlags::RDHUP | EventFlags::IN } else { EventFlags::RDHUP };
        let _ = epoll::modify(set, listener, EventData::new_u64(place as u64), flags);
    }

    /// Watches a socket's file for the loss of a name.
    pub fn add_file(&mut self, path: &Path) {
        let Some(set) = &self.set else { return };
        if self.files.is_none() {
            self.files = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).ok();
            if let Some(files) = &self.files {
                let _ = epoll::add(set, files, EventData::new_u64(FILES), EventFlags::IN);
            }
        }
        if let Some(files) = &self.files {
            // The number of a file's names is one of its attributes.
            let _ =
                inotify::add_watch(files, path, WatchFlags::ATTRIB | WatchFlags::MOVE_SELF | WatchFlags::DONT_FOLLOW);
        }
    }

    /// What there is to see now.
    pub fn sights(&self) -> Vec<Sight> {
        let Some(set) = &self.set else { return Vec::new() };
        let mut sights = Vec::new();
        let mut space = [MaybeUninit::<Event>::uninit(); 64];
        // What does not fit is there at the next turn.
        let (events, _) = epoll::wait(set, &mut space[..], Some(&Timespec::default())).unwrap_or_default();
        for event in events.iter() {
            match (event.data.u64(), event.flags) {
                (FILES, _) => {
                    self.forget_file_events();
                    sights.push(Sight::Files);
                }
                (place, flags) => {
                    let Ok(place) = usize::try_from(place) else { continue };
                    let hung_up = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
                    sights.push(if hung_up { Sight::HungUp(place) } else { Sight::Waiting(place) });
                }
            }
        }
        sights
    }

    fn forget_file_events(&self) {
        let Some(files) = &self.files else { return };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(files, &mut buffer);
        while reader.next().is_ok() {}
    }
}
