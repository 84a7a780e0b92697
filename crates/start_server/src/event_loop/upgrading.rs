//! An upgrade in place: the program on disk is tried out on a copy of the state, and if it could go on from there, it
//! takes the place of this one at the end of the turn. Whatever goes wrong, nothing has changed.

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use control::Reply;
use supervisor::{ExitStatus, Instant, Pid, RequestId};

use super::remembering::words;
use super::{EventLoop, now};
use crate::handover::{self, Trial, Verdict, state};
use crate::messages::span;

impl EventLoop {
    /// Tries a program out, to be executed in our place: the one at `path`, or the one that we were started from; with
    /// these arguments, or those in force.
    pub(super) fn begin_upgrade(
        &mut self,
        request: Option<RequestId>,
        path: Option<PathBuf>,
        arguments: Option<Vec<OsString>>,
    ) {
        let succession = &self.succession;
        if succession.trial.is_some() || succession.accepted.is_some() {
            return self.refuse_upgrade(request, "another one is under way");
        }
        let first = match (&path, succession.command_line.first()) {
            (None, Some(first)) => first.clone(),
            (Some(path), _) => path.clone().into_os_string(),
            (None, None) => succession.path.clone().into_os_string(),
        };
        let rest = arguments.unwrap_or_else(|| succession.command_line.iter().skip(1).cloned().collect());
        let command_line: Vec<OsString> = std::iter::once(first).chain(rest).collect();
        let path = path.unwrap_or_else(|| succession.path.clone());
        let begun = handover::write(&self.state(None).0, &succession.unknown)
            .and_then(|state| Trial::begin(request, path, command_line, &state, &self.parts.listeners, now()));
        match begun {
            Ok(trial) => {
                self.tell(&format!("upgrade: trying out {} (pid {})", trial.path.display(), trial.pid));
                self.succession.trial = Some(trial);
            }
            Err(reason) => self.refuse_upgrade(request, &reason),
        }
    }

    /// Whether this child was a program on trial. If so, what follows from its end is under way.
    pub(super) fn trial_ended(&mut self, pid: Pid, status: ExitStatus) -> bool {
        let Some(mut trial) = self.succession.trial.take_if(|trial| trial.pid == pid.0) else { return false };
        match trial.verdict(status) {
            Verdict::Accepted { version } => self.succession.accepted = Some((trial, version)),
            Verdict::Refused { reason } => self.refuse_upgrade(trial.request, &reason),
        }
        true
    }

    /// When the trial is over, one way or the other.
    pub(super) fn trial_deadline(&self) -> Option<Instant> {
        self.succession.trial.as_ref().map(|trial| trial.deadline)
    }

    /// Ends a trial that takes too long.
    pub(super) fn limit_trial(&mut self, now: Instant) {
        if let Some(trial) = self.succession.trial.take_if(|trial| trial.deadline <= now) {
            trial.end();
            let reason = format!(
                "{} did not say within {} whether it can take over",
                trial.path.display(),
                span(handover::TRIAL_PATIENCE)
            );
            self.refuse_upgrade(trial.request, &reason);
        }
    }

    /// Whoever asked for the upgrade will not wait any longer. Whether it was an upgrade that was asked for.
    pub(super) fn give_up_upgrade(&mut self, request: RequestId) -> bool {
        let Some(trial) = self.succession.trial.take_if(|trial| trial.request == Some(request)) else { return false };
        trial.end();
        self.tell("upgrade: given up, because nobody waits for it any more; nothing has changed");
        let serving = self.supervisor.current().map(|generation| generation.0);
        let reply = Reply::TimedOut { committed: None, draining: Vec::new(), serving, abandoned: true };
        if let Some(control) = &mut self.parts.control {
            control.answer(request, &reply, now());
        }
        true
    }

    /// Executes the program that has stood its trial. If that can be done, this image ends here.
    pub(super) fn complete_upgrade(&mut self) {
        let Some((trial, version)) = self.succession.accepted.take() else { return };
        self.tell(&format!("upgrade: executing {} (start_server {version})", trial.path.display()));
        let upgrade = state::Upgrade { request: trial.request, path: trial.path.as_path().into(), at: now() };
        // The next image does not know what they do.
        self.apart.end_all();
        self.look_at_listeners();
        let (state, kept) = self.state(Some(upgrade));
        let path = CString::new(trial.path.as_os_str().as_bytes()).unwrap_or_default();
        let written = handover::write(&state, &self.succession.unknown);
        let reason = match (written, &mut self.succession.survival) {
            (Ok(text), Some(survival)) => {
                let error = survival.execute(&path, words(&trial.command_line), &text, kept.numbers());
                format!("{} cannot be executed: {error}", trial.path.display())
            }
            (Err(error), _) => error,
            (Ok(_), None) => "the state cannot be handed over on this machine".to_owned(),
        };
        self.refuse_upgrade(trial.request, &reason);
    }

    /// This image is the upgrade.
    pub(super) fn upgraded(&mut self, upgrade: state::Upgrade, from: &str) {
        let to = env!("CARGO_PKG_VERSION");
        self.tell(&format!("upgrade: start_server {from} has become {to} within {}", span(now().since(upgrade.at))));
        if let (Some(request), Some(control)) = (upgrade.request, &mut self.parts.control) {
            control.answer(request, &Reply::Upgraded { from: from.to_owned(), to: to.to_owned() }, now());
        }
    }

    pub(super) fn refuse_upgrade(&mut self, request: Option<RequestId>, reason: &str) {
        if let (Some(request), Some(control)) = (request, &mut self.parts.control) {
            control.answer(request, &Reply::Refused { reason: reason.to_owned() }, now());
        }
        self.tell(&format!("upgrade: refused, nothing has changed: {reason}"));
    }
}
