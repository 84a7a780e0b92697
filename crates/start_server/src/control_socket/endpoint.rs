//! Where the control socket listens: at the path that an option gives, else in the run directory. Nobody but our user
//! and root can connect to it, wherever it is.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode};
use rustix::process::umask;
use sys::reexec::Inherited;

use crate::errno::io_reason;
use crate::file_identity::FileIdentity;
use crate::files::Place;
use crate::handover::descriptor::{Descriptor, Kept, take as take_over};
use crate::handover::state;
use crate::run_directory::{Kind, RunDirectory};

/// A listening socket with the file that commands connect to.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) listener: UnixListener,
    /// The file to remove at the end, if it still is ours.
    file: (PathBuf, FileIdentity),
}

impl Endpoint {
    /// Listens at `path`. A socket file that nobody listens on is replaced; anything else there is left alone.
    ///
    /// # Errors
    /// A sentence.
    pub fn at(path: &Path) -> Result<Self, String> {
        let failed = |error: io::Error| {
            let why = io_reason(&error);
            format!("failed to open the control socket {}: {why}; give a path in a directory of yours", path.display())
        };
        let place = Place::of(path).map_err(failed)?;
        let found = place.look().ok().filter(|found| FileType::from_raw_mode(found.st_mode) == FileType::Socket);
        if let Some(found) = found {
            if is_in_use(path) {
                return Err(format!(
                    "the control socket {} is in use by another superdaemon; stop that one, or give another path",
                    path.display()
                ));
            }
            if place.has(FileIdentity::of_stat(&found)) {
                place.remove().map_err(|errno| failed(errno.into()))?;
            }
        }
        Self::bind(path, &place).map_err(failed)
    }

    /// Listens in the run directory, under a name that is new.
    ///
    /// # Errors
    /// A sentence.
    pub fn within(run: &RunDirectory) -> Result<Self, String> {
        let bound = run.new_name(Kind::Control).and_then(|path| Self::bind(&path, &Place::of(&path)?));
        bound.map_err(|error| {
            format!("failed to open a control socket in {}: {}", run.path().display(), io_reason(&error))
        })
    }

    /// The socket as the image before had it.
    ///
    /// None if it is not there; or if it has an abstract name, as in version 0.1.0: such a name is not its user's alone,
    /// so that another socket has to take its place.
    pub fn resume(listener: Descriptor, file: Option<state::File>, inherited: &mut Inherited) -> Option<Self> {
        let listener = UnixListener::from(take_over(inherited, listener)?);
        let file = file?;
        Some(Self { listener, file: (file.path.into(), file.identity) })
    }

    /// What the next image of the program has to know of it.
    pub fn state(&self, kept: &mut Kept) -> (Descriptor, state::File) {
        let (path, identity) = &self.file;
        (kept.keep(self.listener.as_fd()), state::File { path: path.as_path().into(), identity: *identity })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.file.0
    }

    /// Removes the file, if it still is ours.
    pub fn remove(&self) {
        let (path, identity) = &self.file;
        if identity.is_at(path)
            && let Ok(place) = Place::of(path)
            && place.has(*identity)
        {
            // At the end there is nobody left to be told.
            let _ = place.remove();
        }
    }

    fn bind(path: &Path, place: &Place) -> io::Result<Self> {
        let before = umask(Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener?;
        listener.set_nonblocking(true)?;
        // Nobody's descriptors are wanted here.
        sys::credentials::refuse_descriptors(&listener);
        Ok(Self { file: (path.to_owned(), FileIdentity::of_stat(&place.look()?)), listener })
    }
}

/// Whether somebody listens there. One whose queue is full, or who is slow, does as well.
fn is_in_use(path: &Path) -> bool {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None);
    let connected = socket.and_then(|socket| connect(&socket, &SocketAddrUnix::new(path)?));
    matches!(connected, Ok(()) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INPROGRESS))
}
