//! The directory of environment variables.

use std::fs;
use std::thread;
use std::time::Duration;

use testkit::{Builder, Daemon, Port};

use crate::{at, daemon, lines_with};

/// A superdaemon that is to have these files in its envdir.
fn with_envdir(files: &[(&str, &str)]) -> Builder {
    let builder = daemon().with_files().options(["--interval=0.1", "--envdir=env"]);
    let directory = builder.dir().join("env");
    fs::create_dir(&directory).unwrap();
    for (name, value) in files {
        fs::write(directory.join(name), format!("{value}\n")).unwrap();
    }
    builder
}

/// The value of a variable in the next generation.
fn after_restart(daemon: &Daemon, generation: u32, variable: &str) -> Option<String> {
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [generation]);
    daemon.wait_dump(generation).env(variable).map(str::to_owned)
}

/// P11: a variable whose file was removed came back with the value that it had when the superdaemon was started.
#[test]
fn p11_a_variable_goes_with_its_file() {
    let files = [("COLOUR", "red"), ("SHAPE", "round")];
    let daemon = with_envdir(&files).env("SHAPE", "square").server([""; 0]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    assert_eq!(daemon.wait_dump(1).env("COLOUR"), Some("red"));
    assert_eq!(daemon.wait_dump(1).env("SHAPE"), Some("round"));
    fs::write(daemon.path("env/COLOUR"), "green\n").unwrap();
    assert_eq!(after_restart(&daemon, 2, "COLOUR"), Some("green".to_owned()));
    fs::remove_file(daemon.path("env/COLOUR")).unwrap();
    assert_eq!(after_restart(&daemon, 3, "COLOUR"), None);
    fs::remove_file(daemon.path("env/SHAPE")).unwrap();
    assert_eq!(after_restart(&daemon, 4, "SHAPE"), Some("square".to_owned()), "the superdaemon's own");
}

/// P12: files named like the variables of the protocol replaced these: workers got the wrong sockets, and the number
/// of the generation stood still.
#[test]
fn p12_the_envdir_cannot_change_the_protocol() {
    let port = Port::new();
    let files = [("SERVER_STARTER_PORT", "127.0.0.1:1=77"), ("SERVER_STARTER_GENERATION", "77")];
    let daemon = with_envdir(&files).option(at(&port)).server([""; 0]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    for generation in 1..=3 {
        if generation > 1 {
            daemon.hup();
            daemon.wait_status_file(|generations| generations == [generation]);
        }
        let dump = daemon.wait_dump(generation);
        let listeners = dump.env("SERVER_STARTER_PORT").unwrap();
        assert!(listeners.starts_with(&format!("127.0.0.1:{port}=")), "{listeners}");
        assert_eq!(dump.env("SERVER_STARTER_GENERATION"), Some(generation.to_string().as_str()));
    }
}

/// P13: auto-restart that was switched on by a file in the envdir acted only when something else happened, and could
/// not be switched off again.
#[test]
fn p13_auto_restart_can_be_switched_on_and_off_while_running() {
    let daemon = with_envdir(&[("AUTO_RESTART_INTERVAL", "1"), ("KILL_OLD_DELAY", "0")]).server([""; 0]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    fs::write(daemon.path("env/ENABLE_AUTO_RESTART"), "1\n").unwrap();
    daemon.wait_status_file(|generations| generations == [2]);
    fs::remove_file(daemon.path("env/ENABLE_AUTO_RESTART")).unwrap();
    let triggered = lines_with(&daemon, "autorestart triggered");
    // What does not happen sends no event. Two intervals would have brought two more restarts; one may be under way.
    thread::sleep(Duration::from_millis(2500));
    assert!(lines_with(&daemon, "autorestart triggered") <= triggered + 1);
}
