//! A superdaemon is killed a hundred times, at rest and in the middle of restarts, and started again; every request is
//! counted.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use testkit::{Address, Client, Daemon, Port, TempDir, patience};

use crate::{at, kill, ours, wait_commit};

const KILLS: u32 = 100;

#[test]
fn a_hundred_kills_lose_no_request() {
    let (tcp, udp, files) = (Port::new(), Port::new(), TempDir::new());
    let path = files.path().join("socket");
    let local = SocketAddr::from(([127, 0, 0, 1], tcp.number()));
    let mut daemon = start(&tcp, &udp, files.path());
    daemon.wait_line("is ready after");
    let clients = [
        Client::start(Address::Tcp(local)),
        Client::start(Address::Tcp(local)),
        Client::start(Address::Unix(path)),
        // There is always one in flight when the superdaemon is killed, and when the worker is told to go.
        Client::asking(Address::Tcp(local), "/sleep/0.2"),
    ];
    let keeping = Loop::start(move |told| keep_alive(local, told));
    let datagrams = Loop::start({
        let to = SocketAddr::from(([127, 0, 0, 1], udp.number()));
        move |told| ask_by_datagram(to, told)
    });
    clients.iter().for_each(|client| client.wait_answers(1));

    let mut dice = Dice(u64::from(std::process::id()) << 20 | 1);
    // Dropped when their workers have gone, which would be killed with them.
    let mut before: Vec<Daemon> = Vec::new();
    for round in 0..KILLS {
        let begins = round % 2 == 1;
        if begins {
            daemon.hup();
            // Anywhere between the signal and the end of the old generation.
            thread::sleep(Duration::from_micros(dice.below(60_000)));
        }
        kill(&mut daemon);
        let next = start(&tcp, &udp, files.path());
        wait_commit(&next);
        before.push(std::mem::replace(&mut daemon, next));
        before.retain(|past| !past.processes().is_empty());
    }
    clients.iter().for_each(|client| client.wait_answers(1));
    let mut answered = 0;
    let mut generations = 0;
    for client in clients {
        let tally = client.stop();
        assert_eq!(tally.lost(), 0, "{tally:?}");
        answered += tally.ok;
        generations = generations.max(tally.generations.len());
    }
    let (kept, told) = (keeping.stop(), datagrams.stop());
    assert_eq!((kept.lost, told.lost), (0, 0), "{kept:?} {told:?}");
    eprintln!(
        "{KILLS} kills: {} requests, {} of them on kept connections, {} datagrams, {generations} generations; none lost",
        answered + kept.answered,
        kept.answered,
        told.answered
    );
    assert!(kept.answered > u64::from(KILLS) && told.answered > u64::from(KILLS));
    assert!(generations >= KILLS as usize / 2, "the generations did not take turns: {generations}");
    before.iter().for_each(Daemon::wait_gone);
    assert!(daemon.stop().success());
    daemon.wait_gone();
}

/// One more superdaemon with the same options.
fn start(tcp: &Port, udp: &Port, files: &Path) -> Daemon {
    let file = |name: &str| files.join(name).display().to_string();
    let ports = [at(tcp), format!("--port=127.0.0.1:u{udp}"), format!("--path={}", file("socket"))];
    let kept = [format!("--pid-file={}", file("pid")), format!("--status-file={}", file("status"))];
    ours().options(ports).options(kept).server(["--linger=5"]).start()
}

/// Numbers without any order in them (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What came of the requests of one who asks in a way of its own.
#[derive(Debug, Default)]
struct Count {
    answered: u64,
    lost: u64,
}

/// A client that asks until it is told to stop.
struct Loop {
    told: Arc<AtomicBool>,
    thread: JoinHandle<Count>,
}

impl Loop {
    fn start(ask: impl FnOnce(&AtomicBool) -> Count + Send + 'static) -> Self {
        let told = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&told);
        Self { told, thread: thread::spawn(move || ask(&seen)) }
    }

    fn stop(self) -> Count {
        self.told.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Asks on one connection until the server says that it closes it, then on the next.
fn keep_alive(address: SocketAddr, told: &AtomicBool) -> Count {
    let mut count = Count::default();
    let mut connection: Option<TcpStream> = None;
    while !told.load(Ordering::Relaxed) {
        let answer = connection.take().map_or_else(|| TcpStream::connect(address), Ok).and_then(|mut stream| {
            stream.set_read_timeout(Some(patience()))?;
            stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
            let mut answer = Vec::new();
            // The lines of the head end in CR and LF, the one of the body in LF.
            while !answer.ends_with(b"\n") || answer.ends_with(b"\r\n") {
                let mut some = [0; 1024];
                match stream.read(&mut some)? {
                    0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                    length => answer.extend(&some[..length]),
                }
            }
            Ok((String::from_utf8_lossy(&answer).contains("Connection: keep-alive"), stream))
        });
        match answer {
            Ok((stays, stream)) => {
                count.answered += 1;
                connection = stays.then_some(stream);
            }
            Err(error) => {
                eprintln!("on a kept connection: {error}");
                count.lost += 1;
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    count
}

/// Sends datagrams that are to be echoed, each once: none may be lost between two generations.
fn ask_by_datagram(address: SocketAddr, told: &AtomicBool) -> Count {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(patience())).unwrap();
    let mut count = Count::default();
    while !told.load(Ordering::Relaxed) {
        let number = count.answered.to_string();
        let sent = socket.send(number.as_bytes());
        let mut space = [0; 64];
        match sent.and_then(|_| socket.recv(&mut space)) {
            Ok(_) => count.answered += 1,
            Err(error) => {
                eprintln!("datagram {number}: {error}");
                count.lost += 1;
            }
        }
        thread::sleep(Duration::from_millis(1));
    }
    count
}
