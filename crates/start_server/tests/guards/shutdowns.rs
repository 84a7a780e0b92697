//! shutdown(2) on a listener: refused connections for all generations, until it is undone.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::Duration;

use testkit::{Address, Daemon, Port};

use super::{answering, count, pid, prepared, restart, serving, stop, wait_alone, wait_idle};

#[test]
fn a_tcp_listener_listens_again_and_the_culprit_is_named() {
    for address in ["127.0.0.1", "[::1]"] {
        let port = Port::new();
        let daemon = serving([&*format!("--port={address}:{port}"), "--backlog=77"], ["stop=shutdown"]);
        let host = address.trim_matches(['[', ']']).parse().unwrap();
        let client = Address::Tcp((std::net::IpAddr::to_owned(&host), port.number()).into());
        for generation in 1..4 {
            assert_eq!(answering(&client), generation);
            let culprit = pid(&daemon, generation);
            restart(&daemon, generation);
            daemon.wait_line(&format!(
                "generation {generation} (pid {culprit}), which was told to stop, has shut down the listener \
                 {address}:{port} (descriptor 3); it listens again"
            ));
        }
        assert_eq!(answering(&client), 4);
        assert_eq!(count(&daemon, "has shut down"), 3);
        let status = daemon.verb(["--status", "--json", "--pid-file=pid"]);
        assert!(String::from_utf8_lossy(&status.stdout).contains(r#""backlog": 77"#), "{status:?}");
        wait_idle(&daemon, 1);
        stop(daemon);
    }
}

#[test]
fn a_unix_listener_is_bound_again_and_the_program_restarted() {
    let daemon = serving(["--path=socket"], ["stop=shutdown"]);
    let (path, client) = (daemon.path("socket"), Address::Unix(daemon.path("socket")));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let mut generation = 1;
    for _ in 0..2 {
        assert_eq!(answering(&client), generation);
        let culprit = pid(&daemon, generation);
        daemon.hup();
        daemon.wait_line(&format!(
            "generation {generation} (pid {culprit}), which was told to stop, has shut down the listener socket \
             (descriptor 3); it is bound again, and since generation {} (pid ",
            generation + 1
        ));
        // The one that was asked for, and the one that it takes: which stops with the old socket, and so harms nobody.
        generation += 2;
        wait_alone(&daemon, generation);
        assert_eq!(fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }
    assert_eq!(answering(&client), 5);
    assert_eq!((count(&daemon, "has shut down"), count(&daemon, "the superdaemon's own wish")), (2, 2));
    wait_idle(&daemon, 1);
    stop(daemon);
}

/// One restart helps them all, or two if one is started between two shutdowns.
#[test]
fn several_unix_listeners_are_bound_again() {
    let daemon = serving(["--path=a", "--path=b", "--path=c"], ["stop=shutdown"]);
    daemon.hup();
    daemon.wait_lines("; it is bound again", 3);
    daemon.wait_for("the end of the restarts", || {
        let states = daemon.status_file()?;
        let alone = states.len() == 1 && states[0].0 >= 3;
        let settled = ["a", "b", "c"].iter().all(|name| {
            let path = Address::Unix(daemon.path(name));
            std::os::unix::net::UnixStream::connect(daemon.path(name)).is_ok() && answering(&path) == states[0].0
        });
        (alone && settled).then_some(())
    });
    assert!(count(&daemon, "the superdaemon's own wish") <= 2, "{:?}", daemon.lines());
    stop(daemon);
}

/// It gives a port up that the system chose, unless it is bound to it again.
#[test]
fn a_port_that_the_system_chose_is_kept() {
    let daemon = serving(["--port=127.0.0.1:0"], ["stop=shutdown"]);
    let line = daemon.wait_line("listening on 127.0.0.1:");
    let port = line.split([':', ',']).nth(1).unwrap().parse().unwrap();
    restart(&daemon, 1);
    daemon.wait_line("it listens again");
    assert_eq!(answering(&Address::local(port)), 2);
    stop(daemon);
}

/// Nothing helps as long as the name is taken, so that is said.
#[test]
fn an_abstract_listener_cannot_be_revived() {
    let name = format!("@guards-{}", std::process::id());
    let daemon = serving([&*format!("--listen=unix:{name}")], ["stop=shutdown"]);
    restart(&daemon, 1);
    daemon.wait_line("whose abstract name cannot be bound again while a worker holds it");
    wait_idle(&daemon, 1);
    stop(daemon);
}

/// Otherwise it would be restarted for ever.
#[test]
fn a_program_that_shuts_its_own_listener_down_is_restarted_once() {
    let daemon = prepared(["start=shutdown"]).option("--path=socket").start();
    daemon.wait_line("is bound again, and since generation 1 (pid ");
    let line = daemon.wait_line("a restart for the same reason was of no use");
    assert!(line.contains("generation 2 (pid "), "{line}");
    wait_alone(&daemon, 2);
    wait_idle(&daemon, 1);
    assert_eq!(count(&daemon, "starting new worker"), 2);
    stop(daemon);
}

/// The superdaemon cannot be kept busy by one that does it in a loop, but the next generation has a listener.
#[test]
fn a_worker_that_does_it_again_and_again_is_left_to_it() {
    let port = Port::new();
    let mad = "use Socket; open my $s, '+<&=3'; my $stop; $SIG{TERM} = sub { $stop = 1 }; \
               until ($stop) { shutdown $s, 2; select undef, undef, undef, 0.001 } \
               select undef, undef, undef, 0.2";
    let daemon = Daemon::new(super::OURS)
        .with_files()
        .option(format!("--port=127.0.0.1:{port}"))
        .option("--interval=0")
        .program(["perl", "-e", mad])
        .start();
    daemon.wait_line("again and again; it is left so until a generation comes or goes");
    wait_idle(&daemon, 1);
    let lines = count(&daemon, "has shut down");
    assert!(lines < 40, "{lines}");
    stop(daemon);
}

/// Nobody is hurt any more, so nothing is said or done.
#[test]
fn the_end_is_not_disturbed() {
    let port = Port::new();
    let mut daemon = serving([&*format!("--port=127.0.0.1:{port}"), "--path=socket"], ["stop=shutdown", "stop=unlink"]);
    assert_eq!(daemon.stop().code(), Some(0));
    assert_eq!((count(&daemon, "has shut down"), count(&daemon, "has removed")), (0, 0));
    assert!(!daemon.path("socket").exists() && !daemon.path(".socket.kept").exists());
}

/// A UDP socket cannot be revived, but it goes on receiving; a connected one takes datagrams of all again.
#[test]
fn what_was_done_to_a_udp_listener_is_said_or_undone() {
    let port = Port::new();
    let mad = "use Socket; open my $s, '+<&=3'; if ($ENV{SERVER_STARTER_GENERATION} == 1) \
               { connect $s, pack_sockaddr_in(9, inet_aton '127.0.0.1') or die } else { shutdown $s, 0 } \
               open my $up, '>', \"up.$ENV{SERVER_STARTER_GENERATION}\"; $SIG{TERM} = sub { exit }; sleep 1 while 1";
    let daemon = Daemon::new(super::OURS)
        .with_files()
        .option(format!("--port=127.0.0.1:u{port}"))
        .options(super::WHEN_UP)
        .program(["perl", "-e", mad])
        .start();
    daemon.wait_line(&format!("has connected the UDP listener 127.0.0.1:{port} (descriptor 3) to one peer"));
    restart(&daemon, 1);
    daemon
        .wait_line(&format!("has shut down the UDP listener 127.0.0.1:{port} (descriptor 3), which cannot be undone"));
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    sender.connect((Ipv4Addr::LOCALHOST, port.number())).unwrap();
    sender.send(b"hello").unwrap();
    thread::sleep(Duration::from_millis(10));
    sender.send(b"no answer that the port is closed").unwrap();
    restart(&daemon, 2);
    assert_eq!(count(&daemon, "which cannot be undone"), 1);
    stop(daemon);
}
