//! `--ready=exec:COMMAND`: a command proves a generation ready, and does not outlive the attempt.

use std::fs;

use testkit::{Builder, Daemon, Port};

use crate::world::{BEGET, generation, ours, running, shell, status, wait_family};

const SUCCEEDED: &str = ": the check succeeded";

fn checked_by(command: &str) -> Builder {
    ours().options([&format!("--ready=exec:{command}"), "--interval=0.1", "--log-file=log"]).log("log")
}

#[test]
fn it_is_run_until_it_succeeds() {
    let daemon = checked_by("echo checking; test -e good").program(["sleep", "600"]).start();
    daemon.wait_lines("checking", 3);
    assert_eq!(status(&daemon).current, None);
    fs::write(daemon.path("good"), "").unwrap();
    daemon.wait_line(SUCCEEDED);
    assert_eq!(generation(&daemon, 1).unwrap().ready_by.as_deref(), Some("exec"));
}

#[test]
fn it_gets_the_generations_environment_and_no_listener() {
    let port = Port::new();
    let command = "env | sort > check.env; cat; ls -l /proc/$$/fd > check.fds; echo said in passing; \
                   mv check.fds check.done";
    let daemon = checked_by(command)
        .options([format!("--port=127.0.0.1:{port}"), "--path=socket".to_owned(), "--envdir=env".to_owned()])
        .env("INHERITED", "yes");
    fs::create_dir(daemon.dir().join("env")).unwrap();
    fs::write(daemon.dir().join("env/FROM_DIRECTORY"), "too").unwrap();
    let daemon = daemon.server([] as [&str; 0]).start();
    daemon.wait_line(SUCCEEDED);
    daemon.wait_line("said in passing");
    let worker = daemon.wait_event(1, "start").pid;
    let environment = daemon.text("check.env");
    for expected in [
        format!("SERVER_STARTER_PID={worker}"),
        "SERVER_STARTER_GENERATION=1".to_owned(),
        format!("SERVER_STARTER_PORT=127.0.0.1:{port}=3;socket=4"),
        "INHERITED=yes".to_owned(),
        "FROM_DIRECTORY=too".to_owned(),
    ] {
        assert!(environment.lines().any(|line| line == expected), "no {expected} in\n{environment}");
    }
    let descriptors = daemon.text("check.done");
    assert!(!descriptors.contains("socket:"), "{descriptors}");
}

/// A check that hangs, and its descendants.
fn hanging_check() -> String {
    format!("test $SERVER_STARTER_GENERATION = 1 && exit; {BEGET} sh -c 'sleep 604; :'; :")
}

/// The second generation is starting and its check hangs.
fn hanging(options: &[&str], program: &str) -> Daemon {
    let daemon = checked_by(&hanging_check()).options(options.iter().copied()).program(shell(program)).start();
    daemon.wait_line(SUCCEEDED);
    daemon.hup();
    wait_family(&daemon, 1);
    daemon.wait_for("the check", || (running(&daemon, "sleep 604").len() == 1).then_some(()));
    daemon
}

fn wait_none_left(daemon: &Daemon) {
    wait_family(daemon, 0);
    let check = format!("/bin/sh -c {}", hanging_check());
    daemon.wait_for("the end of the check", || {
        (running(daemon, &check).is_empty() && running(daemon, "sleep 604").is_empty()).then_some(())
    });
}

#[test]
fn it_ends_when_its_generation_dies() {
    let daemon = hanging(
        &["--max-attempts=1"],
        "[ $SERVER_STARTER_GENERATION = 1 ] && exec sleep 600; while ! [ -e die ]; do sleep 0.1; done; exit 5",
    );
    fs::write(daemon.path("die"), "").unwrap();
    daemon.wait_line("exited with status 5 before it was ready");
    daemon.wait_line("generation 1 goes on serving");
    wait_none_left(&daemon);
    daemon.wait_for("the old worker to be all that is left", || (daemon.workers().len() == 1).then_some(()));
}

#[test]
fn it_ends_when_its_time_is_up() {
    let daemon = hanging(&["--max-attempts=1", "--ready-timeout=2"], "exec sleep 600");
    daemon.wait_line("was not ready within 2 s");
    daemon.wait_line("generation 1 goes on serving");
    wait_none_left(&daemon);
    daemon.wait_for("the old worker to be all that is left", || (daemon.workers().len() == 1).then_some(()));
}

#[test]
fn it_ends_when_everything_does() {
    let mut daemon = hanging(&[], "exec sleep 600");
    assert!(daemon.stop().success());
    daemon.wait_gone();
    let mut daemon = hanging(&[], "exec sleep 600");
    daemon.signal("QUIT");
    assert!(daemon.exit_status().success());
    daemon.wait_gone();
}

#[test]
fn it_leaves_nothing_behind_when_it_ends_by_itself() {
    let daemon = checked_by(&format!("{BEGET} echo checking; test -e good")).program(["sleep", "600"]).start();
    daemon.wait_lines("checking", 3);
    fs::write(daemon.path("good"), "").unwrap();
    daemon.wait_line(SUCCEEDED);
    wait_none_left(&daemon);
    assert_eq!(running(&daemon, "sleep 600").len(), 1);
}

#[test]
fn one_that_never_succeeds_fails_the_first_start() {
    let mut daemon =
        checked_by("false").options(["--ready-timeout=0.5", "--max-attempts=1"]).program(["sleep", "600"]).start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    daemon.wait_gone();
    assert!(
        daemon.lines().iter().any(|line| line.contains("the program could not be started: giving up after 1 attempt"))
    );
}
