//! States of other versions: programs in between write what a newer one would have written, and what an older one would
//! have left out.

use serde_json::{Value, json};
use testkit::Daemon;

use crate::programs::{OURS, program_of, put_program, state, text, upgrade_to, upgraded};
use crate::world::{ours, status};

fn daemon() -> Daemon {
    let daemon =
        ours().options(["--path=socket", "--interval=0", "--drain-timeout=600"]).server(["--drain=600"]).start();
    daemon.wait_ready(1);
    daemon.hup();
    daemon.wait_line("killing old workers");
    daemon.wait_ready(2);
    daemon
}

/// A program that changes the state that it is given with these lines of Python, and then is ours. On trial it does
/// the same to its copy.
fn put_changing(daemon: &Daemon, name: &str, change: &str) -> std::path::PathBuf {
    let script = format!(
        r#"#!/usr/bin/python3
import json, os, sys
words = os.environ["START_SERVER_STATE"].split(":")
fd = int(words[1])
state = json.loads(os.pread(fd, 10000000, 0))
{change}
text = json.dumps(state).encode()
os.ftruncate(fd, 0)
os.pwrite(fd, text, 0)
os.execv("{OURS}", sys.argv)
"#
    );
    put_program(daemon.dir(), name, &script);
    daemon.path(name)
}

#[test]
fn what_a_newer_program_has_written_survives() {
    let mut daemon = daemon();
    let newer = put_changing(
        &daemon,
        "newer",
        r#"
state.update(format=2, version="9.9.9", colour="blue")
state["tally"]["smiles"] = 3
state["listeners"][0]["steering"] = {"slots": [1, 2]}
for generation in state["generations"].values(): generation["weight"] = 0.5
"#,
    );
    let output = upgrade_to(&daemon, &newer);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("was start_server 9.9.9 and is "), "{}", text(&output));
    let check = |state: Value| {
        assert_eq!((&state["format"], &state["needs"]), (&json!(1), &json!(1)));
        assert_eq!(state["colour"], "blue");
        assert_eq!(state["tally"]["smiles"], 3);
        assert_eq!(state["listeners"][0]["steering"]["slots"], json!([1, 2]));
        assert_eq!(state["generations"]["1"]["weight"], 0.5);
        assert_eq!(state["generations"]["2"]["weight"], 0.5);
    };
    check(state(&daemon));
    let output = daemon.verb([format!("--upgrade={OURS}"), "--pid-file=pid".to_owned()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    check(state(&daemon));
    // What belonged to a generation goes with it; a new one has none.
    daemon.hup();
    daemon.wait_line("generation 3 (pid");
    daemon.settle();
    daemon.signal("SEGV");
    daemon.wait_line(" crashed: ");
    daemon.settle();
    let state = state(&daemon);
    assert_eq!(state["colour"], "blue");
    assert_eq!(state["generations"]["2"]["weight"], 0.5);
    assert_eq!(state["generations"]["3"]["weight"], Value::Null);
    assert_eq!(status(&daemon).upgrades, 2);
    daemon.signal("QUIT");
    assert_eq!(daemon.exit_status().code(), Some(0));
}

#[test]
fn what_an_older_program_has_left_out_has_a_default() {
    let mut daemon = daemon();
    let older = put_changing(
        &daemon,
        "older",
        r#"
for name in ["stopping_since", "check", "status_file", "launcher", "excerpt", "previous", "trial", "log_command"]:
    state.pop(name)
state["version"] = "0.0.1"
"#,
    );
    let output = upgrade_to(&daemon, &older);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    upgraded_by_path(&daemon);
    assert_eq!(status(&daemon).upgrades, 2);
    daemon.signal("QUIT");
    assert_eq!(daemon.exit_status().code(), Some(0));
}

fn upgraded_by_path(daemon: &Daemon) {
    let output = daemon.verb([format!("--upgrade={OURS}"), "--pid-file=pid".to_owned()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
}

#[test]
fn a_state_that_is_not_understood_is_refused() {
    let mut daemon = daemon();
    for (name, change, why) in [
        (
            "too-new",
            "state.update(format=7, needs=7, version='9.9.9')",
            "the state is in format 7 of start_server 9.9.9",
        ),
        (
            "odd",
            "state['supervisor']['phase'] = {'dreaming': []}",
            "the state cannot be read: unknown variant `dreaming`",
        ),
        ("poor", "state.pop('supervisor')", "the state cannot be read: missing field `supervisor`"),
        ("list", "state = []", "the state cannot be read: "),
    ] {
        let program = put_changing(&daemon, name, change);
        let output = upgrade_to(&daemon, &program);
        assert_eq!(output.status.code(), Some(1), "{name}: {}", text(&output));
        assert!(text(&output).contains(why), "{name}: {}", text(&output));
    }
    assert_eq!(status(&daemon).upgrades, 0);
    upgraded(&daemon);
    daemon.signal("QUIT");
    assert_eq!(daemon.exit_status().code(), Some(0));
}

/// It has stood its trial, and then it is gone.
#[test]
fn a_program_that_vanishes_after_its_trial_is_not_executed() {
    let mut daemon = daemon();
    put_program(daemon.dir(), "vanishing", &format!("#!/bin/sh\nrm \"$0\"; exec {OURS} \"$@\"\n"));
    let output = upgrade_to(&daemon, &daemon.path("vanishing"));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("cannot be executed: No such file or directory"), "{}", text(&output));
    assert_eq!((status(&daemon).upgrades, status(&daemon).crashes), (0, 0));
    // A crash finds the state of now, not that of the attempt.
    daemon.settle();
    daemon.signal("SEGV");
    daemon.wait_line(" crashed: ");
    upgraded(&daemon);
    daemon.signal("QUIT");
    assert_eq!(daemon.exit_status().code(), Some(0));
}

/// On trial it is well, in earnest it fails: the program of before has its place back, and the caller hears of it.
#[test]
fn a_program_that_fails_after_its_trial_gives_the_place_back() {
    let mut daemon = daemon();
    let program = program_of(&daemon);
    let script = format!(
        "#!/bin/sh\ncase $START_SERVER_STATE in trial:*) exec {OURS} \"$@\";; *) exec {OURS} --interval=never;; esac\n"
    );
    put_program(daemon.dir(), "treacherous", &script);
    let output = upgrade_to(&daemon, &daemon.path("treacherous"));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let why = "the new program could not go on: the command line is not understood: Value \"never\" invalid";
    assert!(text(&output).contains(why), "{}", text(&output));
    assert_eq!(program_of(&daemon), program);
    let seen = status(&daemon);
    assert_eq!((seen.upgrades, seen.crashes, seen.current), (0, 0, Some(2)));
    upgraded(&daemon);
    daemon.signal("QUIT");
    assert_eq!(daemon.exit_status().code(), Some(0));
    daemon.wait_gone();
}
