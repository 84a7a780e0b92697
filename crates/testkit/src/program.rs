//! Where programs of this workspace are, built and fresh: the server program `testserver`, asked for by
//! [`Builder`](crate::Builder), and the superdaemon, for the tests of other packages.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The path of the program `testserver` of this crate.
///
/// Cargo builds the programs of a package for the tests of that package only, so the first call in a process has it
/// built, into the directory from which the calling test runs and with that test's profile. `TESTSERVER` in the
/// environment names a program to use instead.
///
/// # Panics
/// When it does not build.
pub fn testserver() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| std::env::var_os("TESTSERVER").map_or_else(|| build("testkit", "testserver"), PathBuf::from))
}

/// The path of the superdaemon, built as [`testserver`] is. `START_SERVER` in the environment names a program to use
/// instead.
///
/// # Panics
/// When it does not build.
pub fn start_server() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        std::env::var_os("START_SERVER").map_or_else(|| build("start_server", "start_server"), PathBuf::from)
    })
}

fn build(package: &str, program: &str) -> PathBuf {
    // A test runs as TARGET/PROFILE/deps/NAME-HASH.
    let test = std::env::current_exe().unwrap();
    let profile_directory = test.parent().and_then(Path::parent).expect("a test runs from TARGET/PROFILE/deps");
    let target_directory = profile_directory.parent().expect("a test runs from TARGET/PROFILE/deps");
    let profile = match profile_directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--package", package, "--bin", program, "--profile", profile])
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .arg("--target-dir")
        .arg(target_directory)
        .output()
        .unwrap_or_else(|error| panic!("cannot run cargo to build the program {program}: {error}"));
    assert!(output.status.success(), "{program} does not build:\n{}", String::from_utf8_lossy(&output.stderr));
    profile_directory.join(program)
}
