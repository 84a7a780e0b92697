//! An HTTP server with actix-web, which start_server can replace without losing a request.
//!
//! What actix-web calls a graceful stop drops connections that were accepted but not begun. Here the server accepts
//! nothing for a while first, and its connections get a last answer.

use std::error::Error;
use std::net::TcpListener;
use std::time::Duration;

use actix_web::dev::Service;
use actix_web::http::header::{CONNECTION, HeaderValue};
use actix_web::rt::time::sleep;
use actix_web::{App, HttpServer, get};
use server_starter::{Stop, signal};

/// After the stop, a client has this time to send a request that may be on its way.
const GRACE: Duration = Duration::from_secs(1);
/// After the grace, everything must be done in this time.
const DEADLINE: Duration = Duration::from_secs(20);

#[actix_web::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Where to listen when nothing is inherited.
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let stop = Stop::on(&[signal::SIGTERM, signal::SIGINT])?;
    let stopped = stop.requested()?;
    let server = HttpServer::new(move || {
        let stop = stop.clone();
        // After the stop, each answer is the last of its connection, and tells the client so: it sends no more
        // requests there, so none can be lost.
        let app = App::new().wrap_fn(move |request, service| {
            let (stop, answer) = (stop.clone(), service.call(request));
            async move {
                let mut answer = answer.await?;
                if stop.is_requested() {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    answer.response_mut().head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
                }
                Ok(answer)
            }
        });
        app.service(hello).service(slow)
    });
    // actix-web makes the listener non-blocking by itself.
    let listener: TcpListener = server_starter::listen_or_bind("web", &address)?;
    let server = server.workers(2).disable_signals().shutdown_timeout(DEADLINE.as_secs()).listen(listener)?.run();
    let handle = server.handle();
    actix_web::rt::spawn(async move {
        stopped.await;
        handle.pause().await;
        sleep(GRACE).await;
        handle.stop(true).await;
    });
    server_starter::ready()?;
    Ok(server.await?)
}

#[get("/")]
async fn hello() -> String {
    who()
}

fn who() -> String {
    let pid = std::process::id();
    match server_starter::generation() {
        Some(generation) => format!("generation {generation}, pid {pid}\n"),
        None => format!("alone, pid {pid}\n"),
    }
}

#[get("/slow")]
async fn slow() -> String {
    sleep(Duration::from_millis(300)).await;
    who()
}
