//! An example server as it is deployed: under start_server, by either convention, or alone. Used by the tests of the
//! examples, which bring the clients.

use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::ports::is_taken_by_udp;
use crate::{Address, Daemon, Load, Outcome, Port, command, start_server, wait_for};

/// The server under start_server, on a port or a socket of its own. It says itself when it is ready.
#[derive(Debug)]
pub struct Deployment {
    daemon: Daemon,
    /// Where it is reached.
    pub address: Address,
    generation: u32,
    _port: Port,
}

/// How often a server is replaced under load.
const RESTARTS: u32 = 4;

impl Deployment {
    /// Under start_server as ever: the listener is in `SERVER_STARTER_PORT`, and has no name.
    pub fn tcp(program: &str) -> Self {
        let port = Port::new();
        let address = Address::local(port.number());
        Self::start(port, address, |port, _| vec![format!("--port=127.0.0.1:{port}")], vec![program.to_owned()])
    }

    /// Under start_server, by UDP.
    pub fn udp(program: &str) -> Self {
        let port = Port::new();
        let address = Address::local(port.number());
        Self::start(port, address, |port, _| vec![format!("--port=127.0.0.1:u{port}")], vec![program.to_owned()])
    }

    /// Under start_server, by unix socket.
    pub fn unix(program: &str) -> Self {
        let port = Port::new();
        let at = |_: &Port, dir: &Path| vec![format!("--path={}", dir.join("app.sock").display())];
        let mut deployment = Self::start(port, Address::Unix("app.sock".into()), at, vec![program.to_owned()]);
        deployment.address = Address::Unix(deployment.daemon.path("app.sock"));
        deployment
    }

    /// As systemd does it: the listener is in `LISTEN_FDS`, with a name and beside another one, and nowhere else.
    pub fn listen_fds(program: &str, name: &str) -> Self {
        let (port, other) = (Port::new(), Port::new());
        let address = Address::local(port.number());
        let options = |port: &Port, _: &Path| {
            vec![
                format!("--listen=127.0.0.1:{other},name=other"),
                format!("--listen=127.0.0.1:{port},name={name}"),
                "--export=listen-fds".to_owned(),
            ]
        };
        let words = ["env", "-u", "SERVER_STARTER_PORT", program].map(str::to_owned).into();
        Self::start(port, address, options, words)
    }

    fn start(
        port: Port,
        address: Address,
        options: impl FnOnce(&Port, &Path) -> Vec<String>,
        words: Vec<String>,
    ) -> Self {
        let builder = Daemon::new(start_server()).with_files().option("--ready=notify").option("--max-attempts=1");
        let options = options(&port, builder.dir());
        let daemon = builder.options(options).program(words).start();
        let deployment = Self { daemon, address, generation: 1, _port: port };
        deployment.wait_current();
        deployment
    }

    /// Replaces it several times under these clients, and stops it. Nothing may be lost, and each generation must have
    /// served.
    ///
    /// # Panics
    /// When a request was lost, or a generation did not come or go as it should.
    pub fn replaced_under(mut self, load: Load) -> Outcome {
        for _ in 0..RESTARTS {
            load.wait_requests(2);
            self.replace();
        }
        load.wait_requests(2);
        let outcome = load.stop();
        assert!(outcome.lost.is_empty(), "{} lost: {outcome:#?}\n{:#?}", outcome.lost.len(), self.daemon.lines());
        let who: Vec<_> = (1..=RESTARTS + 1).map(|number| format!("generation {number}")).collect();
        assert_eq!(outcome.answered.keys().cloned().collect::<Vec<_>>(), who, "{outcome:#?}");
        self.stop();
        outcome
    }

    /// Replaces it, and waits until only the new generation is left.
    fn replace(&mut self) {
        self.generation += 1;
        self.daemon.hup();
        self.wait_current();
    }

    fn wait_current(&self) {
        let number = self.generation;
        let said_so = |line: &String| {
            line.starts_with(&format!("generation {number} (pid ")) && line.contains(" is ready after ")
        };
        self.daemon.wait_for(&format!("generation {number}"), || self.daemon.lines().into_iter().find(said_so));
        self.daemon.wait_status_file(|generations| generations == [number]);
    }

    /// Stops it: every generation must have ended by itself and well, and nothing may be left.
    fn stop(mut self) {
        assert_eq!(self.daemon.stop().code(), Some(0), "{:#?}", self.daemon.lines());
        self.daemon.wait_gone();
        let lines = self.daemon.lines();
        let went_well = |line: &&String| line.contains("worker") && line.contains(" died, status:");
        for line in lines.iter().filter(went_well) {
            assert!(line.contains("status:0"), "{lines:#?}");
        }
    }
}

/// Runs the server alone, at an address that it is told, and gives how it ended. `clients` ask it, and call what they
/// are given to send it SIGTERM.
///
/// # Panics
/// When it does not listen in time, or does not end.
pub fn exit_of(program: &str, address: &Address, clients: impl FnOnce(&dyn Fn())) -> ExitStatus {
    struct Ended(Child);
    impl Drop for Ended {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let at = match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) => path.display().to_string(),
    };
    let mut command = command(program);
    command.arg(at).stdin(Stdio::null());
    for name in ["SERVER_STARTER_PORT", "SERVER_STARTER_GENERATION", "LISTEN_FDS", "NOTIFY_SOCKET"] {
        command.env_remove(name);
    }
    let mut server = Ended(command.spawn().unwrap());
    wait_for(|| format!("{program} to listen at {address:?}"), || is_there(address).then_some(()));
    let pid = Pid::from_child(&server.0);
    clients(&|| kill_process(pid, Signal::TERM).unwrap());
    wait_for(|| format!("the end of {program}"), || server.0.try_wait().unwrap())
}

fn is_there(address: &Address) -> bool {
    match address {
        Address::Unix(path) => UnixStream::connect(path).is_ok(),
        Address::Tcp(address) if TcpStream::connect(address).is_ok() => true,
        Address::Tcp(address) => is_taken_by_udp(address.port()),
    }
}
