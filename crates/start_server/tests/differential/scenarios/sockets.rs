//! The sockets: what is bound, what a worker is told about it, and what refuses to be bound.

use std::fs;
use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use testkit::{Address, get, patience};

use crate::stage::Stage;

pub fn stale_unix_socket(stage: &mut Stage) {
    stage.start(|daemon| {
        drop(UnixListener::bind(daemon.dir().join("socket")).unwrap());
        daemon.with_files().options(["--interval=1", "--path=socket"]).server([] as [&str; 0])
    });
    stage.wait_generations(&[1]);
    let reply = get(&Address::Unix(stage.path("socket")), "/");
    stage.note("answer", format!("{:?}", reply.map(|reply| reply.generation)));
    stage.note_sockets(1);
    stage.stop();
}

pub fn unix_socket_of_any_umask(stage: &mut Stage) {
    stage.start_serving(["--path=socket"], []);
    let mode = fs::metadata(stage.path("socket")).unwrap().permissions().mode();
    stage.note("mode of the socket", format!("{mode:o}"));
    stage.stop();
}

pub fn path_in_a_missing_directory(stage: &mut Stage) {
    start_failing(stage, &["--path=nowhere/socket"]);
}

pub fn several_ports_and_paths(stage: &mut Stage) {
    let (one, two, three) = (stage.port(), stage.port(), stage.port());
    let options = [
        "--path=a.sock",
        &format!("--port={one}"),
        &format!("--port=127.0.0.1:{two}"),
        "--path=./b.sock",
        &format!("--port=localhost:{three}"),
    ];
    stage.start_serving(options, []);
    stage.note_sockets(1);
    let addresses = [Address::local(one), Address::local(two), Address::local(three)];
    let paths = ["a.sock", "b.sock"].map(|name| Address::Unix(stage.path(name)));
    let answers = addresses.iter().chain(&paths).filter(|address| get(address, "/").is_ok()).count();
    stage.note("how many answer", answers.to_string());
    stage.hup();
    stage.wait_generations(&[2]);
    stage.note_sockets(2);
    stage.stop();
}

pub fn requested_descriptor(stage: &mut Stage) {
    let (one, two) = (stage.port(), stage.port());
    stage.start_serving([&format!("--port=127.0.0.1:{one}=9"), &format!("--port={two}=12")], []);
    stage.note_sockets_by_number(1);
    let answers = get(&Address::local(one), "/").is_ok() && get(&Address::local(two), "/").is_ok();
    stage.note("whether both answer", answers.to_string());
    stage.stop();
}

pub fn udp(stage: &mut Stage) {
    let (one, two) = (stage.port(), stage.port());
    stage.start_serving([&format!("--port=u{one}"), &format!("--port=127.0.0.1:u{two}")], []);
    stage.note_sockets(1);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(patience())).unwrap();
    socket.send_to(b"hello", ("127.0.0.1", two)).unwrap();
    let mut buffer = [0; 100];
    let length = socket.recv(&mut buffer).unwrap();
    stage.note("echo", String::from_utf8_lossy(&buffer[..length]));
    stage.stop();
}

pub fn ipv6(stage: &mut Stage) {
    let (one, two) = (stage.port(), stage.port());
    with_ipv6(stage, [&format!("--port=[::1]:{one}"), &format!("--port=[::1]:u{two}")], one);
}

pub fn ipv6_without_brackets(stage: &mut Stage) {
    let (one, two) = (stage.port(), stage.port());
    with_ipv6(stage, [&format!("--port=::1:{one}"), &format!("--port=[::]:{two}")], one);
}

fn with_ipv6<const N: usize>(stage: &mut Stage, options: [&str; N], port: u16) {
    let available = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    stage.start_serving(if available { options } else { ["--interval=1"; N] }, []);
    stage.note_sockets(1);
    if available {
        get(&Address::Tcp((Ipv6Addr::LOCALHOST, port).into()), "/").unwrap();
    }
    stage.stop();
}

pub fn backlog(stage: &mut Stage) {
    let port = stage.port();
    stage.start_serving([&format!("--port=127.0.0.1:{port}"), "--backlog=7"], []);
    stage.note_sockets(1);
    stage.stop();
}

pub fn port_in_use(stage: &mut Stage) {
    let port = stage.port();
    let _taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    start_failing(stage, &["--path=socket", &format!("--port=127.0.0.1:{port}")]);
}

pub fn bad_port_value(stage: &mut Stage) {
    start_failing(stage, &["--port=eighty"]);
}

pub fn ports_in_a_list(stage: &mut Stage) {
    let (one, two) = (stage.port(), stage.port());
    stage.start(|daemon| daemon.option(format!("--port={one},127.0.0.1:{two}")).server([] as [&str; 0]));
    stage.wait_start_or_end();
    if stage.is_running() {
        stage.note_sockets(1);
        stage.term();
    }
    stage.wait_end();
}

pub fn unknown_host(stage: &mut Stage) {
    start_failing(stage, &["--port=no-such-host.invalid:80"]);
}

fn start_failing(stage: &mut Stage, options: &[&str]) {
    stage.start(|daemon| daemon.with_files().options(options.iter().copied()).server([] as [&str; 0]));
    stage.wait_end();
}
