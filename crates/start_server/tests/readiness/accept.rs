//! `--ready=accept`: the kernel shows whether a generation waits for connections.

use std::thread;
use std::time::Duration;

use control::Role;
use testkit::{Address, Daemon, Port, get, testserver};

use crate::world::{generation, is_root, ours, put_program, shell, status, with_say};

const SEEN: &str = ": it waits for connections";

fn accepting(port: &Port) -> testkit::Builder {
    ours().options([format!("--port=127.0.0.1:{port}"), "--ready=accept".to_owned()])
}

#[test]
fn a_server_that_waits_for_connections_is_ready() {
    let port = Port::new();
    let daemon = accepting(&port).option("--interval=600").server([] as [&str; 0]).start();
    daemon.wait_line("generation 1 accepts connections: ");
    daemon.wait_line(SEEN);
    assert_eq!(generation(&daemon, 1).unwrap().ready_by.as_deref(), Some("accept"));
}

#[test]
fn a_server_in_a_wrapper_on_a_unix_socket_is_ready() {
    let daemon = ours()
        .options(["--path=socket", "--ready=accept", "--interval=600"])
        .program(shell("sh -c \"$SERVER; :\"; :"))
        .start();
    daemon.wait_line(SEEN);
    get(&Address::Unix(daemon.path("socket")), "/").unwrap();
}

#[test]
fn a_program_that_does_not_is_not_and_the_old_one_stays() {
    let port = Port::new();
    let daemon = accepting(&port)
        .options(["--interval=0.1", "--ready-timeout=1", "--max-attempts=2"])
        .program(shell("[ $SERVER_STARTER_GENERATION = 1 ] && exec $SERVER; exec sleep 600"))
        .start();
    daemon.wait_line(SEEN);
    let begun = std::time::Instant::now();
    daemon.hup();
    daemon.wait_lines("was not ready within 1 s; sending TERM to it", 2);
    assert!(begun.elapsed() >= Duration::from_secs(2));
    daemon.wait_line("restart given up after 2 attempts");
    assert_eq!(get(&Address::local(port.number()), "/").unwrap().generation, 1);
    assert_eq!(status(&daemon).failures, 2);
}

/// Where we are not allowed to look, the answer is neither yes nor no.
#[test]
fn what_cannot_be_seen_is_alive_and_that_is_said_once() {
    if !is_root("a worker that cannot be looked into") {
        return;
    }
    let port = Port::new();
    let dir = testkit::TempDir::new();
    // Root without the capability that lets it look into other users' processes.
    let ours = env!("CARGO_BIN_EXE_start_server");
    let script = format!("#!/bin/sh\nexec setpriv --bounding-set=-sys_ptrace --inh-caps=-sys_ptrace {ours} \"$@\"\n");
    put_program(dir.path(), "start_server", &script);
    let daemon = Daemon::new(dir.path().join("start_server"))
        .with_files()
        .options([format!("--port=127.0.0.1:{port}"), "--ready=accept".to_owned(), "--interval=1".to_owned()])
        .program(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sleep", "600"])
        .start();
    for number in [1, 2] {
        daemon.wait_lines(": it is alive", number);
        let lines = daemon.lines();
        for said in ["cannot be examined: ", "cannot be seen to accept connections; being alive"] {
            let count = lines.iter().filter(|line| line.contains(&format!("generation {number} {said}"))).count();
            assert_eq!(count, 1, "{lines:?}");
        }
        assert_eq!(generation(&daemon, u32::try_from(number).unwrap()).unwrap().role, Role::Current);
        if number == 1 {
            daemon.hup();
        }
    }
}

/// Under no rule is anything polled once there is a proof.
#[test]
fn nothing_is_polled_once_a_generation_is_ready() {
    let port = Port::new();
    let daemons: Vec<Daemon> = ["alive", "accept", "notify", "exec:echo checked >> checks"]
        .iter()
        .map(|rule| {
            let daemon = with_say(ours()).options([format!("--ready={rule}"), "--interval=0.1".to_owned()]);
            match *rule {
                "accept" => daemon.option(format!("--port=127.0.0.1:{port}")).program([testserver()]).start(),
                "notify" => daemon.program(shell("exec ./say READY=1 stay")).start(),
                _ => daemon.program(["sleep", "600"]).start(),
            }
        })
        .collect();
    for daemon in &daemons {
        daemon.wait_line("is ready after");
        daemon.rest();
    }
    let before: Vec<u64> = daemons.iter().map(Daemon::naps).collect();
    thread::sleep(Duration::from_secs(3));
    let after: Vec<u64> = daemons.iter().map(Daemon::naps).collect();
    assert_eq!(before, after);
    assert_eq!(daemons[3].text("checks"), "checked\n");
}
