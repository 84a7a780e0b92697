//! Restarts that succeed.

use testkit::{Address, Client};

use crate::stage::Stage;

pub fn restart(stage: &mut Stage) {
    let port = stage.port();
    stage.start_serving([&format!("--port=127.0.0.1:{port}")], []);
    stage.hup();
    stage.wait_generations(&[2]);
    stage.wait_line("old worker");
    stage.note_status_file("status file after the restart");
    stage.stop();
}

pub fn restart_of_a_restarted_one(stage: &mut Stage) {
    stage.start_serving([], []);
    for generation in 2..=4 {
        stage.hup();
        stage.wait_generations(&[generation]);
        stage.note_status_file(&format!("status file at generation {generation}"));
    }
    stage.stop();
}

pub fn restart_under_load(stage: &mut Stage) {
    let port = stage.port();
    stage.start_serving([&format!("--port={port}")], ["--drain=0.3"]);
    let client = Client::start(Address::local(port));
    client.wait_answers(10);
    stage.hup();
    stage.wait_generations(&[2]);
    client.wait_answers(10);
    let tally = client.stop();
    stage.note("requests lost", tally.lost().to_string());
    stage.note("generations that answered", format!("{:?}", tally.generations.keys()));
    stage.stop();
}

pub fn hup_in_the_interval(stage: &mut Stage) {
    stage.start(|daemon| daemon.with_files().option("--interval=2").server(["--drain=1.5"]));
    stage.wait_generations(&[1]);
    stage.hup();
    stage.wait_ready(2);
    stage.hup();
    stage.wait_generations(&[3]);
    stage.wait_lines("old worker", 2);
    stage.stop();
}

pub fn three_quick_hups(stage: &mut Stage) {
    stage.start_serving([], ["--drain=3"]);
    stage.hup();
    stage.wait_ready(2);
    for _ in 0..2 {
        stage.hup();
        // The original starts one for each; it must be able to take a signal before the next.
        stage.settle();
        let started = stage.lines().iter().filter(|line| line.contains("starting new worker")).count();
        stage.wait_ready(u32::try_from(started).unwrap());
    }
    stage.wait_for("one generation to be left", || {
        let generations = stage.status_file()?;
        (generations.len() == 1 && generations.first()?.0 > 2).then_some(())
    });
    stage.note_status_file("status file in the end");
    stage.stop();
}

pub fn burst_of_hups(stage: &mut Stage) {
    stage.start_serving([], []);
    stage.settle();
    // While it is stopped, all of them arrive before the first is heeded.
    stage.signal("STOP");
    stage.wait_state('T');
    for _ in 0..20 {
        stage.daemon_mut().hup();
    }
    stage.daemon_mut().signal("CONT");
    stage.wait_generations(&[2]);
    stage.stop();
}

pub fn interval_of_zero(stage: &mut Stage) {
    stage.start(|daemon| daemon.with_files().option("--interval=0").server(["--drain=0.5"]));
    stage.wait_generations(&[1]);
    stage.wait_ready(1);
    stage.hup();
    stage.wait_generations(&[2]);
    stage.wait_ready(2);
    stage.stop();
}

pub fn signal_on_hup(stage: &mut Stage) {
    stage.start_serving(["--signal-on-hup=USR1", "--signal-on-term=QUIT"], ["--graceful-on=USR1,QUIT"]);
    stage.hup();
    stage.wait_generations(&[2]);
    stage.stop();
}

pub fn signal_names_are_normalised(stage: &mut Stage) {
    stage.start_serving(["--signal-on-hup=sigusr1", "--signal-on-term=SigQuit"], ["--graceful-on=USR1,QUIT"]);
    stage.hup();
    stage.wait_generations(&[2]);
    stage.stop();
}

pub fn signal_by_number(stage: &mut Stage) {
    stage.start_serving(["--signal-on-hup=10", "--signal-on-term=3"], ["--graceful-on=USR1,QUIT"]);
    stage.hup();
    stage.wait_generations(&[2]);
    stage.stop();
}

pub fn old_worker_ignores_its_signal(stage: &mut Stage) {
    stage.start_serving(["--signal-on-term=KILL"], ["--ignore=TERM"]);
    stage.hup();
    stage.wait_event(1, "signal TERM");
    stage.hup();
    stage.wait_event(2, "signal TERM");
    stage.wait_generations(&[1, 2, 3]);
    stage.note_status_file("status file with two stuck workers");
    stage.stop();
}

pub fn signals_without_effect(stage: &mut Stage) {
    stage.start_serving([], []);
    for name in ["WINCH", "CONT", "ALRM", "CHLD", "PIPE", "URG"] {
        stage.signal(name);
        stage.settle();
    }
    stage.hup();
    stage.wait_generations(&[2]);
    stage.stop();
}

pub fn many_old_generations(stage: &mut Stage) {
    stage.start(|daemon| {
        daemon.with_files().options(["--interval=0", "--signal-on-term=KILL"]).server(["--ignore=TERM"])
    });
    stage.wait_generations(&[1]);
    for generation in 2..=11_usize {
        stage.hup();
        let all: Vec<u32> = (1..=generation as u32).collect();
        stage.wait_generations(&all);
        stage.wait_lines("killing old workers", generation - 1);
        // The next signal must find every worker beyond its exec.
        stage.wait_ready(generation as u32);
    }
    stage.wait_event(10, "signal TERM");
    stage.note_status_file("status file with eleven generations");
    stage.stop();
}
