//! `--restart` and `--stop`.

use crate::stage::Stage;

pub fn restart_verb(stage: &mut Stage) {
    stage.start_serving([], []);
    stage.settle();
    stage.verb("--restart", ["--restart", "--pid-file=pid", "--status-file=status"]);
    stage.note_status_file("status file when the verb has ended");
    stage.stop();
}

pub fn stop_verb(stage: &mut Stage) {
    stage.start_serving([], ["--drain=1"]);
    stage.settle();
    stage.verb("--stop", ["--stop", "--pid-file=pid"]);
    stage.note("whether the pid file is left", stage.path("pid").exists().to_string());
    stage.wait_end();
}

pub fn verbs_of_the_other_program(stage: &mut Stage) {
    stage.start_serving([], []);
    stage.settle();
    stage.verb_of_other("--restart", ["--restart", "--pid-file=pid", "--status-file=status"]);
    stage.note_status_file("status file when the verb has ended");
    stage.settle();
    stage.verb_of_other("--stop", ["--stop", "--pid-file=pid"]);
    stage.wait_end();
}

pub fn restart_verb_without_files(stage: &mut Stage) {
    stage.start(|daemon| daemon.option("--restart"));
    stage.wait_end();
}

pub fn stop_verb_without_pid_file(stage: &mut Stage) {
    stage.start(|daemon| daemon.option("--stop"));
    stage.wait_end();
}

pub fn stop_verb_with_stale_pid_file(stage: &mut Stage) {
    stage.start(|daemon| {
        // Beyond the largest number that a process can have.
        std::fs::write(daemon.dir().join("pid"), "4194305\n").unwrap();
        daemon.options(["--stop", "--pid-file=pid"])
    });
    stage.wait_end();
}
