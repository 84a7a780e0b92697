//! `drill`: restarts a server under load, and tells what was lost, who lost it, and what to change.

mod cli;
mod clients;
mod diagnosis;
mod drilling;
mod facts;
mod launch;
mod report;
mod sample;
mod tally;
mod target;
mod verbs;
mod verdict;

use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;

use tokio::runtime::Builder;
use tokio::task::LocalSet;

use cli::{Asked, Plan};
use report::Report;

/// The command line cannot be followed.
const USAGE: u8 = 2;
/// There is nothing to drill.
const NOTHING: u8 = 5;

fn main() -> ExitCode {
    match cli::parse(std::env::args_os().skip(1)) {
        Ok(Asked::Text(text)) => print(&text).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS),
        Ok(Asked::Drill(plan)) => drill(&plan),
        Err(reason) => {
            say_aside(&format!("drill: {reason}\nTry drill --help"));
            ExitCode::from(USAGE)
        }
    }
}

fn drill(plan: &Plan) -> ExitCode {
    let result = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => LocalSet::new().block_on(&runtime, drilling::drill(plan)),
        Err(error) => Err(format!("the event loop cannot be set up: {error}")),
    };
    let drill = match result {
        Ok(drill) => drill,
        Err(reason) => {
            say_aside(&format!("drill: {reason}"));
            return ExitCode::from(NOTHING);
        }
    };
    let report = Report::new(plan, &drill);
    let text = if plan.json { report::json::render(&report) } else { report::text::render(&report) };
    let mut failed = print(&text).is_err();
    if let Some(path) = &plan.svg
        && let Err(error) = fs::write(path, report::svg::render(&report))
    {
        say_aside(&format!("drill: the picture {} cannot be written: {error}", path.display()));
        failed = true;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::from(report.verdict as u8) }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush())
}

/// A line for the user beside the report. If nobody reads it, the report still comes.
fn say_aside(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
