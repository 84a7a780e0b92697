//! A superdaemon with a real server, of which nothing is left after the test, however the test ends.

use std::ops::Deref;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use testkit::{Address, Builder, Daemon, Port, get};

/// The superdaemon. Everything that `Daemon` can do is at hand by dereference.
pub struct Stage {
    daemon: Daemon,
    pub address: Address,
    _port: Port,
}

impl Stage {
    /// Starts `program` with `options` and, as the environment, `variables`; waits for the first answer.
    pub fn start(options: &[&str], variables: &[(&str, &str)], program: impl FnOnce(&Builder) -> Vec<String>) -> Self {
        let port = Port::new();
        let mut builder = Daemon::new(env!("CARGO_BIN_EXE_start_server")).with_files();
        builder = builder.option(format!("--port=127.0.0.1:{port}")).options(options.iter().copied());
        // Programs of the system's administrator may not be in everybody's search path.
        let path = std::env::var("PATH").unwrap_or_default();
        builder = builder.env("PATH", format!("{path}:/usr/sbin"));
        for (name, value) in variables {
            builder = builder.env(*name, *value);
        }
        let words = program(&builder);
        let address = Address::local(port.number());
        let stage = Self { daemon: builder.program(words).start(), address, _port: port };
        stage.wait_status_file(|generations| generations == [1]);
        stage.wait_for("the first answer", || get(&stage.address, "/").ok());
        stage
    }

    /// Restarts it, and waits until nothing but the new generation is left.
    pub fn restart(&self, generation: u32) {
        self.hup();
        self.wait_status_file(|generations| generations == [generation]);
    }

    /// Stops it, and looks for anything that it left behind.
    pub fn stop(mut self) {
        // The old generation may have taken a connection for which the new one woke up, too, and then hung in accept:
        // this one is taken by the new one alone.
        self.wait_for("a last answer", || get(&self.address, "/").ok());
        let groups = self.groups();
        assert_eq!(self.daemon.stop().code(), Some(0), "{:?}", self.lines());
        self.wait_groups_gone(&groups);
        assert!(!self.path("pid").exists() && !self.path("status").exists(), "files are left behind");
    }
}

impl Deref for Stage {
    type Target = Daemon;

    fn deref(&self) -> &Daemon {
        &self.daemon
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

/// A file that belongs to these tests.
pub fn fixture(name: &str) -> String {
    format!("{}/tests/real_servers/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A path as a word of a command line.
pub fn word(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}
