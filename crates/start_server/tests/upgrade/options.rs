//! An upgrade with another command line: what may change does, from then on; what may not is refused.

use testkit::{Daemon, Port, testserver};

use crate::programs::text;
use crate::world::{ours, status};

fn daemon(port: &Port) -> Daemon {
    let daemon = ours()
        .options([&format!("--port=127.0.0.1:{port}"), "--path=socket", "--interval=0.1"])
        .server(["--ready-after=0"])
        .start();
    daemon.wait_ready(1);
    daemon.wait_status_file(|generations| generations == [1]);
    daemon
}

#[test]
fn the_program_and_its_treatment_can_change() {
    let port = Port::new();
    let mut daemon = daemon(&port);
    let server = testserver();
    let output = daemon.verb([
        "--upgrade",
        "--timeout=20",
        &format!("--port=127.0.0.1:{port}"),
        "--path=socket",
        "--pid-file=pid",
        "--status-file=status",
        "--ready=accept",
        "--signal-on-hup=QUIT",
        "--kill-old-delay=0.2",
        "--drain-timeout=20",
        "--first-fd=7",
        "--",
        server.to_str().unwrap(),
        "--record=record",
        "--dump=dump.%g",
        "--say=changed",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let seen = status(&daemon);
    assert_eq!((seen.upgrades, seen.ready_rule.as_str(), seen.current), (1, "accept", Some(1)));
    assert!(seen.command.contains(&"--say=changed".to_owned()), "{seen:?}");
    assert_eq!(daemon.events().iter().filter(|event| event.what == "start").count(), 1, "the worker is as it was");
    daemon.hup();
    daemon.wait_line("is ready after");
    daemon.wait_line("changed");
    daemon.wait_line("sleeping 0.2 secs");
    daemon.wait_event(1, "signal QUIT");
    daemon.wait_status_file(|generations| generations == [2]);
    let dump = daemon.wait_dump(2);
    assert_eq!(dump.descriptors().keys().copied().collect::<Vec<_>>(), [0, 1, 2, 7, 8]);
    // The next upgrade keeps what this one has brought.
    crate::programs::upgraded(&daemon);
    assert_eq!(status(&daemon).ready_rule, "accept");
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_generation_is_proved_by_the_rule_that_it_was_started_under() {
    let port = Port::new();
    let daemon = ours()
        .options([&format!("--port=127.0.0.1:{port}"), "--ready=exec:test -e go"])
        .server(["--ready-after=0"])
        .start();
    daemon.wait_line("starting new worker");
    let line = [
        "--upgrade",
        &format!("--port=127.0.0.1:{port}"),
        "--pid-file=pid",
        "--status-file=status",
        "--ready=notify",
        "--",
        "sleep",
        "600",
    ];
    let output = daemon.verb(line);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    std::fs::write(daemon.path("go"), "").unwrap();
    daemon.wait_line("the check succeeded");
    daemon.wait_status_file(|generations| generations == [1]);
}

#[test]
fn sockets_and_files_stay() {
    let port = Port::new();
    let other = Port::new();
    let mut daemon = daemon(&port);
    let files = ["--pid-file=pid", "--status-file=status"];
    let sockets = [format!("--port=127.0.0.1:{port}"), "--path=socket".to_owned()];
    let [tcp, unix] = [sockets[0].as_str(), sockets[1].as_str()];
    let another = format!("--port=127.0.0.1:{other}");
    let pid = format!("--pid={}", daemon.pid());
    let cases: Vec<(Vec<&str>, &str, i32)> = vec![
        (vec![files[0], files[1], tcp], "the listeners cannot change with an upgrade", 1),
        (vec![files[0], files[1], &another, unix], "the listeners cannot change with an upgrade", 1),
        (vec![files[0], files[1], tcp, unix, &another], "the listeners cannot change with an upgrade", 1),
        (vec![files[0], files[1], tcp, unix, "--backlog=7"], "the listeners cannot change with an upgrade", 1),
        (vec![&pid, files[1], tcp, unix], "--pid-file cannot change with an upgrade: it is pid and would be none", 1),
        (vec![files[0], tcp, unix], "--status-file cannot change with an upgrade: it is status and would be none", 1),
        (vec![files[0], files[1], tcp, unix, "--log-file=log"], "--log-file cannot change", 1),
        (vec![files[0], files[1], tcp, unix, "--interval=x"], "Value \"x\" invalid for option interval", 2),
        (vec![files[0], files[1], tcp, unix, "--json"], "Option json goes with --status only", 2),
    ];
    for (line, why, code) in cases {
        let line = [vec!["--upgrade"], line, vec!["--", "sleep", "600"]].concat();
        let output = daemon.verb(&line);
        assert_eq!(output.status.code(), Some(code), "{line:?}: {}", text(&output));
        assert!(text(&output).contains(why), "{line:?}: {}", text(&output));
    }
    // A placeholder that means nothing is found before anything is done, too.
    let output = daemon.verb(["--upgrade", files[0], files[1], tcp, unix, "--", "sleep", "{fd:9}"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let seen = status(&daemon);
    assert_eq!((seen.upgrades, seen.generations.len()), (0, 1));
    assert_eq!(daemon.stop().code(), Some(0));
}
