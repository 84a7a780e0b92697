//! Programs of the machine that a test needs and that may not be there: then the test says so and is over, except where
//! nothing may be left out.

use std::path::PathBuf;

/// The first of these programs that is there, by path or in the search path.
pub fn find_program(candidates: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let find = |name: &&str| match name.contains('/') {
        true => Some(PathBuf::from(name)).filter(|file| file.is_file()),
        false => std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()),
    };
    candidates.iter().find_map(find)
}

/// What was found of `what`. If nothing was, it is said that the rest is not tested.
///
/// # Panics
/// When nothing was found and `CI` in the environment is `true`.
pub fn needed<T>(what: &str, found: Option<T>) -> Option<T> {
    if found.is_none() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{what} is not installed");
        eprintln!("{what} is not installed: not tested");
    }
    found
}

/// Whether a program, by path or in the search path, is there to test with.
///
/// # Panics
/// As [`needed`].
pub fn is_installed(program: &str) -> bool {
    needed(program, find_program(&[program])).is_some()
}
