//! What the service manager is told.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use rustix::time::{ClockId, clock_gettime};
use testkit::{Address, Builder, Port, get};

use crate::manager::Manager;
use crate::world::{ours, put_program, with_say};

const NONE: [&str; 0] = [];

fn proved_by_file() -> Builder {
    // Each generation waits for a file of its own.
    ours().option("--ready=exec:test -e go.$SERVER_STARTER_GENERATION")
}

fn allow(daemon: &testkit::Daemon, generation: u32) {
    std::fs::write(daemon.path(&format!("go.{generation}")), "").unwrap();
}

#[test]
fn a_life_from_start_to_stop() {
    let (manager, daemon) = Manager::of(proved_by_file().options(["--ready-timeout=77", "--max-attempts=1"]));
    let mut daemon = daemon.server(["--fail-generations=3"]).start();
    let extend = "EXTEND_TIMEOUT_USEC=92000000";
    manager.wait_events(&daemon, &[extend]);
    manager.wait_status(&daemon, |status| status.starts_with("generation 1 (pid ") && status.ends_with(") starts"));
    allow(&daemon, 1);
    manager.wait_events(&daemon, &[extend, "READY=1"]);
    let first = manager.status();
    assert!(first.ends_with(") serves"), "{first}");

    daemon.hup();
    manager.wait_events(&daemon, &[extend, "READY=1", "RELOADING=1", extend]);
    manager.wait_status(&daemon, |status| status.contains(" serves; generation 2 (pid "));
    allow(&daemon, 2);
    let one = [extend, "READY=1", "RELOADING=1", extend, "READY=1"];
    manager.wait_events(&daemon, &one);
    manager.wait_status(&daemon, |status| status.starts_with("generation 2 (pid ") && status.ends_with(") serves"));

    let failed = daemon.verb(["--restart", "--pid-file=pid"]);
    assert_eq!(failed.status.code(), Some(3));
    manager.wait_events(&daemon, &[&one[..], &["RELOADING=1", extend, "READY=1"]].concat());
    let status = manager.status();
    assert!(status.contains(" serves; the last attempt failed: generation 3 (pid "), "{status}");
    assert!(status.ends_with(" exited with status 1 before it was ready"), "{status}");

    daemon.term();
    assert!(daemon.exit_status().success());
    assert_eq!(manager.events().last().unwrap(), "STOPPING=1");
    assert_eq!(manager.events().len(), 9);
}

#[test]
fn a_reload_says_when_it_began() {
    let (manager, daemon) = Manager::of(ours().option("--interval=0"));
    let daemon = daemon.server(NONE).start();
    manager.wait_events(&daemon, &["EXTEND_TIMEOUT_USEC=15000000", "READY=1"]);
    let now = || {
        let now = clock_gettime(ClockId::Monotonic);
        now.tv_sec * 1_000_000 + now.tv_nsec / 1000
    };
    let before = now();
    daemon.hup();
    daemon.wait_for("the commit", || (manager.texts("READY=1").len() == 2).then_some(()));
    let texts = manager.texts("RELOADING=1\nMONOTONIC_USEC=");
    let time: i64 = texts[0].parse().unwrap();
    assert!(texts.len() == 1 && before <= time && time <= now(), "{before} {texts:?}");
}

/// Asked for while the current generation is being replaced because it died: no restart begins, the next attempt
/// covers it.
#[test]
fn every_restart_is_announced() {
    let (manager, daemon) = Manager::of(ours().options(["--interval=1.5", "--kill-old-delay=0"]));
    let daemon = daemon.server(["--fail-if=bad", "--fail-after=0.1"]).start();
    daemon.wait_for("ready", || (manager.texts("READY=1").len() == 1).then_some(()));
    let worker = daemon.wait_ready(1).pid;
    std::fs::write(daemon.path("bad"), "").unwrap();
    daemon.signal_process(worker, "KILL");
    daemon.wait_event(2, "start");
    daemon.hup();
    daemon.wait_for("reloading", || (manager.texts("RELOADING=1").len() == 1).then_some(()));
    std::fs::remove_file(daemon.path("bad")).unwrap();
    daemon.wait_for("the commit", || (manager.texts("READY=1").len() == 2).then_some(()));
    assert_eq!(manager.texts("RELOADING=1").len(), 1);
}

#[test]
fn a_slow_start_gets_time_and_a_failing_one_does_not() {
    let (manager, daemon) = Manager::of(with_say(ours()).options(["--ready=notify", "--ready-timeout=5"]));
    let daemon = daemon.program(["./say", "EXTEND_TIMEOUT_USEC=60000000", "stay"]).start();
    manager.wait_events(&daemon, &["EXTEND_TIMEOUT_USEC=20000000", "EXTEND_TIMEOUT_USEC=75000000"]);

    let failing = || ours().options(["--interval=0.1", "--ready=exec:test $SERVER_STARTER_GENERATION -gt 5"]);
    let (manager, daemon) = Manager::of(failing());
    let daemon = daemon.server(["--fail-generations=1,2,3,4,5"]).start();
    daemon.wait_for("ready", || (manager.events().last()? == "READY=1").then_some(()));
    assert_eq!(manager.texts("EXTEND_TIMEOUT_USEC=").len(), 1);

    // It would come to an end by itself.
    let (manager, daemon) = Manager::of(failing().option("--max-attempts=9"));
    let daemon = daemon.server(["--fail-generations=1,2,3,4,5"]).start();
    daemon.wait_for("ready", || (manager.events().last()? == "READY=1").then_some(()));
    assert!(manager.texts("EXTEND_TIMEOUT_USEC=").len() > 5);
}

#[test]
fn the_watchdog_hears_from_the_loop() {
    let (manager, daemon) = Manager::of(ours().env("WATCHDOG_USEC", "200000"));
    let daemon = daemon.after_script("export WATCHDOG_PID=$$").server(NONE).start();
    let begun = Instant::now();
    daemon.wait_for("signs of life", || (manager.texts("WATCHDOG=1").len() > 10).then_some(()));
    assert!(begun.elapsed() > Duration::from_millis(900), "{:?}", begun.elapsed());
    daemon.signal("STOP");
    daemon.wait_state('T');
    let count = manager.texts("WATCHDOG=1").len();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(manager.texts("WATCHDOG=1").len(), count);
    daemon.signal("CONT");
    daemon.wait_for("signs of life", || (manager.texts("WATCHDOG=1").len() > count).then_some(()));
    // None of this is for workers.
    let dump = daemon.wait_dump(1);
    assert_eq!(["WATCHDOG_USEC", "WATCHDOG_PID", "NOTIFY_SOCKET", "FDSTORE"].map(|name| dump.env(name)), [None; 4]);
}

#[test]
fn a_watchdog_of_somebody_else_is_not_ours() {
    let (manager, daemon) = Manager::of(ours().env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1"));
    let daemon = daemon.option("--interval=0.3").server(NONE).start();
    daemon.wait_for("ready", || (manager.texts("READY=1").len() == 1).then_some(()));
    assert_eq!(manager.texts("WATCHDOG=1"), NONE);
}

#[test]
fn a_manager_that_does_not_read_is_not_waited_for() {
    let (manager, daemon) = Manager::of(ours().options(["--interval=0", "--path=a", "--path=b"]));
    let mut daemon = daemon.env("WATCHDOG_USEC", "2000").server(NONE).start();
    // Far more than a socket holds.
    let mut generation = 1;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        daemon.wait_ready(generation);
        daemon.hup();
        generation += 1;
    }
    daemon.wait_ready(generation);
    daemon.wait_for("its answer", || {
        (get(&Address::Unix(daemon.path("a")), "/").unwrap().generation == generation).then_some(())
    });
    // What matters is heard when the manager reads again, and it ends with the truth.
    daemon.wait_for("the last commit", || {
        let status = manager.status();
        let is_last = status.starts_with(&format!("generation {generation} (pid ")) && status.ends_with(" serves");
        let ready = manager.events().into_iter().rfind(|event| event == "READY=1" || event == "RELOADING=1");
        (is_last && ready.as_deref() == Some("READY=1")).then_some(())
    });
    daemon.term();
    assert!(daemon.exit_status().success());
}

#[test]
fn without_a_manager_it_says_so_once_and_goes_on() {
    for (name, words) in
        [("/nowhere/notify", "failed to send to the service manager at"), ("nonsense", "is not usable")]
    {
        let daemon = ours().env("NOTIFY_SOCKET", name).option("--interval=0").server(NONE).start();
        for generation in 1..4 {
            daemon.wait_ready(generation);
            daemon.hup();
        }
        daemon.wait_ready(4);
        let lines = daemon.lines().into_iter().filter(|line| line.contains(words)).count();
        assert_eq!(lines, 1, "{:?}", daemon.lines());
    }
}

#[test]
fn listeners_and_the_last_number_are_kept() {
    let port = Port::new();
    let port_option = format!("--port=127.0.0.1:{port}");
    let (manager, daemon) = Manager::of(ours().options(["--interval=0", &port_option, "--path=s"]));
    let mut daemon = daemon.server(NONE).start();
    daemon.wait_ready(1);
    daemon.hup();
    daemon.wait_ready(2);
    let kept = manager.kept();
    let names: Vec<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
    let tcp = format!("start_server-tcp-127.0.0.1_{port}");
    assert_eq!(names, [&tcp, "start_server-unix-s", "start_server-memory"]);
    assert!(kept[..2].iter().all(|(_, socket)| sockopt::socket_acceptconn(socket).unwrap()));
    let mut text = [0; 100];
    let memory = File::from(kept[2].1.try_clone().unwrap());
    let length = memory.read_at(&mut text, 0).unwrap();
    assert_eq!(&text[..length], br#"{"last_generation":2,"version":1}"#);
    // A socket without its file is of no use, and what ends as asked is not continued.
    daemon.term();
    assert!(daemon.exit_status().success());
    let removed = manager.texts("FDSTOREREMOVE=1\nFDNAME=");
    assert_eq!(removed, ["start_server-unix-s", "start_server-memory"]);
}

#[test]
fn a_listener_that_is_bound_again_is_kept_instead() {
    let (manager, daemon) = Manager::of(ours().options(["--interval=0", "--path=s"]));
    let script = "open(my $s, '+<&=3'); shutdown($s, 2) if $ENV{SERVER_STARTER_GENERATION} == 1; sleep 600";
    let daemon = daemon.program(["perl", "-e", script]).start();
    let kept = daemon.wait_for("the new socket", || {
        let kept: Vec<_> = manager.kept().into_iter().filter(|(name, _)| name == "start_server-unix-s").collect();
        (kept.len() == 2).then_some(kept)
    });
    let [one, other] = [0, 1].map(|index| rustix::fs::fstat(&kept[index].1).unwrap().st_ino);
    assert_ne!(one, other);
    assert_eq!(manager.texts("FDSTOREREMOVE=1\nFDNAME="), ["start_server-unix-s"]);
}

#[test]
fn nothing_is_kept_where_there_is_no_room() {
    let (manager, daemon) = Manager::of(ours().options(["--interval=0", "--path=s"]).env("FDSTORE", "0"));
    let daemon = daemon.server(NONE).start();
    daemon.wait_ready(1);
    daemon.wait_for("ready", || (manager.texts("READY=1").len() == 1).then_some(()));
    assert!(manager.kept().is_empty());
}

#[test]
fn the_first_start_that_fails_is_never_ready() {
    let (manager, daemon) = Manager::of(ours().options(["--interval=0.1", "--ready=exec:false", "--max-attempts=2"]));
    put_program(daemon.dir(), "bad", "#!/bin/sh\nexit 7\n");
    let mut daemon = daemon.program(["./bad"]).start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    assert!(manager.texts("READY=1").is_empty());
    let status = manager.status();
    assert!(status.starts_with("no generation runs; the last attempt failed: generation 2 (pid "), "{status}");
}
