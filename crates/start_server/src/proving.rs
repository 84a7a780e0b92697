//! Seeks the proof that a generation serves, as long as the supervisor wants one: at most for one generation at a
//! time, and nothing is polled once it is found. The event loop owns it.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use supervisor::report::ReadyBy;
use supervisor::{Event, ExitStatus, Instant, RunningWorker};
use sys::accept_probe::{Answer, Probe};

use crate::handover::state;
use crate::readiness::check::Check;

/// The pauses between looks at a generation that does not accept yet; the last one repeats.
const PAUSES_MS: [u64; 5] = [5, 10, 20, 50, 100];

/// What is being done to get a proof.
#[derive(Debug, Default)]
pub enum Proving {
    /// Nothing: no proof is wanted, or it will come by itself.
    #[default]
    Nothing,
    /// Looking whether the generation waits for connections.
    Looking(Looking),
    /// Running the check command.
    Checking(Check),
}

/// The looks at one generation.
#[derive(Debug)]
pub struct Looking {
    worker: RunningWorker,
    probe: Probe,
    next: Instant,
    looks: usize,
    /// When a look that shows nothing is taken for final.
    doubt_until: Instant,
}

/// What a step brought.
#[derive(Debug, Default)]
pub struct Step {
    /// For the supervisor.
    pub event: Option<Event>,
    /// For the log.
    pub line: Option<String>,
}

impl Looking {
    /// Looks at `worker` and its descendants from now on. If nothing can be seen within `doubt`, so be it.
    ///
    /// # Errors
    /// A listener cannot be examined.
    pub fn new<'a>(
        worker: RunningWorker,
        listeners: impl Iterator<Item = BorrowedFd<'a>>,
        now: Instant,
        doubt: Duration,
    ) -> io::Result<Self> {
        Ok(Self { worker, probe: Probe::new(listeners)?, next: now, looks: 0, doubt_until: now.plus(doubt) })
    }

    fn look(&mut self, now: Instant) -> Step {
        let generation = self.worker.generation;
        match self.probe.look(self.worker.pid.0) {
            Answer::Yes(evidence) => Step {
                event: Some(Event::Ready { generation, by: ReadyBy::Accept }),
                line: Some(format!("generation {generation} accepts connections: {evidence}")),
            },
            Answer::Unknown(reason) if now >= self.doubt_until => Step {
                event: Some(Event::ReadinessUnknown(generation)),
                line: Some(format!("generation {generation} cannot be examined: {reason}")),
            },
            Answer::No(_) | Answer::Unknown(_) => {
                let pause = PAUSES_MS.get(self.looks).or(PAUSES_MS.last()).copied().unwrap_or(100);
                self.looks += 1;
                self.next = now.plus(Duration::from_millis(pause));
                Step::default()
            }
        }
    }
}

impl Proving {
    /// Whose proof is sought.
    pub fn generation(&self) -> Option<supervisor::GenerationNumber> {
        match self {
            Self::Nothing => None,
            Self::Looking(looking) => Some(looking.worker.generation),
            Self::Checking(check) => Some(check.generation()),
        }
    }

    /// When [`Proving::step`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self {
            Self::Nothing => None,
            Self::Looking(looking) => Some(looking.next),
            Self::Checking(check) => check.next_deadline(),
        }
    }

    /// Does what is due.
    pub fn step(&mut self, now: Instant) -> Step {
        if self.next_deadline().is_none_or(|due| due > now) {
            return Step::default();
        }
        match self {
            Self::Nothing => Step::default(),
            Self::Looking(looking) => looking.look(now),
            Self::Checking(check) => {
                let failed = check.run_if_due(now).err();
                let line = failed.map(|error| format!("failed to run the check command: {error}; trying again"));
                Step { event: None, line }
            }
        }
    }

    /// What the next image of the program has to know: of a check command only, looks are begun anew.
    pub fn state(&self) -> Option<state::Check> {
        match self {
            Self::Checking(check) => Some(check.state()),
            Self::Nothing | Self::Looking(_) => None,
        }
    }

    /// Goes on with the check command of the image before.
    pub fn resume(&mut self, before: state::Check) {
        if let Self::Checking(check) = self {
            check.resume(before);
        }
    }

    /// The check command while it runs.
    pub fn check_pid(&self) -> Option<i32> {
        match self {
            Self::Checking(check) => check.pid(),
            Self::Nothing | Self::Looking(_) => None,
        }
    }

    /// Whether this process is the check command.
    pub fn is_check(&self, pid: i32) -> bool {
        matches!(self, Self::Checking(check) if check.pid() == Some(pid))
    }

    /// The check command has ended.
    pub fn check_ended(&mut self, status: ExitStatus, now: Instant) -> Option<Event> {
        let Self::Checking(check) = self else { return None };
        check.ended(status, now).then(|| Event::Ready { generation: check.generation(), by: ReadyBy::Command })
    }
}
