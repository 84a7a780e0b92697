//! The arguments of `testserver`.

use std::collections::BTreeSet;
use std::time::Duration;

use testkit::signals;

/// What the program is asked to do. Times are in seconds, with fractions. Relative file names are relative to the
/// directory of the daemon under test, whatever the working directory.
pub struct Options {
    /// `--record=FILE`: a line for each event of its life is appended here. `%g` in the name is the generation.
    pub record: Option<String>,
    /// `--dump=FILE`: everything that it was given is written here before anything else is done. `%g` as above.
    pub dump: Option<String>,
    /// `--say=TEXT`: a line for standard error at the start.
    pub say: Option<String>,
    /// `--fail-if=FILE`: fail if FILE exists.
    pub fail_if: Option<String>,
    /// `--fail-generations=2,3`: fail if it is one of these generations.
    pub fail_generations: BTreeSet<u32>,
    /// `--fail-after=SECONDS`: fail not at once but then.
    pub fail_after: Duration,
    /// `--fail-status=N` (1 by default) or `--fail-signal=NAME`: how to fail.
    pub failing: Failing,
    /// `--ready-after=SECONDS`: begin to accept then.
    pub ready_after: Duration,
    /// `--exit-after=SECONDS`: exit then, counted from the start, as if told to, but without any drain.
    pub exit_after: Option<Duration>,
    /// `--exit-generations=2,3`: `--exit-after` is for these generations only.
    pub exit_generations: BTreeSet<u32>,
    /// `--graceful-on=TERM,…`: the signals that end it gracefully: TERM, INT and QUIT by default.
    pub graceful_on: BTreeSet<String>,
    /// `--ignore=TERM,…`: signals that it records and otherwise does not heed.
    pub ignore: BTreeSet<String>,
    /// `--drain=SECONDS`: how long a graceful end takes at least.
    pub drain: Duration,
    /// `--linger=SECONDS`: how long a connection that was answered, and on which nothing is asked, may hold up a graceful
    /// end; what is asked meanwhile is answered, and is the last.
    pub linger: Duration,
    /// `--exit=N`: the status of a graceful end.
    pub exit: i32,
    /// `--die-on-request`: every request makes it fail.
    pub die_on_request: bool,
}

/// How to fail.
#[derive(Clone, Copy)]
pub enum Failing {
    /// By this exit status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
}

impl Options {
    pub fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            record: None,
            dump: None,
            say: None,
            fail_if: None,
            fail_generations: BTreeSet::new(),
            fail_after: Duration::ZERO,
            failing: Failing::Exit(1),
            ready_after: Duration::ZERO,
            exit_after: None,
            exit_generations: BTreeSet::new(),
            graceful_on: ["TERM", "INT", "QUIT"].map(str::to_owned).into(),
            ignore: BTreeSet::new(),
            drain: Duration::ZERO,
            linger: Duration::ZERO,
            exit: 0,
            die_on_request: false,
        };
        for argument in arguments {
            options.set(&argument).ok_or_else(|| format!("cannot understand the argument {argument}"))?;
        }
        Ok(options)
    }

    /// Whether signal `name` ends the program gracefully.
    pub fn is_graceful(&self, name: &str) -> bool {
        self.graceful_on.contains(name) && !self.ignore.contains(name)
    }

    fn set(&mut self, argument: &str) -> Option<()> {
        if argument == "--die-on-request" {
            self.die_on_request = true;
            return Some(());
        }
        let (name, value) = argument.split_once('=')?;
        match name {
            "--record" => self.record = Some(value.to_owned()),
            "--dump" => self.dump = Some(value.to_owned()),
            "--say" => self.say = Some(value.to_owned()),
            "--fail-if" => self.fail_if = Some(value.to_owned()),
            "--fail-generations" => self.fail_generations = generations(value)?,
            "--fail-after" => self.fail_after = seconds(value)?,
            "--fail-status" => self.failing = Failing::Exit(value.parse().ok()?),
            "--fail-signal" => self.failing = Failing::Signal(signals::number(value)?),
            "--ready-after" => self.ready_after = seconds(value)?,
            "--exit-after" => self.exit_after = Some(seconds(value)?),
            "--exit-generations" => self.exit_generations = generations(value)?,
            "--graceful-on" => self.graceful_on = names(value),
            "--ignore" => self.ignore = names(value),
            "--drain" => self.drain = seconds(value)?,
            "--linger" => self.linger = seconds(value)?,
            "--exit" => self.exit = value.parse().ok()?,
            _ => return None,
        }
        Some(())
    }
}

fn generations(value: &str) -> Option<BTreeSet<u32>> {
    value.split(',').map(|word| word.parse().ok()).collect()
}

fn names(value: &str) -> BTreeSet<String> {
    value.split(',').map(str::to_owned).collect()
}

fn seconds(value: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(value.parse().ok()?).ok()
}
