//! The drill as its users run it: real superdaemons, real servers that keep or lose requests, real restarts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test reports what fails by panicking, and what it leaves out on standard error"
)]

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use testkit::{Address, Builder, Daemon, Port, TempDir, command, get, is_installed, start_server, testserver};

const DRILL: &str = env!("CARGO_BIN_EXE_drill");
/// No arguments.
const NONE: [&str; 0] = [];

/// A superdaemon whose server listens on `port`.
fn superdaemon(port: &Port) -> Builder {
    Daemon::new(start_server()).with_files().option(format!("--port=127.0.0.1:{port}"))
}

/// Drills a running superdaemon, and gives the exit status and the report.
fn drill<const N: usize>(daemon: &Daemon, options: [&str; N]) -> (i32, Value) {
    let options = options.into_iter().chain(["--json", "--pid-file=pid"]);
    report(&daemon.verb_of(Path::new(DRILL), options))
}

fn report(output: &Output) -> (i32, Value) {
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    let value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("no report: {error}\n{out}{err}"));
    (output.status.code().expect("the drill does not die of a signal"), value)
}

/// Runs a drill that does not begin, and gives its exit status and what it says.
fn refusal<const N: usize>(words: [&str; N]) -> (i32, String) {
    let output = Command::new(DRILL).args(words).stdin(Stdio::null()).output().unwrap();
    assert!(output.stdout.is_empty(), "{output:?}");
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

/// The findings, as `id fault`.
fn findings(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|one| format!("{} {}", one["id"].as_str().unwrap(), one["fault"].as_str().unwrap())).collect()
}

fn url(port: &Port) -> String {
    format!("http://127.0.0.1:{port}/")
}

/// A server that stops gracefully loses nothing, whatever the clients do; and the report has it all.
#[test]
fn a_graceful_server_loses_nothing() {
    let port = Port::new();
    let mut daemon = superdaemon(&port).option("--ready=accept").server(["--drain=0.1"]).start();
    daemon.wait_ready(1);
    let (code, report) =
        drill(&daemon, [&url(&port), "--restarts=2", "--pause=300ms", "--slow-path=/sleep/0.5", "--svg=picture.svg"]);
    assert_eq!((code, &report["verdict"], &report["lost"]), (0, &"nothing_lost".into(), &0.into()), "{report:#}");
    assert_eq!(report["ending"], "complete");
    assert_eq!(report["restarter"], "control-socket");
    assert_eq!(report["generations"], serde_json::json!([1, 2, 3]));
    for (number, restart) in report["restarts"].as_array().unwrap().iter().enumerate() {
        assert_eq!(restart["generation"], number + 2);
        let times: Vec<f64> =
            ["ready_ms", "committed_ms", "drained_ms"].iter().map(|name| restart[*name].as_f64().unwrap()).collect();
        assert!(times[0] <= times[1] && times[1] <= times[2], "{restart}");
    }
    for kind in ["new", "keep-alive", "delayed", "held", "slow"] {
        let client = &report["clients"][kind];
        assert!(client["in_restarts"].as_u64().unwrap() > 0, "{kind}: {report:#}");
    }
    assert_eq!(report["clients"]["held"]["in_restarts"], 4, "each of two clients held a request across two restarts");
    assert!(report["latency"]["restarts"]["p99_ms"].as_f64().unwrap() > 0.0);
    if is_installed("/usr/bin/python3") {
        let parse = "import sys, xml.dom.minidom; xml.dom.minidom.parse(sys.argv[1])";
        let output = daemon.verb_of(Path::new("/usr/bin/python3"), ["-c", parse, "picture.svg"]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    daemon.stop();
}

/// A server that is killed loses what it holds, and each loss is laid at its door.
#[test]
fn what_a_killed_server_held_is_its_loss() {
    let port = Port::new();
    let mut daemon = superdaemon(&port).option("--signal-on-hup=KILL").server(NONE).start();
    daemon.wait_ready(1);
    let (code, report) = drill(
        &daemon,
        [&url(&port), "--restarts=1", "--pause=500ms", "--kinds=delayed,held", "--delay=3s", "--slow-path=/sleep/3"],
    );
    assert_eq!((code, &report["verdict"]), (1, &"lost".into()), "{report:#}");
    let found = findings(&report);
    for expected in ["half-request-dropped server", "unread-connection-dropped server", "slow-request-cut server"] {
        assert!(found.iter().any(|found| found == expected), "no {expected} in {found:?}");
    }
    assert!(!found.iter().any(|found| found.starts_with("lost-in-calm")), "{found:?}");
    assert_eq!(report["clients"]["held"]["lost"][0]["how"], "reset_before");
    assert_eq!(report["clients"]["held"]["lost"][0]["when"], "restart");
    daemon.stop();
}

/// Who is taken for ready too early leaves the clients alone; that is a matter of options, and is said so.
#[test]
fn a_server_that_is_taken_for_ready_too_early_is_found_out() {
    let port = Port::new();
    let mut daemon = superdaemon(&port).option("--interval=0.1").server(["--ready-after=3"]).start();
    daemon.wait_ready(1);
    let (code, report) = drill(
        &daemon,
        [&url(&port), "--restarts=1", "--pause=500ms", "--kinds=new", "--clients=4", "--timeout=1200ms"],
    );
    assert_eq!(code, 1, "{report:#}");
    // The superdaemon took the restart for over before the first client gave up; the drill knows better.
    assert_eq!(findings(&report), ["nobody-accepted setup"], "{report:#}");
    assert_eq!(report["clients"]["new"]["lost"][0]["how"], "answer_timeout");
    daemon.stop();
}

/// A restart that closes the listener loses connections, and that is not the server's doing.
#[test]
fn refused_connections_are_laid_at_the_door_of_who_restarts() {
    let port = Port::new();
    let mut first = superdaemon(&port).server(NONE).start();
    first.wait_ready(1);
    let start = format!(
        "{} --port=127.0.0.1:{port} --pid-file=pid --daemonize --log-file=log -- {}",
        start_server().display(),
        testserver().display()
    );
    let command = format!("--with={} --stop --pid-file=pid && sleep 0.5 && {start}", start_server().display());
    let options = [&url(&port), &command, "--restarts=1", "--pause=300ms", "--kinds=new,keep-alive", "--json"];
    let (code, report) = report(&first.verb_of(Path::new(DRILL), options));
    assert_eq!((code, &report["restarter"]), (1, &"command".into()), "{report:#}");
    assert_eq!(findings(&report).first().map(String::as_str), Some("refused superdaemon"), "{report:#}");
    first.exit_status();
    first.adopt(first.text("pid").trim().parse().unwrap());
    first.term();
    first.wait_gone();
}

/// What a server can do to a request, each as its clients see it.
#[test]
fn every_kind_of_loss_is_recognised() {
    let closes = |mut connection: TcpStream| {
        // A good answer first, then none.
        answer(&mut connection, GOOD);
        take_request(&mut connection);
    };
    let says = |what: &'static str| move |mut connection: TcpStream| answer(&mut connection, what);
    let cut = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
    for (kind, server, how, expected) in [
        ("keep-alive", Box::new(closes) as Box<dyn Fn(TcpStream) + Send>, None, "keep-alive-race nobody"),
        ("new", Box::new(says(cut)), Some("reset_within"), "no-graceful-stop server"),
        ("new", Box::new(says("")), Some("reset_before"), "no-graceful-stop server"),
        ("new", Box::new(says(busy)), Some("wrong_status"), "wrong-status server"),
        ("new", Box::new(says("what?\r\n\r\n")), Some("wrong_answer"), "wrong-answer server"),
    ] {
        // Restarting does nothing here: the server behaves so as soon as the drill has seen that it serves.
        let address = serve(server);
        let options = [&format!("http://{address}/"), "--with=true", "--restarts=1", "--pause=100ms", "--rate=20"];
        let output = Command::new(DRILL).args(options).args(["--json", &format!("--kinds={kind}")]).output().unwrap();
        let (code, report) = report(&output);
        assert_eq!(code, i32::from(how.is_some()), "{expected}: {report:#}");
        assert!(findings(&report).iter().any(|found| found == expected), "{expected}: {report:#}");
        assert_eq!(report["clients"][kind]["lost"][0]["how"], serde_json::json!(how), "{report:#}");
        assert_eq!(report["keep_alive_races"].as_u64().unwrap() > 0, how.is_none(), "{report:#}");
    }
}

const GOOD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood";

/// Serves for the rest of the test: well on the first connection, as it is told on the others.
fn serve(server: Box<dyn Fn(TcpStream) + Send>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, connection) in listener.incoming().enumerate() {
            let mut connection = connection.unwrap();
            if number == 0 { answer(&mut connection, GOOD) } else { server(connection) }
        }
    });
    address
}

fn answer(connection: &mut TcpStream, what: &str) {
    if take_request(connection) {
        // The client may have gone.
        let _ = connection.write_all(what.as_bytes());
    }
}

/// Reads a request; false if none comes.
fn take_request(connection: &mut TcpStream) -> bool {
    connection.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut lines = BufReader::new(connection).lines();
    lines.by_ref().map_while(Result::ok).any(|line| line.is_empty())
}

/// Unix sockets are drilled too, by HTTP and by bytes.
#[test]
fn unix_sockets_are_drilled() {
    let mut daemon =
        Daemon::new(start_server()).with_files().options(["--path=app.sock", "--ready=accept"]).server(NONE).start();
    daemon.wait_ready(1);
    for options in [
        ["http://localhost/", "--unix=app.sock", "--restarts=1", "--pause=200ms"],
        [
            "unix:app.sock",
            r"--send=GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            "--expect=generation=",
            "--restarts=1",
        ],
    ] {
        let (code, report) = drill(&daemon, options);
        assert_eq!((code, &report["lost"]), (0, &0.into()), "{report:#}");
        assert_eq!(report["clients"]["held"]["in_restarts"], 2, "{report:#}");
    }
    daemon.stop();
}

/// A superdaemon of Server::Starter is drilled by its files.
#[test]
fn the_original_is_drilled() {
    if !is_installed("/usr/bin/start_server") {
        return;
    }
    let port = Port::new();
    let option = format!("--port=127.0.0.1:{port}");
    let mut daemon = Daemon::new("/usr/bin/start_server").with_files().option(option).server(NONE).start();
    daemon.wait_ready(1);
    let options = [&url(&port), "--restarts=1", "--pause=300ms", "--status-file=status"];
    let (code, report) = drill(&daemon, options);
    assert_eq!((code, &report["restarter"]), (0, &"status-file".into()), "{report:#}");
    assert!(report["restarts"][0]["drained_ms"].as_f64().unwrap() > 0.0);
    daemon.stop();
}

/// A restart that fails loses nothing, and is told apart.
#[test]
fn a_failed_restart_has_its_own_status() {
    let port = Port::new();
    let options = ["--max-attempts=1", "--ready=accept"];
    let mut daemon = superdaemon(&port).options(options).server(["--fail-generations=2"]).start();
    daemon.wait_ready(1);
    let (code, report) = drill(&daemon, [&url(&port), "--restarts=2", "--pause=200ms"]);
    assert_eq!((code, &report["verdict"]), (3, &"restart_failed".into()), "{report:#}");
    assert!(report["restarts"][0]["failure"].is_string() && report["restarts"][1]["failure"].is_null(), "{report:#}");
    assert!(findings(&report).contains(&"restart-failed unknown".to_owned()), "{report:#}");
    daemon.stop();
}

/// Nothing goes on beyond its limit.
#[test]
fn limits_hold() {
    let port = Port::new();
    let mut daemon = superdaemon(&port).option("--ready=accept").server(NONE).start();
    daemon.wait_ready(1);
    let (code, report) = drill(&daemon, [&url(&port), "--restarts=1000", "--requests=50"]);
    assert_eq!((code, &report["verdict"], &report["ending"]), (4, &"incomplete".into(), &"requests".into()));
    assert!(report["requests"].as_u64().unwrap() <= 50, "{report:#}");

    let (code, report) =
        drill(&daemon, [&url(&port), "--restarts=1000", "--duration=1.5s", "--pause=100ms", "--rate=20"]);
    assert_eq!((code, &report["ending"]), (4, &"time".into()));
    assert!(report["took_ms"].as_f64().unwrap() >= 1500.0);
    // Two clients of each kind, at most 20 requests a second from three kinds, and two held ones in each restart.
    let quick = ["new", "keep-alive", "delayed"].map(|kind| report["clients"][kind]["requests"].as_u64().unwrap_or(0));
    assert!((1..=40).contains(&quick.iter().sum::<u64>()), "{report:#}");
    daemon.stop();
}

/// A drill that starts its superdaemon ends it, too: at its end, and when it is interrupted.
#[test]
fn a_superdaemon_of_its_own_is_started_and_ended() {
    let port = Port::new();
    let output = own(&port, &["--restarts=1", "--pause=200ms"]).wait_with_output().unwrap();
    let (code, done) = report(&output);
    assert_eq!((code, &done["verdict"]), (0, &"nothing_lost".into()), "{done:#}");
    assert!(get_once(&port).is_none(), "nobody listens any more");

    let mut child = own(&port, &["--restarts=1000", "--pause=200ms"]);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("restart 1: generation 2"));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let mut out = String::new();
    child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
    let interrupted: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(4), "{interrupted:#}");
    assert_eq!(interrupted["ending"], "interrupted");
    assert!(interrupted["requests"].as_u64().unwrap() > 0);
    assert!(get_once(&port).is_none(), "nobody listens any more");
}

fn own(port: &Port, options: &[&str]) -> Child {
    let mut words: Vec<OsString> = vec![url(port).into(), "--json".into()];
    words.extend(options.iter().map(OsString::from));
    words.extend(["--".into(), "start_server".into(), format!("--port=127.0.0.1:{port}").into()]);
    words.extend(["--ready=accept".into(), "--".into(), testserver().into()]);
    // It is to be found beside the drill.
    start_server();
    let mut command = command(DRILL);
    command.args(words).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn get_once(port: &Port) -> Option<u32> {
    get(&Address::local(port.number()), "/").ok().map(|reply| reply.generation)
}

/// What cannot be drilled is said before anything is sent.
#[test]
fn what_cannot_be_drilled_is_refused() {
    let dir = TempDir::new();
    let pid_file = format!("--pid-file={}", dir.path().join("none").display());
    let port = Port::new();
    for (words, code, part) in [
        (["http://192.0.2.1/", "--pid=1"], 5, "not on the loopback interface"),
        (["http://[2001:db8::1]/", "--pid=1"], 5, "not on the loopback interface"),
        (["https://localhost/", "--pid=1"], 2, "https is not spoken"),
        (["http://localhost/", "--quiet"], 2, "whom to restart?"),
        (["http://localhost/", "--clients=0"], 2, "--clients"),
        (["--pid=1", "--restarts=1"], 2, "ADDRESS"),
        ([&url(&port), &pid_file], 5, "nobody listens there"),
    ] {
        let (found, said) = refusal(words);
        assert_eq!(found, code, "{words:?}: {said}");
        assert!(said.contains(part), "{words:?}: {said}");
    }
    let mut daemon = superdaemon(&port).server(NONE).start();
    daemon.wait_ready(1);
    let (code, said) = refusal([&url(&port), &pid_file]);
    assert!(code == 5 && said.contains("none"), "{code}: {said}");
    daemon.stop();
    let failing = ["--", "start_server", "--max-attempts=1", "--", "/bin/false"];
    let (code, said) = refusal([&url(&port), failing[0], failing[1], failing[2], failing[3], failing[4]]);
    assert!(code == 5 && said.contains("the superdaemon ended with"), "{code}: {said}");
}
