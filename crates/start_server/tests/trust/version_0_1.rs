//! Version 0.1.0 answered commands under an abstract name. It is found there, and an upgrade ends that.

use std::process::{Command, Stdio};

use testkit::wait_for;

use crate::world::{ours, put_program, status};

/// A process that listens as a superdaemon of that version does, and answers as one.
const LIKE_VERSION_0_1: &str = r#"
import json, os, socket
listener = socket.socket(socket.AF_UNIX)
listener.bind("\0start_server/%d" % os.getpid())
listener.listen()
print("ready", flush=True)
while True:
    client, _ = listener.accept()
    request = json.loads(client.makefile().readline())
    reply = {"version": 1, "reply": "error", "reason": "asked for " + request["request"]}
    client.sendall(json.dumps(reply).encode() + b"\n")
    client.close()
"#;

#[test]
fn commands_find_it_at_its_abstract_name() {
    let mut like = Command::new("python3").args(["-c", LIKE_VERSION_0_1]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(like.stdout.take().unwrap()), &mut said).unwrap();
    for verb in ["status", "restart", "stop", "upgrade"] {
        let output = Command::new(env!("CARGO_BIN_EXE_start_server"))
            .args([format!("--{verb}"), format!("--pid={}", like.id())])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(&format!("asked for {verb}")), "{said}");
    }
    like.kill().unwrap();
    like.wait().unwrap();
}

/// It hands its socket over, as it would any other; the next image opens one of its own, and everybody who was connected
/// is answered.
#[test]
fn an_upgrade_from_it_moves_the_control_socket_to_a_file() {
    let mut daemon = ours().option("--interval=0.1").program(["sleep", "600"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    let before = daemon.control_socket();
    let script = format!(
        r#"#!/usr/bin/python3
import json, os, socket, sys
if os.environ["START_SERVER_STATE"].startswith("resume:"):
    fd = int(os.environ["START_SERVER_STATE"].split(":")[1])
    state = json.loads(os.pread(fd, 10000000, 0))
    os.close(state["control"]["listener"]["fd"])
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("\0start_server/%d" % os.getpid())
    listener.listen()
    os.set_inheritable(listener.fileno(), True)
    found = os.fstat(listener.fileno())
    state["control"].update(file=None, listener=dict(fd=listener.fileno(), device=found.st_dev, inode=found.st_ino))
    state.pop("pid_file_lock", None)
    state["version"] = "0.1.0"
    text = json.dumps(state).encode()
    os.ftruncate(fd, 0)
    os.pwrite(fd, text, 0)
os.execv("{}", sys.argv)
"#,
        env!("CARGO_BIN_EXE_start_server")
    );
    put_program(daemon.dir(), "version-0.1.0", &script);
    let output =
        daemon.verb([format!("--upgrade={}", daemon.path("version-0.1.0").display()), "--pid-file=pid".into()]);
    assert!(output.status.success(), "{output:?}");
    let after = daemon.control_socket();
    assert_ne!(after, before);
    assert_eq!(status(&daemon).control_socket.as_deref(), after.to_str());
    assert!(!std::fs::read_to_string("/proc/net/unix").unwrap().contains(&format!("@start_server/{}", daemon.pid())));
    // The lock that it did not have is taken.
    let second = daemon.verb(["--pid-file=pid", "--", "sleep", "600"]);
    assert!(String::from_utf8_lossy(&second.stderr).contains("another superdaemon (pid "), "{second:?}");
    assert!(daemon.verb(["--restart", "--pid-file=pid"]).status.success());
    assert!(daemon.verb(["--stop", "--pid-file=pid"]).status.success());
    assert!(daemon.exit_status().success());
    wait_for(|| "the end of the socket".to_owned(), || (!after.exists()).then_some(()));
}
