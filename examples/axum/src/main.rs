//! An HTTP server with axum on tokio, which start_server can replace without losing a request.
//!
//! What axum calls graceful shutdown closes, at once, each connection that waits for a request, even if one is on its
//! way. Here the connections get a last answer, or some grace, first.

// An example is a program of its own: it says what happens.
#![allow(clippy::print_stderr)]

use std::error::Error;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::get;
use axum::serve::Listener;
use server_starter::{Stop, signal};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// After the stop, a client has this time to send a request that may be on its way.
const GRACE: Duration = Duration::from_secs(1);
/// After the stop, everything must be done in this time.
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Where to listen when nothing is inherited.
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let stop = Stop::on(&[signal::SIGTERM, signal::SIGINT])?;
    let app = Router::new()
        .route("/", get(hello))
        .route("/slow", get(slow))
        .layer(from_fn_with_state(stop.clone(), say_when_it_is_the_last));
    // The last step before the server can answer: from now on connections are for this process, too.
    let listener: TcpListener = server_starter::listen_or_bind("web", &address)?;
    let listener = UntilStop { listener, stopped: Box::pin(stop.requested()?) };
    server_starter::ready()?;

    let serving = axum::serve(listener, app).with_graceful_shutdown(later(GRACE, stop.requested()?));
    tokio::select! {
        result = serving.into_future() => Ok(result?),
        () = later(DEADLINE, stop.requested()?) => Err(format!("not all requests were done in {DEADLINE:?}").into()),
    }
}

async fn hello() -> String {
    let pid = std::process::id();
    match server_starter::generation() {
        Some(generation) => format!("generation {generation}, pid {pid}\n"),
        None => format!("alone, pid {pid}\n"),
    }
}

async fn slow() -> String {
    sleep(Duration::from_millis(300)).await;
    hello().await
}

/// After the stop, each answer is the last of its connection, and tells the client so: it sends no more requests there,
/// so none can be lost.
async fn say_when_it_is_the_last(State(stop): State<Stop>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if stop.is_requested() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

async fn later(time: Duration, event: impl Future<Output = ()>) {
    event.await;
    sleep(time).await;
}

/// A listener that accepts nothing any more when the process was told to stop.
struct UntilStop {
    listener: TcpListener,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Listener for UntilStop {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        tokio::select! {
            biased;
            () = &mut self.stopped => pending().await,
            accepted = Listener::accept(&mut self.listener) => accepted,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
