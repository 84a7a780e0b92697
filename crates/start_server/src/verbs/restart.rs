//! `--restart`: replaces the program of a running superdaemon, tells what happens as it happens, and ends with the
//! truth about the outcome.

use std::process::ExitCode;

use control::{Reply, Request};

use super::connection::Connection;
use super::find::Superdaemon;
use super::{Ending, Failure, end, original, tell};
use crate::config::{RestartVerb, Target, Until};

/// Runs the verb.
pub fn restart(verb: &RestartVerb) -> ExitCode {
    end(try_restart(verb))
}

fn try_restart(verb: &RestartVerb) -> Result<Ending, Failure> {
    let connection = match reach(&verb.target)? {
        Reached::Connection(connection) => connection,
        Reached::Original(superdaemon) => return original::restart(&superdaemon, verb),
    };
    let until = match verb.until {
        Until::Commit => control::Until::Commit,
        Until::Drained => control::Until::Drained,
    };
    let pid = connection.pid;
    let reply = connection.ask(Request::Restart { until }, verb.timeout, &mut |line| tell(line))?;
    Ok(match reply {
        Reply::Restarted { generation } => {
            tell(match verb.until {
                Until::Commit => format!("generation {generation} is current"),
                Until::Drained => format!("generation {generation} is current, and no older one is left"),
            });
            Ending::Done
        }
        Reply::Failed { reason, kept, log, .. } => {
            tell(format!("the restart failed: {reason}"));
            if !log.is_empty() {
                tell("the last lines of the log from that time:");
                log.iter().for_each(|line| tell(format!("    {line}")));
            }
            match kept {
                Some(kept) => {
                    tell(format!("generation {kept} goes on serving"));
                    Ending::Kept
                }
                None => Ending::Failed,
            }
        }
        Reply::TimedOut { committed: Some(generation), draining, .. } => {
            let pids: Vec<String> = draining.iter().map(ToString::to_string).collect();
            tell(format!("time is up: generation {generation} is current; still draining: {}", pids.join(",")));
            Ending::TimedOut
        }
        Reply::TimedOut { serving: Some(serving), abandoned: true, .. } => {
            tell(format!("time is up: the restart is abandoned, generation {serving} goes on serving"));
            Ending::TimedOut
        }
        Reply::TimedOut { serving: Some(serving), .. } => {
            tell(format!(
                "time is up: the restart goes on, since somebody else has asked for it too; meanwhile generation \
                 {serving} serves"
            ));
            Ending::TimedOut
        }
        Reply::TimedOut { .. } => {
            tell("time is up, and the outcome is not known yet; --status shows it");
            Ending::TimedOut
        }
        Reply::Stopping => {
            tell(format!("the superdaemon (pid {pid}) is stopping: there is no restart any more"));
            Ending::Failed
        }
        Reply::Error { reason } => return Err(Failure::new(Ending::Failed, reason)),
        Reply::Stopped | Reply::Status(_) | Reply::Upgraded { .. } | Reply::Refused { .. } | Reply::Progress { .. } => {
            return Err(Failure::new(Ending::Failed, "the superdaemon gave an answer to another question"));
        }
    })
}

/// How a superdaemon can be talked to.
pub(super) enum Reached {
    /// Ours.
    Connection(Connection),
    /// One of Server::Starter's, which only knows signals and files.
    Original(Superdaemon),
}

/// The connection of a verb that only a control socket can answer. `original` is what has to be said of a superdaemon of
/// Server::Starter, after its name.
pub(super) fn connect(target: &Target, original: &str) -> Result<Connection, Failure> {
    match reach(target)? {
        Reached::Connection(connection) => Ok(connection),
        Reached::Original(superdaemon) => Err(Failure::new(
            Ending::Failed,
            format!(
                "a superdaemon runs with pid {}, but it has no control socket to be asked at: it is one of \
                 Server::Starter's,{original} or was given --control-socket; then give the same here",
                superdaemon.pid
            ),
        )),
    }
}

/// Finds the superdaemon that is meant.
pub(super) fn reach(target: &Target) -> Result<Reached, Failure> {
    if let Some(path) = &target.control_socket {
        return Connection::to_path(path).map(Reached::Connection);
    }
    let superdaemon = match (&target.pid_file, target.pid) {
        (Some(path), _) => Superdaemon::by_pid_file(path)?,
        (None, Some(pid)) => Superdaemon::by_pid(pid)?,
        // The command line lets no target pass that names nothing.
        (None, None) => return Err(Failure::new(Ending::Failed, "no superdaemon was named")),
    };
    Ok(match Connection::to_pid(superdaemon.pid)? {
        Some(connection) => Reached::Connection(connection),
        None => Reached::Original(superdaemon),
    })
}
