//! The superdaemon is made to crash: it goes on where it was, in the same process.

use std::time::{Duration, Instant};

use testkit::{Address, Client, Daemon, Port, is_installed};

use crate::client::{Client as Visitor, RESTART};
use crate::programs::{copy, descriptors, program_of, text, upgrade_to, upgraded, zombies};
use crate::world::{ours, status};

fn daemon(port: &Port) -> Daemon {
    let daemon = ours()
        .options([&format!("--port=127.0.0.1:{port}"), "--path=socket", "--interval=0.1"])
        .server(["--ready-after=0"])
        .start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    daemon
}

fn crash(daemon: &Daemon, signal: &str, count: usize) {
    // What is begun in the turn of a crash may be lost.
    daemon.settle();
    daemon.signal(signal);
    daemon.wait_lines(" crashed: ", count);
    daemon.settle();
}

#[test]
fn crashes_lose_nothing() {
    let port = Port::new();
    let mut daemon = daemon(&port);
    let before = daemon.status_file();
    daemon.settle();
    let open = descriptors(&daemon);
    let clients = [Address::local(port.number()), Address::Unix(daemon.path("socket"))].map(Client::start);
    for (number, signal) in ["SEGV", "BUS", "ABRT", "ILL", "FPE"].into_iter().enumerate() {
        clients.iter().for_each(|client| client.wait_answers(5));
        crash(&daemon, signal, number + 1);
        let line = daemon.wait_lines(" crashed: ", number + 1);
        let expected = format!("crashed: SIG{signal}, sent by pid {} of user ", std::process::id());
        assert!(line.contains(&expected), "{line}");
    }
    assert_eq!(descriptors(&daemon), open);
    assert_eq!(daemon.status_file(), before);
    assert_eq!(daemon.text("pid"), format!("{}\n", daemon.pid()));
    assert_eq!(zombies(&daemon), 0);
    // The PID file is still locked: no second one can start.
    let second = daemon.verb(["--pid-file=pid", "--", "true"]);
    assert!(text(&second).contains("another superdaemon"), "{}", text(&second));
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [2]);
    upgraded(&daemon);
    let seen = status(&daemon);
    assert_eq!((seen.crashes, seen.upgrades, seen.restarts), (5, 1, 1));
    for client in clients {
        client.wait_answers(1);
        let tally = client.stop();
        assert_eq!(tally.lost(), 0, "{tally:?}");
        eprintln!("{} requests, none lost", tally.ok);
    }
    assert_eq!(daemon.stop().code(), Some(0));
    daemon.wait_gone();
    for file in ["pid", "status", "socket"] {
        assert!(!daemon.path(file).exists(), "{file}");
    }
}

#[test]
fn a_restart_goes_on_after_a_crash() {
    let port = Port::new();
    let mut daemon = ours()
        .options([&format!("--port=127.0.0.1:{port}"), "--interval=0.3", "--kill-old-delay=0.5", "--drain-timeout=1"])
        .server(["--drain=600"])
        .start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    let mut visitor = Visitor::connect(&daemon);
    visitor.send(RESTART);
    daemon.wait_event(2, "start");
    crash(&daemon, "SEGV", 1);
    daemon.wait_line("sleeping 0.5 secs");
    crash(&daemon, "SEGV", 2);
    daemon.wait_line("killing old workers");
    crash(&daemon, "SEGV", 3);
    daemon.wait_line("has not gone within the drain timeout");
    let answer = visitor.answer();
    assert_eq!((&answer["reply"], &answer["generation"]), (&"restarted".into(), &2.into()), "{answer}");
    daemon.wait_status_file(|generations| generations == [2]);
    assert_eq!(zombies(&daemon), 0);
    daemon.signal("QUIT");
    daemon.wait_gone();
    assert_eq!(daemon.exit_status().code(), Some(0));
}

/// One that crashes right after it has spawned the worker of generation `spawned`, before it could remember that; strace
/// makes it, at the call that comes after the fork. Generation 1 serves.
fn crashing_at_spawn(spawned: u32, arguments: &[&str]) -> Daemon {
    let inject = format!("inject=sched_yield:signal=SEGV:when={spawned}");
    let trace = format!(r#"exec strace -D -qq -o trace -e trace=sched_yield -e {inject} "$@""#);
    let daemon = ours().after_script(&trace).option("--interval=0.1").server(arguments.iter().copied()).start();
    daemon.wait_ready(1);
    daemon.wait_status_file(|generations| generations == [1]);
    daemon
}

/// What it had to do before the crash it does again; it would be a lie that it does not.
#[test]
fn a_restart_that_it_remembers_goes_on_after_a_crash_at_the_spawn() {
    if !is_installed("strace") {
        return;
    }
    // The restart is known since the attempt that fails.
    let mut daemon = crashing_at_spawn(3, &["--fail-generations=2"]);
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [4]);
    let line = daemon.wait_line("generation 3 (pid");
    assert!(line.ends_with("was spawned just before the crash; it is ended"), "{line}");
    daemon.wait_ready(4);
    assert_eq!(daemon.stop().code(), Some(0));
    daemon.wait_gone();
}

#[test]
fn a_restart_that_a_crash_has_lost_is_not_lost_silently() {
    if !is_installed("strace") {
        return;
    }
    let mut daemon = crashing_at_spawn(2, &[]);
    daemon.settle();
    let before = descriptors(&daemon);
    let mut visitor = Visitor::connect(&daemon);
    // Who comes and asks in one turn is not even known afterwards, and sees the end of the connection.
    daemon.wait_for("the visitor's connection", || (descriptors(&daemon) > before).then_some(()));
    daemon.settle();
    visitor.send(RESTART);
    daemon.wait_line(" crashed: SIGSEGV");
    daemon.wait_line(
        "was spawned just before the crash; it is ended, and the restart that it was for is not tried again",
    );
    daemon.settle();
    let answer = visitor.answer();
    let reason = answer["reason"].as_str().unwrap_or_default();
    assert!(
        answer["reply"] == "error" && reason.contains("what was asked for just before is not tried again"),
        "{answer}"
    );
    assert_eq!(status(&daemon).current, Some(1));
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [3]);
    daemon.wait_ready(3);
    assert_eq!(daemon.stop().code(), Some(0));
    daemon.wait_gone();
}

/// More than five crashes a minute are not met at once; but all the while the workers serve, and it can be ended.
#[test]
fn too_many_crashes_make_it_wait() {
    let port = Port::new();
    let mut daemon = daemon(&port);
    for number in 1..=5 {
        crash(&daemon, "SEGV", number);
    }
    daemon.wait_line("after the next one it waits until the minute is over");
    daemon.signal("SEGV");
    let client = Client::start(Address::local(port.number()));
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(1) {
        client.wait_answers(20);
    }
    assert_eq!(daemon.lines().iter().filter(|line| line.contains(" crashed: ")).count(), 5, "it waits");
    assert!(daemon.is_running());
    assert_eq!(client.stop().lost(), 0);
    assert_eq!(daemon.stop().code(), Some(0));
    daemon.wait_lines(" crashed: ", 6);
    daemon.wait_gone();
    assert!(!daemon.path("pid").exists());
}

/// A program that crashes soon and again after it was upgraded to gives its place back.
#[test]
fn the_program_of_before_an_upgrade_takes_over_again() {
    let port = Port::new();
    let mut daemon = daemon(&port);
    let before = program_of(&daemon);
    let other = copy(daemon.dir(), "other");
    let output = upgrade_to(&daemon, &other);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert_eq!(program_of(&daemon), other);
    crash(&daemon, "SEGV", 1);
    crash(&daemon, "SEGV", 2);
    assert_eq!(program_of(&daemon), other);
    crash(&daemon, "SEGV", 3);
    assert_eq!(program_of(&daemon), before);
    let seen = status(&daemon);
    assert_eq!((seen.upgrades, seen.crashes), (1, 3));
    let open = descriptors(&daemon);
    assert!(!open.iter().any(|name| name.contains("other")), "{open:?}");
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [2]);
    assert_eq!(daemon.stop().code(), Some(0));
}

/// A worker of a turn that was lost in the crash is nobody's: it is ended, not forgotten.
#[test]
fn deaths_that_fall_into_a_crash_are_noticed() {
    let port = Port::new();
    let daemon = daemon(&port);
    for number in 1..=3 {
        let worker = daemon.wait_status_file(|generations| generations.len() == 1)[0].1;
        // Both are there when the superdaemon wakes up.
        daemon.signal("STOP");
        daemon.wait_state('T');
        daemon.signal_process(worker, "KILL");
        daemon.signal("SEGV");
        daemon.signal("CONT");
        daemon.wait_lines(" crashed: ", number);
        daemon.wait_status_file(|generations| generations.len() == 1 && generations[0] > number as u32);
    }
    assert_eq!(zombies(&daemon), 0);
}
