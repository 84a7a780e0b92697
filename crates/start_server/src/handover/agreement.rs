//! What may change with an upgrade: everything that only concerns what begins after it. The sockets, and the files that
//! others know the superdaemon by, stay as they are.

use std::ffi::OsStr;
use std::path::Path;

use crate::config::{Config, LogTarget};
use crate::listen_spec::{ListenAddress, ListenOptions};

/// Whether a superdaemon that runs with one configuration can go on with another one.
///
/// # Errors
/// A sentence: what would have to stay as it is.
pub fn agree(wanted: &Config, running: &Config) -> Result<(), String> {
    if sockets(wanted) != sockets(running) {
        return Err(format!(
            "the listeners cannot change with an upgrade: they are {} and would be {}; give the same with the same \
             options, in the same order, or stop the superdaemon and start it anew",
            names(running),
            names(wanted)
        ));
    }
    for (option, wanted, running) in [
        ("pid-file", shown(&wanted.pid_file), shown(&running.pid_file)),
        ("status-file", shown(&wanted.status_file), shown(&running.status_file)),
        ("log-file", log(wanted), log(running)),
        ("control-socket", shown(&wanted.control_socket), shown(&running.control_socket)),
    ] {
        if wanted != running {
            return Err(format!(
                "--{option} cannot change with an upgrade: it is {running} and would be {wanted}; give the same, or \
                 stop the superdaemon and start it anew"
            ));
        }
    }
    Ok(())
}

/// What of a listener is bound and set once and for all. Its name, and its number in workers, may change.
fn sockets(config: &Config) -> Vec<(&OsStr, &ListenAddress, &ListenOptions)> {
    let specs = config.listeners.iter();
    specs.map(|spec| (spec.spelling.as_os_str(), &spec.address, &spec.options)).collect()
}

fn names(config: &Config) -> String {
    let names: Vec<_> = config.listeners.iter().map(|spec| spec.spelling.to_string_lossy()).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(",") }
}

fn log(config: &Config) -> String {
    match &config.log {
        None => "none".to_owned(),
        Some(LogTarget::File(path)) => path.display().to_string(),
        Some(LogTarget::Command(command)) => format!("| {command}"),
    }
}

fn shown(path: &Option<impl AsRef<Path>>) -> String {
    path.as_ref().map_or_else(|| "none".to_owned(), |path| path.as_ref().display().to_string())
}
