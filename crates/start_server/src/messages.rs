//! The words for what happens. The event loop turns each of the supervisor's reports into lines here.
//!
//! The first line of a report is the one that Server::Starter's users know and their scripts parse, to the letter.
//! What more there is to say stands on lines of its own, which name the generation.

use std::fmt::Display;
use std::time::Duration;

use supervisor::event::{Requester, StopRequester};
use supervisor::report::{AbandonReason, Failure, FailureKind, KillReason, Next, ReadyBy, Report, SpawnStage};
use supervisor::{ExitStatus, Pid};
use sys::signal::Signal;

use crate::config::Config;
use crate::errno::reason;
use crate::privileges::shown;
use crate::span::seconds_text;

/// What the lines need to know besides the report.
#[derive(Clone, Debug)]
pub struct Words {
    /// The program as the user wrote it.
    pub program: String,
    /// The working directory as the user wrote it.
    pub dir: String,
    /// The user and the group of the program as they were written; empty if none was.
    pub user: String,
    pub group: String,
    /// What old generations are told to go with.
    pub signal_on_hup: Signal,
    /// What workers are told to go with at the end.
    pub signal_on_term: Signal,
}

impl Words {
    /// Those of a configuration.
    pub fn of(config: &Config) -> Self {
        Self {
            program: config.program.name.to_string_lossy().into_owned(),
            dir: config.dir.as_ref().map(|dir| dir.display().to_string()).unwrap_or_default(),
            user: shown(&config.privileges.user),
            group: shown(&config.privileges.group),
            signal_on_hup: config.signal_on_hup,
            signal_on_term: config.signal_on_term,
        }
    }

    /// The lines for a report, without line ends; none for what needs no words.
    pub fn lines(&self, report: &Report) -> Vec<String> {
        match report {
            Report::Spawned { pid, .. } => vec![format!("starting new worker {pid}")],
            Report::SpawnFailed { generation, errno, next } => vec![
                format!("fork failed:{}", reason(*errno)),
                format!("generation {generation} could not be spawned; {}", after_failure(*next)),
            ],
            Report::ExecFailed { stage, errno, .. } => self.exec_failed(*stage, *errno),
            Report::StartFailed { failure, attempts, next } => {
                let mut lines = Vec::new();
                if let (Some(pid), Some(status)) = (failure.pid, status_of(failure)) {
                    lines.push(format!("new worker {pid} seems to have failed to start, exit status:{}", status.0));
                }
                lines.push(format!("{} (attempt {attempts}); {}", describe(failure), after_failure(*next)));
                lines
            }
            Report::DiedBeforeCommit { failure, attempts, next } => {
                let mut lines = Vec::new();
                if let (Some(pid), Some(status)) = (failure.pid, status_of(failure)) {
                    let restarting = if *next == Next::GiveUp { "" } else { ", restarting" };
                    lines.push(format!("worker {pid} died unexpectedly with status:{}{restarting}", status.0));
                }
                lines.push(format!("{} (attempt {attempts}); {}", describe(failure), after_failure(*next)));
                lines
            }
            Report::AttemptAbandoned { generation, pid, reason } => vec![format!(
                "generation {generation} (pid {pid}) {}; sending {} to it",
                match reason {
                    AbandonReason::NotReadyWithin(limit) => format!("was not ready within {}", span(*limit)),
                    AbandonReason::RequesterGaveUp => "is abandoned, because nobody waits for it any more".to_owned(),
                },
                self.signal_on_term
            )],
            Report::ReadinessUnknown { generation } => vec![format!(
                "generation {generation} cannot be seen to accept connections; being alive for the interval counts as ready"
            )],
            Report::Ready { generation, pid, by, took } => vec![format!(
                "generation {generation} (pid {pid}) is ready after {}: {}",
                span(*took),
                match by {
                    ReadyBy::Alive => "it is alive",
                    ReadyBy::Notify => "it said so",
                    ReadyBy::Accept => "it waits for connections",
                    ReadyBy::Command => "the check succeeded",
                }
            )],
            Report::RestartBegins(requester) => {
                // To those who read the log it makes no difference how the wish arrived.
                let mut lines = vec!["received HUP, spawning a new worker".to_owned()];
                match requester {
                    Requester::Signal => {}
                    Requester::Client { .. } => {
                        lines.push("this restart was asked for on the control socket".to_owned());
                    }
                    Requester::Superdaemon => {
                        lines.push("this restart is the superdaemon's own wish, for the reason above".to_owned());
                    }
                }
                lines
            }
            Report::RestartQueued { starting } => vec![format!(
                "generation {starting} is being started; one more restart follows as soon as its outcome is known"
            )],
            Report::AutoRestart { interval, forced } => vec![format!(
                "autorestart triggered ({}interval={})",
                if *forced { "forced, " } else { "" },
                seconds_text(*interval)
            )],
            Report::Replacing { old } => vec![format!(
                "new worker is now running, sending {} to old workers:{}",
                self.signal_on_hup,
                if old.is_empty() { "none".to_owned() } else { list(old) }
            )],
            Report::KillOldDelay(delay) => {
                vec![format!("sleeping {} secs before killing old workers", seconds_text(*delay))]
            }
            Report::RetiringOld => vec!["killing old workers".to_owned()],
            Report::OldExited { generation, pid, status, nobody_serves } => vec![
                format!("old worker {pid} died, status:{}", status.0),
                format!(
                    "generation {generation} (pid {pid}) {}{}",
                    ended(*status),
                    if *nobody_serves { "; it was the current one, and its successor is not ready yet" } else { "" }
                ),
            ],
            Report::CurrentDied { generation, pid, status, respawn_in } => vec![
                format!("worker {pid} died unexpectedly with status:{}, restarting", status.0),
                format!(
                    "generation {generation} (pid {pid}) {}; the next one is started {}",
                    ended(*status),
                    if respawn_in.is_zero() { "at once".to_owned() } else { format!("in {}", span(*respawn_in)) }
                ),
            ],
            Report::DrainTimedOut { generation, pid, after } => vec![format!(
                "generation {generation} (pid {pid}) has not gone within the drain timeout of {}; killing it and its \
                 descendants",
                span(*after)
            )],
            Report::TooManyOld { generation, pid, limit } => vec![format!(
                "generation {generation} (pid {pid}) is the oldest of more than {limit} old generations; killing it and \
                 its descendants"
            )],
            Report::AbandonedKilled { generation, pid } => vec![format!(
                "generation {generation} (pid {pid}) was told to stop and has not gone; killing it and its descendants"
            )],
            Report::GaveUp { failure, attempts, kept } => vec![format!(
                "restart given up after {}; {}{}",
                plural(*attempts, "attempt", "attempts"),
                match failure {
                    Some(failure) => format!("{}; ", describe(failure)),
                    None => String::new(),
                },
                match kept {
                    Some(kept) => format!("generation {kept} goes on serving"),
                    None => "nobody serves".to_owned(),
                }
            )],
            Report::CannotStart { attempts } => {
                vec![format!(
                    "the program could not be started: giving up after {}",
                    plural(*attempts, "attempt", "attempts")
                )]
            }
            Report::StopDelayed { delay, told } => {
                let wait = span(*delay);
                let mut lines = vec![format!("received TERM, workers serve on for {wait} and are told to stop then")];
                if !told.is_empty() {
                    let signal = self.signal_on_term;
                    lines.push(format!("sending {signal} now to those that do not serve:{}", list(told)));
                }
                lines
            }
            Report::Stopping { by, workers } => {
                let (wish, signal) = match by {
                    StopRequester::Terminate | StopRequester::Client(_) => ("TERM", self.signal_on_term),
                    StopRequester::Interrupt => ("INT", Signal::TERM),
                };
                let mut lines = vec![format!("received {wish}, sending {signal} to all workers:{}", list(workers))];
                if let StopRequester::Client(_) = by {
                    lines.push("this end was asked for on the control socket".to_owned());
                }
                lines
            }
            Report::StopHastened { workers, grace } => vec![format!(
                "asked to stop again, sending TERM to all workers:{}; they are killed in {}",
                list(workers),
                span(*grace)
            )],
            Report::KillingAll { workers, reason } => vec![match reason {
                KillReason::Asked => format!("asked to end at once, sending KILL to all workers:{}", list(workers)),
                KillReason::TimedOut(limit) => format!(
                    "workers have not gone within {}, sending KILL to them and their descendants:{}",
                    span(*limit),
                    list(workers)
                ),
            }],
            Report::WorkerExited { pid, status } => {
                let mut lines = vec![format!("worker {pid} died, status:{}", status.0)];
                if status.0 != 0 {
                    lines.push(format!("pid {pid} {}", ended(*status)));
                }
                lines
            }
            Report::Exiting => vec!["exiting".to_owned()],
        }
    }

    fn exec_failed(&self, stage: SpawnStage, errno: i32) -> Vec<String> {
        let reason = reason(errno);
        match stage {
            SpawnStage::Exec => {
                let mut lines = vec![
                    format!("Can't exec \"{}\": {reason}", self.program),
                    format!("failed to exec {}:{reason}", self.program),
                ];
                lines.extend(self.not_for_user(errno, "execute the program, or enter a directory on the way to it"));
                lines
            }
            SpawnStage::Directory => {
                let mut lines = vec![format!("failed to chdir:{}:{reason}", self.dir)];
                lines.extend(self.not_for_user(errno, "enter that directory, or one on the way to it"));
                lines
            }
            SpawnStage::ProcessGroup => vec![format!("failed to make a process group for the worker:{reason}")],
            SpawnStage::Descriptors => vec![format!("failed to arrange the worker's descriptors:{reason}")],
            SpawnStage::Signals => vec![format!("failed to reset the worker's signals:{reason}")],
            SpawnStage::Limits => vec![format!(
                "failed to set the worker's resource limits:{reason}; choose lower ones with --rlimit, or start as root"
            )],
            SpawnStage::Groups => vec![format!(
                "failed to set the worker's supplementary groups:{reason}; start as root, with the capability CAP_SETGID \
                 and outside of a user namespace that denies setgroups(2)"
            )],
            SpawnStage::Group => vec![format!(
                "failed to change the worker's group{}:{reason}; start as root, with the capability CAP_SETGID",
                to(&self.group)
            )],
            SpawnStage::User => vec![format!(
                "failed to change the worker's user{}:{reason}; start as root, with the capability CAP_SETUID",
                to(&self.user)
            )],
            SpawnStage::NoNewPrivileges => {
                vec![format!("failed to give up new privileges for the worker:{reason}; leave --no-new-privs out")]
            }
        }
    }

    /// A hint for those who have asked for another user.
    fn not_for_user(&self, errno: i32, what: &str) -> Option<String> {
        let is_denied = errno == rustix::io::Errno::ACCESS.raw_os_error() && !self.user.is_empty();
        is_denied.then(|| format!("user {} may not {what}; see namei -l", self.user))
    }
}

/// How a process ended, in words: `exited with status 1`, `was killed by signal KILL`.
pub fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(number)) => {
            let name = Signal::from_number(number).map_or_else(|| number.to_string(), |signal| signal.to_string());
            let core = if status.dumped_core() { " and dumped core" } else { "" };
            format!("was killed by signal {name}{core}")
        }
        (None, None) if status == ExitStatus::UNKNOWN => "has ended; how, only its parent was told".to_owned(),
        (None, None) => format!("ended with wait status {}", status.0),
    }
}

/// A generation and what it failed of.
pub fn describe(failure: &Failure) -> String {
    let who = match failure.pid {
        Some(pid) => format!("generation {} (pid {pid})", failure.generation),
        None => format!("generation {}", failure.generation),
    };
    match failure.kind {
        FailureKind::Spawn { errno } => format!("{who} could not be spawned: {}", reason(errno)),
        FailureKind::Exec { stage: SpawnStage::Exec, errno, .. } => {
            format!("{who} could not execute the program: {}", reason(errno))
        }
        FailureKind::Exec { stage: SpawnStage::Directory, errno, .. } => {
            format!("{who} could not change to its directory: {}", reason(errno))
        }
        FailureKind::Exec { stage: SpawnStage::Limits, errno, .. } => {
            format!("{who} could not get its resource limits: {}", reason(errno))
        }
        FailureKind::Exec { stage: SpawnStage::Groups | SpawnStage::Group | SpawnStage::User, errno, .. } => {
            format!("{who} could not change its user or its groups: {}", reason(errno))
        }
        FailureKind::Exec { errno, .. } => format!("{who} could not be set up: {}", reason(errno)),
        FailureKind::Exited(status) => format!("{who} {} before it was ready", ended(status)),
        FailureKind::ExitedBeforeCommit(status) => {
            format!("{who} was ready, but {} within the kill-old delay", ended(status))
        }
        FailureKind::Abandoned { reason: AbandonReason::NotReadyWithin(limit), status } => {
            format!("{who} was not ready within {} and {}", span(limit), ended(status))
        }
        FailureKind::Abandoned { reason: AbandonReason::RequesterGaveUp, status } => {
            format!("{who} was abandoned and {}", ended(status))
        }
    }
}

/// A span as people say it: `1 s`, `250 ms`, `2m 30s`.
pub fn span(span: Duration) -> String {
    if span < Duration::from_secs(1) {
        format!("{} ms", span.as_millis())
    } else if span < Duration::from_secs(60) {
        format!("{} s", seconds_text(Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))))
    } else {
        humantime::format_duration(Duration::from_secs(span.as_secs())).to_string()
    }
}

/// How the failed worker ended, if there was one.
pub fn status_of(failure: &Failure) -> Option<ExitStatus> {
    match failure.kind {
        FailureKind::Spawn { .. } => None,
        FailureKind::Exec { status, .. }
        | FailureKind::Exited(status)
        | FailureKind::ExitedBeforeCommit(status)
        | FailureKind::Abandoned { status, .. } => Some(status),
    }
}

fn after_failure(next: Next) -> String {
    match next {
        Next::Retry { after, serving } => format!(
            "the next attempt comes {}{}",
            if after.is_zero() { "at once".to_owned() } else { format!("in {}", span(after)) },
            match serving {
                Some(serving) => format!(", generation {serving} goes on serving"),
                None => String::new(),
            }
        ),
        Next::GiveUp => "there is no further attempt".to_owned(),
    }
}

/// ` to app`, where it is known.
fn to(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" to {name}") }
}

fn list(pids: &[Pid]) -> String {
    joined(pids, ",")
}

fn joined(items: &[impl Display], separator: &str) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}

/// A number of things: `1 process`, `2 processes`.
pub fn plural<N: Display + PartialEq + From<u8>>(count: N, one: &str, many: &str) -> String {
    let noun = if count == N::from(1) { one } else { many };
    format!("{count} {noun}")
}

#[cfg(test)]
mod tests {
    use supervisor::GenerationNumber;

    use super::*;

    fn words() -> Words {
        Words {
            program: "./app".to_owned(),
            dir: "/srv".to_owned(),
            user: "app".to_owned(),
            group: String::new(),
            signal_on_hup: Signal::QUIT,
            signal_on_term: Signal::TERM,
        }
    }

    /// The first line of a report is what scripts parse: to the letter.
    #[test]
    fn the_first_lines_are_those_of_server_starter() {
        const GENERATION: GenerationNumber = GenerationNumber(3);
        const PID: Pid = Pid(77);
        let failure = |kind| Failure { generation: GENERATION, pid: Some(PID), kind };
        let retry = Next::Retry { after: Duration::ZERO, serving: None };
        let died = ExitStatus(256);
        for (report, first) in [
            (Report::Spawned { generation: GENERATION, pid: PID }, "starting new worker 77"),
            (
                Report::ExecFailed { generation: GENERATION, stage: SpawnStage::Exec, errno: 2 },
                "Can't exec \"./app\": No such file or directory",
            ),
            (
                Report::ExecFailed { generation: GENERATION, stage: SpawnStage::Directory, errno: 2 },
                "failed to chdir:/srv:No such file or directory",
            ),
            (
                Report::StartFailed { failure: failure(FailureKind::Exited(died)), attempts: 1, next: retry },
                "new worker 77 seems to have failed to start, exit status:256",
            ),
            (
                Report::DiedBeforeCommit {
                    failure: failure(FailureKind::ExitedBeforeCommit(died)),
                    attempts: 1,
                    next: retry,
                },
                "worker 77 died unexpectedly with status:256, restarting",
            ),
            (Report::RestartBegins(Requester::Signal), "received HUP, spawning a new worker"),
            (
                Report::AutoRestart { interval: Duration::from_secs(4), forced: true },
                "autorestart triggered (forced, interval=4)",
            ),
            (
                Report::AutoRestart { interval: Duration::from_secs(4), forced: false },
                "autorestart triggered (interval=4)",
            ),
            (
                Report::Replacing { old: vec![Pid(9999), Pid(10001)] },
                "new worker is now running, sending QUIT to old workers:9999,10001",
            ),
            (Report::Replacing { old: vec![] }, "new worker is now running, sending QUIT to old workers:none"),
            (Report::KillOldDelay(Duration::from_secs(5)), "sleeping 5 secs before killing old workers"),
            (Report::RetiringOld, "killing old workers"),
            (
                Report::OldExited { generation: GENERATION, pid: PID, status: ExitStatus(15), nobody_serves: false },
                "old worker 77 died, status:15",
            ),
            (
                Report::CurrentDied {
                    generation: GENERATION,
                    pid: PID,
                    status: ExitStatus(139),
                    respawn_in: Duration::ZERO,
                },
                "worker 77 died unexpectedly with status:139, restarting",
            ),
            (
                Report::Stopping { by: StopRequester::Terminate, workers: vec![PID] },
                "received TERM, sending TERM to all workers:77",
            ),
            (
                Report::Stopping { by: StopRequester::Interrupt, workers: vec![] },
                "received INT, sending TERM to all workers:",
            ),
            (
                Report::StopDelayed { delay: Duration::from_secs(5), told: vec![] },
                "received TERM, workers serve on for 5 s and are told to stop then",
            ),
            (Report::WorkerExited { pid: PID, status: ExitStatus(0) }, "worker 77 died, status:0"),
            (Report::Exiting, "exiting"),
        ] {
            assert_eq!(words().lines(&report).first().map(String::as_str), Some(first), "{report:?}");
        }
    }

    #[test]
    fn statuses_and_spans_in_words() {
        assert_eq!(ended(ExitStatus(256)), "exited with status 1");
        assert_eq!(ended(ExitStatus(9)), "was killed by signal KILL");
        assert_eq!(ended(ExitStatus(139)), "was killed by signal SEGV and dumped core");
        assert_eq!(span(Duration::from_millis(250)), "250 ms");
        assert_eq!(span(Duration::from_millis(1500)), "1.5 s");
        assert_eq!(span(Duration::from_secs(90)), "1m 30s");
    }
}
