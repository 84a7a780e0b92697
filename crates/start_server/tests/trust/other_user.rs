//! Running a program as another user: a service's own, or a stranger's.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use testkit::wait_for;

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

/// Runs a shell script as this user, in this directory.
pub fn script_as(user: u32, dir: &Path, script: &str) {
    let output = as_user(user, "sh").args(["-c", script]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
}

/// A directory below `dir`, which everybody may enter, that belongs to this user.
pub fn directory_of(user: u32, dir: &Path, name: &str) -> PathBuf {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.join(name);
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    chown(&path, Some(user), Some(user)).unwrap();
    path
}

/// A file of root's that nobody else may read or write.
pub fn precious(dir: &Path) -> PathBuf {
    let path = dir.join("precious");
    fs::write(&path, "precious\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// Whether it is as it was.
pub fn is_untouched(precious: &Path) -> bool {
    let found = fs::symlink_metadata(precious).unwrap();
    fs::read_to_string(precious).unwrap() == "precious\n" && found.mode() & 0o7777 == 0o600 && found.uid() == 0
}

/// Exchanges two names of a directory again and again, as another user, until it is dropped.
pub struct Exchange(Child);

impl Exchange {
    pub fn of(user: u32, one: &Path, other: &Path) -> Self {
        const EXCHANGE: &str = "import ctypes, sys, time\n\
            names = [name.encode() for name in sys.argv[1:]]\n\
            while True:\n \
            ctypes.CDLL(None).renameat2(-100, names[0], -100, names[1], 2); time.sleep(.001)";
        // A Python of root's own may be ahead of the one for everybody.
        let mut command = as_user(user, "python3");
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").args(["-c", EXCHANGE]).args([one, other]);
        let inode = || fs::symlink_metadata(one).unwrap().ino();
        let before = inode();
        let exchange = Self(command.spawn().unwrap());
        wait_for(|| "the first exchange".to_owned(), || (inode() != before).then_some(()));
        exchange
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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
