//! A superdaemon under test: started in a directory of its own, watched through its log, its files and the records of
//! its workers, and gone without a trace when the value is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::processes::{self, MARK};
use crate::temp_dir::TempDir;
use crate::wait::wait_for;
use crate::{Dump, Event, command, signals, testserver};

/// A superdaemon that is about to be started.
///
/// It runs in its own directory (so relative paths in options are relative to that), with standard input from
/// `/dev/null`, and with an environment of `PATH`, `LANG=C` and what [`env`](Self::env) adds.
#[derive(Debug)]
pub struct Builder {
    superdaemon: PathBuf,
    dir: TempDir,
    options: Vec<OsString>,
    words: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
    through: Vec<OsString>,
    log: String,
}

impl Builder {
    /// The directory in which it will run, to prepare files in it.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Adds one word before `--`.
    pub fn option(mut self, option: impl Into<OsString>) -> Self {
        self.options.push(option.into());
        self
    }

    /// Adds words before `--`.
    pub fn options<S: Into<OsString>>(mut self, options: impl IntoIterator<Item = S>) -> Self {
        self.options.extend(options.into_iter().map(Into::into));
        self
    }

    /// Adds `--pid-file=pid --status-file=status`, for [`Daemon::wait_status_file`] and the verbs.
    pub fn with_files(self) -> Self {
        self.options(["--pid-file=pid", "--status-file=status"])
    }

    /// Sets an environment variable of the superdaemon.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Sets the words after `--`. Without them there is no `--` either.
    pub fn program<S: Into<OsString>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.words = words.into_iter().map(Into::into).collect();
        self
    }

    /// Lets the words after `--` be the program `testserver` with `arguments`, recording its life in the file `record`
    /// and dumping what generation N sees into the file `dump.N`.
    pub fn server<S: Into<OsString>>(self, arguments: impl IntoIterator<Item = S>) -> Self {
        let program: Vec<OsString> = vec![testserver().into(), "--record=record".into(), "--dump=dump.%g".into()];
        self.program(program.into_iter().chain(arguments.into_iter().map(Into::into)))
    }

    /// Runs `script` in a shell first, which then becomes the superdaemon: for what a caller may leave behind, as in
    /// `umask 077` or `trap "" USR1`; `exec 7</dev/null`
    /// leaves a descriptor open.
    pub fn after_script(mut self, script: &str) -> Self {
        self.through = ["sh", "-c", &format!("{script}; exec \"$@\""), "sh"].map(OsString::from).into();
        self
    }

    /// The file in which the log appears, if it is not the one behind standard error (`stderr`).
    pub fn log(mut self, name: &str) -> Self {
        name.clone_into(&mut self.log);
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// When the superdaemon cannot be executed.
    pub fn start(self) -> Daemon {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut through = self.through.iter();
        let mut command = match through.next() {
            Some(program) => {
                let mut command = command(program);
                command.args(through).arg(&self.superdaemon);
                command
            }
            None => command(&self.superdaemon),
        };
        command.args(&self.options);
        if !self.words.is_empty() {
            command.arg("--").args(&self.words);
        }
        let dir = self.dir.path();
        // The test kit's own paths must be absolute, for a worker started with --dir.
        command.env_clear().env("LANG", "C").envs(&self.environment).env(MARK, &id).env("TESTKIT_DIR", dir);
        if let Some(path) = std::env::var_os("PATH")
            && !self.environment.contains_key(OsStr::new("PATH"))
        {
            command.env("PATH", path);
        }
        command.current_dir(dir).stdin(Stdio::null());
        command.stdout(append(&dir.join("stdout"))).stderr(append(&dir.join("stderr")));
        // A group of its own: what a superdaemon without groups sends to its group must not reach the tests.
        command.process_group(0);
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("cannot run the superdaemon {}: {error}", self.superdaemon.display());
        });
        Daemon {
            pid: child.id(),
            child,
            status: None,
            id,
            superdaemon: self.superdaemon,
            log: dir.join(&self.log),
            dir: self.dir,
        }
    }
}

fn append(path: &Path) -> File {
    File::options().create(true).append(true).open(path).unwrap()
}

/// A superdaemon that was started, with its workers.
///
/// Every `wait_…` panics when what it waits for does not come within [`patience`](crate::patience), and shows the log.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    pid: u32,
    status: Option<ExitStatus>,
    id: String,
    superdaemon: PathBuf,
    log: PathBuf,
    // Dropped last, when no process is left that could write into it.
    dir: TempDir,
}

impl Daemon {
    /// Prepares to start the superdaemon at `superdaemon`: ours, `env!("CARGO_BIN_EXE_start_server")`, or the original.
    #[expect(clippy::new_ret_no_self, reason = "a daemon is made by its builder")]
    pub fn new(superdaemon: impl Into<PathBuf>) -> Builder {
        Builder {
            superdaemon: superdaemon.into(),
            dir: TempDir::new(),
            options: Vec::new(),
            words: Vec::new(),
            environment: BTreeMap::new(),
            through: Vec::new(),
            log: "stderr".to_owned(),
        }
    }

    /// The superdaemon's process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Where it answers commands if nothing else was asked for: the socket of that kind which it has made.
    ///
    /// # Panics
    /// When it has none.
    pub fn control_socket(&self) -> PathBuf {
        let sockets = fs::read_to_string("/proc/net/unix").unwrap();
        let made_by_it = format!("/{}-", self.pid);
        let mut paths = sockets.lines().filter_map(|line| line.split_ascii_whitespace().nth(7));
        let control = paths.find(|path| path.contains(&made_by_it) && path.ends_with(".control"));
        control.unwrap_or_else(|| panic!("pid {} has no control socket: {:#?}", self.pid, self.lines())).into()
    }

    /// The directory in which it runs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The path of the file `name` in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The text of the file `name` in its directory, empty if there is none.
    pub fn text(&self, name: &str) -> String {
        read(&self.path(name))
    }

    // What it says.

    /// The whole lines of the log so far.
    pub fn lines(&self) -> Vec<String> {
        let mut text = read(&self.log);
        text.truncate(text.rfind('\n').map_or(0, |end| end + 1));
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for a line of the log that contains `text`, and gives the first.
    pub fn wait_line(&self, text: &str) -> String {
        self.wait_lines(text, 1)
    }

    /// Waits until `count` lines of the log contain `text`, and gives the `count`th.
    pub fn wait_lines(&self, text: &str, count: usize) -> String {
        self.wait_for(&format!("{count} line(s) with “{text}”"), || {
            self.lines().into_iter().filter(|line| line.contains(text)).nth(count - 1)
        })
    }

    // What its workers did.

    /// Everything that the workers have recorded so far.
    pub fn events(&self) -> Vec<Event> {
        let text = self.text("record");
        text.lines().map(|line| line.parse().unwrap_or_else(|error| panic!("{error}"))).collect()
    }

    /// Waits until the worker of `generation` has recorded `what` (`start`, `ready`, `signal TERM`, `exit 0`).
    pub fn wait_event(&self, generation: u32, what: &str) -> Event {
        self.wait_for(&format!("“{what}” of generation {generation}"), || {
            self.events().into_iter().find(|event| event.generation == generation && event.what == what)
        })
    }

    /// Waits until the worker of `generation` serves.
    pub fn wait_ready(&self, generation: u32) -> Event {
        self.wait_event(generation, "ready")
    }

    /// What the worker of `generation` saw when it started.
    pub fn wait_dump(&self, generation: u32) -> Dump {
        // The record comes after the dump, so that a dump is never read half written.
        self.wait_event(generation, "start");
        Dump::read(&self.path(&format!("dump.{generation}"))).expect("a worker that has started has written its dump")
    }

    // Its files.

    /// The status file: generations and their PIDs in the file's order; `None` if there is no such file.
    pub fn status_file(&self) -> Option<Vec<(u32, u32)>> {
        let text = fs::read_to_string(self.path("status")).ok()?;
        let line = |line: &str| {
            let (generation, pid) = line.split_once(':')?;
            Some((generation.parse().ok()?, pid.parse().ok()?))
        };
        Some(text.lines().map(|text| line(text).unwrap_or_else(|| panic!("bad line in status file: {text}"))).collect())
    }

    /// Waits until the generations in the status file satisfy `wanted`, and gives them with their PIDs.
    pub fn wait_status_file(&self, wanted: impl Fn(&[u32]) -> bool) -> Vec<(u32, u32)> {
        self.wait_for("certain generations in the status file", || {
            let entries = self.status_file()?;
            let generations: Vec<u32> = entries.iter().map(|(generation, _)| *generation).collect();
            wanted(&generations).then_some(entries)
        })
    }

    /// Waits until the file `name` in its directory is there and not empty, and gives its text.
    pub fn wait_file(&self, name: &str) -> String {
        self.wait_for(&format!("the file {name}"), || Some(self.text(name)).filter(|text| !text.is_empty()))
    }

    // What is done to it.

    /// Asks for a restart.
    pub fn hup(&self) {
        self.signal("HUP");
    }

    /// Asks it to stop.
    pub fn term(&self) {
        self.signal("TERM");
    }

    /// Sends it a signal, by name.
    ///
    /// # Panics
    /// When it is not there any more.
    pub fn signal(&self, name: &str) {
        self.signal_process(self.pid, name);
    }

    /// Sends a signal to one of its workers.
    ///
    /// # Panics
    /// When `pid` is not a live process that this daemon has started.
    pub fn signal_process(&self, pid: u32, name: &str) {
        let number = signals::number(name).unwrap_or_else(|| panic!("no signal is called {name}"));
        let sent = processes::signal_if_marked(pid, &self.id, number);
        assert!(sent, "cannot send {name} to process {pid}: it is not there\n{}", self.picture());
    }

    /// Waits until the superdaemon is asleep, which is when it has done what it had to do.
    pub fn settle(&self) {
        self.wait_state('S');
    }

    /// Waits until the superdaemon sleeps for good: it gives memory back a second after the last thing has happened.
    pub fn rest(&self) {
        self.wait_for("the superdaemon's rest", || {
            let before = self.naps();
            thread::sleep(Duration::from_millis(1500));
            (self.naps() == before).then_some(())
        });
    }

    /// How often the superdaemon has gone to sleep. How often others took the processor from it is the machine's affair.
    pub fn naps(&self) -> u64 {
        processes::naps(self.pid).unwrap_or_else(|| panic!("the superdaemon is not there\n{}", self.picture()))
    }

    /// Waits until the superdaemon is in the process state `letter` (proc_pid_stat(5)).
    pub fn wait_state(&self, letter: char) {
        let what = format!("state {letter} of the superdaemon");
        self.wait_for(&what, || (processes::state(self.pid) == Some(letter)).then_some(()));
    }

    /// Runs the superdaemon's program once more, with `arguments`, in the same directory: a verb.
    pub fn verb<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Output {
        self.verb_of(&self.superdaemon, arguments)
    }

    /// Runs a verb of another program.
    ///
    /// # Panics
    /// When it does not end within [`patience`](crate::patience).
    pub fn verb_of<S: AsRef<OsStr>>(&self, program: &Path, arguments: impl IntoIterator<Item = S>) -> Output {
        let mut command = command(program);
        command.args(arguments).current_dir(self.dir()).stdin(Stdio::null());
        command.env("LANG", "C").env(MARK, &self.id);
        let (out, err) = (self.path("verb-stdout"), self.path("verb-stderr"));
        command.stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot run {}: {error}", program.display()));
        let status = self.wait_for("the end of a verb", || child.try_wait().unwrap());
        let output = Output { status, stdout: fs::read(&out).unwrap(), stderr: fs::read(&err).unwrap() };
        let _ = (fs::remove_file(out), fs::remove_file(err));
        output
    }

    /// From now on the superdaemon is process `pid`: for one that put itself into the background.
    pub fn adopt(&mut self, pid: u32) {
        self.pid = pid;
    }

    // Its end.

    /// Whether the superdaemon is running.
    pub fn is_running(&self) -> bool {
        processes::is_alive(self.pid)
    }

    /// Waits until the process that was started ends, and gives its status.
    pub fn exit_status(&mut self) -> ExitStatus {
        if let Some(status) = self.status {
            return status;
        }
        let pid = self.child.id();
        let picture = || picture(&self.log, &self.dir.path().join("record"));
        let child = &mut self.child;
        let status = wait_for(|| format!("the end of process {pid}\n{}", picture()), || child.try_wait().unwrap());
        self.status = Some(status);
        status
    }

    /// Sends TERM and waits for the end.
    pub fn stop(&mut self) -> ExitStatus {
        self.term();
        self.exit_status()
    }

    /// The processes of this daemon that are left, its own included.
    pub fn processes(&self) -> Vec<u32> {
        processes::marked(&self.id)
    }

    /// The children of the superdaemon that are alive.
    pub fn workers(&self) -> Vec<u32> {
        processes::children(self.pid)
    }

    /// Waits until none of its processes is left.
    pub fn wait_gone(&self) {
        self.wait_for("the end of all processes", || self.processes().is_empty().then_some(()));
    }

    /// The process groups of all workers that there ever were, as the log has them.
    pub fn groups(&self) -> BTreeSet<u32> {
        let lines = self.lines();
        let workers = lines.iter().filter_map(|line| line.strip_prefix("starting new worker ")?.parse().ok());
        workers.collect()
    }

    /// Waits until no process is left, nor any of these groups: a real server may have overwritten its environment, by
    /// which the others know it.
    pub fn wait_groups_gone(&self, groups: &BTreeSet<u32>) {
        // Not by the daemon's own wait: with none of its processes left, that has nothing to wait for.
        wait_for(
            || format!("the end of all processes of the groups {groups:?}\n{}", self.picture()),
            || processes::members(groups).is_empty().then_some(()),
        );
        self.wait_gone();
    }

    /// Waits until `look` finds something.
    ///
    /// # Panics
    /// When it does not within [`patience`](crate::patience), or when no process is left that could make it happen:
    /// the message says `what` and shows the log.
    pub fn wait_for<T>(&self, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let mut turns = 0;
        wait_for(
            || format!("{what}\n{}", self.picture()),
            || {
                turns += 1;
                // Asked seldom, for it means reading all of /proc; and before the look, which is then the last.
                let is_over = turns % 50 == 0 && self.processes().is_empty();
                let found = look();
                assert!(found.is_some() || !is_over, "everything has ended, without {what}\n{}", self.picture());
                found
            },
        )
    }

    fn picture(&self) -> String {
        picture(&self.log, &self.path("record"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        processes::kill_marked(&self.id);
        // Without this the superdaemon would stay a zombie for the rest of the test process.
        let _ = self.child.wait();
    }
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

fn picture(log: &Path, record: &Path) -> String {
    format!("--- its log:\n{}--- its workers:\n{}---", read(log), read(record))
}
