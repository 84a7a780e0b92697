//! `--stop`: ends when everything has ended.

use testkit::Daemon;

use crate::shell::{Verb, run};
use crate::world::{ours, status};

const STOP: [&str; 2] = ["--stop", "--pid-file=pid"];

fn started(arguments: &[&str]) -> Daemon {
    let daemon = ours().option("--interval=0.1").server(arguments.iter().copied()).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    daemon
}

#[test]
fn it_ends_when_everything_has() {
    let mut daemon = started(&["--drain=0.5"]);
    let ended = run(&daemon, &STOP);
    // Without any waiting: it is all over now.
    assert!(!daemon.is_running() && daemon.processes().is_empty());
    assert!(!daemon.path("pid").exists() && !daemon.path("status").exists());
    let worker = daemon.wait_dump(1).get("group").unwrap().to_owned();
    ended.expect(
        0,
        &[
            &format!(") stopping now (pid:{})...\n", daemon.pid()),
            &format!(
                "received TERM, sending TERM to all workers:{worker}\nthis end was asked for on the control socket\n"
            ),
            &format!("worker {worker} died, status:0\n"),
            "exiting\n",
        ],
    );
    assert!(daemon.exit_status().success());
    run(&daemon, &STOP).expect(5, &[]);
}

#[test]
fn all_who_ask_are_answered() {
    let daemon = started(&["--drain=0.5"]);
    let verbs: Vec<_> = (0..5).map(|_| Verb::start(&daemon, &STOP)).collect();
    for (n, verb) in verbs.into_iter().enumerate() {
        let ended = verb.end();
        // One that comes too late finds nobody.
        assert!(ended.code == Some(0) || (n > 0 && ended.code == Some(5)), "{ended:?}");
    }
}

#[test]
fn time_that_is_up_leaves_the_superdaemon_stopping() {
    let mut daemon = started(&["--ignore=TERM"]);
    run(&daemon, &[STOP[0], STOP[1], "--timeout=0.5"]).expect(4, &["time is up: the superdaemon goes on stopping"]);
    assert!(status(&daemon).stopping);
    // Another stop does not hasten the end; only a signal does.
    run(&daemon, &[STOP[0], STOP[1], "--timeout=0.5"]).expect(4, &["time is up"]);
    daemon.signal("QUIT");
    assert!(daemon.exit_status().success());
}

#[test]
fn interrupted_it_leaves_the_superdaemon_stopping() {
    let mut daemon = started(&["--drain=1"]);
    let mut verb = Verb::start(&daemon, &STOP);
    verb.wait_said("sending TERM to all workers");
    verb.interrupt();
    assert_eq!(verb.end().signal, Some(2));
    assert!(daemon.exit_status().success());
    daemon.wait_event(1, "exit 0");
}
