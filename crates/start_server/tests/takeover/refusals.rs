//! Where listeners may not be taken over the message says why, and what to do; and nobody is touched.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use testkit::{Daemon, Port, TempDir, is_installed};

use crate::world::{self, is_root};
use crate::{at, kill};

/// A user that has nothing to do with anything.
const STRANGER: [&str; 4] = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];

/// What a second superdaemon says that is refused.
fn refusal(port: &Port, prefix: &[&str]) -> String {
    // Where another user may execute it.
    let bin = TempDir::new();
    fs::set_permissions(bin.path(), Permissions::from_mode(0o755)).unwrap();
    let program = bin.path().join("start_server");
    world::copy_program(Path::new(env!("CARGO_BIN_EXE_start_server")), &program);
    let mut words = prefix.iter().map(|word| (*word).to_owned()).chain([program.display().to_string(), at(port)]);
    let output =
        Command::new(words.next().unwrap()).args(words).args(["--", "false"]).current_dir("/").output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("Address already in use") && text.contains("it is not taken over, because"), "{text}");
    text
}

/// A superdaemon that was killed and has left a worker, run through `prefix`.
fn orphan(port: &Port, prefix: &[&str]) -> Daemon {
    let words = [prefix, &["sleep", "600"]].concat();
    let mut daemon = world::ours().options([&at(port), "--interval=0.1"]).program(words).start();
    daemon.wait_status_file(|generations| generations == [1]);
    kill(&mut daemon);
    daemon
}

fn assert_untouched(orphan: &Daemon) {
    assert_eq!(orphan.processes().len(), 1);
}

#[test]
fn another_user_is_told_who_to_be() {
    if !is_root("another_user_is_told_who_to_be") {
        return;
    }
    let port = Port::new();
    let left = orphan(&port, &[]);
    let text = refusal(&port, &STRANGER);
    assert!(text.contains("user 0 made it and we are user 65534"), "{text}");
    assert!(text.contains("start as that user, or as root"), "{text}");
    assert_untouched(&left);
}

/// Root in a container lacks the capability unless it is given.
#[test]
fn root_without_the_capability_is_told_how_to_get_it() {
    if !is_root("root_without_the_capability_is_told_how_to_get_it") {
        return;
    }
    let without = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"];
    for worker in [&STRANGER[..], &[]] {
        let port = Port::new();
        let left = orphan(&port, worker);
        let text = refusal(&port, &without);
        assert!(text.contains("CAP_SYS_PTRACE"), "{text}");
        assert_untouched(&left);
    }
}

/// A socket that another user has made is not taken, though who holds it looks like a worker: it may have been put there
/// to be taken, by somebody who would keep it.
#[test]
fn a_socket_that_another_user_has_made_is_not_taken() {
    if !is_root("a_socket_that_another_user_has_made_is_not_taken") {
        return;
    }
    let port = Port::new();
    let script = format!(
        "$s = IO::Socket::INET->new(LocalAddr => '127.0.0.1:{port}', Listen => 5, ReuseAddr => 1) or die; \
         print \"bound\\n\"; close STDOUT; sleep 600"
    );
    let mut stranger = Command::new(STRANGER[0])
        .args(&STRANGER[1..])
        .args(["perl", "-MIO::Socket::INET", "-e", &script])
        .env("SERVER_STARTER_PORT", format!("127.0.0.1:{port}=3"))
        .env("SERVER_STARTER_GENERATION", "1")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    std::io::Read::read_to_string(stranger.stdout.as_mut().unwrap(), &mut said).unwrap();
    assert_eq!(said, "bound\n");
    let text = refusal(&port, &["env"]);
    assert!(text.contains("user 65534 made it and we are user 0"), "{text}");
    assert!(stranger.try_wait().unwrap().is_none(), "it was touched");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

/// Without /proc nobody can be seen.
#[test]
fn without_proc_it_says_so() {
    if !is_root("without_proc_it_says_so") {
        return;
    }
    let port = Port::new();
    let left = orphan(&port, &[]);
    let text = refusal(&port, &["unshare", "--mount", "sh", "-c", "umount -l /proc && exec \"$@\"", "sh"]);
    assert!(text.contains("without the /proc of this PID namespace; mount it"), "{text}");
    assert_untouched(&left);
}

/// A kernel that is too old, or a filter of system calls as that of a container; here it is strace that refuses.
#[test]
fn where_the_kernel_refuses_it_is_told_why() {
    if !is_installed("strace") {
        return;
    }
    let port = Port::new();
    let left = orphan(&port, &[]);
    let worker = left.processes()[0];
    for (error, expected) in [
        ("EPERM", "Operation not permitted"),
        ("ENOSYS", "the kernel is older than Linux 5.6, or a seccomp filter keeps pidfd_getfd(2) from us"),
        ("EMFILE", "too many files are open; raise the limit (ulimit -n)"),
    ] {
        let inject = format!("inject=pidfd_getfd:error={error}");
        let text = refusal(&port, &["strace", "-qq", "-o", "/dev/null", "-e", "trace=pidfd_getfd", "-e", &inject]);
        assert!(text.contains(&format!("its worker (pid {worker}) cannot be made to share it")), "{text}");
        assert!(text.contains(expected), "{text}");
    }
    assert_untouched(&left);
}
