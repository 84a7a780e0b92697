//! What ends the container, and with which exit status: an orchestrator goes by that.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use testkit::{Client, get};

use crate::{address, can_contain, inside, ours, start};

/// `docker stop`: who was accepted is served, then PID 1 ends, and successfully.
#[test]
fn a_stop_drains() {
    if !can_contain("a_stop_drains") {
        return;
    }
    for (signal, graceful) in [("TERM", true), ("INT", true), ("QUIT", false)] {
        let mut daemon = start(ours().options(["--ready=accept", "--stop-timeout=20"]).server([""; 0]));
        daemon.wait_line("is ready after");
        let mut slow = UnixStream::connect(daemon.path("socket")).unwrap();
        slow.write_all(b"GET /sleep/0.5 HTTP/1.1\r\nConnection: close\r\n\r\n").unwrap();
        get(&address(&daemon), "/").unwrap();
        daemon.signal(signal);
        let mut answer = String::new();
        let read = slow.read_to_string(&mut answer);
        assert_eq!(read.is_ok() && answer.contains("generation=1 pid="), graceful, "{signal}: {answer}");
        assert_eq!(daemon.exit_status().code(), Some(0), "{signal}");
        daemon.wait_gone();
        assert!(!daemon.path("socket").exists());
    }
}

/// A worker that does not go is killed before the orchestrator would kill everything.
#[test]
fn a_stop_takes_no_longer_than_the_stop_timeout() {
    if !can_contain("a_stop_takes_no_longer_than_the_stop_timeout") {
        return;
    }
    let mut daemon = start(ours().options(["--ready=accept", "--stop-timeout=0.3"]).server(["--ignore=TERM"]));
    daemon.wait_line("is ready after");
    assert_eq!(daemon.stop().code(), Some(0));
    daemon.wait_gone();
}

/// A container that cannot do its work must be started again, or be seen to fail.
#[test]
fn what_cannot_be_started_is_a_failure() {
    if !can_contain("what_cannot_be_started_is_a_failure") {
        return;
    }
    let mut daemon = ours().program(["./nothing"]).start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    daemon.wait_line("Can't exec \"./nothing\": No such file or directory");
    // Not by being alive: on a busy machine it may take long to fail.
    let mut daemon =
        ours().options(["--max-attempts=2", "--interval=0.1", "--ready=notify"]).program(["false"]).start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    daemon.wait_line("the program could not be started: giving up after 2 attempts");
    let mut daemon = ours().option("--intervall=1").program(["true"]).start();
    assert_eq!(daemon.exit_status().code(), Some(2));
}

/// PID 1 is given no signal that it does not handle, and the others have no meaning.
#[test]
fn other_signals_do_not_end_it() {
    if !can_contain("other_signals_do_not_end_it") {
        return;
    }
    let mut daemon = start(ours().option("--ready=accept").server([""; 0]));
    daemon.wait_line("is ready after");
    for signal in ["USR1", "USR2", "PIPE", "ALRM", "WINCH", "TSTP", "TTIN", "TTOU", "CONT", "CHLD"] {
        daemon.signal(signal);
    }
    daemon.hup();
    daemon.wait_ready(2);
    daemon.wait_event(1, "exit 0");
    assert_eq!(daemon.stop().code(), Some(0));
}

/// What a kernel out of memory does to a worker is no end of the container.
#[test]
fn a_worker_that_is_killed_is_replaced() {
    if !can_contain("a_worker_that_is_killed_is_replaced") {
        return;
    }
    let mut daemon = start(ours().options(["--ready=accept", "--interval=0.1"]).server([""; 0]));
    daemon.wait_line("is ready after");
    daemon.signal_process(daemon.workers()[0], "KILL");
    daemon.wait_line("was killed by signal KILL");
    assert_eq!(get(&address(&daemon), "/").unwrap().generation, 2);
    assert_eq!(daemon.stop().code(), Some(0));
}

/// Clients that have not heard of the end are served for the term delay, and whoever asks hears that it has begun.
#[test]
fn after_a_term_clients_are_served_for_the_delay() {
    const DELAY: Duration = Duration::from_secs(2);
    if !can_contain("after_a_term_clients_are_served_for_the_delay") {
        return;
    }
    let mut daemon = start(ours().options(["--ready=accept", "--term-delay=2", "--stop-timeout=20"]).server([""; 0]));
    daemon.wait_line("is ready after");
    assert!(inside(&daemon, &["--status", "--serving", "--pid=1"]).status.success());
    let client = Client::start(address(&daemon));
    client.wait_answers(5);
    let begun = Instant::now();
    daemon.term();
    daemon.wait_line("received TERM, workers serve on for 2 s and are told to stop then");
    let told = inside(&daemon, &["--status", "--serving", "--pid=1"]);
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    assert!(String::from_utf8_lossy(&told.stderr).contains("not serving: the superdaemon is stopping"), "{told:?}");
    client.wait_answers(50);
    let tally = client.stop();
    assert_eq!(tally.lost(), 0, "{tally:?}");
    assert_eq!(daemon.exit_status().code(), Some(0));
    assert!(begun.elapsed() >= DELAY);
}
