//! Shows in a few seconds what start_server is for: a server is replaced five times while a client asks it something
//! without a pause. Run by the first command of the README.

// An example is a program of its own: it prints, and may look into what it has just made.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::env;
use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

const RESTARTS: u32 = 5;
const PATIENCE: Duration = Duration::from_secs(20);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let examples = env::current_exe()?.parent().map(Path::to_owned).ok_or("where am I?")?;
    let start_server = examples.join("../start_server").canonicalize().map_err(
        |_| "start_server is not built; run: cargo build --release --bins --examples && target/release/examples/demo",
    )?;
    let pid_file = env::temp_dir().join(format!("start_server-demo-{}.pid", std::process::id()));

    println!("$ start_server --port=127.0.0.1:0 --pid-file={} -- example-threads", pid_file.display());
    let mut superdaemon = Command::new(&start_server)
        .args(["--port=127.0.0.1:0", &format!("--pid-file={}", pid_file.display()), "--"])
        .arg(examples.join("../example-threads"))
        .spawn()?;
    let outcome = play(&start_server, &pid_file, &superdaemon);
    kill_process(pid_of(&superdaemon)?, Signal::TERM)?;
    superdaemon.wait()?;

    let (answers, failures) = outcome?;
    println!();
    for (generation, count) in &answers {
        println!("{generation}: answered {count} requests");
    }
    println!("failed requests: {}", failures.len());
    failures.iter().take(3).for_each(|failure| println!("  {failure}"));
    if failures.is_empty() { Ok(()) } else { Err("requests were lost".into()) }
}

/// Restarts the server again and again under a client. Returns who answered how often, and what failed.
fn play(start_server: &Path, pid_file: &Path, superdaemon: &Child) -> Result<(BTreeMap<String, u32>, Vec<String>)> {
    let address = wait_for(|| address_of(start_server, pid_file))?;
    println!("listening on {address}");
    let stop = Arc::new(AtomicBool::new(false));
    let client = thread::spawn({
        let (address, stop) = (address.clone(), Arc::clone(&stop));
        move || {
            let (mut answers, mut failures) = (BTreeMap::new(), Vec::new());
            while !stop.load(Ordering::Relaxed) {
                match request(&address) {
                    Ok(generation) => *answers.entry(generation).or_default() += 1,
                    Err(error) => failures.push(error.to_string()),
                }
            }
            (answers, failures)
        }
    });
    for number in 2..=RESTARTS + 1 {
        println!("\n$ kill -HUP {}", superdaemon.id());
        kill_process(pid_of(superdaemon)?, Signal::HUP)?;
        let only_the_new_one = format!("generation {number}");
        let mut in_a_row = 0;
        wait_for(|| {
            in_a_row = if request(&address).is_ok_and(|who| who == only_the_new_one) { in_a_row + 1 } else { 0 };
            (in_a_row >= 20).then_some(())
        })?;
    }
    stop.store(true, Ordering::Relaxed);
    client.join().map_err(|_| "the client crashed".into())
}

/// One request on a connection of its own; the generation that answered.
fn request(address: &str) -> Result<String> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    connection.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let body = answer.split("\r\n\r\n").nth(1).ok_or("no answer")?;
    Ok(body.split(',').next().unwrap_or_default().to_owned())
}

/// Where the superdaemon listens, once it answers.
fn address_of(start_server: &Path, pid_file: &Path) -> Option<String> {
    let pid_file = format!("--pid-file={}", pid_file.display());
    let output = Command::new(start_server).args(["--status", "--json", &pid_file]).output().ok()?;
    let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(status["listeners"][0]["address"].as_str()?.to_owned())
}

fn wait_for<T>(mut happened: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(result) = happened() {
            return Ok(result);
        }
        if Instant::now() > deadline {
            return Err(format!("nothing happened within {PATIENCE:?}").into());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn pid_of(child: &Child) -> Result<Pid> {
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| "no process".into())
}
