//! What several tests share: a superdaemon to be given options, programs for it to run, and looks at it from outside.
#![allow(dead_code, reason = "no test uses everything")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use control::{Generation, Status};
use testkit::{Builder, Daemon, testserver};

/// Ours, with its files.
pub fn ours() -> Builder {
    Daemon::new(env!("CARGO_BIN_EXE_start_server")).with_files()
}

/// The command line of a shell that runs `script`, in which `$SERVER` is a testserver.
pub fn shell(script: &str) -> [String; 3] {
    let server = format!("{} --record=record --dump=dump.%g", testserver().display());
    ["sh".to_owned(), "-c".to_owned(), format!("SERVER='{server}'; {script}")]
}

/// A script that leaves a child, a child in another session, and a process that nobody is the parent of but the
/// superdaemon; none of them heeds SIGTERM. See [`FAMILY`].
pub const BEGET: &str = "trap '' TERM; sleep 601 & setsid sleep 602 & setsid -f sh -c 'sleep 603; :'; trap - TERM;";

/// What of it is seen.
pub const FAMILY: [&str; 3] = ["sleep 601", "sleep 602", "sleep 603"];

/// Waits until there are so many processes of each kind in [`FAMILY`].
pub fn wait_family(daemon: &Daemon, count: usize) {
    for words in FAMILY {
        daemon.wait_for(&format!("{count} {words}"), || (running(daemon, words).len() == count).then_some(()));
    }
}

/// Puts the program `./say` into the superdaemon's directory. It sends each argument as a datagram to
/// `$NOTIFY_SOCKET`; after the word `stay` it stays.
pub fn with_say(daemon: Builder) -> Builder {
    let script = r#"#!/usr/bin/perl
use Socket;
my $name = $ENV{NOTIFY_SOCKET} or die "there is no NOTIFY_SOCKET";
$name =~ s/^@/\0/;
socket(my $socket, AF_UNIX, SOCK_DGRAM, 0) or die $!;
for my $message (@ARGV) {
    sleep 600 if $message eq 'stay';
    defined send($socket, $message, 0, pack('S a*', AF_UNIX, $name)) or die $!;
}
"#;
    put_program(daemon.dir(), "say", script);
    daemon
}

/// Makes an executable file. A process of its own writes it: else it would be busy for as long as a child of another
/// test has its descriptor.
pub fn put_program(dir: &Path, name: &str, text: &str) {
    let mut install = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(dir.join(name))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    install.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(install.wait().unwrap().success());
    fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
}

/// Copies a program, by a process of its own for the same reason.
pub fn copy_program(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-L").args([from, to]).status().unwrap().success());
}

/// What `--status --json` says.
pub fn status(daemon: &Daemon) -> Status {
    let output = daemon.verb(["--status", "--json", "--pid-file=pid"]);
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What `--status --json` says of a generation.
pub fn generation(daemon: &Daemon, number: u32) -> Option<Generation> {
    status(daemon).generations.into_iter().find(|generation| generation.generation == number)
}

/// How many descriptors the superdaemon has open.
pub fn descriptors(daemon: &Daemon) -> usize {
    fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count()
}

/// The processes of a daemon that run exactly this command line.
pub fn running(daemon: &Daemon, words: &str) -> Vec<u32> {
    let runs = |pid: &u32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ") == words
    };
    daemon.processes().into_iter().filter(runs).collect()
}

/// Whether we are root; if not, says which test cannot be made.
pub fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("{test}: needs root, to run a program as another user; not tested");
    }
    root
}
