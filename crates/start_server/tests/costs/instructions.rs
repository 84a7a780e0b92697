//! Instructions that the superdaemon itself executes, not the kernel for it, counted by valgrind: the difference of two
//! runs from start to end, of which one does more.

use crate::limits::{Costs, Margin};
use crate::{SLEEPER, superdaemon, wait_only};

/// How many restarts, or listeners, one run has more than another.
const MORE: u32 = 20;

pub fn measured() -> Costs {
    let (base, restarted, many) = (run(1, 2), run(1, 2 + MORE), run(1 + MORE, 2));
    let each = |more: u64| more.saturating_sub(base) / u64::from(MORE);
    let mut costs = Costs::default();
    costs.add("instructions of a restart", each(restarted), Margin::Twentieth);
    costs.add("instructions of a further listener", each(many), Margin::Twentieth);
    costs
}

/// What a superdaemon executes that has so many listeners, restarts so often and stops.
fn run(listeners: u32, restarts: u32) -> u64 {
    // Children are followed up to their exec at most, and counted in files of their own.
    let valgrind = "set -- valgrind --tool=callgrind --callgrind-out-file=counts.%p --log-file=valgrind.%p \"$@\"";
    let mut daemon = superdaemon(listeners).option("--interval=0").after_script(valgrind).program(SLEEPER).start();
    let counts = format!("counts.{}", daemon.pid());
    wait_only(&daemon, 1);
    for generation in 2..=restarts + 1 {
        daemon.settle();
        daemon.hup();
        wait_only(&daemon, generation);
    }
    daemon.settle();
    assert_eq!(daemon.stop().code(), Some(0), "{:?}", daemon.lines());
    let counts = daemon.wait_file(&counts);
    let total = counts.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
    total.unwrap_or_else(|| panic!("no total in what callgrind has counted"))
}
