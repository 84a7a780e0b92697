//! The whole state, written down after every turn and read by the next image of the program: after an upgrade, and
//! after a crash, when what has happened since must be found out.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use serde_json::value::RawValue;
use supervisor::{Event, ExitStatus, GenerationNumber, Pid, Supervisor};
use sys::process_tree;
use sys::reexec::{Resumption, Survival};
use sys::spawn::ExecReport;

use super::actions::MARK_PATIENCE;
use super::guards::Guards;
use super::strays::Strays;
use super::{
    ApartProcesses, EventLoop, LogExcerpt, LogTarget, Newborn, Notes, NotifySocket, Parts, Proving, Tally, Words, now,
    policy,
};
use crate::config::ReadyRule;
use crate::handover::descriptor::{Descriptor, Kept, take};
use crate::handover::state::{self, FORMAT, NEEDS, State};
use crate::handover::{self, Trial, Unknown};
use crate::orphans::Orphan;

const NOT_REMEMBERED: &str = "failed to remember where the superdaemon stands";
const ITS_END: &str = "from now on a crash of the superdaemon would be its end, and it cannot be upgraded";

/// What a superdaemon needs in order to go on in another image of its program.
#[derive(Debug)]
pub struct Succession {
    /// Where its program's file was when it was started.
    pub path: PathBuf,
    /// The words of the command line in force, the first included.
    pub command_line: Vec<OsString>,
    /// Remembers the state. None if that cannot be done: then a crash is the end.
    pub survival: Option<Survival>,
    /// What a newer program wants to find again.
    pub unknown: Unknown,
    /// The listeners, which hardly ever change, as they were written down when they had changed so often.
    pub listeners: Box<RawValue>,
    pub changes: u64,
    pub sockets: Kept,
    /// The PID file, which is the same as long as it is open. Its file system may not answer later.
    pub pid_file: Option<Descriptor>,
    /// The program that is being tried out for an upgrade.
    pub trial: Option<Trial>,
    /// The program that has stood its trial and is to be executed, with its version.
    pub accepted: Option<(Trial, String)>,
}

impl Succession {
    /// For a superdaemon that has its listeners.
    ///
    /// # Errors
    /// A sentence; none is expected.
    pub fn new(parts: &Parts, path: PathBuf, command_line: Vec<OsString>, unknown: Unknown) -> Result<Self, String> {
        let mut sockets = Kept::default();
        let listeners = parts.listeners.state(&mut sockets);
        Ok(Self {
            path,
            command_line,
            survival: None,
            unknown,
            listeners: handover::write_raw(&listeners)?,
            pid_file: parts.pid_file.as_ref().map(|file| Kept::default().keep(file.as_fd())),
            sockets,
            changes: parts.listeners.changes(),
            trial: None,
            accepted: None,
        })
    }

    /// Begins to remember. `fallback` is the program of before an upgrade.
    pub fn prepare(&mut self, parts: &Parts, fallback: Option<OwnedFd>) -> std::io::Result<()> {
        // A watchdog ends by SIGABRT what stands still, and waits for its end before it starts it again.
        if parts.service_manager.has_watchdog() {
            sys::reexec::let_abort_end_it();
        }
        self.survival = Some(Survival::prepare(&words(&self.command_line), fallback)?);
        Ok(())
    }
}

/// Words as execve(2) takes them. A command line has no zero bytes in it.
pub(super) fn words(command_line: &[OsString]) -> Vec<CString> {
    command_line.iter().filter_map(|word| CString::new(word.as_bytes()).ok()).collect()
}

impl EventLoop {
    /// Remembers where the superdaemon stands, for the case that it crashes.
    pub(super) fn remember(&mut self) {
        if self.succession.survival.is_none() || self.over.is_some() {
            return;
        }
        self.look_at_listeners();
        let (state, kept) = self.state(None);
        let remembered = handover::write(&state, &self.succession.unknown).and_then(|text| {
            let Some(survival) = &mut self.succession.survival else { return Ok(()) };
            survival.remember(&text, kept.numbers()).map_err(|error| error.to_string())
        });
        if let Err(error) = remembered {
            // The state of before would do harm. What is left is a superdaemon like any other.
            self.succession.survival = None;
            self.tell(&format!("{NOT_REMEMBERED}: {error}; {ITS_END}"));
        }
    }

    /// Writes the listeners down again if one was bound again.
    pub(super) fn look_at_listeners(&mut self) {
        let changes = self.parts.listeners.changes();
        if changes != self.succession.changes {
            let mut sockets = Kept::default();
            if let Ok(listeners) = handover::write_raw(&self.parts.listeners.state(&mut sockets)) {
                (self.succession.listeners, self.succession.sockets) = (listeners, sockets);
                self.succession.changes = changes;
            }
        }
    }

    /// Everything that there is to know, and the descriptors that it speaks of.
    pub(super) fn state(&self, upgrade: Option<state::Upgrade>) -> (State, Kept) {
        let Self { parts, succession, .. } = self;
        let mut kept = Kept::default();
        kept.keep_all(&succession.sockets);
        let generation = |notes: &Notes, kept: &mut Kept| state::GenerationState {
            worker: notes.worker,
            rule: notes.rule.to_string(),
            notify: notes.notify.as_ref().map(|notify| notify.state(kept)),
            ready_by: notes.ready_by,
            says: notes.says.clone(),
        };
        let state = State {
            format: FORMAT,
            needs: NEEDS,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            path: succession.path.as_path().into(),
            command_line: succession.command_line.iter().map(|word| word.as_os_str().into()).collect(),
            listeners: succession.listeners.clone(),
            supervisor: self.supervisor.memory().clone(),
            generations: self.notes.iter().map(|(number, notes)| (number.0, generation(notes, &mut kept))).collect(),
            newborns: self.newborns.iter().map(|newborn| newborn.state(&mut kept)).collect(),
            orphans: self.orphans.iter().map(|orphan| orphan.state(&mut kept)).collect(),
            strays: self.strays.iter().map(Strays::state).collect(),
            stopping_since: self.stopping_since,
            check: self.proving.state(),
            tally: self.tally.state(),
            envdir: parts.environment.state(),
            log: parts.log.state(),
            log_command: parts.log_command.as_ref().map(|command| command.state(&mut kept)),
            pid_file: succession.pid_file.map(|file| kept.keep_again(file)),
            pid_file_lock: parts.pid_file.as_ref().and_then(|file| Some(kept.keep(file.lock_as_fd()?))),
            status_file: parts.status_file.as_ref().and_then(crate::status_file::StatusFile::written),
            control: parts.control.as_ref().map(|control| control.state(&mut kept)),
            launcher: self.voice.as_ref().map(|voice| kept.keep(voice.as_fd())),
            last_words: self.last_words.clone(),
            farewells: self.farewells.clone(),
            excerpt: self.excerpt.as_ref().map(LogExcerpt::state),
            previous: succession.survival.as_ref().and_then(Survival::fallback).map(|file| kept.keep(file)),
            upgrade,
            apart: self.apart.pids().collect(),
            service_manager: parts.service_manager.state(&mut kept),
            privileges: parts.recipe.privileges().state(),
            trial: succession.trial.as_ref().map(|trial| state::Trial { pid: trial.pid, request: trial.request }),
        };
        (state, kept)
    }

    /// A superdaemon that goes on where another image of the program was. It does not return if that cannot be done:
    /// the image before gets its place back.
    pub fn resume(mut parts: Parts, state: State, unknown: Unknown, arrival: Arrival) -> Self {
        let Arrival { mut resumption, command_line } = arrival;
        let inherited = &mut resumption.inherited;
        let path = PathBuf::from(state.path);
        let mut succession = match Succession::new(&parts, path, command_line, unknown) {
            Ok(succession) => succession,
            Err(error) => Resumption::go_back(&error),
        };
        let (settings, warnings) = parts.environment.control_variables().settings();
        let supervisor = Supervisor::resume(policy(&parts.config), settings.clone(), state.supervisor);
        let words = Words::of(&parts.config);
        let envdir_watch = parts.environment.watch();
        // What is odd about the listeners was said by the image before.
        let guards = Guards::new(&parts.listeners, &mut |_| {});
        let notes = state.generations.into_iter().map(|(number, notes)| {
            let notes = Notes {
                worker: notes.worker,
                notify: notes.notify.and_then(|notify| NotifySocket::resume(notify, parts.recipe.user(), inherited)),
                ready_by: notes.ready_by,
                says: notes.says,
                rule: notes.rule.parse().unwrap_or(ReadyRule::Alive),
            };
            (GenerationNumber(number), notes)
        });
        let notes = notes.collect();
        let newborns = state.newborns.into_iter().filter_map(|newborn| {
            let report = ExecReport::from(take(inherited, newborn.report)?);
            Some(Newborn { generation: newborn.generation, pid: newborn.pid, report, ask_at: now() })
        });
        let newborns = newborns.collect();
        let orphans = state.orphans.into_iter().filter_map(|orphan| Orphan::resume(orphan, inherited)).collect();
        let excerpt = match (&parts.config.log, state.excerpt) {
            (Some(LogTarget::File(_)), Some(excerpt)) => Some(LogExcerpt::resume(excerpt)),
            _ => None,
        };
        let voice = state.launcher.and_then(|launcher| take(inherited, launcher)).map(Into::into);
        // The program that was upgraded from, or if this is a crash the one that was upgraded from before.
        let previous = state.previous.and_then(|previous| take(inherited, previous));
        let Resumption { program, crash, file, .. } = resumption;
        let upgraded = crash.is_none() && state.upgrade.is_some();
        let mut tally = Tally::resume(state.tally);
        match (&crash, &state.upgrade) {
            (None, Some(upgrade)) => {
                tally.upgrades += 1;
                succession.path = upgrade.path.clone().into();
            }
            (_, None) => tally.crashes += 1,
            (Some(_), Some(_)) => {}
        }
        let fallback = if upgraded { Some(program) } else { previous };
        let prepared = succession.prepare(&parts, fallback.filter(|file| !is_this_program(file.as_fd())));
        let us = rustix::process::getpid().as_raw_pid();
        let workers: Vec<i32> =
            supervisor.generations().iter().flat_map(|state| &state.workers).map(|pid| pid.0).collect();
        // Only what is a child of ours still, and was not given the number meanwhile.
        let is_left = |pid: &i32| !workers.contains(pid) && process_tree::read(*pid).is_some_and(|it| it.parent == us);
        let apart = ApartProcesses::resume(state.apart.into_iter().filter(is_left));
        let mut event_loop = Self {
            parts,
            words,
            supervisor,
            settings,
            known_warnings: warnings,
            envdir_watch,
            newborns,
            strays: state.strays.into_iter().map(Strays::resume).collect(),
            stopping_since: state.stopping_since,
            orphans,
            notes,
            proving: Proving::Nothing,
            apart,
            has_unreaped: false,
            guards,
            proofs: Vec::new(),
            excerpt,
            tally,
            voice,
            last_words: state.last_words,
            farewells: state.farewells,
            over: None,
            succession,
        };
        if let Err(error) = prepared {
            event_loop.tell(&format!("{NOT_REMEMBERED}: {error}; {ITS_END}"));
        }
        event_loop.seek_proof();
        if let Some(check) = state.check {
            event_loop.proving.resume(check);
        }
        // From here on a crash is met by this image; what the one before has left for itself can go.
        event_loop.remember();
        sys::reexec::settle();
        drop(file);
        event_loop.account_for_the_change(crash, state.upgrade, &state.version, state.trial);
        event_loop
    }

    /// Says what has happened, and to whoever waits for an upgrade whether this is it.
    fn account_for_the_change(
        &mut self,
        crash: Option<String>,
        upgrade: Option<state::Upgrade>,
        from: &str,
        trial: Option<state::Trial>,
    ) {
        match (crash, upgrade) {
            (None, Some(upgrade)) => self.upgraded(upgrade, from),
            (Some(reason), Some(upgrade)) => {
                let reason = format!("the new program could not go on: {reason}");
                self.refuse_upgrade(upgrade.request, &reason);
                self.find_out_what_happened();
            }
            (crash, None) => {
                let reason = crash.unwrap_or_else(|| "for a reason that is not known".to_owned());
                self.tell(&format!(
                    "the superdaemon (start_server {from}) crashed: {reason}; it goes on where it was{}",
                    match sys::reexec::recent_crashes() {
                        0 | 1 => String::new(),
                        count if count < sys::reexec::MOST_IN_A_ROW => format!(" (crash {count} within a minute)"),
                        count => format!(
                            " (crash {count} within a minute: after the next one it waits until the minute is over, \
                             while the workers serve)"
                        ),
                    }
                ));
                if let Some(trial) = trial {
                    // It was tried out in vain.
                    let _ = process_tree::kill_family(trial.pid, |_| false);
                    self.refuse_upgrade(trial.request, "the superdaemon crashed while it was tried out");
                }
                self.find_out_what_happened();
                if let Some(control) = &mut self.parts.control {
                    control.apologize(now());
                }
            }
        }
        // A child's end that was reported meanwhile is not reported again.
        self.reap();
        self.remember();
    }

    /// A crash has lost whatever was done in the turn that it came in.
    fn find_out_what_happened(&mut self) {
        let us = rustix::process::getpid().as_raw_pid();
        let is_child = |pid: i32| process_tree::read(pid).is_some_and(|process| process.parent == us);
        let states = self.supervisor.generations();
        let held: Vec<i32> = self.orphans.iter().map(|orphan| orphan.pid).collect();
        let workers = states.iter().flat_map(|state| &state.workers).copied();
        let gone: Vec<Pid> = workers.filter(|pid| !held.contains(&pid.0) && !is_child(pid.0)).collect();
        // What is known comes again by itself: the attempt, its deadline or that of an automatic restart, which is due
        // still, and what follows from the death of a worker. A request is not.
        let is_due = self.supervisor.next_deadline().is_some_and(|deadline| deadline <= now());
        let comes_again = self.supervisor.is_attempting() || is_due || !gone.is_empty();
        self.end_lost_attempts(if comes_again { "" } else { ", and the restart that it was for is not tried again" });
        for pid in gone {
            self.feed(Event::Exited { pid, status: ExitStatus::UNKNOWN });
        }
        let now = now();
        if let Some(pid) = self.proving.check_pid().filter(|pid| !is_child(*pid)) {
            self.tell(&format!("the check command (pid {pid}) has ended unseen; it is run again"));
            self.proofs.extend(self.proving.check_ended(ExitStatus::UNKNOWN, now));
        }
        if let Some(log_command) = &mut self.parts.log_command
            && log_command.pid().is_some_and(|pid| !is_child(pid))
        {
            let line = log_command.died(ExitStatus::UNKNOWN, now);
            self.tell(&line);
        }
        self.publish_anew();
    }

    /// A worker that was spawned in the turn of the crash is nobody's: it is ended, and its number is taken. What that
    /// means is said at the end of the line.
    fn end_lost_attempts(&mut self, meaning: &str) {
        // As many are not spawned in one turn. A worker can write any number into its environment.
        const MOST: u32 = 16;
        let us = rustix::process::getpid().as_raw_pid();
        let last = self.supervisor.last_number().0;
        let is_lost = |number: &u32| *number > last && *number - last <= MOST;
        // It is our child, and what it has left is too; the workers of another superdaemon, which is our worker, are not.
        let is_child = |pid: &i32| process_tree::read(*pid).is_some_and(|process| process.parent == us);
        let asked = process_tree::descendants(us).into_iter().filter(|pid| is_child(pid) && !self.apart.has(*pid));
        let asked: Vec<i32> = asked.collect();
        let number = |value: OsString| -> Option<u32> { value.to_str()?.parse().ok() };
        let lost: Vec<(i32, u32)> = process_tree::variables(&asked, "SERVER_STARTER_GENERATION", MARK_PATIENCE)
            .into_iter()
            .filter_map(|(pid, value)| Some((pid, number(value).filter(is_lost)?)))
            .collect();
        for (pid, number) in lost {
            self.supervisor.skip_numbers(GenerationNumber(number));
            let _ = process_tree::kill_family(pid, |_| false);
            self.tell(&format!(
                "generation {number} (pid {pid}) was spawned just before the crash; it is ended{meaning}"
            ));
        }
    }
}

/// What an image needs besides the state to go on.
#[derive(Debug)]
pub struct Arrival {
    pub resumption: Resumption,
    /// The command line in force.
    pub command_line: Vec<OsString>,
}

impl Newborn {
    fn state(&self, kept: &mut Kept) -> state::Newborn {
        state::Newborn { generation: self.generation, pid: self.pid, report: kept.keep(self.report.as_fd()) }
    }
}

impl Tally {
    fn state(&self) -> state::Tally {
        state::Tally {
            since: self.since,
            restarts: self.restarts,
            failures: self.failures,
            last_failure: self.last_failure.clone(),
            upgrades: self.upgrades,
            crashes: self.crashes,
        }
    }

    fn resume(tally: state::Tally) -> Self {
        Self {
            since: tally.since,
            restarts: tally.restarts,
            failures: tally.failures,
            last_failure: tally.last_failure,
            upgrades: tally.upgrades,
            crashes: tally.crashes,
        }
    }
}

/// Whether a program file is the one that this process runs: then it is no way back.
fn is_this_program(file: std::os::fd::BorrowedFd<'_>) -> bool {
    use std::os::unix::fs::MetadataExt;
    let ours = std::fs::metadata("/proc/self/exe").map(|ours| (ours.dev(), ours.ino()));
    rustix::fs::fstat(file).is_ok_and(|file| ours.is_ok_and(|ours| ours == (file.st_dev, file.st_ino)))
}
