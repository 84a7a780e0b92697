//! Old workers: those that do not go, and those that are still needed.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use testkit::{Address, Daemon, Port, get, testserver};

use crate::{at, daemon, has_recorded, lines_with};

/// A superdaemon whose workers heed no TERM, and have children: one beside them and one in a session of its own.
fn with_stuck_workers(options: &[&str]) -> Daemon {
    let family = "sleep 600 & setsid sleep 600 & exec \"$0\" --record=record --ignore=TERM";
    let daemon = daemon()
        .with_files()
        .option("--interval=0.1")
        .options(options)
        .program(["sh".as_ref(), "-c".as_ref(), family.as_ref(), testserver().as_os_str()])
        .start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    daemon.wait_for("the family of generation 1", || (family_of(&daemon, 1).len() == 3).then_some(()));
    daemon
}

/// The processes of one generation.
fn family_of(daemon: &Daemon, generation: u32) -> Vec<u32> {
    let wanted = format!("SERVER_STARTER_GENERATION={generation}");
    let belongs = |pid: &u32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
    };
    daemon.processes().into_iter().filter(belongs).collect()
}

fn wait_family_gone(daemon: &Daemon, generation: u32) {
    daemon.wait_for(&format!("the end of generation {generation}"), || {
        family_of(daemon, generation).is_empty().then_some(())
    });
}

/// P6: an old worker that does not heed its signal was never ended; each restart left one more.
#[test]
fn p6_the_drain_timeout_ends_a_stuck_old_worker_and_its_descendants() {
    let daemon = with_stuck_workers(&["--drain-timeout=0.3"]);
    daemon.hup();
    daemon.wait_event(1, "signal TERM");
    daemon.wait_line("has not gone within the drain timeout of 300 ms");
    wait_family_gone(&daemon, 1);
    daemon.wait_status_file(|generations| generations == [2]);
    assert_eq!(family_of(&daemon, 2).len(), 3, "the new generation was harmed");
}

/// P6: with a stuck worker a stop never ended.
#[test]
fn p6_the_stop_timeout_ends_stuck_workers_and_their_descendants() {
    let mut daemon = with_stuck_workers(&["--stop-timeout=0.3"]);
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [1, 2]);
    daemon.wait_ready(2);
    assert!(daemon.stop().success());
    for generation in [1, 2] {
        assert!(has_recorded(&daemon, generation, "signal TERM"));
    }
    daemon.wait_gone();
}

/// P6: a second TERM did nothing. It hastens the end: whoever ignored the first signal gets TERM, and is killed five
/// seconds later.
#[test]
fn p6_a_second_term_hastens_the_end() {
    let mut daemon = with_stuck_workers(&["--signal-on-term=USR1"]);
    daemon.term();
    daemon.wait_event(1, "signal USR1");
    assert!(!has_recorded(&daemon, 1, "signal TERM"));
    // A second signal within a second counts as the same wish.
    thread::sleep(Duration::from_millis(1100));
    let asked = Instant::now();
    daemon.term();
    daemon.wait_event(1, "signal TERM");
    assert!(daemon.is_running());
    assert!(daemon.exit_status().success());
    assert!(asked.elapsed() >= Duration::from_secs(5), "killed after {:?}", asked.elapsed());
    daemon.wait_gone();
}

/// P6: nothing but KILL to each process helped then. QUIT ends everything at once.
#[test]
fn p6_quit_ends_a_stop_that_is_stuck() {
    let mut daemon = with_stuck_workers(&[]);
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [1, 2]);
    daemon.wait_ready(2);
    daemon.term();
    daemon.wait_event(2, "signal TERM");
    daemon.signal("QUIT");
    assert!(daemon.exit_status().success());
    daemon.wait_gone();
}

/// P6, the other side of it: nobody is killed who did not ask for time limits.
#[test]
fn p6_without_the_options_nobody_is_killed() {
    let daemon = with_stuck_workers(&[]);
    for generation in 2..=4 {
        daemon.hup();
        daemon.wait_ready(generation);
        daemon.wait_status_file(|generations| generations.last() == Some(&generation));
        daemon.wait_event(1, "signal TERM");
    }
    daemon.wait_event(3, "signal TERM");
    assert_eq!(daemon.wait_status_file(|generations| generations == [1, 2, 3, 4]).len(), 4);
    assert_eq!(family_of(&daemon, 1).len(), 3);
    assert!(!daemon.lines().iter().any(|line| line.contains("killing it")));
}

/// P22: a new worker that died in the kill-old delay was not noticed, and the old one was then told to go: nobody
/// served until the next was started.
#[test]
fn p22_when_the_new_worker_dies_in_the_kill_old_delay_the_old_one_stays() {
    let port = Port::new();
    let daemon = daemon()
        .with_files()
        .options([&at(&port), "--interval=0.1", "--kill-old-delay=60"])
        .server(["--exit-after=1.3", "--exit-generations=2"])
        .start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.hup();
    daemon.wait_line("sleeping 60 secs before killing old workers");
    let dead = daemon.wait_event(2, "start").pid;
    daemon.wait_line(&format!("worker {dead} died unexpectedly with status:0"));
    daemon.wait_ready(3);
    daemon.wait_lines("sleeping 60 secs before killing old workers", 2);
    daemon.wait_status_file(|generations| generations == [1, 3]);
    assert!(!has_recorded(&daemon, 1, "signal TERM"), "the old one was told to go");
    assert_ne!(get(&Address::local(port.number()), "/").unwrap().generation, 2);
}

/// P22: the kill-old delay kept everything else waiting, a stop for example.
#[test]
fn p22_a_stop_in_the_kill_old_delay_is_obeyed_at_once() {
    let mut daemon = daemon().with_files().options(["--interval=0.1", "--kill-old-delay=600"]).server([""; 0]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.hup();
    daemon.wait_line("sleeping 600 secs before killing old workers");
    assert!(daemon.stop().success());
    assert_eq!(lines_with(&daemon, "killing old workers"), 1, "only the line that announces the delay");
}

/// P22: each signal that came in the kill-old delay took up to a second off it.
#[test]
fn p22_signals_do_not_shorten_the_kill_old_delay() {
    const DELAY: Duration = Duration::from_secs(2);
    let daemon = daemon().with_files().options(["--interval=0.1", "--kill-old-delay=2"]).server([""; 0]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    let asked = Instant::now();
    daemon.hup();
    daemon.wait_line("sleeping 2 secs before killing old workers");
    while !daemon.lines().iter().any(|line| line == "killing old workers") {
        daemon.signal("ALRM");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(asked.elapsed() >= DELAY, "the old worker was told to go after {:?}", asked.elapsed());
    daemon.wait_event(1, "signal TERM");
}
