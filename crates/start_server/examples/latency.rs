//! Measures how fast a superdaemon is, over many restarts: from HUP to the first instruction of the new worker's `main`,
//! and from the word that it is ready to the old worker's TERM. What the machine itself needs to execute a program and to
//! come to its `main` is measured with it, in turns: it is most of the first, is not the superdaemon's, and differs with
//! the load. Run by `bench/latency.sh`; it is its own server program.
//!
//! Usage: `latency START_SERVER [RESTARTS]`. All times are of CLOCK_MONOTONIC, which all processes share.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that prints what it measured")]

use std::error::Error;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::time::{ClockId, clock_gettime};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Where the server program sends its stamps, in its environment.
const STAMPS: &str = "LATENCY_STAMPS";
/// Set for a program that only executes itself once more: empty, and then the time of that.
const EXECUTES: &str = "LATENCY_EXECUTES";
/// What it calls its stamps.
const MAIN: &str = "main";
const READY: &str = "ready";
const TERM: &str = "term";
const EXECUTED: &str = "executed";

const RESTARTS: usize = 200;
/// Between two restarts everything comes to rest.
const REST: Duration = Duration::from_millis(10);
/// Nothing takes so long; whoever is not heard by then is not heard at all.
const PATIENCE: Duration = Duration::from_secs(10);

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    // First of all, in case this is the server program.
    let begun = now();
    let result = match std::env::var(STAMPS) {
        Ok(address) => serve(begun, &address),
        Err(_) => measure(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("latency: {error}");
            ExitCode::FAILURE
        }
    }
}

fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec * 1_000_000_000 + time.tv_nsec).unwrap_or(0)
}

/// Being the server program: says when it began, that it is ready, and when it was told to go.
fn serve(begun: u64, address: &str) -> Result<()> {
    let stamps = UnixDatagram::unbound()?;
    stamps.connect_addr(&SocketAddr::from_abstract_name(address)?)?;
    let stamp = |what: &str, at: u64| stamps.send(format!("{what} {at}").as_bytes());
    if let Ok(executed) = std::env::var(EXECUTES) {
        return match executed.parse::<u64>() {
            Ok(executed) => Ok(stamp(EXECUTED, begun.saturating_sub(executed)).map(drop)?),
            Err(_) => Err(Command::new(std::env::current_exe()?).env(EXECUTES, now().to_string()).exec().into()),
        };
    }
    stamp(MAIN, begun)?;
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let supervisor = UnixDatagram::unbound()?;
    let name = std::env::var("NOTIFY_SOCKET")?;
    supervisor.connect_addr(&SocketAddr::from_abstract_name(name.trim_start_matches('@'))?)?;
    let ready = now();
    supervisor.send(b"READY=1")?;
    stamp(READY, ready)?;
    if signals.forever().next().is_some() {
        let told = now();
        // The measurement may be over.
        let _ = stamp(TERM, told);
    }
    Ok(())
}

/// Being the measurement.
fn measure() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let start_server = arguments.next().ok_or("the path of start_server is needed")?;
    let restarts = arguments.next().map_or(Ok(RESTARTS), |text| text.parse())?;
    let address = format!("latency/{}", std::process::id());
    let stamps = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&address)?)?;
    stamps.set_read_timeout(Some(PATIENCE))?;
    let superdaemon = Superdaemon::start(Path::new(&start_server), &address)?;
    wait(&stamps, MAIN)?;
    wait(&stamps, READY)?;
    let mut to_main = Vec::new();
    let mut until_main = Vec::new();
    let mut until_term = Vec::new();
    for _ in 0..restarts {
        thread::sleep(REST);
        let mut program = Command::new(std::env::current_exe()?).env(STAMPS, &address).env(EXECUTES, "").spawn()?;
        to_main.push(wait(&stamps, EXECUTED)?);
        program.wait()?;
        thread::sleep(REST);
        let asked = now();
        superdaemon.signal(Signal::HUP)?;
        let begun = wait(&stamps, MAIN)?;
        let ready = wait(&stamps, READY)?;
        let told = wait(&stamps, TERM)?;
        until_main.push(begun.checked_sub(asked).ok_or("the new worker began before it was asked for")?);
        until_term.push(told.checked_sub(ready).ok_or("the old worker was told before the new one was ready")?);
    }
    let to_exec = median(&mut until_main) - median(&mut to_main);
    println!("{restarts} restarts, in milliseconds                    median    95 %     max");
    println!("HUP to the first instruction of the new main    {}", summary(&mut until_main));
    println!("    of that, exec to main, as measured alone    {}", summary(&mut to_main));
    println!("    of that, HUP to exec: the difference        {to_exec:7.3}");
    println!("ready (told by notify) to the old one's TERM    {}", summary(&mut until_term));
    Ok(())
}

/// Waits for a stamp, and gives its time. The old worker's TERM may overtake the new one's word that it was ready.
fn wait(stamps: &UnixDatagram, wanted: &str) -> Result<u64> {
    thread_local! {
        static EARLY: std::cell::RefCell<Vec<(String, u64)>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    let early = EARLY.with_borrow_mut(|early| {
        let at = early.iter().position(|(what, _)| what == wanted)?;
        Some(early.remove(at).1)
    });
    if let Some(at) = early {
        return Ok(at);
    }
    loop {
        let mut buffer = [0; 64];
        let length = stamps.recv(&mut buffer).map_err(|error| format!("no word of “{wanted}”: {error}"))?;
        let text = std::str::from_utf8(buffer.get(..length).unwrap_or_default())?;
        let (what, at) = text.split_once(' ').ok_or("a stamp is not understood")?;
        let at = at.parse()?;
        if what == wanted {
            return Ok(at);
        }
        EARLY.with_borrow_mut(|early| early.push((what.to_owned(), at)));
    }
}

fn summary(nanoseconds: &mut [u64]) -> String {
    format!("{:7.3} {:7.3} {:7.3}", median(nanoseconds), percentile(nanoseconds, 95), percentile(nanoseconds, 100))
}

fn median(nanoseconds: &mut [u64]) -> f64 {
    percentile(nanoseconds, 50)
}

/// In milliseconds.
fn percentile(nanoseconds: &mut [u64], percent: usize) -> f64 {
    nanoseconds.sort_unstable();
    let index = nanoseconds.len().saturating_sub(1) * percent / 100;
    Duration::from_nanos(nanoseconds.get(index).copied().unwrap_or(0)).as_secs_f64() * 1000.0
}

/// The superdaemon that is measured, ended with the value.
struct Superdaemon(Child);

impl Superdaemon {
    fn start(program: &Path, stamps: &str) -> Result<Self> {
        let mut command = Command::new(program);
        command.args(["--ready=notify", "--port=127.0.0.1:0", "--"]).arg(std::env::current_exe()?);
        let log = std::env::temp_dir().join(format!("latency-{}.log", std::process::id()));
        let file = std::fs::File::create(&log)?;
        // What it writes is part of the measurement, but not worth keeping.
        std::fs::remove_file(&log)?;
        Ok(Self(command.env(STAMPS, stamps).stderr(file).spawn()?))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process(Pid::from_child(&self.0), signal)?)
    }
}

impl Drop for Superdaemon {
    fn drop(&mut self) {
        let _ = self.signal(Signal::TERM);
        let _ = self.0.wait();
    }
}
