//! A server on a unix socket, with tokio and a protocol of its own, which start_server can replace without losing a
//! request.
//!
//! A protocol needs a way to say “nothing more on this connection”: HTTP has `Connection: close`, HTTP/2 has GOAWAY.
//! In this one each line is a request, and each answer is a line that ends with ` bye` if it is the last.

// An example is a program of its own: it says what happens.
#![allow(clippy::print_stderr)]

use std::error::Error;
use std::io;
use std::time::Duration;

use server_starter::{Stop, signal};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// After the stop, a client has this time to send a request that may be on its way.
const GRACE: Duration = Duration::from_secs(1);
/// After the stop, everything must be done in this time.
const DEADLINE: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // Where to listen when nothing is inherited.
    let address = std::env::args().nth(1).unwrap_or_else(|| "/tmp/example.sock".to_owned());
    let listener: UnixListener = server_starter::listen_or_bind("app", &address)?;
    let stop = Stop::on(&[signal::SIGTERM, signal::SIGINT])?;
    let mut stopped = std::pin::pin!(stop.requested()?);
    let mut connections = JoinSet::new();
    server_starter::ready()?;

    loop {
        tokio::select! {
            // The stop first: a connection that is accepted after it is one that the next generation could have had.
            biased;
            () = &mut stopped => break,
            accepted = listener.accept() => match accepted {
                Ok((connection, _)) => drop(connections.spawn(serve(connection, stop.clone()))),
                Err(error) => {
                    eprintln!("failed to accept a connection: {error}");
                    // It is short of something, and will be so for a while.
                    sleep(Duration::from_millis(100)).await;
                }
            },
            // Those that are done are forgotten.
            Some(_) = connections.join_next() => {}
        }
    }

    server_starter::stopping()?;
    drop(listener);
    let all_done = async { while connections.join_next().await.is_some() {} };
    Ok(timeout(DEADLINE, all_done).await?)
}

/// Answers one line after the other, until the client has enough or the process is told to stop.
async fn serve(mut connection: UnixStream, stop: Stop) -> io::Result<()> {
    let (reader, mut writer) = connection.split();
    let mut lines = BufReader::new(reader).lines();
    let stopped = stop.requested()?;
    let mut out_of_grace = std::pin::pin!(async {
        stopped.await;
        sleep(GRACE).await;
    });
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line?,
            () = &mut out_of_grace => None,
        };
        let Some(line) = line else { return Ok(()) };
        if line == "slow" {
            sleep(Duration::from_millis(300)).await;
        }
        let who = server_starter::generation().map_or("alone".to_owned(), |number| format!("generation {number}"));
        // Asked as late as possible. A client that reads “bye” sends nothing more here, so nothing can be lost.
        let is_last = stop.is_requested();
        let end = if is_last { " bye" } else { "" };
        writer.write_all(format!("{who}: {line}{end}\n").as_bytes()).await?;
        if is_last {
            return Ok(());
        }
    }
}
