//! A verb that runs while the test goes on.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use testkit::{Daemon, command, wait_for};

/// A verb that was started. It is killed when the value is dropped.
pub struct Verb {
    child: Child,
    output: PathBuf,
}

/// How a verb ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// That signal.
    pub signal: Option<i32>,
    /// What it said.
    pub said: String,
}

impl Verb {
    /// Starts our program in the superdaemon's directory.
    pub fn start(daemon: &Daemon, arguments: &[&str]) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let output = daemon.path(&format!("said-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        let child = command(env!("CARGO_BIN_EXE_start_server"))
            .args(arguments)
            .current_dir(daemon.dir())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&output).unwrap())
            .spawn()
            .unwrap();
        Self { child, output }
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.output).unwrap()
    }

    /// Waits until it has said this, and makes sure that it is still there to say more.
    pub fn wait_said(&mut self, text: &str) {
        wait_for(|| format!("“{text}” in\n{}", self.said()), || self.said().contains(text).then_some(()));
        assert!(self.child.try_wait().unwrap().is_none(), "it has ended:\n{}", self.said());
    }

    /// As Ctrl-C does.
    pub fn interrupt(&self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    }

    /// Waits for its end.
    pub fn end(mut self) -> Ended {
        let child = &mut self.child;
        let output = &self.output;
        let said = || fs::read_to_string(output).unwrap();
        let status = wait_for(|| format!("the end of a verb that said\n{}", said()), || child.try_wait().unwrap());
        Ended { code: status.code(), signal: status.signal(), said: said() }
    }
}

impl Drop for Verb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    /// Checks how it ended and that it said these things, in this order.
    pub fn expect(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "it said\n{}", self.said);
        let mut rest = self.said.as_str();
        for part in parts {
            let found = rest.find(part).unwrap_or_else(|| panic!("“{part}” is missing or misplaced in\n{}", self.said));
            rest = &rest[found + part.len()..];
        }
    }
}

/// Runs a verb to its end.
pub fn run(daemon: &Daemon, arguments: &[&str]) -> Ended {
    Verb::start(daemon, arguments).end()
}
