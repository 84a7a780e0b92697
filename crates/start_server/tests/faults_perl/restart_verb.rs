//! `--restart`: it ends, and it tells the truth.

use std::fs::File;
use std::io::Read;
use std::process::{Child, Stdio};

use testkit::{Address, Daemon, Port, command, get, wait_for};

use crate::{at, complaint, daemon, has_recorded, superdaemon};

const RESTART: [&str; 3] = ["--restart", "--pid-file=pid", "--status-file=status"];

/// A verb that runs while the test does other things.
struct Verb(Child);

impl Verb {
    fn restart(daemon: &Daemon) -> Self {
        let mut command = command(superdaemon());
        command.args(RESTART).current_dir(daemon.dir()).stdin(Stdio::null()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Its exit code, and what it said.
    fn end(mut self) -> (Option<i32>, String) {
        let status = wait_for(|| "the end of --restart".to_owned(), || self.0.try_wait().unwrap());
        let mut text = String::new();
        self.0.stderr.take().unwrap().read_to_string(&mut text).unwrap();
        (status.code(), text)
    }
}

impl Drop for Verb {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn started(options: &[&str], server: &[&str]) -> Daemon {
    let daemon = daemon().with_files().options(options).server(server).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    daemon
}

/// P9: --restart waited for one number only. When that generation failed and the next one came up, it waited for ever.
#[test]
fn p9_a_restart_whose_first_attempt_fails_ends() {
    let daemon = started(&["--interval=0.7"], &["--fail-generations=2"]);
    let restart = daemon.verb(RESTART);
    assert_eq!(restart.status.code(), Some(0), "{}", complaint(&restart));
    assert_eq!(daemon.wait_status_file(|generations| generations.len() == 1)[0].0, 3);
}

/// P9: of two restarts at the same time at least one never ended, and of ten most.
#[test]
fn p9_restarts_at_the_same_time_all_end() {
    let daemon = started(&["--interval=0.3"], &[]);
    for count in [2, 10] {
        let before = daemon.wait_status_file(|generations| generations.len() == 1)[0].0;
        let verbs: Vec<Verb> = (0..count).map(|_| Verb::restart(&daemon)).collect();
        for verb in verbs {
            let (code, text) = verb.end();
            assert_eq!(code, Some(0), "{text}");
        }
        let after = daemon.wait_status_file(|generations| generations.len() == 1)[0].0;
        assert!(after > before && after <= before + count, "from generation {before} to {after}");
    }
}

/// P9: a restart that came in between, by a signal for example, made it wait for ever, too.
#[test]
fn p9_a_restart_by_signal_in_between_does_not_matter() {
    let daemon = started(&["--interval=0.3"], &["--drain=1.5"]);
    let verb = Verb::restart(&daemon);
    daemon.wait_event(2, "start");
    daemon.hup();
    let (code, text) = verb.end();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(daemon.wait_status_file(|generations| generations.len() == 1)[0].0, 3);
}

/// P9: an old worker that does not go made it wait for ever, and there was no limit to be set.
#[test]
fn p9_with_a_stuck_old_worker_a_restart_ends_when_time_is_up() {
    let port = Port::new();
    let daemon = started(&[&at(&port), "--interval=0.1"], &["--ignore=TERM"]);
    let restart = daemon.verb(RESTART.into_iter().chain(["--timeout=1"]));
    assert_eq!(restart.status.code(), Some(4), "{}", complaint(&restart));
    let text = complaint(&restart);
    assert!(text.contains("time is up: generation 2 is current; still draining: "), "{text}");
    daemon.wait_status_file(|generations| generations == [1, 2]);
    let restart = daemon.verb(RESTART.into_iter().chain(["--until=commit"]));
    assert_eq!(restart.status.code(), Some(0), "{}", complaint(&restart));
}

/// P9: a superdaemon that was killed meanwhile made it wait for ever.
#[test]
fn p9_a_restart_fails_when_the_superdaemon_is_killed() {
    let mut daemon = started(&["--interval=0.7"], &["--fail-if=broken"]);
    File::create(daemon.path("broken")).unwrap();
    let verb = Verb::restart(&daemon);
    daemon.wait_event(2, "exit 1");
    daemon.signal("KILL");
    daemon.exit_status();
    let (code, text) = verb.end();
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains(&format!("the superdaemon (pid {}) ended", daemon.pid())), "{text}");
}

/// P10: nobody told the caller that a restart had failed: it was to be found in the log only.
#[test]
fn p10_a_failed_restart_is_reported_to_the_caller() {
    let port = Port::new();
    let options = [&at(&port), "--interval=0.7", "--max-attempts=1", "--log-file=log"];
    let builder = daemon().with_files().options(options).log("log");
    let daemon = builder
        .server(["--fail-if=broken", "--fail-status=7", "--say=line 12 of the configuration: unknown word"])
        .start();
    daemon.wait_status_file(|generations| generations == [1]);
    File::create(daemon.path("broken")).unwrap();
    let restart = daemon.verb(RESTART);
    let text = complaint(&restart);
    assert_eq!(restart.status.code(), Some(3), "{text}");
    let failed = daemon.wait_event(2, "exit 7").pid;
    for part in [
        format!("the restart failed: generation 2 (pid {failed}) exited with status 7 before it was ready"),
        "    line 12 of the configuration: unknown word".to_owned(),
        "generation 1 goes on serving".to_owned(),
    ] {
        assert!(text.contains(&part), "no “{part}” in:\n{text}");
    }
    assert!(!has_recorded(&daemon, 1, "signal TERM"));
    assert_eq!(get(&Address::local(port.number()), "/").unwrap().generation, 1);
}
