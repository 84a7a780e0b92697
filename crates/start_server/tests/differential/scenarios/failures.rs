//! Workers that fail to start, or die.

use testkit::{Address, get};

use crate::stage::Stage;

pub fn first_start_fails_twice(stage: &mut Stage) {
    stage.start(|daemon| daemon.with_files().option("--interval=1").server(["--fail-generations=1,2"]));
    stage.wait_generations(&[3]);
    stage.stop();
}

pub fn restart_fails_twice(stage: &mut Stage) {
    stage.start_serving([], ["--fail-generations=2,3", "--fail-status=7"]);
    stage.hup();
    stage.wait_ready(4);
    stage.note_status_file("status file before the success");
    stage.wait_generations(&[4]);
    stage.stop();
}

pub fn restart_fails_by_signal(stage: &mut Stage) {
    stage.start_serving([], ["--fail-generations=2", "--fail-signal=KILL"]);
    stage.hup();
    stage.wait_generations(&[3]);
    stage.stop();
}

pub fn current_dies_by_exit(stage: &mut Stage) {
    let port = stage.port();
    stage.start_serving([&format!("--port=127.0.0.1:{port}")], []);
    get(&Address::local(port), "/exit/3").expect_err("it exits instead of answering");
    stage.wait_generations(&[2]);
    stage.note_status_file("status file after the death");
    stage.stop();
}

pub fn current_dies_by_signal(stage: &mut Stage) {
    stage.start_serving([], []);
    let worker = stage.wait_ready(1).pid;
    stage.settle();
    stage.signal_process(worker, "KILL");
    stage.wait_generations(&[2]);
    stage.stop();
}

pub fn old_dies_while_a_restart_fails(stage: &mut Stage) {
    stage.start_serving([], ["--fail-generations=2,3"]);
    let worker = stage.wait_ready(1).pid;
    stage.hup();
    stage.wait_event(2, "exit 1");
    stage.signal_process(worker, "KILL");
    stage.wait_event(3, "exit 1");
    stage.note_status_file("status file while nobody serves");
    stage.wait_generations(&[4]);
    stage.stop();
}

pub fn new_worker_dies_in_the_kill_old_delay(stage: &mut Stage) {
    stage.start_serving(["--kill-old-delay=2"], ["--drain=0.5"]);
    stage.hup();
    stage.wait_line("sleeping 2 secs");
    let worker = stage.wait_ready(2).pid;
    stage.signal_process(worker, "KILL");
    stage.wait_status_file(|generations| generations.contains(&3));
    let told = stage.events().iter().any(|event| event.generation == 1 && event.what == "signal TERM");
    stage.note("whether the old worker was told to go before the next one counted as started", told.to_string());
    stage.wait_generations(&[3]);
    stage.stop();
}

pub fn term_while_the_first_start_fails(stage: &mut Stage) {
    stage.start(|daemon| daemon.with_files().option("--interval=2").server(["--fail-generations=1,2,3,4,5,6,7,8,9"]));
    stage.wait_event(2, "exit 1");
    stage.wait_workers(0);
    stage.stop();
}

pub fn term_while_a_restart_fails(stage: &mut Stage) {
    stage.start(|daemon| {
        daemon.with_files().option("--interval=2").server(["--fail-generations=2,3,4,5,6,7,8,9", "--drain=0.5"])
    });
    stage.wait_generations(&[1]);
    stage.hup();
    stage.wait_event(3, "exit 1");
    stage.wait_workers(1);
    stage.stop();
}

pub fn program_missing_at_first(stage: &mut Stage) {
    stage.start(|daemon| daemon.with_files().option("--interval=1").program(["./nowhere"]));
    stage.wait_for("a second attempt or the end", || {
        let attempts = stage.lines().iter().filter(|line| line.contains("starting new worker")).count();
        (attempts > 1 || !stage.is_running()).then_some(())
    });
    if stage.is_running() {
        stage.wait_workers(0);
        stage.term();
    }
    stage.wait_end();
}

pub fn program_missing_at_a_restart(stage: &mut Stage) {
    stage.start(|daemon| {
        std::os::unix::fs::symlink(testkit::testserver(), daemon.dir().join("program")).unwrap();
        let words = ["./program", "--record=record", "--dump=dump.%g", "--drain=0.5"];
        daemon.with_files().options(["--interval=1", "--path=socket"]).program(words)
    });
    stage.wait_generations(&[1]);
    std::fs::remove_file(stage.path("program")).unwrap();
    stage.hup();
    stage.wait_lines("starting new worker", 3);
    stage.wait_workers(1);
    let left = ["pid", "status", "socket"].into_iter().filter(|name| stage.path(name).exists());
    let left = left.collect::<Vec<_>>().join(" ");
    stage.note("files while the program is missing", left);
    stage.stop();
}

pub fn directory_missing_at_a_restart(stage: &mut Stage) {
    stage.start(|daemon| {
        std::fs::create_dir(daemon.dir().join("below")).unwrap();
        daemon.with_files().options(["--interval=1", "--dir=below"]).server(["--drain=0.5"])
    });
    stage.wait_generations(&[1]);
    std::fs::remove_dir(stage.path("below")).unwrap();
    stage.hup();
    stage.wait_lines("starting new worker", 3);
    stage.wait_workers(1);
    stage.stop();
}
