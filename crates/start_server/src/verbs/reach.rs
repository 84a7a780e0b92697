//! How a verb comes to talk to the superdaemon that its user means: by its control socket, or, if it is one of
//! Server::Starter's, by signals and files. Every verb begins here.

use super::connection::Connection;
use super::deadline::Deadline;
use super::find::Superdaemon;
use super::{Ending, Failure};
use crate::config::Target;

/// How a superdaemon can be talked to.
pub(super) enum Reached {
    /// By its control socket.
    Connection(Connection),
    /// By signals and files only: one of Server::Starter's, or one whose control socket cannot be found.
    BySignals(Superdaemon),
}

/// Finds the superdaemon that is meant.
pub(super) fn reach(target: &Target, deadline: Deadline) -> Result<Reached, Failure> {
    if let Some(path) = &target.control_socket {
        let expected = match (&target.pid_file, target.pid) {
            // One that was swept away says nothing against the socket.
            (Some(path), _) if path.try_exists().is_ok_and(|exists| !exists) => None,
            (Some(path), _) => Some(Superdaemon::by_pid_file(path)?.pid),
            (None, Some(pid)) => Some(Superdaemon::by_pid(pid)?.pid),
            (None, None) => None,
        };
        return Connection::to_path(path, expected, deadline).map(Reached::Connection);
    }
    let superdaemon = match (&target.pid_file, target.pid) {
        (Some(path), _) => Superdaemon::by_pid_file(path)?,
        (None, Some(pid)) => Superdaemon::by_pid(pid)?,
        // The command line lets no target pass that names nothing.
        (None, None) => return Err(Failure::new(Ending::Failed, "no superdaemon was named")),
    };
    Ok(match Connection::to_pid(superdaemon.pid, deadline)? {
        Some(connection) => Reached::Connection(connection),
        None => Reached::BySignals(superdaemon),
    })
}

/// The connection of a verb that only a control socket can answer. `original` is what has to be said of a superdaemon of
/// Server::Starter, after its name.
pub(super) fn connect(target: &Target, deadline: Deadline, original: &str) -> Result<Connection, Failure> {
    match reach(target, deadline)? {
        Reached::Connection(connection) => Ok(connection),
        Reached::BySignals(superdaemon) => Err(without_connection(&superdaemon, original)),
    }
}

/// Why a command cannot be followed that needs an answer. `original` is as in [`connect`].
pub(super) fn without_connection(superdaemon: &Superdaemon, original: &str) -> Failure {
    Failure::new(
        Ending::Failed,
        format!(
            "a superdaemon runs with pid {}, but no control socket of it is found to ask at: it is one of \
             Server::Starter's,{original} or could not make one, as its log says, or was given --control-socket; then \
             give the same here",
            superdaemon.pid
        ),
    )
}
