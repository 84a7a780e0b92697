//! The PID file: whose it is, and whom it names.

use std::fs;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use testkit::{Address, Port, TempDir, command, get, wait_for};

use crate::{at, complaint, daemon, superdaemon};

/// P7: a second instance with the same PID file emptied it, then waited silently for the first to end, with its own
/// ports bound.
#[test]
fn p7_a_second_instance_with_the_same_pid_file_is_refused_before_it_binds() {
    let port = Port::new();
    let mut first = daemon().with_files().options([&at(&port), "--interval=0.1"]).server([""; 0]).start();
    first.wait_status_file(|generations| generations == [1]);
    // Were it to bind first, it would complain about this port.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = format!("--port={}", taken.local_addr().unwrap());
    let second = first.verb([
        "--pid-file=pid",
        "--status-file=status",
        "--path=second",
        taken_port.as_str(),
        "--",
        "sleep",
        "600",
    ]);
    assert!(!second.status.success());
    let text = complaint(&second);
    assert!(text.contains(&format!("another superdaemon (pid {}) runs with this PID file", first.pid())), "{text}");
    assert!(!text.contains("starting new worker"), "{text}");
    assert!(!first.path("second").exists());

    assert_eq!(first.text("pid"), format!("{}\n", first.pid()));
    assert_eq!(first.wait_status_file(|_| true)[0].0, 1);
    assert_eq!(get(&Address::local(port.number()), "/").unwrap().generation, 1);
    assert_eq!(first.verb(["--stop", "--pid-file=pid"]).status.code(), Some(0));
    assert!(first.exit_status().success());
}

/// A process that is no superdaemon, and writes down the signals that it gets.
struct Stranger(Child);

impl Stranger {
    fn new(directory: &TempDir) -> Self {
        let script = "trap 'echo HUP >>got' HUP; trap 'echo TERM >>got' TERM; trap over=1 USR1; echo ready >got
                      while [ -z \"$over\" ]; do sleep 0.01; done; echo over >>got";
        let child = command("sh").args(["-c", script]).current_dir(directory.path()).spawn().unwrap();
        let stranger = Self(child);
        let ready = || fs::read_to_string(directory.path().join("got")).ok().filter(|text| text == "ready\n");
        wait_for(|| "a shell".to_owned(), ready);
        stranger
    }

    /// Ends it.
    fn end(&mut self) {
        let pid = self.0.id();
        assert!(Command::new("sh").args(["-c", &format!("kill -USR1 {pid}")]).status().unwrap().success());
        wait_for(|| "the end of a shell".to_owned(), || self.0.try_wait().unwrap());
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// P8: a PID file that was left over was believed: whoever had the PID by then was signalled, and --stop reported
/// success.
#[test]
fn p8_a_stale_pid_file_harms_no_stranger() {
    let directory = TempDir::new();
    let mut stranger = Stranger::new(&directory);
    let pid = stranger.0.id();
    fs::write(directory.path().join("pid"), format!("{pid}\n")).unwrap();
    fs::write(directory.path().join("status"), format!("1:{pid}\n")).unwrap();
    for verb in ["--stop", "--restart", "--status"] {
        let output = Command::new(superdaemon())
            .args([verb, "--pid-file=pid", "--status-file=status"])
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(5), "{verb}");
        assert!(complaint(&output).contains("no superdaemon runs"), "{verb}: {}", complaint(&output));
    }
    stranger.end();
    assert_eq!(fs::read_to_string(directory.path().join("got")).unwrap(), "ready\nover\n");
}

/// P8: an empty PID file, or one with something else in it, was no better.
#[test]
fn p8_a_pid_file_without_a_pid_is_no_superdaemon() {
    let directory = TempDir::new();
    for content in ["", "\n", "0\n", "-1\n", "not a number\n", "99999999999999999999\n"] {
        fs::write(directory.path().join("pid"), content).unwrap();
        for verb in ["--stop", "--restart"] {
            let output = Command::new(superdaemon())
                .args([verb, "--pid-file=pid", "--status-file=pid"])
                .current_dir(directory.path())
                .output()
                .unwrap();
            assert_eq!(output.status.code(), Some(5), "{verb} {content:?}: {}", complaint(&output));
        }
    }
}
