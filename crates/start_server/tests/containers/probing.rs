//! Verbs as `docker exec` and the probes of an orchestrator run them: inside of the container, by `--pid=1`.

use std::fs;

use crate::{can_contain, inside, ours, start};

#[test]
fn verbs_find_pid_1() {
    if !can_contain("verbs_find_pid_1") {
        return;
    }
    let mut daemon = start(ours().option("--ready=accept").server([""; 0]));
    daemon.wait_line("is ready after");
    let status = inside(&daemon, &["--status", "--pid=1"]);
    assert!(String::from_utf8_lossy(&status.stdout).contains("(pid 1), running for "), "{status:?}");
    let restart = inside(&daemon, &["--restart", "--pid=1", "--timeout=20"]);
    assert!(restart.status.success(), "{restart:?}");
    daemon.wait_ready(2);
    let stop = inside(&daemon, &["--stop", "--pid=1", "--timeout=20"]);
    // The kernel ends whatever is in the container together with its PID 1, so it may not have lived to say so.
    assert!(stop.status.success() || stop.status.code().is_none(), "{stop:?}");
    assert_eq!(daemon.exit_status().code(), Some(0));
}

/// A readiness probe sees whether somebody serves, not whether a process is there.
#[test]
fn a_probe_is_told_the_truth() {
    if !can_contain("a_probe_is_told_the_truth") {
        return;
    }
    let server = ["--fail-if=broken", "--fail-after=0.2"];
    let mut daemon = start(ours().options(["--ready=notify", "--ready-timeout=60"]).server(server));
    let probe = || {
        let output = inside(&daemon, &["--status", "--serving", "--pid=1"]);
        assert!(output.stdout.is_empty());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    // It serves, but does not say so.
    daemon.wait_ready(1);
    let (code, text) = probe();
    assert_eq!((code, text.trim_end()), (Some(1), "not serving: no generation is ready"));
    assert_eq!(daemon.stop().code(), Some(0));

    let mut daemon = start(ours().options(["--ready=accept", "--interval=0.1"]).server(server));
    let probe = || inside(&daemon, &["--status", "--serving", "--pid=1"]);
    daemon.wait_line("is ready after");
    assert!(probe().status.success());
    let current = daemon.workers()[0];
    // A restart that fails takes nothing away.
    fs::write(daemon.path("broken"), "").unwrap();
    daemon.hup();
    daemon.wait_line("seems to have failed to start");
    assert!(probe().status.success());
    // A worker that has died and cannot be replaced does.
    daemon.signal_process(current, "KILL");
    daemon.wait_line("was killed by signal KILL");
    let told = probe();
    assert_eq!(told.status.code(), Some(1));
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(text.starts_with("not serving: no generation is ready; last failure: generation "), "{text}");
    fs::remove_file(daemon.path("broken")).unwrap();
    daemon.wait_for("the next that serves", || probe().status.success().then_some(()));
    assert_eq!(daemon.stop().code(), Some(0));
}
