//! Brings the words of a command line into the one form `--name=value` that the table of options is parsed in, and
//! finds where the program begins. It knows the habits of Getopt::Long and OptionParser: abbreviations, any case,
//! `-name value`. The command line is read through this first of all.

use std::ffi::{OsStr, OsString};
use std::iter::Peekable;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::usage_error::UsageError;

/// The options that Server::Starter has. What abbreviates one of them goes on doing so, whatever is added to the table.
const ORIGINAL: [&str; 19] = [
    "auto-restart-interval",
    "backlog",
    "daemonize",
    "dir",
    "enable-auto-restart",
    "envdir",
    "help",
    "interval",
    "kill-old-delay",
    "log-file",
    "path",
    "pid-file",
    "port",
    "restart",
    "signal-on-hup",
    "signal-on-term",
    "status-file",
    "stop",
    "version",
];

/// A command line in two parts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// The options, a word each: `--name` or `--name=value`, with the full name.
    pub(super) options: Vec<OsString>,
    /// The program and its arguments, untouched: what follows `--`, or begins with the first word that is no option.
    pub(super) program: Vec<OsString>,
}

/// Sorts the words of a command line, less the name of the superdaemon itself, by the options in `table`.
///
/// # Errors
///
/// A name that stands for no option or for several; a value that is missing or that is not wanted.
pub(super) fn sort(words: impl Iterator<Item = OsString>, table: &clap::Command) -> Result<Words, UsageError> {
    let mut words = words.peekable();
    let mut options = Vec::new();
    while let Some(word) = words.next_if(|word| is_option(word)) {
        if word == "--" {
            break;
        }
        options.push(write_out(word, &mut words, table)?);
    }
    Ok(Words { options, program: words.collect() })
}

/// A lone dash is no option, as ever.
fn is_option(word: &OsStr) -> bool {
    word.len() > 1 && word.as_bytes().starts_with(b"-")
}

/// Writes out one option in full, with its value, for which it may take the next word.
fn write_out(
    word: OsString,
    rest: &mut Peekable<impl Iterator<Item = OsString>>,
    table: &clap::Command,
) -> Result<OsString, UsageError> {
    let (typed, attached) = split(word);
    let typed = old_meaning(&typed, attached.as_deref(), rest.peek().map(OsString::as_os_str));
    let option = find(typed, table)?;
    let mut written = OsString::from(format!("--{}", option.name));
    let value = match attached {
        None if option.value != Wanted::Always => return Ok(written),
        Some(_) if option.value == Wanted::Never => {
            return Err(UsageError::new(format!("Option {} does not take an argument", option.name)));
        }
        Some(value) => Some(value).filter(|value| !value.is_empty()),
        // Whatever the next word looks like, it is the value.
        None => rest.next(),
    };
    written.push("=");
    written.push(value.ok_or_else(|| requires_argument(option.name))?);
    Ok(written)
}

/// The complaint about an option without its value.
pub(super) fn requires_argument(name: &str) -> UsageError {
    UsageError::new(format!("Option {name} requires an argument"))
}

/// Takes `-name` or `--name=value` apart. The name comes in lower case.
fn split(word: OsString) -> (String, Option<OsString>) {
    let word = word.into_vec();
    let word = word.strip_prefix(b"--").or(word.strip_prefix(b"-")).unwrap_or(&word);
    let mut parts = word.splitn(2, |byte| *byte == b'=');
    let name = String::from_utf8_lossy(parts.next().unwrap_or_default()).to_ascii_lowercase();
    (name, parts.next().map(|value| OsString::from_vec(value.to_vec())))
}

/// Two options have names that abbreviated an older one, `--status-file` and `--pid-file`. Where the value, or its
/// absence, shows that the older one is meant, that is what they stay.
fn old_meaning<'a>(name: &'a str, attached: Option<&OsStr>, next: Option<&OsStr>) -> &'a str {
    let is_number = |value: &OsStr| value.as_bytes().iter().all(u8::is_ascii_digit);
    match name {
        "status" if attached.is_some() || next.is_some_and(|word| !word.as_bytes().starts_with(b"-")) => "status-file",
        "pid" if !attached.or(next).is_some_and(is_number) => "pid-file",
        name => name,
    }
}

/// What has to be known about an option to write it out.
#[derive(Clone, Copy)]
struct Entry<'t> {
    name: &'t str,
    value: Wanted,
}

/// Whether an option has a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Never,
    /// Only as `--name=value`: the next word is not looked at.
    Maybe,
    Always,
}

/// Finds an option by its name or by an abbreviation that fits no other one.
fn find<'t>(typed: &str, table: &'t clap::Command) -> Result<Entry<'t>, UsageError> {
    let entry = |arg: &'t clap::Arg| {
        let value = match arg.get_action().takes_values() {
            false => Wanted::Never,
            true if arg.is_require_equals_set() => Wanted::Maybe,
            true => Wanted::Always,
        };
        Some(Entry { name: arg.get_long()?, value })
    };
    let entries: Vec<Entry> = table.get_arguments().filter_map(entry).collect();
    if let Some(exact) = entries.iter().find(|entry| entry.name == typed) {
        return Ok(*exact);
    }
    let fitting: Vec<Entry> = entries.iter().filter(|entry| entry.name.starts_with(typed)).copied().collect();
    let original: Vec<Entry> = fitting.iter().filter(|entry| ORIGINAL.contains(&entry.name)).copied().collect();
    match if original.is_empty() { fitting } else { original }.as_slice() {
        [] => Err(unknown(typed, &entries)),
        [only] => Ok(*only),
        several => {
            let mut names: Vec<&str> = several.iter().map(|entry| entry.name).collect();
            names.sort_unstable();
            Err(UsageError::new(format!("Option {typed} is ambiguous ({})", names.join(", "))))
        }
    }
}

fn unknown(typed: &str, entries: &[Entry]) -> UsageError {
    let closest = entries.iter().map(|entry| (distance(typed, entry.name), entry.name)).min();
    UsageError::new(match closest {
        Some((1 | 2, name)) if typed.len() > 2 => format!("Unknown option: {typed}\nDid you mean --{name}?"),
        _ => format!("Unknown option: {typed}"),
    })
}

/// The number of characters to insert, delete or replace to get from one word to the other (Levenshtein's distance).
fn distance(from: &str, to: &str) -> usize {
    // The distances from what was seen of `from` to each beginning of `to`.
    let mut row: Vec<usize> = (0..=to.chars().count()).collect();
    for (seen, a) in from.chars().enumerate() {
        let mut left = seen + 1;
        let mut above_left = std::mem::replace(row.iter_mut().next().unwrap_or(&mut 0), left);
        for (cell, b) in row.iter_mut().skip(1).zip(to.chars()) {
            let replaced = above_left + usize::from(a != b);
            above_left = *cell;
            left = replaced.min(above_left + 1).min(left + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::super::options::Options;
    use super::*;

    /// The words of a command line after sorting, with a bar before those of the program; or the error less its hint.
    fn sorted(line: &[&str]) -> String {
        match sort(line.iter().map(OsString::from), &Options::command()) {
            Ok(Words { options, program }) => {
                let words: Vec<OsString> = options.into_iter().chain(["|".into()]).chain(program).collect();
                words.iter().map(|word| word.display().to_string()).collect::<Vec<_>>().join(" ").trim().to_owned()
            }
            Err(error) => error.to_string().split("\nTry").next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn words_are_sorted() {
        let cases: &[(&[&str], &str)] = &[
            (&[], "|"),
            // Both ways to give a value, with one dash or two.
            (&["--port=80", "prog"], "--port=80 | prog"),
            (&["--port", "80", "prog"], "--port=80 | prog"),
            (&["-port=80", "prog"], "--port=80 | prog"),
            (&["-port", "80", "prog"], "--port=80 | prog"),
            (&["--port==80"], "--port==80 |"),
            (&["-h"], "--help |"),
            (&["-v"], "--version |"),
            (&["-i", "3"], "--interval=3 |"),
            // Abbreviations and case.
            (&["--por=80"], "--port=80 |"),
            (&["--int=1"], "--interval=1 |"),
            (&["--PORT=80"], "--port=80 |"),
            (&["--Port", "80"], "--port=80 |"),
            (&["--signal-on-TERM=QUIT"], "--signal-on-term=QUIT |"),
            (&["--enable"], "--enable-auto-restart |"),
            (&["--re"], "--restart |"),
            (&["--back=5"], "--backlog=5 |"),
            (&["--pi=f"], "--pid-file=f |"),
            (&["--stat=f"], "--status-file=f |"),
            (&["--sto"], "--stop |"),
            (&["--stop"], "--stop |"),
            (&["--dr=5"], "--drain-timeout=5 |"),
            (&["--max-a=5"], "--max-attempts=5 |"),
            (&["--ready=accept"], "--ready=accept |"),
            (&["--p=80"], "Option p is ambiguous (path, pid-file, port)"),
            (&["--P=80"], "Option p is ambiguous (path, pid-file, port)"),
            (&["-p", "80"], "Option p is ambiguous (path, pid-file, port)"),
            (&["--s=1"], "Option s is ambiguous (signal-on-hup, signal-on-term, status-file, stop)"),
            (&["--sig=1"], "Option sig is ambiguous (signal-on-hup, signal-on-term)"),
            (&["--max=1"], "Option max is ambiguous (max-attempts, max-old-generations)"),
            (&["--read=1"], "Option read is ambiguous (ready, ready-timeout)"),
            // Flags and negations.
            (&["--daemonize", "x"], "--daemonize | x"),
            (&["--no-daemonize"], "Unknown option: no-daemonize"),
            (&["--nodaemonize"], "Unknown option: nodaemonize\nDid you mean --daemonize?"),
            (&["--enable-auto-restart=1"], "Option enable-auto-restart does not take an argument"),
            (&["--enable=1"], "Option enable-auto-restart does not take an argument"),
            (&["--stop="], "Option stop does not take an argument"),
            // Values that are missing or look like something else.
            (&["--port="], "Option port requires an argument"),
            (&["--por="], "Option port requires an argument"),
            (&["--port"], "Option port requires an argument"),
            (&["--signal-on-TERM"], "Option signal-on-term requires an argument"),
            (&["--interval", "--"], "--interval=-- |"),
            (&["--pid-file", "--x=y"], "--pid-file=--x=y |"),
            (&["--pid-file", "--"], "--pid-file=-- |"),
            (&["--signal-on-hup", ""], "--signal-on-hup= |"),
            // Names that used to be abbreviations.
            (&["--status"], "--status |"),
            (&["--status", "--json"], "--status --json |"),
            (&["--status", "--", "prog"], "--status | prog"),
            (&["--status=f"], "--status-file=f |"),
            (&["--status", "f", "prog"], "--status-file=f | prog"),
            (&["--pid=7"], "--pid=7 |"),
            (&["--pid", "7"], "--pid=7 |"),
            (&["--pid=/run/f"], "--pid-file=/run/f |"),
            (&["--pid", "/run/f"], "--pid-file=/run/f |"),
            (&["--pid"], "Option pid-file requires an argument"),
            // Where the program begins.
            (&["--", "prog", "-x"], "| prog -x"),
            (&["--", "prog", "--", "x"], "| prog -- x"),
            (&["--", "--prog"], "| --prog"),
            (&["prog", "-x", "--port=80"], "| prog -x --port=80"),
            (&["--dir", "d", "prog", "--", "--help"], "--dir=d | prog -- --help"),
            (&["--daemonize", "-", "x"], "--daemonize | - x"),
            // Words that no option has.
            (&["--bogus"], "Unknown option: bogus"),
            (&["--BOGUS=3"], "Unknown option: bogus"),
            (&["--prot=80"], "Unknown option: prot\nDid you mean --port?"),
            (&["--pid_file=f"], "Unknown option: pid_file\nDid you mean --pid-file?"),
            (&["-x"], "Unknown option: x"),
            (&["---port=80"], "Unknown option: -port\nDid you mean --port?"),
            (&["--port-file=f"], "Unknown option: port-file"),
        ];
        for (line, expected) in cases {
            assert_eq!(sorted(line), *expected, "{line:?}");
        }
    }

    #[test]
    fn values_and_program_need_not_be_text() {
        let odd = OsString::from_vec(b"x\xff=".to_vec());
        let mut attached = OsString::from("-pa=");
        attached.push(&odd);
        let words = sort([attached, odd.clone()].into_iter(), &Options::command());
        let mut option = OsString::from("--path=");
        option.push(&odd);
        assert_eq!(words, Ok(Words { options: vec![option], program: vec![odd] }));
    }

    #[test]
    fn every_original_option_is_in_the_table() {
        let table = Options::command();
        for name in ORIGINAL {
            assert!(table.get_arguments().any(|arg| arg.get_long() == Some(name)), "{name}");
        }
    }

    #[test]
    fn distances_are_levenshteins() {
        for (from, to, expected) in [
            ("", "", 0),
            ("", "ab", 2),
            ("ab", "", 2),
            ("port", "port", 0),
            ("prot", "port", 2),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(from, to), expected, "{from} {to}");
        }
    }
}
