//! Listeners: where workers find them, and to whom an address belongs.

use std::collections::BTreeMap;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};

use testkit::{Address, Port, get};

use crate::{at, complaint, daemon};

/// P14: a socket that was to have the descriptor that it already had was closed instead, and one that was given a
/// descriptor in use took it from another socket, from the log or from standard error.
#[test]
fn p14_descriptors_that_collide_are_what_workers_were_promised() {
    // For each case the descriptors that are asked for, and those that are to be had.
    let cases: [(&[&str], &[i32]); 9] = [
        (&["=3", ""], &[3, 4]),
        (&["", "=3"], &[4, 3]),
        (&["=4"], &[4]),
        (&["=4", ""], &[4, 3]),
        (&["", "=4", ""], &[3, 4, 5]),
        (&["=4", "=3"], &[4, 3]),
        (&["=5", "=4", ""], &[5, 4, 3]),
        (&["=0"], &[0]),
        (&["", "=0"], &[3, 0]),
    ];
    for log in [&[][..], &["--log-file=stderr"]] {
        for (asked, promised) in cases {
            check_descriptors(asked, promised, log);
        }
    }
}

fn check_descriptors(asked: &[&str], promised: &[i32], log: &[&str]) {
    let ports: Vec<Port> = asked.iter().map(|_| Port::new()).collect();
    let options = ports.iter().zip(asked).map(|(port, fd)| at(port) + fd);
    let daemon = daemon().options(options).options(log).option("--interval=0.1").server([""; 0]).start();
    let dump = daemon.wait_dump(1);
    daemon.wait_ready(1);
    let names = ports.iter().zip(promised).map(|(port, fd)| format!("127.0.0.1:{port}={fd}"));
    assert_eq!(dump.env("SERVER_STARTER_PORT"), Some(names.collect::<Vec<_>>().join(";").as_str()), "{asked:?}");
    let found = dump.descriptors();
    let mut expected: BTreeMap<i32, String> = BTreeMap::from([(0, "/dev/null".to_owned())]);
    expected.insert(1, daemon.path(if log.is_empty() { "stdout" } else { "stderr" }).display().to_string());
    expected.insert(2, daemon.path("stderr").display().to_string());
    expected.extend(promised.iter().zip(&ports).map(|(fd, port)| (*fd, format!("tcp 127.0.0.1:{port} listening"))));
    assert!(found.keys().eq(expected.keys()), "{asked:?} {log:?}: {found:?}");
    for (fd, what) in expected {
        assert!(found[&fd].starts_with(&what), "{asked:?} {log:?}: descriptor {fd} is {}, not {what}", found[&fd]);
    }
    daemon.wait_line("starting new worker");
    for port in &ports {
        assert_eq!(get(&Address::local(port.number()), "/").unwrap().generation, 1, "{asked:?} {log:?}");
    }
}

/// P14: descriptors that cannot be had were not refused.
#[test]
fn p14_descriptors_that_cannot_be_had_are_refused() {
    for fds in [&["=1"][..], &["=2"], &["=7", "=7"], &["=99999999"]] {
        let ports: Vec<Port> = fds.iter().map(|_| Port::new()).collect();
        let mut daemon = daemon()
            .options(ports.iter().zip(fds).map(|(port, fd)| at(port) + fd))
            .program(["touch", "was-here"])
            .start();
        assert!(!daemon.exit_status().success(), "{fds:?}");
        let text = daemon.text("stderr");
        assert!(text.contains(fds[0].trim_start_matches('=')), "{fds:?}: {text}");
        assert!(!text.contains("starting new worker"), "{fds:?}: {text}");
    }
}

/// P15: two superdaemons could have the same UDP port, and one of them got the datagrams of the other.
#[test]
fn p15_a_udp_port_that_is_taken_is_refused() {
    let port = Port::new();
    let option = format!("--port=127.0.0.1:u{port}");
    let first = daemon().options([option.as_str(), "--interval=0.1"]).server([""; 0]).start();
    first.wait_ready(1);
    let second = first.verb([&option, "--", "sleep", "600"]);
    assert!(!second.status.success());
    let text = complaint(&second);
    assert!(text.contains(&format!("failed to bind to 127.0.0.1:{port}:Address already in use")), "{text}");

    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(testkit::patience())).unwrap();
    client.send_to(b"hello", ("127.0.0.1", port.number())).unwrap();
    let mut answer = [0; 16];
    assert_eq!(client.recv(&mut answer).unwrap(), 5, "the first one answers as ever");
}

/// P16: a port above 65535 was taken modulo 65536, and a path that is too long was cut off.
#[test]
fn p16_addresses_that_do_not_exist_are_refused() {
    let long = format!("--path={}", "x".repeat(108));
    for (option, complaint) in
        [("--port=127.0.0.1:99999", "127.0.0.1:99999"), ("--port=65536", "65536"), (long.as_str(), "at most 107 bytes")]
    {
        let mut daemon = daemon().option(option).program(["sleep", "600"]).start();
        assert!(!daemon.exit_status().success(), "{option}");
        assert!(daemon.text("stderr").contains(complaint), "{option}: {}", daemon.text("stderr"));
        let mut files = fs::read_dir(daemon.dir()).unwrap().map(|entry| entry.unwrap().file_type().unwrap());
        assert!(!files.any(|kind| kind.is_socket()), "{option} has left a socket");
    }
}

/// P17: whatever was at the path of a unix socket was deleted, a regular file for example.
#[test]
fn p17_a_file_at_the_path_of_a_socket_is_left_alone() {
    let builder = daemon().option("--path=precious");
    fs::write(builder.dir().join("precious"), "content").unwrap();
    let mut daemon = builder.program(["sleep", "600"]).start();
    assert!(!daemon.exit_status().success());
    assert_eq!(daemon.text("precious"), "content");
    assert!(daemon.text("stderr").contains("a regular file is there and was left alone"), "{}", daemon.text("stderr"));
}

/// P17: the socket of another server that was running was deleted as well.
#[test]
fn p17_a_socket_in_use_is_left_alone() {
    let builder = daemon().option("--path=socket");
    let path = builder.dir().join("socket");
    let other = UnixListener::bind(&path).unwrap();
    let mut daemon = builder.program(["sleep", "600"]).start();
    assert!(!daemon.exit_status().success());
    assert!(daemon.text("stderr").contains("another process listens"), "{}", daemon.text("stderr"));
    let _client = UnixStream::connect(&path).expect("the other server cannot be reached any more");
    other.accept().unwrap();
}

/// P17: at its end a superdaemon deleted the socket that was at its path, even if it belonged to another process.
#[test]
fn p17_a_path_that_was_taken_by_another_is_left_to_it() {
    let mut daemon = daemon().with_files().options(["--path=socket", "--interval=0.1"]).server([""; 0]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    // In one step: a path that is free for a moment is put back.
    let thief = UnixListener::bind(daemon.path("thief")).unwrap();
    fs::rename(daemon.path("thief"), daemon.path("socket")).unwrap();
    assert!(daemon.stop().success());
    let _client = UnixStream::connect(daemon.path("socket")).expect("the other server's socket is gone");
    thief.accept().unwrap();
}

/// P17, the other side of it: the socket that a killed superdaemon has left behind is replaced, as ever.
#[test]
fn p17_a_socket_that_nobody_uses_is_replaced() {
    let builder = daemon().options(["--path=socket", "--interval=0.1"]);
    let path = builder.dir().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    let daemon = builder.server([""; 0]).start();
    daemon.wait_line("removing existing socket file:socket");
    daemon.wait_ready(1);
    assert_eq!(get(&Address::Unix(path), "/").unwrap().generation, 1);
}
