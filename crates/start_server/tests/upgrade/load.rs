//! Upgrades while clients ask: every request is counted.

use testkit::{Address, Client, Daemon, Port, Tally};

use crate::programs::{descriptors, memory, upgraded, zombies};
use crate::world::{ours, status};

const UPGRADES: u64 = 100;

/// Three clients: two by TCP, one at a unix socket.
fn clients(daemon: &Daemon, port: &Port) -> Vec<Client> {
    let tcp = Address::local(port.number());
    let clients =
        vec![Client::start(tcp.clone()), Client::start(tcp), Client::start(Address::Unix(daemon.path("socket")))];
    clients.iter().for_each(|client| client.wait_answers(1));
    clients
}

fn count(clients: Vec<Client>) -> Tally {
    clients.iter().for_each(|client| client.wait_answers(1));
    let mut sum = Tally::default();
    for tally in clients.into_iter().map(Client::stop) {
        assert_eq!(tally.lost(), 0, "{tally:?}");
        sum.ok += tally.ok;
    }
    sum
}

#[test]
fn a_hundred_upgrades_lose_nothing_and_leave_nothing_behind() {
    let port = Port::new();
    let mut daemon = ours()
        .options([&format!("--port=127.0.0.1:{port}"), "--path=socket", "--interval=0.1", "--log-file=log"])
        .log("log")
        .server(["--ready-after=0"])
        .start();
    daemon.wait_status_file(|generations| generations == [1]);
    let worker = daemon.wait_ready(1).pid;
    let clients = clients(&daemon, &port);
    let mut before = None;
    for number in 1..=UPGRADES {
        upgraded(&daemon);
        if number == UPGRADES / 10 {
            daemon.settle();
            before = Some((descriptors(&daemon), memory(&daemon, "VmRSS"), memory(&daemon, "RssAnon")));
        }
    }
    let tally = count(clients);
    daemon.settle();
    let (open, resident, own) = before.unwrap();
    assert_eq!(descriptors(&daemon), open);
    let slack = 512;
    assert!(memory(&daemon, "VmRSS") <= resident + slack, "{resident} kB resident before");
    assert!(memory(&daemon, "RssAnon") <= own + slack, "{own} kB before");
    // What works for the superdaemon may just have ended.
    daemon.wait_for("the end of the last child", || (zombies(&daemon) == 0).then_some(()));
    let seen = status(&daemon);
    assert_eq!((seen.upgrades, seen.crashes, seen.restarts), (UPGRADES, 0, 0));
    assert_eq!(daemon.status_file(), Some(vec![(1, worker)]), "nothing was restarted");
    eprintln!("{} requests, none lost", tally.ok);
    assert_eq!(daemon.stop().code(), Some(0));
    daemon.wait_gone();
}

#[test]
fn upgrades_amid_restarts_lose_nothing() {
    let port = Port::new();
    let mut daemon = ours()
        .options([&format!("--port=127.0.0.1:{port}"), "--path=socket", "--ready=accept", "--kill-old-delay=0.02"])
        .server(["--ready-after=0.02", "--drain=0.01"])
        .start();
    daemon.wait_line("is ready after");
    let clients = clients(&daemon, &port);
    for number in 1..=UPGRADES {
        // Three of four upgrades find a restart under way, in whatever phase that is.
        if number % 4 != 0 {
            daemon.hup();
        }
        upgraded(&daemon);
    }
    let tally = count(clients);
    let seen = daemon.wait_for("the last restart", || {
        let seen = status(&daemon);
        (seen.generations.len() == 1 && seen.generations[0].role == control::Role::Current).then_some(seen)
    });
    assert_eq!((seen.upgrades, seen.crashes, seen.failures), (UPGRADES, 0, 0));
    assert!(seen.restarts >= 2, "{}", seen.restarts);
    // What works for the superdaemon may just have ended.
    daemon.wait_for("the end of the last child", || (zombies(&daemon) == 0).then_some(()));
    eprintln!("{} requests, none lost, over {} restarts", tally.ok, seen.restarts);
    assert_eq!(daemon.stop().code(), Some(0));
    daemon.wait_gone();
}
