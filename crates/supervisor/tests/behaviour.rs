//! What a superdaemon does, one behaviour a test, in virtual time and through the public interface
//! alone. Tests that begin with `p` and a number rule out the fault of the original that has this
//! number.

use std::num::NonZeroU32;
use std::time::Duration;

use supervisor::event::Until;
use supervisor::report::{ReadyBy, SpawnStage};
use supervisor::{
    Action, AutoRestart, Event, ExitStatus, GenerationNumber, Instant, Order, Outcome, Pid, Policy, Readiness,
    RequestId, Requester, Settings, StopRequester, Supervisor,
};

/// A superdaemon whose processes and clock are ours. A generation's worker has the PID 100 + its
/// number; processes are spawned at once and run the program at once, unless told otherwise.
struct Scene {
    supervisor: Supervisor,
    begin: Instant,
    now: Instant,
    spawns: bool,
    executes: bool,
    log: Vec<(Instant, String)>,
}

impl Scene {
    fn before_start(policy: Policy, settings: Settings) -> Self {
        let now = Instant::at(seconds(1000.0));
        let supervisor = Supervisor::new(policy, settings);
        Self { supervisor, begin: now, now, spawns: true, executes: true, log: Vec::new() }
    }

    /// The moment of the first spawn.
    fn started(policy: Policy, settings: Settings) -> Self {
        let mut scene = Self::before_start(policy, settings);
        scene.happens(Event::Start);
        scene.log.retain(|(_, line)| line != "spawn 1");
        scene
    }

    /// Generation 1 has served for a while; the clock of the log starts here.
    fn serving(policy: Policy, settings: Settings) -> Self {
        let mut scene = Self::started(policy.clone(), settings);
        if let Readiness::Proved { .. } = policy.readiness {
            scene.is_ready(1);
        }
        scene.passes(policy.interval.as_secs_f64() + 9.0);
        assert_eq!(scene.supervisor.current(), Some(GenerationNumber(1)));
        scene.log.clear();
        scene.begin = scene.now;
        scene
    }

    /// Lets something happen, and carries the actions out.
    fn happens(&mut self, event: Event) {
        let mut follows = Vec::new();
        for action in self.supervisor.handle(self.now, event) {
            let line = match action {
                Action::Spawn(generation) => {
                    if self.spawns {
                        let pid = pid(generation.0);
                        follows.push(Event::Spawned { generation, pid });
                        if self.executes {
                            follows.push(Event::Executed(generation));
                        }
                    }
                    format!("spawn {generation}")
                }
                Action::Signal { pid, order } => {
                    let order = match order {
                        Order::Retire => "retire",
                        Order::Stop => "stop",
                        Order::Terminate => "terminate",
                        Order::Kill => "kill",
                    };
                    format!("{order} {}", pid.0 - 100)
                }
                Action::Publish(workers) => {
                    let workers: Vec<String> = workers.iter().map(|worker| worker.generation.to_string()).collect();
                    format!("status [{}]", workers.join(" "))
                }
                Action::Answer(request, outcome) => format!("{}: {}", request.0, answer(&outcome)),
                Action::Exit { as_asked: true } => "exit".into(),
                Action::Exit { as_asked: false } => "exit, cannot start".into(),
                Action::Report(_) => continue,
            };
            self.log.push((self.now, line));
        }
        follows.into_iter().for_each(|event| self.happens(event));
    }

    /// Time passes, and what falls due is done.
    fn passes(&mut self, span: f64) {
        let end = self.now.plus(seconds(span));
        while let Some(at) = self.supervisor.next_deadline().filter(|at| *at <= end) {
            assert!(at > self.now, "what was due is due again");
            self.now = at;
            self.happens(Event::Tick);
        }
        self.now = end;
    }

    /// What was done since the last time, one line for each moment.
    #[track_caller]
    fn expect(&mut self, expected: &[&str]) {
        let mut lines: Vec<(String, String)> = Vec::new();
        for (at, what) in self.log.drain(..) {
            let at = format!("{:.1}", at.since(self.begin).as_secs_f64());
            match lines.last_mut() {
                Some((last, line)) if *last == at => *line = format!("{line}, {what}"),
                _ => lines.push((at, what)),
            }
        }
        let lines: Vec<String> = lines.into_iter().map(|(at, line)| format!("{at}: {line}")).collect();
        assert_eq!(lines, expected);
    }

    fn hup(&mut self) {
        self.happens(Event::Restart(Requester::Signal));
    }

    fn asks(&mut self, request: u64, until: Until) {
        let request = RequestId(request);
        self.happens(Event::Restart(Requester::Client { request, until }));
    }

    fn gives_up(&mut self, request: u64) {
        self.happens(Event::GiveUp(RequestId(request)));
    }

    fn hangs_up(&mut self, request: u64) {
        self.happens(Event::HungUp(RequestId(request)));
    }

    fn stop(&mut self, by: StopRequester) {
        self.happens(Event::Stop(by));
    }

    fn exits(&mut self, generation: u32) {
        self.happens(Event::Exited { pid: pid(generation), status: ExitStatus(256) });
    }

    fn is_ready(&mut self, generation: u32) {
        let generation = GenerationNumber(generation);
        self.happens(Event::Ready { generation, by: ReadyBy::Notify });
    }

    fn cannot_execute(&mut self, generation: u32) {
        let number = GenerationNumber(generation);
        self.happens(Event::ExecFailed { generation: number, stage: SpawnStage::Exec, errno: 2 });
        self.exits(generation);
    }
}

fn answer(outcome: &Outcome) -> String {
    let number = |number: &Option<GenerationNumber>| match number {
        Some(number) => number.to_string(),
        None => "none".into(),
    };
    match outcome {
        Outcome::Restarted { generation } => format!("restarted {generation}"),
        Outcome::RestartFailed { failure, attempts, kept } => {
            let failed = number(&failure.map(|failure| failure.generation));
            format!("failed {failed} after {attempts}, kept {}", number(kept))
        }
        Outcome::TimedOut { committed, serving, abandoned } => {
            let abandoned = if *abandoned { "abandoned" } else { "timed out" };
            format!("{abandoned}, committed {}, serving {}", number(committed), number(serving))
        }
        Outcome::Stopping => "stopping".into(),
        Outcome::Stopped => "stopped".into(),
    }
}

fn pid(generation: u32) -> Pid {
    Pid(100 + i32::try_from(generation).unwrap_or(i32::MAX))
}

fn seconds(span: f64) -> Duration {
    Duration::from_secs_f64(span)
}

fn alive() -> Policy {
    Policy::default()
}

/// Ready when proved, within 5 s.
fn proved() -> Policy {
    Policy { readiness: Readiness::Proved { timeout: seconds(5.0) }, ..alive() }
}

fn attempts(max: u32) -> Policy {
    Policy { max_attempts: NonZeroU32::new(max), ..alive() }
}

fn plain() -> Settings {
    Settings::default()
}

fn delay(span: f64) -> Settings {
    Settings { kill_old_delay: seconds(span), ..plain() }
}

fn auto_restart(span: f64) -> Settings {
    Settings { auto_restart: Some(AutoRestart { interval: seconds(span) }), ..plain() }
}

use StopRequester::{Client, Interrupt, Terminate};
use Until::{Commit, Drained};

mod start {
    use super::*;

    #[test]
    fn the_first_generation_is_current_once_it_has_lived_for_the_interval() {
        let mut scene = Scene::started(alive(), plain());
        scene.passes(0.9);
        scene.expect(&[]);
        scene.passes(10.0);
        scene.expect(&["1.0: status [1]"]);
        assert_eq!(scene.supervisor.next_deadline(), None);
    }

    #[test]
    fn failing_starts_follow_an_interval_apart_with_new_numbers() {
        let mut scene = Scene::started(alive(), plain());
        scene.passes(0.2);
        scene.exits(1);
        scene.passes(1.0);
        scene.exits(2);
        scene.passes(10.0);
        scene.expect(&["1.0: spawn 2", "2.0: spawn 3", "3.0: status [3]"]);
    }

    #[test]
    fn a_first_program_that_cannot_be_executed_ends_the_superdaemon() {
        let mut scene = Scene::started(alive(), plain());
        scene.cannot_execute(1);
        scene.expect(&["0.0: exit, cannot start"]);
    }

    #[test]
    fn a_first_process_that_cannot_be_made_ends_the_superdaemon() {
        let mut scene = Scene::before_start(alive(), plain());
        scene.spawns = false;
        scene.happens(Event::Start);
        scene.happens(Event::SpawnFailed { generation: GenerationNumber(1), errno: 11 });
        scene.expect(&["0.0: spawn 1, exit, cannot start"]);
    }

    #[test]
    fn being_alive_means_nothing_before_the_program_runs() {
        let mut scene = Scene::before_start(alive(), plain());
        scene.executes = false;
        scene.happens(Event::Start);
        scene.passes(5.0);
        scene.expect(&["0.0: spawn 1"]);
        scene.happens(Event::Executed(GenerationNumber(1)));
        scene.expect(&["5.0: status [1]"]);
    }

    #[test]
    fn after_the_last_attempt_the_first_start_is_given_up() {
        let mut scene = Scene::started(attempts(2), plain());
        scene.exits(1);
        scene.passes(1.0);
        scene.asks(1, Commit);
        scene.exits(2);
        scene.expect(&["1.0: spawn 2, 1: failed 2 after 2, kept none, exit, cannot start"]);
    }

    #[test]
    fn a_request_during_the_first_start_is_carried_out_after_it() {
        let mut scene = Scene::started(alive(), plain());
        scene.asks(1, Commit);
        scene.passes(2.0);
        scene.expect(&["1.0: status [1], spawn 2", "2.0: retire 1, status [1 2], 1: restarted 2"]);
    }
}

mod restart {
    use super::*;

    #[test]
    fn a_hup_replaces_the_program() {
        let mut scene = Scene::serving(alive(), plain());
        scene.hup();
        scene.passes(1.5);
        scene.exits(1);
        scene.expect(&["0.0: spawn 2", "1.0: retire 1, status [1 2]", "1.5: status [2]"]);
        assert_eq!(scene.supervisor.current(), Some(GenerationNumber(2)));
    }

    #[test]
    fn a_failing_restart_is_retried_and_the_old_one_serves_on() {
        let mut scene = Scene::serving(alive(), plain());
        scene.hup();
        for generation in 2..5 {
            scene.passes(0.5);
            scene.exits(generation);
            scene.passes(0.5);
        }
        scene.passes(1.0);
        scene.expect(&["0.0: spawn 2", "1.0: spawn 3", "2.0: spawn 4", "3.0: spawn 5", "4.0: retire 1, status [1 5]"]);
    }

    #[test]
    fn p2_a_hup_in_the_interval_does_not_pass_a_dying_generation() {
        let mut scene = Scene::serving(Policy { interval: seconds(3.0), ..alive() }, plain());
        scene.hup();
        scene.passes(0.7);
        scene.hup();
        scene.passes(0.8);
        scene.exits(2);
        scene.passes(1.0);
        scene.expect(&["0.0: spawn 2"]);
        scene.passes(10.0);
        scene.expect(&["3.0: spawn 3", "6.0: retire 1, status [1 3]"]);
    }

    #[test]
    fn many_hups_during_a_start_make_one_more_restart() {
        let mut scene = Scene::serving(alive(), plain());
        for _ in 0..5 {
            scene.hup();
            scene.passes(0.1);
        }
        scene.passes(10.0);
        scene.expect(&[
            "0.0: spawn 2",
            "1.0: retire 1, status [1 2], spawn 3",
            "2.0: retire 1, retire 2, status [1 2 3]",
        ]);
    }

    #[test]
    fn a_hup_after_a_failure_does_not_wait_for_the_pause() {
        let mut scene = Scene::serving(Policy { interval: seconds(60.0), ..alive() }, plain());
        scene.hup();
        scene.passes(1.0);
        scene.exits(2);
        scene.passes(1.0);
        scene.hup();
        scene.expect(&["0.0: spawn 2", "2.0: spawn 3"]);
    }

    #[test]
    fn those_that_do_not_go_are_told_again() {
        let mut scene = Scene::serving(alive(), plain());
        scene.hup();
        scene.passes(1.0);
        scene.hup();
        scene.passes(1.0);
        scene.expect(&[
            "0.0: spawn 2",
            "1.0: retire 1, status [1 2], spawn 3",
            "2.0: retire 1, retire 2, status [1 2 3]",
        ]);
    }

    #[test]
    fn both_serve_during_the_kill_old_delay() {
        let mut scene = Scene::serving(alive(), delay(5.0));
        scene.asks(1, Commit);
        scene.passes(10.0);
        scene.expect(&["0.0: spawn 2", "1.0: status [1 2]", "6.0: retire 1, 1: restarted 2"]);
    }

    #[test]
    fn p22_a_death_in_the_kill_old_delay_keeps_the_old_one() {
        let mut scene = Scene::serving(alive(), delay(5.0));
        scene.hup();
        scene.passes(3.0);
        scene.exits(2);
        scene.expect(&["0.0: spawn 2", "1.0: status [1 2]", "3.0: status [1], spawn 3"]);
        scene.passes(10.0);
        scene.expect(&["4.0: status [1 3]", "9.0: retire 1"]);
    }

    #[test]
    fn p22_a_hup_in_the_kill_old_delay_does_not_shorten_it() {
        let mut scene = Scene::serving(alive(), delay(5.0));
        scene.hup();
        scene.passes(2.0);
        scene.hup();
        scene.passes(5.0);
        scene.expect(&["0.0: spawn 2", "1.0: status [1 2]", "6.0: retire 1, spawn 3", "7.0: status [1 2 3]"]);
    }

    #[test]
    fn p22_the_old_one_may_die_in_the_kill_old_delay() {
        let mut scene = Scene::serving(alive(), delay(5.0));
        scene.asks(1, Drained);
        scene.passes(3.0);
        scene.exits(1);
        scene.passes(5.0);
        scene.expect(&["0.0: spawn 2", "1.0: status [1 2]", "3.0: status [2]", "6.0: 1: restarted 2"]);
    }

    #[test]
    fn a_changed_delay_holds_for_the_restart_that_follows() {
        let mut scene = Scene::serving(alive(), plain());
        scene.happens(Event::Settings(delay(2.0)));
        scene.hup();
        scene.passes(5.0);
        scene.expect(&["0.0: spawn 2", "1.0: status [1 2]", "3.0: retire 1"]);
    }

    #[test]
    fn p23_an_old_one_that_dies_during_a_failing_restart_is_noticed_at_once() {
        let mut scene = Scene::serving(alive(), plain());
        scene.hup();
        scene.passes(0.2);
        scene.exits(1);
        scene.passes(2.0);
        scene.expect(&["0.0: spawn 2", "0.2: status []", "1.0: status [2]"]);
    }

    #[test]
    fn when_nobody_serves_the_next_try_does_not_wait() {
        let mut scene = Scene::serving(alive(), plain());
        scene.hup();
        scene.exits(2);
        scene.passes(0.2);
        scene.exits(1);
        scene.expect(&["0.0: spawn 2", "0.2: status [], spawn 3"]);
    }

    #[test]
    fn a_restart_that_cannot_be_executed_is_retried() {
        let mut scene = Scene::serving(alive(), plain());
        scene.executes = false;
        scene.hup();
        scene.cannot_execute(2);
        scene.passes(1.0);
        scene.expect(&["0.0: spawn 2", "1.0: spawn 3"]);
    }

    #[test]
    fn a_restart_whose_process_cannot_be_made_is_retried() {
        let mut scene = Scene::serving(alive(), plain());
        scene.spawns = false;
        scene.hup();
        scene.happens(Event::SpawnFailed { generation: GenerationNumber(2), errno: 11 });
        scene.passes(1.0);
        scene.expect(&["0.0: spawn 2", "1.0: spawn 3"]);
    }

    #[test]
    fn a_child_that_nobody_knows_is_nobody() {
        let mut scene = Scene::serving(alive(), plain());
        scene.exits(77);
        scene.expect(&[]);
    }
}

mod death {
    use super::*;

    #[test]
    fn the_current_generation_is_replaced_at_once() {
        let mut scene = Scene::serving(alive(), plain());
        scene.exits(1);
        scene.expect(&["0.0: status [], spawn 2"]);
        scene.passes(1.0);
        scene.expect(&["1.0: status [2]"]);
    }

    #[test]
    fn p26_a_crash_loop_slows_down_even_without_an_interval() {
        let mut scene = Scene::serving(Policy { interval: Duration::ZERO, ..alive() }, plain());
        let mut spawned = Vec::new();
        for generation in 1..8 {
            scene.exits(generation);
            while !scene.log.iter().any(|(_, line)| line.starts_with("spawn")) {
                let at = scene.supervisor.next_deadline().expect("the next try is armed");
                scene.passes(at.since(scene.now).as_secs_f64());
            }
            spawned.push(scene.now.since(scene.begin).as_millis());
            scene.log.clear();
        }
        assert_eq!(spawned, [0, 100, 300, 700, 1500, 2500, 3500]);
    }

    #[test]
    fn a_restart_after_a_death_serves_again_and_replaces_the_new_one() {
        let mut scene = Scene::serving(alive(), plain());
        scene.exits(1);
        scene.asks(1, Commit);
        scene.passes(3.0);
        scene.expect(&[
            "0.0: status [], spawn 2",
            "1.0: status [2], spawn 3",
            "2.0: retire 2, status [2 3], 1: restarted 3",
        ]);
    }
}

mod end {
    use super::*;

    #[test]
    fn a_stop_waits_for_all_without_limit() {
        let mut scene = Scene::serving(alive(), plain());
        scene.hup();
        scene.passes(1.0);
        scene.stop(Terminate);
        assert_eq!(scene.supervisor.next_deadline(), None);
        scene.passes(1000.0);
        scene.exits(2);
        scene.exits(1);
        scene.expect(&[
            "0.0: spawn 2",
            "1.0: retire 1, status [1 2], stop 1, stop 2",
            "1001.0: status [1], status [], exit",
        ]);
        assert!(scene.supervisor.is_over());
    }

    #[test]
    fn an_interrupt_always_terminates() {
        let mut scene = Scene::serving(alive(), plain());
        scene.stop(Interrupt);
        scene.expect(&["0.0: terminate 1"]);
    }

    #[test]
    fn a_stop_in_the_interval_of_the_first_worker_is_immediate() {
        let mut scene = Scene::started(alive(), plain());
        scene.passes(0.3);
        scene.stop(Terminate);
        scene.exits(1);
        scene.expect(&["0.3: stop 1, status [], exit"]);
    }

    #[test]
    fn p5_a_stop_while_failing_spawns_nothing_more() {
        let mut scene = Scene::started(alive(), plain());
        scene.exits(1);
        scene.passes(0.5);
        scene.stop(Terminate);
        scene.expect(&["0.5: exit"]);
    }

    #[test]
    fn p22_a_stop_in_the_kill_old_delay_is_immediate() {
        let mut scene = Scene::serving(alive(), delay(5.0));
        scene.asks(1, Commit);
        scene.passes(2.0);
        scene.stop(Terminate);
        scene.expect(&["0.0: spawn 2", "1.0: status [1 2]", "2.0: 1: stopping, stop 1, stop 2"]);
    }

    #[test]
    fn a_process_that_was_being_made_is_told_as_soon_as_it_is_there() {
        let mut scene = Scene::serving(alive(), plain());
        scene.spawns = false;
        scene.hup();
        scene.stop(Interrupt);
        scene.exits(1);
        scene.happens(Event::Spawned { generation: GenerationNumber(2), pid: pid(2) });
        scene.exits(2);
        scene.expect(&["0.0: spawn 2, terminate 1, status [], terminate 2, status [], exit"]);
    }

    #[test]
    fn the_status_of_the_end_does_not_hold_what_was_never_ready() {
        let mut scene = Scene::serving(alive(), plain());
        scene.hup();
        scene.stop(Terminate);
        scene.exits(1);
        scene.exits(2);
        scene.expect(&["0.0: spawn 2, stop 1, stop 2, status [], status [], exit"]);
    }

    #[test]
    fn p6_a_second_stop_hastens_and_a_third_kills() {
        let mut scene = Scene::serving(alive(), plain());
        scene.stop(Terminate);
        scene.passes(0.5);
        scene.stop(Interrupt);
        scene.expect(&["0.0: stop 1"]);
        scene.passes(0.5);
        scene.stop(Terminate);
        scene.passes(2.0);
        scene.stop(Terminate);
        scene.expect(&["1.0: terminate 1", "3.0: kill 1"]);
    }

    #[test]
    fn p6_a_hastened_worker_is_killed_after_five_seconds() {
        let mut scene = Scene::serving(alive(), plain());
        scene.stop(Terminate);
        scene.passes(2.0);
        scene.stop(Terminate);
        scene.passes(10.0);
        scene.expect(&["0.0: stop 1", "2.0: terminate 1", "7.0: kill 1"]);
    }

    #[test]
    fn p20_a_quit_kills_everything_and_ends_in_order() {
        let mut scene = Scene::serving(alive(), plain());
        scene.hup();
        scene.passes(1.0);
        scene.happens(Event::Kill);
        scene.exits(1);
        scene.exits(2);
        scene.expect(&["0.0: spawn 2", "1.0: retire 1, status [1 2], kill 1, kill 2, status [2], status [], exit"]);
    }

    #[test]
    fn p6_the_stop_timeout_kills() {
        let policy = Policy { stop_timeout: Some(seconds(30.0)), ..alive() };
        let mut scene = Scene::serving(policy, plain());
        scene.stop(Client(RequestId(1)));
        scene.passes(100.0);
        scene.exits(1);
        scene.expect(&["0.0: stop 1", "30.0: kill 1", "100.0: status [], 1: stopped, exit"]);
    }

    /// Clients that have not heard of the end yet are served for a while. What does not serve is told at once.
    #[test]
    fn after_a_term_those_that_serve_go_on_for_the_delay() {
        let policy = Policy {
            term_delay: Some(seconds(5.0)),
            stop_timeout: Some(seconds(30.0)),
            interval: seconds(20.0),
            ..alive()
        };
        let mut scene = Scene::serving(policy, plain());
        scene.hup();
        scene.passes(1.0);
        scene.stop(Terminate);
        scene.exits(2);
        scene.hup();
        scene.passes(5.0);
        scene.passes(100.0);
        scene.exits(1);
        scene.expect(&[
            "0.0: spawn 2",
            "1.0: stop 2, status [1]",
            "6.0: stop 1",
            "36.0: kill 1",
            "106.0: status [], exit",
        ]);
    }

    /// Who asks again, or in another way, does not want to wait; and nobody waits for nothing.
    #[test]
    fn the_delay_is_cut_short_by_another_wish() {
        let policy = Policy { term_delay: Some(seconds(5.0)), ..alive() };
        for (another, order) in [(Terminate, "stop"), (Interrupt, "terminate"), (Client(RequestId(1)), "stop")] {
            let mut scene = Scene::serving(policy.clone(), plain());
            scene.stop(Terminate);
            scene.passes(2.0);
            scene.stop(another);
            scene.passes(60.0);
            scene.expect(&[&format!("2.0: {order} 1")]);
        }
        for at_once in [Interrupt, Client(RequestId(1))] {
            let mut scene = Scene::serving(policy.clone(), plain());
            scene.stop(at_once);
            scene.happens(Event::Kill);
            scene.expect(&[if at_once == Interrupt { "0.0: terminate 1, kill 1" } else { "0.0: stop 1, kill 1" }]);
        }
        let mut scene = Scene::serving(policy.clone(), plain());
        scene.stop(Terminate);
        scene.happens(Event::Kill);
        scene.exits(1);
        scene.expect(&["0.0: kill 1, status [], exit"]);
        let mut scene = Scene::started(policy, plain());
        scene.stop(Terminate);
        scene.exits(1);
        scene.expect(&["0.0: stop 1, status [], exit"]);
    }

    #[test]
    fn everybody_who_asked_for_the_end_hears_of_it() {
        let mut scene = Scene::serving(alive(), plain());
        scene.stop(Client(RequestId(1)));
        scene.stop(Client(RequestId(2)));
        scene.asks(3, Commit);
        scene.gives_up(2);
        scene.exits(1);
        scene.asks(4, Drained);
        scene.stop(Client(RequestId(5)));
        scene.expect(&["0.0: stop 1, 3: stopping, \
             2: timed out, committed none, serving none, \
             status [], 1: stopped, exit, 4: stopping, 5: stopped"]);
    }
}

mod drain {
    use super::*;

    #[test]
    fn p6_the_drain_timeout_kills() {
        let policy = Policy { drain_timeout: Some(seconds(10.0)), ..alive() };
        let mut scene = Scene::serving(policy, plain());
        scene.asks(1, Drained);
        scene.passes(20.0);
        scene.exits(1);
        scene.expect(&[
            "0.0: spawn 2",
            "1.0: retire 1, status [1 2]",
            "11.0: kill 1",
            "20.0: status [2], 1: restarted 2",
        ]);
    }

    #[test]
    fn being_told_again_does_not_prolong_the_drain() {
        let policy = Policy { drain_timeout: Some(seconds(10.0)), ..alive() };
        let mut scene = Scene::serving(policy, plain());
        scene.hup();
        scene.passes(5.0);
        scene.hup();
        scene.passes(20.0);
        scene.expect(&[
            "0.0: spawn 2",
            "1.0: retire 1, status [1 2]",
            "5.0: spawn 3",
            "6.0: retire 1, retire 2, status [1 2 3]",
            "11.0: kill 1",
            "16.0: kill 2",
        ]);
    }

    #[test]
    fn p6_of_too_many_old_generations_the_oldest_is_killed() {
        let policy = Policy { max_old_generations: NonZeroU32::new(1), ..alive() };
        let mut scene = Scene::serving(policy, plain());
        scene.hup();
        scene.passes(1.0);
        scene.hup();
        scene.passes(1.0);
        scene.hup();
        scene.passes(1.0);
        scene.expect(&[
            "0.0: spawn 2",
            "1.0: retire 1, status [1 2], spawn 3",
            "2.0: retire 1, retire 2, kill 1, status [1 2 3], spawn 4",
            "3.0: retire 1, retire 2, retire 3, kill 2, status [1 2 3 4]",
        ]);
    }

    #[test]
    fn p9_a_stuck_old_worker_does_not_hold_up_who_waits_for_the_commit() {
        let mut scene = Scene::serving(alive(), plain());
        scene.asks(1, Commit);
        scene.asks(2, Drained);
        scene.passes(2.0);
        scene.gives_up(2);
        scene.expect(&[
            "0.0: spawn 2",
            "1.0: retire 1, status [1 2], 1: restarted 2, spawn 3",
            "2.0: retire 1, retire 2, status [1 2 3], \
             2: timed out, committed 3, serving 3",
        ]);
    }
}

mod limits {
    use super::*;

    #[test]
    fn p10_a_restart_is_given_up_and_its_requester_hears_why() {
        let mut scene = Scene::serving(attempts(2), plain());
        scene.asks(1, Commit);
        scene.exits(2);
        scene.passes(1.0);
        scene.exits(3);
        scene.passes(60.0);
        scene.expect(&["0.0: spawn 2", "1.0: spawn 3, 1: failed 3 after 2, kept 1"]);
        assert_eq!(scene.supervisor.current(), Some(GenerationNumber(1)));
    }

    #[test]
    fn a_death_in_the_delay_counts_as_an_attempt() {
        let mut scene = Scene::serving(attempts(1), delay(5.0));
        scene.asks(1, Commit);
        scene.passes(2.0);
        scene.exits(2);
        scene.passes(60.0);
        scene.expect(&["0.0: spawn 2", "1.0: status [1 2]", "2.0: 1: failed 2 after 1, kept 1, status [1]"]);
    }

    #[test]
    fn a_restart_that_was_queued_follows_the_one_that_was_given_up() {
        let mut scene = Scene::serving(attempts(1), plain());
        scene.asks(1, Commit);
        scene.asks(2, Commit);
        scene.exits(2);
        scene.passes(5.0);
        scene.expect(&[
            "0.0: spawn 2, 1: failed 2 after 1, kept 1",
            "1.0: spawn 3",
            "2.0: retire 1, status [1 3], 2: restarted 3",
        ]);
    }

    #[test]
    fn without_a_generation_that_serves_nothing_is_given_up() {
        let mut scene = Scene::serving(attempts(1), plain());
        scene.exits(1);
        scene.exits(2);
        scene.passes(2.0);
        scene.expect(&["0.0: status [], spawn 2", "1.0: spawn 3", "2.0: status [3]"]);
    }

    #[test]
    fn pauses_grow_up_to_the_maximum() {
        let policy = Policy { backoff_max: Some(seconds(8.0)), ..alive() };
        let mut scene = Scene::serving(policy, plain());
        scene.hup();
        let mut pauses = Vec::new();
        for generation in 2..8 {
            scene.exits(generation);
            let at = scene.supervisor.next_deadline().expect("the next try is armed");
            pauses.push(at.since(scene.now).as_secs_f64());
            scene.passes(at.since(scene.now).as_secs_f64());
        }
        for (pause, full) in pauses.into_iter().zip([1.0, 2.0, 4.0, 8.0, 8.0, 8.0]) {
            assert!((full * 0.75..=full).contains(&pause), "{pause} s instead of {full} s");
        }
    }
}

mod giving_up {
    use super::*;

    #[test]
    fn an_attempt_that_nobody_waits_for_is_ended() {
        let mut scene = Scene::serving(alive(), plain());
        scene.asks(1, Commit);
        scene.passes(0.5);
        scene.gives_up(1);
        scene.passes(0.5);
        scene.exits(2);
        scene.passes(60.0);
        scene.expect(&["0.0: spawn 2", "0.5: 1: abandoned, committed none, serving 1, stop 2"]);
    }

    #[test]
    fn hanging_up_is_not_giving_up() {
        let mut scene = Scene::serving(alive(), plain());
        scene.asks(1, Commit);
        scene.asks(2, Commit);
        scene.hangs_up(1);
        scene.hangs_up(2);
        scene.passes(5.0);
        scene.expect(&[
            "0.0: spawn 2",
            "1.0: retire 1, status [1 2], spawn 3",
            "2.0: retire 1, retire 2, status [1 2 3]",
        ]);
    }

    #[test]
    fn who_gives_up_does_not_end_what_one_who_hung_up_has_asked_for() {
        let mut scene = Scene::serving(alive(), plain());
        scene.hup();
        scene.asks(1, Commit);
        scene.asks(2, Commit);
        scene.passes(0.5);
        scene.hangs_up(1);
        scene.gives_up(2);
        scene.passes(5.0);
        scene.expect(&[
            "0.0: spawn 2",
            "0.5: 2: timed out, committed none, serving 1",
            "1.0: retire 1, status [1 2], spawn 3",
            "2.0: retire 1, retire 2, status [1 2 3]",
        ]);
    }

    #[test]
    fn an_abandoned_attempt_that_does_not_go_is_killed() {
        let mut scene = Scene::serving(alive(), plain());
        scene.asks(1, Commit);
        scene.gives_up(1);
        scene.passes(60.0);
        scene.expect(&["0.0: spawn 2, 1: abandoned, committed none, serving 1, stop 2", "10.0: kill 2"]);
    }

    #[test]
    fn others_who_wait_keep_the_attempt() {
        let mut scene = Scene::serving(alive(), plain());
        scene.hup();
        scene.asks(1, Commit);
        scene.asks(2, Commit);
        scene.passes(1.5);
        scene.gives_up(1);
        scene.passes(5.0);
        scene.expect(&[
            "0.0: spawn 2",
            "1.0: retire 1, status [1 2], spawn 3",
            "1.5: 1: timed out, committed none, serving 2",
            "2.0: retire 1, retire 2, status [1 2 3], 2: restarted 3",
        ]);
    }

    #[test]
    fn a_hup_that_a_client_joined_between_two_tries_keeps_the_attempt() {
        let mut scene = Scene::serving(alive(), plain());
        scene.hup();
        scene.exits(2);
        scene.asks(1, Commit);
        scene.gives_up(1);
        scene.passes(5.0);
        scene
            .expect(&["0.0: spawn 2, spawn 3, 1: timed out, committed none, serving 1", "1.0: retire 1, status [1 3]"]);
    }

    #[test]
    fn a_queued_restart_is_withdrawn() {
        let mut scene = Scene::serving(alive(), plain());
        scene.hup();
        scene.asks(1, Commit);
        scene.gives_up(1);
        scene.passes(5.0);
        scene.expect(&["0.0: spawn 2, 1: abandoned, committed none, serving 1", "1.0: retire 1, status [1 2]"]);
    }

    #[test]
    fn in_the_kill_old_delay_the_old_one_is_kept() {
        let mut scene = Scene::serving(alive(), delay(5.0));
        scene.asks(1, Commit);
        scene.passes(2.0);
        scene.gives_up(1);
        scene.exits(2);
        scene.passes(60.0);
        scene.expect(&[
            "0.0: spawn 2",
            "1.0: status [1 2]",
            "2.0: 1: abandoned, committed none, serving 1, stop 2, status [1]",
        ]);
    }

    #[test]
    fn where_nobody_serves_the_attempt_goes_on() {
        let mut scene = Scene::serving(alive(), plain());
        scene.asks(1, Commit);
        scene.exits(1);
        scene.gives_up(1);
        scene.passes(5.0);
        scene.expect(&["0.0: spawn 2, status [], 1: timed out, committed none, serving none", "1.0: status [2]"]);
    }

    #[test]
    fn a_hup_that_joined_a_client_in_the_queue_is_not_withdrawn() {
        let mut scene = Scene::serving(alive(), plain());
        scene.hup();
        scene.asks(1, Commit);
        scene.hup();
        scene.gives_up(1);
        scene.passes(5.0);
        scene.expect(&[
            "0.0: spawn 2, 1: timed out, committed none, serving 1",
            "1.0: retire 1, status [1 2], spawn 3",
            "2.0: retire 1, retire 2, status [1 2 3]",
        ]);
    }

    #[test]
    fn a_hup_that_joined_a_client_between_two_tries_is_not_withdrawn() {
        let mut scene = Scene::serving(alive(), plain());
        scene.asks(1, Commit);
        scene.exits(2);
        scene.hup();
        scene.gives_up(1);
        scene.passes(5.0);
        scene
            .expect(&["0.0: spawn 2, spawn 3, 1: timed out, committed none, serving 1", "1.0: retire 1, status [1 3]"]);
    }

    #[test]
    fn an_attempt_that_is_ending_already_is_not_retried_for_nobody() {
        let mut scene = Scene::serving(proved(), plain());
        scene.asks(1, Commit);
        scene.passes(6.0);
        scene.gives_up(1);
        scene.exits(2);
        scene.passes(60.0);
        scene.expect(&["0.0: spawn 2", "5.0: stop 2", "6.0: 1: abandoned, committed none, serving 1"]);
    }

    #[test]
    fn an_attempt_whose_process_is_being_made_is_not_retried_for_nobody() {
        let mut scene = Scene::serving(alive(), plain());
        scene.spawns = false;
        scene.asks(1, Commit);
        scene.gives_up(1);
        scene.happens(Event::SpawnFailed { generation: GenerationNumber(2), errno: 11 });
        scene.passes(60.0);
        scene.expect(&["0.0: spawn 2, 1: abandoned, committed none, serving 1"]);
    }
}

mod clock {
    use super::*;

    #[test]
    fn auto_restart_comes_an_interval_after_readiness() {
        let mut scene = Scene::started(alive(), auto_restart(10.0));
        scene.passes(12.0);
        scene.exits(1);
        scene.passes(20.0);
        scene.expect(&[
            "1.0: status [1]",
            "11.0: spawn 2",
            "12.0: retire 1, status [1 2], status [2]",
            "22.0: spawn 3",
            "23.0: retire 2, status [2 3]",
        ]);
    }

    #[test]
    fn with_an_old_generation_left_it_comes_after_two_intervals() {
        let mut scene = Scene::started(alive(), auto_restart(10.0));
        scene.passes(33.0);
        scene.expect(&[
            "1.0: status [1]",
            "11.0: spawn 2",
            "12.0: retire 1, status [1 2]",
            "32.0: spawn 3",
            "33.0: retire 1, retire 2, status [1 2 3]",
        ]);
    }

    #[test]
    fn a_hup_sets_the_clock_of_the_auto_restart() {
        let mut scene = Scene::started(alive(), auto_restart(10.0));
        scene.passes(8.0);
        scene.hup();
        scene.passes(2.0);
        scene.exits(1);
        scene.passes(10.0);
        scene.expect(&[
            "1.0: status [1]",
            "8.0: spawn 2",
            "9.0: retire 1, status [1 2]",
            "10.0: status [2]",
            "19.0: spawn 3",
            "20.0: retire 2, status [2 3]",
        ]);
    }

    #[test]
    fn p13_auto_restart_is_switched_while_running() {
        let mut scene = Scene::serving(alive(), plain());
        scene.happens(Event::Settings(auto_restart(20.0)));
        assert!(scene.supervisor.next_deadline().is_some());
        scene.happens(Event::Settings(plain()));
        assert_eq!(scene.supervisor.next_deadline(), None);
        scene.happens(Event::Settings(auto_restart(20.0)));
        scene.passes(12.0);
        scene.expect(&["11.0: spawn 2", "12.0: retire 1, status [1 2]"]);
    }

    #[test]
    fn an_idle_superdaemon_wakes_for_nothing() {
        let mut scene = Scene::serving(alive(), plain());
        scene.hup();
        scene.passes(1.0);
        scene.exits(1);
        assert_eq!(scene.supervisor.next_deadline(), None);
    }
}

mod readiness {
    use super::*;

    #[test]
    fn a_proof_is_acted_upon_at_once() {
        let mut scene = Scene::serving(proved(), plain());
        scene.asks(1, Commit);
        scene.passes(0.2);
        scene.is_ready(2);
        scene.expect(&["0.0: spawn 2", "0.2: retire 1, status [1 2], 1: restarted 2"]);
    }

    #[test]
    fn age_is_no_proof() {
        let mut scene = Scene::serving(proved(), plain());
        scene.hup();
        scene.passes(4.9);
        scene.expect(&["0.0: spawn 2"]);
    }

    #[test]
    fn who_is_not_ready_in_time_is_ended_and_tried_again() {
        let mut scene = Scene::serving(proved(), plain());
        scene.hup();
        scene.passes(6.0);
        scene.exits(2);
        scene.passes(1.0);
        scene.expect(&["0.0: spawn 2", "5.0: stop 2", "7.0: spawn 3"]);
    }

    #[test]
    fn a_proof_from_one_that_is_being_ended_comes_too_late() {
        let mut scene = Scene::serving(proved(), plain());
        scene.hup();
        scene.passes(5.0);
        scene.is_ready(2);
        scene.expect(&["0.0: spawn 2", "5.0: stop 2"]);
    }

    #[test]
    fn a_proof_from_another_generation_counts_for_nothing() {
        let mut scene = Scene::serving(proved(), plain());
        scene.hup();
        scene.is_ready(1);
        scene.is_ready(3);
        scene.expect(&["0.0: spawn 2"]);
    }

    #[test]
    fn a_program_may_ask_for_more_time() {
        let mut scene = Scene::serving(proved(), plain());
        scene.hup();
        scene.passes(4.0);
        let generation = GenerationNumber(2);
        scene.happens(Event::ExtendReadiness { generation, by: seconds(20.0) });
        scene.passes(19.0);
        scene.is_ready(2);
        scene.expect(&["0.0: spawn 2", "23.0: retire 1, status [1 2]"]);
    }

    #[test]
    fn an_extension_never_shortens() {
        let mut scene = Scene::serving(proved(), plain());
        scene.hup();
        let generation = GenerationNumber(2);
        scene.happens(Event::ExtendReadiness { generation, by: seconds(1.0) });
        scene.passes(5.0);
        scene.expect(&["0.0: spawn 2", "5.0: stop 2"]);
    }

    #[test]
    fn where_readiness_cannot_be_known_being_alive_must_do() {
        let mut scene = Scene::serving(proved(), plain());
        scene.hup();
        scene.passes(0.1);
        scene.happens(Event::ReadinessUnknown(GenerationNumber(2)));
        scene.passes(5.0);
        scene.expect(&["0.0: spawn 2", "1.0: retire 1, status [1 2]"]);
    }

    #[test]
    fn proof_is_wanted_of_the_one_that_is_starting() {
        let mut scene = Scene::serving(proved(), plain());
        assert_eq!(scene.supervisor.awaiting_proof(), None);
        scene.hup();
        let awaited = scene.supervisor.awaiting_proof().map(|worker| worker.pid);
        assert_eq!(awaited, Some(pid(2)));
        scene.is_ready(2);
        assert_eq!(scene.supervisor.awaiting_proof(), None);
    }

    #[test]
    fn a_death_during_the_end_of_a_slow_attempt_does_not_cost_the_drain_timeout() {
        let policy = Policy { drain_timeout: Some(seconds(3600.0)), ..proved() };
        let mut scene = Scene::serving(policy, plain());
        scene.hup();
        scene.passes(6.0);
        scene.exits(1);
        scene.passes(60.0);
        let killed = scene.log.iter().any(|(_, line)| line == "kill 2");
        let spawned = scene.log.iter().any(|(_, line)| line == "spawn 3");
        assert!(killed || spawned, "a minute later nobody serves and nothing is done about it");
    }
}

mod orphans {
    use super::*;

    fn with_orphan(policy: Policy, settings: Settings) -> Scene {
        let mut scene = Scene::before_start(policy, settings);
        scene.happens(Event::Adopted { generation: GenerationNumber(7), pid: pid(7) });
        scene
    }

    #[test]
    fn p21_orphans_serve_until_the_first_generation_is_ready() {
        let mut scene = with_orphan(alive(), plain());
        scene.happens(Event::Start);
        scene.passes(2.0);
        scene.exits(7);
        scene.expect(&["0.0: spawn 8", "1.0: retire 7, status [7 8]", "2.0: status [8]"]);
    }

    #[test]
    fn numbers_that_are_known_to_be_taken_are_skipped() {
        let mut scene = with_orphan(alive(), plain());
        scene.supervisor.skip_numbers(GenerationNumber(9));
        scene.supervisor.skip_numbers(GenerationNumber(3));
        scene.happens(Event::Start);
        scene.passes(1.0);
        scene.expect(&["0.0: spawn 10", "1.0: retire 7, status [7 10]"]);
    }

    #[test]
    fn orphans_serve_on_while_the_first_generation_fails() {
        let mut scene = with_orphan(alive(), plain());
        scene.happens(Event::Start);
        scene.exits(8);
        scene.passes(1.0);
        scene.expect(&["0.0: spawn 8", "1.0: spawn 9"]);
    }

    #[test]
    fn orphans_are_stopped_with_the_rest() {
        let mut scene = with_orphan(alive(), plain());
        scene.happens(Event::Start);
        scene.stop(Terminate);
        scene.exits(8);
        scene.exits(7);
        scene.expect(&["0.0: spawn 8, stop 7, stop 8, status [7], status [], exit"]);
    }

    #[test]
    fn a_stop_before_the_start_stops_orphans() {
        let mut scene = with_orphan(alive(), plain());
        scene.stop(Client(RequestId(1)));
        scene.exits(7);
        scene.expect(&["0.0: stop 7, status [], 1: stopped, exit"]);
    }

    #[test]
    fn a_program_that_cannot_be_executed_does_not_abandon_orphans_that_serve() {
        let mut scene = with_orphan(attempts(1), plain());
        scene.executes = false;
        scene.happens(Event::Start);
        scene.cannot_execute(8);
        scene.expect(&["0.0: spawn 8"]);
        assert!(!scene.supervisor.is_over());
    }
}

mod requests {
    use super::*;

    #[test]
    fn p9_ten_concurrent_requests_get_their_answers_from_one_restart() {
        let mut scene = Scene::serving(alive(), plain());
        scene.asks(1, Commit);
        for request in 2..=10 {
            let until = if request % 2 == 0 { Commit } else { Drained };
            scene.asks(request, until);
        }
        scene.passes(2.0);
        scene.expect(&[
            "0.0: spawn 2",
            "1.0: retire 1, status [1 2], 1: restarted 2, spawn 3",
            "2.0: retire 1, retire 2, status [1 2 3], 2: restarted 3, 4: restarted 3, \
             6: restarted 3, 8: restarted 3, 10: restarted 3",
        ]);
        scene.exits(1);
        scene.expect(&["2.0: status [2 3]"]);
        scene.exits(2);
        scene.expect(&["2.0: status [3], 3: restarted 3, 5: restarted 3, 7: restarted 3, 9: restarted 3"]);
    }

    #[test]
    fn p9_a_failed_attempt_does_not_fail_who_waits() {
        let mut scene = Scene::serving(alive(), plain());
        scene.asks(1, Drained);
        scene.exits(2);
        scene.passes(2.0);
        scene.exits(1);
        scene.expect(&["0.0: spawn 2", "1.0: spawn 3", "2.0: retire 1, status [1 3], status [3], 1: restarted 3"]);
    }

    #[test]
    fn a_stop_answers_all_who_wait_for_a_restart() {
        let mut scene = Scene::serving(alive(), plain());
        scene.asks(1, Drained);
        scene.passes(1.0);
        scene.asks(2, Commit);
        scene.asks(3, Commit);
        scene.stop(Terminate);
        scene.expect(&[
            "0.0: spawn 2",
            "1.0: retire 1, status [1 2], spawn 3, 2: stopping, 3: stopping, 1: stopping, \
             stop 1, stop 2, stop 3",
        ]);
    }
}
