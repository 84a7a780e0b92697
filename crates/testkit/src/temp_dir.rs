//! A directory that lives as long as its value. Every daemon under test runs in one of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// An empty directory, removed with everything in it on drop. With `TEST_KEEP` in the environment it stays, to be
/// looked at.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Makes a directory that no other test has. Its path is short, because unix sockets are bound in it.
    ///
    /// # Panics
    /// When the directory cannot be made.
    #[expect(clippy::new_without_default, reason = "making a directory is no default")]
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("testkit-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Self { path: path.canonicalize().unwrap() },
                // Left by a process that had our PID before us.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("cannot make the directory {}: {error}", path.display()),
            }
        }
    }

    /// The directory, as an absolute path without symbolic links.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if std::env::var_os("TEST_KEEP").is_none() {
            // Best effort: a worker that is just dying may still write its last line.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_differ_and_go_away() {
        let (one, other) = (TempDir::new(), TempDir::new());
        assert_ne!(one.path(), other.path());
        let path = one.path().to_owned();
        fs::write(path.join("file"), "x").unwrap();
        drop(one);
        assert!(!path.exists());
    }
}
