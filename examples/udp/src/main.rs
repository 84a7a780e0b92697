//! A UDP server that start_server can replace without losing a datagram: it answers each with what was sent, and who
//! answers.

use std::error::Error;
use std::net::UdpSocket;

use server_starter::{Stop, signal};

fn main() -> Result<(), Box<dyn Error>> {
    // Where to listen when nothing is inherited.
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let socket: UdpSocket = server_starter::listen_or_bind("echo", &address)?;
    let stop = Stop::on(&[signal::SIGTERM, signal::SIGINT])?;
    let who = server_starter::generation().map_or("alone".to_owned(), |number| format!("generation {number}"));
    server_starter::ready()?;

    let mut buffer = [0; 65536];
    // A datagram that was received is answered before the next look at the stop. Those that were not stay in the
    // socket, where the next generation finds them.
    while let Some((length, client)) = stop.recv_from(&socket, &mut buffer)? {
        let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        // The client may be gone, or unreachable: that must not end the server.
        let _ = socket.send_to(format!("{who}: {text}").as_bytes(), client);
    }
    server_starter::stopping()?;
    Ok(())
}
