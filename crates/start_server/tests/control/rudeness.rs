//! Slow, silent, rude and many clients: the superdaemon goes on as if they were not there.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::thread;
use std::time::{Duration, Instant};

use testkit::{Daemon, testserver};

use crate::client::{Client, GIVE_UP, RESTART, STATUS};
use crate::world::{descriptors, ours, shell, with_say};

/// A silent client is sent away after ten seconds. Nobody else may have to wait for that.
const PROMPT: Duration = Duration::from_secs(5);

fn started(options: &[&str]) -> Daemon {
    let daemon = ours().option("--interval=0.1").options(options.iter().copied()).server(["--drain=600"]).start();
    daemon.wait_ready(1);
    daemon.wait_status_file(|generations| generations == [1]);
    daemon
}

/// A normal client is served, and soon.
fn assert_serves(daemon: &Daemon) {
    let begun = Instant::now();
    let output = daemon.verb(["--status", "--pid-file=pid"]);
    assert!(output.status.success(), "{output:?}");
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
}

/// What is of no file: pages of the program itself come and go with what it does.
fn own_kilobytes(daemon: &Daemon) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn wait_descriptors(daemon: &Daemon, count: usize) {
    daemon.wait_for("closed connections", || (descriptors(daemon) == count).then_some(()));
}

#[test]
fn hundreds_who_say_nothing_useful() {
    let daemon = started(&[]);
    daemon.settle();
    let before = descriptors(&daemon);
    for what in ["", "{\"version\":1,", "\n", "\0\0\0\0", RESTART] {
        let mut clients: Vec<Client> = (0..200).map(|_| Client::connect(&daemon)).collect();
        clients.iter_mut().for_each(|client| client.send_all_that_fits(what.as_bytes()));
        assert_serves(&daemon);
        let more: Vec<Client> = (0..200).map(|_| Client::connect(&daemon)).collect();
        assert_serves(&daemon);
        // And it does what it is there for.
        if what != RESTART {
            let spawned = daemon.lines().iter().filter(|line| line.starts_with("starting new worker")).count();
            daemon.hup();
            daemon.wait_lines("killing old workers", spawned);
        }
        drop((clients, more));
        wait_descriptors(&daemon, before);
    }
}

/// More than are served at a time ask for something that takes long: those who cannot wait are told.
#[test]
fn too_many_who_wait_are_told() {
    let daemon = started(&["--kill-old-delay=600"]);
    daemon.settle();
    let before = descriptors(&daemon);
    let mut clients = Vec::new();
    let begun = Instant::now();
    let refusal = loop {
        let mut client = Client::connect(&daemon);
        client.send_all_that_fits(RESTART.as_bytes());
        let first = client.next().unwrap();
        if first["reply"] == "error" {
            break first;
        }
        clients.push(client);
    };
    assert!(clients.len() == 256 && begun.elapsed() < PROMPT, "{} in {:?}", clients.len(), begun.elapsed());
    assert_eq!(refusal["reason"], "256 others wait for an answer of this superdaemon; try again later");
    drop(clients);
    wait_descriptors(&daemon, before);
    assert_serves(&daemon);
}

/// With few descriptors, clients do not take those that a new worker needs.
#[test]
fn clients_leave_descriptors_for_workers() {
    let daemon = ours().after_script("ulimit -n 40").option("--interval=0.1").server([] as [&str; 0]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.settle();
    let before = descriptors(&daemon);
    let clients: Vec<Client> = (0..100).map(|_| Client::connect(&daemon)).collect();
    assert_serves(&daemon);
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [2]);
    let lines = daemon.lines();
    assert!(!lines.iter().any(|line| line.contains("could not be spawned")), "{lines:?}");
    drop(clients);
    wait_descriptors(&daemon, before);
}

#[test]
fn those_who_never_read_lose_progress_and_nothing_else() {
    const LINES: usize = 20_000;
    let daemon = with_say(ours())
        .options(["--ready=notify", "--ready-timeout=600"])
        .program(shell("[ $SERVER_STARTER_GENERATION != 1 ] || ./say READY=1; exec $SERVER --drain=600"))
        .start();
    let socket = UnixDatagram::unbound().unwrap();
    socket.connect(daemon.wait_dump(1).env("NOTIFY_SOCKET").unwrap()).unwrap();
    daemon.wait_line("is ready after");
    daemon.settle();
    let before = (descriptors(&daemon), own_kilobytes(&daemon));
    let mut clients: Vec<Client> = (0..20).map(|_| Client::connect(&daemon)).collect();
    clients.iter_mut().for_each(|client| client.send(RESTART));
    // Some have said all that they had to say.
    clients.iter_mut().step_by(2).for_each(Client::shut);
    daemon.wait_event(2, "start");
    // Each of these is a line of progress.
    for n in 0..LINES {
        socket.send(format!("ERRNO={}", n % 30 + 1).as_bytes()).unwrap();
    }
    assert_serves(&daemon);
    let grown = own_kilobytes(&daemon).saturating_sub(before.1);
    assert!(grown < 8 * 1024, "{grown} kB more");
    let naps_before = daemon.naps();
    thread::sleep(Duration::from_secs(1));
    let woken = daemon.naps() - naps_before;
    assert!(woken < 50, "woken {woken} times in a second, and nothing happens");
    // They get their answers all the same, on whole lines: there is no new generation, and they are told at the end.
    daemon.term();
    daemon.wait_event(1, "signal TERM");
    for client in clients {
        assert_eq!(client.answer()["reply"], "stopping");
    }
    // One more is the notify socket of the second generation.
    wait_descriptors(&daemon, before.0 + 1);
}

#[test]
fn those_who_leave_in_the_middle_of_everything() {
    let daemon = started(&[]);
    daemon.settle();
    let before = descriptors(&daemon);
    for _ in 0..10 {
        Client::connect(&daemon);
        let with = |bytes: &[u8]| {
            let mut client = Client::connect(&daemon);
            client.send(bytes);
            client
        };
        drop(with(b"{\"versi"));
        drop(with(b"\n"));
        drop(with(STATUS.as_bytes()));
        drop(with(RESTART.as_bytes()));
        drop(with([RESTART, GIVE_UP].concat().as_bytes()));
        drop(with([RESTART, RESTART].concat().as_bytes()));
        let mut client = with(RESTART.as_bytes());
        client.next();
        drop(client);
        let mut client = with(RESTART.as_bytes());
        client.shut();
        client.next();
        drop(client);
        let mut client = with(b"{\"version\":1");
        client.shut();
        client.read_to_end();
        let mut client = Client::connect(&daemon);
        client.shut();
        client.read_to_end();
    }
    assert_serves(&daemon);
    wait_descriptors(&daemon, before);
    daemon.settle();
}

#[test]
fn a_line_without_end() {
    let daemon = started(&[]);
    daemon.settle();
    let before = (descriptors(&daemon), own_kilobytes(&daemon));
    let mut clients: Vec<Client> = (0..50).map(|_| Client::connect(&daemon)).collect();
    for _ in 0..20 {
        clients.iter_mut().for_each(|client| client.send_all_that_fits(&[b'x'; 100_000]));
        assert_serves(&daemon);
    }
    let grown = own_kilobytes(&daemon).saturating_sub(before.1);
    assert!(grown < 8 * 1024, "{grown} kB more");
    wait_descriptors(&daemon, before.0);
}

/// A connection costs the superdaemon nothing while nothing comes over it, and ends when its time is up.
#[test]
fn the_silent_are_sent_away() {
    let daemon = started(&[]);
    daemon.settle();
    let before = descriptors(&daemon);
    let mut silent = Client::connect(&daemon);
    daemon.wait_for("the connection", || (descriptors(&daemon) == before + 1).then_some(()));
    daemon.settle();
    let naps_before = daemon.naps();
    assert_eq!(silent.next(), None);
    wait_descriptors(&daemon, before);
    assert!(daemon.naps() - naps_before < 10);
}

/// The restart of one client is not the concern of others, be they as rude as they like.
#[test]
fn a_restart_among_the_rude() {
    let daemon = ours().option("--interval=0.1").program([testserver()]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    let mut rude: Vec<Client> = (0..150).map(|_| Client::connect(&daemon)).collect();
    rude.iter_mut().for_each(|client| client.send_all_that_fits(b"{"));
    for number in 2..5 {
        let output = daemon.verb(["--restart", "--pid-file=pid"]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(daemon.status_file().unwrap()[0].0, number);
    }
}
