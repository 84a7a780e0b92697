//! A machine of its own with a real systemd: PID 1 of fresh namespaces for processes, mounts and names, with its own
//! `/run`. It has the files, the network and the programs of the machine that the tests run on. Needs root.

use std::fmt::Write;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::fs::{FlockOperation, flock};
use testkit::{TempDir, wait_for};

const SYSTEMD: &str = "/lib/systemd/systemd";
const OURS: &str = env!("CARGO_BIN_EXE_start_server");

/// What becomes PID 1. The machine's file system is read-only, but for its directory and /tmp, and systemd knows no units
/// but those of the test: those of a real boot would clear `/tmp` and more.
const INIT: &str = r#"#!/bin/sh
set -e
mount -t proc proc /proc
mount --bind /tmp /tmp
mount --bind "$1" "$1"
mount -o remount,bind,ro /
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/lock
cp "$1"/units/* /run/systemd/system/
export container=lxc SYSTEMD_UNIT_PATH=/run/systemd/system SYSTEMD_GENERATOR_PATH=/nowhere
exec "$2" --system --unit=test.target
"#;

/// Units that systemd refers to by itself.
const TARGETS: [&str; 5] = ["test", "basic", "sysinit", "sockets", "shutdown"];

/// The machine. It is gone with all its processes when the value is dropped.
#[derive(Debug)]
pub struct Machine {
    unshare: Child,
    systemd: u32,
    dir: TempDir,
    _alone: File,
}

impl Machine {
    /// Starts a machine with these units; none, and words about it, where that cannot be done. `%D` in a unit stands
    /// for the machine's directory, `%S` for start_server, `%T` for the test server with a record in the directory.
    pub fn start(test: &str, units: &[(&str, &str)]) -> Option<Self> {
        let systemd = std::env::var_os("TEST_SYSTEMD").map_or_else(|| PathBuf::from(SYSTEMD), PathBuf::from);
        if !rustix::process::geteuid().is_root() || !systemd.exists() {
            eprintln!("{test}: needs root and {}; not tested", systemd.display());
            return None;
        }
        let alone = one_at_a_time();
        let dir = TempDir::new();
        let server = format!("{} --record=record --dump=dump.%%g", testkit::testserver().display());
        let place = dir.path().to_str().unwrap();
        let directory = dir.path().join("units");
        fs::create_dir(&directory).unwrap();
        for target in TARGETS {
            let text = "[Unit]\nDescription=nothing\nDefaultDependencies=no\n";
            fs::write(directory.join(format!("{target}.target")), text).unwrap();
        }
        for (name, text) in units {
            let text = text.replace("%D", place).replace("%S", OURS).replace("%T", &server);
            fs::write(directory.join(name), text).unwrap();
        }
        fs::write(dir.path().join("init"), INIT).unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let words = "--fork --pid --mount --uts --ipc --propagation private --kill-child sh";
        let mut unshare = Command::new("unshare")
            .args(words.split(' '))
            .arg(dir.path().join("init"))
            .args([dir.path(), &systemd])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", unshare.id());
        let pid = wait_for(
            || "PID 1 of the machine".to_owned(),
            || {
                let is_over = unshare.try_wait().unwrap().is_some();
                let pid = fs::read_to_string(&children).ok().and_then(|text| text.trim().parse::<u32>().ok());
                if is_over { Some(0) } else { pid }
            },
        );
        let machine = Self { unshare, systemd: pid, dir, _alone: alone };
        if pid == 0 {
            eprintln!("{test}: cannot make namespaces; not tested\n{}", machine.text("log"));
            return None;
        }
        machine.wait("systemd to be up", || {
            let state = machine.systemctl(&["is-system-running"]).stdout;
            ["running\n", "degraded\n"].iter().any(|up| state == up.as_bytes()).then_some(())
        });
        Some(machine)
    }

    /// The version of its systemd.
    pub fn version(&self) -> u32 {
        let text = self.systemctl(&["show", "--value", "-p", "Version"]).stdout;
        let text = String::from_utf8(text).unwrap();
        text.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
    }

    /// Runs systemctl inside.
    pub fn systemctl(&self, arguments: &[&str]) -> Output {
        self.start_systemctl(arguments).wait_with_output().unwrap()
    }

    /// Runs systemctl inside, without waiting for it.
    pub fn start_systemctl(&self, arguments: &[&str]) -> Child {
        Command::new("nsenter")
            .args(["-t", &self.systemd.to_string(), "-m", "-p", "-u", "-i", "systemctl"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// Runs systemctl inside, which must not fail.
    pub fn must(&self, arguments: &[&str]) {
        let output = self.systemctl(arguments);
        let how = self.systemctl(&["show", "-p", "Result,ExecMainStatus,StatusText,Names", arguments.last().unwrap()]);
        let how = String::from_utf8_lossy(&how.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {output:?}\n{how}{}", self.picture());
    }

    /// A property of a unit.
    pub fn property(&self, unit: &str, name: &str) -> String {
        let output = self.systemctl(&["show", "--value", "-p", name, unit]);
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// The main process of a service, as this side of the namespace knows it.
    pub fn main_pid(&self, unit: &str) -> Option<i32> {
        let inner: u32 = self.property(unit, "MainPID").parse().unwrap();
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.find(|pid| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
            let numbers: Vec<&str> = inside.split_whitespace().collect();
            inner > 0
                && numbers.len() > 1
                && numbers.last() == Some(&inner.to_string().as_str())
                && self.is_inside(*pid)
        })
    }

    fn is_inside(&self, pid: i32) -> bool {
        let namespace = |pid: &dyn std::fmt::Display| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        namespace(&pid).is_some() && namespace(&pid) == namespace(&self.systemd)
    }

    /// The machine's directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The text of a file in the machine's directory.
    pub fn text(&self, name: &str) -> String {
        fs::read(self.dir().join(name)).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    /// Waits until `look` finds something.
    pub fn wait<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        wait_for(|| format!("{what}\n{}", self.picture()), look)
    }

    /// Waits until a property of a unit has this value.
    pub fn wait_property(&self, unit: &str, name: &str, wanted: impl Fn(&str) -> bool) -> String {
        self.wait(&format!("{name} of {unit}"), || Some(self.property(unit, name)).filter(|value| wanted(value)))
    }

    pub fn picture(&self) -> String {
        let mut text = String::new();
        for name in ["err", "record"] {
            let lines = self.text(name);
            let lines: Vec<&str> = lines.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            write!(text, "--- {name}:\n{}\n", last.join("\n")).unwrap();
        }
        text
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // PID 1 inside goes with it, and with that everything else.
        self.unshare.kill().unwrap();
        self.unshare.wait().unwrap();
    }
}

/// Two systemd would disagree about whose control groups they are.
fn one_at_a_time() -> File {
    let path = std::env::temp_dir().join("start_server-test-systemd.lock");
    let file = File::options().create(true).append(true).open(path).unwrap();
    flock(&file, FlockOperation::LockExclusive).unwrap();
    file
}
