//! Who may speak to a superdaemon, and the file of `--control-socket`.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

use testkit::{Builder, Daemon, TempDir};

use crate::world::{is_root, ours, put_program, status};

fn started(builder: Builder) -> Daemon {
    let daemon = builder.option("--interval=0.1").program(["sleep", "600"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon
}

fn at_a_path() -> Builder {
    ours().option("--control-socket=control")
}

/// Puts a copy of our program where everybody can execute it. A process of its own writes it: else it would be busy for
/// as long as a child of another test has its descriptor.
fn copy_ours(dir: &Path, name: &str) {
    let copied = Command::new("install")
        .args(["-m", "755", env!("CARGO_BIN_EXE_start_server")])
        .arg(dir.join(name))
        .status()
        .unwrap();
    assert!(copied.success());
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
}

/// Runs our program as nobody, from a place where nobody can read it.
fn as_nobody(dir: &Path, arguments: &[&str]) -> Output {
    let program = dir.join("start_server");
    if !program.exists() {
        copy_ours(dir, "start_server");
    }
    Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program)
        .args(arguments)
        .current_dir(dir)
        .output()
        .unwrap()
}

#[test]
fn another_user_is_refused() {
    if !is_root("another user") {
        return;
    }
    let daemon = started(ours());
    let pid = format!("--pid={}", daemon.pid());
    for verb in ["--status", "--restart", "--stop"] {
        let output = as_nobody(daemon.dir(), &[verb, &pid]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("it is of user 0 or has more rights; run this as that user or root"), "{said}");
    }
    let status = status(&daemon);
    assert_eq!((status.restarts, status.stopping, status.current), (0, false, Some(1)));

    let daemon = started(at_a_path());
    for verb in ["--status", "--restart", "--stop"] {
        let output = as_nobody(daemon.dir(), &[verb, "--control-socket=control"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"), "{output:?}");
    }
    assert!(daemon.is_running());
}

#[test]
fn root_may_speak_to_anybodys() {
    if !is_root("another user's superdaemon") {
        return;
    }
    let dir = TempDir::new();
    copy_ours(dir.path(), "ours");
    put_program(
        dir.path(),
        "start_server",
        "#!/bin/sh\nexec setpriv --reuid=65534 --regid=65534 --clear-groups ${0%/*}/ours \"$@\"\n",
    );
    let builder = Daemon::new(dir.path().join("start_server")).with_files().option("--interval=0.1");
    fs::set_permissions(builder.dir(), fs::Permissions::from_mode(0o777)).unwrap();
    let daemon = builder.program(["sleep", "600"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    for arguments in [["--status", "--pid-file=pid"], ["--restart", "--pid-file=pid"]] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_start_server")).args(arguments).current_dir(daemon.dir()).output();
        assert!(output.as_ref().unwrap().status.success(), "{output:?}");
    }
    // And so may the user whose it is.
    let output = as_nobody(daemon.dir(), &["--status", "--pid-file=pid"]);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_file_is_for_its_user_alone_and_goes_at_the_end() {
    let mut daemon = started(at_a_path().after_script("umask 0"));
    let file = fs::symlink_metadata(daemon.path("control")).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    assert!(daemon.stop().success());
    assert!(!daemon.path("control").exists());
}

#[test]
fn it_does_not_change_the_umask_of_workers() {
    let daemon = at_a_path().after_script("umask 0").option("--interval=0.1").server([] as [&str; 0]).start();
    assert_eq!(daemon.wait_dump(1).get("umask").unwrap().trim_start_matches('0'), "");
}

#[test]
fn a_file_that_is_not_ours_any_more_stays() {
    let mut daemon = started(at_a_path());
    fs::remove_file(daemon.path("control")).unwrap();
    let other = UnixListener::bind(daemon.path("control")).unwrap();
    assert!(daemon.stop().success());
    assert!(daemon.path("control").exists());
    drop(other);
    // Nor is a file missed that somebody has removed.
    let mut daemon = started(at_a_path());
    fs::remove_file(daemon.path("control")).unwrap();
    assert!(daemon.stop().success());
}

#[test]
fn a_socket_that_nobody_listens_on_is_replaced() {
    let builder = at_a_path();
    drop(UnixListener::bind(builder.dir().join("control")).unwrap());
    let daemon = started(builder);
    assert!(daemon.verb(["--status", "--control-socket=control"]).status.success());
}

#[test]
fn a_socket_in_use_is_refused_and_left_alone() {
    let daemon = started(at_a_path());
    let path = daemon.path("control");
    let mut second = Daemon::new(env!("CARGO_BIN_EXE_start_server"))
        .with_files()
        .option(format!("--control-socket={}", path.display()))
        .program(["sleep", "600"])
        .start();
    assert_eq!(second.exit_status().code(), Some(1));
    let lines = second.lines();
    let expected = format!("the control socket {} is in use by another superdaemon; stop that one", path.display());
    assert!(lines.iter().any(|line| line.starts_with(&expected)), "{lines:?}");
    assert!(!lines.iter().any(|line| line.starts_with("starting new worker")), "{lines:?}");
    // What it had made until then it has unmade.
    assert!(!second.path("status").exists());
    second.wait_gone();
    assert!(daemon.verb(["--status", "--control-socket=control"]).status.success());
}

#[test]
fn nothing_but_a_socket_is_replaced() {
    let builder = at_a_path();
    let file = builder.dir().join("control");
    fs::write(&file, "precious").unwrap();
    let mut daemon = builder.program(["sleep", "600"]).start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
    let lines = daemon.lines();
    assert!(lines.iter().any(|line| line.starts_with("failed to open the control socket control: ")), "{lines:?}");

    let long = "x".repeat(200);
    let mut daemon = ours().option(format!("--control-socket={long}")).program(["sleep", "600"]).start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    let lines = daemon.lines();
    assert!(lines.iter().any(|line| line.starts_with("failed to open the control socket xxx")), "{lines:?}");
}
