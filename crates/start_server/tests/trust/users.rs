//! Workers of another user: what they get, what stays the superdaemon's, and that everything works across the change.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use testkit::{Builder, Port};

use crate::other_user::{SERVICE, as_user, copy_for_all};
use crate::world::{is_root, ours, put_program};

const PYTHON: &str = "/usr/bin/python3";

/// A superdaemon whose workers are of another user, who may write into its directory.
fn of_service() -> Builder {
    let builder = ours().options(["--interval=0.1", &format!("--user={SERVICE}"), &format!("--group={SERVICE}")]);
    fs::set_permissions(builder.dir(), fs::Permissions::from_mode(0o777)).unwrap();
    builder
}

#[test]
fn a_worker_is_what_was_asked_for() {
    if !is_root("a worker of another user") {
        return;
    }
    let script = "exec >&2; id -u; id -g; id -G; umask; ulimit -n; ulimit -Hn; grep NoNewPrivs /proc/self/status; \
                  grep CapEff /proc/self/status; echo \"home ${HOME-none} of ${USER-none}\"; echo done; exec sleep 600";
    let daemon = of_service()
        .options(["--umask=027", "--rlimit=NOFILE=100:200", "--no-new-privs"])
        .env("HOME", "/root")
        .env("USER", "root")
        .program(["/bin/sh", "-c", script])
        .start();
    daemon.wait_line("done");
    daemon.wait_line(&format!("the program runs as user {SERVICE}, group {SERVICE}"));
    let lines = daemon.lines();
    let begin = lines.iter().position(|line| *line == SERVICE.to_string()).unwrap();
    let service = SERVICE.to_string();
    let expected = [
        &service,
        &service,
        &service,
        "0027",
        "100",
        "200",
        "NoNewPrivs:\t1",
        "CapEff:\t0000000000000000",
        "home none of none",
    ];
    let found: Vec<&str> = lines[begin..].iter().map(String::as_str).filter(|line| !line.contains("worker")).collect();
    assert_eq!(found[..expected.len()], expected, "{lines:?}");
    // What the superdaemon writes stays its own.
    daemon.wait_status_file(|generations| generations == [1]);
    assert_eq!(fs::metadata(daemon.path("status")).unwrap().uid(), 0);
    assert_eq!(fs::metadata(daemon.path("pid")).unwrap().uid(), 0);
}

#[test]
fn an_account_brings_its_groups_and_its_home() {
    if !is_root("a worker with an account") {
        return;
    }
    let daemon = ours()
        .options(["--interval=0.1", "--user=nobody"])
        .program([
            "/bin/sh",
            "-c",
            "exec >&2; test \"$(id -G)\" = \"$(id -G nobody)\" && echo groups of $USER; exec sleep 600",
        ])
        .start();
    daemon.wait_line("groups of nobody");
}

#[test]
fn whoever_cannot_be_had_is_met_before_anything_is_spawned() {
    if !is_root("a superdaemon that is not root") {
        return;
    }
    let mut daemon = ours().option("--user=nosuchuser").program(["sleep", "600"]).start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    daemon.wait_line("there is no user nosuchuser; give one that exists, or a number");
    let mut daemon = ours().option("--user=64001").program(["sleep", "600"]).start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    daemon.wait_line("user 64001 has no account that would tell its group; give --group as well");
    let mut daemon =
        ours().options(["--rlimit=NOFILE=3", "--listen=unix:@users-no-room"]).program(["sleep", "600"]).start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    daemon.wait_line("--rlimit=NOFILE=3 leaves no room for the listener at descriptor 3; give at least 4");

    let dir = testkit::TempDir::new();
    let program = copy_for_all(dir.path());
    let tried = |user: u32, group: u32| {
        let options = [format!("--user={user}"), format!("--group={group}"), "--max-attempts=1".to_owned()];
        as_user(SERVICE, &program).args(options).args(["--", "/bin/false"]).output().unwrap()
    };
    let other = tried(SERVICE + 1, SERVICE);
    let said = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(said.contains("lacks CAP_KILL, CAP_SETGID, CAP_SETUID; start it as root"), "{said}");
    assert!(!said.contains("starting new worker"), "{said}");
    let own = tried(SERVICE, SERVICE);
    assert!(String::from_utf8_lossy(&own.stderr).contains("starting new worker"), "{own:?}");
}

#[test]
fn a_directory_is_entered_as_the_user() {
    if !is_root("a directory of root's") {
        return;
    }
    let builder = of_service().option("--dir=closed").program(["sleep", "600"]);
    fs::create_dir(builder.dir().join("closed")).unwrap();
    fs::set_permissions(builder.dir().join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    let mut daemon = builder.start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    daemon.wait_line("failed to chdir:closed:Permission denied");
    daemon.wait_line(&format!("user {SERVICE} may not enter that directory, or one on the way to it"));
}

#[test]
fn the_check_command_has_no_more_rights_than_the_worker() {
    if !is_root("a check of another user's worker") {
        return;
    }
    let daemon = of_service()
        .options(["--ready=exec:id -u > checked; grep -q '^NoNewPrivs:.*1' /proc/self/status", "--no-new-privs"])
        .program(["sleep", "600"])
        .start();
    daemon.wait_line("the check succeeded");
    assert_eq!(daemon.text("checked").trim(), SERVICE.to_string());
    assert_eq!(fs::metadata(daemon.path("checked")).unwrap().uid(), SERVICE);
}

/// A server of another user, on this port.
fn serving(builder: Builder, port: &Port) -> Option<Builder> {
    if !Path::new(PYTHON).exists() {
        eprintln!("a server of another user: needs {PYTHON}; not tested");
        return None;
    }
    put_program(builder.dir(), "turned.py", include_str!("turned.py"));
    fs::write(builder.dir().join("deed"), "").unwrap();
    Some(builder.option(format!("--port=127.0.0.1:{port}")).program([PYTHON, "turned.py"]))
}

#[test]
fn the_proof_that_it_accepts_is_found_across_the_change() {
    if !is_root("a server of another user") {
        return;
    }
    let port = Port::new();
    let Some(builder) = serving(of_service().option("--ready=accept"), &port) else { return };
    let daemon = builder.start();
    daemon.wait_line("it waits for connections");
    let restarted = daemon.verb(["--restart", "--pid-file=pid"]);
    assert!(restarted.status.success(), "{restarted:?}");
    daemon.wait_status_file(|generations| generations == [2]);
    TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()))).unwrap();
}

#[test]
fn the_notify_socket_is_the_users() {
    if !is_root("a program of another user that says that it is ready") {
        return;
    }
    if !Path::new(PYTHON).exists() {
        eprintln!("a program of another user that says that it is ready: needs {PYTHON}; not tested");
        return;
    }
    let script = "import os, socket, time; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); \
                  s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET']); time.sleep(600)";
    let daemon = of_service().option("--ready=notify").program([PYTHON, "-c", script]).start();
    daemon.wait_line("is ready after");
    daemon.wait_line("it said so");
}

#[test]
fn a_log_command_gets_what_workers_of_another_user_write_and_stays_ours() {
    if !is_root("a log command") {
        return;
    }
    let daemon = of_service()
        .option("--log-file=| id -u > logger; exec cat > written")
        .program(["/bin/sh", "-c", "echo hello from $(id -u); exec sleep 600"])
        .start();
    let hello = format!("hello from {SERVICE}");
    daemon.wait_for("the line in the log", || daemon.wait_file("written").contains(&hello).then_some(()));
    assert_eq!(daemon.text("logger").trim(), "0");
}

#[test]
fn workers_of_another_user_are_taken_over_after_a_kill() {
    if !is_root("a takeover from another user's workers") {
        return;
    }
    let port = Port::new();
    let Some(builder) = serving(of_service(), &port) else { return };
    let daemon = builder.start();
    daemon.wait_status_file(|generations| generations == [1]);
    let worker = daemon.workers().first().copied().unwrap();
    daemon.signal("KILL");
    let Some(builder) = serving(of_service(), &port) else { return };
    let next = builder.start();
    next.wait_line(&format!("is taken over from generation 1 (pid {worker}), whose superdaemon is gone"));
    next.wait_status_file(|generations| generations == [2]);
    TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()))).unwrap();
}

#[test]
fn an_upgrade_can_change_the_user_of_the_next_generation() {
    if !is_root("an upgrade to another user") {
        return;
    }
    let daemon = of_service().program(["sleep", "600"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    let upgrade = |user: &str| {
        let files = ["--pid-file=pid", "--status-file=status", "--interval=0.1"];
        let options = [&["--upgrade"][..], &files, &[user, "--group=64002", "--", "sleep", "600"]].concat();
        daemon.verb(options)
    };
    let refused = upgrade("--user=nosuchuser");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("there is no user nosuchuser"), "{refused:?}");
    let upgraded = upgrade("--user=64002");
    assert!(upgraded.status.success(), "{upgraded:?}");
    let owner = |pid: u32| fs::metadata(format!("/proc/{pid}")).unwrap().uid();
    assert_eq!(daemon.workers().into_iter().map(owner).collect::<Vec<_>>(), [SERVICE]);
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [2]);
    assert_eq!(daemon.workers().into_iter().map(owner).collect::<Vec<_>>(), [64_002]);
}

/// Whoever is in the session of a terminal can type on it, and so command whoever has started the session.
#[test]
fn a_worker_of_another_user_is_in_a_session_of_its_own() {
    if !is_root("another user") {
        return;
    }
    let user = format!("--user={SERVICE}");
    let daemon = ours()
        .options([&user, &format!("--group={SERVICE}"), "--ready=exec:true", "--interval=0.1"])
        .program(["sleep", "600"])
        .start();
    daemon.wait_line("is ready after");
    let (_, worker) = daemon.wait_status_file(|generations| generations == [1])[0];
    let stat = std::fs::read_to_string(format!("/proc/{worker}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // Group and session, see proc_pid_stat(5).
    assert_eq!((fields[2], fields[3]), (worker.to_string().as_str(), worker.to_string().as_str()), "{stat}");
}

/// All write to one log, and each can change the flags of what it has open.
#[test]
fn a_worker_does_not_silence_the_log() {
    let script = "import fcntl, os, time; fcntl.fcntl(2, fcntl.F_SETFL, os.O_APPEND | os.O_DIRECT); time.sleep(600)";
    let daemon =
        ours().options(["--log-file=log", "--interval=0.3"]).log("log").program(["python3", "-c", script]).start();
    daemon.wait_line("is ready after");
    daemon.hup();
    daemon.wait_line("received HUP, spawning a new worker");
    daemon.wait_line("generation 2 (pid");
}
