//! The server, replaced under load and stopped with a request under way: nothing may be lost.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test reports what fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use testkit::{Address, Deployment, Load, TempDir, exit_of, patience};

const PROGRAM: &str = env!("CARGO_BIN_EXE_example-unix-socket");

#[test]
fn replaced_under_start_server() {
    let deployment = Deployment::unix(PROGRAM);
    let client = |delay, request, keep| client(&deployment.address, delay, request, keep);
    let load = Load::new()
        .client("new", client(1, "new", false))
        .client("delayed", client(100, "delayed", false))
        .client("slow", client(1, "slow", false))
        .client("staying", client(1, "stay", true))
        .client("staying, with long pauses", client(250, "stay", true));
    deployment.replaced_under(load);
}

#[test]
fn stopped_alone_with_a_request_under_way() {
    let dir = TempDir::new();
    let address = Address::Unix(dir.path().join("alone.sock"));
    let status = exit_of(PROGRAM, &address, |terminate| {
        let slow = thread::spawn(client(&address, 0, "slow", false));
        // The request takes 300 ms: it is under way.
        thread::sleep(Duration::from_millis(100));
        terminate();
        assert!(slow.join().unwrap().unwrap().starts_with("alone: slow"));
    });
    assert_eq!(status.code(), Some(0));
}

#[test]
fn stopped_alone_beside_clients_that_say_nothing() {
    let dir = TempDir::new();
    let path = dir.path().join("alone.sock");
    let address = Address::Unix(path.clone());
    let mut clients = None;
    let status = exit_of(PROGRAM, &address, |terminate| {
        let mut idle = client(&address, 0, "stay", true);
        idle().unwrap();
        clients = Some((idle, UnixStream::connect(&path).unwrap()));
        terminate();
    });
    assert_eq!(status.code(), Some(0));
    drop(clients);
}

/// Connects if it has no connection, waits for `delay` milliseconds, and asks. It keeps the connection if it is to, until
/// it reads “bye”.
fn client(
    address: &Address,
    delay: u64,
    request: &'static str,
    keep: bool,
) -> impl FnMut() -> Result<String, String> + Send + use<> {
    let Address::Unix(path) = address.clone() else { panic!("no unix socket") };
    let mut kept = None;
    move || {
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => open(&path).map_err(|error| format!("connecting: {error}"))?,
        };
        thread::sleep(Duration::from_millis(delay));
        let answer = ask(&mut connection, request).map_err(|error| format!("asking: {error}"))?;
        if answer.is_empty() {
            return Err("asking: the connection was closed".to_owned());
        }
        if keep && !answer.ends_with(" bye\n") {
            kept = Some(connection);
        }
        Ok(answer)
    }
}

fn open(path: &Path) -> std::io::Result<BufReader<UnixStream>> {
    let connection = UnixStream::connect(path)?;
    connection.set_read_timeout(Some(patience()))?;
    Ok(BufReader::new(connection))
}

fn ask(connection: &mut BufReader<UnixStream>, request: &str) -> std::io::Result<String> {
    connection.get_mut().write_all(format!("{request}\n").as_bytes())?;
    let mut answer = String::new();
    connection.read_line(&mut answer)?;
    Ok(answer)
}
