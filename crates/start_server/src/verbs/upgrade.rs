//! `--upgrade`: has a running superdaemon execute its own program anew, and tells how that went.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use control::{Reply, Request};
use rustix::process::Signal;
use sys::process_tree;

use super::deadline::Deadline;
use super::find::Superdaemon;
use super::original::wait_for_end;
use super::reach::{Reached, reach, without_connection};
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
    let connection = match reach(&verb.target, deadline)? {
        Reached::Connection(connection) => connection,
        Reached::BySignals(superdaemon) if superdaemon.is_ours && path.is_none() && arguments.is_none() => {
            return by_signal(&superdaemon, deadline);
        }
        Reached::BySignals(superdaemon) => {
            return Err(without_connection(&superdaemon, " which cannot be upgraded in place,"));
        }
    };
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

/// Asks by USR2, and waits until the process has executed a program. Why it does not, only its log can tell.
fn by_signal(superdaemon: &Superdaemon, deadline: Deadline) -> Result<Ending, Failure> {
    /// Nothing announces an exec. A trial may take ten seconds, and then some.
    const LOOK_EVERY: Duration = Duration::from_millis(50);
    const PATIENCE: Duration = Duration::from_secs(15);
    let pid = superdaemon.pid;
    let own_limit = Deadline::after(Some(PATIENCE));
    let before = process_tree::image(pid);
    superdaemon.signal(Signal::USR2)?;
    loop {
        if wait_for_end(superdaemon.process(), Some(LOOK_EVERY)) {
            let reason = format!("the superdaemon (pid {pid}) ended before it was upgraded; its log may tell why");
            return Err(Failure::new(Ending::Failed, reason));
        }
        if before.is_some() && process_tree::image(pid) != before {
            tell(format!("the superdaemon (pid {pid}) has executed its program anew, as its log says"));
            return Ok(Ending::Done);
        }
        if deadline.is_over() || own_limit.is_over() {
            tell(format!(
                "time is up: the superdaemon (pid {pid}) was asked by USR2, since it has no control socket, and has not \
                 executed its program anew; its log tells why"
            ));
            return Ok(Ending::TimedOut);
        }
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
