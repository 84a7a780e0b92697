//! Processes that nobody waits for become children of PID 1.

use testkit::Daemon;

use crate::{can_contain, ours, start};

/// A flood of processes whose parents have gone leaves no zombie.
#[test]
fn what_is_left_behind_is_reaped() {
    const FLOOD: &str = "i=0; while [ $i -lt 300 ]; do (sleep 0.01 & (true & exec true) & exec true); i=$((i+1)); done; \
                         echo over >over; exec sleep 600";
    if !can_contain("what_is_left_behind_is_reaped") {
        return;
    }
    let mut daemon = start(ours().program(["sh", "-c", FLOOD]));
    daemon.wait_file("over");
    daemon.wait_for("no child but the worker", || (children(&daemon) == 1).then_some(()));
    assert_eq!(daemon.stop().code(), Some(0));
}

/// What a worker has left behind does not hold up the end: it goes with the container.
#[test]
fn daemons_of_workers_go_with_the_container() {
    if !can_contain("daemons_of_workers_go_with_the_container") {
        return;
    }
    for (options, restarts) in [(&["--interval=0.1"][..], 0), (&["--interval=0.1", "--stop-timeout=1"], 2)] {
        let script = "setsid -f sh -c 'trap \"\" TERM; while :; do sleep 1; done'; exec sleep 600";
        let mut daemon = start(ours().options(options).program(["sh", "-c", script]));
        daemon.wait_status_file(|generations| generations == [1]);
        for restart in 0..restarts {
            daemon.hup();
            daemon.wait_status_file(|generations| generations == [restart + 2]);
        }
        assert_eq!(daemon.stop().code(), Some(0));
        daemon.wait_gone();
    }
}

/// How many children PID 1 has, zombies included.
fn children(daemon: &Daemon) -> usize {
    let list = format!("/proc/{0}/task/{0}/children", daemon.pid());
    std::fs::read_to_string(list).unwrap().split_whitespace().count()
}
