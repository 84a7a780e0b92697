//! The last state of this process, always at hand for the image that comes after it.

use std::env;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use rustix::fs::{Mode, OFlags, ftruncate, open};
use rustix::io::pwrite;

use super::image::Image;
use super::{crash, memory_file, resume_variable};

/// The state of this process as it was remembered last. While there is one, a crash of the process executes its program
/// anew, which then arrives with that state; when it is dropped, a crash is a crash again.
#[derive(Debug)]
pub struct Survival {
    /// Written in turn: a crash while one is written finds the other.
    places: [Place; 2],
    program: OwnedFd,
    fallback: Option<OwnedFd>,
}

#[derive(Debug)]
struct Place {
    file: OwnedFd,
    /// How long the file is.
    length: usize,
    /// Allocated by `Box`; the crash handler may use it at any time while it is the one that is armed.
    image: *mut Image,
}

impl Survival {
    /// Prepares to remember. `arguments` are those of the process, the first word included; `fallback` is a program of
    /// before an upgrade, which takes over when this one keeps crashing.
    ///
    /// # Errors
    /// No descriptors left, or no `/proc`.
    pub fn prepare(arguments: &[CString], fallback: Option<OwnedFd>) -> io::Result<Self> {
        let program = open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        let place = || -> io::Result<Place> {
            let file = memory_file()?;
            let kept = vec![file.as_raw_fd()];
            let environment = environment(&file, &program);
            let fallback = fallback.as_ref().map(AsRawFd::as_raw_fd);
            let image = Image::new(program.as_raw_fd(), fallback, kept, arguments.to_vec(), environment);
            Ok(Place { file, length: 0, image: Box::into_raw(Box::new(image)) })
        };
        let places = [place()?, place()?];
        Ok(Self { places, program, fallback })
    }

    /// The program file of this image.
    pub fn program(&self) -> BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// The program file of before an upgrade.
    pub fn fallback(&self) -> Option<BorrowedFd<'_>> {
        self.fallback.as_ref().map(AsFd::as_fd)
    }

    /// Remembers this state instead of the one before. `kept` are the descriptors that it speaks of.
    ///
    /// # Errors
    /// No memory left; the state before stays.
    pub fn remember(&mut self, state: &[u8], kept: &[RawFd]) -> io::Result<()> {
        let [_, spare] = &mut self.places;
        spare.write(state, kept)?;
        let image = spare.image;
        crash::arm(image)?;
        self.places.swap(0, 1);
        Ok(())
    }

    /// Has another program take the place of this one, from this state on. Returns only if that cannot be done; then
    /// nothing has changed.
    #[must_use]
    pub fn execute(&mut self, path: &CStr, arguments: Vec<CString>, state: &[u8], kept: &[RawFd]) -> io::Error {
        let [_, spare] = &mut self.places;
        if let Err(error) = spare.write(state, kept) {
            return error;
        }
        let kept = kept.iter().copied().chain([spare.file.as_raw_fd()]).collect();
        let environment = environment(&spare.file, &self.program);
        Image::new(self.program.as_raw_fd(), None, kept, arguments, environment).execute(path)
    }
}

impl Drop for Survival {
    fn drop(&mut self) {
        crash::disarm();
        for place in &mut self.places {
            // SAFETY: it was made by `Box`, and is not armed any more.
            drop(unsafe { Box::from_raw(place.image) });
            place.image = ptr::null_mut();
        }
    }
}

impl Place {
    fn write(&mut self, state: &[u8], kept: &[RawFd]) -> io::Result<()> {
        // SAFETY: it lives, and as it is not the one that is armed, nobody else uses it.
        let image = unsafe { &mut *self.image };
        image.kept.clear();
        image.kept.extend_from_slice(kept);
        image.kept.push(self.file.as_raw_fd());
        let mut written = 0;
        while let Some(rest) = state.get(written..).filter(|rest| !rest.is_empty()) {
            written += pwrite(&self.file, rest, u64::try_from(written).unwrap_or(u64::MAX))?;
            self.length = self.length.max(written);
        }
        if written < self.length {
            ftruncate(&self.file, u64::try_from(written).unwrap_or(u64::MAX))?;
        }
        self.length = written;
        Ok(())
    }
}

fn environment(state: &OwnedFd, program: &OwnedFd) -> Vec<CString> {
    env::vars_os()
        .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .chain([resume_variable(state.as_raw_fd(), program.as_raw_fd())])
        .collect()
}
