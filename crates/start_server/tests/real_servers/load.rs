//! Clients that keep asking while a server is replaced, each request on a new connection, and the count of everything
//! that can happen to a request.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use testkit::{Address, Failure, get};

/// What came of the requests.
#[derive(Debug, Default)]
pub struct Outcome {
    pub answered: u64,
    /// Nobody listened.
    pub refused: u64,
    /// The connection was broken.
    pub reset: u64,
    /// The connection was closed without a word.
    pub eof: u64,
    pub timeout: u64,
    /// Half an answer, or one that is none.
    pub wrong: u64,
    /// The longest time that a request took.
    pub slowest: Duration,
    /// The longest time that the machine kept a thread waiting that only wanted to go on: the servers fare no better.
    pub stall: Duration,
    /// How many requests each generation answered.
    pub generations: BTreeMap<u32, u64>,
}

impl Outcome {
    pub fn failed(&self) -> u64 {
        self.refused + self.reset + self.eof + self.timeout + self.wrong
    }

    fn ask(&mut self, address: &Address) {
        let begun = Instant::now();
        match get(address, "/") {
            Ok(reply) => {
                self.answered += 1;
                *self.generations.entry(reply.generation).or_default() += 1;
            }
            Err(Failure::Refused(_)) => self.refused += 1,
            Err(Failure::Reset(error)) if error.kind() == ErrorKind::UnexpectedEof => self.eof += 1,
            Err(Failure::Reset(_)) => self.reset += 1,
            Err(Failure::Timeout(_)) => self.timeout += 1,
            Err(Failure::Wrong(_)) => self.wrong += 1,
        }
        self.slowest = self.slowest.max(begun.elapsed());
    }

    fn add(mut self, other: Self) -> Self {
        self.answered += other.answered;
        self.refused += other.refused;
        self.reset += other.reset;
        self.eof += other.eof;
        self.timeout += other.timeout;
        self.wrong += other.wrong;
        self.slowest = self.slowest.max(other.slowest);
        self.stall = self.stall.max(other.stall);
        for (generation, count) in other.generations {
            *self.generations.entry(generation).or_default() += count;
        }
        self
    }
}

/// Clients that are at it.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Outcome>>,
}

impl Load {
    /// Sets two clients to work, and somebody who only watches the clock.
    pub fn on(address: &Address) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let client = || {
            let (told, address) = (Arc::clone(&stop), address.clone());
            thread::spawn(move || {
                let mut outcome = Outcome::default();
                while !told.load(Ordering::Relaxed) {
                    outcome.ask(&address);
                    // A closed connection keeps its port for a minute, and there are not so many.
                    thread::sleep(Duration::from_millis(1));
                }
                outcome
            })
        };
        let told = Arc::clone(&stop);
        let bystander = move || {
            let mut outcome = Outcome::default();
            while !told.load(Ordering::Relaxed) {
                let begun = Instant::now();
                thread::sleep(Duration::from_millis(1));
                outcome.stall = outcome.stall.max(begun.elapsed());
            }
            outcome
        };
        Self { threads: vec![client(), client(), thread::spawn(bystander)], stop }
    }

    /// Lets the clients finish.
    pub fn stop(mut self) -> Outcome {
        self.stop.store(true, Ordering::Relaxed);
        let outcomes = self.threads.drain(..).map(|thread| thread.join().unwrap());
        outcomes.fold(Outcome::default(), Outcome::add)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
