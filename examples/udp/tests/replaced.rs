//! The server, replaced under load: no datagram may be lost.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test reports what fails by panicking")]

use std::net::{Ipv4Addr, UdpSocket};

use testkit::{Address, Deployment, Load, Port, exit_of, patience};

const PROGRAM: &str = env!("CARGO_BIN_EXE_example-udp");

#[test]
fn replaced_under_start_server() {
    let deployment = Deployment::udp(PROGRAM);
    let load = Load::new()
        .client("datagrams, one by one", client(&deployment.address, 1))
        .client("datagrams in bursts", client(&deployment.address, 20));
    deployment.replaced_under(load);
}

#[test]
fn stopped_alone() {
    let port = Port::new();
    let address = Address::local(port.number());
    let status = exit_of(PROGRAM, &address, |terminate| {
        assert!(client(&address, 3)().unwrap().starts_with("alone: "));
        terminate();
    });
    assert_eq!(status.code(), Some(0));
}

/// Sends a burst, and waits for all the answers; gives one of them.
fn client(address: &Address, burst: u32) -> impl FnMut() -> Result<String, String> + Send + use<> {
    let Address::Tcp(server) = *address else { panic!("no port") };
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(patience())).unwrap();
    let mut sent = 0;
    move || {
        let asked: Vec<String> = (sent..sent + burst).map(|number| format!("number {number}")).collect();
        sent += burst;
        for datagram in &asked {
            socket.send_to(datagram.as_bytes(), server).map_err(|error| format!("sending: {error}"))?;
        }
        let mut left = asked;
        let mut buffer = [0; 100];
        loop {
            let length = socket.recv(&mut buffer).map_err(|error| format!("receiving {left:?}: {error}"))?;
            let answer = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
            let text = answer.split_once(": ").map_or("", |(_, text)| text);
            left.retain(|asked| asked != text);
            if left.is_empty() {
                return Ok(answer);
            }
        }
    }
}
