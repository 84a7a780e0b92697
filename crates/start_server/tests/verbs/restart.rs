//! `--restart`: the truth about the outcome.

use std::fs;
use std::time::Duration;

use control::Role;
use testkit::{Address, Builder, Daemon, Port, get};

use crate::shell::{Verb, run};
use crate::world::{generation, ours, shell, status};

const RESTART: [&str; 2] = ["--restart", "--pid-file=pid"];

fn restart_with<'a>(options: &[&'a str]) -> Vec<&'a str> {
    RESTART.iter().chain(options).copied().collect()
}

fn quick() -> Builder {
    ours().options(["--interval=0.1", "--log-file=log"]).log("log")
}

fn started(builder: Builder) -> Daemon {
    let daemon = builder.start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    daemon
}

/// As long as the file `broken` is there, no new generation comes up. Under this rule one cannot be taken for ready
/// because it takes its time to fail.
fn breakable(builder: Builder) -> Daemon {
    let builder = builder.options(["--path=socket", "--ready=accept"]);
    started(builder.server(["--fail-if=broken", "--fail-status=9", "--say=syntax error in line 3"]))
}

fn broken(builder: Builder) -> Daemon {
    let daemon = breakable(builder);
    fs::write(daemon.path("broken"), "").unwrap();
    daemon
}

/// The superdaemon is as it was: generation 1 serves, nothing else is there or comes, and a restart works.
fn assert_well(daemon: &Daemon) {
    daemon.wait_for("rest", || {
        let status = status(daemon);
        (status.generations.len() == 1 && status.current == Some(1)).then_some(())
    });
    daemon.settle();
    let spawned = daemon.lines().iter().filter(|line| line.starts_with("starting new worker")).count();
    std::thread::sleep(Duration::from_millis(500));
    let lines = daemon.lines();
    assert_eq!(lines.iter().filter(|line| line.starts_with("starting new worker")).count(), spawned, "{lines:?}");
    let _ = fs::remove_file(daemon.path("broken"));
    run(daemon, &RESTART).expect(0, &["is current, and no older one is left"]);
}

#[test]
fn it_tells_what_happens_and_ends_when_only_the_new_one_is_left() {
    let daemon = started(quick().server(["--drain=0.5", "--exit=3"]));
    let old = daemon.wait_event(1, "start").pid;
    let ended = run(&daemon, &RESTART);
    let new = daemon.wait_event(2, "start").pid;
    ended.expect(
        0,
        &[
            "received HUP, spawning a new worker\nthis restart was asked for on the control socket\n",
            &format!("starting new worker {new}\n"),
            &format!("generation 2 (pid {new}) is ready after "),
            &format!("new worker is now running, sending TERM to old workers:{old}\n"),
            "killing old workers\n",
            &format!("old worker {old} died, status:768\n"),
            &format!("generation 1 (pid {old}) exited with status 3\n"),
            "generation 2 is current, and no older one is left\n",
        ],
    );
    assert_eq!(daemon.status_file().unwrap(), [(2, new)]);
}

#[test]
fn it_tells_it_as_it_happens() {
    let daemon = started(quick().options(["--kill-old-delay=1"]).server(["--drain=600"]));
    let mut verb = Verb::start(&daemon, &RESTART);
    verb.wait_said("starting new worker");
    verb.wait_said("is ready after");
    verb.wait_said("sleeping 1 secs before killing old workers");
    verb.wait_said("killing old workers\n");
    let old = daemon.wait_event(1, "signal TERM").pid;
    daemon.signal_process(old, "KILL");
    verb.end().expect(0, &["was killed by signal KILL", "no older one is left"]);
}

#[test]
fn it_can_end_at_the_commit() {
    let daemon = started(quick().server(["--drain=600"]));
    run(&daemon, &restart_with(&["--until=commit"])).expect(0, &["killing old workers\n", "generation 2 is current\n"]);
    assert_eq!(generation(&daemon, 1).unwrap().role, Role::Draining);
}

#[test]
fn a_broken_build_leaves_the_old_one_serving_and_says_why() {
    let port = Port::new();
    let daemon = broken(quick().options([format!("--port=127.0.0.1:{port}"), "--max-attempts=2".to_owned()]));
    let ended = run(&daemon, &RESTART);
    ended.expect(
        3,
        &[
            "exited with status 9 before it was ready (attempt 1); the next attempt comes in",
            "exited with status 9 before it was ready (attempt 2); there is no further attempt",
            "the restart failed: generation 3 (pid ",
            "exited with status 9 before it was ready\n",
            "the last lines of the log from that time:\n    syntax error in line 3\n",
            "generation 1 goes on serving\n",
        ],
    );
    let last_words = ended.said.rsplit("from that time:\n").next().unwrap();
    assert_eq!(last_words.matches("syntax error").count(), 1, "only the last attempt's lines: {last_words}");
    assert!(!last_words.contains("starting new worker"), "not the superdaemon's: {last_words}");
    assert_eq!(get(&Address::local(port.number()), "/").unwrap().generation, 1);
    assert_well(&daemon);
}

#[test]
fn every_way_to_fail_is_named() {
    let fails = |options: &[&str], script: &str, why: &str| {
        let script = format!("[ $SERVER_STARTER_GENERATION = 1 ] && exec $SERVER; {script}");
        let port = Port::new();
        let listener = format!("--port=127.0.0.1:{port}");
        let builder = quick().options(["--max-attempts=1", &listener]).options(options.iter().copied());
        let daemon = started(builder.program(shell(&script)));
        run(&daemon, &RESTART)
            .expect(3, &["the restart failed: generation 2 (pid ", why, "generation 1 goes on serving"]);
        assert_eq!(status(&daemon).current, Some(1));
    };
    fails(&["--interval=5"], "kill -SEGV $$", ") was killed by signal SEGV");
    fails(&["--interval=5"], "exec ./nothing", ") exited with status 127");
    fails(
        &["--ready=accept", "--ready-timeout=2"],
        "exec sleep 600",
        ") was not ready within 2 s and was killed by signal TERM",
    );
    fails(
        &["--kill-old-delay=30"],
        "sleep 0.3; exit 6",
        ") was ready, but exited with status 6 within the kill-old delay",
    );
}

#[test]
fn time_that_is_up_ends_an_attempt_that_is_not_ready() {
    let daemon = started(
        quick()
            .options(["--ready=exec:[ $SERVER_STARTER_GENERATION = 1 ] || test -e good", "--ready-timeout=60"])
            .server([] as [&str; 0]),
    );
    let ended = run(&daemon, &restart_with(&["--timeout=1"]));
    ended.expect(4, &["abandoned, generation 1 goes on serving\n"]);
    daemon.wait_event(2, "exit 0");
    fs::write(daemon.path("good"), "").unwrap();
    assert_well(&daemon);
}

#[test]
fn time_that_is_up_ends_attempts_that_fail_again_and_again() {
    let daemon = broken(quick());
    let ended = run(&daemon, &restart_with(&["--timeout=1"]));
    ended.expect(4, &["exited with status 9", "abandoned, generation 1 goes on serving\n"]);
    assert_well(&daemon);
}

#[test]
fn time_that_is_up_ends_an_attempt_that_is_ending_already() {
    // The new generation is not ready in time and does not heed TERM either; while it is being ended, the time of the
    // verb is up. There is no further attempt.
    let daemon = started(
        quick()
            .options(["--ready=exec:test $SERVER_STARTER_GENERATION != 2", "--ready-timeout=1.5", "--drain-timeout=3"])
            .program(shell("[ $SERVER_STARTER_GENERATION = 2 ] && trap '' TERM && exec sleep 600; exec $SERVER")),
    );
    run(&daemon, &restart_with(&["--timeout=3"])).expect(4, &["was not ready within 1.5 s", "time is up"]);
    daemon.wait_line("was told to stop and has not gone; killing it and its descendants");
    assert_well(&daemon);
}

#[test]
fn time_that_is_up_after_the_commit_undoes_nothing() {
    let daemon = started(quick().server(["--drain=600"]));
    let ended = run(&daemon, &restart_with(&["--timeout=1"]));
    let old = daemon.wait_event(1, "start").pid;
    ended.expect(4, &["killing old workers", &format!("time is up: generation 2 is current; still draining: {old}\n")]);
    assert_eq!(status(&daemon).current, Some(2));
}

#[test]
fn time_that_is_up_does_not_end_what_somebody_else_wants() {
    // A long interval: the verb comes between two attempts.
    let daemon = broken(quick().option("--interval=2"));
    daemon.hup();
    daemon.wait_line("exited with status 9");
    let ended = run(&daemon, &restart_with(&["--timeout=0.5"]));
    ended.expect(4, &["time is up: the restart goes on, since somebody else has asked for it too"]);
    fs::remove_file(daemon.path("broken")).unwrap();
    daemon.wait_status_file(|generations| generations.len() == 1 && generations[0] > 1);
}

#[test]
fn interrupted_it_leaves_the_superdaemon_to_finish() {
    let daemon = started(quick().options(["--kill-old-delay=1"]).server([] as [&str; 0]));
    let mut verb = Verb::start(&daemon, &RESTART);
    verb.wait_said("before killing old workers");
    verb.interrupt();
    assert_eq!(verb.end().signal, Some(2));
    daemon.wait_status_file(|generations| generations == [2]);
    // Neither does a rude end.
    let mut verb = Verb::start(&daemon, &RESTART);
    verb.wait_said("starting new worker");
    drop(verb);
    daemon.wait_status_file(|generations| generations == [3]);
}

#[test]
fn ten_shells_at_once_get_ten_right_answers() {
    let daemon = breakable(quick().option("--max-attempts=1"));
    let all_at_once = || -> Vec<_> {
        let verbs: Vec<_> = (0..10).map(|_| Verb::start(&daemon, &RESTART)).collect();
        verbs.into_iter().map(Verb::end).collect()
    };
    let spawned = || daemon.lines().iter().filter(|line| line.starts_with("starting new worker")).count();

    for ended in all_at_once() {
        let (_, rest) = ended.said.rsplit_once("\ngeneration ").unwrap();
        let (generation, _) = rest.split_once(" is current, and no older one is left\n").unwrap();
        let generation: u32 = generation.parse().unwrap();
        ended.expect(0, &[]);
        // A restart that began before it was asked for is none: of its own generation it heard the spawn.
        let new = daemon.wait_event(generation, "start").pid;
        ended.expect(0, &[&format!("starting new worker {new}\n"), "is ready"]);
    }
    let after_success = spawned();
    assert!((2..=11).contains(&after_success), "{after_success}");

    fs::write(daemon.path("broken"), "").unwrap();
    let current = status(&daemon).current.unwrap();
    for ended in all_at_once() {
        ended.expect(
            3,
            &["starting new worker ", "the restart failed: ", &format!("generation {current} goes on serving\n")],
        );
    }
    assert!((1..=10).contains(&(spawned() - after_success)));
    assert_eq!(status(&daemon).generations.len(), 1);
}

/// Ten that come while one is under way share one more restart.
#[test]
fn those_who_come_during_a_restart_share_the_next() {
    let ready = "--ready=exec:test $SERVER_STARTER_GENERATION = 1 -o -e good";
    let daemon = started(quick().option(ready).server([] as [&str; 0]));
    let mut first = Verb::start(&daemon, &RESTART);
    first.wait_said("starting new worker");
    let mut others: Vec<_> = (0..10).map(|_| Verb::start(&daemon, &RESTART)).collect();
    for (n, other) in others.iter_mut().enumerate() {
        daemon.wait_lines("one more restart follows", n + 1);
        other.wait_said("");
    }
    fs::write(daemon.path("good"), "").unwrap();
    first.end().expect(0, &["generation 2 is current"]);
    others.into_iter().for_each(|other| other.end().expect(0, &["generation 3 is current, and no older one is left"]));
    assert_eq!(status(&daemon).current, Some(3));
}

#[test]
fn there_is_no_restart_of_what_is_stopping() {
    let daemon = started(quick().options(["--kill-old-delay=30"]).server(["--drain=600"]));
    let mut earlier = Verb::start(&daemon, &RESTART);
    earlier.wait_said("before killing old workers");
    daemon.term();
    daemon.wait_event(1, "signal TERM");
    earlier.end().expect(1, &["is stopping: there is no restart any more"]);
    run(&daemon, &RESTART).expect(1, &["is stopping: there is no restart any more"]);
}

#[test]
fn the_end_of_the_superdaemon_is_not_taken_for_success() {
    let daemon = started(quick().options(["--kill-old-delay=30"]).server([] as [&str; 0]));
    let mut verb = Verb::start(&daemon, &RESTART);
    verb.wait_said("before killing old workers");
    daemon.signal("KILL");
    verb.end().expect(1, &[&format!("the superdaemon (pid {}) ended without an answer", daemon.pid())]);
}

#[test]
fn a_superdaemon_that_does_not_answer_is_not_waited_for_longer_than_wanted() {
    let daemon = started(quick().server([] as [&str; 0]));
    daemon.signal("STOP");
    daemon.wait_state('T');
    run(&daemon, &restart_with(&["--timeout=0.5"])).expect(4, &["time is up, and the outcome is not known yet"]);
    daemon.signal("CONT");
    // What it finds when it wakes up is a restart that was asked for and given up.
    daemon.wait_for("rest", || (status(&daemon).generations.len() == 1).then_some(()));
}

/// Asked for before the first generation is ready, a restart comes after that.
#[test]
fn a_restart_during_the_first_start_is_answered() {
    let daemon = quick().option("--interval=1").server([] as [&str; 0]).start();
    daemon.wait_ready(1);
    run(&daemon, &RESTART).expect(0, &["generation 2 is current, and no older one is left"]);
}

#[test]
fn a_wrong_command_line_is_none() {
    let daemon = started(quick().server([] as [&str; 0]));
    for arguments in [
        vec!["--restart"],
        restart_with(&["--timeout=0"]),
        restart_with(&["--timeout=soon"]),
        restart_with(&["--until=tomorrow"]),
        vec!["--restart", "--pid=0"],
    ] {
        assert_eq!(run(&daemon, &arguments).code, Some(2), "{arguments:?}");
    }
    assert_eq!(status(&daemon).restarts, 0);
}
