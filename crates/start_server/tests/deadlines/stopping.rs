//! The end: `--stop-timeout`, a second TERM or INT, QUIT.

use std::thread;
use std::time::{Duration, Instant};

use testkit::Daemon;

use crate::world::{BEGET, ours, shell, wait_family};

/// Signals that come sooner after each other are taken for one wish.
const NOT_THE_SAME_WISH: Duration = Duration::from_millis(1100);

/// A superdaemon whose program does not heed TERM, nor do its descendants.
fn stubborn(options: &[&str]) -> Daemon {
    let daemon = ours()
        .option("--interval=0.1")
        .options(options.iter().copied())
        .program(shell(&format!("{BEGET} exec $SERVER --ignore=TERM,USR2")))
        .start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    wait_family(&daemon, 1);
    daemon
}

#[test]
fn workers_that_do_not_go_are_killed_with_their_descendants() {
    let mut daemon = stubborn(&["--stop-timeout=1"]);
    // An old generation that does not go either.
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [1, 2]);
    daemon.wait_event(1, "signal TERM");
    daemon.wait_ready(2);
    let (old, new) = (daemon.wait_event(1, "start").pid, daemon.wait_event(2, "start").pid);
    let begun = Instant::now();
    assert!(daemon.stop().success());
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    daemon.wait_gone();
    let lines = daemon.lines();
    let said = "workers have not gone within 1 s, sending KILL to them and their descendants:";
    let line = lines.iter().find_map(|line| line.strip_prefix(said)).unwrap_or_else(|| panic!("{lines:?}"));
    assert_eq!(line, format!("{old},{new}"));
    assert_eq!((daemon.text("pid"), daemon.status_file()), (String::new(), None));
}

#[test]
fn what_workers_leave_behind_is_killed_too() {
    let mut daemon = ours()
        .options(["--interval=0.1", "--stop-timeout=1"])
        .program(shell(&format!("{BEGET} $SERVER --ignore=TERM; :")))
        .start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    wait_family(&daemon, 1);
    assert!(daemon.stop().success());
    daemon.wait_gone();
    assert!(
        daemon.lines().iter().any(|line| line.starts_with("the workers have gone and left ")),
        "{:?}",
        daemon.lines()
    );
}

#[test]
fn workers_that_go_in_time_are_left_alone() {
    let mut daemon = ours().options(["--interval=0.1", "--stop-timeout=60"]).server(["--drain=1"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    assert!(daemon.stop().success());
    daemon.wait_event(1, "exit 0");
    assert!(!daemon.lines().iter().any(|line| line.contains("KILL")), "{:?}", daemon.lines());
}

/// The second time workers get TERM, whatever they got before.
#[test]
fn asked_twice_it_makes_haste() {
    for signal in ["TERM", "INT"] {
        let mut daemon = ours()
            .options(["--interval=0.1", "--signal-on-term=USR2"])
            .server(["--graceful-on=TERM", "--drain=0.2", "--exit=4"])
            .start();
        daemon.wait_status_file(|generations| generations == [1]);
        daemon.wait_ready(1);
        daemon.term();
        daemon.wait_event(1, "signal USR2");
        thread::sleep(NOT_THE_SAME_WISH);
        daemon.signal(signal);
        let line = daemon.wait_line("asked to stop again, sending TERM to all workers:");
        assert!(line.ends_with("; they are killed in 5 s"), "{line}");
        assert!(daemon.exit_status().success());
        daemon.wait_event(1, "exit 4");
    }
}

#[test]
fn asked_twice_those_who_do_not_go_are_killed_soon() {
    let mut daemon = stubborn(&[]);
    daemon.term();
    daemon.wait_event(1, "signal TERM");
    thread::sleep(NOT_THE_SAME_WISH);
    daemon.term();
    daemon.wait_line("workers have not gone within 5 s, sending KILL to them and their descendants:");
    assert!(daemon.exit_status().success());
    daemon.wait_gone();
}

#[test]
fn asked_three_times_it_ends_at_once() {
    let mut daemon = stubborn(&[]);
    for _ in 0..2 {
        daemon.term();
        thread::sleep(NOT_THE_SAME_WISH);
    }
    daemon.term();
    daemon.wait_line("asked to end at once, sending KILL to all workers:");
    assert!(daemon.exit_status().success());
    daemon.wait_gone();
}

#[test]
fn quit_ends_it_at_once() {
    let mut daemon = stubborn(&[]);
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [1, 2]);
    wait_family(&daemon, 2);
    let begun = Instant::now();
    daemon.signal("QUIT");
    assert!(daemon.exit_status().success());
    daemon.wait_gone();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let lines = daemon.lines();
    assert!(
        lines.iter().any(|line| line.starts_with("asked to end at once, sending KILL to all workers:")),
        "{lines:?}"
    );
    assert_eq!((daemon.text("pid"), daemon.status_file()), (String::new(), None));
}

#[test]
fn quit_ends_what_takes_too_long_to_stop() {
    let mut daemon = stubborn(&[]);
    daemon.term();
    daemon.wait_event(1, "signal TERM");
    daemon.signal("QUIT");
    assert!(daemon.exit_status().success());
    daemon.wait_gone();
}
