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

/// What every worker has in common.
#[derive(Debug)]
pub struct Recipe {
    program: Vec<Template>,
    directory: Option<CString>,
    /// What tells of the listeners.
    variables: Vec<(OsString, OsString)>,
    wants_pid: bool,
}

impl Recipe {
    /// The program of this configuration, to be run with these listeners.
    ///
    /// # Errors
    /// What is wrong, as a sentence: a placeholder or a convention that does not go with the listeners.
    pub fn new(config: &Config, listeners: &Listeners) -> Result<Self, String> {
        let exported = export::variables(&config.exports, listeners.all(), std::process::id())?;
        let name = Template::read(&config.program.name, &[]);
        let arguments = config.program.arguments.iter().map(|word| Template::read(word, listeners.all()));
        Ok(Self {
            program: std::iter::once(name).chain(arguments).collect::<Result<_, _>>()?,
            directory: config.dir.as_ref().map(|dir| c_string(dir.as_os_str())).transpose()?,
            variables: [(PORT.into(), listeners.variable())].into_iter().chain(exported).collect(),
            wants_pid: export::wants_pid(&config.exports),
        })
    }

    /// The directory that workers start in, if not the superdaemon's.
    pub fn directory(&self) -> Option<CString> {
        self.directory.clone()
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
        })
    }
}

fn c_string(text: &OsStr) -> Result<CString, String> {
    CString::new(text.as_bytes()).map_err(|_| format!("{} contains a zero byte", text.display()))
}
