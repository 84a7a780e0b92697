//! The server, replaced under load and stopped with a request under way: nothing may be lost.
#![allow(clippy::unwrap_used, reason = "a test reports what fails by panicking")]

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use testkit::{Address, Deployment, Port, exit_of, get_text, http_load, idle_client};

const PROGRAM: &str = env!("CARGO_BIN_EXE_example-actix-web");

#[test]
fn replaced_under_start_server() {
    let deployment = Deployment::tcp(PROGRAM);
    let load = http_load(&deployment.address);
    deployment.replaced_under(load);
}

#[test]
fn replaced_under_socket_activation() {
    let deployment = Deployment::listen_fds(PROGRAM, "web");
    let load = http_load(&deployment.address);
    deployment.replaced_under(load);
}

#[test]
fn stopped_alone_with_a_request_under_way() {
    let port = Port::new();
    let address = Address::local(port.number());
    let status = exit_of(PROGRAM, &address, |terminate| {
        let slow = thread::spawn({
            let address = address.clone();
            move || get_text(&address, "/slow")
        });
        // The request takes 300 ms: it is under way.
        thread::sleep(Duration::from_millis(100));
        terminate();
        assert!(slow.join().unwrap().unwrap().starts_with("alone, "));
    });
    assert_eq!(status.code(), Some(0));
}

#[test]
fn stopped_alone_beside_clients_that_say_nothing() {
    let port = Port::new();
    let address = Address::local(port.number());
    let mut clients = None;
    let status = exit_of(PROGRAM, &address, |terminate| {
        let Address::Tcp(server) = address else { unreachable!("it is a port") };
        clients = Some((idle_client(&address).unwrap(), TcpStream::connect(server).unwrap()));
        terminate();
    });
    assert_eq!(status.code(), Some(0));
    drop(clients);
}
