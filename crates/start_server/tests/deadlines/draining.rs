//! `--drain-timeout` and `--max-old-generations`: old generations that do not go.

use control::Role;

use crate::world::{BEGET, generation, ours, running, shell, wait_family};

#[test]
fn a_generation_that_does_not_go_is_killed_with_its_descendants_and_no_others() {
    let daemon = ours()
        .options(["--interval=0.1", "--drain-timeout=3"])
        .program(shell(&format!("{BEGET} exec $SERVER --ignore=TERM")))
        .start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    wait_family(&daemon, 1);
    daemon.hup();
    let old = daemon.wait_event(1, "signal TERM").pid;
    wait_family(&daemon, 2);
    let draining = generation(&daemon, 1).unwrap();
    assert_eq!(draining.role, Role::Draining);
    assert!(draining.killed_in_ms.is_some_and(|left| left <= 3000), "{draining:?}");
    daemon.wait_line(&format!(
        "generation 1 (pid {old}) has not gone within the drain timeout of 3 s; killing it and its descendants"
    ));
    daemon.wait_line(&format!("old worker {old} died, status:9"));
    daemon.wait_status_file(|generations| generations == [2]);
    wait_family(&daemon, 1);
    assert_eq!(generation(&daemon, 2).unwrap().role, Role::Current);
}

/// The shell dies of the signal, and the server has not even heard of it.
#[test]
fn what_a_wrapper_leaves_behind_is_killed_too() {
    let daemon =
        ours().options(["--interval=0.1", "--drain-timeout=1"]).program(shell("setsid sleep 602 & $SERVER; :")).start();
    daemon.wait_status_file(|generations| generations == [1]);
    let server = daemon.wait_ready(1).pid;
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [2]);
    daemon.wait_line("has gone and left 2 processes behind; the drain timeout is over");
    daemon.wait_for("the end of the server", || (!daemon.processes().contains(&server)).then_some(()));
    daemon.wait_for("one sleep", || (running(&daemon, "sleep 602").len() == 1).then_some(()));
    let server = daemon.wait_ready(2).pid;
    assert!(daemon.processes().contains(&server));
}

#[test]
fn a_generation_that_goes_in_time_is_left_alone() {
    let daemon = ours().options(["--interval=0.1", "--drain-timeout=60"]).server(["--drain=1", "--exit=3"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    daemon.hup();
    daemon.wait_event(1, "exit 3");
    daemon.wait_status_file(|generations| generations == [2]);
    assert!(!daemon.lines().iter().any(|line| line.contains("killing it")), "{:?}", daemon.lines());
}

#[test]
fn the_deadline_counts_from_the_first_time_that_a_generation_was_told() {
    let daemon = ours().options(["--interval=0.1", "--drain-timeout=2"]).server(["--ignore=TERM"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    daemon.hup();
    daemon.wait_ready(2);
    daemon.wait_event(1, "signal TERM");
    let left = || generation(&daemon, 1).and_then(|generation| generation.killed_in_ms);
    let first = left();
    daemon.hup();
    daemon.wait_event(2, "signal TERM");
    // The first generation was told again now, which gives it no more time. It may even have gone.
    if let (Some(first), Some(again)) = (first, left()) {
        assert!(again < first, "{first} ms, then {again} ms");
    }
    daemon.wait_lines("has not gone within the drain timeout of 2 s", 2);
    daemon.wait_status_file(|generations| generations == [3]);
}

#[test]
fn the_oldest_of_too_many_is_killed() {
    let daemon = ours()
        .options(["--interval=0.1", "--max-old-generations=2"])
        .program(shell(&format!("{BEGET} exec $SERVER --ignore=TERM")))
        .start();
    for number in 1..=3 {
        let generations: Vec<u32> = (1..=number).collect();
        daemon.wait_status_file(|found| found == generations);
        daemon.wait_ready(number);
        daemon.hup();
    }
    let oldest = daemon.wait_event(1, "start").pid;
    daemon.wait_line(&format!(
        "generation 1 (pid {oldest}) is the oldest of more than 2 old generations; killing it and its descendants"
    ));
    daemon.wait_status_file(|generations| generations == [2, 3, 4]);
    wait_family(&daemon, 3);
    assert!(generation(&daemon, 2).unwrap().role == Role::Draining);
}
