//! The drill itself: finds the server, sets the clients going, restarts again and again, and gives everything that was
//! noted. Called by `main` alone; the reports are made of what it gives.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout};

use crate::cli::{Means, Plan};
use crate::clients::{self, Course, Phase, Session, either};
use crate::facts::{Facts, Restarter};
use crate::launch::Launched;
use crate::sample::{Kind, Loss, Restart, Sample, settle};
use crate::target::Endpoint;
use crate::verbs::{Refusal, Verbs, shell, start_server};

/// What came of a drill.
#[derive(Clone, Debug)]
pub struct Drill {
    /// Where the requests went.
    pub endpoint: Endpoint,
    /// Every request.
    pub samples: Vec<Sample>,
    /// Every restart that was begun.
    pub restarts: Vec<Restart>,
    /// What the superdaemon showed of itself.
    pub facts: Facts,
    /// How long it took.
    pub took: Duration,
    /// Why it ended.
    pub ending: Ending,
}

/// Why a drill ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All restarts were done.
    Complete,
    /// `--duration` was over before.
    TimeIsUp,
    /// `--requests` were sent before.
    RequestsSpent,
    /// SIGINT, SIGTERM or SIGHUP came before.
    Interrupted,
    /// The superdaemon is there no longer.
    SuperdaemonGone(String),
}

/// How often the first answer of a superdaemon that was just started is looked for.
const LOOK_FOR_ANSWER: Duration = Duration::from_millis(50);
/// How long a superdaemon of Server::Starter may take to write its status file.
const WAIT_FOR_FILE: Duration = Duration::from_secs(10);
/// How often the superdaemon is asked whether the old generation has gone.
const LOOK_FOR_DRAINED: Duration = Duration::from_millis(50);
/// How often the queue is looked at.
const LOOK_AT_QUEUE: Duration = Duration::from_millis(250);
/// How long a restart waits for the clients that are to hold a request across it.
const WAIT_FOR_HALVES: Duration = Duration::from_secs(2);
/// When a held request goes on, without and with a commit to be seen.
const HOLD_BLINDLY: Duration = Duration::from_secs(2);
const HOLD_AFTER_COMMIT: Duration = Duration::from_millis(500);
/// How long a restart by a command of which nothing is known goes on after that.
const SETTLE: Duration = Duration::from_secs(1);
/// Restarts whose end nobody has seen yet last until then.
const OPEN: Duration = Duration::MAX;

/// Drills.
///
/// # Errors
///
/// There is nothing to drill: no superdaemon, or no right answer to begin with.
pub async fn drill(plan: &Plan) -> Result<Drill, String> {
    let mut signals = Signals::new().map_err(|error| format!("signals cannot be received: {error}"))?;
    let program = start_server(plan.start_server.as_deref());
    let mut launched = match &plan.launch {
        Some(words) => Some(Launched::start(words, program.clone())?),
        None => None,
    };
    let target = match (&plan.means, &launched) {
        (Means::Verb(target), _) => Some(target.clone()),
        (Means::VerbForOwn, Some(launched)) => Some(launched.target().to_vec()),
        (Means::VerbForOwn | Means::Command(_), _) => None,
    };
    let verbs = target.map(|target| Verbs::new(program, target));
    let ready = match either(find(plan, launched.as_mut(), verbs.as_ref()), signals.next()).await {
        Ok(ready) => ready,
        Err(()) => Err("interrupted before the first answer".to_owned()),
    };
    let result = match ready {
        Ok((endpoint, facts)) => Ok(load(plan, endpoint, facts, verbs, &mut signals).await),
        Err(reason) => Err(reason),
    };
    if let Some(launched) = launched {
        launched.stop().await;
    }
    result
}

/// The signals that ask for an early end.
struct Signals([Signal; 3]);

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self([signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]))
    }

    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        let _ = either(either(interrupt.recv(), terminate.recv()), hangup.recv()).await;
    }
}

/// Waits for the first right answer, and learns who restarts.
async fn find(
    plan: &Plan,
    launched: Option<&mut Launched>,
    verbs: Option<&Verbs>,
) -> Result<(Endpoint, Facts), String> {
    let endpoints = Endpoint::look_up(&plan.place, plan.anywhere)?;
    let endpoint = match launched {
        None => first_answer(plan, &endpoints).await?,
        Some(launched) => {
            let deadline = Instant::now() + plan.restart_timeout;
            loop {
                match first_answer(plan, &endpoints).await {
                    Ok(endpoint) => break endpoint,
                    Err(reason) => {
                        if let Some(end) = launched.has_ended() {
                            return Err(format!("{end}\n(it must stay in the foreground: without --daemonize)"));
                        }
                        if Instant::now() >= deadline {
                            return Err(format!(
                                "{reason}\nthe superdaemon was started, and last said:{}",
                                launched.last_words()
                            ));
                        }
                    }
                }
                sleep(LOOK_FOR_ANSWER).await;
            }
        }
    };
    let restarter = match verbs {
        None => Restarter::Command,
        Some(verbs) => match verbs.status().await {
            Ok(status) => {
                let mut facts = Facts::new(Restarter::Ours, &endpoint);
                facts.observe(&status, &endpoint);
                return Ok((endpoint, facts));
            }
            Err(refusal) if !refusal.nobody && verbs.status_file().is_some() => {
                // It writes the file when the first worker has lived for the interval.
                let written = async {
                    while !verbs.status_file().is_some_and(|file| file.exists()) {
                        sleep(LOOK_FOR_ANSWER).await;
                    }
                };
                // If that does not come, the restart will say so.
                let _ = timeout(WAIT_FOR_FILE, written).await;
                Restarter::Original
            }
            Err(refusal) => return Err(refusal.reason),
        },
    };
    let facts = Facts::new(restarter, &endpoint);
    Ok((endpoint, facts))
}

/// The first of several endpoints that answers as it should.
async fn first_answer(plan: &Plan, endpoints: &[Endpoint]) -> Result<Endpoint, String> {
    let mut complaint = String::new();
    for endpoint in endpoints {
        let ask = async { Session::open(endpoint, &plan.protocol, None).await?.ask(&plan.protocol, true).await };
        let loss = match timeout(plan.timeout, ask).await {
            Ok(Ok(())) => return Ok(endpoint.clone()),
            Ok(Err(loss)) => loss,
            Err(_) => Loss::AnswerTimeout,
        };
        let how = match loss {
            Loss::Refused => "nobody listens there".to_owned(),
            Loss::WrongStatus(status) => format!("it answers with status {status}, and only 200 to 399 are right"),
            Loss::Garbled => "the answer is not understood, or not what --expect says".to_owned(),
            Loss::AnswerTimeout => format!("no answer within {:?}", plan.timeout),
            loss => loss.name().to_owned(),
        };
        complaint = format!("{endpoint} does not answer as it should, even without a restart: {how}");
    }
    Err(complaint)
}

/// Sets the clients going and restarts under them.
async fn load(plan: &Plan, endpoint: Endpoint, facts: Facts, verbs: Option<Verbs>, signals: &mut Signals) -> Drill {
    let (phase, watched) = watch::channel(Phase::Waiting);
    let course = Rc::new(Course {
        endpoint,
        protocol: plan.protocol.clone(),
        slow: plan.slow.clone(),
        timeout: plan.timeout,
        delay: plan.delay,
        limit: plan.requests,
        begun: Instant::now(),
        phase: watched,
        sent: Cell::new(0),
        half_sent: Cell::new(0),
        samples: RefCell::default(),
    });
    let clients = set_going(plan, &course);
    let conductor = Conductor {
        plan,
        course: Rc::clone(&course),
        phase: Rc::new(phase),
        verbs: verbs.map(Rc::new),
        facts: Rc::new(RefCell::new(facts)),
        restarts: RefCell::default(),
    };
    let ending = {
        let spent = async {
            while !course.is_spent() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        let limits = either(either(sleep(plan.duration), spent), signals.next());
        match either(conductor.conduct(), limits).await {
            Ok(ending) => ending,
            Err(Ok(Ok(()))) => Ending::TimeIsUp,
            Err(Ok(Err(()))) => Ending::RequestsSpent,
            Err(Err(())) => Ending::Interrupted,
        }
    };
    conductor.phase.send_replace(Phase::Over);
    let finish = async {
        for client in clients {
            // A client that crashed has noted what it could.
            let _ = client.await;
        }
    };
    if ending != Ending::Interrupted {
        // The last requests have their time, and no more.
        let _ = either(timeout(plan.timeout + plan.delay + Duration::from_secs(1), finish), signals.next()).await;
    }
    let took = course.now();
    let mut restarts = conductor.restarts.take();
    let (samples, facts) = (course.samples.take(), conductor.facts.borrow().clone());
    settle(&mut restarts, &samples, took);
    Drill { endpoint: course.endpoint.clone(), samples, restarts, facts, took, ending }
}

/// Starts the clients, each a little after the one before.
fn set_going(plan: &Plan, course: &Rc<Course>) -> Vec<JoinHandle<()>> {
    let quick: u32 = plan.clients.iter().filter(|(kind, _)| is_quick(*kind)).map(|(_, count)| count).sum();
    let apart = Duration::from_secs(1) / plan.rate.max(1);
    let mut clients = Vec::new();
    let mut turn = 0;
    for &(kind, count) in &plan.clients {
        for _ in 0..count {
            let (first, interval) = match kind {
                kind if is_quick(kind) => (apart * turn, apart * quick),
                // As soon as the one before is over; an answer that comes at once would make a flood of it.
                _ => (Duration::ZERO, Duration::from_millis(100)),
            };
            turn += u32::from(is_quick(kind));
            clients.push(spawn_local(clients::run(Rc::clone(course), kind, first, interval)));
        }
    }
    clients
}

fn is_quick(kind: Kind) -> bool {
    matches!(kind, Kind::New | Kind::KeepAlive | Kind::Delayed)
}

/// Who restarts, and notes how that went.
struct Conductor<'a> {
    plan: &'a Plan,
    course: Rc<Course>,
    phase: Rc<watch::Sender<Phase>>,
    verbs: Option<Rc<Verbs>>,
    facts: Rc<RefCell<Facts>>,
    restarts: RefCell<Vec<Restart>>,
}

impl Conductor<'_> {
    async fn conduct(&self) -> Ending {
        sleep(self.plan.pause).await;
        for number in 1..=self.plan.restarts {
            self.wait_for_halves(number).await;
            self.begin();
            let result = self.restart(number).await;
            let ended = self.course.now();
            self.note(|restart| restart.ended = ended);
            if let Err(refusal) = &result {
                self.note(|restart| restart.failure = Some(refusal.reason.clone()));
            }
            self.tell(number);
            if let Err(Refusal { reason, nobody: true }) = result {
                return Ending::SuperdaemonGone(reason);
            }
            sleep(self.plan.pause).await;
        }
        Ending::Complete
    }

    fn holders(&self) -> u32 {
        self.plan.clients.iter().filter(|(kind, _)| *kind == Kind::Held).map(|(_, count)| count).sum()
    }

    /// Lets the clients that hold a request send the first half of it.
    async fn wait_for_halves(&self, number: u32) {
        self.course.half_sent.set(0);
        self.phase.send_replace(Phase::Hold(number));
        let sent = async {
            while self.course.half_sent.get() < self.holders() as usize {
                sleep(Duration::from_millis(5)).await;
            }
        };
        // Who has not done so by then does not hold anything, which is no reason not to restart.
        let _ = timeout(WAIT_FOR_HALVES, sent).await;
    }

    fn begin(&self) {
        self.restarts.borrow_mut().push(Restart {
            begun: self.course.now(),
            ready_after: None,
            committed: None,
            drained: None,
            ended: OPEN,
            generation: None,
            failure: None,
        });
    }

    fn note(&self, change: impl FnOnce(&mut Restart)) {
        if let Some(restart) = self.restarts.borrow_mut().last_mut() {
            change(restart);
        }
    }

    async fn restart(&self, number: u32) -> Result<(), Refusal> {
        match (&self.verbs, &self.plan.means) {
            (Some(verbs), _) if self.facts.borrow().restarter == Restarter::Ours => {
                self.restart_ours(verbs, number).await
            }
            (Some(verbs), _) => {
                let release = self.release_after(self.plan.hold.unwrap_or(HOLD_BLINDLY), number);
                verbs.restart(true, self.plan.restart_timeout).await?;
                let now = self.course.now();
                self.note(|restart| restart.drained = Some(now));
                release.done().await;
                Ok(())
            }
            (None, Means::Command(command)) => {
                let release = self.release_after(self.plan.hold.unwrap_or(HOLD_BLINDLY), number);
                let result = match timeout(self.plan.restart_timeout, shell(command)).await {
                    Ok(result) => result,
                    Err(_) => Err(format!("`{command}` took longer than {:?}", self.plan.restart_timeout)),
                };
                release.done().await;
                sleep(SETTLE).await;
                result.map_err(|reason| Refusal { reason, nobody: false })
            }
            (None, Means::Verb(_) | Means::VerbForOwn) => {
                Err(Refusal { reason: "no superdaemon was named".to_owned(), nobody: true })
            }
        }
    }

    async fn restart_ours(&self, verbs: &Rc<Verbs>, number: u32) -> Result<(), Refusal> {
        let deadline = Instant::now() + self.plan.restart_timeout;
        let _watch = self.watch_queue(verbs);
        let result = verbs.restart(false, self.plan.restart_timeout).await;
        let now = self.course.now();
        let hold = match &result {
            Ok(()) => {
                self.note(|restart| restart.committed = Some(now));
                self.plan.hold.unwrap_or(HOLD_AFTER_COMMIT)
            }
            Err(_) => Duration::ZERO,
        };
        let release = self.release_after(hold, number);
        if result.is_ok() {
            self.see_it_drained(verbs, deadline).await?;
        }
        release.done().await;
        result
    }

    /// Follows the status until only the new generation is left.
    async fn see_it_drained(&self, verbs: &Verbs, deadline: Instant) -> Result<(), Refusal> {
        loop {
            let status = verbs.status().await?;
            let now = self.course.now();
            self.facts.borrow_mut().observe(&status, &self.course.endpoint);
            let current = status.generations.iter().find(|one| Some(one.generation) == status.current);
            self.note(|restart| {
                restart.generation = status.current;
                restart.ready_after = current
                    .and_then(|one| Some(Duration::from_millis(one.spawned_ago_ms.saturating_sub(one.ready_ago_ms?))));
            });
            if status.generations.len() == 1 && current.is_some() {
                self.note(|restart| restart.drained = Some(now));
                return Ok(());
            }
            if Instant::now() >= deadline {
                let old = status.generations.iter().filter(|one| Some(one.generation) != status.current);
                let old: Vec<String> = old.map(|one| one.generation.to_string()).collect();
                return Err(Refusal {
                    reason: format!(
                        "the new generation is current, but {:?} after the restart generation {} had not gone",
                        self.plan.restart_timeout,
                        old.join(", ")
                    ),
                    nobody: false,
                });
            }
            sleep(LOOK_FOR_DRAINED).await;
        }
    }

    /// Looks at the queue of the listener as long as what is returned lives.
    fn watch_queue(&self, verbs: &Rc<Verbs>) -> Task {
        let (verbs, facts, course) = (Rc::clone(verbs), Rc::clone(&self.facts), Rc::clone(&self.course));
        Task(spawn_local(async move {
            loop {
                if let Ok(status) = verbs.status().await {
                    facts.borrow_mut().observe(&status, &course.endpoint);
                }
                sleep(LOOK_AT_QUEUE).await;
            }
        }))
    }

    /// Lets the held requests go on after a while.
    fn release_after(&self, time: Duration, number: u32) -> Task {
        let phase = Rc::clone(&self.phase);
        let time = if self.holders() == 0 { Duration::ZERO } else { time };
        Task(spawn_local(async move {
            sleep(time).await;
            phase.send_replace(Phase::Release(number));
        }))
    }

    fn tell(&self, number: u32) {
        if self.plan.quiet {
            return;
        }
        if let Some(restart) = self.restarts.borrow().last() {
            crate::say_aside(&crate::report::text::restart_line(number, restart));
        }
    }
}

/// Something that goes on beside the rest, and ends with this value.
struct Task(JoinHandle<()>);

impl Task {
    async fn done(mut self) {
        let _ = (&mut self.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
