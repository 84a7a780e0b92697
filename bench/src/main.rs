//! The benchmark: measures start_server beside its peers in one run, and makes docs/benchmarks.md out of the data.
//! `bench/run` installs, builds, measures and reports in one go.

mod candidates;
mod clock;
mod load;
mod measure;
mod process;
mod record;
mod report;
mod running;
mod samples;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Measures start_server beside its peers
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Measure, and write the raw data
    Measure(Measure),
    /// Make the page, its pictures and the README's figures out of the raw data
    Report {
        /// The raw data
        #[arg(long, default_value = "docs/benchmarks/data.jsonl")]
        data: PathBuf,
        /// The page
        #[arg(long, default_value = "docs/benchmarks.md")]
        out: PathBuf,
    },
}

#[derive(Args, Debug)]
struct Measure {
    /// This project
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// Our superdaemon
    #[arg(long)]
    ours: PathBuf,
    /// The directory with `floor` and `server`
    #[arg(long)]
    compiled: PathBuf,
    /// The directory that the candidates were installed to
    #[arg(long, default_value = "bench/.installed")]
    tools: PathBuf,
    /// Where the raw data go
    #[arg(long, default_value = "docs/benchmarks/data.jsonl")]
    data: PathBuf,
    /// How often everything is measured
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// Fewer of everything
    #[arg(long)]
    quick: bool,
    /// Only these candidates, or CANDIDATE/MODE
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these: timing, load, growth, slow, footprint
    #[arg(long, value_delimiter = ',')]
    measures: Vec<String>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Report { data, out } => report::write(&data, &out),
        Verb::Measure(measure) => measure.run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            complain(&why);
            ExitCode::FAILURE
        }
    }
}

impl Measure {
    fn run(self) -> Result<(), String> {
        let absolute = |path: PathBuf| {
            std::path::absolute(&path).map_err(|error| format!("{} is no path: {error}", path.display()))
        };
        let programs = running::Programs {
            root: absolute(self.root)?,
            ours: absolute(self.ours)?,
            compiled: absolute(self.compiled)?,
            tools: absolute(self.tools)?,
        };
        let Self { data, rounds, quick, only, measures, .. } = self;
        measure::run(&measure::Plan { programs, data, rounds, quick, only, measures })
    }
}

#[expect(clippy::print_stderr, reason = "errors go to the person who runs it")]
fn complain(why: &str) {
    eprintln!("bench: {why}");
}
