//! What belongs to the program, and what a caller may conclude from a success.

use crate::daemon;

/// P27: without `--` the options of the program were taken for the superdaemon's own.
#[test]
fn p27_everything_after_the_program_belongs_to_the_program() {
    let script = "printf '%s\\n' \"$@\" >words.new; mv words.new words; exec sleep 600";
    let words = ["--port=1", "-x", "--help", "--interval", "nonsense", "--restart", "--", "--no-such-option"];
    for separator in [&["--"][..], &[]] {
        let daemon = daemon()
            .options(["--interval=0.1", "--pid-file=pid"])
            .options(separator)
            .options(["sh", "-c", script, "name"])
            .options(words)
            .start();
        assert_eq!(daemon.wait_file("words"), words.join("\n") + "\n", "{separator:?}");
        daemon.wait_line("starting new worker");
    }
}

/// P25: --daemonize reported success before there was a PID file or a worker.
#[test]
fn p25_daemonize_ends_when_the_worker_runs() {
    // Whatever is there when the launcher ends is kept, to be looked at.
    let script = "\"$@\"; code=$?; cp pid pid-then; cp log log-then; exit $code";
    let options = ["--interval=0.1", "--daemonize", "--log-file=log"];
    for _ in 0..5 {
        let mut daemon = daemon().after_script(script).with_files().options(options).log("log").server([""; 0]).start();
        assert!(daemon.exit_status().success());
        daemon.adopt(daemon.wait_file("pid").trim().parse().unwrap());
        assert_eq!(daemon.text("pid-then"), format!("{}\n", daemon.pid()));
        assert!(daemon.text("log-then").contains("starting new worker"), "{}", daemon.text("log-then"));
        daemon.term();
        daemon.wait_gone();
    }
}

/// P25: and it reported success when neither came to be.
#[test]
fn p25_daemonize_fails_when_the_superdaemon_or_its_worker_does() {
    for (options, program, complaint) in [
        (&["--pid-file=nowhere/pid"][..], "sleep", "nowhere/pid"),
        (&["--max-attempts=1"], "./missing", "No such file or directory"),
    ] {
        let mut daemon = daemon()
            .options(["--interval=0.1", "--daemonize", "--log-file=log"])
            .options(options)
            .program([program, "600"])
            .start();
        assert_eq!(daemon.exit_status().code(), Some(1), "{options:?}");
        assert!(daemon.text("stderr").contains(complaint), "{options:?}: {}", daemon.text("stderr"));
        daemon.wait_gone();
    }
}
