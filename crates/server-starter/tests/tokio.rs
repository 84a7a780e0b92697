//! The feature `tokio`: sockets of tokio, and the stop as a future.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used, reason = "a test reports what fails by panicking")]

use std::time::Duration;

use server_starter::Stop;
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixListener};

#[tokio::test]
async fn sockets_of_tokio_can_be_had() {
    let listener: TcpListener = server_starter::listen_or_bind("web", "127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (accepted, connected) = tokio::join!(listener.accept(), TcpStream::connect(address));
    assert_eq!(accepted.unwrap().1, connected.unwrap().local_addr().unwrap());
    let socket: UdpSocket = server_starter::listen_or_bind("dns", "127.0.0.1:0").unwrap();
    socket.send_to(b"hello", socket.local_addr().unwrap()).await.unwrap();
    assert_eq!(socket.recv(&mut [0; 10]).await.unwrap(), 5);
    let name = format!("@server-starter-tokio-{}", std::process::id());
    let _: UnixListener = server_starter::listen_or_bind("app", &name).unwrap();
}

#[test]
fn without_a_runtime_there_is_an_error_instead_of_a_panic() {
    let error = server_starter::listen_or_bind::<TcpListener>("web", "127.0.0.1:0").unwrap_err();
    assert_eq!(error.kind(), server_starter::ErrorKind::System);
    assert!(Stop::on(&[]).unwrap().requested().is_err());
}

#[tokio::test]
async fn any_number_of_futures_hear_the_stop() {
    let stop = Stop::on(&[]).unwrap();
    let (one, other) = (stop.requested().unwrap(), stop.requested().unwrap());
    let early = tokio::spawn(one);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(!early.is_finished());
    stop.request();
    early.await.unwrap();
    other.await;
    stop.requested().unwrap().await;
}
