//! Clients of every kind that keep asking a server while it is replaced, and the count of everything that came of it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::client::{Connection, Place};

/// A client rests so long after each answer: closed connections keep their port for a minute, and there are not so many.
const REST: Duration = Duration::from_millis(3);
/// Time between connecting and asking, of a client that is a round trip away.
const DELAY: Duration = Duration::from_millis(100);
/// Requests on one kept connection.
const KEPT: u32 = 100;

/// What is special about a request.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Class {
    /// The only one on its connection.
    New,
    /// The first one on a connection that is to be kept.
    KeepaliveFirst,
    /// A later one on a kept connection.
    KeepaliveReused,
    /// Takes a third of a second to answer: it is in flight when the old generation is told to go.
    Slow,
    /// Comes a tenth of a second after its connection.
    Delayed,
    /// A datagram.
    Datagram,
}

/// How a request is lost.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Loss {
    /// Nobody listened.
    Refused,
    /// The connection was broken before anything came.
    Reset,
    /// The connection was closed before anything came.
    Eof,
    /// Half an answer came.
    Partial,
    /// Nothing came in time.
    Timeout,
    /// An answer came, but one that says that the server failed.
    Wrong,
}

const CLASSES: [(Class, &str); 6] = [
    (Class::New, "new"),
    (Class::KeepaliveFirst, "keepalive-first"),
    (Class::KeepaliveReused, "keepalive-reused"),
    (Class::Slow, "slow"),
    (Class::Delayed, "delayed"),
    (Class::Datagram, "datagram"),
];

const LOSSES: [(Loss, &str); 6] = [
    (Loss::Refused, "refused"),
    (Loss::Reset, "reset"),
    (Loss::Eof, "eof"),
    (Loss::Partial, "partial"),
    (Loss::Timeout, "timeout"),
    (Loss::Wrong, "wrong"),
];

/// What came of the requests.
#[derive(Debug, Default)]
pub struct Count {
    /// Requests of each class, answered or not.
    pub requests: BTreeMap<Class, u64>,
    /// Requests that somebody would have missed.
    pub lost: BTreeMap<(Class, Loss), u64>,
    /// Requests on a kept connection that the server closed while they were on their way: HTTP lets it do so, and
    /// clients send such a request again.
    pub races: u64,
    /// Answers of each generation, where the server tells.
    pub generations: BTreeMap<u32, u64>,
    /// The time of each answer but those of slow requests, in microseconds.
    pub times: Vec<u32>,
    /// What exactly became of the first lost requests.
    pub examples: Vec<String>,
}

impl Count {
    /// All requests.
    pub fn total(&self) -> u64 {
        self.requests.values().sum()
    }

    /// All lost requests.
    pub fn lost(&self) -> u64 {
        self.lost.values().sum()
    }

    /// The time in microseconds within which this share of the answers came.
    pub fn time(&self, share: f64) -> u64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        let place = (times.len() as f64 * share) as usize;
        times.get(place.min(times.len().saturating_sub(1))).map_or(0, |time| u64::from(*time))
    }

    fn add(mut self, other: Self) -> Self {
        add(&mut self.requests, other.requests);
        add(&mut self.lost, other.lost);
        add(&mut self.generations, other.generations);
        self.races += other.races;
        self.times.extend(other.times);
        self.examples.extend(other.examples);
        self
    }
}

fn add<K: Ord>(sum: &mut BTreeMap<K, u64>, other: BTreeMap<K, u64>) {
    for (key, count) in other {
        *sum.entry(key).or_default() += count;
    }
}

/// Clients that are at it.
pub struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
    counts: Arc<Mutex<Vec<Count>>>,
}

impl Load {
    /// Sets the clients to work.
    pub fn on(place: &Place) -> Self {
        let classes: &[Class] = match place {
            Place::Datagrams(_) => &[Class::Datagram; 4],
            _ => &[
                Class::New,
                Class::New,
                Class::New,
                Class::KeepaliveFirst,
                Class::KeepaliveFirst,
                Class::Slow,
                Class::Delayed,
            ],
        };
        let mut load =
            Self { stop: Arc::default(), answered: Arc::default(), threads: Vec::new(), counts: Arc::default() };
        for class in classes.iter().copied() {
            let (stop, counts) = (Arc::clone(&load.stop), Arc::clone(&load.counts));
            let mut worker = Client {
                place: place.clone(),
                count: Count::default(),
                answered: Arc::clone(&load.answered),
                begun: Instant::now(),
            };
            load.threads.push(thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    match class {
                        Class::KeepaliveFirst | Class::KeepaliveReused => worker.keep_a_connection(&stop),
                        Class::Datagram => worker.send_datagrams(&stop),
                        _ => worker.connect_and_ask(class),
                    }
                }
                counts.lock().unwrap().push(worker.count);
            }));
        }
        load
    }

    /// Answers so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Lets the clients finish.
    pub fn stop(mut self) -> Count {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        self.counts.lock().unwrap().drain(..).fold(Count::default(), Count::add)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

struct Client {
    place: Place,
    count: Count,
    answered: Arc<AtomicU64>,
    begun: Instant,
}

impl Client {
    fn connect_and_ask(&mut self, class: Class) {
        let path = if class == Class::Slow { "/slow" } else { "/" };
        match self.connect(class) {
            Some(mut connection) => {
                if class == Class::Delayed {
                    thread::sleep(DELAY);
                }
                self.ask(&mut connection, class, path, true);
            }
            None => self.rest(),
        }
        self.rest();
    }

    fn keep_a_connection(&mut self, stop: &AtomicBool) {
        let Some(mut connection) = self.connect(Class::KeepaliveFirst) else { return self.rest() };
        for turn in 0..KEPT {
            let class = if turn == 0 { Class::KeepaliveFirst } else { Class::KeepaliveReused };
            // As every client does: a connection that is seen to be closed is not used again.
            if stop.load(Ordering::Relaxed) || turn > 0 && connection.is_closed() {
                return;
            }
            if !self.ask(&mut connection, class, "/", false) {
                return self.rest();
            }
            self.rest();
        }
    }

    fn send_datagrams(&mut self, stop: &AtomicBool) {
        let Some(mut connection) = self.connect(Class::Datagram) else { return self.rest() };
        while !stop.load(Ordering::Relaxed) {
            self.ask(&mut connection, Class::Datagram, "/", false);
            self.rest();
        }
    }

    fn connect(&mut self, class: Class) -> Option<Connection> {
        match self.place.connect() {
            Ok(connection) => Some(connection),
            Err((loss, detail)) => {
                *self.count.requests.entry(class).or_default() += 1;
                self.lose(class, loss, &detail);
                None
            }
        }
    }

    /// Sends one request; whether the connection can be used for another.
    fn ask(&mut self, connection: &mut Connection, class: Class, path: &str, last: bool) -> bool {
        *self.count.requests.entry(class).or_default() += 1;
        let begun = Instant::now();
        match connection.ask(path, last) {
            Ok(answer) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                if class != Class::Slow {
                    self.count.times.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
                }
                if let Some(generation) = generation(&answer.body) {
                    *self.count.generations.entry(generation).or_default() += 1;
                }
                answer.can_go_on
            }
            Err((Loss::Reset | Loss::Eof, _)) if class == Class::KeepaliveReused => {
                self.count.races += 1;
                false
            }
            Err((loss, detail)) => {
                self.lose(class, loss, &detail);
                false
            }
        }
    }

    fn lose(&mut self, class: Class, loss: Loss, detail: &str) {
        *self.count.lost.entry((class, loss)).or_default() += 1;
        if self.count.examples.len() < 3 {
            let after = self.begun.elapsed().as_secs_f64();
            self.count.examples.push(format!("after {after:.3} s, {class} {loss}: {detail}"));
        }
    }

    fn rest(&self) {
        thread::sleep(REST);
    }
}

/// What a server answers: `hello from generation 3, process 4711`.
fn generation(body: &str) -> Option<u32> {
    let (_, rest) = body.split_once("generation ")?;
    rest.split(|letter: char| !letter.is_ascii_digit()).next()?.parse().ok()
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(CLASSES.iter().find(|(class, _)| class == self).map_or("", |(_, name)| name))
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(LOSSES.iter().find(|(loss, _)| loss == self).map_or("", |(_, name)| name))
    }
}

impl FromStr for Class {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = CLASSES.iter().find(|(_, name)| *name == word);
        found.map(|(class, _)| *class).ok_or_else(|| format!("there is no request called “{word}”"))
    }
}

impl FromStr for Loss {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let found = LOSSES.iter().find(|(_, name)| *name == word);
        found.map(|(loss, _)| *loss).ok_or_else(|| format!("no request is lost by “{word}”"))
    }
}
