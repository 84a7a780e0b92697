//! Workers that have turned: what they do to the sockets that they share with the generations after them, with no rights
//! at all, and whether clients are still served.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use testkit::{Daemon, Port};

use crate::other_user::SERVICE;
use crate::world::{is_root, ours, put_program};

const PYTHON: &str = "/usr/bin/python3";

/// How long a client waits for an answer: under load too long to be met by chance.
const ANSWER: Duration = Duration::from_secs(20);

/// A superdaemon whose workers are of another user, and turn when they are told to stop.
fn serving(listener: &str) -> Option<Daemon> {
    if !is_root("a worker that has turned") {
        return None;
    }
    if !Path::new(PYTHON).exists() {
        eprintln!("a worker that has turned: needs {PYTHON}; not tested");
        return None;
    }
    let builder = ours()
        .option(listener)
        .options(["--interval=0.1", &format!("--user={SERVICE}"), &format!("--group={SERVICE}")])
        .program([PYTHON, "turned.py"]);
    put_program(builder.dir(), "turned.py", include_str!("turned.py"));
    let daemon = builder.start();
    daemon.wait_line("generation 1 serves");
    daemon.wait_status_file(|generations| generations == [1]);
    Some(daemon)
}

/// Has the generation that serves do this when it is replaced. The next one is ready and alone then.
fn turn(daemon: &Daemon, generation: u32, deed: &str) -> u32 {
    fs::write(daemon.path("deed"), deed).unwrap();
    daemon.hup();
    let next = generation + 1;
    daemon.wait_line(&format!("generation {next} serves"));
    daemon.wait_status_file(|generations| generations == [next]);
    daemon.wait_line(&format!("generation {generation} (pid ")); // It has ended, and the listeners were looked at after it.
    daemon.settle();
    next
}

/// The number in an answer, whose length says that nothing is missing.
fn number(answer: &[u8], length: usize) -> u32 {
    assert_eq!(answer.len(), length);
    String::from_utf8_lossy(answer).trim_start_matches('.').parse().unwrap()
}

fn ask_tcp(address: SocketAddr) -> u32 {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER).unwrap();
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    stream.write_all(b"hello").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    number(&answer, 100_000)
}

fn ask_udp(address: SocketAddr) -> u32 {
    let any = if address.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(ANSWER)).unwrap();
    // As ESP it would be taken out by the kernel.
    socket.send_to(&[1, 2, 3, 4, 0, 0, 0, 0, 9, 9], address).unwrap();
    let mut answer = [0; 200];
    let length = socket.recv(&mut answer).unwrap();
    number(&answer[..length], 100)
}

/// Each deed of a generation, and what the log says of it; clients are served by the next one.
fn each(listener: &str, ask: impl Fn() -> u32, deeds: &[(&str, &str)]) {
    let Some(daemon) = serving(listener) else { return };
    assert_eq!(ask(), 1);
    let mut generation = 1;
    for (deed, said) in deeds {
        generation = turn(&daemon, generation, deed);
        if daemon.lines().iter().any(|line| line.starts_with(&format!("the deed {deed} is not possible"))) {
            eprintln!("{deed} is not possible here; not tested");
            continue;
        }
        // What a server may set for itself is looked at when the next one comes.
        let before_spawn = said.starts_with("a server has");
        if before_spawn {
            generation = turn(&daemon, generation, "");
        }
        daemon.wait_line(said);
        assert_eq!(ask(), generation, "after {deed}: {:?}", daemon.lines());
    }
}

const OF_ALL: [(&str, &str); 2] = [
    ("device", "to one network device (SO_BINDTODEVICE); it takes what comes by any again"),
    ("dont-route", "has set SO_DONTROUTE of the listener "),
];
const OF_TCP: [(&str, &str); 7] = [
    ("low-water", "has set SO_RCVLOWAT of the listener "),
    ("pacing", "has set SO_MAX_PACING_RATE of the listener "),
    ("signature", "has set a key of TCP_MD5SIG for the listener "),
    ("no-address", "has shut down the listener "),
    ("connection", "it listens again"),
    ("linger", "a server has set SO_LINGER of the listener "),
    ("user-timeout", "a server has set TCP_USER_TIMEOUT of the listener "),
];
const OF_UDP: [(&str, &str); 7] = [
    ("filter", "has attached a filter to the listener "),
    ("cork", "has set UDP_CORK of the listener "),
    ("encapsulation", "has set UDP_ENCAP of the listener "),
    ("buffer", "has set a small SO_RCVBUF of the listener "),
    ("reuse", "has set SO_REUSEADDR of the listener "),
    ("connect", "to one peer; it takes datagrams of all again"),
    ("segments", "a server has set UDP_SEGMENT of the listener "),
];
const OF_V4: [(&str, &str); 2] =
    [("ttl", "has set IP_TTL of the listener "), ("min-ttl", "has set IP_MINTTL of the listener ")];
const OF_V6: [(&str, &str); 3] = [
    ("hops", "has set IPV6_UNICAST_HOPS of the listener "),
    ("min-hops", "has set IPV6_MINHOPCOUNT of the listener "),
    ("routing-header", "has set IPV6_RTHDR of the listener "),
];

#[test]
fn a_tcp_listener_serves_on_whatever_a_worker_has_done_to_it() {
    let port = Port::new();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
    each(&format!("--port=127.0.0.1:{port}"), || ask_tcp(address), &[&OF_ALL[..], &OF_V4, &OF_TCP].concat());
}

#[test]
fn a_tcp_listener_of_ipv6_serves_on_whatever_a_worker_has_done_to_it() {
    let port = Port::new();
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, port.number()));
    each(&format!("--port=[::1]:{port}"), || ask_tcp(address), &[&OF_ALL[..], &OF_V6, &OF_TCP].concat());
}

#[test]
fn a_udp_listener_serves_on_whatever_a_worker_has_done_to_it() {
    let port = Port::new();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()));
    let own = [("out-device", "has set IP_UNICAST_IF of the listener ")];
    each(&format!("--port=127.0.0.1:u{port}"), || ask_udp(address), &[&OF_ALL[..], &OF_V4, &OF_UDP, &own].concat());
}

#[test]
fn a_udp_listener_of_ipv6_serves_on_whatever_a_worker_has_done_to_it() {
    let port = Port::new();
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, port.number()));
    let own = [
        ("out-device-6", "has set IPV6_UNICAST_IF of the listener "),
        ("no-sum", "a server has set UDP_NO_CHECK6_TX of the listener "),
    ];
    each(&format!("--port=[::1]:u{port}"), || ask_udp(address), &[&OF_ALL[..], &OF_V6, &OF_UDP, &own].concat());
}

#[test]
fn a_unix_datagram_listener_serves_on_whatever_a_worker_has_done_to_it() {
    let Some(daemon) = serving("--listen=unix-dgram:socket,mode=0777") else { return };
    let ask = |daemon: &Daemon, name: &str| {
        let client = UnixDatagram::bind(daemon.path(name)).unwrap();
        fs::set_permissions(daemon.path(name), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        client.set_read_timeout(Some(ANSWER)).unwrap();
        client.send_to(b"hello", daemon.path("socket")).unwrap();
        let mut answer = [0; 200];
        let length = client.recv(&mut answer).unwrap();
        number(&answer[..length], 100)
    };
    assert_eq!(ask(&daemon, "first"), 1);
    assert_eq!(turn(&daemon, 1, "filter"), 2);
    daemon.wait_line(
        "has attached a filter to the listener socket (descriptor 3) (SO_ATTACH_FILTER); it takes everything",
    );
    assert_eq!(ask(&daemon, "second"), 2);
    assert_eq!(turn(&daemon, 2, "connect"), 3);
    daemon.wait_line("has connected the datagram listener socket (descriptor 3) to one peer");
    assert_eq!(ask(&daemon, "third"), 3);
}

#[test]
fn what_cannot_be_undone_is_said_once_with_what_helps() {
    let port = Port::new();
    let Some(daemon) = serving(&format!("--port=127.0.0.1:u{port}")) else { return };
    turn(&daemon, 1, "locked-filter");
    daemon.wait_line(
        "which cannot be undone: Operation not permitted; clients may not be served until the superdaemon is",
    );
    turn(&daemon, 2, "");
    assert_eq!(daemon.lines().iter().filter(|line| line.contains("cannot be undone")).count(), 1);
}

#[test]
fn a_lock_without_a_filter_is_no_harm() {
    let port = Port::new();
    let Some(daemon) = serving(&format!("--port=127.0.0.1:{port}")) else { return };
    turn(&daemon, 1, "lock");
    assert_eq!(turn(&daemon, 2, ""), 3);
    assert_eq!(ask_tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, port.number()))), 3);
    assert!(!daemon.lines().iter().any(|line| line.contains("filter")), "{:?}", daemon.lines());
}

/// It is read at a takeover. The next generations must have numbers of their own, or the end of one would be another's.
#[test]
fn a_forged_generation_number_costs_nothing_but_itself() {
    let port = Port::new();
    let builder = |program: &[&str]| {
        let options = ["--interval=0.1", "--drain-timeout=1", &format!("--port=127.0.0.1:{port}")];
        ours().options(options.map(str::to_owned)).program(program.iter().copied())
    };
    let daemon = builder(&["env", "SERVER_STARTER_GENERATION=4294967295", "sleep", "600"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.signal("KILL");
    let helper = "(setsid -f sleep 605); exec sleep 600";
    let next = builder(&["sh", "-c", helper]).start();
    next.wait_line("is taken over from generation 1 (pid ");
    next.wait_status_file(|generations| generations == [2]);
    assert!(next.verb(["--restart", "--pid-file=pid"]).status.success());
    next.wait_status_file(|generations| generations == [3]);
    // The drain timeout of generation 2 is over, and only what it has left behind is gone.
    next.wait_line("has gone and left 1 process behind; the drain timeout is over, all of that was killed");
    let helpers = next.processes().into_iter().filter(|pid| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.replace('\0', " ").starts_with("sleep 605")
    });
    assert_eq!(helpers.count(), 1, "{:?}", next.lines());
}
