//! The server program of the tests: serves HTTP on every socket that it was given (and echoes on UDP), says which
//! generation answers, records its life in a file, and behaves or misbehaves as its arguments say (`options.rs`).
//!
//! It begins at C's `main`, not at Rust's: the runtime of the standard library ignores SIGPIPE, handles SIGSEGV and
//! SIGBUS, and opens /dev/null for closed standard descriptors before a Rust `main` begins, all of which would falsify
//! the dump of what a worker was given.
// The unit tests of this program need the test harness's own `main`.
#![cfg_attr(not(test), no_main)]
#![cfg_attr(test, allow(dead_code))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a program for tests reports what fails by panicking"
)]

mod dump;
mod http;
mod options;
mod record;
mod server;
mod watch;

use std::ffi::{c_char, c_int};
use std::time::{Duration, Instant};

use options::{Failing, Options};
use record::Record;
use watch::Signals;

#[cfg_attr(not(test), unsafe(export_name = "main"))]
extern "C" fn begin(_argc: c_int, _argv: *const *const c_char) -> c_int {
    // First of all, while nothing is changed yet; but only if it is wanted, for it needs /proc.
    let seen = std::env::args().any(|argument| argument.starts_with("--dump=")).then(dump::collect);
    let signals = Signals::watch();
    let options = Options::parse(std::env::args().skip(1)).unwrap_or_else(|complaint| {
        eprint(&format!("testserver: {complaint}"));
        std::process::exit(2);
    });
    let record = Record::open(options.record.as_deref());
    if let (Some(file), Some(seen)) = (&options.dump, &seen) {
        dump::write(&record.expand(file), seen);
    }
    if let Some(text) = &options.say {
        eprint(text);
    }
    record.write("start");
    let life = Life { options: &options, record: &record, signals, begun: Instant::now() };
    life.fail_if_told();
    life.delay_ready();
    let code = server::Server::new(&life).run();
    record.write(&format!("exit {code}"));
    code
}

/// What one worker needs all its life.
struct Life<'a> {
    options: &'a Options,
    record: &'a Record,
    signals: Signals,
    begun: Instant,
}

impl Life<'_> {
    fn fail_if_told(&self) {
        let generation = self.record.generation();
        let by_file = self.options.fail_if.as_deref().is_some_and(|file| record::in_dir(file).exists());
        if by_file || self.options.fail_generations.contains(&generation) {
            self.wait_or_exit(self.options.fail_after);
            self.fail();
        }
    }

    fn delay_ready(&self) {
        self.wait_or_exit(self.options.ready_after);
    }

    /// Waits; a signal that asks for a graceful end is obeyed at once, for nothing is being served.
    fn wait_or_exit(&self, time: Duration) {
        let until = Instant::now() + time;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.signals.wait(left);
            while let Some(name) = self.signals.next() {
                self.record.write(&format!("signal {name}"));
                if self.options.is_graceful(&name) {
                    self.exit(self.options.exit);
                }
            }
        }
    }

    /// Ends as `--fail-status` or `--fail-signal` say.
    fn fail(&self) -> ! {
        match self.options.failing {
            Failing::Exit(code) => self.exit(code),
            Failing::Signal(number) => watch::die_of(number),
        }
    }

    fn exit(&self, code: i32) -> ! {
        self.record.write(&format!("exit {code}"));
        std::process::exit(code)
    }
}

/// One line to standard error, in one write; a broken pipe is none of our business.
fn eprint(line: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}
