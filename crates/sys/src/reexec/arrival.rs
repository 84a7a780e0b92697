//! What an image finds that takes the place of another one.

use std::collections::BTreeSet;
use std::env;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;

use super::image::Image;
use super::{CRASH_VARIABLE, STATE_VARIABLE, crash, resume_variable};

/// Why this process was not started from scratch.
#[derive(Debug)]
pub enum Arrival {
    /// It is to say whether it could go on from this state, and to end.
    Trial {
        /// The state.
        state: Vec<u8>,
        /// Its listeners, to be looked at.
        inherited: Inherited,
    },
    /// It takes the place of another image in the same process.
    Resumption(Resumption),
}

/// What the image before has left.
#[derive(Debug)]
pub struct Resumption {
    /// Its state, as it remembered it.
    pub state: Vec<u8>,
    /// Its program file.
    pub program: OwnedFd,
    /// Its descriptors, to be taken over one by one.
    pub inherited: Inherited,
    /// How it crashed, if it did.
    pub crash: Option<String>,
    /// What the state was read from. Like the program file it must stay open until this image has remembered a state of
    /// its own.
    pub file: OwnedFd,
}

/// The descriptors of the image before: those that were open before this image had opened any. A number that the image
/// before has closed since it named it may be one of this image's own by now.
#[derive(Debug)]
pub struct Inherited {
    left: BTreeSet<RawFd>,
}

/// Looks whether this process takes the place of another image, and removes all trace of that from the environment. To
/// be called once, before anything else, while there is a single thread.
///
/// # Errors
/// What there should be is not there: whoever has set the variable was no image of ours.
pub fn arrive() -> io::Result<Option<Arrival>> {
    let (state, crash) = (env::var_os(STATE_VARIABLE), env::var_os(CRASH_VARIABLE));
    for name in [STATE_VARIABLE, CRASH_VARIABLE] {
        // SAFETY: there is a single thread, so nobody else looks at the environment.
        unsafe { env::remove_var(name) };
    }
    let Some(state) = state else { return Ok(None) };
    let unknown = || io::Error::new(io::ErrorKind::InvalidInput, "it names no descriptors");
    let mut inherited = Inherited::look()?;
    let state = state.to_str().ok_or_else(unknown)?;
    let mut words = state.split(':');
    let (purpose, mut numbers) = (words.next(), words.map(|word| word.parse::<RawFd>().ok()));
    let mut next = || numbers.next().flatten().and_then(|number| inherited.take(number)).ok_or_else(unknown);
    match purpose {
        Some("trial") => {
            let mut text = Vec::new();
            File::from(next()?).read_to_end(&mut text)?;
            Ok(Some(Arrival::Trial { state: text, inherited }))
        }
        Some("resume") => {
            let (state, program) = (next()?, next()?);
            let crash = crash.map(|record| crash::recall(&record.to_string_lossy()));
            go_back_if_this_crashes(&state, &program)?;
            let text = read(&state)?;
            Ok(Some(Arrival::Resumption(Resumption { state: text, program, inherited, crash, file: state })))
        }
        _ => Err(unknown()),
    }
}

impl Resumption {
    /// This image cannot go on: the one before gets its place back, with all descriptors, and the reason.
    pub fn go_back(reason: &str) -> ! {
        crash::give_up(reason)
    }
}

impl Inherited {
    /// What is open now. To be called before this image opens anything.
    fn look() -> io::Result<Self> {
        // Those below are everybody's, and stay open.
        const FIRST_AFTER_STDERR: RawFd = 3;
        let listed: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|&number| number >= FIRST_AFTER_STDERR)
            .collect();
        // The list was read through a descriptor, which is closed again.
        Ok(Self { left: listed.into_iter().filter(|&number| is_open(number)).collect() })
    }

    /// Takes a descriptor over, once. None if it was not open when this image began, or was taken already.
    pub fn take(&mut self, number: RawFd) -> Option<OwnedFd> {
        if !self.left.remove(&number) {
            return None;
        }
        // SAFETY: it came with the process and only what was taken here owns it in this image, once.
        Some(unsafe { OwnedFd::from_raw_fd(number) })
    }
}

fn is_open(number: RawFd) -> bool {
    // SAFETY: takes integers only.
    unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
}

/// Nothing was changed yet that the image before needs: if this one crashes before it has a state of its own, that one
/// finds everything as it left it.
fn go_back_if_this_crashes(state: &OwnedFd, program: &OwnedFd) -> io::Result<()> {
    let arguments = env::args_os().filter_map(|word| CString::new(word.as_bytes()).ok()).collect();
    let environment = env::vars_os()
        .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .chain([resume_variable(state.as_raw_fd(), program.as_raw_fd())])
        .collect();
    let image = Image::new(program.as_raw_fd(), None, vec![state.as_raw_fd()], arguments, environment);
    // It is needed until the first state is remembered, and is small: it is never freed.
    crash::arm(Box::into_raw(Box::new(image)))
}

/// Reads from the beginning, wherever another image has left off.
fn read(state: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let length = rustix::io::pread(state, &mut buffer, u64::try_from(text.len()).unwrap_or(u64::MAX))?;
        if length == 0 {
            return Ok(text);
        }
        text.extend_from_slice(buffer.get(..length).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::fcntl_dupfd_cloexec;

    /// High enough that no other test of this process has it.
    const AWAY: RawFd = 800;

    #[test]
    fn what_is_taken_was_there_before_and_is_taken_once() {
        let open = || fcntl_dupfd_cloexec(File::open("/dev/null").unwrap(), AWAY).unwrap();
        let before = std::os::fd::IntoRawFd::into_raw_fd(open());
        let mut inherited = Inherited::look().unwrap();
        let ours = open();
        assert!(inherited.take(ours.as_raw_fd()).is_none(), "it was opened by this image");
        assert_eq!(inherited.take(before).unwrap().as_raw_fd(), before);
        let again = open();
        assert_eq!(again.as_raw_fd(), before);
        assert!(inherited.take(before).is_none(), "the number was taken, and has another owner now");
    }
}
