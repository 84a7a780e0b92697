//! Signals to the superdaemon: at the worst moments, of all kinds, and with names that do not exist.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use testkit::{Address, Daemon, Port, get, patience};

use crate::{at, daemon, lines_with, process};

/// Waits for the `count`th worker without a pause, for what has to be timed to a fraction of a millisecond.
fn catch_spawn(daemon: &Daemon, count: usize) {
    let begun = Instant::now();
    while lines_with(daemon, "starting new worker") < count {
        assert!(begun.elapsed() < patience(), "no worker {count} was spawned:\n{}", daemon.lines().join("\n"));
        thread::yield_now();
    }
}

/// P3: a signal that reached a worker between its fork and its exec was swallowed, and the superdaemon waited for the
/// worker's end for ever.
#[test]
fn p3_a_stop_right_after_a_spawn_always_ends() {
    for round in 0..100 {
        let interval = if round % 2 == 0 { "--interval=0" } else { "--interval=1" };
        let mut daemon = daemon().option(interval).program(["sleep", "600"]).start();
        catch_spawn(&daemon, 1);
        thread::sleep(Duration::from_micros(round % 20 * 100));
        daemon.term();
        assert!(daemon.exit_status().success(), "round {round}");
    }
}

/// P3: the same with workers that are told to go right after their spawn, by the next restart.
#[test]
fn p3_every_worker_that_is_replaced_right_after_its_spawn_goes() {
    let mut daemon = daemon().option("--interval=0").program(["sleep", "600"]).start();
    for count in 1..=200 {
        catch_spawn(&daemon, count);
        daemon.hup();
    }
    catch_spawn(&daemon, 201);
    daemon.wait_for("the end of all old workers", || (daemon.workers().len() == 1).then_some(()));
    assert!(daemon.stop().success());
}

/// P4: a signal that came just before the superdaemon went to sleep, as when the interval ends, was not acted upon
/// until something else woke it.
#[test]
fn p4_a_restart_asked_for_at_the_end_of_the_interval_is_done() {
    let mut daemon = daemon().option("--interval=0.02").program(["sleep", "600"]).start();
    for round in 0..120 {
        catch_spawn(&daemon, round + 1);
        // From 1 ms before to 2 ms after the end of the interval.
        let tenths = u64::try_from(round).unwrap() % 30;
        thread::sleep(Duration::from_millis(19) + Duration::from_micros(tenths * 100));
        daemon.hup();
    }
    catch_spawn(&daemon, 121);
    assert!(daemon.stop().success());
}

/// P4: the same with a stop.
#[test]
fn p4_a_stop_asked_for_at_the_end_of_the_interval_is_done() {
    for round in 0..40 {
        let mut daemon = daemon().option("--interval=0.02").program(["sleep", "600"]).start();
        catch_spawn(&daemon, 1);
        thread::sleep(Duration::from_millis(18) + Duration::from_micros(round * 100));
        daemon.term();
        assert!(daemon.exit_status().success(), "round {round}");
    }
}

/// P18: a signal name that does not exist was accepted, and ended the superdaemon when the signal was first needed,
/// leaving its workers behind.
#[test]
fn p18_an_unknown_signal_is_refused_before_anything_is_done() {
    for option in ["--signal-on-hup=NOSUCH", "--signal-on-term=NOSUCH", "--signal-on-hup=999"] {
        let mut daemon = daemon().with_files().options(["--path=socket", option]).server([""; 0]).start();
        assert_eq!(daemon.exit_status().code(), Some(2), "{option}");
        assert!(daemon.text("stderr").contains(option.split_once('=').unwrap().1), "{}", daemon.text("stderr"));
        let mut made: Vec<_> = fs::read_dir(daemon.dir()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        made.sort();
        assert_eq!(made, ["stderr", "stdout"], "{option}");
    }
}

/// P20: USR1, USR2 and most other signals killed the superdaemon, which left its workers and files behind; TTIN, TTOU
/// and TSTP stopped it.
#[test]
fn p20_no_signal_without_meaning_harms() {
    let port = Port::new();
    let mut daemon = daemon().with_files().options([&at(&port), "--interval=0.1"]).server([""; 0]).start();
    let worker = daemon.wait_ready(1).pid;
    for name in ["USR1", "USR2", "TTIN", "TTOU", "TSTP", "ALRM", "WINCH", "PIPE", "IO", "URG", "CHLD", "CONT"] {
        daemon.signal(name);
        check_that_it_goes_on(&daemon, name);
    }
    // STKFLT, XCPU, XFSZ, VTALRM, PROF, PWR and some of the realtime signals: all but those that mean a crash.
    for number in [16, 24, 25, 26, 27, 30, 34, 40, 64] {
        let status = Command::new("sh").args(["-c", &format!("kill -{number} {}", daemon.pid())]).status().unwrap();
        assert!(status.success(), "kill -{number}");
        check_that_it_goes_on(&daemon, &number.to_string());
    }
    assert_eq!(get(&Address::local(port.number()), "/").unwrap().pid, worker);
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [2]);
    assert!(daemon.stop().success());
}

fn check_that_it_goes_on(daemon: &Daemon, signal: &str) {
    // A signal is acted upon before the process sleeps again, or is stopped, or is no more.
    daemon.wait_for(&format!("the superdaemon to have met the signal {signal}"), || {
        let (state, _) = process(daemon.pid())?;
        (state != 'R').then_some(())
    });
    assert_eq!(process(daemon.pid()).map(|(state, _)| state), Some('S'), "after {signal}");
}

/// P20: QUIT, too, killed the superdaemon and left everything behind. It is the order to end at once.
#[test]
fn p20_quit_leaves_nothing_behind() {
    let port = Port::new();
    let mut daemon =
        daemon().with_files().options([&at(&port), "--path=socket", "--interval=0.1"]).server(["--drain=600"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.signal("QUIT");
    assert!(daemon.exit_status().success());
    daemon.wait_gone();
    for file in ["pid", "status", "socket"] {
        assert!(!daemon.path(file).exists(), "{file}");
    }
}
