//! The files of unix sockets: put back when a server has removed them, left alone when they are somebody else's.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};

use testkit::{Address, Client, Daemon};

use super::{OURS, answering, count, pid, restart, serving, stop, wait_alone, wait_idle};

#[test]
fn a_path_that_a_server_removes_when_it_stops_is_put_back() {
    let daemon = serving(["--path=socket"], ["stop=unlink"]);
    let address = Address::Unix(daemon.path("socket"));
    let client = Client::start(address.clone());
    client.wait_answers(20);
    for generation in 1..4 {
        let culprit = pid(&daemon, generation);
        restart(&daemon, generation);
        daemon
            .wait_line(&format!("generation {generation} (pid {culprit}), which was told to stop, has removed socket"));
        assert_eq!(answering(&address), generation + 1);
        client.wait_answers(20);
    }
    let tally = client.stop();
    // Between the removal and the putting back there is no such file, for as long as the machine lets the superdaemon wait;
    // who has found it has lost nothing after that.
    assert_eq!(tally.lost(), tally.refused, "{tally:?}");
    assert_eq!(count(&daemon, "has removed"), 3);
    wait_idle(&daemon, 1);
    stop(daemon);
}

/// As nginx, puma and php-fpm do with sockets that they do not use. Nobody has come or gone then, so it is the kernel
/// who tells.
#[test]
fn a_path_that_a_server_removes_when_it_starts_is_put_back_at_once() {
    let daemon = serving(["--path=socket"], ["start=unlink"]);
    daemon.wait_line("generation 1 (pid ");
    daemon.wait_line("has removed socket; it is put back");
    assert_eq!(answering(&Address::Unix(daemon.path("socket"))), 1);
    fs::remove_file(daemon.path("socket")).unwrap();
    daemon.wait_lines("has removed socket; it is put back", 2);
    fs::rename(daemon.path("socket"), daemon.path("elsewhere")).unwrap();
    daemon.wait_lines("has removed socket; it is put back", 3);
    fs::remove_file(daemon.path("elsewhere")).unwrap();
    assert_eq!(answering(&Address::Unix(daemon.path("socket"))), 1);
    wait_idle(&daemon, 1);
    stop(daemon);
}

/// Without its hidden name, or if both were removed, only a new socket helps, which the next generation gets.
#[test]
fn a_path_that_is_gone_for_good_is_bound_again() {
    let daemon = serving(["--path=socket"], []);
    let address = Address::Unix(daemon.path("socket"));
    // At the same moment, as it were: the superdaemon must not see the one without the other.
    daemon.signal("STOP");
    daemon.wait_state('T');
    fs::remove_file(daemon.path("socket")).unwrap();
    fs::remove_file(daemon.path(".socket.kept")).unwrap();
    daemon.signal("CONT");
    daemon.wait_line("has removed socket for good; it is bound again, and since generation 1 (pid ");
    wait_alone(&daemon, 2);
    assert_eq!(answering(&address), 2);
    // The hidden one alone is no loss.
    fs::remove_file(daemon.path(".socket.kept")).unwrap();
    restart(&daemon, 2);
    fs::remove_file(daemon.path("socket")).unwrap();
    daemon.wait_line("has removed socket; it is put back");
    assert_eq!(answering(&address), 3);
    stop(daemon);
}

#[test]
fn a_path_that_somebody_else_has_bound_is_left_alone() {
    let daemon = serving(["--path=socket"], ["stop=unlink-nothing"]);
    let path = daemon.path("socket");
    let other = UnixListener::bind(daemon.path("other")).unwrap();
    let theirs = fs::symlink_metadata(daemon.path("other")).unwrap().ino();
    fs::rename(daemon.path("other"), &path).unwrap();
    daemon.wait_line("socket is somebody else's now, and clients do not reach this service by it");
    restart(&daemon, 1);
    restart(&daemon, 2);
    assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), theirs);
    assert_eq!(count(&daemon, "is somebody else's now"), 1);
    // When it has gone, the next coming or going of a generation finds the place free.
    drop(other);
    fs::remove_file(&path).unwrap();
    restart(&daemon, 3);
    assert_eq!(answering(&Address::Unix(path.clone())), 4);
    fs::remove_file(&path).unwrap();
    daemon.wait_lines("has removed socket; it is put back", 2);
    // And at the end it is not removed if it is not ours.
    let _other = UnixListener::bind(daemon.path("other")).unwrap();
    let theirs = fs::symlink_metadata(daemon.path("other")).unwrap().ino();
    fs::rename(daemon.path("other"), &path).unwrap();
    let mut daemon = daemon;
    daemon.stop();
    assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), theirs);
    assert!(!daemon.path(".socket.kept").exists());
}

#[test]
fn what_a_killed_superdaemon_has_left_is_cleaned_up_by_the_next() {
    let directory = testkit::TempDir::new();
    let (path, kept) = (directory.path().join("socket"), directory.path().join(".socket.kept"));
    let start = || {
        let program = ["perl", super::SERVER];
        let option = format!("--path={}", path.display());
        let daemon = Daemon::new(OURS).with_files().option(option).options(super::WHEN_UP).program(program).start();
        wait_alone(&daemon, 1);
        daemon
    };
    let killed = start();
    let inode = fs::symlink_metadata(&kept).unwrap().ino();
    assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), inode);
    // Dropping it kills all its processes.
    drop(killed);
    assert!(path.exists() && kept.exists());
    let mut next = start();
    // While the old one has a name its number is not given again.
    assert_ne!(fs::symlink_metadata(&kept).unwrap().ino(), inode);
    assert_eq!(fs::symlink_metadata(&path).unwrap().ino(), fs::symlink_metadata(&kept).unwrap().ino());
    UnixStream::connect(&path).unwrap();
    next.stop();
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}
