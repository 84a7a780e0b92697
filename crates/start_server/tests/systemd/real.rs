//! With a real systemd.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};
use testkit::{Address, Client, Port, get};

use crate::machine::Machine;

/// A service as in deploy/systemd, made for tests: `OPTIONS` go before the `--`, `ARGUMENTS` to the test server.
const SERVICE: &str = "[Unit]
StartLimitIntervalSec=0
[Service]
Type=notify
Environment=TESTKIT_DIR=%D
WorkingDirectory=%D
StandardError=append:%D/err
ExecStart=%S OPTIONS -- %T ARGUMENTS
ExecReload=%S --restart --pid=${MAINPID}
TimeoutStartSec=30
Restart=always
RestartSec=0
KillMode=process
FileDescriptorStoreMax=64
LINES
";

fn service(options: &str, arguments: &str, lines: &str) -> String {
    SERVICE.replace("OPTIONS", options).replace("ARGUMENTS", arguments).replace("LINES", lines)
}

fn kill(pid: i32, signal: Signal) {
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
}

#[test]
fn it_is_started_when_the_first_generation_is_ready() {
    let port = Port::new();
    let unit = service(&format!("--port={port} '--ready=exec:test -e %D/go'"), "", "");
    let Some(machine) = Machine::start("it_is_started", &[("app.service", &unit)]) else { return };
    let start = machine.start_systemctl(&["start", "app.service"]);
    machine.wait_property("app.service", "StatusText", |text| text.ends_with(" starts"));
    assert_eq!(machine.property("app.service", "ActiveState"), "activating");
    fs::write(machine.dir().join("go"), "").unwrap();
    let output = start.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(machine.property("app.service", "ActiveState"), "active");
    let text = machine.property("app.service", "StatusText");
    assert!(text.starts_with("generation 1 (pid ") && text.ends_with(") serves"), "{text}");
    machine.must(&["stop", "app.service"]);
    assert!(get(&Address::local(port.number()), "/").is_err());
    assert_eq!(machine.property("app.service", "Result"), "success");
}

#[test]
fn a_reload_is_a_deploy_and_fails_if_that_does() {
    let port = Port::new();
    let options = format!("--port={port} --ready=accept --max-attempts=1");
    let unit = service(&options, "--fail-generations=3", "");
    let Some(machine) = Machine::start("a_reload", &[("app.service", &unit)]) else { return };
    machine.must(&["start", "app.service"]);
    let pid = machine.property("app.service", "MainPID");
    let address = Address::local(port.number());
    let client = Client::start(address.clone());
    client.wait_answers(10);
    machine.must(&["reload", "app.service"]);
    assert_eq!(get(&address, "/").unwrap().generation, 2);
    let output = machine.systemctl(&["reload", "app.service"]);
    assert!(!output.status.success(), "{output:?}");
    assert_eq!(get(&address, "/").unwrap().generation, 2);
    assert_eq!(machine.property("app.service", "ActiveState"), "active");
    let text = machine.property("app.service", "StatusText");
    assert!(text.contains(" serves; the last attempt failed: generation 3 (pid "), "{text}");
    machine.must(&["reload", "app.service"]);
    assert_eq!(get(&address, "/").unwrap().generation, 4);
    assert!(!machine.property("app.service", "StatusText").contains("failed"));
    assert_eq!(machine.property("app.service", "MainPID"), pid);
    assert_eq!(client.stop().lost(), 0);
}

/// The other way to reload: systemd sends HUP and waits for the messages. It knows that since version 253.
#[test]
fn notify_reload_ends_with_the_commit() {
    const NAME: &str = "notify_reload";
    let port = Port::new();
    let options = format!("--port={port} '--ready=exec:test -e %D/go.$$SERVER_STARTER_GENERATION' --max-attempts=1");
    let unit = service(&options, "--fail-generations=3", "").replace("Type=notify", "Type=notify-reload");
    let unit = unit.lines().filter(|line| !line.starts_with("ExecReload=")).collect::<Vec<_>>().join("\n");
    let Some(machine) = Machine::start(NAME, &[("app.service", &unit)]) else { return };
    if machine.version() < 253 {
        eprintln!("{NAME}: needs systemd 253 and not {}; not tested", machine.version());
        return;
    }
    fs::write(machine.dir().join("go.1"), "").unwrap();
    machine.must(&["start", "app.service"]);
    let reload = machine.start_systemctl(&["reload", "app.service"]);
    machine.wait_property("app.service", "StatusText", |text| text.contains("; generation 2 (pid "));
    assert_eq!(machine.property("app.service", "ActiveState"), "reloading");
    fs::write(machine.dir().join("go.2"), "").unwrap();
    assert!(reload.wait_with_output().unwrap().status.success());
    let text = machine.property("app.service", "StatusText");
    assert!(text.starts_with("generation 2 (pid "), "{text}");
    // That it failed, a reload of this kind cannot say; the status can.
    machine.must(&["reload", "app.service"]);
    let text = machine.property("app.service", "StatusText");
    assert!(text.starts_with("generation 2 (pid "), "{text}");
    assert!(text.contains(" serves; the last attempt failed: generation 3 (pid "), "{text}");
    assert_eq!(machine.property("app.service", "ActiveState"), "active");
}

#[test]
fn nothing_is_lost_when_the_superdaemon_is_killed_or_stands_still() {
    let port = Port::new();
    let unit = service(&format!("--port={port} --interval=0.1 --path=%D/sock"), "", "WatchdogSec=2");
    let Some(machine) = Machine::start("nothing_is_lost", &[("app.service", &unit)]) else { return };
    machine.must(&["start", "app.service"]);
    let addresses = [Address::local(port.number()), Address::Unix(machine.dir().join("sock"))];
    let clients = addresses.clone().map(Client::start);
    for (round, signal) in [Signal::KILL, Signal::STOP, Signal::KILL].into_iter().enumerate() {
        let generation = u32::try_from(round).unwrap() + 2;
        clients.iter().for_each(|client| client.wait_answers(50));
        kill(machine.main_pid("app.service").unwrap(), signal);
        machine.wait(&format!("generation {generation}"), || {
            addresses.iter().all(|address| get(address, "/").unwrap().generation == generation).then_some(())
        });
        machine.wait_property("app.service", "StatusText", |text| {
            text.starts_with(&format!("generation {generation} (pid ")) && text.ends_with(" serves")
        });
        assert_eq!(machine.property("app.service", "ActiveState"), "active");
        assert_eq!(machine.property("app.service", "NRestarts"), (round + 1).to_string());
        clients.iter().for_each(|client| client.wait_answers(50));
    }
    for client in clients {
        let tally = client.stop();
        assert_eq!(tally.lost(), 0, "{tally:?}\n{}", machine.picture());
    }
    let log = machine.text("err");
    assert_eq!(log.matches("which the service manager has kept").count(), 2 * 3, "{log}");
    assert_eq!(log.matches(" serves there without its superdaemon").count(), 3, "{log}");
    machine.must(&["stop", "app.service"]);
    assert!(!machine.dir().join("sock").exists());
    assert!(get(&addresses[0], "/").is_err());
}

/// Where nobody is left to serve, requests that were begun are lost, but whoever comes waits instead of being refused.
#[test]
fn nobody_is_refused_when_every_process_is_killed() {
    let unit =
        service("--port=127.0.0.1:0 --interval=0.1 --path=%D/sock", "", "").replace("=process", "=control-group");
    let Some(machine) = Machine::start("nobody_is_refused", &[("app.service", &unit)]) else { return };
    machine.must(&["start", "app.service"]);
    let log = machine.text("err");
    let port = log.split("listening on 127.0.0.1:").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    let addresses = [Address::local(port.parse().unwrap()), Address::Unix(machine.dir().join("sock"))];
    let clients = addresses.map(Client::start);
    for generation in 2..4 {
        clients.iter().for_each(|client| client.wait_answers(20));
        kill(machine.main_pid("app.service").unwrap(), Signal::KILL);
        machine.wait_property("app.service", "StatusText", |text| {
            text.starts_with(&format!("generation {generation} (pid ")) && text.ends_with(" serves")
        });
    }
    clients.iter().for_each(|client| client.wait_answers(20));
    let [tcp, unix] = clients;
    let is_patient = |client: Client| {
        let tally = client.stop();
        assert_eq!((tally.refused, tally.timeout, tally.wrong), (0, 0, 0), "{tally:?}\n{}", machine.picture());
    };
    is_patient(unix);
    // So do those who come while it is stopped and started, and then it is a new life.
    machine.must(&["restart", "app.service"]);
    assert!(machine.property("app.service", "StatusText").starts_with("generation 1 (pid "));
    tcp.wait_answers(20);
    is_patient(tcp);
}

/// What stands in deploy/systemd works, fence and all.
#[test]
fn the_unit_files_can_be_used() {
    const NAME: &str = "the_unit_files";
    let [port, other] = [(); 2].map(|()| Port::new());
    let read = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/systemd").join(name);
        let text = fs::read_to_string(path).unwrap();
        text.replace("/usr/local/bin/start_server", "%D/start_server")
            .replace("/srv/%i/server", "/srv/example/server")
            .replace("/srv/example/server", "%D/testserver --record=record")
            .replace("/etc/start_server", "%D")
            .replace("/srv/%i", "%D")
            .replace("127.0.0.1:8080", &format!("127.0.0.1:{port}"))
            // It would be left behind.
            .replace("PrivateTmp=yes\n", "")
    };
    // The programs and their directory are somewhere else than in real life.
    let lines =
        "\n[Service]\nBindPaths=%D\nWorkingDirectory=%D\nEnvironment=TESTKIT_DIR=%D\nStandardError=append:%D/err\n";
    let example = read("start_server-example.service") + lines;
    let socket = read("start_server-example.socket");
    let template = read("start_server@.service") + lines;
    let units = [
        ("start_server-example.service", example.as_str()),
        ("start_server-example.socket", socket.as_str()),
        ("start_server@.service", template.as_str()),
    ];
    let Some(machine) = Machine::start(NAME, &units) else { return };
    fs::set_permissions(machine.dir(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::copy(env!("CARGO_BIN_EXE_start_server"), machine.dir().join("start_server")).unwrap();
    fs::copy(testkit::testserver(), machine.dir().join("testserver")).unwrap();
    let options = format!("OPTIONS=--port=127.0.0.1:{other} --ready=accept\n");
    fs::write(machine.dir().join("blog.conf"), options).unwrap();
    let services = [(&port, "start_server-example.service"), (&other, "start_server@blog.service")];
    for (port, service) in services {
        machine.must(&["start", service]);
        let client = Client::start(Address::local(port.number()));
        client.wait_answers(10);
        machine.must(&["reload", service]);
        kill(machine.main_pid(service).unwrap(), Signal::KILL);
        machine.wait_property(service, "StatusText", |text| {
            text.starts_with("generation 3 (pid ") && text.ends_with(" serves")
        });
        client.wait_answers(10);
        let tally = client.stop();
        assert_eq!(tally.lost(), 0, "{tally:?}\n{}", machine.picture());
        machine.must(&["stop", service]);
        assert!(get(&Address::local(port.number()), "/").is_err());
    }
    machine.must(&["start", "start_server-example.socket"]);
    assert_eq!(get(&Address::local(port.number()), "/").unwrap().generation, 1);
}

#[test]
fn sockets_of_a_socket_unit_are_listeners() {
    let (one, other) = (Port::new(), Port::new());
    let unit =
        service(&format!("--port=127.0.0.1:{one} --export=listen-fds --interval=0.1"), "", "Requires=app.socket");
    let socket = format!(
        "[Socket]\nListenStream=127.0.0.1:{one}\nListenStream=127.0.0.1:{other}\nListenStream=%D/sock\n\
         FileDescriptorName=web\n"
    );
    let units = [("app.service", unit.as_str()), ("app.socket", socket.as_str())];
    let Some(machine) = Machine::start("sockets_of_a_socket_unit", &units) else { return };
    machine.must(&["start", "app.socket"]);
    let addresses =
        [Address::local(one.number()), Address::local(other.number()), Address::Unix(machine.dir().join("sock"))];
    // The first connection starts the service.
    assert_eq!(get(&addresses[1], "/").unwrap().generation, 1);
    let clients = addresses.clone().map(Client::start);
    clients.iter().for_each(|client| client.wait_answers(20));
    machine.wait_property("app.service", "ActiveState", |state| state == "active");
    machine.must(&["reload", "app.service"]);
    kill(machine.main_pid("app.service").unwrap(), Signal::KILL);
    machine.wait_property("app.service", "StatusText", |text| {
        text.starts_with("generation 3") && text.ends_with("serves")
    });
    clients.iter().for_each(|client| client.wait_answers(20));
    // Those who come while it is stopped and started wait.
    machine.must(&["restart", "app.service"]);
    clients.iter().for_each(|client| client.wait_answers(20));
    machine.must(&["stop", "app.service"]);
    assert!(machine.dir().join("sock").exists());
    // Started by whoever comes next.
    for client in clients {
        let tally = client.stop();
        assert_eq!(tally.lost(), 0, "{tally:?}\n{}", machine.picture());
    }
}
