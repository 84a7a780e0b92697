//! One play of a scenario by one superdaemon: what a scenario does to it and notes about it, and the transcript at the
//! end. Used by the scenarios.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Output;

use testkit::{Builder, Daemon, Dump, Port};

use crate::comparison::Transcript;
use crate::names::Names;
use crate::vocabulary::{Log, workers_started};

/// Files that are the test's own, whoever plays.
const OWN_FILES: [&str; 3] = ["stdout", "stderr", "record"];

/// The superdaemon, once started, with what was noted about it. Waits of [`Daemon`] are at hand by dereference; what
/// is done to the superdaemon goes through the methods here, which wait until it is asleep: the original loses signals
/// that reach it at certain other moments.
pub struct Stage {
    daemon: Option<Daemon>,
    superdaemon: PathBuf,
    other: PathBuf,
    ports: Vec<Port>,
    notes: Vec<(String, Note)>,
    log: &'static str,
}

enum Note {
    Text(String),
    StatusFile(String),
    PidFile(String),
    Verb(Output),
}

impl Stage {
    /// A stage for the program `superdaemon`. `other` is the program with which it is compared.
    pub fn new(superdaemon: &Path, other: &Path) -> Self {
        let (superdaemon, other) = (superdaemon.to_owned(), other.to_owned());
        Self { daemon: None, superdaemon, other, ports: Vec::new(), notes: Vec::new(), log: "stderr" }
    }

    // Before the start.

    /// A port number; `PORT1` in the transcript if it is the first.
    pub fn port(&mut self) -> u16 {
        let port = Port::new();
        let number = port.number();
        self.ports.push(port);
        number
    }

    /// The superdaemon's messages are expected in this file, not on standard error.
    pub fn log_in(&mut self, name: &'static str) {
        self.log = name;
    }

    /// Starts the superdaemon as `set_up` says.
    pub fn start(&mut self, set_up: impl FnOnce(Builder) -> Builder) {
        let builder = set_up(Daemon::new(&self.superdaemon).log(self.log));
        self.daemon = Some(builder.start());
    }

    /// Starts the superdaemon with pid file, status file, an interval of one second and `options`, and `testserver`
    /// with `arguments`; waits until the first worker counts as started.
    pub fn start_serving<const N: usize, const M: usize>(&mut self, options: [&str; N], arguments: [&str; M]) {
        self.start(|daemon| daemon.with_files().option("--interval=1").options(options).server(arguments));
        self.wait_generations(&[1]);
    }

    // What is done to it.

    /// Sends a signal to the superdaemon, once it sleeps.
    pub fn signal(&self, name: &str) {
        self.settle();
        self.daemon().signal(name);
    }

    /// Sends HUP, once it sleeps.
    pub fn hup(&self) {
        self.signal("HUP");
    }

    /// Sends TERM, once it sleeps.
    pub fn term(&self) {
        self.signal("TERM");
    }

    /// Sends TERM and waits for the end of everything.
    pub fn stop(&mut self) {
        self.term();
        self.wait_end();
    }

    /// Waits for the end of everything, and notes how it ended.
    pub fn wait_end(&mut self) {
        let status = self.daemon_mut().exit_status();
        self.daemon().wait_gone();
        let class = if status.success() { "zero" } else { "not zero" };
        self.note("exit status", class);
    }

    /// Runs a verb and notes what came of it.
    pub fn verb<const N: usize>(&mut self, aspect: &str, arguments: [&str; N]) {
        let output = self.daemon().verb(arguments);
        self.notes.push((aspect.to_owned(), Note::Verb(output)));
    }

    /// Runs a verb of the program with which this one is compared, and notes what came of it.
    pub fn verb_of_other<const N: usize>(&mut self, aspect: &str, arguments: [&str; N]) {
        let output = self.daemon().verb_of(&self.other, arguments);
        self.notes.push((aspect.to_owned(), Note::Verb(output)));
    }

    /// Waits until the status file holds these generations and no others, and the newest of them serves.
    pub fn wait_generations(&self, wanted: &[u32]) {
        self.daemon().wait_status_file(|generations| {
            let mut generations = generations.to_vec();
            generations.sort_unstable();
            generations == wanted
        });
        // With a short interval a worker may count as started before it can take a signal.
        self.daemon().wait_ready(wanted.iter().copied().max().unwrap_or(0));
    }

    /// Waits until the first worker serves, or the superdaemon has given up.
    pub fn wait_start_or_end(&self) {
        self.wait_for("the start or the end", || {
            let serves = self.events().iter().any(|event| event.what == "ready");
            (serves || !self.is_running()).then_some(())
        });
    }

    /// Waits until no worker but `count` is alive: those that could not become the program are gone.
    pub fn wait_workers(&self, count: usize) {
        self.wait_for(&format!("{count} worker(s) to be left"), || (self.workers().len() == count).then_some(()));
    }

    /// The daemon, to adopt the process that it has become.
    pub fn daemon_mut(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("the scenario has started a superdaemon")
    }

    // What is noted.

    /// Notes a text.
    pub fn note(&mut self, aspect: &str, text: impl Into<String>) {
        self.notes.push((aspect.to_owned(), Note::Text(text.into())));
    }

    /// Notes what the status file holds.
    pub fn note_status_file(&mut self, aspect: &str) {
        let text = self.daemon().text("status");
        self.notes.push((aspect.to_owned(), Note::StatusFile(text)));
    }

    /// Notes what the pid file holds.
    pub fn note_pid_file(&mut self, aspect: &str) {
        let text = self.daemon().text("pid");
        self.notes.push((aspect.to_owned(), Note::PidFile(text)));
    }

    /// Notes some environment variables of the worker of a generation.
    pub fn note_env<const N: usize>(&mut self, generation: u32, names: [&str; N]) {
        let dump = self.daemon().wait_dump(generation);
        let value = |name: &str| match dump.env(name) {
            Some(value) => format!("{name}={value}\n"),
            None => format!("{name} is not set\n"),
        };
        let text: String = names.into_iter().map(value).collect();
        self.note(&format!("environment of generation {generation}"), text);
    }

    /// Notes SERVER_STARTER_PORT and all descriptors of the worker of a generation. The numbers of sockets are free,
    /// so here they are counted from #1.
    pub fn note_sockets(&mut self, generation: u32) {
        let dump = self.daemon().wait_dump(generation);
        let text = sockets(&dump, |place, _| format!("#{place}"));
        self.note(&format!("sockets of generation {generation}"), text);
    }

    /// The same, for sockets of which the numbers were asked for.
    pub fn note_sockets_by_number(&mut self, generation: u32) {
        let dump = self.daemon().wait_dump(generation);
        let text = sockets(&dump, |_, number| number.to_string());
        self.note(&format!("sockets of generation {generation}"), text);
    }

    /// Notes everything else that the worker of a generation was given, each fact as an aspect of its own.
    pub fn note_dump(&mut self, generation: u32) {
        let dump = self.daemon().wait_dump(generation);
        let superdaemon = self.daemon().pid().to_string();
        let child = dump.get("parent") == Some(superdaemon.as_str());
        self.note("worker: is a child of the superdaemon", child.to_string());
        for (name, value) in dump.all("") {
            let is_of_this_run = ["parent", "group", "session", "env TESTKIT_ID", "env SERVER_STARTER_PORT"];
            if is_of_this_run.contains(&name) || name.starts_with("fd ") {
                continue;
            }
            self.note_fact(&format!("worker: {name}"), value);
        }
    }

    /// Notes a fact of a dump. From a mask of signals, the two are left out that the C library keeps for itself and
    /// leaves ignored in what it spawns, as cargo spawns the test.
    pub fn note_fact(&mut self, aspect: &str, value: &str) {
        let text = match u64::from_str_radix(value, 16) {
            Ok(mask) if value.len() == 16 => format!("{:016x}", mask & !(0b11 << 31)),
            _ => value.to_owned(),
        };
        self.note(aspect, text);
    }

    // The end.

    /// Everything that was observed.
    pub fn transcript(mut self, is_original: bool) -> Transcript {
        let daemon = self.daemon.take().expect("the scenario has started a superdaemon");
        let mut messages = daemon.text("stderr");
        if self.log != "stderr" {
            messages += &daemon.text(self.log);
        }
        let names = Names {
            dir: daemon.dir().display().to_string(),
            ports: self.ports.iter().map(Port::number).collect(),
            superdaemon: daemon.pid(),
            workers: workers_started(&messages),
        };
        let log = Log::read(&messages, &names);
        // The vocabulary would be incomplete, and nobody would ever compare these lines.
        assert!(!is_original || log.unknown.is_empty(), "the original has said something unknown: {:?}", log.unknown);
        let mut transcript = Transcript::from([
            ("messages".to_owned(), log.superdaemon.join("\n")),
            ("messages of children".to_owned(), log.children.join("\n")),
            ("workers".to_owned(), lives(&daemon)),
            ("files left".to_owned(), files(&daemon)),
            ("standard output".to_owned(), names.in_text(&daemon.text("stdout"))),
        ]);
        for (aspect, note) in self.notes {
            let text = match note {
                Note::Text(text) => names.in_text(&text),
                Note::StatusFile(text) => names.in_status_file(&text),
                Note::PidFile(text) => names.in_pid_file(&text),
                Note::Verb(output) => verb(&output, &names),
            };
            let former = transcript.insert(aspect.clone(), text);
            assert!(former.is_none(), "the scenario notes “{aspect}” twice");
        }
        transcript
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("the scenario has started a superdaemon")
    }
}

impl Deref for Stage {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        self.daemon()
    }
}

/// What each worker recorded, by generation. When exactly it was ready is its own affair, and the same signal sent
/// twice in a row may be merged by the kernel.
fn lives(daemon: &Daemon) -> String {
    let mut events = daemon.events();
    events.retain(|event| event.what != "ready");
    events.sort_by_key(|event| event.generation);
    events.dedup();
    events.iter().map(|event| format!("{}: {}\n", event.generation, event.what)).collect()
}

fn files(daemon: &Daemon) -> String {
    let entries = std::fs::read_dir(daemon.dir()).expect("the daemon's directory is there");
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !OWN_FILES.contains(&name.as_str()) && !name.starts_with("dump."));
    names.sort();
    names.join("\n")
}

fn verb(output: &Output, names: &Names) -> String {
    let log = Log::read(&String::from_utf8_lossy(&output.stderr), names);
    let class = if output.status.success() { "zero" } else { "not zero" };
    let printed = names.in_text(&String::from_utf8_lossy(&output.stdout));
    format!("exit status: {class}\nmessages: {}\nprinted: {printed}", log.superdaemon.join("\n"))
}

fn sockets(dump: &Dump, number_of: impl Fn(usize, i32) -> String) -> String {
    let variable = dump.env("SERVER_STARTER_PORT").unwrap_or("(not set)");
    let mut descriptors = dump.descriptors();
    let mut text = String::new();
    for (index, entry) in variable.split(';').enumerate() {
        let Some((name, number)) = entry.rsplit_once('=') else {
            text += &format!("{entry}\n");
            continue;
        };
        let number: i32 = number.parse().expect("descriptors are numbers");
        let description = descriptors.remove(&number).unwrap_or("not open");
        text += &format!("{name}={}: {description}\n", number_of(index + 1, number));
    }
    for (number, description) in descriptors {
        text += &format!("descriptor {number}: {description}\n");
    }
    text
}
