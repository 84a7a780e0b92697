//! `--restart`: replaces the program of a running superdaemon, tells what happens as it happens, and ends with the
//! truth about the outcome.

use std::process::ExitCode;

use control::{Reply, Request};

use super::deadline::Deadline;
use super::reach::{Reached, reach};
use super::{Ending, Failure, end, original, tell};
use crate::config::{RestartVerb, Until};

/// Runs the verb.
pub fn restart(verb: &RestartVerb) -> ExitCode {
    end(try_restart(verb))
}

fn try_restart(verb: &RestartVerb) -> Result<Ending, Failure> {
    let deadline = Deadline::after(verb.timeout);
    let connection = match reach(&verb.target, deadline)? {
        Reached::Connection(connection) => connection,
        Reached::BySignals(superdaemon) => return original::restart(&superdaemon, verb, deadline),
    };
    let until = match verb.until {
        Until::Commit => control::Until::Commit,
        Until::Drained => control::Until::Drained,
    };
    let pid = connection.pid;
    let reply = connection.ask(Request::Restart { until }, deadline, &mut |line| tell(line))?;
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
