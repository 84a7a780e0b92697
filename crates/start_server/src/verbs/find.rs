//! Finding the superdaemon that a command is for, in such a way that no other process can be taken for it.

use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, Signal, geteuid, pidfd_open, pidfd_send_signal};

use super::{Ending, Failure};
use crate::pid_file::{Content, Inspection, PidFile};
use crate::superdaemon_process::{SuperdaemonProcess, Unknown, has_open, identify};

/// A process that is a superdaemon, held so that its PID cannot pass to another.
#[derive(Debug)]
pub struct Superdaemon {
    pub pid: i32,
    /// Whether it runs this program, of whatever version; else it is one of Server::Starter.
    pub is_ours: bool,
    process: OwnedFd,
}

impl Superdaemon {
    /// The superdaemon whose PID file this is. The process that the file names has to be a superdaemon, and the file has
    /// to be root's, its user's or ours: anybody else could name any process.
    pub fn by_pid_file(path: &Path) -> Result<Self, Failure> {
        let shown = path.display();
        let none = |why: String| Failure::new(Ending::NotRunning, format!("no superdaemon runs: {why}"));
        let inspection = inspect(path)?;
        let pid = match inspection.content {
            Content::Pid(pid) => pid,
            Content::Empty => return Err(none(format!("{shown} is empty; it may just be starting"))),
            Content::Garbage => {
                let reason = format!("{shown} does not hold a process id; is it a PID file?");
                return Err(Failure::new(Ending::NotRunning, reason));
            }
        };
        let gone = || none(format!("{shown} names pid {pid}, and that is none (any more)"));
        let process = hold(pid).ok_or_else(gone)?;
        let found = match identify(pid) {
            // One of ours has the file open as long as it lives: this one has got the number of one that has gone.
            Ok(found) if found.is_ours && has_open(pid, inspection.identity) == Some(false) => return Err(gone()),
            Ok(found) => found,
            Err(Unknown::Gone) => return Err(gone()),
            Err(unknown) => {
                let reason = format!("{shown} names pid {pid}, and {}", describe(pid, &unknown));
                return Err(match ending(&unknown) {
                    Ending::NotRunning => none(reason),
                    ending => Failure::new(ending, reason),
                });
            }
        };
        must_be_believable(path, &inspection, pid, found)?;
        // Only now that the process is held does it mean something that the file still names it.
        let is_ours = found.is_ours;
        if inspect(path)?.content == Content::Pid(pid) { Ok(Self { pid, is_ours, process }) } else { Err(gone()) }
    }

    /// The superdaemon with this PID; or, if that is an init or the like, the one that it has started.
    pub fn by_pid(pid: i32) -> Result<Self, Failure> {
        let none = |why| Failure::new(Ending::NotRunning, format!("no superdaemon runs with pid {pid}: {why}"));
        let process = hold(pid).ok_or_else(|| none("there is no such process".to_owned()))?;
        let unknown = match identify(pid) {
            Ok(found) => return Ok(Self { pid, is_ours: found.is_ours, process }),
            Err(Unknown::Gone) => return Err(none("there is no such process".to_owned())),
            Err(unknown) => unknown,
        };
        if let Unknown::Other { superdaemons, .. } = &unknown
            && let [child] = superdaemons.as_slice()
            && let Some(process) = hold(*child)
            && let Ok(found) = identify(*child)
        {
            return Ok(Self { pid: *child, is_ours: found.is_ours, process });
        }
        let reason = format!("no superdaemon is seen at pid {pid}: {}", describe(pid, &unknown));
        Err(Failure::new(ending(&unknown), reason))
    }

    /// Sends a signal to it and to nobody else.
    pub fn signal(&self, signal: Signal) -> Result<(), Failure> {
        pidfd_send_signal(&self.process, signal).map_err(|error| {
            let ending = if error == rustix::io::Errno::SRCH { Ending::NotRunning } else { Ending::Failed };
            let name = match signal {
                Signal::HUP => "SIGHUP",
                Signal::USR2 => "SIGUSR2",
                _ => "SIGTERM",
            };
            let error = std::io::Error::from(error);
            Failure::new(ending, format!("failed to send {name} to the server process (pid {}):{error}", self.pid))
        })
    }

    /// Readable when it has ended.
    pub fn process(&self) -> &OwnedFd {
        &self.process
    }
}

fn hold(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

fn inspect(path: &Path) -> Result<Inspection, Failure> {
    PidFile::inspect(path).map_err(|error| Failure::new(Ending::NotRunning, error.to_string()))
}

/// A PID file that others than root and the process's own user can write may name whom they like.
fn must_be_believable(path: &Path, file: &Inspection, pid: i32, found: SuperdaemonProcess) -> Result<(), Failure> {
    let SuperdaemonProcess { user, .. } = found;
    let shown = path.display();
    let us = geteuid().as_raw();
    let refuse = |why: String| {
        Err(Failure::new(
            Ending::Failed,
            format!("{shown} is not believed: {why}; make sure of the process and address it by --pid={pid}"),
        ))
    };
    if ![0, user, us].contains(&file.owner) {
        return refuse(format!("user {} has written it, and pid {pid}, which it names, is of user {user}", file.owner));
    }
    if file.mode & 0o002 != 0 {
        return refuse(format!("everybody can write it (mode {:o})", file.mode & 0o7777));
    }
    Ok(())
}

/// What cannot be seen is not known not to run.
fn ending(unknown: &Unknown) -> Ending {
    match unknown {
        Unknown::Gone | Unknown::Other { .. } => Ending::NotRunning,
        Unknown::Closed { .. } | Unknown::Blocking { .. } | Unknown::Hidden | Unknown::NoProc => Ending::Failed,
    }
}

/// What a process is instead of a superdaemon, as a part of a sentence.
fn describe(pid: i32, unknown: &Unknown) -> String {
    match unknown {
        Unknown::Gone => "there is no such process".to_owned(),
        Unknown::Other { name, superdaemons } => match superdaemons.as_slice() {
            [] => format!("that process is {name}, not a start_server; give --pid-file or the PID of the superdaemon"),
            several => {
                let pids: Vec<String> = several.iter().map(ToString::to_string).collect();
                format!(
                    "that process is {name}, which has started the superdaemons {}; give --pid-file or one of these",
                    pids.join(", ")
                )
            }
        },
        Unknown::Closed { user } => format!(
            "what that process is cannot be seen by user {}, since it is of user {user} or has more rights; run this as \
             that user or root",
            geteuid().as_raw()
        ),
        Unknown::Blocking { user } => format!(
            "what that process of user {user} is cannot be seen, since whoever looks into it has to wait, as it executes \
             a program or has a file on a file system that does not answer; or this command lacks descriptors (ulimit -n) or \
             processes (ulimit -u) to look with. Try again, or end that process"
        ),
        Unknown::Hidden => format!(
            "pid {pid} is a process, but /proc does not show it (option hidepid); run this as its user or root, or mount \
             /proc without that option"
        ),
        Unknown::NoProc => {
            "what that process is cannot be seen without the /proc of this PID namespace; mount it".to_owned()
        }
    }
}
