//! Reads the command line: words, then options, then the one typed value that says what to do.
//! The program calls [`parse`] first of all. Nothing here prints or exits.

mod options;
mod usage_error;
mod words;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use clap::error::{ContextKind, ErrorKind};
use clap::{CommandFactory, Parser};
use sys::signal::Signal;

use self::options::{Options, PresetChoice};
pub use self::usage_error::UsageError;
use crate::config::{
    Command, Config, EnvironmentOptions, Program, ReadyRule, RestartVerb, StatusVerb, StopVerb, Target, UpgradeVerb,
};
use crate::export::Convention;
use crate::listen_spec::{DEFAULT_BACKLOG, ListenOptions, ListenSpec, parse_listener, parse_paths, parse_ports};
use crate::preset::{self, Preset};
use crate::privileges::Privileges;

/// The first descriptor after standard error.
const DEFAULT_FIRST_FD: i32 = 3;
const DEFAULT_INTERVAL: Duration = Duration::from_secs(1);
const DEFAULT_READY_TIMEOUT: Duration = Duration::from_secs(60);

/// Reads a command line, less its first word, the name of the superdaemon itself.
///
/// When several things are asked for at once, help comes first, then the version, then the verbs `--restart`, `--stop`,
/// `--status` and `--upgrade`. A verb ignores the options that are not for it, and the program.
///
/// # Errors
///
/// The command line cannot be followed; the error says why, for people.
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut table = Options::command();
    let words = words::sort(args, &table)?;
    let options = Options::try_parse_from(&words.options).map_err(|error| value_error(&error))?;
    if options.help {
        return Ok(Command::Help(table.render_help().to_string()));
    }
    if options.version {
        return Ok(Command::Version(concat!(env!("CARGO_PKG_VERSION"), "\n").to_owned()));
    }
    if let Some(PresetChoice::List) = options.preset {
        return Ok(Command::Help(preset::list()));
    }
    if options.restart {
        return restart(options).map(Command::Restart);
    }
    if options.stop {
        return stop(options).map(Command::Stop);
    }
    if options.status {
        return status(options).map(Command::Status);
    }
    if options.upgrade.is_some() {
        return upgrade(options, words).map(Command::Upgrade);
    }
    run(options, words.program).map(|config| Command::Run(Box::new(config)))
}

fn run(options: Options, program: Vec<OsString>) -> Result<Config, UsageError> {
    refuse_options_of_verbs(&options)?;
    if options.daemonize && options.log_file.is_none() {
        return Err(UsageError::new(
            "Usage: --log-file option must be specified together with --daemonize\n\
             In the background nobody would see the messages otherwise.",
        ));
    }
    let mut program = program.into_iter();
    let name = program.next().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| UsageError::new("server program not specified"))?;
    let preset = match &options.preset {
        Some(PresetChoice::One(preset)) => Some(*preset),
        Some(PresetChoice::List) | None => None,
    };
    let usual_signal = preset.map_or(Signal::TERM, |preset| preset.signal);
    let usual_rule = if preset.is_some() { ReadyRule::Accept } else { ReadyRule::Alive };
    Ok(Config {
        listeners: listeners(&options, preset)?,
        first_fd: options.first_fd.unwrap_or(DEFAULT_FIRST_FD),
        exports: exports(&options, preset),
        warnings: signal_warning(&options).into_iter().chain(wrapper_warning(&name)).collect(),
        dir: options.dir,
        privileges: Privileges::new(options.user, options.group, options.umask, options.rlimit, options.no_new_privs),
        interval: options.interval.unwrap_or(DEFAULT_INTERVAL),
        signal_on_hup: options.signal_on_hup.unwrap_or(usual_signal),
        signal_on_term: options.signal_on_term.unwrap_or(usual_signal),
        pid_file: options.pid_file,
        status_file: options.status_file,
        log: options.log_file,
        daemonize: options.daemonize,
        overrides: EnvironmentOptions {
            envdir: options.envdir,
            enable_auto_restart: options.enable_auto_restart,
            auto_restart_interval: options.auto_restart_interval,
            kill_old_delay: options.kill_old_delay,
        },
        ready: options.ready.unwrap_or(usual_rule),
        ready_timeout: options.ready_timeout.unwrap_or(DEFAULT_READY_TIMEOUT),
        max_attempts: options.max_attempts,
        backoff_max: options.backoff_max,
        drain_timeout: options.drain_timeout,
        stop_timeout: options.stop_timeout,
        term_delay: options.term_delay.filter(|delay| !delay.is_zero()),
        max_old_generations: options.max_old_generations,
        control_socket: options.control_socket,
        program: Program { name, arguments: program.collect() },
    })
}

/// A run that was meant to be a verb must not start a second superdaemon.
fn refuse_options_of_verbs(options: &Options) -> Result<(), UsageError> {
    let only_for = |name: &str, verbs: &str| Err(UsageError::new(format!("Option {name} goes with {verbs} only")));
    match options {
        Options { pid: Some(_), .. } => only_for("pid", "--restart, --stop, --status or --upgrade"),
        Options { timeout: Some(_), .. } => only_for("timeout", "--restart, --stop or --upgrade"),
        Options { until: Some(_), .. } => only_for("until", "--restart"),
        Options { json: true, .. } => only_for("json", "--status"),
        Options { serving: true, .. } => only_for("serving", "--status"),
        _ => Ok(()),
    }
}

fn listeners(options: &Options, preset: Option<&Preset>) -> Result<Vec<ListenSpec>, UsageError> {
    let ports = options.port.iter().map(|value| parse_ports(value));
    let paths = options.path.iter().map(|value| parse_paths(value));
    let others = options.listen.iter().map(|value| parse_listener(value).map(|spec| vec![spec]));
    // What is said of one listener counts before what is said of all, then comes the preset, and the default is last.
    let of_all = ListenOptions {
        // What is false in Perl is the default.
        backlog: options.backlog.filter(|backlog| *backlog > 0),
        defer_accept: options.defer_accept,
        tcp_nodelay: options.tcp_nodelay,
        nonblock: options.nonblock,
        v6only: options.v6only,
        reuseport: options.reuseport,
        keepalive: options.keepalive,
        fastopen: options.fastopen,
        ..ListenOptions::default()
    };
    let of_preset = preset.map(Preset::listen_options).unwrap_or_default();
    let default = ListenOptions { backlog: Some(DEFAULT_BACKLOG), ..ListenOptions::default() };
    let mut listeners: Vec<ListenSpec> = Vec::new();
    for specs in ports.chain(paths).chain(others) {
        for mut spec in specs.map_err(|error| UsageError::new(error.to_string()))? {
            spec.options = spec.options.or(&of_all).or(&of_preset).or(&default);
            listeners.push(spec);
        }
    }
    let mut names = BTreeSet::new();
    if let Some(name) = listeners.iter().filter_map(|spec| spec.name.as_ref()).find(|name| !names.insert(*name)) {
        return Err(UsageError::new(format!("two listeners have the name {name}; give each one of its own")));
    }
    let mut taken = BTreeSet::new();
    match listeners.iter().filter_map(|spec| spec.descriptor).find(|descriptor| !taken.insert(*descriptor)) {
        None => Ok(listeners),
        Some(descriptor) => Err(UsageError::new(format!(
            "descriptor {descriptor} is given to two ports (=FD), but it can only be one of them"
        ))),
    }
}

fn exports(options: &Options, preset: Option<&Preset>) -> BTreeSet<Convention> {
    match (options.export.is_empty(), preset) {
        (false, _) => options.export.iter().flatten().copied().collect(),
        (true, Some(preset)) => preset.export.iter().copied().collect(),
        (true, None) => BTreeSet::new(),
    }
}

/// Programs that change the user and stay in front of the program, instead of becoming it.
fn wrapper_warning(program: &OsStr) -> Option<String> {
    let name = Path::new(program).file_name()?.to_str()?;
    let harm = match name {
        "su" | "runuser" => {
            "it stays in front of the program, and kills it two seconds after it was told to stop, whatever requests it \
             has left"
        }
        "sudo" => {
            "it stays in front of the program, and unless it is told otherwise keeps the listeners and the environment \
             from it"
        }
        _ => return None,
    };
    Some(format!(
        "the program is started by {name}: {harm}; --user=USER changes the user without it, and setpriv(1) what else \
         there is"
    ))
}

fn signal_warning(options: &Options) -> Option<String> {
    let (given, missing) = match (options.signal_on_hup, options.signal_on_term) {
        (Some(_), None) => ("--signal-on-hup", "--signal-on-term"),
        (None, Some(_)) => ("--signal-on-term", "--signal-on-hup"),
        _ => return None,
    };
    if options.preset.is_some() {
        return None;
    }
    let when = if given == "--signal-on-hup" { "at the end" } else { "after a restart" };
    Some(format!(
        "{given} is given and {missing} is not, so workers are told to stop by TERM {when}; most programs need the same \
         signal for both, give {missing} to choose"
    ))
}

fn restart(options: Options) -> Result<RestartVerb, UsageError> {
    let Options { pid_file, control_socket, pid, status_file, timeout, until, .. } = options;
    let target = target(Target { pid_file, control_socket, pid }).ok_or_else(|| {
        UsageError::new(
            "--restart option requires --pid-file and --status-file to be set as well\n\
             (--pid-file alone, --control-socket or --pid will do, unless the superdaemon is Server::Starter's own)",
        )
    })?;
    Ok(RestartVerb { target, status_file, timeout, until: until.unwrap_or_default() })
}

fn stop(options: Options) -> Result<StopVerb, UsageError> {
    let Options { pid_file, control_socket, pid, timeout, .. } = options;
    let target = target(Target { pid_file, control_socket, pid }).ok_or_else(|| {
        UsageError::new(
            "--stop option requires --pid-file to be set as well\n\
             (--control-socket or --pid will do, unless the superdaemon is Server::Starter's own)",
        )
    })?;
    Ok(StopVerb { target, timeout })
}

fn status(options: Options) -> Result<StatusVerb, UsageError> {
    let Options { pid_file, control_socket, pid, json, serving, .. } = options;
    let target = target(Target { pid_file, control_socket, pid }).ok_or_else(|| {
        UsageError::new("--status option requires --pid-file, --control-socket or --pid to be set as well")
    })?;
    Ok(StatusVerb { target, json, serving })
}

/// With a program it is the command line of a superdaemon, which the running one is to go on with.
fn upgrade(options: Options, words: words::Words) -> Result<UpgradeVerb, UsageError> {
    const OF_THE_VERB: [&str; 3] = ["--upgrade", "--pid", "--timeout"];
    let Options { upgrade, pid_file, control_socket, pid, timeout, .. } = options;
    let target = target(Target { pid_file, control_socket, pid }).ok_or_else(|| {
        UsageError::new("--upgrade option requires --pid-file, --control-socket or --pid to be set as well")
    })?;
    let is_of_the_verb = |word: &OsString| {
        let word = word.as_bytes();
        let name = word.split(|&byte| byte == b'=').next().unwrap_or_default();
        OF_THE_VERB.iter().any(|option| option.as_bytes() == name)
    };
    let arguments = if words.program.is_empty() {
        None
    } else {
        let options = words.options.into_iter().filter(|word| !is_of_the_verb(word));
        let arguments: Vec<OsString> = options.chain(["--".into()]).chain(words.program).collect();
        // What the running superdaemon would refuse is better said here.
        parse(arguments.iter().cloned())?;
        Some(arguments)
    };
    Ok(UpgradeVerb { target, path: upgrade.flatten(), arguments, timeout })
}

/// A target that can be found.
fn target(target: Target) -> Option<Target> {
    let Target { pid_file, control_socket, pid } = &target;
    let is_given = pid_file.is_some() || control_socket.is_some() || pid.is_some();
    is_given.then_some(target)
}

/// Says in the words of Getopt::Long what the table of options found wrong with a value.
fn value_error(error: &clap::Error) -> UsageError {
    // The table names an option as in its help: `--interval <SECONDS>`.
    let shown = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    let name = shown.trim_start_matches('-').split([' ', '[']).next().unwrap_or_default();
    let value = error.get(ContextKind::InvalidValue).map(ToString::to_string).unwrap_or_default();
    match (error.kind(), std::error::Error::source(error)) {
        (ErrorKind::ValueValidation, Some(reason)) => {
            UsageError::new(format!("Value \"{value}\" invalid for option {name} ({reason})"))
        }
        (ErrorKind::InvalidValue, _) if value.is_empty() => words::requires_argument(name),
        _ => UsageError::new(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::os::unix::ffi::OsStringExt;

    use super::*;
    use crate::config::{LogTarget, Until};
    use crate::listen_spec::{Account, ListenAddress};
    use crate::span::SpanText;

    fn read(line: &[&str]) -> Result<Command, UsageError> {
        parse(line.iter().map(OsString::from))
    }

    fn config(line: &[&str]) -> Config {
        match read(&[line, &["--", "prog"]].concat()) {
            Ok(Command::Run(config)) => *config,
            other => panic!("{line:?} gave {other:?}"),
        }
    }

    fn verb_target() -> Target {
        Target { pid_file: Some("f".into()), control_socket: None, pid: None }
    }

    #[test]
    fn defaults() {
        assert_eq!(
            config(&[]),
            Config {
                program: Program { name: "prog".into(), arguments: Vec::new() },
                listeners: Vec::new(),
                dir: None,
                privileges: Privileges::default(),
                interval: Duration::from_secs(1),
                signal_on_hup: Signal::TERM,
                signal_on_term: Signal::TERM,
                first_fd: 3,
                exports: BTreeSet::new(),
                warnings: Vec::new(),
                pid_file: None,
                status_file: None,
                log: None,
                daemonize: false,
                overrides: EnvironmentOptions::default(),
                ready: ReadyRule::Alive,
                ready_timeout: Duration::from_secs(60),
                max_attempts: None,
                backoff_max: None,
                drain_timeout: None,
                stop_timeout: None,
                term_delay: None,
                max_old_generations: None,
                control_socket: None,
            }
        );
    }

    #[test]
    fn each_option_finds_its_place() {
        let seconds = Duration::from_secs;
        let span = |text| Some(SpanText::parse(text).unwrap());
        type Change = fn(&mut Config);
        let cases: &[(&[&str], Change)] = &[
            (&["--dir=d"], |c| c.dir = Some("d".into())),
            (&["--user=app", "--group=33"], |c| {
                c.privileges.user = Some(Account::Name("app".to_owned()));
                c.privileges.group = Some(Account::Id(33));
            }),
            (&["--umask=027", "--no-new-privs"], |c| {
                c.privileges.umask = Some("027".parse().unwrap());
                c.privileges.no_new_privileges = true;
            }),
            (&["--rlimit=NOFILE=5", "--rlimit=core=0", "--rlimit=NOFILE=6:7"], |c| {
                c.privileges.limits = ["CORE=0", "NOFILE=6:7"].map(|text| text.parse().unwrap()).to_vec();
            }),
            (&["--interval=0.2"], |c| c.interval = Duration::from_millis(200)),
            (&["--interval=0"], |c| c.interval = Duration::ZERO),
            (&["--interval=5", "--interval=2"], |c| c.interval = Duration::from_secs(2)),
            (&["--signal-on-hup=QUIT", "--signal-on-term=TERM"], |c| c.signal_on_hup = Signal::QUIT),
            (&["--signal-on-hup=TERM", "--signal-on-TERM=sigquit"], |c| c.signal_on_term = Signal::QUIT),
            (&["--signal-on-hup=TERM", "--signal-on-term=SigQuit"], |c| c.signal_on_term = Signal::QUIT),
            (&["--signal-on-hup=3", "--signal-on-term=TERM"], |c| c.signal_on_hup = Signal::QUIT),
            (&["--signal-on-hup=usr1", "--signal-on-term=TERM"], |c| c.signal_on_hup = Signal::USR1),
            (&["--signal-on-hup=0", "--signal-on-term", ""], |_| ()),
            (&["--first-fd=50"], |c| c.first_fd = 50),
            (&["--export=nginx", "--export=unicorn,nginx"], |c| {
                c.exports = [Convention::Unicorn, Convention::Nginx].into()
            }),
            (&["--backlog=0"], |_| ()),
            (&["--pid-file=p"], |c| c.pid_file = Some("p".into())),
            (&["--status-file=s"], |c| c.status_file = Some("s".into())),
            (&["--status=s"], |c| c.status_file = Some("s".into())),
            (&["--pid=p"], |c| c.pid_file = Some("p".into())),
            (&["--log-file=l"], |c| c.log = Some(LogTarget::File("l".into()))),
            (&["--log-file=| cat -n"], |c| c.log = Some(LogTarget::Command("cat -n".to_owned()))),
            (&["--log-file= |a|b"], |c| c.log = Some(LogTarget::Command("a|b".to_owned()))),
            (&["--control-socket=c"], |c| c.control_socket = Some("c".into())),
            (&["--envdir=e"], |c| c.overrides.envdir = Some("e".into())),
            (&["--enable-auto-restart"], |c| c.overrides.enable_auto_restart = true),
            (&["--daemonize", "--log-file=l", "--daemonize"], |c| {
                (c.daemonize, c.log) = (true, Some(LogTarget::File("l".into())));
            }),
            (&["--ready=alive"], |_| ()),
            (&["--ready=notify"], |c| c.ready = ReadyRule::Notify),
            (&["--ready=accept"], |c| c.ready = ReadyRule::Accept),
            (&["--ready=exec:curl -f x"], |c| c.ready = ReadyRule::Exec("curl -f x".to_owned())),
            (&["--ready-timeout=2m"], |c| c.ready_timeout = Duration::from_secs(120)),
            (&["--max-attempts=3"], |c| c.max_attempts = NonZeroU32::new(3)),
            (&["--backoff-max=30"], |c| c.backoff_max = Some(Duration::from_secs(30))),
            (&["--drain-timeout=30"], |c| c.drain_timeout = Some(Duration::from_secs(30))),
            (&["--stop-timeout=30"], |c| c.stop_timeout = Some(Duration::from_secs(30))),
            (&["--term-delay=5"], |c| c.term_delay = Some(Duration::from_secs(5))),
            (&["--term-delay=0"], |_| ()),
            (&["--max-old-generations=2"], |c| c.max_old_generations = NonZeroU32::new(2)),
        ];
        for (line, change) in cases {
            let mut expected = config(&[]);
            change(&mut expected);
            assert_eq!(config(line), expected, "{line:?}");
        }
        let overrides = config(&["--kill-old-delay=5", "--auto-restart-interval=2m"]).overrides;
        assert_eq!((overrides.kill_old_delay, overrides.auto_restart_interval), (span("5"), span("2m")));
        assert_eq!(config(&["--interval=2"]).interval, seconds(2));
    }

    #[test]
    fn ports_come_before_paths() {
        let listeners =
            config(&["--path=/a,/b", "--listen=unix:@d", "--port=80,u81", "--path=/c", "--port=[::1]:82=9"]).listeners;
        let names: Vec<_> = listeners.iter().map(|spec| spec.spelling.display().to_string()).collect();
        assert_eq!(names, ["80", "81", "[::1]:82", "/a", "/b", "/c", "@d"]);
        assert_eq!(listeners[2].descriptor, Some(9));
        assert!(matches!(listeners[1].address, ListenAddress::Udp(_)));
    }

    #[test]
    fn what_is_said_of_one_listener_comes_before_what_is_said_of_all() {
        let line = ["--listen=80,backlog=5,nonblock=no", "--port=81", "--nonblock", "--defer-accept=7", "--backlog=9"];
        let listeners = config(&line).listeners;
        let said: Vec<_> = listeners.iter().map(|spec| (spec.options.backlog, spec.options.nonblock)).collect();
        assert_eq!(said, [(Some(9), Some(true)), (Some(5), Some(false))]);
        assert!(listeners.iter().all(|spec| spec.options.defer_accept == Some(7)));
        for line in [&["--port=80"][..], &["--port=80", "--backlog=0"]] {
            let expected = ListenOptions { backlog: Some(4096), ..ListenOptions::default() };
            assert_eq!(config(line).listeners[0].options, expected);
        }
    }

    #[test]
    fn a_preset_comes_below_what_is_given() {
        let nginx = config(&["--preset=nginx", "--port=80"]);
        assert_eq!((nginx.signal_on_hup, nginx.signal_on_term), (Signal::QUIT, Signal::QUIT));
        assert_eq!((nginx.ready, nginx.exports), (ReadyRule::Accept, [Convention::Nginx].into()));
        assert_eq!(nginx.listeners[0].options.nonblock, Some(true));
        let changed = config(&[
            "--preset=nginx",
            "--port=80",
            "--signal-on-hup=TERM",
            "--nonblock=no",
            "--export=none",
            "--ready=alive",
        ]);
        assert_eq!((changed.signal_on_hup, changed.signal_on_term), (Signal::TERM, Signal::QUIT));
        assert_eq!((changed.ready, changed.exports), (ReadyRule::Alive, BTreeSet::new()));
        assert_eq!(changed.listeners[0].options.nonblock, Some(false));
        assert!(changed.warnings.is_empty());
        let Ok(Command::Help(list)) = read(&["--preset=list"]) else { panic!("no list") };
        assert!(list.contains("\nnginx\n"));
    }

    #[test]
    fn one_signal_without_the_other_is_worth_a_word() {
        let only = |option: &str| config(&[option]).warnings.join("\n");
        assert!(only("--signal-on-hup=QUIT").starts_with("--signal-on-hup is given and --signal-on-term is not, so"));
        assert!(only("--signal-on-term=QUIT").starts_with("--signal-on-term is given and --signal-on-hup is not, so"));
        assert!(config(&["--signal-on-term=QUIT", "--signal-on-hup=QUIT"]).warnings.is_empty());
    }

    #[test]
    fn a_wrapper_that_stays_in_front_is_worth_a_word() {
        let warnings = |program: &[&str]| match read(&[&["--"], program].concat()) {
            Ok(Command::Run(config)) => config.warnings.join("\n"),
            other => panic!("{program:?} gave {other:?}"),
        };
        assert!(warnings(&["runuser", "-u", "app", "--", "x"]).contains("runuser: it stays in front of the program"));
        assert!(warnings(&["/bin/su", "app", "-c", "x"]).contains("--user=USER"));
        assert!(warnings(&["sudo", "-u", "app", "x"]).contains("keeps the listeners"));
        assert_eq!(warnings(&["setpriv", "--reuid=1", "x"]) + &warnings(&["gosu", "app", "x"]), "");
    }

    #[test]
    fn the_program_is_left_alone() {
        for (line, expected) in [
            (&["--", "prog", "--port=80", "--", "-x"][..], &["prog", "--port=80", "--", "-x"][..]),
            (&["--dir", "/", "prog", "--port=80", "--help"], &["prog", "--port=80", "--help"]),
            (&["prog", "-h"], &["prog", "-h"]),
            (&["--", "--help"], &["--help"]),
        ] {
            let Ok(Command::Run(config)) = read(line) else { panic!("{line:?} gave {:?}", read(line)) };
            let Program { name, arguments } = config.program;
            assert_eq!([vec![name], arguments].concat(), expected, "{line:?}");
        }
    }

    #[test]
    fn verbs() {
        let target = verb_target;
        let restart = |timeout, until, status_file| {
            Command::Restart(RestartVerb { target: target(), status_file, timeout, until })
        };
        for (line, expected) in [
            (&["--restart", "--pid-file=f", "--status-file=s"][..], restart(None, Until::Drained, Some("s".into()))),
            (&["--restart", "--pid-file=f"], restart(None, Until::Drained, None)),
            (&["--restart", "--pid-file=f", "--until=drained"], restart(None, Until::Drained, None)),
            (
                &["--restart", "--pid-file=f", "--until=commit", "--timeout=5"],
                restart(Some(Duration::from_secs(5)), Until::Commit, None),
            ),
            (&["--restart", "--stop", "--status", "--pid-file=f"], restart(None, Until::Drained, None)),
            (&["--stop", "--pid-file=f"], Command::Stop(StopVerb { target: target(), timeout: None })),
            (
                &["--stop", "--pid-file=f", "--timeout=1m", "--port=http", "--daemonize", "--json", "--", "prog"],
                Command::Stop(StopVerb { target: target(), timeout: Some(Duration::from_secs(60)) }),
            ),
            (&["--stop", "--status", "--pid-file=f"], Command::Stop(StopVerb { target: target(), timeout: None })),
            (
                &["--status", "--pid-file=f"],
                Command::Status(StatusVerb { target: target(), json: false, serving: false }),
            ),
            (
                &["--pid-file=f", "--status", "--json"],
                Command::Status(StatusVerb { target: target(), json: true, serving: false }),
            ),
            (
                &["--status", "--pid=7"],
                Command::Status(StatusVerb {
                    target: Target { pid_file: None, control_socket: None, pid: Some(7) },
                    json: false,
                    serving: false,
                }),
            ),
            (
                &["--stop", "--control-socket=c"],
                Command::Stop(StopVerb {
                    target: Target { pid_file: None, control_socket: Some("c".into()), pid: None },
                    timeout: None,
                }),
            ),
        ] {
            assert_eq!(read(line), Ok(expected), "{line:?}");
        }
    }

    #[test]
    fn help_and_version_come_first() {
        for line in [&["--help"][..], &["-h"], &["--version", "--help"], &["--restart", "--he"], &["--help", "prog"]] {
            let Ok(Command::Help(text)) = read(line) else { panic!("{line:?} gave {:?}", read(line)) };
            for part in ["Usage: start_server [OPTIONS] -- PROGRAM", "Listeners:", "Verbs", "--signal-on-hup <SIGNAL>"]
            {
                assert!(text.contains(part), "{part:?} is not in {text}");
            }
            assert!(text.ends_with('\n') && text.lines().all(|line| line.chars().count() <= 120), "{text}");
        }
        let version = concat!(env!("CARGO_PKG_VERSION"), "\n").to_owned();
        for line in [&["--version"][..], &["-v"], &["--stop", "--ver"]] {
            assert_eq!(read(line), Ok(Command::Version(version.clone())), "{line:?}");
        }
    }

    #[test]
    fn every_option_explains_itself() {
        for arg in Options::command().get_arguments() {
            let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
            let is_verb =
                matches!(arg.get_id().as_str(), "restart" | "stop" | "status" | "upgrade" | "help" | "version");
            assert!(is_verb || help.contains("[default: "), "{}: {help}", arg.get_id());
        }
    }

    #[test]
    fn errors() {
        let cases: &[(&[&str], &str)] = &[
            (&[], "server program not specified\nTry start_server --help"),
            (&["--port=80", "--"], "server program not specified\n"),
            (&["--", ""], "server program not specified\n"),
            (&["--bogus", "prog"], "Unknown option: bogus\nTry start_server --help"),
            (&["--prot=80", "prog"], "Unknown option: prot\nDid you mean --port?\nTry start_server --help"),
            (&["--p=80", "prog"], "Option p is ambiguous (path, pid-file, port)\n"),
            (&["--port=", "prog"], "Option port requires an argument\n"),
            (&["--pid-file", "", "prog"], "Option pid-file requires an argument\n"),
            (&["--enable-auto-restart=1"], "Option enable-auto-restart does not take an argument\n"),
            (&["--interval=abc", "prog"], "Value \"abc\" invalid for option interval (number of seconds expected, or"),
            (&["--interval=-1", "prog"], "Value \"-1\" invalid for option interval (a duration cannot be negative;"),
            (&["--interval", "--", "prog"], "Value \"--\" invalid for option interval (number"),
            (&["--help", "--interval=abc"], "Value \"abc\" invalid for option interval ("),
            (&["--kill-old-delay=soon", "prog"], "Value \"soon\" invalid for option kill-old-delay (number"),
            (
                &["--backlog=-1", "prog"],
                "Value \"-1\" invalid for option backlog (number from 0 to 2147483647 expected",
            ),
            (&["--backlog=2147483648"], "Value \"2147483648\" invalid for option backlog (number from"),
            (&["--signal-on-hup=NOSUCH", "prog"], "Value \"NOSUCH\" invalid for option signal-on-hup ("),
            (&["--ready=maybe", "prog"], "Value \"maybe\" invalid for option ready (alive, notify, accept or exec:"),
            (&["--ready=exec: ", "prog"], "Value \"exec: \" invalid for option ready (alive"),
            (&["--ready-timeout=0", "prog"], "Value \"0\" invalid for option ready-timeout (time above 0 expected"),
            (&["--max-attempts=0", "prog"], "Value \"0\" invalid for option max-attempts (whole number above 0"),
            (&["--log-file=|", "prog"], "Value \"|\" invalid for option log-file (command expected after the |"),
            (&["--until=now", "--restart"], "Value \"now\" invalid for option until (drained or commit expected"),
            (&["--pid=0", "--stop"], "Value \"0\" invalid for option pid (process id above 0 expected"),
            (&["--port=http", "prog"], "invalid ``port'' value:http: expected PORT, "),
            (&["--port=99999", "prog"], "invalid ``port'' value:99999: expected a port from 0 to 65535\n"),
            (&["--path=a,", "prog"], "invalid ``path'' value:: expected the path"),
            (&["--listen=80,colour", "prog"], "invalid ``listen'' value:80,colour: there is no colour; known are"),
            (&["--listen=80,name=a", "--listen=81,name=a", "prog"], "two listeners have the name a; give each"),
            (&["--first-fd=2", "prog"], "Value \"2\" invalid for option first-fd (number from 3 on expected"),
            (&["--nonblock=perhaps", "prog"], "Value \"perhaps\" invalid for option nonblock (yes or no expected"),
            (&["--export=systemd", "prog"], "Value \"systemd\" invalid for option export (none or a list of"),
            (&["--preset=apache", "prog"], "Value \"apache\" invalid for option preset (list or one of gunicorn"),
            (&["--port=80=7", "--port=81=7", "prog"], "descriptor 7 is given to two ports (=FD), but"),
            (&["--daemonize", "prog"], "Usage: --log-file option must be specified together with --daemonize\n"),
            (&["--json", "prog"], "Option json goes with --status only\n"),
            (&["--timeout=5", "prog"], "Option timeout goes with --restart, --stop or --upgrade only\n"),
            (&["--until=commit", "prog"], "Option until goes with --restart only\n"),
            (&["--pid=5", "prog"], "Option pid goes with --restart, --stop, --status or --upgrade only\n"),
            (&["--restart"], "--restart option requires --pid-file and --status-file to be set as well\n"),
            (&["--restart", "--status-file=s"], "--restart option requires --pid-file and --status-file to be"),
            (&["--stop"], "--stop option requires --pid-file to be set as well\n"),
            (&["--status"], "--status option requires --pid-file, --control-socket or --pid to be set as well\n"),
        ];
        for (line, expected) in cases {
            let error = read(line).expect_err(expected);
            assert!(error.to_string().starts_with(expected), "{line:?} gave {error}");
            assert!(error.to_string().ends_with("\nTry start_server --help"), "{line:?} gave {error}");
        }
    }

    #[test]
    fn what_is_not_text() {
        let odd = |prefix: &str| OsString::from_vec([prefix.as_bytes(), b"x\xff"].concat());
        let line = ["--dir=", "--envdir=", "--path=", "--pid-file=", "--log-file=", "pro", "arg"].map(odd);
        let Ok(Command::Run(config)) = parse(line.into_iter()) else { panic!("refused") };
        assert_eq!(config.dir, Some(odd("").into()));
        assert_eq!(config.overrides.envdir, Some(odd("").into()));
        assert_eq!(config.listeners[0].spelling, odd(""));
        assert_eq!(config.pid_file, Some(odd("").into()));
        assert_eq!(config.log, Some(LogTarget::File(odd("").into())));
        assert_eq!(config.program, Program { name: odd("pro"), arguments: vec![odd("arg")] });

        for (word, expected) in [
            ("--interval=", "Value \"x\u{fffd}\" invalid for option interval (valid UTF-8 expected)"),
            ("--signal-on-hup=", "Value \"x\u{fffd}\" invalid for option signal-on-hup (valid UTF-8 expected)"),
            ("--log-file=|", "Value \"|x\u{fffd}\" invalid for option log-file (valid UTF-8 expected in a command)"),
            ("--port=", "invalid ``port'' value:x\u{fffd}: it is not valid UTF-8"),
            ("--", "Unknown option: x\u{fffd}"),
        ] {
            let error = parse([odd(word), "prog".into()].into_iter()).expect_err(expected);
            assert!(error.to_string().starts_with(expected), "{word:?} gave {error}");
        }
    }
}
