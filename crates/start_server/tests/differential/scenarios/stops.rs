//! Shutting down.

use crate::stage::Stage;

pub fn stop_by_term(stage: &mut Stage) {
    stage.start_serving([], []);
    stage.note_pid_file("pid file");
    stage.note_status_file("status file");
    stage.stop();
}

pub fn stop_by_int(stage: &mut Stage) {
    stage.start_serving([], []);
    stage.signal("INT");
    stage.wait_end();
}

pub fn int_never_sends_the_signal_for_term(stage: &mut Stage) {
    stage.start_serving(["--signal-on-term=QUIT"], []);
    stage.signal("INT");
    stage.wait_end();
}

pub fn term_in_the_first_interval(stage: &mut Stage) {
    stage.start(|daemon| daemon.with_files().option("--interval=600").server(["--drain=0.5"]));
    stage.wait_ready(1);
    stage.stop();
}

pub fn term_in_the_interval_of_a_restart(stage: &mut Stage) {
    stage.start(|daemon| daemon.with_files().option("--interval=2").server(["--drain=1"]));
    stage.wait_generations(&[1]);
    stage.hup();
    stage.wait_ready(2);
    stage.stop();
}

pub fn second_term_changes_nothing(stage: &mut Stage) {
    stage.start_serving([], ["--drain=1"]);
    stage.term();
    stage.wait_event(1, "signal TERM");
    stage.term();
    stage.settle();
    stage.signal("INT");
    stage.wait_end();
}

pub fn worker_exits_with_a_status(stage: &mut Stage) {
    stage.start_serving([], ["--exit=3"]);
    stage.hup();
    stage.wait_generations(&[2]);
    stage.stop();
}
