//! What execve(2) needs, laid out beforehand, so that even a signal handler can do it.

use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::RawFd;
use std::ptr;

use super::crash::Record;

/// A program image of this process that could take the place of this one.
#[derive(Debug)]
pub(super) struct Image {
    /// The program file that is executed.
    pub program: RawFd,
    /// Executed instead when this image keeps crashing.
    pub fallback: Option<RawFd>,
    /// The descriptors that the next image needs.
    pub kept: Vec<RawFd>,
    /// Point into the strings below; both end with a null pointer.
    argument_pointers: Vec<*const c_char>,
    environment_pointers: Vec<*const c_char>,
    _strings: [Vec<CString>; 2],
}

impl Image {
    /// `environment` is all of it, but for what a crash adds.
    pub fn new(
        program: RawFd,
        fallback: Option<RawFd>,
        kept: Vec<RawFd>,
        arguments: Vec<CString>,
        environment: Vec<CString>,
    ) -> Self {
        let pointers = |strings: &[CString]| strings.iter().map(|string| string.as_ptr()).collect::<Vec<_>>();
        let mut argument_pointers = pointers(&arguments);
        argument_pointers.push(ptr::null());
        let mut environment_pointers = pointers(&environment);
        // One for the record of a crash, one for the end.
        environment_pointers.extend([ptr::null(), ptr::null()]);
        let _strings = [arguments, environment];
        Self { program, fallback, kept, argument_pointers, environment_pointers, _strings }
    }

    /// Executes the program file after a crash. Returns if that cannot be done. Async-signal-safe.
    pub fn execute_after_crash(&mut self, record: &Record, program: RawFd) {
        let slot = self.environment_pointers.len().saturating_sub(2);
        if let Some(place) = self.environment_pointers.get_mut(slot) {
            *place = record.as_ptr();
        }
        self.keep_descriptors(true);
        self.execute_file(program);
    }

    /// Executes the program at `path`. Returns if that cannot be done, and then nothing has changed.
    pub fn execute(&mut self, path: &CStr) -> io::Error {
        self.keep_descriptors(true);
        // SAFETY: the strings and both lists end with their NUL and live until the program replaces them.
        unsafe {
            libc::execve(path.as_ptr(), self.argument_pointers.as_ptr(), self.environment_pointers.as_ptr());
        }
        let error = io::Error::last_os_error();
        self.keep_descriptors(false);
        error
    }

    fn execute_file(&self, program: RawFd) {
        // SAFETY: as in `execute`; with AT_EMPTY_PATH the descriptor itself is executed, see execveat(2).
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                program,
                c"".as_ptr(),
                self.argument_pointers.as_ptr(),
                self.environment_pointers.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
        }
    }

    fn keep_descriptors(&self, keep: bool) {
        for number in self.kept.iter().copied().chain([self.program]).chain(self.fallback) {
            // One that was closed meanwhile is not missed: the next image sees that it is gone.
            // SAFETY: takes integers only.
            unsafe { libc::fcntl(number, libc::F_SETFD, if keep { 0 } else { libc::FD_CLOEXEC }) };
        }
    }
}
