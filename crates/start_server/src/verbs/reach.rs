//! How a verb comes to talk to the superdaemon that its user means: by its control socket, or, if it is one of
//! Server::Starter's, by signals and files. Every verb begins here.

use super::connection::Connection;
use super::find::Superdaemon;
use super::{Ending, Failure};
use crate::config::Target;

/// How a superdaemon can be talked to.
pub(super) enum Reached {
    /// Ours.
    Connection(Connection),
    /// One of Server::Starter's, which only knows signals and files.
    Original(Superdaemon),
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
