//! The verbs for a superdaemon of Server::Starter itself, which knows signals, a PID file and a status file, and can
//! tell nothing more. They are used where there is no control socket.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};

use super::deadline::Deadline;
use super::find::Superdaemon;
use super::stop::announce;
use super::{Ending, Failure, tell};
use crate::config::RestartVerb;
use crate::errno::io_reason;
use crate::files::open_to_read;

/// A superdaemon that has said its last word is gone, with its files, within this time.
pub const FILES_GO_WITHIN: Duration = Duration::from_secs(5);

/// A status file has a line for each worker.
const LARGEST: u64 = 1 << 20;

/// The status file is looked at so often; nothing announces its changes on every file system.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Sends HUP, and waits until the status file shows only generations that are newer than any before.
///
/// How many attempts that takes, and whether others ask for restarts meanwhile, does not matter.
pub fn restart(superdaemon: &Superdaemon, verb: &RestartVerb, deadline: Deadline) -> Result<Ending, Failure> {
    let Some(status_file) = &verb.status_file else {
        return Err(Failure::new(
            Ending::Failed,
            format!(
                "--restart option requires --pid-file and --status-file to be set as well: pid {} has no control \
                 socket, so its status file is the only way to see what becomes of the restart",
                superdaemon.pid
            ),
        ));
    };
    let newest = generations(status_file)?.into_iter().max().ok_or_else(|| {
        Failure::new(Ending::Failed, format!("no active process found in the status file {}", status_file.display()))
    })?;
    superdaemon.signal(Signal::HUP)?;
    loop {
        // Its end is looked for first: a status file that is there was not removed in the course of it.
        let ended = wait_for_end(superdaemon.process(), Some(deadline.left().unwrap_or(LOOK_EVERY).min(LOOK_EVERY)));
        match generations(status_file) {
            Ok(found) if !found.is_empty() && found.iter().all(|&generation| generation > newest) => {
                return Ok(Ending::Done);
            }
            _ if ended => {
                return Err(Failure::new(
                    Ending::Failed,
                    format!("the superdaemon (pid {}) ended before the restart was done", superdaemon.pid),
                ));
            }
            Ok(_) => {}
            Err(failure) => return Err(failure),
        }
        if deadline.is_over() {
            tell(
                "time is up: the new generation has not replaced the old one. This superdaemon cannot say why; its \
                 log may, and it goes on trying",
            );
            return Ok(Ending::TimedOut);
        }
    }
}

/// Sends TERM and waits for the end.
pub fn stop(superdaemon: &Superdaemon, deadline: Deadline) -> Result<Ending, Failure> {
    announce(superdaemon.pid);
    superdaemon.signal(Signal::TERM)?;
    if wait_for_end(superdaemon.process(), deadline.left()) {
        return Ok(Ending::Done);
    }
    tell("time is up: the superdaemon goes on waiting for its workers");
    Ok(Ending::TimedOut)
}

/// Whether a process ends within the time given, or at all.
pub fn wait_for_end(process: &OwnedFd, within: Option<Duration>) -> bool {
    let deadline = within.map(|within| Instant::now() + within);
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map(|left| Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        });
        match poll(&mut [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN)], timeout.as_ref()) {
            Ok(0) => return false,
            Ok(_) => return true,
            // Interrupted; and whatever else may be wrong, a busy loop is worse.
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Holds a process, to see its end.
pub fn process(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

fn generations(status_file: &Path) -> Result<Vec<u32>, Failure> {
    let mut text = Vec::new();
    open_to_read(status_file).and_then(|file| file.take(LARGEST).read_to_end(&mut text)).map_err(|error| {
        Failure::new(Ending::Failed, format!("failed to open file:{}:{}", status_file.display(), io_reason(&error)))
    })?;
    let text = String::from_utf8_lossy(&text);
    Ok(text.lines().filter_map(|line| line.split_once(':')?.0.parse().ok()).collect())
}
