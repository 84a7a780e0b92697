//! What one superdaemon holds, fresh and after many restarts, and how often it wakes up while nothing happens.
//!
//! Clean pages are left out: whether they count as its own depends on who else runs the same program.

use std::time::Duration;
use std::{fs, thread};

use testkit::Daemon;

use crate::limits::{Costs, Margin};
use crate::{SLEEPER, superdaemon, wait_only};

const RESTARTS: u32 = 200;
const IDLE: Duration = Duration::from_secs(5);

pub fn measured() -> Costs {
    let builder = superdaemon(1).options(["--interval=0", "--enable-auto-restart", "--auto-restart-interval=3600"]);
    let mut daemon = builder.program(SLEEPER).start();
    wait_only(&daemon, 1);
    let fresh = Holdings::of(&daemon);
    for generation in 2..=RESTARTS + 1 {
        daemon.hup();
        wait_only(&daemon, generation);
    }
    let old = Holdings::of(&daemon);
    let before = daemon.naps();
    thread::sleep(IDLE);
    let woken = daemon.naps() - before;
    assert_eq!(daemon.stop().code(), Some(0));

    let mut costs = Costs::default();
    costs.add("anonymous memory of a fresh superdaemon, kB", fresh.anonymous, Margin::Pages);
    costs.add("private written memory of a fresh superdaemon, kB", fresh.written, Margin::Pages);
    let growth = old.anonymous.saturating_sub(fresh.anonymous);
    costs.add("growth of anonymous memory over 200 restarts, kB", growth, Margin::Growth);
    costs.add("descriptors of a fresh superdaemon", fresh.descriptors, Margin::None);
    costs.add("descriptors after 200 restarts", old.descriptors, Margin::None);
    costs.add("wake-ups in 5 idle seconds", woken, Margin::None);
    costs
}

struct Holdings {
    anonymous: u64,
    written: u64,
    descriptors: u64,
}

impl Holdings {
    /// What it holds when it has done what it had to do.
    fn of(daemon: &Daemon) -> Self {
        daemon.rest();
        let descriptors = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
        Self {
            anonymous: field(daemon, "status", "RssAnon:"),
            written: field(daemon, "smaps_rollup", "Private_Dirty:"),
            descriptors: descriptors.try_into().unwrap(),
        }
    }
}

/// The number in a line `NAME: NUMBER …` of a file under /proc.
fn field(daemon: &Daemon, file: &str, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{}/{file}", daemon.pid())).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    value.unwrap_or_else(|| panic!("no {name} in {file}"))
}
