//! Clients that ask for something and go away: what they have asked for goes on, and nothing of them stays.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use testkit::Daemon;

use crate::world::{descriptors, ours, shell, status, with_say};

const RESTART: &[u8] = b"{\"version\":1,\"request\":\"restart\"}\n";

fn own_kilobytes(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn ask_and_go(daemon: &Daemon, text: &[u8]) {
    let mut stream = UnixStream::connect(daemon.control_socket()).unwrap();
    let _ = stream.write_all(text);
}

#[test]
fn nothing_stays_of_clients_that_ask_and_go() {
    const CLIENTS: usize = 5000;
    let daemon = with_say(ours())
        .options(["--ready=notify", "--ready-timeout=600", "--interval=0.1"])
        .program(shell("[ $SERVER_STARTER_GENERATION = 2 ] || ./say READY=1; exec $SERVER"))
        .start();
    daemon.wait_status_file(|generations| generations == [1]);
    // It is on its way, and others have to wait until it has failed or is ready.
    daemon.hup();
    daemon.wait_event(2, "start");
    let ask_often = |times: usize| {
        for n in 0..times {
            // Some say more than they are to; it makes no difference.
            let rest: &[u8] = if n % 3 == 0 { b"nonsense\n" } else { b"" };
            ask_and_go(&daemon, &[RESTART, rest].concat());
            if n % 50 == 0 {
                status(&daemon);
            }
        }
        status(&daemon);
    };
    ask_often(CLIENTS / 10);
    let before = (own_kilobytes(&daemon), descriptors(&daemon));
    ask_often(CLIENTS);
    daemon.wait_for("closed connections", || (descriptors(&daemon) <= before.1).then_some(()));
    let grown = own_kilobytes(&daemon).saturating_sub(before.0);
    assert!(grown < 200, "{grown} kB more");
    let begun = Instant::now();
    status(&daemon);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    // What they have asked for was not forgotten.
    daemon.signal_process(daemon.wait_event(2, "start").pid, "KILL");
    daemon.wait_status_file(|generations| generations == [3]);
}

#[test]
fn a_restart_goes_on_when_whoever_asked_for_it_has_gone() {
    let daemon = ours().option("--interval=0.5").server([] as [&str; 0]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    ask_and_go(&daemon, RESTART);
    daemon.wait_status_file(|generations| generations == [2]);
}
