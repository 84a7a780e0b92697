//! Errors in the middle of everything: full disks, no more processes, a superdaemon that is killed.

use std::fs::{self, Permissions};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;

use testkit::{Address, Client, Daemon, Port, TempDir, get};

use crate::{at, complaint, daemon, superdaemon};

/// P19: a status file that could not be written ended the superdaemon, and its worker stayed behind with the port.
#[test]
fn p19_a_status_file_that_cannot_be_written_is_an_error_before_anything_is_spawned() {
    let mut daemon = daemon().option("--status-file=nowhere/status").program(["sleep", "600"]).start();
    assert!(!daemon.exit_status().success());
    assert!(daemon.processes().is_empty(), "a worker was left behind");
    let text = daemon.text("stderr");
    assert!(text.contains("nowhere/status") && text.contains("No such file or directory"), "{text}");
    assert!(!text.contains("starting new worker"), "{text}");
}

/// P19: the same when its directory went away later.
#[test]
fn p19_a_status_file_that_cannot_be_written_any_more_is_survived() {
    let port = Port::new();
    let builder = daemon().options([&at(&port), "--interval=0.1", "--status-file=dir/status"]);
    fs::create_dir(builder.dir().join("dir")).unwrap();
    let mut daemon = builder.server([""; 0]).start();
    daemon.wait_ready(1);
    daemon.wait_file("dir/status");
    fs::remove_dir_all(daemon.path("dir")).unwrap();
    daemon.hup();
    daemon.wait_event(1, "exit 0");
    daemon.wait_line("the status file is out of date until it can be written");
    assert_eq!(get(&Address::local(port.number()), "/").unwrap().generation, 2);
    fs::create_dir(daemon.path("dir")).unwrap();
    daemon.hup();
    let worker = daemon.wait_ready(3).pid;
    daemon.wait_for("generation 3 alone in the status file", || {
        (daemon.text("dir/status") == format!("3:{worker}\n")).then_some(())
    });
    assert!(daemon.stop().success());
}

/// P19: a full disk did the same. Here it is a limit on the size of files, which makes every write fail, those to the
/// log too.
#[test]
fn p19_a_full_disk_is_survived() {
    let mut daemon = daemon().with_files().option("--interval=0.1").program(["sleep", "600"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    limit(&daemon, "--fsize=0:", &[]);
    let first = daemon.workers();
    daemon.hup();
    let second = daemon.wait_for("the second worker alone", || {
        let workers = daemon.workers();
        (workers.len() == 1 && workers != first).then_some(workers)
    });
    assert_eq!(daemon.wait_status_file(|_| true), [(1, first[0])], "as it was");
    limit(&daemon, "--fsize=unlimited:", &[]);
    daemon.hup();
    daemon.wait_line("lines are missing here, because the log did not take them");
    let third = daemon.wait_status_file(|generations| generations == [3])[0].1;
    assert!(third != second[0] && third != first[0]);
    assert!(daemon.stop().success());
    assert!(!daemon.path("status").exists());
}

/// P19: the same for the log alone, on a device that is always full.
#[test]
fn p19_a_full_log_is_survived() {
    let mut daemon =
        daemon().with_files().options(["--interval=0.1", "--log-file=/dev/full"]).program(["sleep", "600"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [2]);
    assert!(daemon.stop().success());
}

/// P19: a fork that failed ended the superdaemon, and its worker stayed behind.
#[test]
fn p19_a_failed_fork_is_survived() {
    // Root may have any number of processes. A directory of our own, because another user cannot reach the build's.
    let bin = TempDir::new();
    let program = bin.path().join("start_server");
    fs::copy(superdaemon(), &program).unwrap();
    let mut as_user = Vec::new();
    let mut builder = Daemon::new(&program).with_files().option("--interval=0.1");
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        fs::set_permissions(builder.dir(), Permissions::from_mode(0o777)).unwrap();
        // A user that nobody else is: its processes are counted.
        let user = 2_000_000_000 + std::process::id();
        let words = ["setpriv", &format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"];
        as_user = words.map(str::to_owned).to_vec();
        builder = builder.after_script(&format!("exec {} \"$@\"", as_user.join(" ")));
    }
    let mut daemon = builder.program(["sleep", "600"]).start();
    let first = daemon.wait_status_file(|generations| generations == [1]);
    limit(&daemon, "--nproc=1:", &as_user);
    daemon.hup();
    daemon.wait_line("fork failed:");
    daemon.wait_line("could not be spawned; the next attempt comes in 100 ms, generation 1 goes on serving");
    assert_eq!(daemon.wait_status_file(|_| true), first);
    limit(&daemon, "--nproc=1000:", &as_user);
    daemon.wait_status_file(|generations| generations.len() == 1 && generations[0] > 2);
    assert!(daemon.stop().success());
}

/// P21: when a superdaemon was killed its workers stayed, unsupervised, and kept the port: the service could not be
/// started again until somebody had found and ended them.
#[test]
fn p21_after_a_killed_superdaemon_the_next_one_takes_over_without_a_lost_request() {
    let port = Port::new();
    let directory = TempDir::new();
    let path = directory.path().join("socket");
    let options = [at(&port), format!("--path={}", path.display()), "--interval=0.1".to_owned()];
    let mut first = daemon().with_files().options(&options).server([""; 0]).start();
    first.wait_status_file(|generations| generations == [1]);
    first.hup();
    first.wait_status_file(|generations| generations == [2]);
    let clients = [Address::local(port.number()), Address::Unix(path)].map(Client::start);
    clients.iter().for_each(|client| client.wait_answers(5));

    first.signal("KILL");
    first.exit_status();
    clients.iter().for_each(|client| client.wait_answers(5));
    let orphan = first.processes();
    assert_eq!(orphan.len(), 1, "the worker lives on");

    let mut second = daemon().with_files().options(&options).server([""; 0]).start();
    second.wait_line(&format!("is taken over from generation 2 (pid {}), whose superdaemon is gone", orphan[0]));
    first.wait_gone();
    let generation = second.wait_status_file(|generations| generations.len() == 1)[0].0;
    clients.iter().for_each(|client| client.wait_answers(5));
    for client in clients {
        let tally = client.stop();
        assert_eq!(tally.lost(), 0, "{tally:?}");
        assert!(tally.generations.contains_key(&generation), "{tally:?}");
    }
    assert!(second.stop().success());
}

/// P21, the other side of it: what a superdaemon that lives has bound is not taken from it.
#[test]
fn p21_a_living_superdaemon_keeps_its_worker_and_its_sockets() {
    let port = Port::new();
    let socket = TempDir::new();
    let path = format!("--path={}", socket.path().join("socket").display());
    let first = daemon().with_files().options([&at(&port), &path, "--interval=0.1"]).server([""; 0]).start();
    first.wait_status_file(|generations| generations == [1]);
    for option in [at(&port), path] {
        let second = first.verb([option.as_str(), "--", "touch", "was-here"]);
        assert!(!second.status.success(), "{option}");
        assert!(complaint(&second).contains("Address already in use"), "{}", complaint(&second));
    }
    assert!(!first.path("was-here").exists());
    assert_eq!(get(&Address::local(port.number()), "/").unwrap().generation, 1);
    assert_eq!(get(&Address::Unix(socket.path().join("socket")), "/").unwrap().generation, 1);
    let events: Vec<String> = first.events().into_iter().map(|event| event.what).collect();
    assert_eq!(events, ["start", "ready"], "the worker was signalled");
}

/// P21, the other side of it: a program that no superdaemon has started is left alone, and named.
#[test]
fn p21_a_foreign_process_keeps_its_port() {
    let foreign = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = foreign.local_addr().unwrap();
    let mut daemon = daemon().option(format!("--port={address}")).program(["touch", "was-here"]).start();
    assert!(!daemon.exit_status().success());
    let text = daemon.text("stderr");
    assert!(text.contains(&format!("(pid {}) has it", std::process::id())), "{text}");
    assert!(!daemon.path("was-here").exists());
}

/// Changes a soft resource limit of the superdaemon, as `prefix`. How limits are written says prlimit(1).
fn limit(daemon: &Daemon, limit: &str, prefix: &[String]) {
    let words = ["prlimit".to_owned(), "--pid".to_owned(), daemon.pid().to_string(), limit.to_owned()];
    let mut words = prefix.iter().chain(&words);
    let status = Command::new(words.next().unwrap()).args(words).status().expect("cannot run prlimit(1)");
    assert!(status.success(), "prlimit {limit} failed");
}
