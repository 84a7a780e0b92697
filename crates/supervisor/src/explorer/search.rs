//! Looks for stories that break an invariant: breadth first through everything that may happen
//! within bounds, or at random far beyond them.

use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

use super::invariants::Broken;
use super::machine::Machine;
use super::setup::Setup;
use super::story::Story;
use super::world::{Step, World};

/// What a search found.
pub struct Found {
    /// Different worlds.
    pub worlds: usize,
    /// Steps that were tried.
    pub steps: usize,
    /// The longest shortest way to a world.
    pub depth: usize,
    /// The shortest story for each way to break an invariant.
    pub stories: Vec<Story>,
}

/// Tries everything within the bounds. What broke an invariant is not followed any further.
pub fn explore<M: Machine>(setup: &Rc<Setup>, machine: &M) -> Found {
    search(setup, machine, None)
}

/// The shortest story that breaks one invariant in one way, whatever else is broken before.
pub fn shortest<M: Machine>(setup: &Rc<Setup>, machine: &M, wanted: Broken) -> Option<Story> {
    search(setup, machine, Some(wanted)).stories.pop()
}

fn search<M: Machine>(setup: &Rc<Setup>, machine: &M, wanted: Option<Broken>) -> Found {
    let origin = World::new(setup, machine.clone());
    let mut seen = HashSet::from([origin.digest()]);
    let mut trail: Vec<(usize, Step)> = vec![(0, Step::Start)];
    let mut found = Found { worlds: 1, steps: 0, depth: 0, stories: Vec::new() };
    let mut frontier = VecDeque::from([(0, origin)]);
    while let Some((from, world)) = frontier.pop_front() {
        for step in world.steps() {
            found.steps += 1;
            let mut next = world.clone();
            let turn = next.happen(step);
            let is_new = seen.insert(next.digest());
            let nonsense = match turn.event {
                Some(_) if is_new && turn.broken.is_none() => next.judge_nonsense().err(),
                _ => None,
            };
            let broken = turn.broken.or(nonsense.as_ref().map(|(_, broken)| *broken));
            if let Some(broken) = broken
                && wanted.is_none_or(|wanted| wanted == broken)
            {
                if found.stories.iter().all(|story| story.broken != broken) {
                    let mut steps = way_to(from, &trail);
                    steps.push(step);
                    let nonsense = nonsense.map(|(event, _)| event);
                    found.stories.push(Story { steps, broken, nonsense });
                }
                if wanted.is_some() {
                    return found;
                }
            } else if is_new && !next.beyond {
                found.worlds += 1;
                trail.push((from, step));
                frontier.push_back((trail.len() - 1, next));
            }
        }
    }
    found.depth = way_to(trail.len() - 1, &trail).len();
    found
}

fn way_to(mut at: usize, trail: &[(usize, Step)]) -> Vec<Step> {
    let mut way = Vec::new();
    while at != 0 {
        let (from, step) = trail[at];
        way.push(step);
        at = from;
    }
    way.reverse();
    way
}

/// Random ways of `length` steps in all; each ends with a stop, and everybody goes. The story that
/// breaks an invariant, if there is one, without the steps that it does not need.
pub fn walk<M: Machine>(setup: &Rc<Setup>, machine: &M, seed: u64, length: usize) -> Result<(), Story> {
    let mut random = Random(seed);
    let mut walked = 0;
    while walked < length {
        walked += stroll(setup, machine, &mut random, length - walked)?;
    }
    Ok(())
}

fn stroll<M: Machine>(setup: &Rc<Setup>, machine: &M, random: &mut Random, length: usize) -> Result<usize, Story> {
    let mut world = World::new(setup, machine.clone());
    let mut taken = Vec::new();
    while !world.over {
        let step = random.choose(&world, taken.len() >= length);
        taken.push(step);
        let turn = world.happen(step);
        let nonsense = match turn.event {
            Some(_) if taken.len() % 8 == 0 => world.judge_nonsense().err(),
            _ => None,
        };
        let broken = turn.broken.or(nonsense.as_ref().map(|(_, broken)| *broken));
        if let Some(broken) = broken {
            let nonsense = nonsense.map(|(event, _)| event);
            return Err(shrink(setup, machine, Story { steps: taken, broken, nonsense }));
        }
        assert!(taken.len() < length + 1000, "the machine does not come to its end");
    }
    Ok(taken.len())
}

/// Leaves out steps, many at once and then fewer, as long as what remains breaks the same.
fn shrink<M: Machine>(setup: &Rc<Setup>, machine: &M, mut story: Story) -> Story {
    let mut chunk = story.steps.len() / 2;
    while chunk > 0 {
        let mut smaller = false;
        let mut at = 0;
        while at < story.steps.len() {
            let end = (at + chunk).min(story.steps.len());
            let fewer = [&story.steps[..at], &story.steps[end..]].concat();
            match retell(setup, machine, &fewer, &story) {
                Some(shorter) => {
                    story = shorter;
                    smaller = true;
                }
                None => at += chunk,
            }
        }
        if !smaller || chunk > 1 {
            chunk /= 2;
        }
    }
    story
}

/// Takes those of the steps that are possible, up to one that breaks what `wanted` breaks.
fn retell<M: Machine>(setup: &Rc<Setup>, machine: &M, steps: &[Step], wanted: &Story) -> Option<Story> {
    let mut world = World::new(setup, machine.clone());
    let mut taken = Vec::new();
    for &step in steps {
        if !world.steps().contains(&step) {
            continue;
        }
        taken.push(step);
        let turn = world.happen(step);
        if wanted.nonsense.is_some()
            && turn.event.is_some()
            && let Err((event, broken)) = world.judge_nonsense()
            && broken == wanted.broken
        {
            return Some(Story { steps: taken, broken, nonsense: Some(event) });
        }
        match turn.broken {
            Some(broken) if broken == wanted.broken => {
                return Some(Story { steps: taken, broken, nonsense: None });
            }
            Some(_) => return None,
            None => {}
        }
    }
    None
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) as u32) % limit
    }

    fn choose<M: Machine>(&mut self, world: &World<M>, ending: bool) -> Step {
        let steps = world.steps();
        let weight = |step: &Step| if ending { ending_weight(*step) } else { weight(*step) };
        let all: u32 = steps.iter().map(weight).sum();
        let mut at = self.below(all);
        for step in &steps {
            match at.checked_sub(weight(step)) {
                Some(rest) => at = rest,
                None => return *step,
            }
        }
        unreachable!("the weights add up to {all}")
    }
}

/// How likely a step is: most of the time something goes on.
fn weight(step: Step) -> u32 {
    match step {
        Step::Start => 4000,
        Step::Spawned | Step::Executed { .. } => 12000,
        Step::Due => 8000,
        Step::Exits { status: 15, .. } | Step::Ready { .. } => 3000,
        Step::Exits { .. } | Step::Pause | Step::Hup | Step::Restart(_) => 1000,
        Step::ExecFailed { .. } | Step::SpawnFailed => 1000,
        Step::ReadinessUnknown { .. } | Step::ExtendReadiness { .. } => 1000,
        Step::GiveUp { .. } | Step::HangUp { .. } | Step::Delay | Step::Settings { .. } => 400,
        Step::Terminate | Step::Interrupt | Step::ClientStop | Step::Kill => 20,
    }
}

fn ending_weight(step: Step) -> u32 {
    match step {
        Step::Start | Step::Spawned | Step::Kill | Step::Exits { .. } => 1,
        _ => 0,
    }
}
