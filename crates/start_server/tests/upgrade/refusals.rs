//! Upgrades that are refused: the caller hears why, and nothing has changed.

use std::fs;

use testkit::{Address, Client, Daemon, Port};

use crate::programs::{copy, descriptors, program_of, put_program, text, upgrade, upgrade_to, upgraded, zombies};
use crate::world::{ours, running, status};

fn daemon(port: &Port) -> Daemon {
    let daemon = ours()
        .options([&format!("--port=127.0.0.1:{port}"), "--path=socket", "--interval=0"])
        .server(["--ready-after=0"])
        .start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    daemon
}

#[test]
fn a_program_that_cannot_take_over_changes_nothing() {
    let port = Port::new();
    let mut daemon = daemon(&port);
    let client = Client::start(Address::local(port.number()));
    client.wait_answers(1);
    fs::write(daemon.path("garbage"), [0x13; 4000]).unwrap();
    put_program(daemon.dir(), "text", "this is no program\n");
    put_program(daemon.dir(), "script", "#!/bin/sh\necho hello; echo >&2 what is this; exit 0\n");
    put_program(daemon.dir(), "failing", "#!/bin/sh\necho no way >&2; exit 3\n");
    put_program(daemon.dir(), "dying", "#!/bin/sh\nkill -SEGV $$\n");
    put_program(daemon.dir(), "lost", "#!/nonexistent/interpreter\n");
    put_program(daemon.dir(), "lying", "#!/bin/sh\necho '{\"start_server\":\"9\",\"format\":1}'; exit 1\n");
    put_program(
        daemon.dir(),
        "refusing",
        "#!/bin/sh\necho '{\"start_server\":\"9\",\"format\":7,\"refused\":\"I do not like it\"}'\n",
    );
    fs::copy("/bin/true", daemon.path("forbidden")).unwrap();
    fs::set_permissions(daemon.path("forbidden"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let worker = daemon.status_file();
    daemon.settle();
    let open = descriptors(&daemon);
    let program = program_of(&daemon);
    for (name, why) in [
        ("garbage", "it is no program"),
        ("text", "it is no program"),
        ("script", "exited with status 0; it said: what is this"),
        ("failing", "exited with status 3; it said: no way"),
        ("dying", "was killed by signal SEGV"),
        ("lost", "cannot be executed: No such file or directory"),
        ("lying", "exited with status 1"),
        ("refusing", "(start_server 9) cannot take over: I do not like it"),
        ("forbidden", "cannot be executed: Permission denied"),
        ("missing", "cannot be executed: No such file or directory"),
        (".", "it is not a file"),
        ("/bin/true", "on trial it exited with status 0"),
    ] {
        let output = upgrade_to(&daemon, &daemon.path(name));
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(
            said.contains("there is no upgrade, and nothing has changed: ") && said.contains(why),
            "{name}: {said}"
        );
        daemon.wait_line(
            &format!("upgrade: refused, nothing has changed: {}", daemon.path(name).display()).replace("/.", "/"),
        );
    }
    daemon.settle();
    assert_eq!(descriptors(&daemon), open);
    assert_eq!(daemon.status_file(), worker);
    assert_eq!(program_of(&daemon), program);
    assert_eq!(zombies(&daemon), 0);
    let seen = status(&daemon);
    assert_eq!((seen.upgrades, seen.crashes), (0, 0));
    // It is as able as before.
    upgraded(&daemon);
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [2]);
    client.wait_answers(1);
    let tally = client.stop();
    assert_eq!(tally.lost(), 0, "{tally:?}");
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_program_that_does_not_answer_is_ended() {
    let port = Port::new();
    let mut daemon = daemon(&port);
    put_program(daemon.dir(), "hanging", "#!/bin/sh\nsleep 601 & wait\n");
    // One who does not wait so long.
    let hanging = format!("--upgrade={}", daemon.path("hanging").display());
    let output = daemon.verb([&hanging, "--pid-file=pid", "--timeout=0.5"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    assert!(text(&output).contains("time is up: there is no upgrade, and nothing has changed"), "{}", text(&output));
    daemon.wait_for("the end of the trial", || running(&daemon, "sleep 601").is_empty().then_some(()));
    // One who does; meanwhile nobody else can upgrade, and everything else goes on.
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| upgrade_to(&daemon, &daemon.path("hanging")));
        daemon.wait_lines("upgrade: trying out", 2);
        let other = upgrade_from_elsewhere(&daemon);
        assert_eq!(other["reply"], "refused", "{other}");
        assert!(other["reason"].as_str().unwrap().contains("another one is under way"), "{other}");
        daemon.hup();
        daemon.wait_status_file(|generations| generations == [2]);
        let output = slow.join().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(text(&output).contains("did not say within 10 s whether it can take over"), "{}", text(&output));
    });
    daemon.wait_for("the end of the trial", || running(&daemon, "sleep 601").is_empty().then_some(()));
    upgraded(&daemon);
    assert_eq!(daemon.stop().code(), Some(0));
    daemon.wait_gone();
}

fn upgrade_from_elsewhere(daemon: &Daemon) -> serde_json::Value {
    let mut client = crate::client::Client::connect(daemon);
    client.send("{\"version\":1,\"request\":\"upgrade\"}\n");
    client.answer()
}

/// The file that the superdaemon was started from is what a signal upgrades to, whatever has become of it.
#[test]
fn a_signal_upgrades_to_what_is_on_disk_now() {
    let dir = testkit::TempDir::new();
    let installed = copy(dir.path(), "start_server");
    let mut daemon = Daemon::new(&installed)
        .with_files()
        .options(["--path=socket", "--interval=0"])
        .server(["--ready-after=0"])
        .start();
    daemon.wait_line("is ready after");
    // As a package manager does it: the old file is gone, another one has its name.
    put_program(dir.path(), "new", "not a program\n");
    fs::rename(dir.path().join("new"), &installed).unwrap();
    assert!(program_of(&daemon).to_string_lossy().ends_with(" (deleted)"));
    daemon.signal("USR2");
    daemon.wait_line("upgrade: refused, nothing has changed: ");
    fs::remove_file(&installed).unwrap();
    daemon.signal("USR2");
    daemon.wait_lines("upgrade: refused, nothing has changed: ", 2);
    copy(dir.path(), "start_server");
    daemon.signal("USR2");
    daemon.wait_line("has become");
    assert_eq!(program_of(&daemon), installed);
    assert_eq!(status(&daemon).upgrades, 1);
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn nobody_is_there() {
    let port = Port::new();
    let mut daemon = daemon(&port);
    assert_eq!(daemon.stop().code(), Some(0));
    fs::write(daemon.path("pid"), "1\n").unwrap();
    let output = upgrade(&daemon);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output));
    let output = daemon.verb(["--upgrade"]);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
}
