//! The clients: each sends requests of its kind, at its pace, until the drill is over, and notes what became of them.
//! All of them run on one thread, so what they share needs no locks.

mod session;
mod wire;

pub use session::{Protocol, Session};
pub use wire::Hold;

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::sample::{Kind, Loss, Outcome, Sample};
use crate::target::Endpoint;

/// How far the drill is; the clients that hold a request look at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is restarted, or a request is held already.
    Waiting,
    /// Restart N is next: now is the time to send half a request.
    Hold(u32),
    /// Restart N is done as far as it can be with requests that are held: now the other half.
    Release(u32),
    /// No more requests.
    Over,
}

impl Phase {
    /// Whether the requests that are held across a restart may go on, because it is done or past.
    fn releases(self, restart: u32) -> bool {
        match self {
            Self::Waiting | Self::Over => false,
            Self::Hold(next) => next > restart,
            Self::Release(done) => done >= restart,
        }
    }
}

/// What all clients share.
pub struct Course {
    /// Where to.
    pub endpoint: Endpoint,
    /// What to say.
    pub protocol: Protocol,
    /// What the slow clients say.
    pub slow: Option<Protocol>,
    /// Time for a request.
    pub timeout: Duration,
    /// How long a delayed client waits between its connection and its request.
    pub delay: Duration,
    /// Requests that may be sent.
    pub limit: usize,
    /// When the drill began.
    pub begun: Instant,
    /// How far it is.
    pub phase: watch::Receiver<Phase>,
    /// Requests that were sent, or are about to be.
    pub sent: Cell<usize>,
    /// Requests of which half was sent, for the restart that is next.
    pub half_sent: Cell<usize>,
    /// What became of them.
    pub samples: RefCell<Vec<Sample>>,
}

impl Course {
    /// The time since the beginning.
    pub fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Whether as many requests were sent as may be.
    pub fn is_spent(&self) -> bool {
        self.sent.get() >= self.limit
    }

    /// Whether one more request may be sent; it counts then.
    fn admits(&self) -> bool {
        let admits = *self.phase.borrow() != Phase::Over && !self.is_spent();
        self.sent.set(self.sent.get() + usize::from(admits));
        admits
    }

    fn note(&self, kind: Kind, begun: Duration, asked: Duration, outcome: Outcome) {
        self.samples.borrow_mut().push(Sample { kind, begun, asked, ended: self.now(), outcome });
    }

    /// Waits for a phase; false if the drill is over instead.
    async fn reaches(&self, wanted: impl Fn(Phase) -> bool) -> bool {
        let mut phase = self.phase.clone();
        let found = phase.wait_for(|phase| wanted(*phase) || *phase == Phase::Over).await;
        found.is_ok_and(|phase| *phase != Phase::Over)
    }
}

/// Runs a client until the drill is over. The first request comes `first` after the beginning, the others `interval`
/// apart, or as soon as the one before is over.
pub async fn run(course: Rc<Course>, kind: Kind, first: Duration, interval: Duration) {
    match kind {
        Kind::Held => hold(&course).await,
        Kind::KeepAlive => keep_alive(&course, Pace { next: course.begun + first, interval }).await,
        Kind::New | Kind::Delayed | Kind::Slow => {
            let mut pace = Pace { next: course.begun + first, interval };
            loop {
                pace.wait(&course).await;
                if !course.admits() {
                    return;
                }
                ask_anew(&course, kind, None).await;
            }
        }
    }
}

/// When requests are due.
struct Pace {
    next: Instant,
    interval: Duration,
}

impl Pace {
    /// Waits until the next request is due. What was missed is not made up for: a client that has waited for an answer
    /// does not send a burst.
    async fn wait(&mut self, course: &Course) {
        let _ = either(sleep_until(self.next), course.reaches(|_| false)).await;
        self.next = Instant::now().max(self.next + self.interval);
    }
}

/// One half of a request before each restart, the other half after its commit.
async fn hold(course: &Rc<Course>) {
    let mut done = 0;
    while course.reaches(|phase| matches!(phase, Phase::Hold(number) if number > done)).await && course.admits() {
        if let Phase::Hold(number) = *course.phase.borrow() {
            done = number;
        }
        ask_anew(course, Kind::Held, Some(done)).await;
    }
}

/// A request on a new connection; if `held` is a restart, its second half is sent when that is released.
async fn ask_anew(course: &Rc<Course>, kind: Kind, held: Option<u32>) {
    let begun = course.now();
    let asked = Cell::new(begun);
    let connected = Cell::new(false);
    let hold = held.map(|_| Hold::new());
    let protocol = course.slow.as_ref().filter(|_| kind == Kind::Slow).unwrap_or(&course.protocol);
    let exchange = async {
        let mut session = Session::open(&course.endpoint, protocol, hold.clone()).await?;
        connected.set(true);
        if kind == Kind::Delayed {
            sleep(course.delay).await;
        }
        asked.set(course.now());
        session.ask(protocol, true).await
    };
    let patience = async {
        if let (Some(hold), Some(restart)) = (&hold, held) {
            let sent = either(hold.half_sent(), sleep(course.timeout)).await;
            course.half_sent.set(course.half_sent.get() + usize::from(sent.is_ok()));
            course.reaches(|phase| phase.releases(restart)).await;
            asked.set(course.now());
            hold.open();
        }
        let delay = if kind == Kind::Delayed { course.delay } else { Duration::ZERO };
        sleep(course.timeout + delay).await;
    };
    let outcome = match either(exchange, patience).await {
        Ok(Ok(())) => Outcome::Answered,
        Ok(Err(loss)) => Outcome::Lost(loss),
        Err(()) if connected.get() => Outcome::Lost(Loss::AnswerTimeout),
        Err(()) => Outcome::Lost(Loss::ConnectTimeout),
    };
    // Half a request that was never held across anything says nothing.
    if held.is_some() && outcome == Outcome::Answered && *course.phase.borrow() == Phase::Over {
        return;
    }
    course.note(kind, begun, asked.get(), outcome);
}

/// Many requests on one connection, and on another one when that is closed.
async fn keep_alive(course: &Rc<Course>, mut pace: Pace) {
    let mut session: Option<Session> = None;
    loop {
        pace.wait(course).await;
        if !course.admits() {
            return;
        }
        // Once more if the connection was closed while nobody used it: nothing was sent then, so nothing can be lost.
        for _ in 0..2 {
            let begun = course.now();
            let mut reused = session.take();
            if let Some(idle) = &mut reused
                && idle.is_stale().await
            {
                reused = None;
            }
            let was_used = reused.is_some();
            let open = async {
                match reused {
                    Some(session) => Ok(session),
                    None => Session::open(&course.endpoint, &course.protocol, None).await,
                }
            };
            let outcome = match timeout(course.timeout, open).await {
                Err(_) => Outcome::Lost(Loss::ConnectTimeout),
                Ok(Err(loss)) => Outcome::Lost(loss),
                Ok(Ok(mut open)) => {
                    let (sent, received) = open.traffic();
                    match timeout(course.timeout, open.ask(&course.protocol, false)).await {
                        Err(_) => Outcome::Lost(Loss::AnswerTimeout),
                        Ok(Ok(())) => {
                            session = Some(open);
                            Outcome::Answered
                        }
                        Ok(Err(_)) if was_used && open.traffic().0 == sent => continue,
                        Ok(Err(Loss::ResetBefore)) if was_used && open.traffic().1 == received => {
                            Outcome::KeepAliveRace
                        }
                        Ok(Err(loss)) => Outcome::Lost(loss),
                    }
                }
            };
            course.note(Kind::KeepAlive, begun, begun, outcome);
            break;
        }
    }
}

/// Waits for the first of two: `Ok` with what the one gives, or `Err` with what the other does.
pub async fn either<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> Result<A, B> {
    let (mut one, mut other) = (pin!(one), pin!(other));
    poll_fn(|context| match one.as_mut().poll(context) {
        Poll::Ready(found) => Poll::Ready(Ok(found)),
        Poll::Pending => other.as_mut().poll(context).map(Err),
    })
    .await
}
