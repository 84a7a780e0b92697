//! Where lines go, and that they arrive.

use std::fs::{self, File};

use testkit::Daemon;

use crate::{daemon, process};

/// P24: the log file was never opened again: after a rotation everything went to the old one.
#[test]
fn p24_usr1_opens_the_log_file_again() {
    let options = ["--interval=0.1", "--log-file=log"];
    let daemon = daemon().with_files().options(options).log("log").server(["--say=hello"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    fs::rename(daemon.path("log"), daemon.path("log.1")).unwrap();
    daemon.signal("USR1");
    daemon.wait_line("received USR1, log file reopened");
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [2]);
    let log = daemon.path("log").display().to_string();
    let dump = daemon.wait_dump(2);
    assert_eq!([1, 2].map(|fd| dump.descriptors()[&fd].to_owned()), [log.clone(), log]);
    daemon.wait_line("hello");
    daemon.wait_line("old worker");
    assert!(!daemon.text("log.1").contains("received HUP"));
}

/// The log command: the child of the superdaemon that runs cat.
fn log_command(daemon: &Daemon) -> Option<u32> {
    let is_cat = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "cat\n");
    daemon.workers().into_iter().find(is_cat)
}

/// P24: nobody noticed that the log command had died: from then on every line was lost, and workers were told that
/// their pipe is broken.
#[test]
fn p24_a_log_command_that_dies_is_started_again_and_no_line_is_lost() {
    const BATCHES: u32 = 3;
    const LINES: u32 = 200;
    let program = format!(
        "for batch in $(seq {BATCHES}); do
             while [ ! -e go.$batch ]; do sleep 0.02; done
             for line in $(seq {LINES}); do echo number $batch.$line; done
         done
         exec sleep 600"
    );
    let options = ["--interval=0.1", "--log-file=| exec cat >>log"];
    let daemon = daemon().options(options).log("log").program(["sh", "-c", &program]).start();
    let command = daemon.wait_for("the log command", || log_command(&daemon));
    let write = |batch: u32| drop(File::create(daemon.path(&format!("go.{batch}"))).unwrap());

    write(1);
    daemon.wait_line(&format!("number 1.{LINES}"));
    daemon.signal_process(command, "KILL");
    write(2);
    daemon.wait_line(&format!("number 2.{LINES}"));
    let next = daemon.wait_for("the next log command", || log_command(&daemon));
    assert_ne!(next, command);
    write(3);
    daemon.wait_line(&format!("number 3.{LINES}"));

    let expected: Vec<String> =
        (1..=BATCHES).flat_map(|batch| (1..=LINES).map(move |line| format!("number {batch}.{line}"))).collect();
    let numbers: Vec<String> = daemon.lines().into_iter().filter(|line| line.starts_with("number")).collect();
    assert_eq!(numbers, expected);
    daemon.wait_line(&format!("(pid {command}) was killed by signal KILL"));
    assert!(!daemon.lines().iter().any(|line| line.contains("old worker") || line.contains("unexpectedly")));
}

/// P24: the log command of a superdaemon in the background stayed in the session of the terminal, and died with it.
#[test]
fn p24_the_log_command_goes_to_the_background_too() {
    let options = ["--interval=0.1", "--daemonize", "--log-file=| exec cat >>log"];
    let mut daemon = daemon().with_files().options(options).log("log").program(["sleep", "600"]).start();
    assert!(daemon.exit_status().success());
    let pid = daemon.wait_file("pid").trim().parse().unwrap();
    daemon.adopt(pid);
    let command = daemon.wait_for("the log command", || {
        let cat = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "cat\n");
        daemon.processes().into_iter().find(cat)
    });
    let session = |pid: u32| process(pid).map(|(_, [_, _, session])| session);
    assert_eq!(session(command), session(daemon.pid()));
    assert_ne!(session(command), session(std::process::id()));
    daemon.term();
    daemon.wait_gone();
}
