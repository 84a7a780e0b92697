//! Programs that do not start, or do not last: how often they are tried, and how soon again.

use std::fs;
use std::time::Duration;

use testkit::{Address, Builder, Daemon, Port, get};

use crate::world::{ours, put_program, status};

/// A pause as a line tells it: after `words`, up to the next punctuation.
fn pause(line: &str, words: &str) -> Duration {
    let rest = line.split_once(words).unwrap_or_else(|| panic!("{line}")).1;
    let text = rest.split([',', ';']).next().unwrap().trim();
    let number = |unit: &str| text.strip_prefix("in ").and_then(|text| text.strip_suffix(unit)?.parse::<f64>().ok());
    match (text, number(" ms"), number(" s")) {
        ("at once", ..) => Duration::ZERO,
        (_, Some(milliseconds), _) => Duration::from_secs_f64(milliseconds / 1000.0),
        (_, _, Some(seconds)) => Duration::from_secs_f64(seconds),
        _ => panic!("no pause in {line}"),
    }
}

fn pauses(daemon: &Daemon, words: &str) -> Vec<Duration> {
    daemon.lines().iter().filter(|line| line.contains(words)).map(|line| pause(line, words)).collect()
}

fn quick() -> Builder {
    ours().option("--interval=0.1")
}

/// Under this rule a program cannot be taken for ready because it takes its time to fail.
fn seen() -> Builder {
    quick().options(["--path=socket", "--ready=accept"])
}

/// A superdaemon with a generation that serves; as long as the file `broken` is there, no other comes up.
fn with_a_first_generation(builder: Builder) -> Daemon {
    let daemon = builder.server(["--fail-if=broken", "--fail-status=9"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    fs::write(daemon.path("broken"), "").unwrap();
    daemon
}

#[test]
fn a_first_start_is_tried_so_often_and_then_is_an_error() {
    let mut daemon = seen().option("--max-attempts=3").server(["--fail-generations=1,2,3"]).start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    daemon.wait_gone();
    assert_eq!(daemon.events().iter().filter(|event| event.what == "start").count(), 3);
    assert!(daemon.lines().contains(&"the program could not be started: giving up after 3 attempts".to_owned()));
    assert_eq!((daemon.text("pid"), daemon.status_file()), (String::new(), None));
}

#[test]
fn a_program_that_cannot_be_executed_is_an_error_at_once() {
    for (program, why) in [("./nothing", "No such file or directory"), ("./text", "Permission denied")] {
        let daemon = ours();
        fs::write(daemon.dir().join("text"), "text").unwrap();
        let mut daemon = daemon.program([program]).start();
        assert_eq!(daemon.exit_status().code(), Some(1), "{program}");
        let lines = daemon.lines();
        assert!(lines.contains(&format!("failed to exec {program}:{why}")), "{lines:?}");
        assert_eq!(lines.iter().filter(|line| line.starts_with("starting new worker")).count(), 1, "{lines:?}");
        assert_eq!((daemon.text("pid"), daemon.status_file()), (String::new(), None));
    }
}

#[test]
fn a_restart_is_tried_so_often_and_then_the_old_one_stays() {
    let port = Port::new();
    let daemon =
        with_a_first_generation(seen().options([format!("--port=127.0.0.1:{port}"), "--max-attempts=2".to_owned()]));
    let served_by = || get(&Address::local(port.number()), "/").unwrap().generation;
    daemon.hup();
    let line = daemon.wait_line("restart given up after 2 attempts; generation 3 (pid ");
    assert!(line.ends_with(") exited with status 9 before it was ready; generation 1 goes on serving"), "{line}");
    assert_eq!(served_by(), 1);
    assert_eq!(daemon.status_file().unwrap().len(), 1);
    let status = status(&daemon);
    assert_eq!((status.current, status.failures, status.restarts), (Some(1), 2, 0));
    assert!(status.last_failure.unwrap().contains("generation 3"));
    // Nothing is left of it that would keep the next one from coming up.
    fs::remove_file(daemon.path("broken")).unwrap();
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [4]);
    daemon.wait_ready(4);
    daemon.wait_event(1, "exit 0");
    assert_eq!(served_by(), 4);
}

#[test]
fn a_program_that_has_vanished_is_a_failed_restart() {
    let daemon = quick().option("--max-attempts=1");
    put_program(daemon.dir(), "server", "#!/bin/sh\nexec sleep 600\n");
    let daemon = daemon.program(["./server"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    fs::remove_file(daemon.path("server")).unwrap();
    daemon.hup();
    daemon.wait_line("failed to exec ./server:No such file or directory");
    daemon.wait_line("could not execute the program: No such file or directory; generation 1 goes on serving");
    assert_eq!(status(&daemon).current, Some(1));
}

#[test]
fn pauses_between_attempts_grow_and_a_success_ends_that() {
    let daemon = with_a_first_generation(seen().option("--backoff-max=0.8"));
    daemon.hup();
    daemon.wait_lines("; the next attempt comes ", 6);
    let grown = pauses(&daemon, "; the next attempt comes ");
    // Up to a quarter is jitter.
    for (n, full) in [100, 200, 400, 800, 800, 800].into_iter().enumerate() {
        assert!(
            (Duration::from_millis(full * 3 / 4 - 1)..=Duration::from_millis(full)).contains(&grown[n]),
            "{grown:?}"
        );
    }
    fs::remove_file(daemon.path("broken")).unwrap();
    daemon.wait_line("killing old workers");
    daemon.wait_event(1, "exit 0");
    let before = pauses(&daemon, "; the next attempt comes ").len();
    fs::write(daemon.path("broken"), "").unwrap();
    daemon.hup();
    daemon.wait_lines("; the next attempt comes ", before + 1);
    assert!(pauses(&daemon, "; the next attempt comes ")[before] <= Duration::from_millis(100));
}

#[test]
fn a_worker_that_keeps_dying_is_started_ever_more_slowly() {
    for (option, at_most) in [("--backoff-max=2", 2000), ("--interval=0.1", 1000)] {
        // It dies soon after it was ready. The default lets an interval below a second grow to one.
        let daemon = quick().option(option).server(["--exit-after=0.15"]).start();
        let pauses = || pauses(&daemon, "; the next one is started ");
        // It lives longer than the interval is at first, so that any pause at all has grown.
        daemon.wait_for("a pause that has grown", || pauses().iter().find(|pause| !pause.is_zero()).copied());
        assert!(pauses().iter().all(|pause| *pause <= Duration::from_millis(at_most)), "{:?}", pauses());
    }
}
