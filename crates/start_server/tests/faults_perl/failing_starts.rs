//! What a worker that cannot be started must not do to those that run.

use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::thread;
use std::time::{Duration, Instant};

use testkit::{Address, Daemon, Port, get, testserver};

use crate::{at, daemon, has_recorded, lines_with, process};

/// A superdaemon whose program, the file `program`, can be spoiled, with all that can be lost.
fn with_all_files(options: &[&str]) -> Daemon {
    let builder = daemon().with_files().options(["--path=socket", "--interval=0.1"]).options(options);
    fs::create_dir(builder.dir().join("directory")).unwrap();
    symlink(testserver(), builder.dir().join("program")).unwrap();
    let program = builder.dir().join("program");
    let daemon = builder.program([program.into_os_string(), "--record=record".into()]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon
}

/// Generation 1 still serves, is known, and can be replaced once the program is as it was.
fn check_that_nothing_is_lost(daemon: &Daemon, mend: impl FnOnce()) {
    assert_eq!(daemon.text("pid"), format!("{}\n", daemon.pid()));
    assert_eq!(daemon.wait_status_file(|_| true)[0].0, 1);
    let socket = Address::Unix(daemon.path("socket"));
    assert_eq!(get(&socket, "/").unwrap().generation, 1);
    mend();
    daemon.wait_status_file(|generations| generations.len() == 1 && generations[0] > 2);
    assert!(get(&socket, "/").unwrap().generation > 2);
}

/// P1: the child that could not execute the program ran the clean-up of the superdaemon, which removed the PID file,
/// the status file and all socket files while the old worker went on serving on them.
#[test]
fn p1_a_failed_exec_leaves_pid_file_status_file_and_sockets_alone() {
    let daemon = with_all_files(&[]);
    fs::rename(daemon.path("program"), daemon.path("elsewhere")).unwrap();
    daemon.hup();
    let line = daemon.wait_line("failed to exec ");
    daemon.wait_line("seems to have failed to start");
    check_that_nothing_is_lost(&daemon, || fs::rename(daemon.path("elsewhere"), daemon.path("program")).unwrap());
    // P28: the original had no line end there.
    assert!(line.ends_with("program:No such file or directory"), "{line}");
}

/// P1: the same with a program that is there but must not be executed.
#[test]
fn p1_a_program_without_permission_leaves_everything_alone() {
    let daemon = with_all_files(&[]);
    fs::rename(daemon.path("program"), daemon.path("elsewhere")).unwrap();
    File::create(daemon.path("program")).unwrap();
    daemon.hup();
    daemon.wait_line("failed to exec ");
    daemon.wait_line("seems to have failed to start");
    check_that_nothing_is_lost(&daemon, || fs::rename(daemon.path("elsewhere"), daemon.path("program")).unwrap());
}

/// P1: the same when the directory to start in is gone.
#[test]
fn p1_a_missing_directory_leaves_everything_alone() {
    let daemon = with_all_files(&["--dir=directory"]);
    fs::remove_dir(daemon.path("directory")).unwrap();
    daemon.hup();
    daemon.wait_line("failed to chdir:directory:No such file or directory");
    daemon.wait_line("seems to have failed to start");
    check_that_nothing_is_lost(&daemon, || fs::create_dir(daemon.path("directory")).unwrap());
}

/// P2: any signal ended the wait for the proof, so that with a second HUP a generation that was about to fail counted
/// as started, and the good one was told to go.
#[test]
fn p2_a_signal_does_not_cut_the_proof_short() {
    let port = Port::new();
    let daemon =
        daemon().options([&at(&port), "--interval=1.5"]).server(["--fail-if=broken", "--fail-after=0.3"]).start();
    daemon.wait_ready(1);
    daemon.wait_for("the first generation to count as started", || {
        // The original says nothing about it; then it is a matter of time.
        (lines_with(&daemon, "generation 1 (pid ") > 0 || lines_with(&daemon, "starting new worker") > 0).then_some(())
    });
    File::create(daemon.path("broken")).unwrap();
    daemon.hup();
    daemon.wait_event(2, "start");
    daemon.signal("ALRM");
    daemon.hup();
    daemon.wait_event(2, "exit 1");
    daemon.wait_line("seems to have failed to start");
    assert!(!has_recorded(&daemon, 1, "signal TERM"), "the good generation was told to go");
    assert_eq!(get(&Address::local(port.number()), "/").unwrap().generation, 1);
}

/// P5: told to stop while the program fails to start, the superdaemon spawned one worker more and waited the whole
/// interval for it.
#[test]
fn p5_a_stop_between_failing_attempts_is_obeyed_at_once() {
    // The interval is longer than anybody here waits.
    let mut daemon = daemon().option("--interval=600").program(["false"]).start();
    let worker = daemon.wait_line("starting new worker ").split(' ').next_back().unwrap().parse().unwrap();
    daemon.wait_for("the worker's end", || process(worker).is_none_or(|(state, _)| state == 'Z').then_some(()));
    assert!(daemon.stop().success());
    assert_eq!(lines_with(&daemon, "starting new worker"), 1);
}

/// P23: while a new generation kept failing nothing else was looked after: old workers that died stayed zombies and in
/// the status file, and changes of the envdir were not seen.
#[test]
fn p23_failing_attempts_keep_nothing_else_from_being_done() {
    let builder = daemon().with_files().options(["--interval=0.7", "--envdir=env"]);
    fs::create_dir(builder.dir().join("env")).unwrap();
    let daemon = builder.server(["--ignore=TERM", "--fail-if=broken", "--say=begun"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    daemon.hup();
    let workers = daemon.wait_status_file(|generations| generations == [1, 2]);
    daemon.wait_ready(2);
    daemon.wait_event(1, "signal TERM");
    File::create(daemon.path("broken")).unwrap();
    daemon.hup();
    daemon.wait_event(3, "exit 1");

    let old = workers[0].1;
    daemon.signal_process(old, "KILL");
    daemon.wait_line(&format!("old worker {old} died, status:9"));
    daemon.wait_status_file(|generations| generations == [2]);
    assert_eq!(process(old), None, "the old worker was not reaped");

    fs::write(daemon.path("env/COLOUR"), "green\n").unwrap();
    let mut generation = 3;
    while daemon.wait_dump(generation).env("COLOUR").is_none() {
        daemon.wait_event(generation, "exit 1");
        generation += 1;
    }
    fs::remove_file(daemon.path("broken")).unwrap();
    daemon.wait_status_file(|generations| generations.last() > Some(&generation) && generations.contains(&2));
}

/// P26: a program that dies at once was spawned again at once: with interval 0 more than a hundred times a second.
#[test]
fn p26_a_crash_loop_is_slowed_down() {
    let begun = Instant::now();
    let crashing = daemon().option("--interval=0").program(["false"]).start();
    let builder = daemon().option("--interval=0");
    symlink("/bin/sleep", builder.dir().join("program")).unwrap();
    let missing = builder.program(["./program", "600"]).start();
    let worker = missing.wait_for("the worker", || missing.workers().first().copied());
    missing.wait_line("starting new worker");
    fs::remove_file(missing.path("program")).unwrap();
    missing.signal_process(worker, "KILL");
    for daemon in [&crashing, &missing] {
        daemon.wait_lines("starting new worker", 3);
    }
    // This is no wait for an event: what happens within the time is what counts.
    thread::sleep(Duration::from_secs(3).saturating_sub(begun.elapsed()));
    for daemon in [&crashing, &missing] {
        let spawned = lines_with(daemon, "starting new worker");
        assert!(spawned <= 15, "{spawned} workers in three seconds");
    }
}
