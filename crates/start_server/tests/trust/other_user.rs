//! Running a program as another user: a service's own, or a stranger's.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The user of a service. No account has this number.
pub const SERVICE: u32 = 64_001;

/// A user who has nothing to do with it.
pub const STRANGER: u32 = 64_002;

/// A command that runs `program` as this user and its group, without any other group.
pub fn as_user(user: u32, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={user}")).arg(format!("--regid={user}")).arg("--clear-groups").arg(program);
    command
}

/// A copy of our program in `dir` that everybody can execute: where it was built, others cannot read. A process of its
/// own writes it, else it would be busy for as long as a child of another test has its descriptor.
pub fn copy_for_all(dir: &Path) -> PathBuf {
    let copy = dir.join("start_server");
    let installed = Command::new("install").args(["-m", "755", env!("CARGO_BIN_EXE_start_server")]).arg(&copy).status();
    assert!(installed.unwrap().success());
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    copy
}
