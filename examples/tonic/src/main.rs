//! A gRPC server with tonic, which start_server can replace without losing a call.
//!
//! HTTP/2 can say which requests of a connection are still taken (GOAWAY), and tonic does so when it is shut down. But a
//! client that speaks only then is turned away, and one that never speaks is waited for. Here tonic gets connections only
//! when the client has spoken, and is shut down after some grace.

use std::error::Error;
use std::future::ready;
use std::io;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::pending;
use server_starter::{Stop, signal};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use hello::greeter_server::{Greeter, GreeterServer};
use hello::{HelloReply, HelloRequest};

#[allow(missing_docs, dead_code, reason = "much of it is generated, and the client is for the tests")]
mod hello;

/// After the stop, a client has this time to send a request that may be on its way.
const GRACE: Duration = Duration::from_secs(1);
/// A client that says nothing for so long after connecting is sent away.
const PATIENCE: Duration = Duration::from_secs(60);
/// After the stop, everything must be done in this time.
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Where to listen when nothing is inherited.
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let stop = Stop::on(&[signal::SIGTERM, signal::SIGINT])?;
    let listener: TcpListener = server_starter::listen_or_bind("grpc", &address)?;
    let connections = TcpIncoming::from(listener).with_nodelay(Some(true)).take_until(stop.requested()?);
    let connections = connections
        .map(|accepted| spoken(accepted, stop.clone()))
        .buffer_unordered(usize::MAX)
        .filter_map(|connection| ready(connection.transpose()))
        // When there are no more of them, that is not yet the end.
        .chain(pending());
    let serving = Server::builder()
        .add_service(GreeterServer::new(Hello))
        .serve_with_incoming_shutdown(connections, later(GRACE, stop.requested()?));
    server_starter::ready()?;
    tokio::select! {
        result = serving => Ok(result?),
        () = later(DEADLINE, stop.requested()?) => Err(format!("not all calls were done in {DEADLINE:?}").into()),
    }
}

/// Waits until the client has something to say. `None` if it has not.
async fn spoken(accepted: io::Result<TcpStream>, stop: Stop) -> io::Result<Option<TcpStream>> {
    let connection = accepted?;
    let mut first = [0];
    let has_spoken = tokio::select! {
        length = connection.peek(&mut first) => length.is_ok_and(|length| length > 0),
        () = later(GRACE, stop.requested()?) => false,
        () = sleep(PATIENCE) => false,
    };
    Ok(has_spoken.then_some(connection))
}

async fn later(time: Duration, event: impl Future<Output = ()>) {
    event.await;
    sleep(time).await;
}

struct Hello;

#[tonic::async_trait]
impl Greeter for Hello {
    async fn say_hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        sleep(Duration::from_millis(request.into_inner().delay_ms.into())).await;
        let pid = std::process::id();
        let message = match server_starter::generation() {
            Some(generation) => format!("generation {generation}, pid {pid}"),
            None => format!("alone, pid {pid}"),
        };
        Ok(Response::new(HelloReply { message }))
    }
}
