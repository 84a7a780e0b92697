//! Going into the background: the classic double fork, with a pipe on which the daemon tells the process that the
//! user started how the start went, so that this one can end with the truth in its exit code.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{WaitOptions, setsid, waitpid};

use crate::signal::Mask;

/// Which of the two processes the caller finds itself in after [`into_background`].
#[derive(Debug)]
pub enum Role {
    /// The process that the user started. It should wait for the notice, tell the user, and end.
    Launcher(Notice),
    /// The daemon: no terminal, a session that it does not lead, adopted by init.
    Daemon(Voice),
}

/// The launcher's end: what the daemon has to say about its start.
#[derive(Debug)]
pub struct Notice(io::PipeReader);

/// The daemon's end. Dropping it without a word tells the launcher that the daemon died.
#[derive(Debug)]
pub struct Voice(io::PipeWriter);

const STARTED: u8 = b'+';
const FAILED: u8 = b'-';

/// What is said when the daemon says nothing: it was killed or it crashed.
const SILENCE: &str = "the process in the background ended before it had started; its log may tell why";

/// Splits the process in two: the launcher, and a daemon in a session of its own without a terminal.
///
/// The daemon inherits everything else: descriptors, locks, directory, umask, blocked signals. In the launcher no
/// signal is blocked any more, so that it can be interrupted while it waits.
///
/// # Errors
/// No process, pipe or memory to be had; or the process has several threads, of which the daemon would get only one.
pub fn into_background() -> io::Result<Role> {
    if fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1) {
        return Err(io::Error::other("a process with several threads cannot go into the background"));
    }
    let (reader, writer) = io::pipe()?;
    match fork()? {
        Some(child) => {
            drop(writer);
            Mask::EMPTY.set()?;
            // The child ends as soon as the daemon is forked. Waiting fails if the caller had CHLD ignored, and then
            // there is nothing left to reap.
            let _ = rustix::io::retry_on_intr(|| waitpid(Some(child), WaitOptions::empty()));
            Ok(Role::Launcher(Notice(reader)))
        }
        None => {
            drop(reader);
            let voice = Voice(writer);
            // After a fork this process leads no group, so setsid(2) cannot fail.
            let daemon = setsid().map_err(io::Error::from).and_then(|_| fork());
            match daemon {
                Ok(None) => return Ok(Role::Daemon(voice)),
                Ok(Some(_)) => drop(voice),
                Err(error) => voice.failed(&format!("failed to start a process for the background: {error}")),
            }
            // SAFETY: ends this process at once; what is buffered or to be cleaned up belongs to the other two.
            unsafe { libc::_exit(0) }
        }
    }
}

/// The child's PID in the parent, `None` in the child.
fn fork() -> io::Result<Option<rustix::process::Pid>> {
    // SAFETY: the caller has made sure that there is a single thread, so that no lock can be held by a thread that
    // the child does not have.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(rustix::process::Pid::from_raw(pid)),
    }
}

impl Notice {
    /// Blocks until the daemon has reported or is gone: `Ok(())` when it has started, else why it has not.
    ///
    /// # Errors
    /// Those of read(2); none is expected.
    pub fn wait(mut self) -> io::Result<Result<(), String>> {
        let mut report = Vec::new();
        self.0.read_to_end(&mut report)?;
        Ok(match report.split_first() {
            Some((&STARTED, _)) => Ok(()),
            Some((_, text)) => Err(String::from_utf8_lossy(text).into_owned()),
            None => Err(SILENCE.to_owned()),
        })
    }
}

impl From<OwnedFd> for Voice {
    /// The writing end, as another image of this process had it.
    fn from(writer: OwnedFd) -> Self {
        Self(writer.into())
    }
}

impl AsFd for Voice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Voice {
    /// Tells the launcher that the start is complete.
    pub fn started(self) {
        self.say(&[STARTED]);
    }

    /// Tells the launcher why the start failed.
    pub fn failed(self, text: &str) {
        let mut report = vec![FAILED];
        report.extend_from_slice(text.as_bytes());
        // What fits into an empty pipe never blocks.
        report.truncate(libc::PIPE_BUF);
        self.say(&report);
    }

    fn say(mut self, report: &[u8]) {
        // A launcher that has gone meanwhile does not want to know.
        let _ = self.0.write_all(report);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::time::{Duration, Instant};

    /// Goes into the background in a forked child (which has one thread, as the test process has not), lets `daemon`
    /// be the daemon, and returns what the launcher was told and what the daemon wrote into the pipe given to it.
    fn run(daemon: fn(Voice, &mut io::PipeWriter)) -> (Result<(), String>, String) {
        let (mut answers, mut answer) = io::pipe().unwrap();
        let (mut remarks, mut remark) = io::pipe().unwrap();
        // SAFETY: glibc keeps its allocator usable in the child; no other lock is needed there.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            drop((answers, remarks));
            Mask::ALL.set().unwrap();
            match into_background().unwrap() {
                Role::Launcher(notice) => {
                    drop(remark);
                    let told = notice.wait().unwrap();
                    answer.write_all(&[u8::from(told.is_ok())]).unwrap();
                    answer.write_all(told.err().unwrap_or_default().as_bytes()).unwrap();
                }
                Role::Daemon(voice) => {
                    drop(answer);
                    daemon(voice, &mut remark);
                }
            }
            // SAFETY: ends the process without running anything of the test harness.
            unsafe { libc::_exit(0) };
        }
        drop((answer, remark));
        let (mut told, mut said) = (Vec::new(), String::new());
        answers.read_to_end(&mut told).unwrap();
        remarks.read_to_string(&mut said).unwrap();
        // SAFETY: nothing is written anywhere.
        unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        let (ok, text) = told.split_first().unwrap();
        let text = String::from_utf8_lossy(text).into_owned();
        (if *ok == 1 { Ok(()) } else { Err(text) }, said)
    }

    #[test]
    fn the_launcher_hears_of_success_from_a_daemon_in_a_session_of_its_own() {
        let (told, said) = run(|voice, remark| {
            // SAFETY: these take nothing and touch nothing.
            let (pid, session, group) = unsafe { (libc::getpid(), libc::getsid(0), libc::getpgrp()) };
            write!(remark, "{} {}", session != pid && session == group, unblocked()).unwrap();
            voice.started();
        });
        assert_eq!(told, Ok(()));
        assert_eq!(said, "true false", "a session it does not lead, and signals as blocked as before");
    }

    fn unblocked() -> bool {
        let before = Mask::ALL.set().unwrap();
        // The kernel never lets KILL (9) and STOP (19) be blocked.
        format!("{:x}", !(1_u64 << 8 | 1 << 18)) != format!("{:x}", before.bits())
    }

    #[test]
    fn the_launcher_hears_why_the_start_failed() {
        let (told, _) = run(|voice, _| voice.failed("failed to open file:/nodir/x: nothing there"));
        assert_eq!(told, Err("failed to open file:/nodir/x: nothing there".to_owned()));
        let (told, _) = run(|voice, _| voice.failed(&"x".repeat(1_000_000)));
        assert_eq!(told.unwrap_err().len(), libc::PIPE_BUF - 1);
    }

    #[test]
    fn the_launcher_notices_that_the_daemon_died() {
        let (told, _) = run(|_, _| {
            // SAFETY: ends the process at once.
            unsafe { libc::abort() }
        });
        assert_eq!(told, Err(SILENCE.to_owned()));
    }

    #[test]
    fn a_voice_does_not_reach_a_program_that_the_daemon_executes() {
        let (told, said) = run(|voice, remark| {
            // SAFETY: reads the flags of a descriptor that lives.
            let flags = unsafe { libc::fcntl(voice.0.as_raw_fd(), libc::F_GETFD) };
            write!(remark, "{flags}").unwrap();
            voice.started();
        });
        assert_eq!((told, said), (Ok(()), libc::FD_CLOEXEC.to_string()));
    }

    #[test]
    fn the_launcher_can_be_interrupted_while_it_waits() {
        let (mut reader, mut writer) = io::pipe().unwrap();
        // SAFETY: as in `run`.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            drop(reader);
            Mask::ALL.set().unwrap();
            match into_background().unwrap() {
                Role::Launcher(notice) => {
                    drop(writer);
                    let _ = notice.wait();
                }
                Role::Daemon(_voice) => {
                    writer.write_all(format!("{}\n", std::process::id()).as_bytes()).unwrap();
                    std::thread::sleep(Duration::from_secs(60));
                }
            }
            // SAFETY: ends the process at once.
            unsafe { libc::_exit(0) };
        }
        drop(writer);
        let mut line = [0; 32];
        let length = reader.read(&mut line).unwrap();
        let daemon: i32 = std::str::from_utf8(&line[..length]).unwrap().trim().parse().unwrap();
        let begun = Instant::now();
        crate::signal::send(pid, crate::signal::Signal::TERM).unwrap();
        let mut status = 0;
        // SAFETY: the status is ours to write to.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        crate::signal::send(daemon, crate::signal::Signal::KILL).unwrap();
        assert!(libc::WIFSIGNALED(status), "{status}");
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn several_threads_are_refused() {
        let error = std::thread::scope(|scope| scope.spawn(into_background).join()).unwrap();
        assert!(error.is_err());
    }
}
