//! `--upgrade`: has a running superdaemon execute its own program anew, and tells how that went.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use control::{Reply, Request};

use super::deadline::Deadline;
use super::reach::connect;
use super::{Ending, Failure, end, tell};
use crate::config::UpgradeVerb;

/// Runs the verb.
pub fn upgrade(verb: &UpgradeVerb) -> ExitCode {
    end(try_upgrade(verb))
}

fn try_upgrade(verb: &UpgradeVerb) -> Result<Ending, Failure> {
    let path = verb.path.as_deref().map(absolute).transpose()?;
    let arguments = verb.arguments.as_ref().map(|words| words.iter().cloned().map(text).collect()).transpose()?;
    let deadline = Deadline::after(verb.timeout);
    let connection = connect(&verb.target, deadline, " which cannot be upgraded in place,")?;
    let pid = connection.pid;
    match connection.ask(Request::Upgrade { path, arguments }, deadline, &mut |line| tell(line))? {
        Reply::Upgraded { from, to } => {
            tell(format!("the superdaemon (pid {pid}) was start_server {from} and is {to} now"));
            Ok(Ending::Done)
        }
        Reply::Refused { reason } => {
            Err(Failure::new(Ending::Failed, format!("there is no upgrade, and nothing has changed: {reason}")))
        }
        Reply::TimedOut { .. } => {
            tell("time is up: there is no upgrade, and nothing has changed");
            Ok(Ending::TimedOut)
        }
        Reply::Error { reason } => Err(Failure::new(Ending::Failed, reason)),
        _ => Err(Failure::new(Ending::Failed, "the superdaemon gave an answer to another question")),
    }
}

/// The superdaemon's working directory need not be ours.
fn absolute(path: &Path) -> Result<String, Failure> {
    let absolute = std::path::absolute(path)
        .map_err(|error| Failure::new(Ending::Failed, format!("the path {} leads nowhere: {error}", path.display())))?;
    text(absolute.into_os_string())
}

fn text(word: OsString) -> Result<String, Failure> {
    word.into_string().map_err(|word| {
        let reason = format!("{} cannot be sent to the superdaemon: it is not valid UTF-8", word.display());
        Failure::new(Ending::Failed, reason)
    })
}
