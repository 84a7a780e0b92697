//! `--status`: shows what a superdaemon is doing, to people or to programs.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use control::{Generation, Listener, Reply, Request, Role, Status};

use super::deadline::Deadline;
use super::reach::connect;
use super::{Ending, Failure, end};
use crate::config::StatusVerb;
use crate::messages::span;
use crate::printable::{printable, printable_json};

/// A superdaemon answers at once, or something is wrong.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the verb.
pub fn status(verb: &StatusVerb) -> ExitCode {
    end(try_status(verb))
}

fn try_status(verb: &StatusVerb) -> Result<Ending, Failure> {
    let deadline = Deadline::after(Some(PATIENCE));
    let connection = connect(&verb.target, deadline, "")?;
    match connection.ask(Request::Status, deadline, &mut |_| {})? {
        Reply::Status(status) if verb.serving => serving(&status),
        Reply::Status(status) => {
            let text = if verb.json { json(&status)? } else { describe(&status) };
            io::stdout()
                .write_all(text.as_bytes())
                .map_err(|error| Failure::new(Ending::Failed, format!("failed to print the status: {error}")))?;
            Ok(Ending::Done)
        }
        Reply::Error { reason } => Err(Failure::new(Ending::Failed, reason)),
        Reply::TimedOut { .. } => Err(Failure::new(Ending::TimedOut, "the superdaemon does not answer")),
        _ => Err(Failure::new(Ending::Failed, "the superdaemon gave an answer to another question")),
    }
}

/// Whether clients may be sent there.
fn serving(status: &Status) -> Result<Ending, Failure> {
    // Orphans serve before the first generation does, and a generation in its kill-old delay when the old one has died.
    let serves = |generation: &Generation| matches!(generation.role, Role::Current | Role::Soaking | Role::Waiting);
    if status.stopping {
        return Err(Failure::new(Ending::Failed, "not serving: the superdaemon is stopping"));
    }
    if status.generations.iter().any(serves) {
        return Ok(Ending::Done);
    }
    let why = status.last_failure.as_ref().map(|failure| format!("; last failure: {failure}")).unwrap_or_default();
    Err(Failure::new(Ending::Failed, format!("not serving: no generation is ready{why}")))
}

fn json(status: &Status) -> Result<String, Failure> {
    serde_json::to_string_pretty(status)
        .map(|text| printable_json(&text) + "\n")
        .map_err(|error| Failure::new(Ending::Failed, format!("failed to write the status as JSON: {error}")))
}

/// The status as a person reads it.
fn describe(status: &Status) -> String {
    let mut text = format!(
        "start_server {} (pid {}), running for {}{}\n  program: {}\n  ready rule: {}\n",
        printable(&status.program_version),
        status.pid,
        milliseconds(status.running_for_ms),
        if status.stopping { ", stopping" } else { "" },
        printable(&status.command.join(" ")),
        printable(&status.ready_rule),
    );
    text += &format!("  restarts: {}, failed attempts: {}\n", status.restarts, status.failures);
    if status.upgrades > 0 || status.crashes > 0 {
        text += &format!("  upgrades in place: {}, crashes survived: {}\n", status.upgrades, status.crashes);
    }
    if let (Some(failure), Some(ago)) = (&status.last_failure, status.last_failure_ago_ms) {
        text += &format!("  last failure: {}, {} ago\n", printable(failure), milliseconds(ago));
    }
    text += "generations:\n";
    if status.generations.is_empty() {
        text += "  none\n";
    }
    status.generations.iter().for_each(|generation| text += &describe_generation(generation));
    text += "listeners:\n";
    if status.listeners.is_empty() {
        text += "  none\n";
    }
    status.listeners.iter().for_each(|listener| text += &describe_listener(listener));
    text
}

fn describe_generation(generation: &Generation) -> String {
    let pids: Vec<String> = generation.pids.iter().map(ToString::to_string).collect();
    let role = match generation.role {
        Role::Starting => "starting",
        Role::Soaking => "ready, kill-old delay running",
        Role::Current => "current",
        Role::Waiting => "serving until it is replaced",
        Role::Draining => "draining",
        Role::Ending => "failed, being ended",
        Role::Stopping => "stopping",
    };
    let mut text = format!(
        "  {} (pid {}): {role}, spawned {} ago",
        generation.generation,
        pids.join(","),
        milliseconds(generation.spawned_ago_ms)
    );
    if let Some(ready) = generation.ready_ago_ms {
        let by = generation.ready_by.as_deref().unwrap_or("?");
        text += &format!(", ready for {} ({})", milliseconds(ready), printable(by));
    }
    if let Some(left) = generation.killed_in_ms {
        text += &format!(", killed in {}", milliseconds(left));
    }
    if let Some(status) = &generation.status {
        text += &format!(", says: {}", printable(status));
    }
    text + "\n"
}

fn describe_listener(listener: &Listener) -> String {
    let queue = match (listener.queued, listener.backlog) {
        (Some(queued), Some(backlog)) => format!(", {queued} of {backlog} connections wait"),
        _ => String::new(),
    };
    let Listener { name, kind, address, fd, .. } = listener;
    printable(&format!("  {name} ({kind} {address}) at descriptor {fd}{queue}")).into_owned() + "\n"
}

fn milliseconds(count: u64) -> String {
    span(Duration::from_millis(count))
}
