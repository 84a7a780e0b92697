//! The figures that are promised: what a superdaemon costs while nothing happens and after many restarts, what a worker
//! is given whatever the superdaemon was given, and how the log is written.
//!
//! This is about a build for tests, which is several times as large as a release; `costs` measures that.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test reports what fails by panicking, and what it leaves out on standard error"
)]

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use testkit::{Address, Builder, Daemon, Port, get, is_installed, patience, wait_for};

/// No arguments.
const NONE: [&str; 0] = [];

/// How long a superdaemon is watched that is to do nothing.
const IDLE: Duration = Duration::from_secs(10);

/// Options that arm everything that could wake an idle superdaemon.
const ARMED: [&str; 6] = [
    "--enable-auto-restart",
    "--auto-restart-interval=3600",
    "--envdir=env",
    "--log-file=log",
    "--drain-timeout=3600",
    "--stop-timeout=3600",
];

/// Nothing happens, so nothing is done: one superdaemon is watched by the kernel's count of how often it has gone to
/// sleep, another by strace, which shows every system call.
#[test]
fn an_idle_superdaemon_never_wakes_up() {
    let (mut counted, mut traced) = (idle(), idle());
    let strace = is_installed("strace").then(|| attach_strace(&traced));
    let shown = traced.text("trace");
    let before = wake_ups(counted.pid());
    thread::sleep(IDLE);
    assert_eq!(wake_ups(counted.pid()) - before, 0, "wake-ups in {IDLE:?}");
    assert_eq!(traced.text("trace"), shown, "system calls in {IDLE:?}");
    if let Some(mut strace) = strace {
        strace.kill().unwrap();
        strace.wait().unwrap();
    }
    for daemon in [&mut counted, &mut traced] {
        // It is not dead either.
        daemon.hup();
        daemon.wait_ready(2);
        stop(daemon);
    }
}

/// Has strace write what a superdaemon does into the file `trace`.
fn attach_strace(daemon: &Daemon) -> Child {
    let mut command = Command::new("strace");
    command.args(["-f", "-p", &daemon.pid().to_string(), "-o"]).arg(daemon.path("trace")).stderr(Stdio::null());
    let strace = command.spawn().unwrap();
    // The attaching itself interrupts the call in which it sleeps, which is then begun again and shown.
    let trace =
        daemon.wait_for("strace to be attached", || Some(daemon.text("trace")).filter(|trace| trace.contains("poll")));
    assert_eq!(trace.lines().count(), 1, "{trace}");
    strace
}

/// A superdaemon that has started a worker and has nothing to do now.
fn idle() -> Daemon {
    let port = Port::new();
    let builder = ours().option(format!("--port=127.0.0.1:{port}")).option("--interval=0.1").options(ARMED).log("log");
    fs::create_dir(builder.dir().join("env")).unwrap();
    let daemon = builder.server(NONE).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    get(&Address::local(port.number()), "/").unwrap();
    // Whether the first client of a generation is accepted is looked at for a moment.
    daemon.rest();
    daemon
}

/// What 1,000 restarts leave behind in the superdaemon: nothing.
#[test]
fn a_thousand_restarts_leave_nothing_behind() {
    const RESTARTS: u32 = 1000;
    let builder = ours().options(["--interval=0", "--path=socket"]).options(ARMED).log("log");
    fs::create_dir(builder.dir().join("env")).unwrap();
    // The smallest program there is; the default action of TERM ends it.
    let options = ["--kill-old-delay=0"];
    let mut daemon = builder.options(options).program(["sleep", "600"]).start();
    flat(&daemon, RESTARTS);
    assert_eq!(daemon.stop().code(), Some(0));
    daemon.wait_gone();
}

/// The same where each generation has a check, and a socket on which it could speak.
#[test]
fn restarts_with_a_readiness_rule_leave_nothing_behind() {
    const RESTARTS: u32 = 60;
    for rule in ["--ready=accept", "--ready=exec:true"] {
        let mut daemon = ours().options(["--path=socket", rule]).server(NONE).start();
        flat(&daemon, RESTARTS);
        stop(&mut daemon);
    }
    if is_installed("/usr/bin/python3") {
        let tell = "import os,socket,signal;signal.signal(15,lambda *a:os._exit(0));\
                    s=socket.socket(1,2);s.sendto(b'READY=1\\0'[:7],os.environ['NOTIFY_SOCKET']);signal.pause()";
        let program = ["/usr/bin/python3", "-S", "-E", "-c", tell];
        let mut daemon = ours().option("--ready=notify").program(program).start();
        flat(&daemon, RESTARTS);
        assert_eq!(daemon.stop().code(), Some(0));
    }
}

/// Restarts the program so many times, and compares what the superdaemon holds before and after.
fn flat(daemon: &Daemon, restarts: u32) {
    // The allocator's own growth is over when a tenth of the way is done.
    let warm = restarts / 10;
    let mut before = None;
    for generation in 1..=restarts {
        let begun = Instant::now();
        while daemon.status_file().is_none_or(|entries| entries.iter().all(|entry| entry.0 != generation)) {
            assert!(begun.elapsed() < patience(), "no generation {generation}\n{:?}", daemon.lines());
            thread::sleep(Duration::from_millis(1));
        }
        if generation == warm {
            before = Some(holdings(daemon, generation));
        }
        if generation < restarts {
            daemon.hup();
        }
    }
    let (before, after) = (before.unwrap(), holdings(daemon, restarts));
    assert_eq!(after.descriptors, before.descriptors);
    assert_eq!(after.zombies, 0);
    // A page here or there is the kernel's business; a leak of 300 bytes a restart is not.
    const SLACK: u64 = 256;
    assert!(after.anonymous <= before.anonymous + SLACK, "kB: {before:?}, {after:?}");
    assert!(after.resident <= before.resident + SLACK, "kB: {before:?}, {after:?}");
}

/// What a superdaemon holds. Memory in kB.
#[derive(Debug)]
struct Holdings {
    /// What each is open on, without the number that tells one socket from another.
    descriptors: Vec<String>,
    zombies: usize,
    resident: u64,
    anonymous: u64,
}

/// What it holds when nothing but `generation` is left.
fn holdings(daemon: &Daemon, generation: u32) -> Holdings {
    daemon.wait_status_file(|generations| generations == [generation]);
    daemon.settle();
    let process = PathBuf::from(format!("/proc/{}", daemon.pid()));
    let status = fs::read_to_string(process.join("status")).unwrap();
    let mut descriptors: Vec<String> = fs::read_dir(process.join("fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.unwrap().path()).ok())
        .map(|target| {
            target.to_string_lossy().trim_end_matches(|last: char| last.is_ascii_digit() || last == ']').into()
        })
        .collect();
    descriptors.sort_unstable();
    Holdings {
        descriptors,
        zombies: zombies_of(daemon.pid()),
        resident: status_field(&status, "VmRSS"),
        anonymous: status_field(&status, "RssAnon"),
    }
}

/// The size of a superdaemon that serves. Of its own is what is not a page of a file: those of the program are shared as
/// soon as a second superdaemon runs.
#[test]
fn a_superdaemon_is_small() {
    // In kB. A build for tests has no optimisation and all its symbols.
    let (resident_limit, own_limit) = (12 * 1024, 1024);
    let mut daemon = ours().options(["--interval=0", "--path=socket"]).server(NONE).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    daemon.settle();
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let (resident, threads) = (status_field(&status, "VmRSS"), status_field(&status, "Threads"));
    let own = status_field(&status, "RssAnon");
    eprintln!("resident {resident} kB, of its own {own} kB");
    assert!(resident <= resident_limit, "resident: {resident} kB of {resident_limit}");
    assert!(own <= own_limit, "of its own: {own} kB of {own_limit}");
    assert_eq!(threads, 1);
    stop(&mut daemon);
}

/// What a caller may leave behind, as a shell script: signals blocked and ignored, descriptors open.
const MESS: &str = r#"set -- perl -MPOSIX -e '
        sigprocmask(SIG_BLOCK, POSIX::SigSet->new(SIGTERM, SIGHUP, SIGINT, SIGCHLD, SIGUSR1, SIGUSR2)) or die; exec @ARGV or die' \
    sh -c 'trap "" HUP INT QUIT CHLD USR1 TERM; exec 3</dev/null 4</dev/null 7</dev/null 8>/dev/null 9</; exec "$@"' sh "$@""#;

/// The same without standard input, output and error output.
const CLOSED: &str = r#"exec <&- >&- 2>&-"#;

/// Whatever the superdaemon's caller has left behind, a worker finds what it was promised.
#[test]
fn a_worker_gets_exactly_what_is_promised() {
    let neat = ["--interval=0"];
    for (script, options) in [
        (":".to_owned(), &neat[..]),
        (MESS.to_owned(), &neat),
        (format!("{MESS}; {CLOSED}"), &neat),
        (format!("{CLOSED}; exec 5</dev/null"), &["--interval=0", "--log-file=log"]),
    ] {
        let (one, two) = (Port::new(), Port::new());
        let ports = [&one, &two].map(|port| format!("--port=127.0.0.1:{port}"));
        let builder = ours().options(ports).option("--path=socket").options(options.iter().copied());
        let mut daemon = builder.after_script(&script).server(NONE).start();
        daemon.wait_status_file(|generations| generations == [1]);
        daemon.wait_ready(1);
        daemon.hup();
        daemon.wait_status_file(|generations| generations == [2]);
        daemon.wait_ready(2);
        for generation in [1, 2] {
            let dump = daemon.wait_dump(generation);
            let masks = ["SigBlk", "SigIgn", "SigCgt"].map(|name| mask(dump.get(name).unwrap()));
            assert_eq!(masks, [0, 1 << (13 - 1), 0], "SIGPIPE is ignored and nothing else is special: {script}");
            let descriptors = dump.descriptors();
            assert_eq!(descriptors.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5], "{script}");
            assert_eq!(descriptors[&3], format!("tcp 127.0.0.1:{one} listening reuseaddr backlog=4096"), "{script}");
            assert_eq!(descriptors[&4], format!("tcp 127.0.0.1:{two} listening reuseaddr backlog=4096"), "{script}");
            assert_eq!(descriptors[&5], "unix socket listening", "{script}");
            assert_eq!(dump.get("own group"), Some("true"), "{script}");
            assert_eq!(dump.get("parent"), Some(&*daemon.pid().to_string()), "{script}");
        }
        // The superdaemon itself hears its signals all the same.
        stop(&mut daemon);
    }
}

/// A worker is not in the superdaemon's process group: the Ctrl-C of a terminal, which goes to the whole group, reaches
/// the superdaemon alone, and workers end in order.
#[test]
fn what_is_sent_to_the_process_group_does_not_reach_workers() {
    let mut daemon = ours().option("--interval=0").server(NONE).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    let group = format!("-{}", daemon.pid());
    assert!(Command::new("kill").args(["-s", "INT", "--", &group]).status().unwrap().success());
    assert_eq!(daemon.exit_status().code(), Some(0));
    daemon.wait_event(1, "signal TERM");
    daemon.wait_event(1, "exit 0");
    assert!(!daemon.events().iter().any(|event| event.what == "signal INT"));
}

/// A line of the log is one write, so that it cannot be torn by the lines of others.
#[test]
fn every_line_of_the_log_is_one_write() {
    if !is_installed("strace") {
        return;
    }
    for target in ["log", "| cat >>log"] {
        // With -D the superdaemon, not strace, is the process that was started.
        let strace = "set -- strace -D -s 10000 -o trace -e trace=write,writev,pwrite64,sendto,sendmsg \"$@\"";
        let log = format!("--log-file={target}");
        let builder = ours().options(["--interval=0.1", &log]).after_script(strace).log("log");
        let mut daemon = builder.server(["--fail-generations=2"]).start();
        daemon.wait_status_file(|generations| generations == [1]);
        daemon.wait_ready(1);
        daemon.hup();
        daemon.wait_status_file(|generations| generations == [3]);
        daemon.wait_ready(3);
        stop(&mut daemon);
        daemon.wait_line("exiting");
        // strace, which has no part in the end of the superdaemon, says when it has written everything.
        let trace = wait_for(
            || "the end of the trace".to_owned(),
            || Some(daemon.text("trace")).filter(|trace| trace.contains("+++ exited")),
        );
        let lines = daemon.lines();
        assert!(lines.len() >= 10, "{lines:?}");
        for line in &lines {
            let written = format!("\"{}\\n\"", line.replace('\\', "\\\\").replace('"', "\\\""));
            let writes = trace.lines().filter(|call| call.contains(&written)).count();
            let times = lines.iter().filter(|other| *other == line).count();
            assert_eq!(writes, times, "writes of {line}\n{trace}");
        }
    }
}

// What the tests share.

fn ours() -> Builder {
    Daemon::new(env!("CARGO_BIN_EXE_start_server")).with_files()
}

fn stop(daemon: &mut Daemon) {
    assert_eq!(daemon.stop().code(), Some(0), "{:?}", daemon.lines());
    daemon.wait_gone();
}

/// How often a process has gone to sleep or was made to wait: proc_pid_status(5).
fn wake_ups(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    status_field(&status, "voluntary_ctxt_switches") + status_field(&status, "nonvoluntary_ctxt_switches")
}

/// The number of a line `NAME: NUMBER …`.
fn status_field(status: &str, name: &str) -> u64 {
    let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.split_whitespace().next()?.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

/// A mask of signals: bit N-1 is signal N.
fn mask(hexadecimal: &str) -> u64 {
    u64::from_str_radix(hexadecimal, 16).unwrap()
}

/// How many children of `parent` have ended and were not reaped.
fn zombies_of(parent: u32) -> usize {
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // proc_pid_stat(5), after the name in parentheses: state, parent.
        let mut fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
        fields.next() == Some("Z") && fields.next() == Some(&*parent.to_string())
    })
    .count()
}
