//! What servers do to the sockets that they share: it must not hurt the next generation. `server.pl` is the server that
//! does it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test reports what fails by panicking"
)]

mod accepting;
mod backlogs;
mod files;
mod shutdowns;

use std::fs;
use std::thread;
use std::time::Duration;

use testkit::{Address, Builder, Daemon, get, wait_for};

const OURS: &str = env!("CARGO_BIN_EXE_start_server");
const SERVER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/guards/server.pl");

/// A generation is ready when it has done at its start what it was to do.
const WHEN_UP: [&str; 2] = ["--interval=0", "--ready=exec:test -e up.$SERVER_STARTER_GENERATION"];

/// A superdaemon with a server that behaves as these words say.
fn serving<'a>(options: impl IntoIterator<Item = &'a str>, words: impl IntoIterator<Item = &'a str>) -> Daemon {
    let daemon = prepared(words).options(options).start();
    daemon.wait_line("server 1 is up");
    wait_alone(&daemon, 1);
    daemon
}

fn prepared<'a>(words: impl IntoIterator<Item = &'a str>) -> Builder {
    Daemon::new(OURS).with_files().options(WHEN_UP).program(["perl", SERVER].into_iter().chain(words))
}

fn wait_alone(daemon: &Daemon, generation: u32) {
    daemon.wait_status_file(|generations| generations == [generation]);
}

/// Replaces generation `old` and waits until it has gone.
fn restart(daemon: &Daemon, old: u32) {
    daemon.hup();
    wait_alone(daemon, old + 1);
}

/// The PID of a generation that serves.
fn pid(daemon: &Daemon, generation: u32) -> u32 {
    let entries = daemon.status_file().unwrap();
    entries.iter().find(|entry| entry.0 == generation).unwrap_or_else(|| panic!("{entries:?}")).1
}

fn count(daemon: &Daemon, text: &str) -> usize {
    daemon.lines().iter().filter(|line| line.contains(text)).count()
}

/// Which generation answers.
fn answering(address: &Address) -> u32 {
    get(address, "/").unwrap().generation
}

/// Ends it, and makes sure that it has left nothing at its paths.
fn stop(mut daemon: Daemon) {
    assert_eq!(daemon.stop().code(), Some(0));
    daemon.wait_gone();
    let names: Vec<_> = fs::read_dir(daemon.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    let is_known = |name: &str| ["stdout", "stderr"].contains(&name) || name.starts_with("up.");
    assert!(names.iter().all(|name| is_known(&name.to_string_lossy())), "{names:?}");
}

/// How often the superdaemon has gone to sleep.
fn sleeps(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let of = |name: &str| -> u64 {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    of("voluntary_ctxt_switches") + of("nonvoluntary_ctxt_switches")
}

/// Waits until it does nothing for so many seconds, as it must when a moment has passed since the last event.
fn wait_idle(daemon: &Daemon, seconds: u64) {
    wait_for(
        || format!("{seconds} s of sleep; {:?}", daemon.lines()),
        || {
            let before = sleeps(daemon);
            thread::sleep(Duration::from_secs(seconds));
            (sleeps(daemon) == before).then_some(())
        },
    );
}
