//! Other mount, network, PID and user namespaces: who is who from there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Output};

use testkit::{Daemon, TempDir};

use crate::other_user::{SERVICE, as_user, copy_for_all};
use crate::world::{is_root, ours, status};

fn started() -> Daemon {
    let daemon = ours().option("--interval=0.1").program(["sleep", "600"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon
}

/// A process that ends with its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a shell script in new namespaces; none if the machine does not allow them.
fn unshared(namespaces: &[&str], script: &str) -> Option<Output> {
    let output = Command::new("unshare").args(namespaces).args(["sh", "-c", script]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("unshare:") || said.contains("mount:") {
        eprintln!("{namespaces:?}: not tested, since the machine forbids it: {said}");
        return None;
    }
    Some(output)
}

/// An administrator and a service seldom see the same file systems.
#[test]
fn it_is_found_from_another_mount_namespace_and_another_network() {
    if !is_root("other namespaces") {
        return;
    }
    let daemon = started();
    let ask = format!("exec {} --status --pid={}", env!("CARGO_BIN_EXE_start_server"), daemon.pid());
    let hidden = format!("mount -t tmpfs none /run && mount -t tmpfs none /dev/shm && {ask}");
    for (namespaces, script) in [(&["-m"][..], &hidden), (&["-n"], &ask), (&["-m", "-n"], &hidden)] {
        let Some(output) = unshared(namespaces, script) else { return };
        assert!(output.status.success(), "{namespaces:?}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains(&format!("(pid {})", daemon.pid())), "{output:?}");
    }
}

/// What a container on the host's network has: the user 0, and file systems and processes of its own.
#[test]
fn root_of_a_container_on_the_same_network_reaches_nothing() {
    if !is_root("other namespaces") {
        return;
    }
    let daemon = started();
    let socket = daemon.control_socket();
    let connect = "use Socket; for my $name (@ARGV) { socket(my $s, AF_UNIX, SOCK_STREAM, 0);
        if (connect($s, pack(q(S a*), AF_UNIX, $name =~ s/^@/\\0/r))) { print \"connected to $name\\n\" } }";
    let script = format!(
        "mount -t tmpfs none /run && mount -t tmpfs none /dev/shm && mount -t tmpfs none /tmp || exit 3
         exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs perl -e '{connect}' @start_server/{} {} $(awk \
         '/start_server/ {{ print $8 }}' /proc/net/unix)",
        daemon.pid(),
        socket.display()
    );
    let Some(output) = unshared(&["-m", "-p", "-f", "--mount-proc"], &script) else { return };
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    assert!(status(&daemon).restarts == 0);
}

/// Two superdaemons that both are PID 1, on one network: each finds its own.
#[test]
fn two_with_the_same_pid_do_not_take_each_others_name() {
    if !is_root("other namespaces") {
        return;
    }
    let dir = TempDir::new();
    let script = |name: &str| {
        format!(
            "mount -t tmpfs none /run || exit 3
             exec {} --pid-file={dir}/{name} --interval=0.1 --stop-timeout=5 -- sh -c '
                 {0} --status --json --pid=1 >{dir}/{name}.json 2>&1; {0} --status --serving --pid=1; \
                 touch {dir}/{name}.asked; exec sleep 600'",
            env!("CARGO_BIN_EXE_start_server"),
            dir = dir.path().display()
        )
    };
    let mut both: Vec<_> = ["one", "two"]
        .into_iter()
        .map(|name| {
            let child = Command::new("unshare")
                .args(["-m", "-p", "-f", "--kill-child", "--mount-proc", "sh", "-c", &script(name)])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .map(Running)
                .unwrap();
            (name, child)
        })
        .collect();
    for (name, child) in &mut both {
        let asked = dir.path().join(format!("{name}.asked"));
        let ended = testkit::wait_for(
            || format!("an answer of {name}"),
            || if asked.exists() { Some(false) } else { child.0.try_wait().unwrap().map(|_| true) },
        );
        if ended {
            eprintln!("namespaces cannot be tried here");
            continue;
        }
        let text = fs::read_to_string(dir.path().join(format!("{name}.json"))).unwrap();
        let seen: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let command = seen["command"].to_string();
        assert!(command.contains(&format!("{name}.json")), "{name} was answered by the other: {command}");
    }
}

/// In a user namespace that knows only its own user every other one has the number 65534, which may be its own, too.
#[test]
fn a_user_without_a_number_in_the_namespace_is_nobody() {
    if !is_root("user namespaces") {
        return;
    }
    let dir = TempDir::new();
    let program = copy_for_all(dir.path());
    let home = dir.path().join("home");
    fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(SERVICE), Some(SERVICE)).unwrap();
    for inside in ["0", "65534"] {
        let control = home.join(format!("control-{inside}"));
        let mut daemon = as_user(SERVICE, "unshare")
            .args(["-U", &format!("--map-user={inside}"), &format!("--map-group={inside}")])
            .arg(&program)
            .arg(format!("--control-socket={}", control.display()))
            .args(["--interval=0.1", "--stop-timeout=5", "--", "sleep", "600"])
            .current_dir(&home)
            .env_remove("XDG_RUNTIME_DIR")
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .map(Running)
            .unwrap();
        let listens = testkit::wait_for(
            || "a control socket".to_owned(),
            || if control.exists() { Some(true) } else { daemon.0.try_wait().unwrap().map(|_| false) },
        );
        if !listens {
            eprintln!("user namespaces cannot be tried here");
            return;
        }
        fs::set_permissions(&control, fs::Permissions::from_mode(0o666)).unwrap();
        let at = format!("--control-socket={}", control.display());
        // Root outside of it, who can connect to anything, has no number there.
        let output = Command::new(&program).args(["--status", &at]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "as {inside}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("and root may talk to this superdaemon"), "{said}");
        // Its own user has.
        let output = as_user(SERVICE, &program).args(["--status", &at]).output().unwrap();
        assert!(output.status.success(), "as {inside}: {output:?}");
        let output = as_user(SERVICE, &program).args(["--stop", &at]).output().unwrap();
        assert!(output.status.success(), "as {inside}: {output:?}");
        assert!(daemon.0.wait().unwrap().success());
    }
}
