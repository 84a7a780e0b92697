//! Starts a superdaemon for a drill from the words after `--`, and ends it afterwards.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A superdaemon that was started for the drill. To be ended with [`Launched::stop`].
pub struct Launched {
    child: Child,
    target: Vec<OsString>,
    directory: Directory,
}

/// Time for a graceful end, then for the end that QUIT brings.
const GRACE: [(Signal, Duration); 2] =
    [(Signal::TERM, Duration::from_secs(10)), (Signal::QUIT, Duration::from_secs(3))];

impl Launched {
    /// Starts it. `start_server` replaces the first word if that is just the name.
    ///
    /// # Errors
    ///
    /// It cannot be executed.
    pub fn start(words: &[OsString], start_server: PathBuf) -> Result<Self, String> {
        let directory = Directory::new().map_err(|error| format!("a temporary directory cannot be made: {error}"))?;
        let (program, words, target) = with_files(words, &directory.0);
        let program = if program == "start_server" { start_server.into_os_string() } else { program };
        let log = || File::options().create(true).append(true).open(directory.log());
        let (out, err) = log().and_then(|out| Ok((out, log()?))).map_err(|error| format!("no log: {error}"))?;
        let child = Command::new(&program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            // Ctrl-C is for the drill, which ends it then.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("{} cannot be run: {error}", program.display()))?;
        Ok(Self { child, target, directory })
    }

    /// The options of a verb that name it.
    pub fn target(&self) -> &[OsString] {
        &self.target
    }

    /// Whether it has ended, and what it last said.
    pub fn has_ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok()??;
        Some(format!("the superdaemon ended with {status}{}", self.last_words()))
    }

    /// The end of its log, for people.
    pub fn last_words(&self) -> String {
        let log = fs::read(self.directory.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(10)..).unwrap_or_default();
        last.iter().map(|line| format!("\n    {line}")).collect()
    }

    /// Ends it: gracefully, if it can be had.
    pub async fn stop(mut self) {
        for (signal, grace) in GRACE {
            let pid = self.child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
            // Without a number it was waited for, and is gone.
            let Some(pid) = pid else { return };
            let _ = kill_process(pid, signal);
            if timeout(grace, self.child.wait()).await.is_ok() {
                return;
            }
        }
        let _ = self.child.kill().await;
    }
}

/// A directory of our own, removed in the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> io::Result<Self> {
        for number in 0.. {
            let path = std::env::temp_dir().join(format!("drill-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|()| Self(path)),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left over in /tmp harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Takes a command line apart: the program, its arguments with the files added that are missing, and the options of a
/// verb that name the superdaemon then.
fn with_files(words: &[OsString], directory: &Path) -> (OsString, Vec<OsString>, Vec<OsString>) {
    let mut words = words.iter().cloned();
    let program = words.next().unwrap_or_default();
    let mut words: Vec<OsString> = words.collect();
    let mut target = Vec::new();
    if let Some(socket) = value_of("--control-socket", &words) {
        target.push(joined("--control-socket", &socket));
    } else {
        for (option, file) in [("--pid-file", "pid"), ("--status-file", "status")] {
            let value = value_of(option, &words).unwrap_or_else(|| {
                let value = directory.join(file).into_os_string();
                words.insert(0, joined(option, &value));
                value
            });
            target.push(joined(option, &value));
        }
    }
    (program, words, target)
}

/// The value of an option before the program, `--option=VALUE` or `--option VALUE`.
fn value_of(option: &str, words: &[OsString]) -> Option<OsString> {
    let mut words = words.iter().take_while(|word| *word != "--");
    while let Some(word) = words.next() {
        if word == option {
            return words.next().cloned();
        }
        let text = word.to_str().and_then(|word| word.strip_prefix(option)?.strip_prefix('='));
        if let Some(value) = text {
            return Some(value.into());
        }
    }
    None
}

fn joined(option: &str, value: &OsStr) -> OsString {
    let mut word = OsString::from(option);
    word.push("=");
    word.push(value);
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_added_where_they_are_missing() {
        for (line, expected, target) in [
            (
                "start_server --port=1 -- x --pid-file=y",
                "--status-file=/t/status --pid-file=/t/pid --port=1 -- x --pid-file=y",
                "--pid-file=/t/pid --status-file=/t/status",
            ),
            (
                "s --pid-file=p --port=1 -- x",
                "--status-file=/t/status --pid-file=p --port=1 -- x",
                "--pid-file=p --status-file=/t/status",
            ),
            (
                "s --pid-file p --status-file=s -- x",
                "--pid-file p --status-file=s -- x",
                "--pid-file=p --status-file=s",
            ),
            ("s --control-socket=c -- x", "--control-socket=c -- x", "--control-socket=c"),
        ] {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let (program, words, found) = with_files(&words, Path::new("/t"));
            assert_eq!(program, words_of(line).first().unwrap().as_os_str());
            assert_eq!(words, words_of(expected), "{line}");
            assert_eq!(found, words_of(target), "{line}");
        }
    }

    fn words_of(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }
}
