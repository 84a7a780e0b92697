//! The server, replaced under load and stopped with a call under way: nothing may be lost.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test reports what fails by panicking")]

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use hello::greeter_client::GreeterClient;
use hello::{HelloReply, HelloRequest};
use prost::Message;
use testkit::{Address, Deployment, Load, Port, exit_of, patience};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tonic::codegen::http;
use tonic::transport::{Channel, Endpoint};

#[allow(missing_docs, dead_code, reason = "much of it is generated, and the server is for the program")]
#[path = "../src/hello.rs"]
mod hello;

const PROGRAM: &str = env!("CARGO_BIN_EXE_example-tonic");

#[test]
fn replaced_under_start_server() {
    let deployment = Deployment::tcp(PROGRAM);
    let load = load(&deployment.address);
    deployment.replaced_under(load);
}

#[test]
fn replaced_under_socket_activation() {
    let deployment = Deployment::listen_fds(PROGRAM, "grpc");
    let load = load(&deployment.address);
    deployment.replaced_under(load);
}

#[test]
fn stopped_alone_with_a_call_under_way() {
    let port = Port::new();
    let address = Address::local(port.number());
    let status = exit_of(PROGRAM, &address, |terminate| {
        let slow = thread::spawn(new(&address, 300));
        // The call takes 300 ms: it is under way.
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
        let mut idle = staying(&address, 0);
        idle().unwrap();
        clients = Some((idle, std::net::TcpStream::connect(socket_address(&address)).unwrap()));
        terminate();
    });
    assert_eq!(status.code(), Some(0));
    drop(clients);
}

fn load(address: &Address) -> Load {
    Load::new()
        .client("new", new(address, 0))
        .client("delayed", delayed(address, 100))
        .client("delayed", delayed(address, 300))
        .client("slow", new(address, 300))
        .client("one channel", staying(address, 1))
        .client("one channel, with long pauses", staying(address, 250))
}

/// Makes one call on each channel, with an answer after `slow` milliseconds.
fn new(address: &Address, slow: u32) -> impl FnMut() -> Result<String, String> + Send + use<> {
    let (runtime, server) = (runtime(), socket_address(address));
    move || {
        runtime.block_on(async {
            let channel = within(endpoint(server).connect()).await?;
            call(GreeterClient::new(channel), slow).await
        })
    }
}

/// Makes one call on each connection, and says nothing until `delay` milliseconds after connecting. This client is no
/// channel of tonic, since that would connect again without a word if it were refused.
fn delayed(address: &Address, delay: u64) -> impl FnMut() -> Result<String, String> + Send + use<> {
    let (runtime, server) = (runtime(), socket_address(address));
    let speak = async move |connection: TcpStream| -> Result<String, Box<dyn Error + Send + Sync>> {
        tokio::time::sleep(Duration::from_millis(delay)).await;
        let (sender, connection) = h2::client::handshake(connection).await?;
        tokio::spawn(connection);
        let request = http::Request::post(format!("http://{server}/hello.Greeter/SayHello"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let (answer, mut body) = sender.ready().await?.send_request(request, false)?;
        // Not compressed, and of length 0: an empty message.
        body.send_data(vec![0; 5].into(), true)?;
        let mut frames = answer.await?.into_body();
        let mut bytes = Vec::new();
        while let Some(frame) = frames.data().await {
            bytes.extend(frame?);
        }
        let trailers = frames.trailers().await?.ok_or("no trailers")?;
        match trailers.get("grpc-status") {
            Some(status) if status == "0" => Ok(HelloReply::decode(bytes.get(5..).ok_or("no message")?)?.message),
            status => Err(format!("status {status:?}").into()),
        }
    };
    move || {
        runtime.block_on(async {
            let connection = within(TcpStream::connect(server)).await?;
            within(speak(connection)).await
        })
    }
}

/// Makes all calls on one channel, which connects again when the server says that it should.
///
/// A call that crosses with the server's GOAWAY comes back unprocessed, and is made again on the next connection. Other
/// gRPC clients do that by themselves (“transparent retry”); tonic leaves it to its user.
fn staying(address: &Address, pause: u64) -> impl FnMut() -> Result<String, String> + Send + use<> {
    let (runtime, server) = (runtime(), socket_address(address));
    let channel = runtime.block_on(async { endpoint(server).connect_lazy() });
    move || {
        thread::sleep(Duration::from_millis(pause));
        runtime.block_on(async {
            let mut client = GreeterClient::new(channel.clone());
            match client.say_hello(HelloRequest::default()).await {
                Err(status) if was_not_processed(&status) => call(client, 0).await,
                answer => answer.map(|answer| answer.into_inner().message).map_err(|status| format!("{status:?}")),
            }
        })
    }
}

/// Whether the server has said that it did not begin this call: RFC 9113, section 6.8.
fn was_not_processed(status: &tonic::Status) -> bool {
    let first: Option<&dyn Error> = status.source();
    let refused =
        |error: &h2::Error| error.is_remote() && error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    std::iter::successors(first, |&error| error.source()).any(|error| error.downcast_ref().is_some_and(refused))
}

async fn call(mut client: GreeterClient<Channel>, delay_ms: u32) -> Result<String, String> {
    let answer = within(client.say_hello(HelloRequest { delay_ms })).await?;
    Ok(answer.into_inner().message)
}

async fn within<T, E: std::fmt::Debug>(answer: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match tokio::time::timeout(patience(), answer).await {
        Ok(answer) => answer.map_err(|error| format!("{error:?}")),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

fn endpoint(server: SocketAddr) -> Endpoint {
    Endpoint::from_shared(format!("http://{server}")).unwrap()
}

/// With a thread of its own, so that the server's word reaches a channel that is not in use.
fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn socket_address(address: &Address) -> SocketAddr {
    let Address::Tcp(server) = *address else { panic!("no port") };
    server
}
