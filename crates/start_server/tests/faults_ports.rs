//! The faults of the ports of Server::Starter to Ruby and Go, each with a test that it is not one of ours. The names
//! begin with the fault's number in docs/compatibility.md: R for Ruby, L and S for the two in Go.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test reports what fails by panicking"
)]

use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use testkit::{Address, Builder, Daemon, Port, get, patience, testserver, wait_for};

const OURS: &str = env!("CARGO_BIN_EXE_start_server");

/// No options, no arguments.
const NONE: [&str; 0] = [];

// The port to Ruby.

/// A port and a path at the same time were refused, with the message that one of them was missing.
#[test]
fn r1_port_and_path_can_be_combined() {
    let port = Port::new();
    let mut daemon = serving([&format!("--port=127.0.0.1:{port}"), "--path=socket", "--interval=0"], NONE);
    assert_eq!(daemon.wait_dump(1).env("SERVER_STARTER_PORT"), Some(&*format!("127.0.0.1:{port}=3;socket=4")));
    get(&Address::local(port.number()), "/").unwrap();
    get(&Address::Unix(daemon.path("socket")), "/").unwrap();
    stop(&mut daemon);
}

/// Of several ports or paths, each in an option of its own, only the last counted.
#[test]
fn r2_every_repeated_port_and_path_counts() {
    let (one, two) = (Port::new(), Port::new());
    let ports = [&one, &two].map(|port| format!("--port=127.0.0.1:{port}"));
    let mut daemon = serving([&ports[0], &ports[1], "--path=a", "--path=b", "--interval=0"], NONE);
    let addresses = [&one, &two].map(|port| Address::local(port.number()));
    for address in addresses.into_iter().chain(["a", "b"].map(|path| Address::Unix(daemon.path(path)))) {
        get(&address, "/").unwrap();
    }
    stop(&mut daemon);
}

/// A HUP in the interval of a starting worker made it count as started even if it had died, and the old one, which
/// served, was told to go.
#[test]
fn r3_a_hup_does_not_make_a_dead_worker_count_as_started() {
    let mut daemon = serving(["--interval=1"], ["--fail-generations=2", "--fail-after=0.3"]);
    daemon.hup();
    daemon.wait_event(2, "start");
    daemon.hup();
    daemon.wait_line("seems to have failed to start");
    wait_alone(&daemon, 3);
    let events = daemon.events();
    let place = |generation, what| events.iter().position(|it| it.generation == generation && it.what == what);
    assert!(place(1, "signal TERM") > place(3, "ready"), "{events:?}");
    assert_eq!(count(&daemon, "new worker is now running"), 1);
    stop(&mut daemon);
}

/// A signal that came while the death of an old worker was being reaped ended the superdaemon: it signalled the dead.
#[test]
fn r4_a_signal_during_the_death_of_an_old_worker_is_survived() {
    let mut daemon = serving(["--interval=0"], ["--drain=0.05"]);
    let mut generation = 1;
    // Death and signal find the superdaemon at the very same moment.
    for _ in 0..5 {
        daemon.hup();
        daemon.wait_ready(generation + 1);
        daemon.wait_event(generation, "signal TERM");
        daemon.signal("STOP");
        daemon.wait_state('T');
        daemon.wait_event(generation, "exit 0");
        daemon.hup();
        daemon.signal("CONT");
        generation += 2;
        daemon.wait_ready(generation);
    }
    wait_alone(&daemon, generation);
    stop(&mut daemon);
}

/// The same fault from the other side: it was the superdaemon that signalled the dead. Here an old worker dies while
/// the new one starts, a little later in each round; the old ones are told to go when it has started.
#[test]
fn r4_nothing_is_sent_to_an_old_worker_that_is_dead() {
    let mut daemon = serving(["--interval=0", "--signal-on-term=KILL"], ["--ignore=TERM"]);
    for generation in 2..60 {
        let oldest = daemon.status_file().unwrap()[0];
        daemon.hup();
        if oldest.0 + 1 < generation {
            let moment = Instant::now() + Duration::from_micros(u64::from(25 * generation));
            spin_until(|| Instant::now() >= moment);
            daemon.signal_process(oldest.1, "KILL");
        }
        daemon.wait_ready(generation);
        daemon.wait_status_file(|generations| generations == [generation - 1, generation]);
    }
    stop(&mut daemon);
}

/// A signal that came just before the superdaemon went to sleep was heard at its next waking, which could be days later.
#[test]
fn r5_a_signal_that_comes_just_before_the_sleep_is_heard() {
    let mut daemon = serving(["--interval=0"], NONE);
    for generation in 2..62 {
        daemon.wait_ready(generation - 1);
        daemon.settle();
        // This one means nothing. It wakes the superdaemon, which then goes back to sleep while the next one comes, a
        // little later in each round.
        daemon.signal("ALRM");
        let moment = Instant::now() + Duration::from_micros(u64::from(10 * generation));
        spin_until(|| Instant::now() >= moment);
        daemon.hup();
        daemon.wait_status_file(|generations| generations == [generation]);
    }
    stop(&mut daemon);
}

/// Until the last worker was gone, a superdaemon that had been told to stop kept a processor busy.
#[test]
fn r6_waiting_for_the_last_worker_costs_no_time() {
    let mut daemon = serving(["--interval=0"], ["--ignore=TERM"]);
    daemon.term();
    let worker = daemon.wait_event(1, "signal TERM").pid;
    daemon.settle();
    let before = processor_time(daemon.pid());
    thread::sleep(Duration::from_secs(1));
    let spent = processor_time(daemon.pid()) - before;
    assert!(spent <= 2, "{spent} hundredths of a second in one second of waiting");
    daemon.signal_process(worker, "KILL");
    assert_eq!(daemon.exit_status().code(), Some(0));
}

/// The condition for the automatic restart was inverted: it never came.
#[test]
fn r7_the_automatic_restart_comes_by_itself() {
    let mut daemon =
        serving(["--interval=0", "--enable-auto-restart", "--auto-restart-interval=1", "--kill-old-delay=0"], NONE);
    daemon.wait_line("autorestart triggered (interval=1)");
    daemon.wait_event(1, "signal TERM");
    daemon.wait_event(2, "start");
    stop(&mut daemon);
}

/// `ENABLE_AUTO_RESTART` was erased from the environment unless the option was given, too.
#[test]
fn r8_automatic_restarts_can_be_switched_on_by_the_environment() {
    let mut daemon = ours()
        .option("--interval=0")
        .env("ENABLE_AUTO_RESTART", "1")
        .env("AUTO_RESTART_INTERVAL", "1")
        .env("KILL_OLD_DELAY", "0")
        .server(NONE)
        .start();
    daemon.wait_line("autorestart triggered (interval=1)");
    assert_eq!(daemon.wait_dump(2).env("ENABLE_AUTO_RESTART"), Some("1"));
    stop(&mut daemon);
}

/// An empty file, a directory, a link to nowhere, an unreadable file or a zero byte in the envdir ended the
/// superdaemon at the next event.
#[test]
fn r9_odd_envdir_entries_do_not_end_the_superdaemon() {
    let builder = ours().options(["--interval=0", "--envdir=env"]);
    let dir = builder.dir().join("env");
    fs::create_dir(&dir).unwrap();
    let mut daemon = builder.server(NONE).start();
    wait_alone(&daemon, 1);
    fs::write(dir.join("EMPTY"), "").unwrap();
    fs::write(dir.join("ZERO"), "a\0b\n").unwrap();
    fs::write(dir.join("NOT_TEXT"), b"\xff\xfe\n").unwrap();
    fs::write(dir.join("UNREADABLE"), "x\n").unwrap();
    fs::set_permissions(dir.join("UNREADABLE"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::create_dir(dir.join("DIRECTORY")).unwrap();
    symlink("nowhere", dir.join("DANGLING")).unwrap();
    symlink("CIRCLE", dir.join("CIRCLE")).unwrap();
    fs::write(dir.join("GOOD"), "good\n").unwrap();
    daemon.hup();
    wait_alone(&daemon, 2);
    let dump = daemon.wait_dump(2);
    assert_eq!(dump.env("GOOD"), Some("good"));
    assert_eq!(dump.env("ZERO"), Some("a"));
    for nothing in ["EMPTY", "DIRECTORY", "DANGLING", "CIRCLE"] {
        assert_eq!(dump.env(nothing), None, "{nothing}");
    }
    stop(&mut daemon);
}

/// The first generation did not get the variables of the envdir.
#[test]
fn r10_the_first_generation_gets_the_envdir() {
    let builder = ours().options(["--interval=0", "--envdir=env"]);
    fs::create_dir(builder.dir().join("env")).unwrap();
    fs::write(builder.dir().join("env/FOO"), "from the envdir\n").unwrap();
    let mut daemon = builder.server(NONE).start();
    assert_eq!(daemon.wait_dump(1).env("FOO"), Some("from the envdir"));
    stop(&mut daemon);
}

/// With `--path` the umask stayed 0, for workers and for the status file, which everybody could write to. Here files that
/// others read have the same permissions whatever the umask.
#[test]
fn r11_the_umask_stays_as_it_is() {
    let options = ["--interval=0", "--path=socket"];
    let mut daemon = ours().options(options).after_script("umask 027").server(NONE).start();
    wait_alone(&daemon, 1);
    assert_eq!(daemon.wait_dump(1).get("umask"), Some("0027"));
    let mode = |name: &str| fs::metadata(daemon.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode("status"), mode("pid"), mode("socket")], [0o644, 0o644, 0o777]);
    stop(&mut daemon);
}

/// Socket files were left behind at the end.
#[test]
fn r12_socket_files_are_removed_at_the_end() {
    let mut daemon = serving(["--interval=0", "--path=one", "--path=two"], NONE);
    assert!(daemon.path("one").exists() && daemon.path("two").exists());
    stop(&mut daemon);
    assert!(!daemon.path("one").exists() && !daemon.path("two").exists());
}

/// A second instance that could not bind deleted the PID file and the status file of the first.
#[test]
fn r13_a_second_instance_does_not_touch_the_files_of_the_first() {
    let port = Port::new();
    let port = format!("--port=127.0.0.1:{port}");
    let mut daemon = serving([&port, "--interval=0"], NONE);
    let before = [daemon.text("pid"), daemon.text("status")];
    for files in [&["--pid-file=pid", "--status-file=status"][..], &["--pid-file=other", "--status-file=status"]] {
        let second = daemon.verb(files.iter().chain([&&*port, &"--", &"sleep", &"600"]));
        assert!(!second.status.success());
        assert_eq!([daemon.text("pid"), daemon.text("status")], before);
    }
    assert!(!daemon.path("other").exists(), "left behind by the instance that did not start");
    stop(&mut daemon);
}

/// A child that could not execute the program, or not change to its directory, deleted the superdaemon's files.
#[test]
fn r13_a_failed_exec_does_not_touch_the_files() {
    let builder = ours().options(["--interval=0", "--path=socket", "--dir=work"]);
    let (program, work) = (builder.dir().join("program"), builder.dir().join("work"));
    fs::create_dir(&work).unwrap();
    symlink(testserver(), &program).unwrap();
    let words = [program.to_str().unwrap(), "--record=record", "--dump=dump.%g"];
    let mut daemon = builder.program(words).start();
    wait_alone(&daemon, 1);
    let before = [daemon.text("pid"), daemon.text("status")];
    let intact = |what: &str| {
        daemon.wait_line(what);
        assert_eq!([daemon.text("pid"), daemon.text("status")], before);
        assert_eq!(get(&Address::Unix(daemon.path("socket")), "/").unwrap().generation, 1);
    };
    fs::rename(&program, program.with_extension("away")).unwrap();
    daemon.hup();
    intact("failed to exec ");
    fs::rename(&work, work.with_extension("away")).unwrap();
    intact("failed to chdir:work:");
    fs::rename(program.with_extension("away"), &program).unwrap();
    fs::rename(work.with_extension("away"), &work).unwrap();
    daemon.wait_event(1, "signal TERM");
    stop(&mut daemon);
}

/// An IPv6 address in brackets, which is how one is written, was taken for a host name.
#[test]
fn r14_ipv6_addresses_are_understood_in_brackets() {
    let port = Port::new();
    let mut daemon = serving([&format!("--port=[::1]:{port}"), "--interval=0"], NONE);
    assert_eq!(daemon.wait_dump(1).env("SERVER_STARTER_PORT"), Some(&*format!("[::1]:{port}=3")));
    get(&Address::Tcp(SocketAddr::from((Ipv6Addr::LOCALHOST, port.number()))), "/").unwrap();
    stop(&mut daemon);
}

/// Puma is told by its helper that its socket is descriptor 3, as systemd's convention has it; it was 6.
#[test]
fn r18_listeners_begin_at_descriptor_3() {
    let (one, two) = (Port::new(), Port::new());
    let ports = [&one, &two].map(|port| format!("--port=127.0.0.1:{port}"));
    let builder = Daemon::new(OURS).options([&ports[0], &ports[1], "--interval=0", "--log-file=log"]);
    let mut daemon = builder.after_script("exec 3</dev/null 4</dev/null 7</dev/null").server(NONE).log("log").start();
    let dump = daemon.wait_dump(1);
    let descriptors = dump.descriptors();
    assert_eq!(descriptors.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    for (number, port) in [(3, &one), (4, &two)] {
        let start = format!("tcp 127.0.0.1:{port} listening");
        assert!(descriptors[&number].starts_with(&start), "{}", descriptors[&number]);
    }
    stop(&mut daemon);
}

// The first port to Go.

/// TERM while the worker kept failing ended the superdaemon by a panic.
#[test]
fn l1_term_while_the_program_keeps_failing_ends_it_well() {
    for (failing, moment, interval) in [
        // In the life of a worker that is about to fail.
        ("--fail-after=600", "starting new worker", "--interval=600"),
        // In the pause after it has failed.
        ("--fail-after=0", "exited with status 1", "--interval=600"),
        // At any time.
        ("--fail-after=0", "exited with status 1", "--interval=0"),
    ] {
        let builder = ours().option(interval);
        fs::write(builder.dir().join("broken"), "").unwrap();
        let mut daemon = builder.server(["--fail-if=broken", failing]).start();
        daemon.wait_event(1, "start");
        daemon.wait_line(moment);
        stop(&mut daemon);
        let lines = daemon.lines();
        let received = lines.iter().position(|line| line.starts_with("received TERM")).unwrap();
        assert!(!lines[received..].iter().any(|line| line.contains("starting")), "{lines:?}");
        assert_eq!(lines.last().unwrap(), "exiting");
    }
}

/// A program or a directory that was missing was tried 50,000 times a second, deaf to every signal.
#[test]
fn l2_a_missing_program_is_not_tried_without_a_pause() {
    let builder = ours().options(["--interval=0.7", "--dir=work"]);
    let (program, work) = (builder.dir().join("program"), builder.dir().join("work"));
    fs::create_dir(&work).unwrap();
    symlink(testserver(), &program).unwrap();
    let mut daemon = builder.program([program.to_str().unwrap(), "--record=record"]).start();
    wait_alone(&daemon, 1);
    fs::remove_file(&program).unwrap();
    daemon.hup();
    let waited_for_two_more = |message: &str| {
        daemon.wait_line(message);
        let (begun, before) = (Instant::now(), daemon.lines().len());
        daemon.wait_lines(message, 3);
        let (time, lines) = (begun.elapsed(), daemon.lines());
        assert!(time >= Duration::from_millis(1000), "two more attempts within {time:?}");
        assert!(lines.len() - before <= 20, "{lines:?}");
    };
    waited_for_two_more("failed to exec ");
    fs::remove_dir(&work).unwrap();
    waited_for_two_more("failed to chdir:");
    // It listens, too.
    daemon.hup();
    daemon.wait_lines("received HUP", 2);
    stop(&mut daemon);
}

/// A HUP was dropped while an old worker was alive: the deploy was not done, and nobody was told.
#[test]
fn l3_a_hup_counts_while_an_old_worker_is_alive() {
    let mut daemon = serving(["--interval=0", "--signal-on-term=KILL"], ["--ignore=TERM"]);
    for generation in 2..=4 {
        daemon.hup();
        daemon.wait_ready(generation);
        daemon.wait_event(generation - 1, "signal TERM");
    }
    daemon.wait_status_file(|generations| generations == [1, 2, 3, 4]);
    stop(&mut daemon);
}

/// A PID file that was left over prevented the start, and the start that failed deleted the status file of the
/// instance that ran.
#[test]
fn l4_a_left_over_pid_file_does_not_prevent_the_start() {
    let builder = ours().option("--interval=0");
    // The PID of a process that is alive, and has nothing to do with it.
    fs::write(builder.dir().join("pid"), format!("{}\n", std::process::id())).unwrap();
    let mut daemon = builder.server(NONE).start();
    wait_alone(&daemon, 1);
    assert_eq!(daemon.text("pid"), format!("{}\n", daemon.pid()));
    let status = daemon.text("status");
    let second = daemon.verb(["--pid-file=pid", "--status-file=status", "--", "sleep", "600"]);
    assert!(!second.status.success());
    assert_eq!(daemon.text("status"), status);
    stop(&mut daemon);
}

/// The status file was rewritten in place, a reader could see half of it; it showed a new generation only after the
/// kill-old delay, and did not change in the shutdown.
#[test]
fn l5_the_status_file_is_always_whole_and_up_to_date() {
    let builder = ours().options(["--interval=0", "--envdir=env"]);
    fs::create_dir(builder.dir().join("env")).unwrap();
    let mut daemon = builder.server(["--graceful-on=QUIT"]).start();
    wait_alone(&daemon, 1);
    let watch = Watch::on(daemon.path("status"));
    // Whoever has opened the file reads it to the end as it was.
    let mut opened = fs::File::open(daemon.path("status")).unwrap();
    let text = daemon.text("status");
    for generation in 2..=10 {
        daemon.hup();
        daemon.wait_ready(generation);
        daemon.wait_event(generation - 1, "signal TERM");
        daemon.signal_process(daemon.wait_event(generation - 1, "start").pid, "QUIT");
        daemon.wait_status_file(|generations| generations == [generation]);
    }
    let mut read = String::new();
    opened.read_to_string(&mut read).unwrap();
    assert_eq!(read, text);
    fs::write(daemon.path("env/KILL_OLD_DELAY"), "600\n").unwrap();
    daemon.hup();
    // In the delay.
    let workers = daemon.wait_status_file(|generations| generations == [10, 11]);
    // In the shutdown: a line less for each death.
    daemon.wait_ready(11);
    daemon.term();
    for (generation, pid) in workers {
        daemon.wait_event(generation, "signal TERM");
        daemon.signal_process(pid, "QUIT");
        let gone = |generations: Option<Vec<(u32, u32)>>| {
            generations.is_none_or(|all| all.iter().all(|(other, _)| *other != generation))
        };
        daemon.wait_for("a line less in the status file", || gone(daemon.status_file()).then_some(()));
    }
    assert_eq!(daemon.exit_status().code(), Some(0));
    for seen in watch.stop() {
        assert!(is_whole(&seen), "somebody could read {seen:?}");
    }
}

/// Four options were accepted and did nothing.
#[test]
fn l6_accepted_options_have_an_effect() {
    let options = ["--interval=0", "--kill-old-delay=1", "--enable-auto-restart", "--auto-restart-interval=1"];
    let begun = Instant::now();
    let mut daemon = serving(options, NONE);
    daemon.wait_line("autorestart triggered (interval=1)");
    daemon.wait_line("sleeping 1 secs before killing old workers");
    daemon.wait_event(1, "signal TERM");
    // A second until the restart, and the delay.
    assert!(begun.elapsed() >= Duration::from_secs(2), "the old worker was told after {:?}", begun.elapsed());
    daemon.wait_ready(2);
    let restart = daemon.verb(["--restart", "--pid-file=pid", "--status-file=status"]);
    assert!(restart.status.success(), "{}", String::from_utf8_lossy(&restart.stderr));
    assert!(daemon.status_file().unwrap().iter().all(|(generation, _)| *generation > 2));
    stop(&mut daemon);
}

/// The envdir was read only once, and its hidden files, too.
#[test]
fn l7_the_envdir_is_read_at_each_restart_without_hidden_files() {
    let builder = ours().options(["--interval=0", "--envdir=env"]);
    let dir = builder.dir().join("env");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("FOO"), "one\n").unwrap();
    fs::write(dir.join(".HIDDEN"), "x\n").unwrap();
    let mut daemon = builder.server(NONE).start();
    wait_alone(&daemon, 1);
    fs::write(dir.join("FOO"), "two\n").unwrap();
    daemon.hup();
    wait_alone(&daemon, 2);
    fs::remove_file(dir.join("FOO")).unwrap();
    daemon.hup();
    wait_alone(&daemon, 3);
    let values = [1, 2, 3].map(|generation| daemon.wait_dump(generation).env("FOO").map(str::to_owned));
    assert_eq!(values, [Some("one".to_owned()), Some("two".to_owned()), None]);
    assert_eq!(daemon.wait_dump(1).env(".HIDDEN"), None);
    stop(&mut daemon);
}

/// IPv6, UDP, descriptor numbers, `--backlog`, `--log-file`, `--daemonize` and `--stop` were missing.
#[test]
fn l8_what_was_missing_is_there() {
    let (v6, udp, fixed) = (Port::new(), Port::new(), Port::new());
    let ports =
        [format!("--port=[::1]:{v6}"), format!("--port=127.0.0.1:u{udp}"), format!("--port=127.0.0.1:{fixed}=9")];
    let rest = ["--backlog=17", "--log-file=log", "--daemonize", "--interval=0"].map(str::to_owned);
    let mut daemon = ours().options(ports).options(rest).server(NONE).log("log").start();
    assert_eq!(daemon.exit_status().code(), Some(0), "the launcher");
    daemon.adopt(daemon.wait_file("pid").trim().parse().unwrap());
    daemon.wait_ready(1);
    daemon.wait_line("starting new worker");
    let dump = daemon.wait_dump(1);
    let descriptors = dump.descriptors();
    assert_eq!(descriptors[&3], format!("tcp [::1]:{v6} listening reuseaddr v6only backlog=17"));
    assert!(descriptors[&4].starts_with(&format!("udp 127.0.0.1:{udp}")), "{}", descriptors[&4]);
    assert_eq!(descriptors[&9], format!("tcp 127.0.0.1:{fixed} listening reuseaddr backlog=17"));
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    client.set_read_timeout(Some(patience())).unwrap();
    client.send_to(b"hello", (Ipv4Addr::LOCALHOST, udp.number())).unwrap();
    let mut echo = [0; 10];
    assert_eq!(client.recv(&mut echo).unwrap(), 5);
    let stop = daemon.verb(["--stop", "--pid-file=pid"]);
    assert!(stop.status.success(), "{}", String::from_utf8_lossy(&stop.stderr));
    assert!(!daemon.is_running());
    daemon.wait_gone();
}

// The second port to Go.

/// Both options for signals stood for signal 0, whatever their value: no old worker was ever told anything.
#[test]
fn s1_the_chosen_signals_are_sent() {
    let mut daemon =
        serving(["--interval=0", "--signal-on-hup=USR1", "--signal-on-term=QUIT"], ["--graceful-on=USR1,QUIT"]);
    daemon.hup();
    daemon.wait_event(1, "signal USR1");
    daemon.wait_event(1, "exit 0");
    wait_alone(&daemon, 2);
    stop(&mut daemon);
    daemon.wait_event(2, "signal QUIT");
    assert!(!daemon.events().iter().any(|event| event.what == "signal TERM"));
}

/// The end had a limit of 30 seconds, after which requests that were being answered were cut off.
#[test]
fn s2_the_end_waits_as_long_as_it_takes() {
    let mut daemon = serving(["--interval=0"], ["--ignore=TERM"]);
    daemon.term();
    let worker = daemon.wait_event(1, "signal TERM").pid;
    // Longer than a test can wait: it sleeps, and no time is set at which it would wake up.
    daemon.wait_for("a sleep without limit", || sleeps_without_limit(daemon.pid()).then_some(()));
    assert_eq!(daemon.workers(), [worker]);
    daemon.signal_process(worker, "QUIT");
    assert_eq!(daemon.exit_status().code(), Some(0));
    daemon.wait_event(1, "exit 0");
}

/// A listener was named after the address that it was resolved to, so that no server found it under its name.
#[test]
fn s3_listeners_are_named_as_they_were_typed() {
    let (one, two, three) = (Port::new(), Port::new(), Port::new());
    let ports = [format!("localhost:{one}"), format!("127.0.0.1:0{two}"), format!("[127.0.0.1]:{three}")];
    let options = ports.map(|port| format!("--port={port}"));
    let mut daemon = serving([&options[0], &options[1], &options[2], "--interval=0"], NONE);
    assert_eq!(
        daemon.wait_dump(1).env("SERVER_STARTER_PORT"),
        Some(&*format!("localhost:{one}=3;127.0.0.1:0{two}=4;127.0.0.1:{three}=5"))
    );
    stop(&mut daemon);
}

/// A listener for IPv6 took the connections of IPv4 as well, and one for IPv4 was one for IPv6.
#[test]
fn s4_ipv4_and_ipv6_are_kept_apart() {
    let port = Port::new();
    let options = [format!("--port=[::1]:{port}"), format!("--port=127.0.0.1:{port}")];
    let mut daemon = serving([&options[0], &options[1], "--interval=0"], NONE);
    let dump = daemon.wait_dump(1);
    let descriptors = dump.descriptors();
    assert!(descriptors[&3].starts_with(&format!("tcp [::1]:{port} ")), "{}", descriptors[&3]);
    assert!(descriptors[&3].contains(" v6only"), "{}", descriptors[&3]);
    assert!(descriptors[&4].starts_with(&format!("tcp 127.0.0.1:{port} ")), "{}", descriptors[&4]);
    stop(&mut daemon);
}

/// The temporary status file had the same name in every instance of a user, so that two of them spoilt each other's;
/// and the status file stayed, empty, after the end.
#[test]
fn s5_two_instances_with_one_status_file_do_not_spoil_it() {
    let builder = ours();
    let shared = builder.dir().join("shared");
    fs::create_dir(&shared).unwrap();
    let status = shared.join("status");
    let option = format!("--status-file={}", status.display());
    let both = [builder, ours()];
    let mut both = both.map(|builder| builder.options(["--interval=0", &option]).server(NONE).start());
    both.iter().for_each(|daemon| drop(daemon.wait_ready(1)));
    wait_for(|| "the status file".to_owned(), || status.exists().then_some(()));
    let watch = Watch::on(status);
    for generation in 2..=20 {
        both.iter().for_each(Daemon::hup);
        both.iter().for_each(|daemon| drop(daemon.wait_ready(generation)));
    }
    both.iter().for_each(Daemon::term);
    for daemon in &mut both {
        assert_eq!(daemon.exit_status().code(), Some(0));
        let lines = daemon.lines();
        assert!(!lines.iter().any(|line| line.starts_with("failed")), "{lines:?}");
    }
    for seen in watch.stop() {
        assert!(is_whole(&seen), "somebody could read {seen:?}");
    }
    let left: Vec<_> = fs::read_dir(&shared).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.is_empty(), "left behind: {left:?}");
}

/// A generation stood in the status file before it had proved itself.
#[test]
fn s6_the_status_file_lists_no_generation_that_has_not_proved_itself() {
    let builder = ours().options(["--interval=2"]);
    let watch = Watch::on(builder.dir().join("status"));
    let mut daemon = builder.server(["--fail-generations=1,3", "--fail-after=0.2"]).start();
    wait_alone(&daemon, 2);
    daemon.hup();
    wait_alone(&daemon, 4);
    let seen = watch.stop();
    stop(&mut daemon);
    for text in &seen {
        for failed in ["1:", "3:"] {
            assert!(!text.lines().any(|line| line.starts_with(failed)), "{seen:?}");
        }
    }
}

/// After a superdaemon had been killed, its PID file prevented the next start.
#[test]
fn s7_the_pid_file_of_a_killed_superdaemon_does_not_prevent_the_start() {
    let mut killed = serving(["--interval=0"], NONE);
    killed.signal("KILL");
    killed.exit_status();
    let left_over = killed.path("pid");
    assert_eq!(killed.text("pid"), format!("{}\n", killed.pid()));
    let option = format!("--pid-file={}", left_over.display());
    let mut daemon = ours().options(["--interval=0", &option]).server(NONE).start();
    wait_alone(&daemon, 1);
    assert_eq!(killed.text("pid"), format!("{}\n", daemon.pid()));
    stop(&mut daemon);
    assert!(!left_over.exists());
}

/// TERM in the kill-old delay reached the new worker only after the delay.
#[test]
fn s10_term_in_the_kill_old_delay_reaches_everybody_at_once() {
    let mut daemon = serving(["--interval=0", "--kill-old-delay=600"], NONE);
    daemon.hup();
    daemon.wait_line("sleeping 600 secs");
    daemon.wait_ready(2);
    stop(&mut daemon);
    for generation in [1, 2] {
        daemon.wait_event(generation, "signal TERM");
    }
}

// What the tests share.

fn ours() -> Builder {
    Daemon::new(OURS).with_files()
}

/// A superdaemon whose first worker counts as started and serves.
fn serving<const N: usize, const M: usize>(options: [&str; N], arguments: [&str; M]) -> Daemon {
    let daemon = ours().options(options).server(arguments).start();
    wait_alone(&daemon, 1);
    daemon
}

/// Waits until `generation` serves and no other is left.
fn wait_alone(daemon: &Daemon, generation: u32) {
    daemon.wait_status_file(|generations| generations == [generation]);
    daemon.wait_ready(generation);
}

/// Sends TERM, and expects a good end of everything.
fn stop(daemon: &mut Daemon) {
    assert_eq!(daemon.stop().code(), Some(0), "{:?}", daemon.lines());
    daemon.wait_gone();
    assert_eq!(count(daemon, "failed to send a signal"), 0, "{:?}", daemon.lines());
    assert!(!daemon.path("pid").exists() && !daemon.path("status").exists(), "files are left behind");
}

/// How many lines of the log contain `text`.
fn count(daemon: &Daemon, text: &str) -> usize {
    daemon.lines().iter().filter(|line| line.contains(text)).count()
}

/// Waits for a moment that must not be missed by a single millisecond.
fn spin_until(mut is_there: impl FnMut() -> bool) {
    let limit = Instant::now() + patience();
    while !is_there() {
        assert!(Instant::now() < limit, "waited in vain");
    }
}

/// The time that a process has spent on a processor, in ticks of a hundredth of a second: proc_pid_stat(5).
fn processor_time(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // utime and stime are the fields 14 and 15; the first one here is the third.
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Whether a process waits in ppoll(2), the third argument of which is the time limit, without any.
fn sleeps_without_limit(pid: u32) -> bool {
    // proc_pid_syscall(5): the number of the call, its arguments, two more registers.
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
    let fields: Vec<&str> = call.split_whitespace().collect();
    fields.get(3) == Some(&"0x0")
}

/// Whether a text is a status file from the first to the last byte.
fn is_whole(status: &str) -> bool {
    let is_entry = |line: &str| {
        line.split_once(':').is_some_and(|(generation, pid)| {
            generation.parse::<u32>().is_ok_and(|number| number > 0) && pid.parse::<u32>().is_ok_and(|pid| pid > 1)
        })
    };
    // At the very end, when nobody is left to be listed, there is nothing in it.
    status.is_empty() || status.ends_with('\n') && status.lines().all(is_entry)
}

/// Somebody who reads a file all the time.
struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<String>>,
}

impl Watch {
    fn on(file: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        Self { stop, thread: thread::spawn(move || Self::read(&file, &told)) }
    }

    fn read(file: &Path, told: &AtomicBool) -> Vec<String> {
        let mut seen: Vec<String> = Vec::new();
        while !told.load(Ordering::Relaxed) {
            if let Ok(text) = fs::read_to_string(file)
                && seen.last() != Some(&text)
            {
                seen.push(text);
            }
            thread::sleep(Duration::from_micros(100));
        }
        seen
    }

    /// Everything different that was there to be read.
    fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}
