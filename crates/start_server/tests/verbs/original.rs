//! The verbs against a superdaemon of Server::Starter itself, by signals and files.

use testkit::{Daemon, is_installed};

use crate::shell::{Verb, run};

const ORIGINAL: &str = "/usr/bin/start_server";

/// One of Server::Starter's superdaemons; none where it is not installed.
fn original(arguments: &[&str]) -> Option<Daemon> {
    if !is_installed(ORIGINAL) {
        return None;
    }
    let daemon = Daemon::new(ORIGINAL).with_files().option("--interval=1").server(arguments.iter().copied()).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    Some(daemon)
}

#[test]
fn a_restart_ends_when_only_the_new_generation_is_left() {
    let Some(daemon) = original(&[]) else { return };
    run(&daemon, &["--restart", "--pid-file=pid", "--status-file=status"]).expect(0, &[]);
    assert_eq!(daemon.status_file().unwrap().iter().map(|entry| entry.0).collect::<Vec<_>>(), [2]);
    let pid = format!("--pid={}", daemon.pid());
    run(&daemon, &["--restart", &pid, "--status-file=status"]).expect(0, &[]);
    assert_eq!(daemon.status_file().unwrap()[0].0, 3);
}

#[test]
fn a_restart_that_takes_too_long_is_not_waited_for() {
    let Some(daemon) = original(&["--drain=600"]) else { return };
    let restart = ["--restart", "--pid-file=pid", "--status-file=status", "--timeout=2"];
    run(&daemon, &restart).expect(4, &["time is up: the new generation has not replaced the old one"]);
    assert!(daemon.is_running());
}

#[test]
fn a_superdaemon_that_ends_meanwhile_is_not_a_success() {
    let Some(daemon) = original(&["--drain=600"]) else { return };
    let verb = Verb::start(&daemon, &["--restart", "--pid-file=pid", "--status-file=status"]);
    daemon.wait_event(1, "signal TERM");
    daemon.signal("KILL");
    verb.end().expect(1, &["ended before the restart was done"]);
}

#[test]
fn a_stop_ends_when_the_superdaemon_has() {
    let Some(mut daemon) = original(&["--drain=0.5"]) else { return };
    run(&daemon, &["--stop", "--pid-file=pid"]).expect(0, &["stopping now"]);
    assert!(!daemon.is_running());
    assert!(daemon.exit_status().success());
    run(&daemon, &["--stop", "--pid-file=pid"]).expect(5, &[]);
    let Some(daemon) = original(&["--ignore=TERM"]) else { return };
    run(&daemon, &["--stop", "--pid-file=pid", "--timeout=0.5"]).expect(4, &["time is up"]);
}

#[test]
fn what_it_cannot_tell_is_said() {
    let Some(mut daemon) = original(&[]) else { return };
    run(&daemon, &["--restart", "--pid-file=pid"]).expect(1, &["requires --pid-file and --status-file"]);
    run(&daemon, &["--status", "--pid-file=pid"]).expect(1, &["it is one of Server::Starter's"]);
    // Its PID file outlives it when it is killed: then there is nobody, whoever may have that PID.
    daemon.signal("KILL");
    daemon.exit_status();
    for verb in ["--restart", "--stop", "--status"] {
        run(&daemon, &[verb, "--pid-file=pid", "--status-file=status"]).expect(5, &["no superdaemon runs"]);
    }
}
