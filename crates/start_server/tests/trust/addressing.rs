//! Whom a command takes for the superdaemon that it was told to address.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Child, Command, Output};

use testkit::{Daemon, TempDir, wait_for};

use crate::other_user::{SERVICE, STRANGER, as_user, copy_for_all};
use crate::world::{is_root, ours, put_program};

fn started() -> Daemon {
    let daemon = ours().option("--interval=0.1").program(["sleep", "600"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon
}

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_start_server")).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A process that nobody must signal.
struct Victim(Child);

impl Victim {
    fn new() -> Self {
        let victim = Self(Command::new("sleep").arg("600").spawn().unwrap());
        let name = || fs::read_to_string(format!("/proc/{}/comm", victim.0.id())).ok();
        wait_for(|| "sleep".to_owned(), || (name()? == "sleep\n").then_some(()));
        victim
    }

    fn lives(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_forged_pid_file_gets_nobody_signalled() {
    if !is_root("another user's PID file") {
        return;
    }
    let dir = TempDir::new();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o1777)).unwrap();
    let (pid, status) = (dir.path().join("pid"), dir.path().join("status"));
    let mut victim = Victim::new();
    let forge = format!(
        "echo {} >{pid}; echo 1:1 >{status}; exec flock -x {pid} sh -c 'touch {pid}.locked; exec sleep 600'",
        victim.0.id(),
        pid = pid.display(),
        status = status.display()
    );
    let mut forger = as_user(STRANGER, "sh").args(["-c", &forge]).spawn().unwrap();
    wait_for(|| "a lock".to_owned(), || dir.path().join("pid.locked").exists().then_some(()));
    let files = [format!("--pid-file={}", pid.display()), format!("--status-file={}", status.display())];
    for verb in ["--stop", "--restart", "--status", "--upgrade"] {
        let output = run(&[verb, &files[0], &files[1], "--timeout=5"]);
        assert_eq!(output.status.code(), Some(5), "{verb}: {output:?}");
        assert!(said(&output).contains("sleep, not a start_server"), "{}", said(&output));
    }
    assert!(victim.lives());
    // One that names a superdaemon, which is not the forger's.
    let daemon = started();
    as_user(STRANGER, "sh").args(["-c", &format!("echo {} >{}", daemon.pid(), pid.display())]).status().unwrap();
    for verb in ["--stop", "--restart", "--status", "--upgrade"] {
        let output = run(&[verb, &files[0], &files[1], "--timeout=5"]);
        assert!(matches!(output.status.code(), Some(1 | 5)), "{verb}: {output:?}");
    }
    assert!(daemon.is_running());
    forger.kill().unwrap();
    forger.wait().unwrap();
}

#[test]
fn a_pid_file_is_believed_only_if_nobody_else_can_have_written_it() {
    if !is_root("another user's PID file") {
        return;
    }
    let daemon = started();
    let pid = daemon.path("pid");
    let at = format!("--pid-file={}", pid.display());
    fs::set_permissions(&pid, Permissions::from_mode(0o666)).unwrap();
    let output = run(&["--status", &at]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("everybody can write it (mode 666)"), "{}", said(&output));
    fs::set_permissions(&pid, Permissions::from_mode(0o644)).unwrap();
    assert!(run(&["--status", &at]).status.success());
    chown(&pid, Some(STRANGER), None).unwrap();
    let output = run(&["--stop", &at]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let expected = format!("user {STRANGER} has written it, and pid {}, which it names, is of user 0", daemon.pid());
    assert!(said(&output).contains(&expected), "{}", said(&output));
    assert!(daemon.is_running());
}

/// The number of a superdaemon that has gone may be another's by now.
#[test]
fn a_pid_file_that_was_left_does_not_stand_for_another_superdaemon() {
    let daemon = started();
    fs::write(daemon.path("left"), format!("{}\n", daemon.pid())).unwrap();
    let output = daemon.verb(["--stop", "--pid-file=left", "--timeout=5"]);
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    assert!(daemon.is_running());
    assert!(daemon.verb(["--status", "--pid-file=pid"]).status.success());
}

/// As with `docker --init`: the process with the known number is an init.
#[test]
fn behind_an_init_it_is_found_or_the_init_is_named() {
    let script = "#!/bin/sh\n\"$@\" &\nwait\n";
    let dir = TempDir::new();
    put_program(dir.path(), "small-init", script);
    let builder = Daemon::new(dir.path().join("small-init"));
    let daemon = builder
        .options([env!("CARGO_BIN_EXE_start_server"), "--pid-file=pid", "--status-file=status", "--interval=0.1"])
        .program(["sleep", "600"])
        .start();
    daemon.wait_status_file(|generations| generations == [1]);
    let init = format!("--pid={}", daemon.pid());
    assert!(run(&["--status", "--serving", &init]).status.success());
    let output = run(&["--status", &init]);
    assert!(String::from_utf8_lossy(&output.stdout).contains(&format!("(pid {})", daemon.text("pid").trim())));
    let mut other = Victim::new();
    let output = run(&["--status", &format!("--pid={}", other.0.id())]);
    assert_eq!(output.status.code(), Some(5));
    let expected = "that process is sleep, not a start_server; give --pid-file or the PID of the superdaemon";
    assert!(said(&output).contains(expected), "{}", said(&output));
    assert!(other.lives());
    assert!(run(&["--stop", &init]).status.success());
}

/// Not "no such process": it is there, and cannot be seen.
#[test]
fn what_cannot_be_seen_is_said() {
    if !is_root("a mount of its own") {
        return;
    }
    let daemon = started();
    let dir = TempDir::new();
    let program = copy_for_all(dir.path());
    let script = format!(
        "mount -t proc -o hidepid=2 proc /proc && exec setpriv --reuid={SERVICE} --regid={SERVICE} --clear-groups {} \
         --status --pid={}",
        program.display(),
        daemon.pid()
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
    if said(&output).contains("mount:") {
        return eprintln!("hidepid cannot be tried here: {}", said(&output));
    }
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains("/proc does not show it (option hidepid)"), "{}", said(&output));
}

/// What leads from there to a superdaemon of root's was put there by somebody else.
#[test]
fn links_of_others_lead_no_command_to_another_superdaemon() {
    if !is_root("another user's links") {
        return;
    }
    let daemon = ours().option("--control-socket=control").option("--interval=0.1").program(["sleep", "600"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    fs::set_permissions(daemon.dir(), Permissions::from_mode(0o755)).unwrap();
    let dir = TempDir::new();
    chown(dir.path(), Some(STRANGER), None).unwrap();
    let at = |name: &str| dir.path().join(name);
    for name in ["pid", "control"] {
        assert!(as_user(STRANGER, "ln").arg("-s").arg(daemon.path(name)).arg(at(name)).status().unwrap().success());
        // As where fs.protected_hardlinks is off.
        fs::hard_link(daemon.path(name), at(&format!("hard-{name}"))).unwrap();
    }
    assert!(as_user(STRANGER, "ln").arg("-s").arg(daemon.dir()).arg(at("way")).status().unwrap().success());
    for (option, names) in [
        ("--pid-file", ["pid", "hard-pid", "way/pid"]),
        ("--control-socket", ["control", "hard-control", "way/control"]),
    ] {
        for name in names {
            for verb in ["--stop", "--restart", "--status"] {
                let output = run(&[verb, &format!("{option}={}", at(name).display()), "--timeout=5"]);
                assert!(matches!(output.status.code(), Some(1 | 5)), "{verb} {option}={name}: {output:?}");
            }
        }
    }
    for name in ["hard-pid", "hard-control"] {
        fs::remove_file(at(name)).unwrap();
    }
    assert!(daemon.is_running());
    assert!(daemon.verb(["--status", "--pid-file=pid", "--control-socket=control"]).status.success());
}

/// Who answers has to be who was named.
#[test]
fn a_control_socket_of_another_does_not_answer_for_the_process_that_is_named() {
    let (one, other) = (started(), started());
    let socket = format!("--control-socket={}", other.control_socket().display());
    let output = one.verb(["--stop", "--pid-file=pid", &socket]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(said(&output).contains(&format!("is held by pid {}", other.pid())), "{}", said(&output));
    assert!(one.is_running() && other.is_running());
}
