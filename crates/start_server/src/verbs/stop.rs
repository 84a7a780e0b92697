//! `--stop`: ends a superdaemon and its workers, and returns when they are gone.

use std::process::ExitCode;

use control::{Reply, Request};

use super::deadline::Deadline;
use super::reach::{Reached, reach};
use super::{Ending, Failure, end, original, tell};
use crate::config::StopVerb;

/// Runs the verb.
pub fn stop(verb: &StopVerb) -> ExitCode {
    end(try_stop(verb))
}

fn try_stop(verb: &StopVerb) -> Result<Ending, Failure> {
    let deadline = Deadline::after(verb.timeout);
    let connection = match reach(&verb.target, deadline)? {
        Reached::Connection(connection) => connection,
        Reached::BySignals(superdaemon) => return original::stop(&superdaemon, deadline),
    };
    announce(connection.pid);
    let process = original::process(connection.pid);
    match connection.ask(Request::Stop, deadline, &mut |line| tell(line))? {
        Reply::Stopped => {
            // Its files go last. When this command ends, the next superdaemon can start.
            if let Some(process) = process {
                let within = deadline.left().unwrap_or(original::FILES_GO_WITHIN).min(original::FILES_GO_WITHIN);
                original::wait_for_end(&process, Some(within));
            }
            Ok(Ending::Done)
        }
        Reply::TimedOut { .. } => {
            tell(
                "time is up: the superdaemon goes on stopping; give it --stop-timeout, or send it QUIT to end at once",
            );
            Ok(Ending::TimedOut)
        }
        Reply::Error { reason } => Err(Failure::new(Ending::Failed, reason)),
        Reply::Restarted { .. }
        | Reply::Failed { .. }
        | Reply::Stopping
        | Reply::Status(_)
        | Reply::Upgraded { .. }
        | Reply::Refused { .. }
        | Reply::Progress { .. } => {
            Err(Failure::new(Ending::Failed, "the superdaemon gave an answer to another question"))
        }
    }
}

pub(super) fn announce(pid: i32) {
    tell(format!("stop_server (pid:{}) stopping now (pid:{pid})...", std::process::id()));
}
