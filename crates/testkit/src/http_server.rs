//! What every example server that speaks HTTP is tested for; the tests of the examples call it.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use crate::{Address, Deployment, Port, exit_of, get_text, http_load, idle_client};

/// It is replaced under load, under start_server, and nothing is lost.
///
/// # Panics
/// When something is, as all of these.
pub fn is_replaced_under_start_server(program: &str) {
    let deployment = Deployment::tcp(program);
    let load = http_load(&deployment.address);
    deployment.replaced_under(load);
}

/// The same with `LISTEN_FDS`.
///
/// # Panics
/// See above.
pub fn is_replaced_under_socket_activation(program: &str) {
    let deployment = Deployment::listen_fds(program, "web");
    let load = http_load(&deployment.address);
    deployment.replaced_under(load);
}

/// Alone and told to stop, it finishes the request that is under way.
///
/// # Panics
/// See above.
pub fn finishes_the_request_under_way(program: &str) {
    let port = Port::new();
    let address = Address::local(port.number());
    let status = exit_of(program, &address, |terminate| {
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

/// Alone and told to stop, it does not wait for clients that say nothing.
///
/// # Panics
/// See above.
pub fn stops_beside_clients_that_say_nothing(program: &str) {
    let port = Port::new();
    let address = Address::local(port.number());
    let mut clients = None;
    let status = exit_of(program, &address, |terminate| {
        let Address::Tcp(server) = address else { unreachable!("it is a port") };
        clients = Some((idle_client(&address).unwrap(), TcpStream::connect(server).unwrap()));
        terminate();
    });
    assert_eq!(status.code(), Some(0));
    drop(clients);
}
