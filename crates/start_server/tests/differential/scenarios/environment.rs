//! What a worker is given: directory, environment, signals, and the files of --envdir.

use std::fs;

use crate::stage::Stage;

pub fn what_a_worker_is_given(stage: &mut Stage) {
    stage.start_serving([], ["--exit=0", "--graceful-on=TERM"]);
    stage.note_dump(1);
    stage.note_sockets(1);
    stage.stop();
}

pub fn what_the_caller_left(stage: &mut Stage) {
    let port = stage.port();
    stage.start(|daemon| {
        let daemon = daemon.after_script("umask 027; trap '' USR1 TERM; exec 7</dev/null").with_files();
        daemon.options(["--interval=1", &format!("--port=127.0.0.1:{port}")]).server([] as [&str; 0])
    });
    stage.wait_generations(&[1]);
    let dump = stage.wait_dump(1);
    for name in ["umask", "SigBlk", "SigIgn"] {
        stage.note_fact(name, dump.get(name).unwrap_or_default());
    }
    stage.note_sockets(1);
    stage.stop();
}

pub fn working_directory(stage: &mut Stage) {
    stage.start(|daemon| {
        fs::create_dir(daemon.dir().join("below")).unwrap();
        daemon.with_files().options(["--interval=1", "--dir=below", "--path=socket"]).server([] as [&str; 0])
    });
    stage.wait_generations(&[1]);
    let dump = stage.wait_dump(1);
    stage.note("working directory", dump.get("cwd").unwrap_or_default());
    stage.note_sockets(1);
    stage.stop();
}

pub fn options_are_exported(stage: &mut Stage) {
    let options = ["--kill-old-delay=0", "--envdir=nowhere", "--auto-restart-interval=77"];
    stage.start_serving(options, []);
    stage.note_env(1, ["ENVDIR", "ENABLE_AUTO_RESTART", "KILL_OLD_DELAY", "AUTO_RESTART_INTERVAL"]);
    stage.stop();
}

pub fn auto_restart_is_exported(stage: &mut Stage) {
    stage.start_serving(["--enable-auto-restart", "--kill-old-delay=0"], []);
    stage.hup();
    stage.wait_generations(&[2]);
    stage.note_env(1, ["ENABLE_AUTO_RESTART", "AUTO_RESTART_INTERVAL"]);
    stage.note_env(2, ["ENABLE_AUTO_RESTART", "AUTO_RESTART_INTERVAL"]);
    stage.stop();
}

pub fn inherited_variables(stage: &mut Stage) {
    stage.start(|daemon| {
        let daemon = daemon.env("SERVER_STARTER_PORT", "1=77").env("SERVER_STARTER_GENERATION", "41");
        let daemon = daemon.env("LISTEN_FDS", "1").env("LISTEN_PID", "1").env("LISTEN_FDNAMES", "x");
        daemon.env("FOO", "one\ntwo=3").option("--interval=1").with_files().server([] as [&str; 0])
    });
    stage.wait_generations(&[1]);
    stage.note_env(1, ["SERVER_STARTER_PORT", "SERVER_STARTER_GENERATION", "FOO"]);
    let dump = stage.wait_dump(1);
    for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
        stage.note(name, dump.env(name).unwrap_or("(not set)"));
    }
    stage.stop();
}

pub fn no_sockets(stage: &mut Stage) {
    stage.start_serving([], []);
    stage.note_sockets(1);
    stage.stop();
}

pub fn envdir_changes(stage: &mut Stage) {
    start_with_envdir(stage, &[("FOO", "foo1\n"), ("SAME", "same\n")]);
    stage.note_env(1, ["FOO", "SAME", "BAR"]);
    fs::write(stage.path("env/FOO"), "foo2\n").unwrap();
    fs::write(stage.path("env/BAR"), "bar\n").unwrap();
    restart(stage, 2);
    stage.note_env(2, ["FOO", "SAME", "BAR"]);
    fs::remove_file(stage.path("env/BAR")).unwrap();
    restart(stage, 3);
    stage.note_env(3, ["FOO", "SAME", "BAR"]);
    stage.stop();
}

pub fn envdir_file_is_removed(stage: &mut Stage) {
    start_with_envdir(stage, &[("FOO", "foo1\n"), ("OUTER", "file\n")]);
    stage.note_env(1, ["FOO", "OUTER"]);
    fs::remove_file(stage.path("env/FOO")).unwrap();
    fs::remove_file(stage.path("env/OUTER")).unwrap();
    restart(stage, 2);
    stage.note_env(2, ["FOO", "OUTER"]);
    stage.stop();
}

pub fn envdir_edge_cases(stage: &mut Stage) {
    let files = [
        ("EMPTY", ""),
        ("OUTER", ""),
        ("NEWLINE", "\n"),
        ("NO_NEWLINE", "text"),
        ("TWO_LINES", "one\ntwo\n"),
        ("BLANKS", " a b \n"),
        ("CARRIAGE", "a\r\n"),
        (".HIDDEN", "x\n"),
        ("TILDE~", "x\n"),
    ];
    start_with_envdir(stage, &files);
    let names = ["EMPTY", "OUTER", "NEWLINE", "NO_NEWLINE", "TWO_LINES", "BLANKS", "CARRIAGE", ".HIDDEN", "TILDE~"];
    stage.note_env(1, names);
    fs::create_dir(stage.path("env/DIRECTORY")).unwrap();
    std::os::unix::fs::symlink("nowhere", stage.path("env/DANGLING")).unwrap();
    std::os::unix::fs::symlink("NO_NEWLINE", stage.path("env/LINK")).unwrap();
    restart(stage, 2);
    stage.note_env(2, ["DIRECTORY", "DANGLING", "LINK", "EMPTY", "NEWLINE"]);
    stage.stop();
}

pub fn envdir_sets_the_path(stage: &mut Stage) {
    stage.start(|daemon| {
        let dir = daemon.dir().to_owned();
        fs::create_dir(dir.join("bin")).unwrap();
        fs::create_dir(dir.join("env")).unwrap();
        fs::write(dir.join("env/PATH"), format!("{}\n", dir.join("bin").display())).unwrap();
        std::os::unix::fs::symlink(testkit::testserver(), dir.join("bin/only-here")).unwrap();
        let words = ["only-here", "--record=record", "--dump=dump.%g"];
        daemon.with_files().options(["--interval=1", "--envdir=env"]).program(words)
    });
    stage.wait_generations(&[1]);
    stage.note_env(1, ["PATH"]);
    stage.stop();
}

fn start_with_envdir(stage: &mut Stage, files: &[(&str, &str)]) {
    stage.start(|daemon| {
        let dir = daemon.dir().join("env");
        fs::create_dir(&dir).unwrap();
        for (name, text) in files {
            fs::write(dir.join(name), text).unwrap();
        }
        let daemon = daemon.env("OUTER", "outer").with_files();
        daemon.options(["--interval=1", "--envdir=env"]).server([] as [&str; 0])
    });
    stage.wait_generations(&[1]);
}

fn restart(stage: &Stage, generation: u32) {
    stage.hup();
    stage.wait_generations(&[generation]);
}
