//! A stranger and the commands.

use testkit::TempDir;

use crate::other_user::{STRANGER, as_user, copy_for_all};
use crate::world::{is_root, ours};

#[test]
fn a_stranger_commands_nothing() {
    if !is_root("a stranger") {
        return;
    }
    let daemon = ours().option("--interval=0.1").program(["sleep", "600"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    let dir = TempDir::new();
    let program = copy_for_all(dir.path());
    for verb in ["--status", "--restart", "--stop", "--upgrade"] {
        let output = as_user(STRANGER, &program).arg(verb).arg(format!("--pid={}", daemon.pid())).output().unwrap();
        assert!(matches!(output.status.code(), Some(1 | 5)), "{output:?}");
    }
    assert!(daemon.is_running());
}
