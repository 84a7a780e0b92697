//! The kill-old delay and the automatic restart, and where their values come from.

use crate::stage::Stage;

pub fn kill_old_delay_by_option(stage: &mut Stage) {
    stage.start_serving(["--kill-old-delay=2"], []);
    stage.hup();
    stage.wait_line("sleeping 2 secs");
    // Both serve, and both are in the file.
    stage.wait_generations(&[1, 2]);
    stage.note_status_file("status file in the delay");
    stage.wait_generations(&[2]);
    stage.stop();
}

pub fn kill_old_delay_by_environment(stage: &mut Stage) {
    restart_with_delay(stage, &[], Some("1"), None);
}

pub fn kill_old_delay_by_envdir(stage: &mut Stage) {
    restart_with_delay(stage, &["--envdir=env"], None, Some("1\n"));
}

pub fn option_beats_environment(stage: &mut Stage) {
    restart_with_delay(stage, &["--kill-old-delay=1"], Some("600"), None);
}

pub fn envdir_beats_option(stage: &mut Stage) {
    restart_with_delay(stage, &["--envdir=env", "--kill-old-delay=600"], Some("600"), Some("1\n"));
}

pub fn zero_delay(stage: &mut Stage) {
    restart_with_delay(stage, &["--kill-old-delay=0"], Some("600"), None);
}

fn restart_with_delay(stage: &mut Stage, options: &[&str], environment: Option<&str>, file: Option<&str>) {
    stage.start(|mut daemon| {
        if let Some(value) = environment {
            daemon = daemon.env("KILL_OLD_DELAY", value);
        }
        std::fs::create_dir(daemon.dir().join("env")).unwrap();
        daemon.with_files().option("--interval=1").options(options.iter().copied()).server([] as [&str; 0])
    });
    stage.wait_generations(&[1]);
    if let Some(value) = file {
        // The value counts at the very restart after the change.
        std::fs::write(stage.path("env/KILL_OLD_DELAY"), value).unwrap();
    }
    stage.hup();
    stage.wait_generations(&[2]);
    stage.note_env(2, ["KILL_OLD_DELAY"]);
    stage.stop();
}

pub fn term_in_the_kill_old_delay(stage: &mut Stage) {
    stage.start_serving(["--kill-old-delay=3"], ["--drain=1"]);
    stage.hup();
    stage.wait_line("sleeping 3 secs");
    stage.wait_ready(2);
    stage.stop();
}

pub fn auto_restart(stage: &mut Stage) {
    let options = ["--enable-auto-restart", "--auto-restart-interval=3", "--kill-old-delay=1"];
    stage.start_serving(options, []);
    stage.wait_line("autorestart triggered");
    stage.wait_generations(&[2]);
    stage.note_env(1, ["ENABLE_AUTO_RESTART", "AUTO_RESTART_INTERVAL", "KILL_OLD_DELAY"]);
    stage.note_env(2, ["ENABLE_AUTO_RESTART", "AUTO_RESTART_INTERVAL", "KILL_OLD_DELAY"]);
    stage.stop();
}

pub fn auto_restart_with_its_own_delay(stage: &mut Stage) {
    stage.start_serving(["--enable-auto-restart"], []);
    stage.hup();
    stage.wait_generations(&[2]);
    stage.stop();
}

pub fn forced_auto_restart(stage: &mut Stage) {
    let options = ["--enable-auto-restart", "--auto-restart-interval=2", "--kill-old-delay=0", "--signal-on-term=KILL"];
    stage.start_serving(options, ["--ignore=TERM"]);
    stage.wait_line("autorestart triggered (forced");
    stage.wait_generations(&[1, 2, 3]);
    stage.wait_event(2, "signal TERM");
    stage.stop();
}
