//! Pid file, status file, log, the background, and command lines that start nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::stage::Stage;

pub fn pid_file_is_removed_by_somebody(stage: &mut Stage) {
    stage.start_serving([], []);
    fs::remove_file(stage.path("pid")).unwrap();
    stage.stop();
}

pub fn pid_file_exists(stage: &mut Stage) {
    stage.start(|daemon| {
        fs::write(daemon.dir().join("pid"), "what is left of another one, and much longer\n").unwrap();
        daemon.with_files().option("--interval=1").server([] as [&str; 0])
    });
    stage.wait_generations(&[1]);
    stage.note_pid_file("pid file");
    stage.stop();
}

pub fn status_file_at_each_moment(stage: &mut Stage) {
    stage.start(|daemon| daemon.with_files().option("--interval=2").server(["--drain=1.5"]));
    stage.wait_file("pid");
    stage.note_pid_file("pid file");
    stage.wait_ready(1);
    stage.note("status file in the first interval", format!("{:?}", stage.status_file()));
    stage.wait_generations(&[1]);
    stage.note_status_file("status file when the first serves");
    let mode = fs::metadata(stage.path("status")).unwrap().permissions().mode();
    stage.note("mode of the status file", format!("{mode:o}"));
    let mode = fs::metadata(stage.path("pid")).unwrap().permissions().mode();
    stage.note("mode of the pid file", format!("{mode:o}"));
    stage.hup();
    stage.wait_ready(2);
    stage.note_status_file("status file in the interval of a restart");
    stage.wait_event(1, "signal TERM");
    stage.wait_generations(&[1, 2]);
    stage.note_status_file("status file while the old one drains");
    stage.wait_generations(&[2]);
    stage.note_status_file("status file when the old one has gone");
    stage.term();
    stage.wait_event(2, "signal TERM");
    stage.note_status_file("status file while the last one drains");
    stage.wait_end();
}

pub fn no_files_asked_for(stage: &mut Stage) {
    stage.start(|daemon| daemon.option("--interval=1").server([] as [&str; 0]));
    stage.wait_ready(1);
    stage.stop();
}

pub fn log_file(stage: &mut Stage) {
    stage.log_in("log");
    stage.start(|daemon| {
        fs::write(daemon.dir().join("log"), "say: what was there before\n").unwrap();
        daemon.with_files().options(["--interval=1", "--log-file=log"]).server(["--say=say: hello"])
    });
    stage.wait_generations(&[1]);
    let dump = stage.wait_dump(1);
    stage.note("descriptors 1 and 2", descriptors(&dump, &[1, 2]));
    stage.hup();
    stage.wait_generations(&[2]);
    stage.stop();
    let said = said(&stage.text("log"));
    stage.note("what others wrote into the log", said);
    let terminal = stage.text("stderr").lines().count();
    stage.note("lines on standard error", terminal.to_string());
}

pub fn log_file_cannot_be_opened(stage: &mut Stage) {
    stage.start(|daemon| daemon.with_files().option("--log-file=nowhere/log").server([] as [&str; 0]));
    stage.wait_end();
}

pub fn log_command(stage: &mut Stage) {
    stage.log_in("log");
    stage.start(|daemon| {
        let daemon = daemon.with_files().options(["--interval=1", "--log-file=| cat >>log"]);
        daemon.server(["--say=say: hello"])
    });
    stage.wait_generations(&[1]);
    let dump = stage.wait_dump(1);
    stage.note("descriptors 1 and 2", descriptors(&dump, &[1, 2]));
    stage.hup();
    stage.wait_generations(&[2]);
    stage.stop();
    let said = said(&stage.text("log"));
    stage.note("what others wrote into the log", said);
}

fn said(log: &str) -> String {
    log.lines().filter(|line| line.starts_with("say:")).collect::<Vec<_>>().join("\n")
}

fn descriptors(dump: &testkit::Dump, numbers: &[i32]) -> String {
    let open = dump.descriptors();
    numbers.iter().map(|number| format!("{number}: {}\n", open.get(number).unwrap_or(&"not open"))).collect()
}

pub fn daemonize(stage: &mut Stage) {
    stage.log_in("log");
    stage.start(|daemon| {
        daemon
            .with_files()
            .options(["--interval=1", "--log-file=log", "--daemonize", "--path=socket"])
            .server(["--exit=0"])
    });
    let status = stage.daemon_mut().exit_status();
    stage.note("exit status of the launcher", format!("{:?}", status.code()));
    let pid = stage.wait_file("pid").trim().parse().expect("the pid file holds a number");
    stage.daemon_mut().adopt(pid);
    stage.note_pid_file("pid file");
    stage.wait_generations(&[1]);
    let dump = stage.wait_dump(1);
    stage.note("descriptors 0, 1 and 2", descriptors(&dump, &[0, 1, 2]));
    stage.note("own session of the worker", dump.get("own session").unwrap_or_default());
    stage.hup();
    stage.wait_generations(&[2]);
    stage.term();
    stage.wait_gone();
}

pub fn daemonize_needs_a_log_file(stage: &mut Stage) {
    stage.start(|daemon| daemon.with_files().option("--daemonize").server([] as [&str; 0]));
    stage.wait_end();
}

pub fn no_program(stage: &mut Stage) {
    stage.start(|daemon| daemon.with_files());
    stage.wait_end();
}

pub fn unknown_option(stage: &mut Stage) {
    stage.start(|daemon| daemon.with_files().option("--bogus").server([] as [&str; 0]));
    stage.wait_end();
}
