//! The PID file in a directory that others can read, or write.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::process::Child;

use testkit::{Builder, Daemon, wait_for};

use crate::other_user::{SERVICE, STRANGER, as_user};
use crate::world::{is_root, ours};

/// A stranger who locks the file, until it is killed.
fn locked_by_a_stranger(daemon: &Builder) -> Child {
    let (pid, locked) = (daemon.dir().join("pid"), daemon.dir().join("locked"));
    fs::set_permissions(daemon.dir(), Permissions::from_mode(0o777)).unwrap();
    let stranger = as_user(STRANGER, "flock")
        .arg("-x")
        .arg(&pid)
        .args(["sh", "-c", &format!("touch {}; exec sleep 600", locked.display())])
        .spawn()
        .unwrap();
    wait_for(|| "a lock".to_owned(), || locked.exists().then_some(()));
    fs::set_permissions(daemon.dir(), Permissions::from_mode(0o755)).unwrap();
    stranger
}

fn builder() -> Builder {
    ours().option("--interval=0.1").program(["sleep", "600"])
}

#[test]
fn a_lock_that_somebody_else_holds_prevents_no_start() {
    if !is_root("another user's lock") {
        return;
    }
    let builder = builder();
    let pid = builder.dir().join("pid");
    // As one that was killed has left it.
    fs::write(&pid, "2147483647\n").unwrap();
    let mut stranger = locked_by_a_stranger(&builder);
    let before = fs::metadata(&pid).unwrap().ino();
    let mut daemon = builder.start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_line("holds the lock of pid; another file takes its place");
    let file = fs::metadata(&pid).unwrap();
    assert_ne!(file.ino(), before);
    assert_eq!((file.mode() & 0o7777, file.uid()), (0o644, 0));
    assert!(daemon.verb(["--status", "--pid-file=pid"]).status.success());
    // And no second one beside it.
    let second = daemon.verb(["--pid-file=pid", "--", "sleep", "600"]);
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&format!("another superdaemon (pid {}) runs with this PID file", daemon.pid())), "{said}");
    assert!(daemon.stop().success());
    assert!(!pid.exists());
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn its_mode_does_not_depend_on_the_umask() {
    for umask in ["0", "077"] {
        let daemon = builder().after_script(&format!("umask {umask}")).start();
        daemon.wait_status_file(|generations| generations == [1]);
        assert_eq!(fs::metadata(daemon.path("pid")).unwrap().mode() & 0o7777, 0o644, "umask {umask}");
    }
}

#[test]
fn another_users_file_is_not_adopted() {
    if !is_root("another user's file") {
        return;
    }
    let builder = builder();
    let pid = builder.dir().join("pid");
    fs::write(&pid, "precious\n").unwrap();
    chown(&pid, Some(STRANGER), None).unwrap();
    let mut daemon = builder.start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    daemon.wait_line(&format!("it belongs to user {STRANGER}, who could write another process into it"));
    assert_eq!(fs::read_to_string(&pid).unwrap(), "precious\n");
}

#[test]
fn no_link_is_followed_and_no_fifo_waited_for() {
    let precious = |daemon: &Daemon| fs::read_to_string(daemon.path("precious")).unwrap();
    let linked = builder();
    fs::write(linked.dir().join("precious"), "precious").unwrap();
    symlink("precious", linked.dir().join("pid")).unwrap();
    let mut daemon = linked.start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    daemon.wait_line("it is a symbolic link, which is not followed");
    assert_eq!(precious(&daemon), "precious");

    let piped = builder();
    let fifo = piped.dir().join("pid");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let mut daemon = piped.start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    daemon.wait_line("it is not a regular file");
}

/// Whose directory it is can do with the names in it what it likes.
#[test]
fn in_a_directory_of_the_service_only_our_own_file_is_removed() {
    if !is_root("another user's directory") {
        return;
    }
    let builder = builder();
    chown(builder.dir(), Some(SERVICE), None).unwrap();
    let mut daemon = builder.start();
    daemon.wait_status_file(|generations| generations == [1]);
    let (pid, precious) = (daemon.path("pid"), daemon.path("precious"));
    fs::write(&precious, "precious").unwrap();
    let exchange = format!("mv {0} {0}.old; ln -s {1} {0}", pid.display(), precious.display());
    assert!(as_user(SERVICE, "sh").args(["-c", &exchange]).status().unwrap().success());
    assert!(daemon.stop().success());
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    assert!(fs::symlink_metadata(&pid).unwrap().is_symlink());
}

/// A file of root's that whoever owns the directory has put there, or given that name, is not written to.
#[test]
fn in_a_directory_of_others_a_file_that_is_there_is_replaced_and_not_written_to() {
    if !is_root("another user's directory") {
        return;
    }
    let builder = builder();
    let (pid, precious) = (builder.dir().join("pid"), builder.dir().join("precious"));
    fs::write(&precious, "precious\n").unwrap();
    fs::set_permissions(&precious, Permissions::from_mode(0o600)).unwrap();
    fs::hard_link(&precious, &pid).unwrap();
    chown(builder.dir(), Some(SERVICE), None).unwrap();
    let mut daemon = builder.start();
    daemon.wait_status_file(|generations| generations == [1]);
    assert!(daemon.verb(["--status", "--pid-file=pid"]).status.success());
    assert!(daemon.stop().success());
    assert!(!pid.exists());
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious\n");
    assert_eq!(fs::metadata(&precious).unwrap().mode() & 0o7777, 0o600);
}

/// Who may not put files there had one made.
#[test]
fn where_it_may_not_make_files_it_uses_the_one_that_was_made_for_it() {
    if !is_root("another user's superdaemon") {
        return;
    }
    let dir = testkit::TempDir::new();
    let program = crate::other_user::copy_for_all(dir.path());
    let shared = dir.path().join("shared");
    fs::create_dir(&shared).unwrap();
    chown(&shared, Some(STRANGER), None).unwrap();
    let pid = shared.join("pid");
    fs::write(&pid, "").unwrap();
    chown(&pid, Some(SERVICE), None).unwrap();
    let as_service = [&format!("--reuid={SERVICE}"), &format!("--regid={SERVICE}"), "--clear-groups"];
    let builder = Daemon::new("setpriv")
        .options(as_service)
        .options([program.as_os_str(), format!("--pid-file={}", pid.display()).as_ref()])
        .option("--interval=0.1");
    fs::set_permissions(builder.dir(), Permissions::from_mode(0o777)).unwrap();
    let daemon = builder.program(["sleep", "600"]).start();
    daemon.wait_line("is ready after");
    assert_eq!(fs::read_to_string(&pid).unwrap(), format!("{}\n", daemon.pid()));
}
