//! Reads the command line: words → one typed [`Plan`] that says what to do. Nothing here touches the world.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Parser, error::ErrorKind};

use crate::clients::Protocol;
use crate::sample::Kind;
use crate::target::{Address, Page, Place, unescape};

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The address as typed, for reports.
    pub address: String,
    /// Where to connect.
    pub place: Place,
    /// Whether that may be outside this machine.
    pub anywhere: bool,
    /// What to say there.
    pub protocol: Protocol,
    /// What the slow clients say.
    pub slow: Option<Protocol>,
    /// Clients by kind.
    pub clients: Vec<(Kind, u32)>,
    /// How to restart.
    pub means: Means,
    /// The superdaemon to start, and its arguments.
    pub launch: Option<Vec<OsString>>,
    /// `start_server`, if it is not the usual one.
    pub start_server: Option<PathBuf>,
    /// How often to restart.
    pub restarts: u32,
    /// Requests a second, of the clients that do not wait.
    pub rate: u32,
    /// Requests at most.
    pub requests: usize,
    /// Time for everything.
    pub duration: Duration,
    /// Time for a request.
    pub timeout: Duration,
    /// Time for a restart.
    pub restart_timeout: Duration,
    /// Calm before, between and after the restarts.
    pub pause: Duration,
    /// How long a delayed client waits.
    pub delay: Duration,
    /// How long after the commit the other half of a held request is sent; without a commit to be seen, how long after
    /// the restart was asked for.
    pub hold: Option<Duration>,
    /// Whether the report is JSON.
    pub json: bool,
    /// Where to put the picture.
    pub svg: Option<PathBuf>,
    /// Whether nothing is said on the way.
    pub quiet: bool,
}

/// How to restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Means {
    /// By `start_server --restart` with these options, which name a running superdaemon.
    Verb(Vec<OsString>),
    /// As before, for the superdaemon that the drill itself starts.
    VerbForOwn,
    /// By a command of the shell.
    Command(String),
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A drill.
    Drill(Box<Plan>),
    /// A text: the help or the version.
    Text(String),
}

/// Restarts a server under load, and tells what was lost and why.
///
/// Requests are sent to ADDRESS while the server program behind it is restarted again and again: by clients
/// with a new connection for each request, by clients that keep theirs, by clients that are a round trip away,
/// and by clients that hold half a request across the restart. Then it says how many were lost, how, whether
/// the server program or the superdaemon lost them, and what usually helps.
///
/// The superdaemon is named by --pid-file, --control-socket or --pid, or started by the words after --, as in
///
///     drill http://127.0.0.1:8080/ -- start_server --port=127.0.0.1:8080 -- ./server
///
/// Exit status:
///   0  nothing was lost
///   1  something was lost
///   2  the command line cannot be followed
///   3  nothing was lost, but a restart failed or did not end
///   4  nothing was lost, but not all restarts were done
///   5  nothing to drill: no superdaemon, or no right answer to begin with
#[derive(Debug, Parser)]
#[command(
    name = "drill",
    version,
    verbatim_doc_comment,
    max_term_width = 100,
    override_usage = "drill [OPTIONS] ADDRESS --pid-file=FILE\n       \
                      drill [OPTIONS] ADDRESS -- start_server [OPTIONS] -- PROGRAM [ARGUMENTS]"
)]
struct Options {
    // No doc comment: rustdoc would take the brackets for links.
    #[arg(value_name = "ADDRESS", help = "http://HOST[:PORT][/PATH], tcp:HOST:PORT, unix:PATH or unix:@NAME")]
    address: String,
    /// Ask for the page of the URL at this unix socket (@NAME: abstract)
    #[arg(long, value_name = "PATH")]
    unix: Option<String>,
    /// tcp: and unix: the bytes to send, with \r \n \t \0 \\ \xHH
    #[arg(long, value_name = "TEXT")]
    send: Option<String>,
    /// tcp: and unix: what must stand in the answer; any answer will do without
    #[arg(long, value_name = "TEXT")]
    expect: Option<String>,
    /// Send load to other machines, too
    #[arg(long)]
    anywhere: bool,

    /// PID file of the running superdaemon
    #[arg(long, value_name = "FILE", help_heading = "Superdaemon")]
    pid_file: Option<PathBuf>,
    /// Its status file; needed for one of Server::Starter
    #[arg(long, value_name = "FILE", help_heading = "Superdaemon")]
    status_file: Option<PathBuf>,
    /// Its control socket, if it was started with one
    #[arg(long, value_name = "PATH", help_heading = "Superdaemon")]
    control_socket: Option<PathBuf>,
    /// Its process
    #[arg(long, value_name = "PID", help_heading = "Superdaemon")]
    pid: Option<u32>,
    /// Restart by this command of the shell instead, whatever does it
    #[arg(long, value_name = "COMMAND", help_heading = "Superdaemon")]
    with: Option<String>,
    /// The program start_server [default: the one beside drill, or in PATH]
    #[arg(long, value_name = "PATH", help_heading = "Superdaemon")]
    start_server: Option<PathBuf>,

    /// How often to restart
    #[arg(long, value_name = "N", default_value = "5", value_parser = within(0, 1000), help_heading = "Load")]
    restarts: u64,
    /// Clients of each kind
    #[arg(long, value_name = "N", default_value = "2", value_parser = within(1, 200), help_heading = "Load")]
    clients: u64,
    /// Kinds of clients: new, keep-alive, delayed, held
    #[arg(
        long,
        value_name = "LIST",
        default_value = "new,keep-alive,delayed,held",
        value_delimiter = ',',
        value_parser = kind,
        help_heading = "Load"
    )]
    kinds: Vec<Kind>,
    /// Add clients that ask for this path, which takes the server long
    #[arg(long, value_name = "PATH", help_heading = "Load")]
    slow_path: Option<String>,
    /// Requests a second of the clients new, keep-alive and delayed together
    #[arg(long, value_name = "N", default_value = "200", value_parser = within(1, 20_000), help_heading = "Load")]
    rate: u64,
    /// Requests at most
    #[arg(long, value_name = "N", default_value = "100000", value_parser = within(1, 1_000_000), help_heading = "Load")]
    requests: u64,
    /// Time for everything
    #[arg(long, value_name = "TIME", default_value = "5m", value_parser = up_to_a_day, help_heading = "Load")]
    duration: Duration,
    /// Time for a request
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = up_to_a_day, help_heading = "Load")]
    timeout: Duration,
    /// Time for a restart, until only the new generation is left
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = up_to_a_day, help_heading = "Load")]
    restart_timeout: Duration,
    /// Calm before, between and after the restarts
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = up_to_a_day, help_heading = "Load")]
    pause: Duration,
    /// How far away the delayed clients are
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = up_to_a_day, help_heading = "Load")]
    delay: Duration,
    /// How long after the commit held requests go on [default: 500ms; without a commit to be seen: 2s]
    #[arg(long, value_name = "TIME", value_parser = up_to_a_day, help_heading = "Load")]
    hold: Option<Duration>,

    /// Report as JSON
    #[arg(long, help_heading = "Report")]
    json: bool,
    /// Draw a picture of the latencies into this file
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    svg: Option<PathBuf>,
    /// Say nothing but the report
    #[arg(long, help_heading = "Report")]
    quiet: bool,

    /// A superdaemon to start for the drill
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Reads a command line, less its first word.
///
/// # Errors
///
/// It cannot be followed; the error says why, for people.
pub fn parse(words: impl Iterator<Item = OsString>) -> Result<Asked, String> {
    let words = std::iter::once(OsString::from("drill")).chain(words);
    match Options::try_parse_from(words) {
        Ok(options) => plan(options).map(|plan| Asked::Drill(Box::new(plan))),
        Err(error) => match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(Asked::Text(error.to_string())),
            _ => Err(error.to_string().trim_start_matches("error: ").trim_end().to_owned()),
        },
    }
}

fn plan(options: Options) -> Result<Plan, String> {
    let mut address = Address::parse(&options.address)?;
    if let Some(path) = &options.unix {
        address = address.over_unix(path)?;
    }
    let slow_path = options.slow_path.as_deref();
    let (protocol, slow) = protocols(address.page, options.send.as_deref(), options.expect.as_deref(), slow_path)?;
    let mut kinds = options.kinds;
    kinds.sort_unstable();
    kinds.dedup();
    if matches!(&protocol, Protocol::Raw { send, .. } if send.len() < 2) {
        // There is no half of it that could be held.
        kinds.retain(|kind| *kind != Kind::Held);
    }
    if slow.is_some() {
        kinds.push(Kind::Slow);
    }
    if kinds.is_empty() {
        return Err("there is no client left: half of less than two bytes cannot be held".to_owned());
    }
    let clients = narrow(options.clients);
    Ok(Plan {
        means: means(
            options.with,
            options.pid_file,
            options.status_file,
            options.control_socket,
            options.pid,
            &options.command,
        )?,
        address: options.address,
        place: address.place,
        anywhere: options.anywhere,
        protocol,
        slow,
        clients: kinds.into_iter().map(|kind| (kind, clients)).collect(),
        launch: (!options.command.is_empty()).then_some(options.command),
        start_server: options.start_server,
        restarts: narrow(options.restarts),
        rate: narrow(options.rate),
        requests: usize::try_from(options.requests).unwrap_or(usize::MAX),
        duration: options.duration,
        timeout: options.timeout,
        restart_timeout: options.restart_timeout,
        pause: options.pause,
        delay: options.delay,
        hold: options.hold,
        json: options.json,
        svg: options.svg,
        quiet: options.quiet,
    })
}

/// What the clients say, and what the slow ones do.
fn protocols(
    page: Option<Page>,
    send: Option<&str>,
    expect: Option<&str>,
    slow_path: Option<&str>,
) -> Result<(Protocol, Option<Protocol>), String> {
    match page {
        Some(page) => {
            if send.is_some() || expect.is_some() {
                return Err("--send and --expect go with tcp: and unix: addresses only".to_owned());
            }
            let slow = match slow_path {
                Some(path) if path.starts_with('/') && path.parse::<hyper::Uri>().is_ok() => {
                    Some(Protocol::Http(Page { path: path.to_owned(), ..page.clone() }))
                }
                Some(path) => return Err(format!("--slow-path={path}: a path begins with / and has no spaces")),
                None => None,
            };
            Ok((Protocol::Http(page), slow))
        }
        None if slow_path.is_some() => Err("--slow-path goes with an http URL only".to_owned()),
        None if send.is_none() && expect.is_none() => Err(
            "a connection alone proves nothing, since the kernel answers it: give --send=TEXT, --expect=TEXT or both"
                .to_owned(),
        ),
        None => {
            let bytes = |text: Option<&str>| unescape(text.unwrap_or_default());
            Ok((Protocol::Raw { send: bytes(send)?, expect: bytes(expect)? }, None))
        }
    }
}

fn means(
    with: Option<String>,
    pid_file: Option<PathBuf>,
    status_file: Option<PathBuf>,
    control_socket: Option<PathBuf>,
    pid: Option<u32>,
    command: &[OsString],
) -> Result<Means, String> {
    let named = [pid_file.is_some(), control_socket.is_some(), pid.is_some(), with.is_some()];
    let option = |name: &str, value: PathBuf| {
        let mut word = OsString::from(name);
        word.push(value);
        word
    };
    match named.iter().filter(|named| **named).count() {
        0 if !command.is_empty() && status_file.is_none() => Ok(Means::VerbForOwn),
        0 if !command.is_empty() => Err("--status-file of a superdaemon to be started stands after --".to_owned()),
        0 => {
            Err("whom to restart? Give --pid-file=FILE, --control-socket=PATH or --pid=PID of a running superdaemon, \
                  --with=COMMAND, or the command line of a superdaemon after --"
                .to_owned())
        }
        1 => {
            if let Some(command) = with {
                return Ok(Means::Command(command));
            }
            if !command.is_empty() {
                return Err("either a running superdaemon is drilled, or one that is started by the words after --; \
                            --pid-file and --control-socket of the latter stand after --"
                    .to_owned());
            }
            let words = [
                pid_file.map(|file| option("--pid-file=", file)),
                status_file.map(|file| option("--status-file=", file)),
                control_socket.map(|path| option("--control-socket=", path)),
                pid.map(|pid| format!("--pid={pid}").into()),
            ];
            Ok(Means::Verb(words.into_iter().flatten().collect()))
        }
        _ => Err("one of --pid-file, --control-socket, --pid and --with is enough".to_owned()),
    }
}

fn within(least: u64, most: u64) -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(least..=most)
}

/// All of our limits are far below what fits.
fn narrow(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn kind(text: &str) -> Result<Kind, String> {
    let named = Kind::ALL.into_iter().find(|kind| kind.name() == text);
    named.filter(|kind| *kind != Kind::Slow).ok_or_else(|| "there are new, keep-alive, delayed and held".to_owned())
}

/// A time: seconds, or with units; above zero, and at most a day.
fn up_to_a_day(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = seconds.or_else(|| humantime::parse_duration(text).ok());
    time.filter(|time| !time.is_zero() && *time <= Duration::from_secs(86_400))
        .ok_or_else(|| "expected seconds or a time such as 500ms or 2m, above 0 and at most a day".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Plan, String> {
        match parse(line.split_whitespace().map(OsString::from))? {
            Asked::Drill(plan) => Ok(*plan),
            Asked::Text(text) => Err(text),
        }
    }

    #[test]
    fn everything_is_bounded_by_default() {
        let plan = read("http://localhost/ --pid-file=p").unwrap();
        assert_eq!((plan.restarts, plan.rate, plan.requests), (5, 200, 100_000));
        assert_eq!((plan.duration, plan.timeout), (Duration::from_secs(300), Duration::from_secs(5)));
        assert_eq!(plan.clients, [(Kind::New, 2), (Kind::KeepAlive, 2), (Kind::Delayed, 2), (Kind::Held, 2)]);
        assert_eq!(plan.means, Means::Verb(vec!["--pid-file=p".into()]));
        assert!(!plan.anywhere);
    }

    #[test]
    fn a_superdaemon_is_named_or_started() {
        for (line, expected) in [
            ("--control-socket=c", Ok(Means::Verb(vec!["--control-socket=c".into()]))),
            ("--pid=7", Ok(Means::Verb(vec!["--pid=7".into()]))),
            ("--pid-file=p --status-file=s", Ok(Means::Verb(vec!["--pid-file=p".into(), "--status-file=s".into()]))),
            ("--with=true", Ok(Means::Command("true".to_owned()))),
            ("-- start_server --port=1 -- x", Ok(Means::VerbForOwn)),
            ("--with=true -- start_server --port=1 -- x", Ok(Means::Command("true".to_owned()))),
            ("", Err("whom to restart?")),
            ("--pid=7 --pid-file=p", Err("is enough")),
            ("--pid=7 -- start_server", Err("either")),
            ("--status-file=s -- start_server", Err("stands after --")),
        ] {
            match (read(&format!("http://localhost/ {line}")), expected) {
                (Ok(plan), Ok(means)) => assert_eq!(plan.means, means, "{line}"),
                (Err(error), Err(part)) => assert!(error.contains(part), "{line}: {error}"),
                (found, expected) => panic!("{line}: {found:?} instead of {expected:?}"),
            }
        }
        let plan = read("http://localhost/ -- start_server --port=1 -- x -y").unwrap();
        assert_eq!(plan.launch.unwrap(), ["start_server", "--port=1", "--", "x", "-y"]);
    }

    #[test]
    fn raw_addresses_need_words() {
        assert!(read("tcp:1 --pid=1").unwrap_err().contains("--send"));
        let plan = read("tcp:1 --pid=1 --send=PING\\r\\n --expect=PONG").unwrap();
        assert_eq!(plan.protocol, Protocol::Raw { send: b"PING\r\n".to_vec(), expect: b"PONG".to_vec() });
        let plan = read("tcp:1 --pid=1 --expect=220").unwrap();
        assert!(!plan.clients.iter().any(|(kind, _)| *kind == Kind::Held), "there is nothing to hold");
        assert!(read("tcp:1 --pid=1 --expect=220 --kinds=held").is_err());
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        for line in [
            "",
            "--pid=1",
            "nowhere --pid=1",
            "http://localhost/ --pid=1 --send=x",
            "tcp:1 --pid=1 --send=\\q",
            "http://localhost/ --pid=1 --clients=0",
            "http://localhost/ --pid=1 --clients=201",
            "http://localhost/ --pid=1 --restarts=1001",
            "http://localhost/ --pid=1 --restarts=-1",
            "http://localhost/ --pid=1 --rate=0",
            "http://localhost/ --pid=1 --requests=1000001",
            "http://localhost/ --pid=1 --duration=0",
            "http://localhost/ --pid=1 --duration=25h",
            "http://localhost/ --pid=1 --timeout=-1",
            "http://localhost/ --pid=1 --timeout=nan",
            "http://localhost/ --pid=1 --kinds=slow",
            "http://localhost/ --pid=1 --kinds=",
            "http://localhost/ --pid=1 --slow-path=slow",
            "http://localhost/ --pid=1 --unknown",
            "tcp:1 --pid=1 --send=x --unix=y",
            "tcp:1 --pid=1 --send=x --slow-path=/y",
        ] {
            assert!(read(line).is_err(), "{line}");
        }
    }

    #[test]
    fn times_are_read() {
        for (text, expected) in [("2", 2000), ("0.5", 500), ("500ms", 500), ("2m", 120_000)] {
            assert_eq!(up_to_a_day(text), Ok(Duration::from_millis(expected)), "{text}");
        }
    }
}
