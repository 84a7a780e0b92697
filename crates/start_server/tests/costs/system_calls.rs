//! System calls, counted by strace: of a restart, and of each further listener.

use std::collections::BTreeMap;
use std::time::Duration;
use std::{fs, thread};

use testkit::{Builder, Daemon};

use crate::limits::{Costs, Margin};
use crate::{SLEEPER, superdaemon, wait_only};

/// How the allocator gets and returns its memory is the C library's business; what the process then has is measured.
const MEMORY: [&str; 5] = ["brk", "mmap", "munmap", "mremap", "madvise"];

type Calls = BTreeMap<String, u64>;

/// Tells that it is ready, after the superdaemon has seen that it runs, on a machine of any speed.
const TELLING: &str = "import os,socket,signal,time;signal.signal(15,lambda *a:os._exit(0));time.sleep(.1);\
    s=socket.socket(1,2);s.sendto(b'READY=1',os.environ['NOTIFY_SOCKET']);signal.pause()";

/// Of a restart, where the program tells that it is ready.
pub fn of_a_restart() -> Costs {
    const RESTARTS: u32 = 9;
    let builder = superdaemon(1).options(["--interval=0", "--ready=notify", "--enable-auto-restart"]);
    let builder = builder.options(["--auto-restart-interval=3600", "--envdir=env"]);
    fs::create_dir(builder.dir().join("env")).unwrap();
    let mut daemon = traced(builder.program(["python3", "-S", "-E", "-c", TELLING]));
    let mut seen = calls_until(&daemon, 1);
    let mut restarts = Vec::new();
    for generation in 2..=RESTARTS + 1 {
        daemon.hup();
        let now = calls_until(&daemon, generation);
        restarts.push(difference(&now, &seen));
        seen = now;
    }
    assert_eq!(daemon.stop().code(), Some(0));
    // The one in the middle: on a busy machine two things that happen can meet in one turn of the loop.
    restarts.sort_by_key(|calls| calls.values().sum::<u64>());
    let mut costs = Costs::default();
    costs.add_calls("system calls of a restart", restarts.swap_remove(restarts.len() / 2), Margin::None);
    costs
}

/// Of a hundred further listeners, at the start and at a restart.
pub fn of_listeners() -> Costs {
    let ([start, restart], [start_of_many, restart_of_many]) = (with_listeners(1), with_listeners(101));
    let mut costs = Costs::default();
    costs.add_calls(
        "system calls of 100 further listeners at the start",
        difference(&start_of_many, &start),
        Margin::Turns,
    );
    costs.add_calls(
        "system calls of 100 further listeners at a restart",
        difference(&restart_of_many, &restart),
        Margin::Turns,
    );
    costs
}

/// The calls of a start, and of a restart.
fn with_listeners(listeners: u32) -> [Calls; 2] {
    let mut daemon = traced(superdaemon(listeners).option("--interval=0.3").program(SLEEPER));
    let start = calls_until(&daemon, 1);
    daemon.hup();
    let all = calls_until(&daemon, 2);
    assert_eq!(daemon.stop().code(), Some(0));
    let restart = difference(&all, &start);
    [start, restart]
}

/// Starts a superdaemon of which strace writes what it does, but not what its workers do, into the file `trace`.
fn traced(builder: Builder) -> Daemon {
    // With -D the superdaemon, not strace, is the process that was started.
    builder.after_script("set -- strace -D -o trace \"$@\"").start()
}

/// What it has called, by name, when nothing but `generation` is left and it sleeps for good.
fn calls_until(daemon: &Daemon, generation: u32) -> Calls {
    wait_only(daemon, generation);
    let trace = daemon.wait_for("the sleep of the superdaemon", || {
        let trace = daemon.text("trace");
        // It gives memory back a second after the last thing has happened.
        thread::sleep(Duration::from_millis(1500));
        let is_asleep = trace.lines().last().is_some_and(|call| call.contains("poll(") && !call.contains(" = "));
        (is_asleep && daemon.text("trace") == trace).then_some(trace)
    });
    let mut calls = Calls::new();
    for (name, _) in trace.lines().filter_map(|line| line.split_once('(')) {
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !MEMORY.contains(&name) {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    calls
}

/// What is more in `after`.
fn difference(after: &Calls, before: &Calls) -> Calls {
    let more = after.iter().map(|(name, count)| (name.clone(), count.saturating_sub(*before.get(name).unwrap_or(&0))));
    more.filter(|(_, count)| *count > 0).collect()
}
