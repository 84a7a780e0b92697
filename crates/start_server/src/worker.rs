//! Spawning a worker: the program, with the listeners, the environment and the signals that it was promised.
//! The event loop calls this for every generation.

use std::ffi::{CString, NulError};
use std::io;
use std::os::unix::ffi::OsStrExt;

use sys::signal::Signal;
use sys::spawn::{Plan, Spawned, spawn};

use crate::config::Config;
use crate::listeners::Listeners;

/// What every worker has in common.
#[derive(Debug)]
pub struct Recipe {
    arguments: Vec<CString>,
    directory: Option<CString>,
}

impl Recipe {
    /// The program of this configuration.
    ///
    /// # Errors
    /// A word contains a zero byte; a command line cannot.
    pub fn new(config: &Config) -> Result<Self, NulError> {
        let words = std::iter::once(&config.program.name).chain(&config.program.arguments);
        Ok(Self {
            arguments: words.map(|word| CString::new(word.as_bytes())).collect::<Result<_, _>>()?,
            directory: config.dir.as_ref().map(|dir| CString::new(dir.as_os_str().as_bytes())).transpose()?,
        })
    }

    /// The directory that workers start in, if not the superdaemon's.
    pub fn directory(&self) -> Option<CString> {
        self.directory.clone()
    }

    /// Spawns one worker.
    ///
    /// It leads a process group of its own, so that a terminal's Ctrl-C reaches the superdaemon alone and a stuck
    /// worker can be ended whole. SIGPIPE is ignored, as under Server::Starter: programs rely on surviving a client
    /// that has gone.
    ///
    /// # Errors
    /// See [`spawn`]: no process could be made.
    pub fn spawn(&self, listeners: &Listeners, environment: Vec<CString>) -> io::Result<Spawned> {
        spawn(&Plan {
            arguments: self.arguments.clone(),
            environment,
            directory: self.directory.clone(),
            descriptors: listeners.descriptors().collect(),
            ignored_signals: vec![Signal::PIPE],
            own_process_group: true,
        })
    }
}
