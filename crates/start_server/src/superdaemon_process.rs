//! What a process is: whether it is a superdaemon, and whose. Commands ask before they send it anything, and the PID file
//! asks who holds its lock.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use sys::{apart, process_tree};

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
    /// Whoever looks into it has to wait for it.
    Blocking {
        /// Its effective user.
        user: u32,
    },
    /// `/proc` does not show it.
    Hidden,
    /// There is no `/proc` of our PID namespace.
    NoProc,
}

/// How long a process may take to be looked into.
const LIMIT: Duration = Duration::from_secs(1);

/// So many superdaemons of an init are named.
const MOST_NAMED: usize = 16;

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
    match look_into(pid) {
        Some(Sight::Superdaemon { is_ours }) => Ok(SuperdaemonProcess { user, is_ours }),
        Some(Sight::Closed) => Err(Unknown::Closed { user }),
        Some(Sight::Other { superdaemons }) => {
            Err(Unknown::Other { name: process_tree::name(pid).unwrap_or_default(), superdaemons })
        }
        None => Err(Unknown::Blocking { user }),
    }
}

/// Whether a process has this file open; none if that may not be seen, or not in time.
pub fn has_open(pid: i32, file: FileIdentity) -> Option<bool> {
    let answer = apart::ask(LIMIT, |reporter| {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return };
        let mut found = descriptors.flatten().filter_map(|entry| fs::metadata(entry.path()).ok());
        let is_open = found.any(|found| FileIdentity::of(&found) == file);
        reporter.say(if is_open { b"yes" } else { b"no" });
    });
    match answer?.text.as_slice() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}

/// What is seen of a process that is looked into.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Sight {
    Superdaemon { is_ours: bool },
    Other { superdaemons: Vec<i32> },
    Closed,
}

/// Looks into a process by another one, since whoever looks may have to wait for it; none if it has to.
fn look_into(pid: i32) -> Option<Sight> {
    let answer = apart::ask(LIMIT, |reporter| {
        let sight = match is_superdaemon(pid) {
            Some(is_ours) => Sight::Superdaemon { is_ours },
            None => match fs::read_link(format!("/proc/{pid}/exe")) {
                Err(error) if error.kind() == ErrorKind::PermissionDenied && is_anothers(pid) => Sight::Closed,
                _ => {
                    let children = process_tree::children(pid).into_iter();
                    let superdaemons = children.filter(|&child| is_superdaemon(child).is_some()).take(MOST_NAMED);
                    Sight::Other { superdaemons: superdaemons.collect() }
                }
            },
        };
        reporter.say(&serde_json::to_vec(&sight).unwrap_or_default());
    });
    serde_json::from_slice(&answer?.text).ok()
}

/// Whether a process is of a user whose processes we may not look into. What root may not look into is no superdaemon.
fn is_anothers(pid: i32) -> bool {
    let us = geteuid();
    !us.is_root() && process_tree::user(pid) != Some(us.as_raw())
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
