//! A superdaemon with a real server, started by the command of its recipe in a copy of its folder. Nothing of it is
//! left after the test, however the test ends.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use testkit::{Builder, Daemon, Port};

use crate::client::{Answer, Failure, Place, Socket};
use crate::recipe::{self, Language, Recipe};

/// What recipes listen on. Each run listens on something of its own, in its place.
const PORT: &str = "8080";
const PATH: &str = "/run/app.sock";

/// Stands in for the superdaemon on the command line of a recipe: the tests need to find it.
const SUPERDAEMON: &str = "#!/bin/sh\nexec \"$START_SERVER\" --pid-file=\"$TESTKIT_DIR\"/pid \"$@\"\n";

/// The superdaemon and its server.
pub struct Stage {
    daemon: Daemon,
    pub place: Place,
    /// The time until the first answer.
    pub first_answer: Duration,
    _port: Port,
}

/// The version of the server that is installed, if one is.
pub fn version(recipe: &Recipe) -> Option<String> {
    let output = shell(&recipe.version).current_dir(recipe::folder().join(&recipe.name)).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let mut words = said.split(|letter: char| !(letter.is_ascii_digit() || letter == '.'));
    let version = words.find(|word| word.contains('.') && word.starts_with(|letter: char| letter.is_ascii_digit()));
    output.status.success().then(|| version.unwrap_or("?").trim_end_matches('.').to_owned())
}

impl Stage {
    /// Starts the server of `recipe` and waits for its first answer.
    pub fn start(recipe: &Recipe) -> Self {
        let port = Port::new();
        let builder = Daemon::new("/bin/sh");
        let folder = lay_out(&builder, recipe, &port);
        let command = fill_in(&recipe.command.replace('\n', " "), &builder, &port);
        let script = format!("cd '{}'; exec {command}", folder.display());
        let socket = match recipe.command.contains(PATH) {
            true => Socket::Path(builder.dir().join("app.sock")),
            false => Socket::Port(port.number()),
        };
        let place = match recipe.language {
            Language::Http => Place::Http(socket),
            Language::FastCgi => Place::FastCgi(socket, folder.join("index.php").to_str().unwrap().to_owned()),
            Language::Udp => Place::Datagrams(port.number()),
        };
        let mut path = vec![builder.dir().join("bin")];
        path.extend(search_path());
        let builder = builder.env("PATH", env::join_paths(path).unwrap());
        let builder = builder.env("START_SERVER", env!("CARGO_BIN_EXE_start_server"));
        let begun = Instant::now();
        let daemon = builder.options(["-c", &script]).start();
        let mut stage = Self { daemon, place, first_answer: Duration::ZERO, _port: port };
        stage.wait_answer();
        stage.first_answer = begun.elapsed();
        stage
    }

    /// The superdaemon, with all that is known of it.
    pub fn daemon(&self) -> &Daemon {
        &self.daemon
    }

    /// Restarts it, and waits until nothing but the new generation is left.
    pub fn restart(&self) -> Duration {
        let begun = Instant::now();
        let verb = ["--restart", "--pid-file=pid", "--timeout=60"];
        let output = self.daemon.verb_of(Path::new(env!("CARGO_BIN_EXE_start_server")), verb);
        assert!(output.status.success(), "a restart failed: {output:?}\n{:#?}", self.daemon.lines());
        begun.elapsed()
    }

    /// Stops it while it is answering a request, and looks for anything that it left behind.
    pub fn stop(mut self) {
        let groups = self.daemon.groups();
        let in_flight = self.ask_slowly();
        assert_eq!(self.daemon.stop().code(), Some(0), "{:#?}", self.daemon.lines());
        if let Some(Err((loss, detail))) = in_flight.map(|request| request.join().unwrap()) {
            panic!("the stop cost a request that was in flight: {loss}, {detail}\n{:#?}", self.daemon.lines());
        }
        self.daemon.wait_groups_gone(&groups);
        assert!(!self.daemon.path("pid").exists(), "the PID file is left behind");
    }

    fn wait_answer(&self) {
        let ask = || self.place.connect().and_then(|mut connection| connection.ask("/", true));
        self.daemon.wait_for("an answer", || ask().ok());
    }

    /// Sends a request that takes its time, and comes back when the server has read it. Only TCP lets us see that.
    fn ask_slowly(&self) -> Option<JoinHandle<Result<Answer, Failure>>> {
        let mut connection = self.place.connect().unwrap();
        let client = connection.port()?;
        let (tell, told) = mpsc::channel();
        let request = thread::spawn(move || connection.ask_and("/slow", true, || tell.send(()).unwrap()));
        // Fails if it could not be sent, which the request then says.
        let _ = told.recv();
        self.daemon.wait_for("a request that is read", || (request.is_finished() || is_read(client)).then_some(()));
        Some(request)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // After a failure the workers' marks may be gone, but the superdaemon knows them: QUIT has it end them all.
        if self.daemon.is_running() {
            self.daemon.signal("QUIT");
            let limit = Instant::now() + testkit::patience();
            while self.daemon.is_running() && Instant::now() < limit {
                thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Copies what the recipe needs, with the addresses of this run in it, and gives the folder to run in.
fn lay_out(builder: &Builder, recipe: &Recipe, port: &Port) -> PathBuf {
    let servers = builder.dir().join("servers");
    for name in ["apps", &recipe.name] {
        let (from, to) = (recipe::folder().join(name), servers.join(name));
        fs::create_dir_all(&to).unwrap();
        for file in recipe::files(&from) {
            let (from, to) = (from.join(&file), to.join(&file));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            // With its permissions.
            fs::copy(&from, &to).unwrap();
            fs::write(&to, fill_in(&fs::read_to_string(&from).unwrap(), builder, port)).unwrap();
        }
    }
    symlink(recipe::folder().join("../ruby"), builder.dir().join("ruby")).unwrap();
    let bin = builder.dir().join("bin");
    fs::create_dir(&bin).unwrap();
    // A process of its own writes the program: else it would be busy for as long as a child of another test has our
    // descriptor.
    let mut write = shell("printf %s \"$1\" >start_server && chmod 755 start_server");
    assert!(write.args(["sh", SUPERDAEMON]).current_dir(&bin).status().unwrap().success());
    // Servers that change their user must still be able to come here.
    fs::set_permissions(builder.dir(), fs::Permissions::from_mode(0o755)).unwrap();
    let folder = servers.join(&recipe.name);
    if let Some(build) = &recipe.build {
        let output = shell(build).current_dir(&folder).output().unwrap();
        assert!(output.status.success(), "{build}: {}", String::from_utf8_lossy(&output.stderr));
    }
    folder
}

fn fill_in(text: &str, builder: &Builder, port: &Port) -> String {
    let socket = builder.dir().join("app.sock");
    text.replace(PORT, &port.to_string()).replace(PATH, socket.to_str().unwrap())
}

/// A command of a recipe, to be run by a shell that finds all that is installed.
fn shell(command: &str) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", command]).env("PATH", env::join_paths(search_path()).unwrap());
    shell
}

/// Where programs are looked for: first those from PyPI, then Debian's, whatever a version manager has put before them,
/// and those of this project.
fn search_path() -> Vec<PathBuf> {
    // A test runs as TARGET/PROFILE/deps/NAME-HASH.
    let test = env::current_exe().unwrap();
    let [_, _, profile, target] = test.ancestors().take(4).collect::<Vec<_>>().try_into().unwrap();
    let mut path = vec![target.join("servers/venv/bin"), "/usr/bin".into(), "/usr/sbin".into()];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    path.push(profile.to_owned());
    path
}

/// Whether the server has accepted the connection from this port, and read what there was to read.
fn is_read(client: u16) -> bool {
    let connections = fs::read_to_string("/proc/net/tcp").unwrap();
    // proc_pid_net(5): number, local address, remote address, state, both queues, …, the inode (the tenth).
    let is_it = |fields: &[&str]| {
        let [_, _, remote, _, queues, _, _, _, _, inode, ..] = fields else { return false };
        remote.ends_with(&format!(":{client:04X}")) && queues.ends_with(":00000000") && *inode != "0"
    };
    connections.lines().any(|line| is_it(&line.split_whitespace().collect::<Vec<_>>()))
}
