//! Spawning a worker: the program, with the listeners, the environment and the signals that it was promised.
//! The event loop calls this for every generation.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

use sys::signal::Signal;
use sys::spawn::{Plan, Spawned, spawn};

use crate::config::Config;
use crate::environment::PORT;
use crate::export;
use crate::listeners::Listeners;
use crate::placeholders::Template;
use crate::privileges::Resolved;

/// What every worker has in common.
#[derive(Debug)]
pub struct Recipe {
    program: Vec<Template>,
    directory: Option<CString>,
    /// What tells of the listeners.
    variables: Vec<(OsString, OsString)>,
    wants_pid: bool,
    privileges: Resolved,
}

impl Recipe {
    /// The program of this configuration, to be run with these privileges and listeners.
    ///
    /// # Errors
    /// What is wrong, as a sentence: a placeholder, a convention or a limit that does not go with the listeners.
    pub fn new(config: &Config, privileges: Resolved, listeners: &Listeners) -> Result<Self, String> {
        leave_room(&privileges, listeners)?;
        let exported = export::variables(&config.exports, listeners.all(), std::process::id())?;
        let name = Template::read(&config.program.name, &[]);
        let arguments = config.program.arguments.iter().map(|word| Template::read(word, listeners.all()));
        Ok(Self {
            program: std::iter::once(name).chain(arguments).collect::<Result<_, _>>()?,
            directory: config.dir.as_ref().map(|dir| c_string(dir.as_os_str())).transpose()?,
            variables: [(PORT.into(), listeners.variable())].into_iter().chain(exported).collect(),
            wants_pid: export::wants_pid(&config.exports),
            privileges,
        })
    }

    /// The directory that workers start in, if not the superdaemon's.
    pub fn directory(&self) -> Option<CString> {
        self.directory.clone()
    }

    /// Whom workers run as and what they may do.
    pub fn privileges(&self) -> &Resolved {
        &self.privileges
    }

    /// The user that workers run as, if one was asked for: whose the files are to be that only workers use.
    pub fn user(&self) -> Option<u32> {
        self.privileges.user()
    }

    /// The variables that tell workers of the listeners, less the one that is their PID.
    pub fn variables(&self) -> &[(OsString, OsString)] {
        &self.variables
    }

    /// Spawns the worker of a generation.
    ///
    /// It leads a process group of its own, so that a terminal's Ctrl-C reaches the superdaemon alone and a stuck
    /// worker can be ended whole. SIGPIPE is ignored, as under Server::Starter: programs rely on surviving a client
    /// that has gone.
    ///
    /// # Errors
    /// See [`spawn`]: no process could be made.
    pub fn spawn(&self, generation: u32, listeners: &Listeners, environment: Vec<CString>) -> io::Result<Spawned> {
        let arguments = self.program.iter().map(|word| word.fill_in(generation));
        spawn(&Plan {
            arguments: arguments.collect::<Result<_, _>>()?,
            environment,
            pid_variable: self.wants_pid.then(|| export::LISTEN_PID.to_owned()),
            directory: self.directory.clone(),
            descriptors: listeners.descriptors().collect(),
            ignored_signals: vec![Signal::PIPE],
            own_process_group: true,
            privileges: self.privileges.plan().clone(),
        })
    }
}

/// # Errors
/// A listener would come to lie beyond the limit: a sentence.
fn leave_room(privileges: &Resolved, listeners: &Listeners) -> Result<(), String> {
    let highest = listeners.descriptors().map(|(_, number)| number).max().unwrap_or(0);
    match privileges.most_descriptors() {
        Some(most) if u64::try_from(highest).is_ok_and(|highest| highest >= most) => Err(format!(
            "--rlimit=NOFILE={most} leaves no room for the listener at descriptor {highest}; give at least {}",
            highest + 1
        )),
        _ => Ok(()),
    }
}

fn c_string(text: &OsStr) -> Result<CString, String> {
    CString::new(text.as_bytes()).map_err(|_| format!("{} contains a zero byte", text.display()))
}
