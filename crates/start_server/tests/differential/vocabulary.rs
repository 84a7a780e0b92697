//! The message lines of the original, in one table, and the reading of a log by it. Used by `transcript.rs`.
//!
//! Two runs never have the same PIDs, directories and ports, so a line is compared in a normal form: workers are `P1`,
//! `P2`, … in the order in which they were started, the superdaemon is `SELF`, and the place in the program that Perl
//! appends to its warnings is left out.

use crate::names::Names;

/// Every line that the original's superdaemon prints in operation. `{pid}` is a worker, `{pids}` a list of workers,
/// `{self}` the superdaemon, `{other}` the process of a verb, `{text}` whatever else varies.
const SUPERDAEMON: [&str; 31] = [
    "start_server (pid:{self}) starting now...",
    "stop_server (pid:{other}) stopping now (pid:{self})...",
    "socket is duplicated to file descriptor {text}",
    "removing existing socket file:{text}",
    "starting new worker {pid}",
    "new worker {pid} seems to have failed to start, exit status:{text}",
    "received HUP, spawning a new worker",
    "new worker is now running, sending {text} to old workers:{pids}",
    "sleeping {text} secs before killing old workers",
    "killing old workers",
    "old worker {pid} died, status:{text}",
    "worker {pid} died unexpectedly with status:{text}, restarting",
    "autorestart triggered (interval={text})",
    "autorestart triggered (forced, interval={text})",
    "received {text}, sending {text} to all workers:{pids}",
    "worker {pid} died, status:{text}",
    "exiting",
    "failed to resolve host:{text}",
    "failed to bind to {text}",
    "failed to listen to file {text}",
    "failed to open file:{text}",
    "failed to open log file:{text}",
    "failed to open pipe:{text}",
    "failed to send {text} to the server process:{text}",
    "invalid ``port'' value:{text}",
    "dup2(2) failed({text}",
    "server program not specified",
    "Unknown option: {text}",
    "Usage: --log-file option must be specified together with --deamonize",
    "--restart option requires --pid-file and --status-file to be set as well",
    "--stop option requires --pid-file to be set as well",
];

/// What a child prints that could not become the server program, and what the original's guards print in such a child
/// too. It races with what the parent prints.
const CHILDREN: [&str; 4] = [
    "Can't exec \"{text}\": {text}",
    "failed to exec {text}",
    "failed to chdir:{text}",
    "failed to unlink file:{text}",
];

/// Warnings of the Perl interpreter itself, and what the tests' own workers say.
const NOISE: [&str; 2] = ["Use of uninitialized value", "say:"];

/// A log, read.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Log {
    /// The lines of the superdaemon, in normal form and in order.
    pub superdaemon: Vec<String>,
    /// The lines of children that failed to become the program, in normal form.
    pub children: Vec<String>,
    /// Everything else, as it was.
    pub unknown: Vec<String>,
}

impl Log {
    /// Reads the text of a log.
    pub fn read(text: &str, names: &Names) -> Self {
        let mut log = Self::default();
        for line in text.lines().flat_map(unglue) {
            let line = without_place(line);
            if let Some(known) = SUPERDAEMON.iter().find_map(|template| normal_form(template, line, names)) {
                log.superdaemon.push(known);
            } else if let Some(known) = CHILDREN.iter().find_map(|template| normal_form(template, line, names)) {
                log.children.push(known);
            } else if !line.is_empty() && !NOISE.iter().any(|prefix| line.starts_with(prefix)) {
                log.unknown.push(names.in_text(line));
            }
        }
        sort_deaths(&mut log.superdaemon);
        log
    }
}

/// The PIDs of the workers in the order in which a log says that they were started.
pub fn workers_started(text: &str) -> Vec<u32> {
    let lines = text.lines().flat_map(unglue);
    lines.filter_map(|line| line.strip_prefix("starting new worker ")?.parse().ok()).collect()
}

/// Perl's `failed to exec …` has no end of line: what its parent says next is glued to it.
fn unglue(line: &str) -> Vec<&str> {
    let beginnings = [
        "starting new worker ",
        "new worker ",
        "received ",
        "old worker ",
        "worker ",
        "failed to exec ",
        "failed to unlink file:",
    ];
    if line.starts_with("failed to exec ")
        && let Some(at) = beginnings.iter().filter_map(|text| Some(line.get(1..)?.find(text)? + 1)).min()
    {
        let (glued, rest) = line.split_at(at);
        let mut lines = vec![glued];
        lines.extend(unglue(rest));
        return lines;
    }
    vec![line]
}

/// The line without Perl's ` at FILE line N.`
fn without_place(line: &str) -> &str {
    let stripped = || {
        let (line, number) = line.strip_suffix('.')?.rsplit_once(" line ")?;
        number.parse::<u32>().ok()?;
        Some(line.rsplit_once(" at ")?.0)
    };
    stripped().unwrap_or(line)
}

/// The line with its variable parts in normal form, if it fits the template.
fn normal_form(template: &str, line: &str, names: &Names) -> Option<String> {
    let mut pieces = template.split('{');
    let first = pieces.next().unwrap_or_default();
    let mut rest = line.strip_prefix(first)?;
    let mut form = first.to_owned();
    for piece in pieces {
        let (hole, literal) = piece.split_once('}')?;
        let end = if literal.is_empty() { rest.len() } else { rest.find(literal)? };
        let (value, after) = rest.split_at(end);
        form += &match hole {
            "pid" => names.worker(value.parse().ok()?),
            "pids" => pids(value, names)?,
            "self" => names.superdaemon(value.parse().ok()?),
            "other" => value.parse::<u32>().ok().map(|_| "OTHER".to_owned())?,
            _ => names.in_text(value),
        };
        form += literal;
        rest = after.strip_prefix(literal)?;
    }
    rest.is_empty().then_some(form)
}

/// A comma-separated list, in the order in which its workers were started: the original sorts PIDs as strings.
fn pids(list: &str, names: &Names) -> Option<String> {
    if list == "none" || list.is_empty() {
        return Some(list.to_owned());
    }
    let pids: Option<Vec<u32>> = list.split(',').map(|pid| pid.parse().ok()).collect();
    let mut pids = pids?;
    pids.sort_by_key(|pid| names.place(*pid));
    Some(pids.into_iter().map(|pid| names.worker(pid)).collect::<Vec<_>>().join(","))
}

/// In which order the kernel reports processes that die together is chance.
fn sort_deaths(lines: &mut [String]) {
    for run in lines.chunk_by_mut(|one, next| is_death(one) && is_death(next)) {
        run.sort();
    }
}

fn is_death(line: &str) -> bool {
    let line = line.strip_prefix("old ").unwrap_or(line);
    line.starts_with("worker ") && line.contains(" died, status:")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names { dir: "/tmp/here".to_owned(), ports: vec![20001], superdaemon: 50, workers: vec![9999, 10001] }
    }

    fn read(text: &str) -> Log {
        Log::read(text, &names())
    }

    #[test]
    fn processes_have_names() {
        let log =
            read("start_server (pid:50) starting now...\nstarting new worker 10001\nold worker 7 died, status:9\n");
        let form =
            ["start_server (pid:SELF) starting now...", "starting new worker P2", "old worker P? died, status:9"];
        assert_eq!(log.superdaemon, form);
    }

    #[test]
    fn lists_are_in_the_order_of_the_starts() {
        let log = read("received TERM, sending QUIT to all workers:10001,9999\n");
        assert_eq!(log.superdaemon, ["received TERM, sending QUIT to all workers:P1,P2"]);
        let log = read("new worker is now running, sending TERM to old workers:none\n");
        assert_eq!(log.superdaemon, ["new worker is now running, sending TERM to old workers:none"]);
    }

    #[test]
    fn places_in_the_program_are_left_out() {
        let log = read("removing existing socket file:/tmp/here/s at /usr/share/perl5/Server/Starter.pm line 166.\n");
        assert_eq!(log.superdaemon, ["removing existing socket file:DIR/s"]);
    }

    #[test]
    fn glued_lines_are_parted() {
        let log = read("failed to exec ./xNo such filestarting new worker 9999\nfailed to exec ./xfailed to exec ./y");
        assert_eq!(log.superdaemon, ["starting new worker P1"]);
        assert_eq!(log.children, ["failed to exec ./xNo such file", "failed to exec ./x", "failed to exec ./y"]);
        assert_eq!(workers_started("failed to exec ./xstarting new worker 9999\n"), [9999]);
    }

    #[test]
    fn what_is_not_of_the_vocabulary_is_kept_apart() {
        let log = read("starting new worker\nUse of uninitialized value $v in chomp\nexiting now\nexiting\n");
        assert_eq!(log.superdaemon, ["exiting"]);
        assert_eq!(log.unknown, ["starting new worker", "exiting now"]);
    }

    #[test]
    fn deaths_in_a_row_have_no_order() {
        let one = read("worker 9999 died, status:0\nworker 10001 died, status:0\nexiting\n");
        let other = read("worker 10001 died, status:0\nworker 9999 died, status:0\nexiting\n");
        assert_eq!(one, other);
    }
}
