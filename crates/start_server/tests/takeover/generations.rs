//! Generations and listeners of every kind that a superdaemon can leave behind.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;

use testkit::{Address, Port, TempDir, get, is_installed};

use crate::world::{self, generation, shell, status, wait_family};
use crate::{at, kill, ours, wait_commit};

/// Killed in the middle of a restart: both generations hold the listener, one serves and one never will.
#[test]
fn one_that_was_starting_is_replaced_like_the_one_that_serves() {
    let port = Port::new();
    let script = "[ $SERVER_STARTER_GENERATION = 2 ] && exec sleep 600; exec $SERVER";
    let mut first = ours().option(at(&port)).program(shell(script)).start();
    first.wait_status_file(|generations| generations == [1]);
    first.hup();
    let starting = first.wait_for("generation 2", || generation(&first, 2)).pids[0];
    kill(&mut first);
    let mut second = ours().option(at(&port)).program(shell(script)).start();
    second.wait_line(&format!("is taken over from generation 2 (pid {starting}), whose superdaemon is gone"));
    second.wait_status_file(|generations| generations == [3]);
    first.wait_gone();
    assert_eq!(get(&Address::local(port.number()), "/").unwrap().generation, 3);
    assert!(second.stop().success());
}

/// Killed between the fork and the exec of a worker: for a moment there is a process that looks like the superdaemon, holds
/// what it held, the lock of the PID file too, and is about to be a worker. Here strace makes that moment long.
#[test]
fn one_that_does_not_run_the_program_yet_is_waited_for() {
    if !is_installed("strace") {
        return;
    }
    let (port, files) = (Port::new(), TempDir::new());
    let options = [at(&port), format!("--pid-file={}", files.path().join("pid").display())];
    // With -D the superdaemon, not strace, is the process that was started.
    let strace = "strace -D -f -qq -o /dev/null -e trace=execve -e inject=execve:delay_enter=700000";
    let slow = ours().options(&options).after_script(&format!("set -- {strace} \"$@\""));
    let mut first = slow.server([""; 0]).start();
    first.wait_line("starting new worker");
    kill(&mut first);
    let mut second = ours().options(&options).server([""; 0]).start();
    second.wait_line("is taken over from generation 1");
    wait_commit(&second);
    first.wait_gone();
    assert_eq!(get(&Address::local(port.number()), "/").unwrap().generation, 2);
    assert!(second.stop().success());
}

/// An old generation that has closed its listeners: the status file of the one that was killed names it.
#[test]
fn one_that_drains_is_watched_and_finishes_its_request() {
    let (port, files) = (Port::new(), TempDir::new());
    let address = Address::local(port.number());
    let start = || {
        let options = [at(&port), format!("--status-file={}", files.path().join("status").display())];
        ours().options(options).server([""; 0]).start()
    };
    let mut first = start();
    first.wait_line("is ready after");
    // Before the next connection is accepted, this one is.
    let mut slow = TcpStream::connect(("127.0.0.1", port.number())).unwrap();
    slow.write_all(b"GET /sleep/3 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let drainer = first.wait_ready(1).pid;
    get(&address, "/").unwrap();
    first.hup();
    wait_commit(&first);
    first.wait_event(1, "signal TERM");
    kill(&mut first);
    let mut second = start();
    second.wait_line(&format!(
        "generation 1 (pid {drainer}), which the superdaemon that is gone had told to go, is watched"
    ));
    wait_commit(&second);
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with(&format!("generation=1 pid={drainer}\n")), "{answer}");
    second.wait_for("generation 3 alone", || {
        let left: Vec<u32> = status(&second).generations.iter().map(|left| left.generation).collect();
        (left == [3]).then_some(())
    });
    first.wait_gone();
    assert!(second.stop().success());
}

/// What a status file says is not enough: neither a process that has nothing to do with us, nor the worker of another
/// superdaemon, nor one that was started after the file was written is touched.
#[test]
fn a_status_file_that_names_others_harms_nobody() {
    let (port, elsewhere, files) = (Port::new(), Port::new(), TempDir::new());
    let path = files.path().join("status");
    let option = format!("--status-file={}", path.display());
    let other = ours().option(at(&elsewhere)).program(["sleep", "600"]).option("--ready=alive").start();
    other.wait_status_file(|generations| generations == [1]);
    let foreign = other.workers()[0];
    let mut first = ours().options([&at(&port), &option]).server([""; 0]).start();
    first.wait_line("is ready after");
    let serving = first.workers()[0];
    kill(&mut first);
    let lines = [format!("1:{foreign}"), format!("7:{serving}"), "1:1".to_owned(), format!("1:{}", other.pid())];
    fs::write(&path, lines.join("\n") + "\n1:0\n:\n1:99999999999\n").unwrap();
    let mut second = ours().options([&at(&port), &option]).server([""; 0]).start();
    wait_commit(&second);
    first.wait_gone();
    assert!(!second.lines().iter().any(|line| line.contains("is watched")), "{:?}", second.lines());
    assert!(second.stop().success());
    assert_eq!(other.workers(), [foreign]);
    assert!(other.is_running());
}

/// Each listener is held by the workers of another superdaemon.
#[test]
fn listeners_come_from_different_superdaemons() {
    let (one, two, three) = (Port::new(), Port::new(), Port::new());
    let mut before = [&one, &two].map(|port| ours().option(at(port)).server([""; 0]).start());
    let workers = before.each_mut().map(|daemon| {
        let worker = daemon.wait_ready(1).pid;
        kill(daemon);
        worker
    });
    let mut daemon = ours().options([&one, &two, &three].map(at)).server([""; 0]).start();
    for worker in workers {
        daemon.wait_line(&format!("is taken over from generation 1 (pid {worker})"));
    }
    wait_commit(&daemon);
    before.iter().for_each(testkit::Daemon::wait_gone);
    for port in [&one, &two, &three] {
        assert_eq!(get(&Address::local(port.number()), "/").unwrap().generation, 2);
    }
    assert!(daemon.stop().success());
}

/// Sockets without a file, sockets for datagrams, and ports that others may have as well.
#[test]
fn every_kind_of_listener_is_taken_over() {
    let (port, files) = (Port::new(), TempDir::new());
    let name = format!("takeover-{}-{port}", std::process::id());
    let addresses = [
        format!("127.0.0.1:{port},reuseport"),
        format!("127.0.0.1:u{port},reuseport"),
        format!("unix:@{name}"),
        format!("unix-dgram:@{name}-dgram"),
        format!("unix-dgram:{}", files.path().join("dgram").display()),
    ];
    let start = || ours().options(addresses.iter().map(|at| format!("--listen={at}"))).server([""; 0]).start();
    let mut first = start();
    first.wait_line("is ready after");
    kill(&mut first);
    let mut second = start();
    wait_commit(&second);
    let taken = second.lines().iter().filter(|line| line.contains("is taken over from generation 1")).count();
    assert_eq!(taken, addresses.len(), "{:?}", second.lines());
    first.wait_gone();
    assert_eq!(get(&Address::local(port.number()), "/").unwrap().generation, 2);
    assert!(second.stop().success());
    assert!(!files.path().join("dgram").exists());
}

/// The socket is known by its file, not by the way in which its path was written.
#[test]
fn a_path_may_be_spelt_in_another_way() {
    let files = TempDir::new();
    let start = |path: &str| {
        let enter = format!("cd {}", files.path().display());
        ours().option(format!("--path={path}")).after_script(&enter).server([""; 0]).start()
    };
    let absolute = files.path().join("socket");
    let address = Address::Unix(absolute.clone());
    let mut daemon = start("socket");
    let mut before = Vec::new();
    for (generation, path) in [(2, "./socket"), (3, absolute.to_str().unwrap()), (4, "socket")] {
        daemon.wait_line("is ready after");
        kill(&mut daemon);
        let next = start(path);
        next.wait_line("is taken over from generation");
        wait_commit(&next);
        assert_eq!(get(&address, "/").unwrap().generation, generation);
        before.push(std::mem::replace(&mut daemon, next));
    }
    // One that only is called the same is another.
    let elsewhere = TempDir::new();
    let enter = format!("cd {}", elsewhere.path().display());
    let mut other = ours().option("--path=socket").after_script(&enter).server([""; 0]).start();
    other.wait_line("is ready after");
    assert!(!other.lines().iter().any(|line| line.contains("taken over")));
    assert!(other.stop().success());
    assert!(daemon.stop().success());
    assert!(!absolute.exists());
}

/// A start that fails leaves everything as it was: the orphans serve on, also where their socket has a name.
#[test]
fn a_start_that_fails_leaves_the_orphans_and_their_socket_file() {
    let files = TempDir::new();
    let path = files.path().join("socket");
    let option = format!("--path={}", path.display());
    let mut first = ours().option(&option).server([""; 0]).start();
    first.wait_line("is ready after");
    kill(&mut first);
    let mut second = ours().options([&option, "--path=/nowhere/socket"]).server([""; 0]).start();
    assert!(!second.exit_status().success());
    let reply = get(&Address::Unix(path.clone()), "/").unwrap();
    assert_eq!(reply.generation, 1);
    let mut third = ours().option(&option).server([""; 0]).start();
    wait_commit(&third);
    assert!(third.stop().success());
    assert!(!path.exists());
}

/// PID file, status file, control socket and log command of the one that was killed are in nobody's way.
#[test]
fn files_that_were_left_are_replaced() {
    let (port, files) = (Port::new(), TempDir::new());
    let file = |name: &str| files.path().join(name).display().to_string();
    let start = || {
        let command = format!("--log-file=| cat >>{}", file("log"));
        let options = [at(&port), command, format!("--control-socket={}", file("control"))];
        let kept = [format!("--pid-file={}", file("pid")), format!("--status-file={}", file("status"))];
        ours().options(options).options(kept).server([""; 0]).start()
    };
    let log = |text: &str, count: usize| {
        testkit::wait_for(
            || format!("{count} lines with {text}"),
            || (fs::read_to_string(file("log")).unwrap_or_default().matches(text).count() == count).then_some(()),
        );
    };
    let mut first = start();
    log("is ready after", 1);
    let left = ["pid", "status", "control"];
    testkit::wait_for(|| "the status file".to_owned(), || files.path().join("status").exists().then_some(()));
    kill(&mut first);
    assert!(left.iter().all(|name| files.path().join(name).exists()));
    let mut second = start();
    log("is ready after", 2);
    // The log command of the first ends with the last that writes to it.
    first.wait_gone();
    assert_eq!(fs::read_to_string(file("pid")).unwrap(), format!("{}\n", second.pid()));
    let told = second.verb(["--status", "--control-socket", &file("control")]);
    assert!(told.status.success(), "{told:?}");
    assert!(second.stop().success());
    assert!(left.iter().all(|name| !files.path().join(name).exists()));
}

/// An orphan that does not go is killed with everything that it has started.
#[test]
fn an_orphan_that_stays_is_killed_with_its_family() {
    let port = Port::new();
    let script = format!("{} $SERVER --ignore=TERM & trap '' TERM; wait; wait", world::BEGET);
    let mut first = ours().option(at(&port)).program(shell(&script)).start();
    first.wait_line("is ready after");
    wait_family(&first, 1);
    kill(&mut first);
    let mut second = ours().options([&at(&port), "--drain-timeout=0.3"]).server([""; 0]).start();
    second.wait_line("has not gone within the drain timeout of 300 ms; killing it and its descendants");
    // Who has left the family when its superdaemon died became init's child, and may stay.
    second.wait_for("the end of the family", || (world::running(&first, "sleep 601").is_empty()).then_some(()));
    second.wait_for("the end of the server", || {
        let left: Vec<u32> = status(&second).generations.iter().map(|left| left.generation).collect();
        (left == [2]).then_some(())
    });
    assert_eq!(get(&Address::local(port.number()), "/").unwrap().generation, 2);
    assert!(second.stop().success());
}

/// A preforking server whose first process has died: every process that is left was given the listener.
#[test]
fn children_that_lost_their_worker_are_orphans_too() {
    let port = Port::new();
    let mut first = ours().option(at(&port)).program(shell("$SERVER & $SERVER & wait")).start();
    first.wait_line("is ready after");
    first.wait_for("both servers", || {
        (first.events().iter().filter(|event| event.what == "ready").count() == 2).then_some(())
    });
    let shell = first.workers()[0];
    kill(&mut first);
    first.signal_process(shell, "KILL");
    let mut second = ours().option(at(&port)).server([""; 0]).start();
    wait_commit(&second);
    first.wait_gone();
    second.wait_status_file(|generations| generations == [2]);
    assert!(second.stop().success());
}

/// A superdaemon that is itself the worker of another is alive and keeps what it has bound.
#[test]
fn a_superdaemon_under_another_is_no_orphan() {
    let (outer, inner) = (Port::new(), Port::new());
    let nested = [env!("CARGO_BIN_EXE_start_server"), &at(&inner), "--", "sleep", "600"];
    for options in [vec![at(&outer)], Vec::new()] {
        let mut daemon = ours().options(&options).option("--ready=alive").program(nested).start();
        daemon.wait_status_file(|generations| generations == [1]);
        daemon.wait_line("starting new worker");
        daemon.wait_lines("starting new worker", 2);
        let second = daemon.verb([&at(&inner), "--", "touch", "was-here"]);
        assert!(!second.status.success());
        let text = String::from_utf8_lossy(&second.stderr);
        assert!(
            text.contains("Address already in use") && text.contains("a superdaemon that lives, holds it"),
            "{text}"
        );
        assert!(!daemon.path("was-here").exists());
        assert!(daemon.stop().success());
    }
}
