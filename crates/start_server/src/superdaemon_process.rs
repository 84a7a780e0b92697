//! What a process is: whether it is a superdaemon, and whose. Commands ask before they send it anything, and the PID file
//! asks who holds its lock.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sys::process_tree;

use crate::control_address;
use crate::file_identity::FileIdentity;

/// A process that is a superdaemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuperdaemonProcess {
    /// Its effective user.
    pub user: u32,
    /// Whether it runs this program, of whatever version; else it is one of Server::Starter.
    pub is_ours: bool,
}

/// Why a process is not known to be a superdaemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It is gone.
    Gone,
    /// It runs another program.
    Other {
        /// How the process is called.
        name: String,
        /// The superdaemons among its children: it may be an init, or sudo(8).
        superdaemons: Vec<i32>,
    },
    /// We may not look, since it is this user's.
    Closed {
        /// Its effective user.
        user: u32,
    },
    /// `/proc` does not show it.
    Hidden,
    /// There is no `/proc` of our PID namespace.
    NoProc,
}

/// Looks whether a process is a superdaemon. Its PID must not pass to another process meanwhile: the caller holds it.
///
/// # Errors
/// It is none, or that cannot be seen.
pub fn identify(pid: i32) -> Result<SuperdaemonProcess, Unknown> {
    if !process_tree::proc_is_ours() {
        return Err(Unknown::NoProc);
    }
    match process_tree::read(pid) {
        Some(process) if process.is_living() => {}
        Some(_) => return Err(Unknown::Gone),
        None => return Err(Unknown::Hidden),
    }
    let user = process_tree::user(pid).ok_or(Unknown::Gone)?;
    if let Some(is_ours) = is_superdaemon(pid) {
        return Ok(SuperdaemonProcess { user, is_ours });
    }
    match fs::read_link(format!("/proc/{pid}/exe")) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(Unknown::Closed { user }),
        _ => Err(Unknown::Other {
            name: process_tree::name(pid).unwrap_or_default(),
            superdaemons: process_tree::children(pid)
                .into_iter()
                .filter(|&child| is_superdaemon(child).is_some())
                .collect(),
        }),
    }
}

/// Whether a process has this file open; none if that may not be seen.
pub fn has_open(pid: i32, file: FileIdentity) -> Option<bool> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let mut found = descriptors.flatten().filter_map(|entry| fs::metadata(entry.path()).ok());
    Some(found.any(|found| FileIdentity::of(&found) == file))
}

/// Whether a process that is a superdaemon is one of ours; none if it is no superdaemon. Ours run the program that we
/// run, or have a control socket; those in Go run a program of the name, those in Perl and Ruby a script of the name.
///
/// A process can call itself what it likes. So this keeps other processes from being taken for a superdaemon; who wants
/// to be taken for one can be.
fn is_superdaemon(pid: i32) -> Option<bool> {
    const INTERPRETERS: [&[u8]; 4] = [b"perl", b"ruby", b"jruby", b"truffleruby"];
    if is_our_file(pid) || !control_address::held_by(pid).is_empty() {
        return Some(true);
    }
    let file = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let file_name = file.file_name()?.as_bytes();
    let is_script = || INTERPRETERS.iter().any(|interpreter| file_name.starts_with(interpreter)) && runs_script(pid);
    (is_name(file_name) || is_script()).then_some(false)
}

/// `start_server`, `start_server.rb`, `start_server-0.2`; and one whose file was replaced: `start_server (deleted)`.
fn is_name(file_name: &[u8]) -> bool {
    file_name.starts_with(b"start_server")
}

fn is_our_file(pid: i32) -> bool {
    let file = |pid: &str| fs::metadata(format!("/proc/{pid}/exe")).map(|file| (file.dev(), file.ino())).ok();
    file(&pid.to_string()).is_some_and(|its| Some(its) == file("self"))
}

/// Whether one of the first words of a command line is a script called `start_server`. The interpreter and its options
/// come first; those in Ruby give themselves a title that begins with it.
fn runs_script(pid: i32) -> bool {
    let Ok(command) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let words = command.split(|&byte| byte == 0 || byte == b' ').take(4);
    words
        .map(|word| Path::new(std::ffi::OsStr::from_bytes(word)))
        .any(|word| word.file_name().is_some_and(|name| is_name(name.as_bytes())))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn other_programs_are_not_taken_for_it() {
        let mut sleep = Command::new("sleep").arg("600").spawn().unwrap();
        let pid = i32::try_from(sleep.id()).unwrap();
        // Between fork and exec it still runs this program.
        testkit::wait_for(|| "sleep does not run".to_owned(), || (process_tree::name(pid)? == "sleep").then_some(()));
        let other = Unknown::Other { name: "sleep".to_owned(), superdaemons: Vec::new() };
        assert_eq!(identify(pid), Err(other));
        sleep.kill().unwrap();
        testkit::wait_for(|| "it is no zombie".to_owned(), || (identify(pid) == Err(Unknown::Gone)).then_some(()));
        sleep.wait().unwrap();
        assert_eq!(identify(pid), Err(Unknown::Hidden));
    }

    #[test]
    fn what_runs_our_program_is_one() {
        let us = i32::try_from(std::process::id()).unwrap();
        let user = rustix::process::geteuid().as_raw();
        assert_eq!(identify(us), Ok(SuperdaemonProcess { user, is_ours: true }));
    }

    #[test]
    fn names_of_superdaemons() {
        for name in ["start_server", "start_server.rb", "start_server (deleted)", "start_server-0.2"] {
            assert!(is_name(name.as_bytes()), "{name}");
        }
        for name in ["", "server_starter", "xstart_server", "perl"] {
            assert!(!is_name(name.as_bytes()), "{name}");
        }
    }
}
