//! What a run has measured, in the file `servers/figures.json`: written by the long run, read for the document.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use crate::load::{Class, Count, Loss};
use crate::recipe::{self, Recipe};

/// The measurements of one server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Figures {
    /// The command that was measured.
    pub command: String,
    pub version: String,
    pub restarts: u64,
    pub requests: u64,
    /// Lost requests by kind, as in `2 new reset`.
    pub lost: String,
    /// Requests on kept connections that met their end.
    pub races: u64,
    /// Milliseconds from the start to the first answer.
    pub first_answer: u64,
    /// Milliseconds from the request for a restart until the old generation had gone: the median.
    pub restart: u64,
    /// Microseconds within which half of all answers came, and 99 %, and the slowest one.
    pub answers: [u64; 3],
}

impl Figures {
    /// Of this recipe and version of its server: the time until the first answer, that of each restart, and what the
    /// clients have counted.
    pub fn new(recipe: &Recipe, version: String, first: Duration, times: &[Duration], count: &Count) -> Self {
        let restarts = times.len() as u64;
        let mut times = times.to_vec();
        times.sort_unstable();
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        Self {
            command: recipe.command.clone(),
            version,
            restarts,
            requests: count.total(),
            lost: ways(&count.lost),
            races: count.races,
            first_answer: milliseconds(first),
            restart: milliseconds(median),
            answers: [0.5, 0.99, 1.0].map(|share| count.time(share)),
        }
    }

    fn parse(value: &Value) -> Option<Self> {
        let number = |key: &str| value.get(key)?.as_u64();
        let text = |key: &str| Some(value.get(key)?.as_str()?.to_owned());
        Some(Self {
            command: text("command")?,
            version: text("version")?,
            restarts: number("restarts")?,
            requests: number("requests")?,
            lost: text("lost")?,
            races: number("races")?,
            first_answer: number("first_answer_ms")?,
            restart: number("restart_ms")?,
            answers: [number("answer_p50_us")?, number("answer_p99_us")?, number("answer_max_us")?],
        })
    }

    fn to_json(&self) -> Value {
        let [half, most, all] = self.answers;
        json!({
            "command": self.command,
            "version": self.version,
            "restarts": self.restarts,
            "requests": self.requests,
            "lost": self.lost,
            "races": self.races,
            "first_answer_ms": self.first_answer,
            "restart_ms": self.restart,
            "answer_p50_us": half,
            "answer_p99_us": most,
            "answer_max_us": all,
        })
    }
}

/// Lost requests in words: `none`, or `2 new reset, 1 slow eof`.
pub fn ways(lost: &BTreeMap<(Class, Loss), u64>) -> String {
    let ways: Vec<String> = lost.iter().map(|((class, loss), count)| format!("{count} {class} {loss}")).collect();
    if ways.is_empty() { "none".to_owned() } else { ways.join(", ") }
}

/// The figures of this recipe, if it was measured as it is now.
pub fn of(recipe: &Recipe) -> Option<Figures> {
    let value = values().remove(&recipe.name)?;
    let figures = Figures::parse(&value).expect("these are no figures");
    (figures.command == recipe.command).then_some(figures)
}

/// Puts the figures of one server in the place of its former ones, if figures are to be written.
pub fn record(name: &str, figures: &Figures) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    if std::env::var_os("SERVERS_WRITE").is_none() {
        return;
    }
    let _lock = ONE_AT_A_TIME.lock();
    let mut values = values();
    values.insert(name.to_owned(), figures.to_json());
    fs::write(file(), serde_json::to_string_pretty(&values).unwrap() + "\n").unwrap();
}

fn values() -> BTreeMap<String, Value> {
    let text = fs::read_to_string(file()).unwrap_or_else(|_| "{}".to_owned());
    serde_json::from_str(&text).expect("servers/figures.json is no JSON")
}

fn file() -> PathBuf {
    recipe::folder().join("figures.json")
}
