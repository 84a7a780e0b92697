//! The one table of options: names, values, defaults and help.
//! The words of the command line are brought into its form first; the command is made from what it yields.

use std::collections::BTreeSet;
use std::error::Error;
use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use sys::signal::{Signal, UnknownSignal};

use crate::config::{LogTarget, ReadyRule, Until};
use crate::export::{Convention, parse_conventions};
use crate::listen_spec::{
    Account, KeepAlive, parse_account, parse_backlog, parse_defer_accept, parse_fastopen, parse_keepalive, parse_switch,
};
use crate::preset::Preset;
use crate::privileges::{Limit, Mask};
use crate::span::{SpanError, SpanText, parse_span};

const LISTENERS: &str = "Listeners";
const PROGRAM: &str = "Program";
const RESTART: &str = "Restart";
const READINESS: &str = "Readiness";
const FAILURE: &str = "Failure and deadlines";
const FILES: &str = "Files and logs";
const VERBS: &str = "Verbs, which address a running superdaemon";

const ABOUT: &str = "\
Runs a server program on sockets that it keeps open, and replaces the program on SIGHUP without losing a connection.

SECONDS are whole (5) or not (0.2), or have units (500ms, 2m, 1h 30m).
SIGNAL is a name in any case, with or without SIG, or a number.";

/// The options as they were typed, each checked by itself but not yet against the others.
#[derive(Debug, clap::Parser)]
#[command(
    name = "start_server",
    about = ABOUT,
    override_usage = "start_server [OPTIONS] -- PROGRAM [ARGUMENT]...\n       \
                      start_server --restart|--stop|--status|--upgrade --pid-file=FILE [OPTIONS]",
    no_binary_name = true,
    disable_help_flag = true,
    disable_version_flag = true,
    args_override_self = true,
    next_line_help = true
)]
pub(super) struct Options {
    /// TCP port, or UDP with u before the number, at descriptor FD if given; repeatable [default: none]
    #[arg(long, help_heading = LISTENERS, value_name = "[HOST:][u]PORT[=FD][,...]")]
    pub(super) port: Vec<OsString>,

    /// Unix socket to listen on; repeatable [default: none]
    #[arg(long, help_heading = LISTENERS, value_name = "PATH[,...]")]
    pub(super) path: Vec<OsString>,

    /// Listener of any kind with options of its own: an address as in --port, unix:PATH, unix:@NAME or
    /// unix-dgram:PATH, then name=NAME, fd=FD, mode=0660, owner=USER, group=GROUP, and the options
    /// below less their dashes; repeatable [default: none]
    #[arg(long, help_heading = LISTENERS, value_name = "ADDRESS[,KEY[=VALUE]]...", verbatim_doc_comment)]
    pub(super) listen: Vec<OsString>,

    /// Connections that may wait to be accepted on each listener [default: 4096]
    #[arg(long, help_heading = LISTENERS, value_name = "NUMBER", value_parser = text(parse_backlog))]
    pub(super) backlog: Option<u32>,

    /// Accept TCP connections only once they have sent something, or after so long [default: off; 1]
    #[arg(long, help_heading = LISTENERS, value_name = "SECONDS", value_parser = text(parse_defer_accept),
          num_args = 0..=1, require_equals = true, default_missing_value = "yes")]
    pub(super) defer_accept: Option<u32>,

    /// Send small answers at once (TCP_NODELAY) [default: no]
    #[arg(long, help_heading = LISTENERS, value_name = "yes|no", value_parser = text(parse_switch),
          num_args = 0..=1, require_equals = true, default_missing_value = "yes")]
    pub(super) tcp_nodelay: Option<bool>,

    /// Make listeners not block, for the servers that rely on it [default: no]
    #[arg(long, help_heading = LISTENERS, value_name = "yes|no", value_parser = text(parse_switch),
          num_args = 0..=1, require_equals = true, default_missing_value = "yes")]
    pub(super) nonblock: Option<bool>,

    /// Whether IPv6 listeners are for IPv6 only [default: yes]
    #[arg(long, help_heading = LISTENERS, value_name = "yes|no", value_parser = text(parse_switch),
          num_args = 0..=1, require_equals = true, default_missing_value = "yes")]
    pub(super) v6only: Option<bool>,

    /// Let other processes listen on the same ports (SO_REUSEPORT) [default: no]
    #[arg(long, help_heading = LISTENERS, value_name = "yes|no", value_parser = text(parse_switch),
          num_args = 0..=1, require_equals = true, default_missing_value = "yes")]
    pub(super) reuseport: Option<bool>,

    /// Probe TCP connections that are silent, after two hours or so many seconds [default: no]
    #[arg(long, help_heading = LISTENERS, value_name = "SECONDS", value_parser = text(parse_keepalive),
          num_args = 0..=1, require_equals = true, default_missing_value = "yes")]
    pub(super) keepalive: Option<KeepAlive>,

    /// Take data with the first packet (TCP Fast Open), from so many clients at a time [default: no; 256]
    #[arg(long, help_heading = LISTENERS, value_name = "NUMBER", value_parser = text(parse_fastopen),
          num_args = 0..=1, require_equals = true, default_missing_value = "yes")]
    pub(super) fastopen: Option<u32>,

    /// Descriptor at which the program finds the first listener [default: 3]
    #[arg(long, help_heading = LISTENERS, value_name = "FD", value_parser = text(first_fd))]
    pub(super) first_fd: Option<i32>,

    /// Options that are right for a well-known server; list explains them [default: none]
    #[arg(long, help_heading = PROGRAM, value_name = "NAME|list", value_parser = text(preset))]
    pub(super) preset: Option<PresetChoice>,

    /// Tell the program of its listeners in other words too: listen-fds, listen-fds-no-pid, unicorn, puma,
    /// nginx, fpm, einhorn, or none [default: none]
    #[arg(long, help_heading = PROGRAM, value_name = "CONVENTION[,...]", value_parser = text(parse_conventions),
          verbatim_doc_comment)]
    pub(super) export: Vec<BTreeSet<Convention>>,

    /// Directory to start the program in [default: that of start_server]
    #[arg(long, help_heading = PROGRAM, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,

    /// User that the program runs as, with its groups; needs root [default: that of start_server]
    #[arg(long, help_heading = PROGRAM, value_name = "NAME|UID", value_parser = text(parse_account))]
    pub(super) user: Option<Account>,

    /// Group that the program runs as, instead of the user's [default: the user's, or that of start_server]
    #[arg(long, help_heading = PROGRAM, value_name = "NAME|GID", value_parser = text(parse_account))]
    pub(super) group: Option<Account>,

    /// Permissions that the program's new files do not get [default: that of start_server]
    #[arg(long, help_heading = PROGRAM, value_name = "OCTAL", value_parser = text(str::parse::<Mask>))]
    pub(super) umask: Option<Mask>,

    /// Resource limit of the program, as in NOFILE=65536; names as in setrlimit(2); repeatable [default: none]
    #[arg(long, help_heading = PROGRAM, value_name = "NAME=SOFT[:HARD]|NAME=unlimited", value_parser = text(str::parse::<Limit>))]
    pub(super) rlimit: Vec<Limit>,

    /// Let no program that it executes give it more rights (sudo, su and the like) [default: off]
    #[arg(long, help_heading = PROGRAM)]
    pub(super) no_new_privs: bool,

    /// Directory of files that each set a variable of the program, read again at every restart [default: $ENVDIR]
    #[arg(long, help_heading = PROGRAM, value_name = "DIR")]
    pub(super) envdir: Option<PathBuf>,

    /// Signal that tells the old generation to stop after a restart [default: TERM]
    #[arg(long, help_heading = PROGRAM, value_name = "SIGNAL", value_parser = text(signal))]
    pub(super) signal_on_hup: Option<Signal>,

    /// Signal that tells all workers to stop when start_server gets TERM [default: TERM]
    #[arg(long, help_heading = PROGRAM, value_name = "SIGNAL", value_parser = text(signal))]
    pub(super) signal_on_term: Option<Signal>,

    /// Time that a new worker must live to count as started, and pause between attempts [default: 1]
    #[arg(long, help_heading = RESTART, value_name = "SECONDS", value_parser = text(parse_span))]
    pub(super) interval: Option<Duration>,

    /// Time that the old and the new generation serve together [default: 0, or 5 with --enable-auto-restart]
    #[arg(long, help_heading = RESTART, value_name = "SECONDS", value_parser = text(SpanText::parse))]
    pub(super) kill_old_delay: Option<SpanText>,

    /// Restart the program from time to time [default: off]
    #[arg(long, help_heading = RESTART)]
    pub(super) enable_auto_restart: bool,

    /// Time between such restarts [default: 360]
    #[arg(long, help_heading = RESTART, value_name = "SECONDS", value_parser = text(SpanText::parse))]
    pub(super) auto_restart_interval: Option<SpanText>,

    /// Old generations that may drain at the same time [default: no limit]
    #[arg(long, help_heading = RESTART, value_name = "NUMBER", value_parser = text(count))]
    pub(super) max_old_generations: Option<NonZeroU32>,

    /// Proof that a new generation serves: alive (it outlives the interval), notify (it says so to
    /// $NOTIFY_SOCKET), accept (it is seen to wait for connections) or exec:COMMAND (COMMAND
    /// succeeds) [default: alive]
    #[arg(long, help_heading = READINESS, value_name = "RULE", value_parser = text(str::parse::<ReadyRule>), verbatim_doc_comment)]
    pub(super) ready: Option<ReadyRule>,

    /// Time after which a generation without that proof has failed, unless it is alive [default: 60]
    #[arg(long, help_heading = READINESS, value_name = "SECONDS", value_parser = text(deadline))]
    pub(super) ready_timeout: Option<Duration>,

    /// Attempts after which a restart is given up and the old generation stays [default: no limit]
    #[arg(long, help_heading = FAILURE, value_name = "NUMBER", value_parser = text(count))]
    pub(super) max_attempts: Option<NonZeroU32>,

    /// Let the pause between attempts grow up to this time [default: the pause stays the interval]
    #[arg(long, help_heading = FAILURE, value_name = "SECONDS", value_parser = text(deadline))]
    pub(super) backoff_max: Option<Duration>,

    /// Time after which an old generation that still drains is killed [default: no limit]
    #[arg(long, help_heading = FAILURE, value_name = "SECONDS", value_parser = text(deadline))]
    pub(super) drain_timeout: Option<Duration>,

    /// Time after which workers that do not end with start_server are killed [default: no limit]
    #[arg(long, help_heading = FAILURE, value_name = "SECONDS", value_parser = text(deadline))]
    pub(super) stop_timeout: Option<Duration>,

    /// Time for which workers serve on after start_server gets TERM, before they are told to stop [default: 0]
    #[arg(long, help_heading = FAILURE, value_name = "SECONDS", value_parser = text(parse_span))]
    pub(super) term_delay: Option<Duration>,

    /// File for the process id of start_server; verbs find it by this [default: none]
    #[arg(long, help_heading = FILES, value_name = "FILE")]
    pub(super) pid_file: Option<PathBuf>,

    /// File for the generations that are alive, one GENERATION:PID a line [default: none]
    #[arg(long, help_heading = FILES, value_name = "FILE")]
    pub(super) status_file: Option<PathBuf>,

    /// File that standard output and standard error are appended to, or command that reads them [default: none]
    #[arg(long, help_heading = FILES, value_name = "FILE or \"| COMMAND\"", value_parser = log_target())]
    pub(super) log_file: Option<LogTarget>,

    /// Run in the background; returns when the first worker runs; needs --log-file [default: off]
    #[arg(long, help_heading = FILES)]
    pub(super) daemonize: bool,

    /// Socket that commands are answered on; commands find it by this [default: one in /run/start_server or
    /// $XDG_RUNTIME_DIR/start_server]
    #[arg(long, help_heading = FILES, value_name = "PATH", verbatim_doc_comment)]
    pub(super) control_socket: Option<PathBuf>,

    /// Replace the running generation and wait until that is done
    #[arg(long, help_heading = VERBS)]
    pub(super) restart: bool,

    /// Stop start_server and its workers and wait until they are gone
    #[arg(long, help_heading = VERBS)]
    pub(super) stop: bool,

    /// Print what start_server is doing
    #[arg(long, help_heading = VERBS)]
    pub(super) status: bool,

    /// Replace start_server itself in place by the file that it was started from, or by FILE; with a PROGRAM, the
    /// options and the program given here replace those in force
    #[arg(long, help_heading = VERBS, value_name = "FILE", num_args = 0..=1, require_equals = true,
          verbatim_doc_comment)]
    pub(super) upgrade: Option<Option<PathBuf>>,

    /// Process id of the start_server that is addressed [default: from --pid-file]
    #[arg(long, help_heading = VERBS, value_name = "PID", value_parser = text(process_id))]
    pub(super) pid: Option<i32>,

    /// With --restart, --stop and --upgrade: time to wait for the outcome [default: no limit]
    #[arg(long, help_heading = VERBS, value_name = "SECONDS", value_parser = text(deadline))]
    pub(super) timeout: Option<Duration>,

    /// With --restart: wait for drained (old generations gone) or commit (told to go) [default: drained]
    #[arg(long, help_heading = VERBS, value_name = "MOMENT", value_parser = text(until))]
    pub(super) until: Option<Until>,

    /// With --status: print JSON [default: off]
    #[arg(long, help_heading = VERBS)]
    pub(super) json: bool,

    /// With --status: print nothing, and succeed only if the program serves and is not stopping [default: off]
    #[arg(long, help_heading = VERBS)]
    pub(super) serving: bool,

    /// Print this help
    #[arg(long)]
    pub(super) help: bool,

    /// Print the version
    #[arg(long)]
    pub(super) version: bool,
}

type Reason = Box<dyn Error + Send + Sync>;

/// A value that has to be text before it can be anything else.
fn text<T, E>(parse: fn(&str) -> Result<T, E>) -> impl TypedValueParser<Value = T>
where
    T: Clone + Send + Sync + 'static,
    E: Into<Reason> + 'static,
{
    OsStringValueParser::new().try_map(move |value| match value.to_str() {
        Some(text) => parse(text).map_err(Into::into),
        None => Err(Reason::from("valid UTF-8 expected")),
    })
}

/// `| COMMAND`, or a file, whose name need not be text.
fn log_target() -> impl TypedValueParser<Value = LogTarget> {
    OsStringValueParser::new().try_map(|value| {
        if !value.to_string_lossy().trim_ascii_start().starts_with('|') {
            return if value.is_empty() { Err("file name expected") } else { Ok(LogTarget::File(value.into())) };
        }
        let command = value.to_str().ok_or("valid UTF-8 expected in a command")?;
        match command.trim_ascii_start().strip_prefix('|').unwrap_or(command).trim_ascii() {
            "" => Err("command expected after the |"),
            command => Ok(LogTarget::Command(command.to_owned())),
        }
    })
}

/// The value of `--preset`.
#[derive(Clone, Debug)]
pub(super) enum PresetChoice {
    /// Say which there are.
    List,
    /// This one.
    One(&'static Preset),
}

fn preset(text: &str) -> Result<PresetChoice, String> {
    if text == "list" { Ok(PresetChoice::List) } else { Preset::find(text).map(PresetChoice::One) }
}

fn first_fd(text: &str) -> Result<i32, &'static str> {
    text.parse().ok().filter(|number| *number >= 3).ok_or("number from 3 on expected")
}

fn count(text: &str) -> Result<NonZeroU32, &'static str> {
    text.parse().map_err(|_| "whole number above 0 expected; leave the option out for no limit")
}

fn process_id(text: &str) -> Result<i32, &'static str> {
    text.parse().ok().filter(|pid| *pid > 0).ok_or("process id above 0 expected")
}

/// A time limit. Zero is refused, because to some it means "at once" and to others "no limit".
fn deadline(text: &str) -> Result<Duration, Reason> {
    match parse_span(text) {
        Ok(Duration::ZERO) => Err("time above 0 expected; leave the option out for the default".into()),
        other => other.map_err(SpanError::into),
    }
}

/// What is false in Perl is the default.
fn signal(text: &str) -> Result<Signal, UnknownSignal> {
    match text {
        "" | "0" => Ok(Signal::TERM),
        text => Signal::parse(text),
    }
}

fn until(text: &str) -> Result<Until, &'static str> {
    match text {
        "drained" => Ok(Until::Drained),
        "commit" => Ok(Until::Commit),
        _ => Err("drained or commit expected"),
    }
}
