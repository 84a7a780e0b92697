//! Whatever is under way when the superdaemon is upgraded goes on: the same processes, the same deadlines, and whoever
//! waits gets an answer.

use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use control::Role;
use testkit::{Address, Daemon, get};

use crate::client::{Client, RESTART};
use crate::programs::{upgraded, zombies};
use crate::world::{generation, ours, running, status, with_say};

fn role(daemon: &Daemon, number: u32) -> Option<Role> {
    generation(daemon, number).map(|generation| generation.role)
}

fn stop(mut daemon: Daemon) {
    assert_eq!(daemon.stop().code(), Some(0), "{:?}", daemon.lines());
    daemon.wait_gone();
    for file in ["pid", "status", "socket"] {
        assert!(!daemon.path(file).exists(), "{file}");
    }
}

/// How often the worker of a generation was started: a second time would be another process.
fn starts(daemon: &Daemon, number: u32) -> usize {
    daemon.events().iter().filter(|event| event.generation == number && event.what == "start").count()
}

#[test]
fn a_start_goes_on() {
    let daemon = ours().options(["--path=socket", "--interval=6"]).server(["--ready-after=0"]).start();
    let worker = daemon.wait_event(1, "start").pid;
    upgraded(&daemon);
    assert_eq!(role(&daemon, 1), Some(Role::Starting));
    upgraded(&daemon);
    assert_eq!(daemon.wait_status_file(|generations| generations == [1]), [(1, worker)]);
    daemon.wait_line("generation 1 (pid");
    assert_eq!(starts(&daemon, 1), 1);
    stop(daemon);
}

#[test]
fn a_restart_goes_on_and_a_verb_that_waits_for_it_gets_its_answer() {
    let daemon = ours().options(["--path=socket", "--ready=accept"]).server(["--ready-after=5"]).start();
    daemon.wait_line("is ready after");
    let mut client = Client::connect(&daemon);
    client.send(RESTART);
    client.wait_progress("starting new worker");
    let second = daemon.wait_event(2, "start").pid;
    upgraded(&daemon);
    assert_eq!(role(&daemon, 2), Some(Role::Starting));
    upgraded(&daemon);
    client.wait_progress("generation 2 (pid");
    let answer = client.answer();
    assert_eq!((&answer["reply"], &answer["generation"]), (&"restarted".into(), &2.into()), "{answer}");
    assert_eq!(daemon.status_file(), Some(vec![(2, second)]));
    assert_eq!(starts(&daemon, 2), 1);
    stop(daemon);
}

#[test]
fn half_a_request_is_not_lost() {
    let daemon = ours().options(["--path=socket", "--interval=0"]).server(["--ready-after=0"]).start();
    daemon.wait_line("is ready after");
    let mut client = Client::connect(&daemon);
    client.send(&RESTART[..10]);
    upgraded(&daemon);
    client.send(&RESTART[10..]);
    assert_eq!(client.answer()["reply"], "restarted");
    stop(daemon);
}

#[test]
fn the_kill_old_delay_goes_on() {
    let daemon =
        ours().options(["--path=socket", "--interval=0.1", "--kill-old-delay=8"]).server(["--ready-after=0"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.hup();
    daemon.wait_line("sleeping 8 secs");
    upgraded(&daemon);
    assert_eq!((role(&daemon, 1), role(&daemon, 2)), (Some(Role::Current), Some(Role::Soaking)));
    daemon.wait_event(1, "signal TERM");
    daemon.wait_status_file(|generations| generations == [2]);
    let told = daemon.events().iter().filter(|event| event.generation == 1 && event.what == "signal TERM").count();
    assert_eq!(told, 1);
    stop(daemon);
}

#[test]
fn the_drain_timeout_goes_on() {
    let daemon =
        ours().options(["--path=socket", "--interval=0.1", "--drain-timeout=8"]).server(["--drain=600"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    daemon.hup();
    daemon.wait_line("killing old workers");
    upgraded(&daemon);
    assert_eq!(role(&daemon, 1), Some(Role::Draining));
    let left = generation(&daemon, 1).unwrap().killed_in_ms.unwrap();
    assert!(left <= 8000, "{left} ms");
    upgraded(&daemon);
    daemon.wait_line("has not gone within the drain timeout of 8 s");
    daemon.wait_status_file(|generations| generations == [2]);
    daemon.signal("QUIT");
    daemon.wait_gone();
}

#[test]
fn a_pause_after_a_failure_goes_on() {
    let daemon = ours().options(["--path=socket", "--interval=6"]).server(["--fail-generations=2"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.hup();
    daemon.wait_line("the next attempt comes in");
    upgraded(&daemon);
    assert_eq!(status(&daemon).failures, 1);
    assert_eq!(starts(&daemon, 3), 0, "it is too early");
    daemon.wait_status_file(|generations| generations == [3]);
    stop(daemon);
}

#[test]
fn a_check_that_runs_is_waited_for() {
    let daemon = ours()
        .options(["--path=socket", "--ready=exec:echo x >>checks; while ! test -e go; do sleep 0.02; done"])
        .server(["--ready-after=0"])
        .start();
    daemon.wait_file("checks");
    upgraded(&daemon);
    upgraded(&daemon);
    std::fs::write(daemon.path("go"), "").unwrap();
    daemon.wait_line("the check succeeded");
    assert_eq!(daemon.text("checks"), "x\n", "it was run once");
    assert_eq!(zombies(&daemon), 0);
    stop(daemon);
}

#[test]
fn what_a_generation_says_is_heard_by_the_next_program() {
    let builder = with_say(ours().options(["--path=socket", "--ready=notify"]));
    let script = "while ! test -e go; do sleep 0.02; done; exec ./say 'STATUS=well' READY=1 stay";
    let daemon = builder.program(["sh", "-c", script]).start();
    daemon.wait_line("starting new worker");
    upgraded(&daemon);
    std::fs::write(daemon.path("go"), "").unwrap();
    daemon.wait_line("it said so");
    upgraded(&daemon);
    let seen = generation(&daemon, 1).unwrap();
    assert_eq!((seen.ready_by.as_deref(), seen.status.as_deref()), (Some("notify"), Some("well")));
    stop(daemon);
}

#[test]
fn an_end_goes_on() {
    let mut daemon = ours().options(["--path=socket", "--interval=0"]).server(["--drain=2"]).start();
    daemon.wait_ready(1);
    daemon.wait_line("is ready after");
    let mut client = Client::connect(&daemon);
    client.send("{\"version\":1,\"request\":\"stop\"}\n");
    daemon.wait_event(1, "signal TERM");
    upgraded(&daemon);
    assert!(status(&daemon).stopping);
    assert_eq!(client.answer()["reply"], "stopped");
    assert_eq!(daemon.exit_status().code(), Some(0));
    daemon.wait_gone();
    for file in ["pid", "status", "socket"] {
        assert!(!daemon.path(file).exists(), "{file}");
    }
}

#[test]
fn signals_that_come_meanwhile_are_not_lost() {
    let mut daemon = ours().options(["--path=socket", "--interval=0"]).server(["--ready-after=0"]).start();
    daemon.wait_line("is ready after");
    for number in 2..12 {
        daemon.signal("USR2");
        daemon.hup();
        daemon.wait_status_file(|generations| generations == [number]);
        daemon.wait_lines("has become", number as usize - 1);
    }
    daemon.signal("USR2");
    daemon.term();
    assert_eq!(daemon.exit_status().code(), Some(0));
    daemon.wait_gone();
}

#[test]
fn a_worker_that_dies_meanwhile_is_missed() {
    // The trial takes long enough for a death to fall into it, and the worker's own end comes whenever it likes.
    let daemon = ours().options(["--path=socket", "--interval=0"]).server(["--exit-after=0.3"]).start();
    daemon.wait_line("is ready after");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(3) {
        upgraded(&daemon);
    }
    daemon.wait_lines("died unexpectedly", 5);
    assert_eq!(zombies(&daemon), 0);
    stop(daemon);
}

#[test]
fn the_log_command_goes_on() {
    let daemon = ours()
        .options(["--path=socket", "--interval=0", "--log-file=| cat >>log"])
        .log("log")
        .server(["--ready-after=0"])
        .start();
    daemon.wait_line("is ready after");
    let before = running(&daemon, "cat");
    upgraded(&daemon);
    daemon.wait_line("has become");
    assert_eq!(running(&daemon, "cat"), before);
    assert_eq!(before.len(), 1);
    // Its death is noticed by the next program.
    daemon.signal_process(before[0], "KILL");
    daemon.wait_line("started again");
    upgraded(&daemon);
    daemon.wait_lines("has become", 2);
    stop(daemon);
}

#[test]
fn a_superdaemon_in_the_background_is_upgraded_too() {
    let mut daemon = ours()
        .options(["--path=socket", "--interval=0", "--daemonize", "--log-file=log"])
        .log("log")
        .server(["--ready-after=0"])
        .start();
    assert_eq!(daemon.exit_status().code(), Some(0));
    daemon.adopt(daemon.wait_file("pid").trim().parse().unwrap());
    upgraded(&daemon);
    upgraded(&daemon);
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [2]);
    daemon.term();
    daemon.wait_gone();
}

#[test]
fn the_listeners_are_guarded_as_before() {
    let daemon = ours().options(["--path=socket", "--interval=0.1"]).server(["--ready-after=0"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    daemon.settle();
    for round in 0..2 {
        if round == 0 {
            upgraded(&daemon);
        } else {
            daemon.signal("SEGV");
            daemon.wait_line(" crashed: ");
        }
        std::fs::remove_file(daemon.path("socket")).unwrap();
        daemon.wait_for("the socket file", || daemon.path("socket").exists().then_some(()));
        get(&Address::Unix(daemon.path("socket")), "/").unwrap();
    }
    stop(daemon);
}

#[test]
fn the_control_socket_and_the_envdir_stay() {
    let builder = ours().options(["--path=socket", "--interval=0", "--control-socket=control", "--envdir=env"]);
    std::fs::create_dir(builder.dir().join("env")).unwrap();
    std::fs::write(builder.dir().join("env/COLOUR"), "blue\n").unwrap();
    let daemon = builder.server(["--ready-after=0"]).start();
    daemon.wait_line("is ready after");
    let before = std::fs::metadata(daemon.path("control")).unwrap();
    let verb = || daemon.verb(["--upgrade", "--control-socket=control"]);
    assert_eq!(verb().status.code(), Some(0));
    assert_eq!(verb().status.code(), Some(0));
    assert_eq!(std::fs::metadata(daemon.path("control")).unwrap().ino(), before.ino());
    // The watch is there, too: a setting takes effect at once.
    std::fs::write(daemon.path("env/KILL_OLD_DELAY"), "1\n").unwrap();
    daemon.hup();
    daemon.wait_line("sleeping 1 secs");
    let dump = daemon.wait_dump(2);
    assert_eq!(dump.env("COLOUR"), Some("blue"));
    assert_eq!(dump.all("env START_SERVER_").count(), 0, "{dump:?}");
    assert_eq!(dump.descriptors().keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3]);
    daemon.wait_status_file(|generations| generations == [2]);
    stop(daemon);
}
