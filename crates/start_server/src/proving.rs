//! Seeks the proof that a generation serves, as long as the supervisor wants one: at most for one generation at a
//! time, and nothing is polled once it is found. The event loop owns it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use supervisor::report::ReadyBy;
use supervisor::{Event, ExitStatus, Instant, RunningWorker};
use sys::accept_probe::{self, Answer, Probe};
use sys::apart::{Apart, News};

use crate::event_loop::ApartProcesses;
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
    /// When a look that shows nothing is taken for final.
    doubt_until: Instant,
    looks: usize,
    eye: Eye,
}

/// Who looks.
#[derive(Debug)]
enum Eye {
    /// A process that may be made to wait: what it looks at can be a page of a file system that does not answer, or a
    /// lock that is held for as long as somebody likes.
    Apart(Apart),
    /// A process that is to be made.
    Due(Instant),
    /// This one. Where a process may look into none but its descendants (`kernel.yama.ptrace_scope`), nobody else can. The
    /// superdaemon is not root's then, and the workers are of its own user: whom they hold up they could as well kill.
    Ours(Instant),
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
        let probe = Probe::new(listeners)?;
        let eye = if accept_probe::needs_an_ancestor() { Eye::Ours(now) } else { Eye::Due(now) };
        Ok(Self { worker, probe, doubt_until: now.plus(doubt), looks: 0, eye })
    }

    fn step(&mut self, apart: &mut ApartProcesses, now: Instant) -> Step {
        match &self.eye {
            Eye::Apart(process) => match process.news() {
                News::None => Step::default(),
                News::Said(report) => self.conclude(&report),
                // It was ended, or could not be heard.
                News::Ended => {
                    self.eye = Eye::Due(now.plus(self.pause()));
                    Step::default()
                }
            },
            Eye::Due(due) if *due <= now => {
                self.eye = self.begin(apart, now).map_or(Eye::Due(now.plus(AGAIN)), Eye::Apart);
                Step::default()
            }
            Eye::Ours(due) if *due <= now => {
                let (worker, patience) = (self.worker.pid.0, self.doubt_until.since(now));
                match look(&self.probe, worker, patience.is_zero()) {
                    Some(report) => self.conclude(&report),
                    None => {
                        self.eye = Eye::Ours(now.plus(self.pause()));
                        Step::default()
                    }
                }
            }
            Eye::Due(_) | Eye::Ours(_) => Step::default(),
        }
    }

    /// Has a process look again and again, until there is something to report.
    fn begin(&self, apart: &mut ApartProcesses, now: Instant) -> io::Result<Apart> {
        let (probe, worker, patience) = (&self.probe, self.worker.pid.0, self.doubt_until.since(now));
        apart.begin(&[], |reporter| {
            let begun = std::time::Instant::now();
            for looks in 0.. {
                if let Some(report) = look(probe, worker, begun.elapsed() >= patience) {
                    return reporter.say(&report);
                }
                std::thread::sleep(pause_after(looks));
            }
        })
    }

    fn pause(&mut self) -> Duration {
        self.looks += 1;
        pause_after(self.looks - 1)
    }

    fn conclude(&mut self, report: &[u8]) -> Step {
        let generation = self.worker.generation;
        let (Some(mark), text) = (report.first(), String::from_utf8_lossy(report.get(1..).unwrap_or_default())) else {
            return Step::default();
        };
        if *mark == SEEN {
            Step {
                event: Some(Event::Ready { generation, by: ReadyBy::Accept }),
                line: Some(format!("generation {generation} accepts connections: {text}")),
            }
        } else {
            Step {
                event: Some(Event::ReadinessUnknown(generation)),
                line: Some(format!("generation {generation} cannot be examined: {text}")),
            }
        }
    }
}

/// The first byte of a report; the rest is what was seen, or why nothing can be.
const SEEN: u8 = b'+';
const UNKNOWN: u8 = b'?';

/// When there is no process to look with, it is tried again after this time.
const AGAIN: Duration = Duration::from_millis(100);

fn pause_after(looks: usize) -> Duration {
    Duration::from_millis(PAUSES_MS.get(looks).or(PAUSES_MS.last()).copied().unwrap_or(100))
}

/// Looks once. What there is to report, if it is final: where nothing can be seen, that it is when there was time enough.
fn look(probe: &Probe, worker: i32, is_doubt_final: bool) -> Option<Vec<u8>> {
    let (mark, text) = match probe.look(worker) {
        Answer::Yes(evidence) => (SEEN, evidence.to_string()),
        Answer::Unknown(reason) if is_doubt_final => (UNKNOWN, reason.to_string()),
        Answer::No(_) | Answer::Unknown(_) => return None,
    };
    Some([&[mark], text.as_bytes()].concat())
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
            Self::Looking(Looking { eye: Eye::Due(due) | Eye::Ours(due), .. }) => Some(*due),
            Self::Looking(_) => None,
            Self::Checking(check) => check.next_deadline(),
        }
    }

    /// To be polled for input: then [`Proving::step`] is due.
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Looking(Looking { eye: Eye::Apart(process), .. }) => Some(process.as_fd()),
            Self::Nothing | Self::Looking(_) | Self::Checking(_) => None,
        }
    }

    /// The process that looks. It is to be ended when no proof is wanted any more.
    pub fn apart(&self) -> Option<i32> {
        match self {
            Self::Looking(Looking { eye: Eye::Apart(process), .. }) => Some(process.pid()),
            Self::Nothing | Self::Looking(_) | Self::Checking(_) => None,
        }
    }

    /// Does what is due.
    pub fn step(&mut self, apart: &mut ApartProcesses, now: Instant) -> Step {
        match self {
            Self::Nothing => Step::default(),
            Self::Looking(looking) => looking.step(apart, now),
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
