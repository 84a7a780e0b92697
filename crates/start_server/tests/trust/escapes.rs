//! What others have written, in the log and on terminals: a terminal obeys control characters, and a line end forges a
//! line of the log.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use testkit::Daemon;

use crate::world::{ours, put_program, with_say};

/// A sequence that sets the title of a terminal, one of a single character, a line of ours, and text turned around.
const EVIL: &str = "x\x1b]0;y\x07\u{9b}2Jz\ngeneration 9 is current\r\u{202e}\u{2028}end";

/// No character that a terminal would obey, but for the ends of lines and tabs.
fn assert_harmless(text: &str) {
    let harmful = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
    };
    assert!(!text.contains(harmful), "{text:?}");
    assert!(!text.lines().any(|line| line.starts_with("generation 9 is current")), "{text:?}");
}

fn harmless(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes).into_owned();
    assert_harmless(&text);
    text
}

#[test]
fn what_a_program_says_of_itself_is_shown_without_control_characters() {
    let say = r#"exec ./say "$(printf 'READY=1\nSTATUS=x\033]0;y\007\302\2332Jz\r\342\200\256end')" stay"#;
    let daemon = with_say(ours()).option("--ready=notify").program(["sh", "-c", say]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    for verb in [&["--status"][..], &["--status", "--json"]] {
        let output = daemon.verb(verb.iter().chain(&["--pid-file=pid"]));
        let text = harmless(&output.stdout);
        assert!(text.contains("2Jz") && text.contains("end"), "{text}");
    }
    assert_harmless(&daemon.text("stderr"));
}

#[test]
fn command_lines_are_shown_without_control_characters() {
    let daemon = ours().option("--interval=0.1").program(["sh", "-c", "exec sleep 600", EVIL]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    let output = daemon.verb(["--status", "--pid-file=pid"]);
    assert!(harmless(&output.stdout).contains("program: sh -c exec sleep 600 x"));
    // Programs get them as they are.
    let output = daemon.verb(["--status", "--json", "--pid-file=pid"]);
    harmless(&output.stdout);
    let status: control::Status = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(status.command.last().map(String::as_str), Some(EVIL));
}

#[test]
fn last_words_and_other_programs_output_are_quoted_without_control_characters() {
    let evil = |exit: u32| format!("#!/bin/sh\n[ -e bad ] || exec sleep 600\nprintf '%s' \"$EVIL\"; exit {exit}\n");
    let builder = ours().options(["--interval=0.1", "--max-attempts=1", "--log-file=log"]).log("log").env("EVIL", EVIL);
    put_program(builder.dir(), "server", &evil(1));
    let daemon = builder.program(["./server"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    fs::write(daemon.path("bad"), "").unwrap();
    let output = daemon.verb(["--restart", "--pid-file=pid"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(harmless(&output.stderr).contains("]0;y"));
    // A program that is no start_server, on trial.
    let output = daemon.verb(["--upgrade=./server", "--pid-file=pid"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(harmless(&output.stderr).contains("there is no upgrade"), "{output:?}");
    // The superdaemon's own lines; the program writes into its log what it likes.
    let refused = daemon.wait_line("upgrade: refused");
    assert_harmless(&refused);
}

#[test]
fn names_of_processes_are_shown_without_control_characters() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let script = format!(
        "import socket,time\ns=socket.socket()\ns.setsockopt(1,2,1)\ns.bind(('127.0.0.1',{port}))\ns.listen()\n\
         open('/proc/self/comm','wb').write(b'a\\x1b[2J\\nb\\xff')\nopen('up','w').write('1')\ntime.sleep(600)"
    );
    let holder = ours().option("--interval=0.1").program(["python3", "-c", &script]).start();
    holder.wait_file("up");
    let mut daemon = ours().option(format!("--port=127.0.0.1:{port}")).program(["sleep", "600"]).start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    let error = daemon.text("stderr");
    assert_harmless(&error);
    assert!(error.contains("a\u{fffd}[2J\u{fffd}b"), "{error:?}");
}

#[test]
fn names_in_the_envdir_make_one_line() {
    let builder = ours().options(["--interval=0.1", "--envdir=env"]).program(["sleep", "600"]);
    fs::create_dir(builder.dir().join("env")).unwrap();
    fs::write(builder.dir().join("env").join(OsStr::from_bytes(format!("{EVIL}=").as_bytes())), "1").unwrap();
    let daemon = builder.start();
    daemon.wait_status_file(|generations| generations == [1]);
    assert_harmless(&daemon.text("stderr"));
    daemon.wait_line("end= in the envdir: the name of a variable cannot contain =");
}

#[test]
fn what_is_typed_is_shown_without_control_characters() {
    let ours = env!("CARGO_BIN_EXE_start_server");
    let lines: [&[&str]; 6] = [
        &["--port=\u{1b}[2J.invalid:80", "--", "true"],
        &["--path=/nonexistent/\u{1b}[2J\u{202e}", "--", "true"],
        &["--\u{1b}[2J"],
        &["--status", "--pid-file=/nonexistent/\u{1b}[2J\u{9b}"],
        &["--restart", "--pid-file=/nonexistent/\u{1b}[2J", "--status-file=x"],
        &["--pid-file=/nonexistent/\u{1b}[2J", "--", "true"],
    ];
    for words in lines {
        let output = Command::new(ours).args(words).output().unwrap();
        assert!(!output.status.success());
        assert!(harmless(&output.stderr).to_lowercase().contains("[2j"), "{words:?}: {output:?}");
    }
    let mut daemon = Daemon::new(ours).option("--log-file=log").program(["./\u{1b}[2J\ngeneration 9 is current"]);
    daemon = daemon.options(["--max-attempts=1", "--interval=0"]);
    let mut daemon = daemon.log("log").start();
    daemon.exit_status();
    let log = daemon.text("log");
    assert!(log.contains("Can't exec"), "{log}");
    assert_harmless(&log);
    assert_harmless(&daemon.text("stderr"));
}
