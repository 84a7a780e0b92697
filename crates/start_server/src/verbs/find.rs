//! Finding the superdaemon that a verb is for, in such a way that no other process can be taken for it.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use sys::process_tree;

use super::{Ending, Failure};
use crate::pid_file::{Found, PidFile};

/// A process that is a superdaemon, held so that its PID cannot pass to another.
#[derive(Debug)]
pub struct Superdaemon {
    pub pid: i32,
    process: OwnedFd,
}

impl Superdaemon {
    /// The superdaemon whose PID file this is. Its lock proves that it runs; an original in Ruby holds none, and is
    /// known by its command line.
    pub fn by_pid_file(path: &Path) -> Result<Self, Failure> {
        let found = inspect(path)?;
        let (pid, locked) = match found {
            Found::Running(pid) => (pid, true),
            Found::Unlocked(pid) => (pid, false),
            Found::Empty => {
                return Err(Failure::new(
                    Ending::NotRunning,
                    format!("no superdaemon runs: {} is empty; it may just be starting", path.display()),
                ));
            }
            Found::Garbage => {
                return Err(Failure::new(
                    Ending::NotRunning,
                    format!("{} does not hold a process id; is it a PID file?", path.display()),
                ));
            }
        };
        let gone = || {
            Failure::new(
                Ending::NotRunning,
                format!("no superdaemon runs: {} names pid {pid}, and that is none (any more)", path.display()),
            )
        };
        let superdaemon = Self::hold(pid).ok_or_else(gone)?;
        // Only now that the process is held does it mean something that the file still names it.
        let confirmed = match inspect(path)? {
            Found::Running(now) => now == pid,
            Found::Unlocked(now) => now == pid && !locked && is_start_server(pid),
            Found::Empty | Found::Garbage => false,
        };
        if confirmed { Ok(superdaemon) } else { Err(gone()) }
    }

    /// The superdaemon with this PID, if its command line says that it is one.
    pub fn by_pid(pid: i32) -> Result<Self, Failure> {
        let none = |why| Failure::new(Ending::NotRunning, format!("no superdaemon runs with pid {pid}: {why}"));
        let superdaemon = Self::hold(pid).ok_or_else(|| none("there is no such process"))?;
        if is_start_server(pid) {
            return Ok(superdaemon);
        }
        Err(none(if process_tree::proc_is_ours() {
            "that process is not a start_server"
        } else {
            "what that process is cannot be seen without the /proc of this PID namespace; mount it"
        }))
    }

    /// Sends a signal to it and to nobody else.
    pub fn signal(&self, signal: Signal) -> Result<(), Failure> {
        pidfd_send_signal(&self.process, signal).map_err(|error| {
            let ending = if error == rustix::io::Errno::SRCH { Ending::NotRunning } else { Ending::Failed };
            let name = if signal == Signal::HUP { "SIGHUP" } else { "SIGTERM" };
            let error = std::io::Error::from(error);
            Failure::new(ending, format!("failed to send {name} to the server process (pid {}):{error}", self.pid))
        })
    }

    /// Readable when it has ended.
    pub fn process(&self) -> &OwnedFd {
        &self.process
    }

    fn hold(pid: i32) -> Option<Self> {
        let process = pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?;
        Some(Self { pid, process })
    }
}

fn inspect(path: &Path) -> Result<Found, Failure> {
    PidFile::inspect(path).map_err(|error| Failure::new(Ending::NotRunning, error.to_string()))
}

/// Whether a word of the process's command line is a `start_server` (of whatever language it is written in).
fn is_start_server(pid: i32) -> bool {
    let Ok(command) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    // The interpreter, its options and the script come first.
    command.split(|&byte| byte == 0).take(4).any(|word| {
        let name = word.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        name.starts_with(b"start_server")
    })
}
