//! Who is listed, and in which order.

use crate::{daemon, process};

/// P28: generations were sorted as text, so that 10 came before 2.
#[test]
fn p28_the_status_file_is_in_the_order_of_numbers() {
    let daemon = daemon().with_files().option("--interval=0").server(["--ignore=TERM"]).start();
    for generation in 1..=12 {
        if generation > 1 {
            daemon.hup();
        }
        // A worker that is told to go before it heeds no TERM is gone.
        daemon.wait_ready(generation);
        let expected: Vec<u32> = (1..=generation).collect();
        daemon.wait_for("all generations in the status file", || {
            let mut listed: Vec<u32> = daemon.status_file()?.into_iter().map(|(number, _)| number).collect();
            let as_listed = listed.clone();
            listed.sort_unstable();
            assert_eq!(listed, as_listed, "not in order");
            (listed == expected).then_some(())
        });
    }
}

/// P30: every child that a superdaemon was born with, or that came to it as to process 1, counted as an old worker.
#[test]
fn p30_a_foreign_child_is_no_old_worker() {
    // The first child is there before the superdaemon; the second comes to it when its parent has ended.
    let daemon = daemon()
        .after_script("sh -c 'while [ ! -e go ]; do sleep 0.02; done' & echo $! >born-with")
        .with_files()
        .option("--interval=0.1")
        .program(["sh", "-c", "sh -c '(sleep 600 & echo $! >came-to)'; exec sleep 600"])
        .start();
    daemon.wait_status_file(|generations| generations == [1]);
    let pid = |name: &str| daemon.wait_file(name).trim().parse::<u32>().unwrap();
    let (born_with, came_to) = (pid("born-with"), pid("came-to"));
    assert_eq!(process(born_with).map(|(_, [parent, ..])| parent), Some(daemon.pid()));
    std::fs::write(daemon.path("go"), "").unwrap();
    daemon.signal_process(came_to, "KILL");
    for pid in [born_with, came_to] {
        daemon.wait_for("the child to be reaped", || process(pid).is_none().then_some(()));
    }
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [2]);
    let old: Vec<String> = daemon.lines().into_iter().filter(|line| line.starts_with("old worker")).collect();
    assert_eq!(old.len(), 1, "{old:?}");
}
