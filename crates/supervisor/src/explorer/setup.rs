//! What is explored: the operator's choices, and how much may happen.

use std::time::Duration;

use crate::{AutoRestart, Policy, Readiness, Settings};

/// One exploration.
#[derive(Clone, Debug)]
pub struct Setup {
    pub name: &'static str,
    pub policy: Policy,
    /// The settings at the start, and those that may come in force later.
    pub settings: Vec<Settings>,
    /// Workers that are there before the start: their generations, oldest first.
    pub orphans: Vec<u32>,
    /// Whether a new process takes a while to run the program, and may fail to.
    pub slow_exec: bool,
    /// Whether the kernel gives the number of a reaped process to a new one.
    pub reuses_pids: bool,
    pub bounds: Bounds,
}

/// How often each thing may still happen on the way to one world. What must happen is not limited:
/// deadlines pass, and processes that were told to go may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Bounds {
    pub spawns: u16,
    pub hups: u16,
    pub restarts: u16,
    pub give_ups: u16,
    /// Requesters that go without a word.
    pub hang_ups: u16,
    pub stops: u16,
    pub kills: u16,
    /// Processes that go although nobody told them to.
    pub exits: u16,
    pub spawn_failures: u16,
    pub exec_failures: u16,
    /// Events between [`crate::Action::Spawn`] and its result.
    pub slow_spawns: u16,
    /// Times that the readiness of a generation cannot be known.
    pub unknowns: u16,
    pub extensions: u16,
    pub settings: u16,
    /// Times that a moment passes and nothing is due.
    pub pauses: u16,
    /// Times that a deadline passes and the machine does not hear of it before something else.
    pub delays: u16,
}

impl Bounds {
    /// Enough for most things to happen at once, and few enough to try everything.
    pub const SMALL: Self = Self {
        spawns: 4,
        hups: 1,
        restarts: 1,
        give_ups: 1,
        hang_ups: 0,
        stops: 1,
        kills: 1,
        exits: 2,
        spawn_failures: 0,
        exec_failures: 0,
        slow_spawns: 0,
        unknowns: 0,
        extensions: 0,
        settings: 0,
        pauses: 0,
        delays: 0,
    };

    /// For walks: as much as there is time for.
    pub const NONE: Self = Self {
        spawns: u16::MAX,
        hups: u16::MAX,
        restarts: u16::MAX,
        give_ups: u16::MAX,
        hang_ups: u16::MAX,
        stops: u16::MAX,
        kills: u16::MAX,
        exits: u16::MAX,
        spawn_failures: u16::MAX,
        exec_failures: u16::MAX,
        slow_spawns: u16::MAX,
        unknowns: u16::MAX,
        extensions: u16::MAX,
        settings: u16::MAX,
        pauses: u16::MAX,
        delays: u16::MAX,
    };
}

pub const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl Setup {
    pub fn new(name: &'static str, policy: Policy, bounds: Bounds) -> Self {
        Self {
            name,
            policy,
            settings: vec![Settings::default()],
            orphans: Vec::new(),
            slow_exec: false,
            reuses_pids: false,
            bounds,
        }
    }

    pub fn settings(mut self, settings: &[Settings]) -> Self {
        self.settings = settings.to_vec();
        self
    }

    pub fn orphans(mut self, generations: &[u32]) -> Self {
        self.orphans = generations.to_vec();
        self
    }

    pub fn slow_exec(mut self) -> Self {
        self.slow_exec = true;
        self
    }
}

pub fn proved() -> Readiness {
    Readiness::Proved { timeout: seconds(3) }
}

pub fn kill_old_delay() -> Settings {
    Settings { kill_old_delay: seconds(2), auto_restart: None }
}

pub fn auto_restart() -> Settings {
    let auto_restart = Some(AutoRestart { interval: seconds(5) });
    Settings { auto_restart, ..Settings::default() }
}
