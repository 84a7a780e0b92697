//! `--status`: for people, and for programs.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use serde_json::Value;
use testkit::{Daemon, Port};

use crate::world::{ours, shell, status};

fn text(daemon: &Daemon) -> String {
    let output = daemon.verb(["--status", "--pid-file=pid"]);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn json(daemon: &Daemon) -> Value {
    let output = daemon.verb(["--status", "--json", "--pid-file=pid"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn names(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn people_see_everything() {
    let port = Port::new();
    let daemon = ours()
        .options([format!("--port=127.0.0.1:{port}"), format!("--port=127.0.0.1:u{port}"), "--path=socket".to_owned()])
        .options(["--interval=0.1", "--ready=accept", "--drain-timeout=60", "--max-attempts=1", "--backlog=77"])
        .server(["--fail-if=broken", "--fail-status=9", "--drain=600"])
        .start();
    daemon.wait_line("is ready after");
    daemon.hup();
    daemon.wait_event(1, "signal TERM");
    fs::write(daemon.path("broken"), "").unwrap();
    daemon.hup();
    daemon.wait_line("restart given up");
    let seen = text(&daemon);
    let (old, new) = (daemon.wait_event(1, "start").pid, daemon.wait_event(2, "start").pid);
    for expected in [
        format!("(pid {}), running for ", daemon.pid()),
        "testserver --record=record".to_owned(),
        "ready rule: accept".to_owned(),
        "restarts: 1, failed attempts: 1".to_owned(),
        "last failure: generation 3 (pid ".to_owned(),
        "exited with status 9 before it was ready, ".to_owned(),
        format!("  1 (pid {old}): draining, spawned "),
        ", killed in ".to_owned(),
        format!("  2 (pid {new}): current, spawned "),
        " (accept)".to_owned(),
        format!("127.0.0.1:{port} (tcp 127.0.0.1:{port}) at descriptor 3, 0 of 77 connections wait\n"),
        format!("(udp 127.0.0.1:{port}) at descriptor 4\n"),
        "socket (unix socket) at descriptor 5, 0 of 77 connections wait\n".to_owned(),
    ] {
        assert!(seen.contains(&expected), "“{expected}” is missing in\n{seen}");
    }
}

#[test]
fn programs_see_every_field_and_no_other() {
    let port = Port::new();
    let daemon = ours()
        .options([format!("--port=127.0.0.1:{port}"), "--ready=accept".to_owned()])
        .server(["--drain=600"])
        .start();
    daemon.wait_line("is ready after");
    let seen = json(&daemon);
    assert_eq!(
        names(&seen),
        BTreeSet::from([
            "program_version",
            "control_socket",
            "pid",
            "running_for_ms",
            "command",
            "ready_rule",
            "current",
            "stopping",
            "restarts",
            "failures",
            "upgrades",
            "crashes",
            "last_failure",
            "last_failure_ago_ms",
            "generations",
            "listeners"
        ])
    );
    let generation = &seen["generations"][0];
    assert_eq!(
        names(generation),
        BTreeSet::from([
            "generation",
            "pids",
            "role",
            "spawned_ago_ms",
            "ready_ago_ms",
            "ready_by",
            "status",
            "killed_in_ms"
        ])
    );
    let listener = &seen["listeners"][0];
    assert_eq!(names(listener), BTreeSet::from(["name", "kind", "address", "fd", "queued", "backlog"]));
    let worker = daemon.wait_event(1, "start").pid;
    assert_eq!(seen["pid"], daemon.pid());
    assert_eq!(seen["command"][1], "--record=record");
    assert_eq!(seen["ready_rule"], "accept");
    assert_eq!((&seen["current"], &seen["stopping"], &seen["restarts"]), (&1.into(), &false.into(), &0.into()));
    assert_eq!((&seen["failures"], &seen["last_failure"]), (&0.into(), &Value::Null));
    assert_eq!((&generation["pids"][0], &generation["role"]), (&worker.into(), &"current".into()));
    assert_eq!((&generation["ready_by"], &generation["killed_in_ms"]), (&"accept".into(), &Value::Null));
    assert!(generation["spawned_ago_ms"].as_u64() >= generation["ready_ago_ms"].as_u64());
    assert_eq!((&listener["kind"], &listener["fd"], &listener["queued"]), (&"tcp".into(), &3.into(), &0.into()));
    daemon.term();
    daemon.wait_event(1, "signal TERM");
    let seen = json(&daemon);
    assert_eq!((&seen["stopping"], &seen["generations"][0]["role"]), (&true.into(), &"stopping".into()));
}

#[test]
fn those_who_wait_to_be_accepted_are_counted() {
    let port = Port::new();
    let daemon = ours()
        .options([format!("--port=127.0.0.1:{port}"), "--path=socket".to_owned(), "--backlog=50".to_owned()])
        .program(["sleep", "600"])
        .start();
    daemon.wait_line("is ready after");
    let _by_tcp: Vec<_> = (0..7).map(|_| TcpStream::connect(("127.0.0.1", port.number())).unwrap()).collect();
    let _by_path: Vec<_> = (0..5).map(|_| UnixStream::connect(daemon.path("socket")).unwrap()).collect();
    let queues: Vec<_> = status(&daemon).listeners.iter().map(|listener| (listener.queued, listener.backlog)).collect();
    assert_eq!(queues, [(Some(7), Some(50)), (Some(5), Some(50))]);
    let seen = text(&daemon);
    assert!(seen.contains(", 7 of 50 connections wait\n") && seen.contains(", 5 of 50 connections wait\n"), "{seen}");
}

#[test]
fn a_thousand_listeners_are_shown() {
    let paths: Vec<String> = (0..1000).map(|n| format!("a-rather-long-name-for-a-socket-of-number-{n:04}")).collect();
    let daemon = ours().option(format!("--path={}", paths.join(","))).program(["sleep", "600"]).start();
    daemon.wait_line("is ready after");
    assert_eq!(status(&daemon).listeners.len(), 1000);
    assert!(text(&daemon).contains("number-0999"));
}

/// What a worker says of itself is shown, and cannot paint the screen.
#[test]
fn what_a_generation_is_doing_is_shown() {
    let daemon = ours()
        .options(["--ready=exec:test -e good"])
        .program(shell("[ $SERVER_STARTER_GENERATION = 2 ] && exit 3; exec sleep 600"))
        .start();
    daemon.wait_line("starting new worker");
    assert!(text(&daemon).contains("): starting, spawned "));
    fs::write(daemon.path("good"), "").unwrap();
    daemon.wait_line("is ready after");
    assert!(text(&daemon).contains(" (exec)"), "{}", text(&daemon));
}
