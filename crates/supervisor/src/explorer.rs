//! Tries everything that can happen to the supervisor, within bounds, and checks after each step
//! that the promises hold; then walks at random far beyond the bounds. What breaks a promise is
//! told as the shortest story that does.
//!
//! | module | holds |
//! |---|---|
//! | `setup` | what is explored: policies and bounds |
//! | `world` | a machine and its environment, and everything that may happen next |
//! | `invariants` | what must hold |
//! | `search` | breadth first, and at random |
//! | `story` | how a finding is told |
//! | `machine` | what can be explored |
//! | `broken`, `original` | machines with faults, which must be found |
//! | `rewritten` | a machine that is written down and read again after each step |

mod broken;
mod invariants;
mod machine;
mod original;
#[cfg(feature = "serde")]
mod rewritten;
mod search;
mod setup;
mod story;
mod world;

use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Instant as Clock;

use crate::{Policy, Settings, Supervisor};
use setup::{Bounds, Setup, auto_restart, kill_old_delay, proved, seconds};

/// Explores a setup; fails with the shortest story for each way in which a promise is broken.
fn explored(setup: Setup) -> Result<(), String> {
    let setup = Rc::new(setup);
    let machine = Supervisor::new(setup.policy.clone(), setup.settings[0].clone());
    let began = Clock::now();
    let found = search::explore(&setup, &machine);
    println!(
        "{:>7} worlds {:>8} steps, at most {:>2} deep, {:>4.1} s: {}",
        found.worlds,
        found.steps,
        found.depth,
        began.elapsed().as_secs_f64(),
        setup.name,
    );
    let stories: Vec<String> = found.stories.iter().map(|story| story.tell(&setup, &machine)).collect();
    if stories.is_empty() { Ok(()) } else { Err(stories.join("\n")) }
}

fn times(n: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(n)
}

/// Everything that is explored, and walked through.
fn setups() -> Vec<Setup> {
    let alive = Policy::default();
    let notified = Policy { readiness: proved(), ..alive.clone() };
    let limited = |attempts| Policy { max_attempts: times(attempts), ..alive.clone() };
    let small = Bounds::SMALL;
    let calm = Bounds { restarts: 0, give_ups: 0, kills: 0, ..small };
    vec![
        Setup::new("alive", alive.clone(), Bounds { hups: 2, exits: 3, kills: 0, ..small }),
        Setup::new("requests", alive.clone(), Bounds { restarts: 3, give_ups: 2, exits: 1, ..calm }),
        Setup::new(
            "requesters that go",
            alive.clone(),
            Bounds { restarts: 2, give_ups: 1, hang_ups: 2, exits: 1, ..calm },
        ),
        Setup::new("late", alive.clone(), Bounds { pauses: 1, delays: 2, ..calm }),
        Setup::new(
            "slow to spawn and to execute",
            alive.clone(),
            Bounds { spawn_failures: 1, exec_failures: 1, slow_spawns: 1, ..small },
        )
        .slow_exec(),
        Setup::new(
            "interval 0, back-off",
            Policy { interval: seconds(0), backoff_max: Some(seconds(4)), ..alive.clone() },
            Bounds { spawns: 5, hups: 2, exits: 4, pauses: 1, ..calm },
        ),
        Setup::new("proved", notified.clone(), Bounds { spawns: 3, unknowns: 1, extensions: 1, delays: 1, ..calm }),
        Setup::new(
            "proved, requests",
            notified.clone(),
            Bounds { spawns: 3, hups: 1, restarts: 2, give_ups: 1, hang_ups: 1, exits: 1, kills: 0, ..small },
        ),
        Setup::new(
            "proved, slow to execute",
            Policy { drain_timeout: Some(seconds(60)), ..notified.clone() },
            Bounds { exec_failures: 1, unknowns: 1, slow_spawns: 1, spawns: 3, exits: 1, ..calm },
        )
        .slow_exec(),
        Setup::new("kill-old delay", alive.clone(), Bounds { exits: 3, settings: 1, kills: 0, ..small })
            .settings(&[kill_old_delay(), Settings::default()]),
        Setup::new("proved, kill-old delay", notified.clone(), Bounds { spawns: 3, exits: 3, delays: 1, ..small })
            .settings(&[kill_old_delay()]),
        Setup::new(
            "drain timeout, one old generation",
            Policy { drain_timeout: Some(seconds(3)), max_old_generations: times(1), ..alive.clone() },
            Bounds { spawns: 5, hups: 3, exits: 1, ..calm },
        ),
        Setup::new(
            "the end, with a limit",
            Policy { drain_timeout: Some(seconds(3)), stop_timeout: Some(seconds(4)), ..alive.clone() },
            Bounds { spawns: 2, exits: 0, stops: 3, pauses: 1, ..small },
        ),
        Setup::new(
            "the end, after a delay",
            Policy { term_delay: Some(seconds(2)), stop_timeout: Some(seconds(4)), ..alive.clone() },
            Bounds { spawns: 3, exits: 1, stops: 3, pauses: 1, ..small },
        ),
        Setup::new(
            "the end, after a delay, proved, slow to execute",
            Policy { term_delay: Some(seconds(2)), ..notified.clone() },
            Bounds { spawns: 3, exits: 1, stops: 2, slow_spawns: 1, exec_failures: 1, delays: 1, ..calm },
        )
        .slow_exec(),
        Setup::new("one attempt", limited(1), Bounds { hups: 2, exits: 3, spawn_failures: 1, kills: 0, ..small }),
        Setup::new(
            "two attempts, kill-old delay",
            limited(2),
            Bounds { spawns: 5, restarts: 2, exits: 3, kills: 0, ..small },
        )
        .settings(&[kill_old_delay()]),
        Setup::new("auto-restart", alive.clone(), Bounds { settings: 2, ..calm })
            .settings(&[auto_restart(), Settings::default()]),
        Setup::new("orphans", alive.clone(), Bounds { spawns: 3, exits: 3, ..calm }).orphans(&[4, 7, 7]),
        Setup::new(
            "orphans, one attempt, kill-old delay, slow to execute",
            limited(1),
            Bounds { spawns: 3, exits: 3, exec_failures: 1, ..small },
        )
        .orphans(&[7])
        .settings(&[kill_old_delay()])
        .slow_exec(),
    ]
}

#[test]
fn the_promises_hold_whatever_happens() {
    let failures: Vec<String> = setups().into_iter().map(explored).filter_map(Result::err).collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Walks through all setups with each of the seeds, without bounds; tells how it went wrong.
fn walked(seeds: std::ops::RangeInclusive<u64>, length: usize) -> Result<(), String> {
    for mut setup in setups() {
        setup.bounds = Bounds::NONE;
        setup.reuses_pids = true;
        let setup = Rc::new(setup);
        let machine = Supervisor::new(setup.policy.clone(), setup.settings[0].clone());
        for seed in seeds.clone() {
            search::walk(&setup, &machine, seed, length)
                .map_err(|story| format!("seed {seed}, {}", story.tell(&setup, &machine)))?;
        }
    }
    Ok(())
}

#[test]
fn the_promises_hold_on_long_walks() {
    walked(1..=10, 3000).unwrap_or_else(|story| panic!("\n{story}"));
}

/// A program that takes the place of this one at any moment goes on just as this one would have.
#[test]
#[cfg(feature = "serde")]
fn the_promises_hold_when_the_state_is_handed_over_at_every_step() {
    for mut setup in setups() {
        setup.bounds = Bounds::NONE;
        let setup = Rc::new(setup);
        let machine = rewritten::Rewritten::new(&setup.policy, &setup.settings[0]);
        for seed in 1..=3 {
            search::walk(&setup, &machine, seed, 500)
                .unwrap_or_else(|story| panic!("seed {seed}, {}", story.tell(&setup, &machine)));
        }
    }
}

#[test]
#[ignore = "takes minutes even with --release: run it when the machine has changed much"]
fn the_promises_hold_farther_out() {
    walked(1000..=2000, 3000).unwrap_or_else(|story| panic!("\n{story}"));
    for mut setup in setups() {
        let bounds = &mut setup.bounds;
        bounds.spawns += 1;
        bounds.exits += 1;
        bounds.hups += 1;
        bounds.pauses += 1;
        explored(setup).unwrap_or_else(|stories| panic!("\n{stories}"));
    }
}
