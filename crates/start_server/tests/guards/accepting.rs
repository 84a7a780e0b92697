//! A server that does not use the sockets that it was given, and servers that only look so.

use std::io::Write;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use testkit::{Address, Client, Port};

use super::{answering, count, pid, restart, serving, sleeps, stop, wait_idle};

#[test]
fn a_server_that_ignores_its_sockets_is_named_once_for_each_listener_and_generation() {
    let port = Port::new();
    let daemon = serving([&*format!("--port=127.0.0.1:{port}"), "--path=socket"], ["ignore"]);
    let listeners = [&*format!("127.0.0.1:{port} (descriptor 3)"), "socket (descriptor 4)"];
    // No client, so nothing to say and nothing to do.
    wait_idle(&daemon, 1);
    let tcp: Vec<_> = (0..3).map(|_| TcpStream::connect(("127.0.0.1", port.number())).unwrap()).collect();
    let unix = UnixStream::connect(daemon.path("socket")).unwrap();
    for generation in 1..3 {
        for (listener, waiting) in listeners.iter().zip(["3 connections wait", "1 connection waits"]) {
            let accused = format!("generation {generation} (pid {}) does not use", pid(&daemon, generation));
            let line = daemon.wait_for(&format!("{accused}: {listener}"), || {
                let of_listener = format!("nobody accepts on {listener}");
                daemon.lines().into_iter().find(|line| line.contains(&of_listener) && line.contains(&accused))
            });
            assert!(line.contains(waiting) && line.contains("none was accepted for 5"), "{line}");
        }
        // It is said once.
        wait_idle(&daemon, 1);
        assert_eq!(count(&daemon, "nobody accepts on"), 2 * generation as usize);
        if generation == 1 {
            restart(&daemon, 1);
        }
    }
    drop((tcp, unix));
    stop(daemon);
}

/// The queue is never empty, and each request takes long; but it goes on.
#[test]
fn a_server_that_is_slow_is_not_accused() {
    let port = Port::new();
    let daemon = serving([&*format!("--port=127.0.0.1:{port}"), "--path=socket"], ["slow=0.7"]);
    let tcp = Address::local(port.number());
    let clients: Vec<_> = (0..3).map(|_| Client::start(tcp.clone())).collect();
    let unix: Vec<_> = (0..3).map(|_| Client::start(Address::Unix(daemon.path("socket")))).collect();
    thread::sleep(Duration::from_secs(4));
    daemon.hup();
    super::wait_alone(&daemon, 2);
    thread::sleep(Duration::from_secs(7));
    assert_eq!(count(&daemon, "nobody accepts on"), 0, "{:?}", daemon.lines());
    for client in clients.into_iter().chain(unix) {
        assert_eq!(client.stop().lost(), 0);
    }
    stop(daemon);
}

/// What the guards cost where all is well: connections that come and go do not wake the superdaemon.
#[test]
fn clients_do_not_wake_the_superdaemon() {
    let port = Port::new();
    let daemon = serving([&*format!("--port=127.0.0.1:{port}"), "--path=socket"], []);
    let addresses = [Address::local(port.number()), Address::Unix(daemon.path("socket"))];
    // The first few do, until one is seen before it is accepted: as is one that waits because the server waits for the
    // request of another. Where that takes long, nobody is accused, for the other was accepted.
    for address in &addresses {
        let mut idler = connected(address);
        let waiting = connected(address);
        thread::sleep(Duration::from_secs(6));
        idler.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        drop(waiting);
    }
    assert_eq!(answering(&addresses[0]), 1, "it is done with them");
    wait_idle(&daemon, 1);
    let before = sleeps(&daemon);
    for address in &addresses {
        (0..500).for_each(|_| assert_eq!(answering(address), 1));
    }
    let woken = sleeps(&daemon) - before;
    assert!(woken < 100, "{woken} times");
    assert_eq!(count(&daemon, "nobody accepts on"), 0);
    stop(daemon);
}

/// Its only worker is busy with one client for long, and nobody saw that it had accepted that one.
#[test]
fn a_server_that_is_busy_with_one_client_is_not_accused() {
    let port = Port::new();
    let daemon = serving([&*format!("--port=127.0.0.1:{port}")], []);
    daemon.signal("STOP");
    daemon.wait_state('T');
    // The server waits for its request.
    let busy = TcpStream::connect(("127.0.0.1", port.number())).unwrap();
    thread::sleep(Duration::from_millis(300));
    let waiting = TcpStream::connect(("127.0.0.1", port.number())).unwrap();
    daemon.signal("CONT");
    // Twice as long as it takes to accuse one.
    thread::sleep(Duration::from_secs(10));
    assert_eq!(count(&daemon, "nobody accepts on"), 0, "{:?}", daemon.lines());
    drop((busy, waiting));
    stop(daemon);
}

fn connected(address: &Address) -> Box<dyn Write> {
    match address {
        Address::Tcp(address) => Box::new(TcpStream::connect(address).unwrap()),
        Address::Unix(path) => Box::new(UnixStream::connect(path).unwrap()),
    }
}
