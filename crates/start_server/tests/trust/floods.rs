//! Work that others cause without end: each turn of the loop does some of it, and everybody else has their turn.

use std::fs;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use testkit::Daemon;

use crate::world::{ours, status};

/// A command is answered within this, however busy the machine is.
const PROMPT: Duration = Duration::from_secs(10);

/// Three processes that have others made, which end at once and lose their parent; for half a minute, if nobody ends
/// them before. They do not heed SIGTERM.
const STORM: &str = r"$SIG{TERM} = 'IGNORE'; my $end = time + 30;
for (1..3) {
    next if fork;
    while (time < $end) {
        my $child = fork; next unless defined $child;
        unless ($child) { fork; exit }
        waitpid $child, 0;
    }
    exit;
}
sleep 30;";

fn assert_answers(daemon: &Daemon) {
    let begun = Instant::now();
    status(daemon);
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
}

#[test]
fn a_storm_of_processes_that_end_at_once_makes_nobody_deaf() {
    let builder = ours().options(["--envdir=env", "--interval=0.1"]);
    fs::create_dir(builder.dir().join("env")).unwrap();
    for n in 0..200 {
        fs::write(builder.dir().join(format!("env/V{n}")), "x").unwrap();
    }
    let mut daemon = builder.program(["perl", "-e", STORM]).start();
    daemon.wait_line("is ready after");
    for _ in 0..10 {
        assert_answers(&daemon);
    }
    let begun = Instant::now();
    daemon.term();
    daemon.wait_line("sending TERM");
    daemon.signal("QUIT");
    daemon.exit_status();
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
}

#[test]
fn connections_without_end_keep_nobody_from_being_answered() {
    let daemon = ours().option("--interval=0.1").server([] as [&str; 0]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    let path = daemon.control_socket();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut held = std::collections::VecDeque::new();
                while !is_over.load(Ordering::Relaxed) {
                    held.extend(UnixStream::connect(&path));
                    if held.len() > 200 {
                        held.pop_front();
                    }
                }
            });
        }
        for _ in 0..20 {
            assert_answers(&daemon);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
