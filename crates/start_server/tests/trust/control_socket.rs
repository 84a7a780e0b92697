//! Where commands are answered, and by whom nobody else can be held up or commanded.

use std::fs;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::Instant;

use testkit::{Daemon, TempDir, patience};

use crate::other_user::{SERVICE, STRANGER, as_user, copy_for_all};
use crate::world::{is_root, ours, status};

fn started() -> Daemon {
    let daemon = ours().option("--interval=0.1").program(["sleep", "600"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon
}

#[test]
fn it_is_a_file_of_its_user_in_a_directory_that_nobody_else_can_write_to() {
    let mut daemon = started();
    let path = daemon.control_socket();
    assert_eq!(status(&daemon).control_socket.as_deref(), path.to_str());
    let us = rustix::process::geteuid().as_raw();
    let file = fs::symlink_metadata(&path).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!((file.mode() & 0o7777, file.uid()), (0o600, us));
    let directory = fs::symlink_metadata(path.parent().unwrap()).unwrap();
    assert!(directory.is_dir() && directory.uid() == us && directory.mode() & 0o022 == 0, "{directory:?}");
    assert!(daemon.stop().success());
    assert!(!path.exists());
}

#[test]
fn there_are_no_abstract_names() {
    let daemon = started();
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    assert!(!table.lines().any(|line| line.contains(&format!("@start_server/{}", daemon.pid()))), "{table}");
}

#[test]
fn a_stranger_commands_nothing() {
    if !is_root("a stranger") {
        return;
    }
    let daemon = started();
    let dir = TempDir::new();
    let program = copy_for_all(dir.path());
    for verb in ["--status", "--restart", "--stop", "--upgrade"] {
        let output = as_user(STRANGER, &program).arg(verb).arg(format!("--pid={}", daemon.pid())).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("run this as that user or root"), "{said}");
    }
    let connect =
        "use Socket; socket(my $s, AF_UNIX, SOCK_STREAM, 0); connect($s, pack_sockaddr_un($ARGV[0])) or die $!";
    let output = as_user(STRANGER, "perl").args(["-e", connect]).arg(daemon.control_socket()).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("Permission denied"), "{output:?}");
    let status = status(&daemon);
    assert_eq!((status.restarts, status.stopping, status.current), (0, false, Some(1)));
}

/// One that has been opened to everybody by mistake still asks who it is.
#[test]
fn a_stranger_who_can_connect_is_refused() {
    if !is_root("a stranger") {
        return;
    }
    let daemon = ours().option("--interval=0.1").option("--control-socket=control").program(["sleep", "600"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    fs::set_permissions(daemon.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(daemon.path("control"), fs::Permissions::from_mode(0o666)).unwrap();
    let dir = TempDir::new();
    let program = copy_for_all(dir.path());
    let at = format!("--control-socket={}", daemon.path("control").display());
    for verb in ["--status", "--restart", "--stop", "--upgrade"] {
        let output = as_user(STRANGER, &program).arg(verb).arg(&at).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("only user 0 and root may talk to this superdaemon"), "{said}");
    }
    assert!(daemon.verb(["--status", "--control-socket=control"]).status.success());
}

/// Names in `/proc/net/unix` are whatever somebody has chosen.
#[test]
fn sockets_of_others_with_such_names_are_in_nobodys_way() {
    if !is_root("another user's sockets") {
        return;
    }
    let dir = TempDir::new();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let daemon = started();
    // The abstract name of before, and a file with the name of the real one, with queues that are full.
    let squat = "use Socket; my @held; for my $name (@ARGV) { socket(my $l, AF_UNIX, SOCK_STREAM, 0);
        bind($l, pack('S a*', AF_UNIX, $name =~ s/^@/\\0/r)) or die \"$name: $!\"; listen($l, 0); push @held, $l;
        for (1 .. 2) { socket(my $c, AF_UNIX, SOCK_STREAM | 2048, 0);
            connect($c, pack('S a*', AF_UNIX, $name =~ s/^@/\\0/r)); push @held, $c } }
        $| = 1; print \"held\\n\"; sleep 600";
    let name = daemon.control_socket().file_name().unwrap().to_owned();
    fs::create_dir(dir.path().join("start_server")).unwrap();
    fs::set_permissions(dir.path().join("start_server"), fs::Permissions::from_mode(0o777)).unwrap();
    let mut squatter = as_user(STRANGER, "perl")
        .args(["-e", squat, &format!("@start_server/{}", daemon.pid())])
        .arg(dir.path().join("start_server").join(name))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 5];
    squatter.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"held\n");
    for arguments in [["--status", "--pid-file=pid"], ["--restart", "--pid-file=pid"], ["--stop", "--pid-file=pid"]] {
        let output = daemon.verb(arguments);
        assert!(output.status.success(), "{output:?}");
    }
    squatter.kill().unwrap();
    squatter.wait().unwrap();
}

/// A user's own superdaemon, with the directory that its login gives it and without.
#[test]
fn a_user_has_a_directory_of_its_own() {
    if !is_root("another user's superdaemon") {
        return;
    }
    let dir = TempDir::new();
    let program = copy_for_all(dir.path());
    let runtime = dir.path().join("runtime");
    fs::create_dir(&runtime).unwrap();
    std::os::unix::fs::chown(&runtime, Some(SERVICE), Some(SERVICE)).unwrap();
    fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).unwrap();
    for (variable, expected) in [
        (runtime.to_str().unwrap(), runtime.join("start_server")),
        ("/nowhere", format!("/tmp/start_server-{SERVICE}").into()),
        ("relative", format!("/tmp/start_server-{SERVICE}").into()),
        // What is not the user's own, as after su(1).
        ("/root", format!("/tmp/start_server-{SERVICE}").into()),
    ] {
        let builder = Daemon::new("setpriv").env("XDG_RUNTIME_DIR", variable).options([
            format!("--reuid={SERVICE}"),
            format!("--regid={SERVICE}"),
            "--clear-groups".to_owned(),
            program.to_str().unwrap().to_owned(),
            "--interval=0.1".to_owned(),
        ]);
        fs::set_permissions(builder.dir(), fs::Permissions::from_mode(0o777)).unwrap();
        let daemon = builder.program(["sleep", "600"]).start();
        daemon.wait_line("is ready after");
        let path = daemon.control_socket();
        assert_eq!(path.parent().unwrap(), expected, "{variable}");
        // Its user and root find it, whatever is in their environment.
        let pid = format!("--pid={}", daemon.pid());
        let output = as_user(SERVICE, &program).args(["--status", &pid]).env_clear().output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let output = daemon.verb_of(&program, ["--status", &pid]);
        assert!(output.status.success(), "{output:?}");
        let output = as_user(STRANGER, &program).args(["--stop", &pid]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
    }
}

/// Somebody else's directory of that name is not used, and then signals have to do.
#[test]
fn without_a_directory_signals_and_files_do() {
    if !is_root("another user's superdaemon") {
        return;
    }
    const USER: u32 = 64_003;
    let taken = [format!("/tmp/start_server-{USER}"), format!("/dev/shm/start_server-{USER}")];
    for path in &taken {
        let _ = fs::remove_dir_all(path);
        fs::create_dir(path).unwrap();
        std::os::unix::fs::chown(path, Some(STRANGER), None).unwrap();
    }
    let dir = TempDir::new();
    let program = copy_for_all(dir.path());
    let builder = Daemon::new("setpriv").options([
        format!("--reuid={USER}"),
        format!("--regid={USER}"),
        "--clear-groups".to_owned(),
        program.to_str().unwrap().to_owned(),
        "--interval=0.1".to_owned(),
    ]);
    fs::set_permissions(builder.dir(), fs::Permissions::from_mode(0o777)).unwrap();
    let mut daemon = builder.with_files().program(["sleep", "600"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    let line = daemon.wait_line("there is no directory for the control socket that only this user can write to");
    assert!(line.contains(&format!("{}: it belongs to user {STRANGER}, not to user {USER}", taken[0])), "{line}");
    let pid = format!("--pid-file={}", daemon.path("pid").display());
    let files = format!("--status-file={}", daemon.path("status").display());
    let output = daemon.verb_of(&program, ["--status", &pid]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = as_user(USER, &program).args(["--restart", &pid, &files]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let output = as_user(USER, &program).args(["--upgrade", &pid]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    daemon.wait_line("has become");
    let output = as_user(STRANGER, &program).args(["--stop", &pid]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let output = as_user(USER, &program).args(["--stop", &pid]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    daemon.exit_status();
    taken.iter().for_each(|path| fs::remove_dir_all(path).unwrap());
}

/// One that stands still, and one that takes no connections.
#[test]
fn commands_keep_their_time_whatever_the_other_end_does() {
    let daemon = started();
    daemon.signal("STOP");
    let begun = Instant::now();
    let output = daemon.verb(["--restart", "--pid-file=pid", "--timeout=1"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let took = begun.elapsed();
    assert!(took.as_secs() < 3, "{took:?}");
    daemon.signal("CONT");

    let dir = TempDir::new();
    let path = dir.path().join("full");
    let name = format!("start_server-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(name).unwrap();
    drop(UnixListener::bind_addr(&address).unwrap());
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    let begun = Instant::now();
    let output =
        daemon.verb(["--stop".to_owned(), format!("--control-socket={}", path.display()), "--timeout=1".to_owned()]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(begun.elapsed().as_secs() < 3);
    // One that never ends to talk.
    let talking = std::thread::spawn(move || {
        let mut streams = Vec::new();
        for stream in listener.incoming().flatten() {
            let mut talker = stream.try_clone().unwrap();
            streams.push(std::thread::spawn(move || while talker.write_all(b"x").is_ok() {}));
            if streams.len() == 2 {
                return;
            }
        }
    });
    let begun = Instant::now();
    let output =
        daemon.verb(["--stop".to_owned(), format!("--control-socket={}", path.display()), "--timeout=1".to_owned()]);
    assert!(matches!(output.status.code(), Some(1 | 4)), "{output:?}");
    assert!(begun.elapsed() < patience());
    talking.join().unwrap();
}
