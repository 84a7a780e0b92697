//! One candidate, running: its files, its process, its restarts, its end. Every measure starts one of its own.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::candidates::{Candidate, Restart, Serves};
use crate::clock::{ms, now, wait, wait_in_steps};
use crate::load::ask;
use crate::process::Process;
use crate::record::{Event, Record};

/// Where the programs are.
#[derive(Debug)]
pub struct Programs {
    /// This project.
    pub root: PathBuf,
    /// Our superdaemon.
    pub ours: PathBuf,
    /// Where `floor` and `server` were compiled to.
    pub compiled: PathBuf,
    /// Where the candidates were installed to.
    pub tools: PathBuf,
}

/// How the tiny server is to be.
#[derive(Clone, Copy, Debug, Default)]
pub struct Server {
    /// What it takes to become ready, in ms.
    pub delay: u32,
    /// What it takes to end, in ms.
    pub drain: u32,
}

/// A candidate that runs.
#[derive(Debug)]
pub struct Running<'a> {
    candidate: &'a Candidate,
    programs: &'a Programs,
    directory: PathBuf,
    child: Child,
    record: Record,
    port: u16,
    count: u32,
    server: Server,
    /// When it was started.
    pub started: i64,
}

/// What a restart has taken, in ms.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From the request to the first instruction of the new server.
    pub main: f64,
    /// From there until it could serve.
    pub ready: f64,
    /// From there until the old one was told to stop.
    pub term: f64,
    /// From the request until the old one was gone, and the new one ready.
    pub done: f64,
}

impl<'a> Running<'a> {
    /// Starts it, and waits until its first server answers.
    ///
    /// # Errors
    /// A sentence with what it has said.
    pub fn start(candidate: &'a Candidate, programs: &'a Programs, count: u32, server: Server) -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Where services keep their state is in memory, too; and a disk has its own moods.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let directory = place.join(format!("bench-{}-{number}", std::process::id()));
        let prepare = || -> std::io::Result<File> {
            fs::create_dir_all(directory.join("service"))?;
            File::create(directory.join("log"))
        };
        let log = prepare().map_err(|error| format!("cannot use {}: {error}", directory.display()))?;
        let record = Record::new(&directory);
        let port = free_ports(count)?;
        let words = Words { candidate, programs, directory: &directory, record: &record, port, count, server };
        for (name, text) in candidate.files {
            let path = directory.join(name);
            let written = fs::write(&path, words.filled(text));
            let executable = written.and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)));
            executable.map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        }
        let mut command = words.command(candidate.start);
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(|error| error.to_string())?).stderr(log);
        let started = now();
        let child = command.spawn().map_err(|error| format!("cannot start {:?}: {error}", command.get_program()))?;
        let running = Self { candidate, programs, directory, child, record, port, count, server, started };
        running.wait_answer().map_err(|error| format!("{error}; it said: {}", running.log()))?;
        Ok(running)
    }

    /// The process that was started.
    pub fn process(&self) -> Process {
        Process(i32::try_from(self.child.id()).unwrap_or(i32::MAX))
    }

    /// Where it is reached.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// From its start to its server's first accept, in ms.
    ///
    /// # Errors
    /// There was none.
    pub fn start_to_accept(&self) -> Result<f64, String> {
        let accept = wait("the first accept", || {
            self.record.stamps().into_iter().filter(|stamp| stamp.event == Event::Accept).map(|stamp| stamp.at).min()
        });
        accept.map(|at| ms(self.started, at))
    }

    /// Asks it to replace its server.
    ///
    /// # Errors
    /// It cannot be asked.
    pub fn ask_to_restart(&self) -> Result<i64, String> {
        let asked = now();
        match self.candidate.restart {
            Restart::Never => return Err("it cannot replace its server".to_owned()),
            Restart::Signal(signal) => {
                let pid = Pid::from_raw(self.process().0).ok_or("it has no process")?;
                kill_process(pid, signal).map_err(|error| format!("cannot send a signal: {error}"))?;
            }
            Restart::Command(words) => {
                let words = [&["timeout", "20"], words].concat();
                let output = self.words().command(&words).stdin(Stdio::null()).output();
                let output = output.map_err(|error| format!("cannot run {words:?}: {error}"))?;
                if !output.status.success() {
                    return Err(format!("{words:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim()));
                }
            }
        }
        Ok(asked)
    }

    /// Replaces the tiny server, and waits until the old one has gone.
    ///
    /// # Errors
    /// What did not come.
    pub fn restart(&self) -> Result<Times, String> {
        let old = self.record.newest().ok_or("there is no server to replace")?.pid;
        let asked = self.ask_to_restart()?;
        let new = self.wait_newer(old)?;
        let ready = wait("a new server that is ready", || self.record.when(new.pid, Event::Ready))?;
        let term = wait("the signal to stop", || self.record.when(old, Event::Term))?;
        let exit = wait("the end of the old server", || self.record.when(old, Event::Exit))?;
        wait("the end of the old process", || (!Process(old).lives()).then_some(()))?;
        Ok(Times {
            main: ms(asked, new.at),
            ready: ms(new.at, ready),
            term: ms(ready, term),
            done: ms(asked, exit.max(ready)),
        })
    }

    /// Replaces whatever server there is, and waits until the new one serves and the old one is gone.
    ///
    /// # Errors
    /// What did not come.
    pub fn replace(&self) -> Result<(), String> {
        match self.candidate.serves {
            Serves::Tiny => self.restart().map(drop),
            Serves::Itself | Serves::Becomes => self.restart_until_answer().map(drop),
        }
    }

    /// Replaces the tiny server, and waits for no more than that the new one has begun, and the old one was told to go:
    /// how long the first took.
    ///
    /// # Errors
    /// What did not come.
    pub fn restart_beside_old_ones(&self) -> Result<f64, String> {
        let old = self.record.newest().ok_or("there is no server to replace")?.pid;
        let asked = self.ask_to_restart()?;
        let new = self.wait_newer(old)?;
        wait("the signal to stop", || self.record.when(old, Event::Term))?;
        Ok(ms(asked, new.at))
    }

    /// Replaces whatever server there is, and waits for the first answer of a new one, and then for the end of all that
    /// answered before.
    ///
    /// # Errors
    /// What did not come.
    pub fn restart_until_answer(&self) -> Result<(f64, f64), String> {
        let old = ask(self.address())?;
        let asked = self.ask_to_restart()?;
        let look = || ask(self.address()).ok().filter(|pid| *pid != old).map(|_| now());
        let answered = wait_in_steps("an answer of a new server", Duration::from_micros(200), look)?;
        wait("the end of the old server", || (!Process(old).lives()).then_some(()))?;
        Ok((ms(asked, answered), ms(asked, now())))
    }

    fn wait_newer(&self, old: i32) -> Result<crate::record::Stamp, String> {
        let newer = wait("a new server", || self.record.newest().filter(|stamp| stamp.pid != old));
        newer.map_err(|error| format!("{error}, after {old}; it said: {}", self.log()))
    }

    fn wait_answer(&self) -> Result<(), String> {
        let look = || TcpStream::connect(self.address()).ok().and_then(|_| ask(self.address()).ok());
        wait_in_steps("the first answer", Duration::from_micros(100), look).map(drop)
    }

    fn words(&self) -> Words<'_> {
        Words {
            candidate: self.candidate,
            programs: self.programs,
            directory: &self.directory,
            record: &self.record,
            port: self.port,
            count: self.count,
            server: self.server,
        }
    }

    fn log(&self) -> String {
        let text = fs::read(self.directory.join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).trim().replace('\n', " / ");
        text.chars().rev().take(600).collect::<Vec<_>>().into_iter().rev().collect()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let servers: Vec<i32> = match self.candidate.serves {
            Serves::Itself => self.process().children(),
            Serves::Tiny | Serves::Becomes => self.record.stamps().into_iter().map(|stamp| stamp.pid).collect(),
        };
        if let Some(pid) = Pid::from_raw(self.process().0) {
            let _ = kill_process(pid, Signal::TERM);
        }
        for _ in 0..3000 {
            if !matches!(self.child.try_wait(), Ok(None)) {
                break;
            }
            thread::sleep(Duration::from_millis(1));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        let ours = self.record.path().display().to_string();
        for pid in servers {
            let still =
                Process(pid).is_run_with(&ours) || self.candidate.serves == Serves::Itself && Process(pid).lives();
            if let Some(pid) = Pid::from_raw(pid).filter(|_| still) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// Whether the program of a candidate is there.
pub fn is_there(candidate: &Candidate, programs: &Programs) -> bool {
    let Some(word) = candidate.start.first() else { return false };
    let found = program(word, programs);
    if found.components().count() > 1 {
        return found.exists();
    }
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).chain([PathBuf::from("/usr/sbin")]).any(|path| path.join(&found).exists())
}

/// The first line that has a digit of what it prints as its version.
pub fn version(candidate: &Candidate, programs: &Programs) -> String {
    let mut words = candidate.version.iter();
    let Some(first) = words.next() else { return String::new() };
    let output = Command::new(program(first, programs)).args(words).output();
    output.map_or(String::new(), |output| {
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().find(|line| line.contains(|c: char| c.is_ascii_digit())).unwrap_or("").trim().to_owned()
    })
}

/// What the words of a candidate are filled with.
struct Words<'a> {
    candidate: &'a Candidate,
    programs: &'a Programs,
    directory: &'a Path,
    record: &'a Record,
    port: u16,
    count: u32,
    server: Server,
}

impl Words<'_> {
    fn command(&self, words: &[&str]) -> Command {
        let mut all = Vec::<OsString>::new();
        for word in words {
            match *word {
                "{listeners}" => {
                    let ports = (0..self.count).filter_map(|offset| self.port.checked_add(u16::try_from(offset).ok()?));
                    all.extend(ports.map(|port| self.candidate.listener.replace("{port}", &port.to_string()).into()));
                }
                "{server}" => all.extend(self.server_words().into_iter().map(OsString::from)),
                word => all.push(self.filled(word).into()),
            }
        }
        let mut all = all.into_iter();
        let first = all.next().unwrap_or_default();
        let mut command = Command::new(program(&first.to_string_lossy(), self.programs));
        // What this process has got from its own superdaemon is nobody's business.
        for name in ["SERVER_STARTER_PORT", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "READY_FD"] {
            command.env_remove(name);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = [self.programs.tools.join("bin").into_os_string(), path].join(OsStr::new(":"));
        command.env("PATH", path).env("START_SERVER", &self.programs.ours).args(all);
        command
    }

    fn filled(&self, text: &str) -> String {
        text.replace("{dir}", &self.directory.display().to_string())
            .replace("{server}", &self.server_words().join(" "))
            .replace("{ours}", &self.programs.ours.display().to_string())
            .replace("{floor}", &self.programs.compiled.join("floor").display().to_string())
            .replace("{root}", &self.programs.root.display().to_string())
            .replace("{port}", &self.port.to_string())
            .replace("{count}", &self.count.to_string())
    }

    fn server_words(&self) -> Vec<String> {
        let mut words = vec![
            self.programs.compiled.join("server").display().to_string(),
            format!("--record={}", self.record.path().display()),
        ];
        for (name, value) in [("delay", self.server.delay), ("drain", self.server.drain)] {
            if value > 0 {
                words.push(format!("--{name}={value}"));
            }
        }
        words
    }
}

fn program(word: &str, programs: &Programs) -> PathBuf {
    match word {
        "{ours}" => programs.ours.clone(),
        "{floor}" => programs.compiled.join("floor"),
        _ => {
            let installed = programs.tools.join("bin").join(word);
            if !word.contains('/') && installed.exists() { installed } else { word.into() }
        }
    }
}

/// The first of so many ports in a row that are free, below those that the kernel gives to clients.
fn free_ports(count: u32) -> Result<u16, String> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let count = u16::try_from(count).map_err(|error| error.to_string())?;
    // Two runs at a time do not begin at the same port.
    let begin = 12000 + u16::try_from(std::process::id() % 500).unwrap_or(0) * 32;
    let _ = NEXT.compare_exchange(0, begin, Ordering::Relaxed, Ordering::Relaxed);
    for _ in 0..100 {
        let mut first = NEXT.fetch_add(count, Ordering::Relaxed);
        if first > 30000 {
            NEXT.store(12000, Ordering::Relaxed);
            first = NEXT.fetch_add(count, Ordering::Relaxed);
        }
        let is_free = |offset: u16| {
            let port = first.saturating_add(offset);
            TcpListener::bind(("127.0.0.1", port)).is_ok()
        };
        if (0..count).all(is_free) {
            return Ok(first);
        }
    }
    Err(format!("there are no {count} free ports in a row"))
}
