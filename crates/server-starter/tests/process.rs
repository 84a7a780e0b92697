//! What a process is given, and what becomes of it: as seen by a program that was really started by start_server or
//! systemd's tool. That program is this test once more, running only `inside`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test reports what fails by panicking, and what it leaves out on standard error"
)]

use std::fmt::Write;
use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Command, Stdio};

use testkit::{Builder, Daemon, Port, TempDir, is_installed, start_server, wait_for};

/// Not a test: what the program does. It writes down what it finds, and waits for its end.
#[test]
#[ignore = "run by the others as a program of its own"]
fn inside() {
    // As long as this is the only thread that does anything.
    // SAFETY: the thread that runs the tests only waits for this one.
    unsafe { server_starter::remove_variables() };
    let mut report = String::new();
    match server_starter::inherited() {
        Ok(all) => {
            for it in all {
                let (name, typed) = (it.name.unwrap_or_default(), it.typed.unwrap_or_default());
                writeln!(report, "{} name=[{name}] typed=[{typed}] is {} at {}", it.number, it.kind, it.address)
                    .unwrap();
            }
        }
        Err(error) => writeln!(report, "{error}").unwrap(),
    }
    let left = std::env::vars().filter(|(name, _)| name.starts_with("SERVER_") || name.starts_with("LISTEN_"));
    writeln!(report, "variables: {}", left.count()).unwrap();
    // None of the sockets may reach a child, taken or not.
    let child = Command::new("ls").args(["-l", "/proc/self/fd"]).stdin(Stdio::inherit()).output().unwrap();
    writeln!(report, "sockets of a child: {}", String::from_utf8_lossy(&child.stdout).matches("socket:").count())
        .unwrap();
    // All of them, by the type that decides.
    let tcp = std::iter::from_fn(|| server_starter::take_next::<TcpListener>().ok().flatten()).count();
    let udp = std::iter::from_fn(|| server_starter::take_next::<UdpSocket>().ok().flatten()).count();
    let unix = std::iter::from_fn(|| server_starter::take_next::<UnixListener>().ok().flatten()).count();
    let datagram = std::iter::from_fn(|| server_starter::take_next::<UnixDatagram>().ok().flatten()).count();
    writeln!(report, "taken: {tcp} tcp, {udp} udp, {unix} unix, {datagram} datagram").unwrap();
    writeln!(report, "generation: {:?}", server_starter::generation()).unwrap();
    let stop = server_starter::Stop::new().unwrap();
    server_starter::status("all is well").unwrap();
    fs::write("report.new", report).unwrap();
    fs::rename("report.new", "report").unwrap();
    server_starter::ready().unwrap();
    stop.wait();
    server_starter::stopping().unwrap();
}

fn program() -> Vec<String> {
    let this = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    [&this, "--exact", "inside", "--ignored", "--test-threads=1"].map(str::to_owned).into()
}

/// What the program found, when start_server started it in this way.
fn report(set_up: impl FnOnce(Builder) -> Builder, through: &[&str]) -> (Daemon, String) {
    let builder = Daemon::new(start_server()).with_files().options(["--ready=notify", "--max-attempts=1"]);
    let words = through.iter().map(|word| (*word).to_owned()).chain(program());
    let daemon = set_up(builder).program(words).start();
    daemon.wait_line(" is ready after ");
    let text = daemon.text("report");
    (daemon, text)
}

#[test]
fn all_kinds_are_inherited_and_nothing_is_passed_on() {
    let port = Port::new();
    let (mut daemon, text) = report(
        |builder| {
            builder.options([
                format!("--port=127.0.0.1:{port}"),
                format!("--port=127.0.0.1:u{port}"),
                "--path=a=b".to_owned(),
                "--listen=unix-dgram:d".to_owned(),
            ])
        },
        &[],
    );
    let expected = format!(
        "3 name=[] typed=[127.0.0.1:{port}] is a TCP listener at 127.0.0.1:{port}\n\
         4 name=[] typed=[127.0.0.1:{port}] is a UDP socket at 127.0.0.1:{port}\n\
         5 name=[] typed=[a=b] is a unix listener at a=b\n\
         6 name=[] typed=[d] is a unix datagram socket at d\n\
         variables: 0\nsockets of a child: 0\ntaken: 1 tcp, 1 udp, 1 unix, 1 datagram\ngeneration: Some(1)\n"
    );
    assert_eq!(text, expected);
    let status = daemon.verb(["--status", "--pid-file=pid"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("all is well"), "{status:?}");
    assert_eq!(daemon.stop().code(), Some(0), "{:?}", daemon.lines());
}

#[test]
fn names_and_addresses_come_together() {
    let (web, other) = (Port::new(), Port::new());
    let set_up = |builder: Builder| {
        builder.options([
            format!("--listen=127.0.0.1:{web},name=web"),
            format!("--port=127.0.0.1:{other}"),
            "--export=listen-fds".to_owned(),
        ])
    };
    let (_daemon, text) = report(set_up, &[]);
    for line in [
        format!(" name=[web] typed=[127.0.0.1:{web}] is a TCP listener at 127.0.0.1:{web}\n"),
        format!(" name=[127.0.0.1_{other}] typed=[127.0.0.1:{other}] is a TCP listener at 127.0.0.1:{other}\n"),
    ] {
        assert!(text.contains(&line), "{text}");
    }
}

#[test]
fn standard_input_can_be_a_listener() {
    let port = Port::new();
    let (_daemon, text) = report(|builder| builder.option(format!("--port=127.0.0.1:{port}=0")), &[]);
    assert!(
        text.contains(&format!("0 name=[] typed=[127.0.0.1:{port}] is a TCP listener at 127.0.0.1:{port}\n")),
        "{text}"
    );
    assert!(text.contains("sockets of a child: 0\ntaken: 1 tcp, "), "{text}");
}

#[test]
fn descriptors_for_another_process_are_not_believed() {
    let port = Port::new();
    let set_up =
        |builder: Builder| builder.options([format!("--port=127.0.0.1:{port}"), "--export=listen-fds".to_owned()]);
    // The shell is the process that they are for, and does not become the program.
    let script = r#"unset SERVER_STARTER_PORT; trap 'kill $!' TERM; "$@" & wait; wait"#;
    let (_daemon, text) = report(set_up, &["sh", "-c", script, "sh"]);
    assert!(text.starts_with("variables: 0\n"), "{text}");
}

#[test]
fn a_variable_that_lies_is_an_error_that_says_so() {
    let port = Port::new();
    let set_up = |builder: Builder| builder.option(format!("--port=127.0.0.1:{port}"));
    let script = r#"SERVER_STARTER_PORT="127.0.0.1:1=3" exec "$@""#;
    let (_daemon, text) = report(set_up, &["sh", "-c", script, "sh"]);
    let expected = format!(
        "SERVER_STARTER_PORT=“127.0.0.1:1=3” names descriptor 3, which is a TCP listener at 127.0.0.1:{port} and not at \
         127.0.0.1:1; "
    );
    assert!(text.starts_with(&expected), "{text}");
}

#[test]
fn systemd_names_its_sockets() {
    const TOOL: &str = "systemd-socket-activate";
    if !is_installed(TOOL) {
        return;
    }
    struct Started(std::process::Child);
    impl Drop for Started {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let (dir, port) = (TempDir::new(), Port::new());
    let mut command = Command::new(TOOL);
    command.args(["--fdname=web", "-l", &format!("127.0.0.1:{port}")]).args(program());
    command.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let _started = Started(command.spawn().unwrap());
    // It starts the program when the first client comes.
    let client = || TcpStream::connect(("127.0.0.1", port.number())).ok();
    let _client = wait_for(|| format!("{TOOL} to listen"), client);
    let read = || fs::read_to_string(dir.path().join("report")).ok();
    let text = wait_for(|| "the program's report".to_owned(), read);
    let expected =
        format!("3 name=[web] typed=[] is a TCP listener at 127.0.0.1:{port}\nvariables: 0\nsockets of a child: 0\n");
    assert!(text.starts_with(&expected), "{text}");
    assert!(text.ends_with("generation: None\n"), "{text}");
}
