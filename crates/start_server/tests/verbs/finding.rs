//! How a verb finds its superdaemon: by `--pid-file`, `--control-socket` or `--pid`, and never another process.

use std::fs;
use std::process::Command;

use testkit::Daemon;

use crate::shell::run;
use crate::world::ours;

fn started(options: &[&str]) -> Daemon {
    let daemon = ours().option("--interval=0.1").options(options.iter().copied()).server([] as [&str; 0]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    daemon
}

#[test]
fn every_verb_finds_it_in_every_way() {
    let mut by_pid_file = started(&[]);
    let mut by_pid = started(&[]);
    let mut by_socket = started(&["--control-socket=control"]);
    let pid = format!("--pid={}", by_pid.pid());
    for (daemon, target) in [
        (&mut by_pid_file, "--pid-file=pid"),
        (&mut by_pid, pid.as_str()),
        (&mut by_socket, "--control-socket=control"),
    ] {
        let output = daemon.verb(["--status", target]);
        assert!(output.status.success(), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(&format!("(pid {})", daemon.pid())), "{output:?}");
        run(daemon, &["--restart", target]).expect(0, &["generation 2 is current"]);
        run(daemon, &["--stop", target]).expect(0, &["exiting"]);
        assert!(daemon.exit_status().success());
    }
}

#[test]
fn nobody_is_not_found() {
    let mut daemon = started(&["--control-socket=control"]);
    // What is left when a superdaemon is killed: a socket that nobody listens on, and a PID file that nobody locks.
    daemon.signal("KILL");
    daemon.exit_status();
    fs::write(daemon.path("empty"), "").unwrap();
    fs::write(daemon.path("garbage"), "one two three\n").unwrap();
    let mut sleep = Command::new("sleep").arg("600").spawn().unwrap();
    fs::write(daemon.path("other"), format!("{}\n", sleep.id())).unwrap();
    let other = format!("--pid={}", sleep.id());
    let gone = format!("--pid={}", daemon.pid());
    for target in [
        "--pid-file=nothing",
        "--pid-file=pid",
        "--pid-file=empty",
        "--pid-file=garbage",
        "--pid-file=other",
        "--control-socket=control",
        "--control-socket=nothing",
        "--control-socket=garbage",
        &other,
        &gone,
        "--pid=1",
    ] {
        for verb in ["--restart", "--stop", "--status"] {
            let ended = run(&daemon, &[verb, target]);
            assert_eq!(ended.code, Some(5), "{verb} {target}: {}", ended.said);
            assert!(!ended.said.trim().is_empty(), "{verb} {target} says nothing");
        }
    }
    assert!(sleep.try_wait().unwrap().is_none(), "a stranger was signalled");
    sleep.kill().unwrap();
    sleep.wait().unwrap();
}

/// Given a control socket of its own, a superdaemon is not found by its PID; but signals and files still work.
#[test]
fn without_its_control_socket_signals_and_files_do() {
    let mut daemon = started(&["--control-socket=control"]);
    run(&daemon, &["--status", "--pid-file=pid"]).expect(1, &["was given --control-socket; then give the same here"]);
    run(&daemon, &["--restart", "--pid-file=pid"]).expect(1, &["requires --pid-file and --status-file"]);
    run(&daemon, &["--restart", "--pid-file=pid", "--status-file=status"]).expect(0, &[]);
    assert_eq!(daemon.status_file().unwrap()[0].0, 2);
    run(&daemon, &["--stop", "--pid-file=pid"]).expect(0, &[]);
    assert!(daemon.exit_status().success());
}
