//! What stands beside the service in `systemctl status`: who serves, who starts, who drains, and what failed last.

use supervisor::{GenerationState, Role};

use crate::printable::printable;

/// So many generations are named one by one.
const MOST: usize = 6;
/// The manager takes datagrams of 4096 bytes.
const LONGEST: usize = 2000;

/// One line about all generations, the one that serves first, and about the failure of the last restart.
pub fn picture(states: &[GenerationState], failure: Option<&str>) -> String {
    let mut states: Vec<&GenerationState> = states.iter().collect();
    states.sort_by_key(|state| (rank(state.role), state.number));
    let mut parts: Vec<String> = states.iter().take(MOST).map(|state| one(state)).collect();
    if let Some(more) = states.len().checked_sub(MOST).filter(|more| *more > 0) {
        parts.push(format!("and {more} more"));
    }
    if parts.is_empty() {
        parts.push("no generation runs".to_owned());
    }
    parts.extend(failure.map(str::to_owned));
    printable(&parts.join("; ")).chars().take(LONGEST).collect()
}

fn one(state: &GenerationState) -> String {
    let pids: Vec<String> = state.workers.iter().map(ToString::to_string).collect();
    let does = match state.role {
        Role::Starting => "starts",
        Role::Soaking => "is ready and will replace the older ones",
        Role::Current => "serves",
        Role::Waiting => "serves until it is replaced",
        Role::Draining => "drains",
        Role::Ending => "has failed and is being ended",
        Role::Stopping => "is being stopped",
    };
    format!("generation {} (pid {}) {does}", state.number, pids.join(", "))
}

fn rank(role: Role) -> u8 {
    match role {
        Role::Current => 0,
        Role::Soaking => 1,
        Role::Starting => 2,
        Role::Ending => 3,
        Role::Waiting => 4,
        Role::Draining => 5,
        Role::Stopping => 6,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use supervisor::{GenerationNumber, Instant, Pid};

    use super::*;

    fn state(number: u32, role: Role) -> GenerationState {
        let spawned_at = Instant::at(Duration::ZERO);
        let workers = vec![Pid(4700 + i32::try_from(number).unwrap())];
        GenerationState { number: GenerationNumber(number), workers, spawned_at, ready_at: None, kill_at: None, role }
    }

    #[test]
    fn the_one_that_serves_comes_first() {
        assert_eq!(picture(&[], None), "no generation runs");
        let states = [state(6, Role::Draining), state(7, Role::Current), state(8, Role::Starting)];
        assert_eq!(
            picture(&states, Some("the last restart failed:\n1")),
            "generation 7 (pid 4707) serves; generation 8 (pid 4708) starts; generation 6 (pid 4706) drains; the last \
             restart failed:\u{fffd}1"
        );
    }

    #[test]
    fn many_are_not_all_named() {
        let states: Vec<_> = (1..=20).map(|number| state(number, Role::Draining)).collect();
        let text = picture(&states, Some(&"x".repeat(10_000)));
        assert!(text.contains("generation 6 (pid 4706) drains; and 14 more; xxx"), "{text}");
        assert_eq!(text.len(), LONGEST);
    }
}
