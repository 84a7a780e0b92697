//! Guards the listeners: what is seen of them at once (`listener_guard`), and what is looked at when a generation comes
//! or goes, is mended where it can be, and said with the name of who did it. Nothing is done in the course of the end:
//! workers that stop for good may do with the sockets what they like.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::sockopt;
use rustix::process::geteuid;
use supervisor::event::Requester;
use supervisor::{Event, GenerationNumber, GenerationState, Instant, Pid, Role};
use sys::shared_options::SharedOption;
use sys::tcp_signatures::Signatures;

use super::{EventLoop, now};
use crate::errno::{io_reason, reason};
use crate::file_identity::FileIdentity;
use crate::files::Directories;
use crate::listener_guard::{
    AcceptWatch, Facts, FileState, KeptName, ListenerWatch, Moment, Queues, SharedSocket, Sight, Turned, Verdict,
    accepted, deed, hold_accepted, put_back, restored,
};
use crate::listeners::{BoundAddress, Kind, Listener, Listeners};
use crate::messages::{plural, span};

/// So often one listener is mended between two comings or goings of generations: a worker that breaks it in a loop must
/// not keep the superdaemon busy.
const MOST_REPAIRS: u32 = 10;

/// A generation that breaks its own listener is replaced once in this time.
const RESTART_AGAIN: Duration = Duration::from_secs(60);

/// It takes the kernel milliseconds to say who waits, so it is not asked more often.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// What is known of the listeners.
#[derive(Debug)]
pub(super) struct Guards {
    watch: ListenerWatch,
    guarded: Vec<Guarded>,
    /// When the program was last restarted for the sake of a listener.
    restarted_at: Option<Instant>,
    /// It is to be restarted when all listeners were looked at.
    wants_restart: bool,
    /// When it was last found out who waits.
    asked_at: Option<Instant>,
}

/// What is known of one listener.
#[derive(Debug)]
struct Guarded {
    /// The length of the accept queue that the kernel gave us.
    backlog: u32,
    file: Option<KeptName>,
    clients: AcceptWatch,
    /// The generation of which it was said that nobody accepts.
    accused: Option<GenerationNumber>,
    /// Since a generation came or went.
    repairs: u32,
    /// It hangs up for good, so it is not watched until a generation comes or goes.
    given_up: bool,
    /// Somebody else's file at our path, of which that was said.
    foreign: Option<FileIdentity>,
    facts: Facts,
    /// What the service manager has set and is left so.
    accepted: Vec<SharedOption>,
    said: Said,
}

/// What is said once.
#[derive(Debug, Default)]
struct Said {
    backlog: bool,
    shut_down: bool,
    /// What cannot be put back.
    lasting: Vec<SharedOption>,
}

/// Who served before an event, and whether the event takes a worker away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    current: Option<GenerationNumber>,
    gone: Option<(GenerationNumber, Pid)>,
}

/// What helps a listener that was shut down.
#[derive(Debug)]
enum Cure {
    /// It has helped already.
    ListensAgain,
    NewSocket,
    /// Why nothing helps.
    None(String),
}

/// Who has done something to a listener.
#[derive(Debug)]
struct Culprit {
    name: String,
    /// Whether it was on its way out.
    leaves: bool,
}

impl Guards {
    /// Begins to watch. `report` gets lines to log.
    pub fn new(listeners: &Listeners, report: &mut dyn FnMut(String)) -> Self {
        let mut guards = Self {
            watch: ListenerWatch::new(),
            guarded: Vec::new(),
            restarted_at: None,
            wants_restart: false,
            asked_at: None,
        };
        let queues = Queues::default();
        let mut directories = Directories::default();
        for (place, listener) in listeners.all().iter().enumerate() {
            let file = listener.file();
            let file = file.and_then(|(path, identity)| KeptName::of(path, identity, &mut directories).ok());
            if let Some(file) = &file {
                guards.watch.add_file(file.path());
                if !file.is_kept() {
                    report(format!(
                        "{} cannot have a second name in its directory; should a server remove it, it is bound again \
                         and the program restarted",
                        file.path().display()
                    ));
                }
            }
            // A UDP socket that was shut down cannot be told from one with an error to read, and cannot be mended.
            if listener.kind() != Kind::Udp {
                guards.watch.add(place, listener.as_fd());
            }
            let backlog = SharedSocket::of(listener).queue_of_many(&queues).map_or(0, |queue| queue.backlog);
            let facts = facts(listener);
            // We have set nothing of the kind, so a socket of ours that has it has it of a worker.
            let accepted = if listener.is_managers() { accepted(listener.as_fd(), facts) } else { Vec::new() };
            guards.guarded.push(Guarded {
                backlog,
                file,
                facts,
                accepted,
                clients: AcceptWatch::Over,
                accused: None,
                repairs: 0,
                given_up: false,
                foreign: None,
                said: Said::default(),
            });
        }
        guards
    }
}

/// When to look.
impl EventLoop {
    /// Readable when there is something to see of the listeners.
    pub(super) fn watched_listeners(&self) -> Option<BorrowedFd<'_>> {
        self.guards.watch.as_fd().filter(|_| !self.supervisor.is_stopping())
    }

    /// Looks at what was seen.
    pub(super) fn see_to_listeners(&mut self) {
        for sight in self.guards.watch.sights() {
            match sight {
                Sight::HungUp(place) => self.revive(place, None),
                Sight::Waiting(place) => {
                    if let Some(listener) = self.parts.listeners.all().get(place) {
                        self.guards.watch.tell_of_clients(place, listener.as_fd(), false);
                    }
                    self.look_at_clients_of(place, now());
                }
                Sight::Files => self.check_files(None),
            }
        }
        self.restart_if_wanted();
    }

    /// To be asked before an event is dealt with, for [`Self::guard_listeners`] after it.
    pub(super) fn who_serves(&self, event: &Event) -> Before {
        let gone = match event {
            Event::Exited { pid, .. } => self
                .supervisor
                .generations()
                .iter()
                .find(|state| state.workers.contains(pid))
                .map(|state| (state.number, *pid)),
            _ => None,
        };
        Before { current: self.supervisor.current(), gone }
    }

    /// Looks at all listeners if a generation has come or gone.
    pub(super) fn guard_listeners(&mut self, before: Before) {
        let current = self.supervisor.current();
        let has_come = current.is_some() && current != before.current;
        if !(has_come || before.gone.is_some()) || self.supervisor.is_stopping() {
            return;
        }
        for (place, guarded) in self.guards.guarded.iter_mut().enumerate() {
            guarded.repairs = 0;
            // One that could not be mended may be now.
            if guarded.given_up
                && let Some(listener) = self.parts.listeners.all().get(place)
            {
                guarded.given_up = false;
                self.guards.watch.add(place, listener.as_fd());
            }
        }
        self.see_to_listeners();
        self.check_files(before.gone);
        let queues = Queues::default();
        let signatures = self.signatures();
        for place in 0..self.guards.guarded.len() {
            self.restore(place, before.gone, &queues);
            self.put_options_back(place, before.gone, Moment::Change);
            self.take_signatures(place, before.gone, &signatures);
        }
        self.restart_if_wanted();
        // Who was accepted by an older generation says nothing of this one: so once more when that has gone.
        if has_come || before.gone.is_some_and(|(gone, _)| current.is_some_and(|current| gone < current)) {
            self.wait_for_clients();
        }
    }

    /// Before a generation is spawned: it is to find the listeners as the first one did.
    pub(super) fn prepare_listeners(&mut self) {
        // Nobody had them yet.
        if self.supervisor.last_number() <= GenerationNumber(1) {
            return;
        }
        for place in 0..self.guards.guarded.len() {
            self.put_options_back(place, None, Moment::Spawn);
        }
    }

    /// When somebody has waited long enough to be looked at again.
    pub(super) fn next_look_at_clients(&self) -> Option<Instant> {
        let looks = self.guards.guarded.iter().filter_map(|guarded| guarded.clients.next_look()).min();
        looks.filter(|_| !self.supervisor.is_stopping())
    }

    /// Looks at those who have waited long enough.
    pub(super) fn look_at_clients(&mut self, now: Instant) {
        if self.next_look_at_clients().is_none_or(|look_at| look_at > now) {
            return;
        }
        for place in 0..self.guards.guarded.len() {
            let next = self.guards.guarded.get(place).and_then(|guarded| guarded.clients.next_look());
            if next.is_some_and(|look_at| look_at <= now) {
                self.look_at_clients_of(place, now);
            }
        }
    }
}

/// What to do.
impl EventLoop {
    /// Makes a listener usable again that was shut down.
    fn revive(&mut self, place: usize, gone: Option<(GenerationNumber, Pid)>) {
        let Some(listener) = self.parts.listeners.all().get(place) else { return };
        let Some(guarded) = self.guards.guarded.get_mut(place) else { return };
        let shared = SharedSocket::of(listener);
        if !shared.is_shut_down() {
            return;
        }
        guarded.repairs += 1;
        let repairs = guarded.repairs;
        let cure = match listener.address() {
            _ if repairs > MOST_REPAIRS => {
                Cure::None("again and again; it is left so until a generation comes or goes".into())
            }
            BoundAddress::Internet(address) => match shared.listen_again(*address, guarded.backlog) {
                Ok(()) => Cure::ListensAgain,
                Err(errno) => Cure::None(format!(
                    "and it does not listen again: {}; clients are refused until the superdaemon is stopped and started",
                    reason(errno.raw_os_error())
                )),
            },
            BoundAddress::Path(_) if listener.is_managers() => Cure::None(
                "whose file is the service manager's; clients are refused until its socket unit is restarted"
                    .to_owned(),
            ),
            BoundAddress::Path(_) => Cure::NewSocket,
            BoundAddress::Abstract(_) => Cure::None(
                "whose abstract name cannot be bound again while a worker holds it; clients are refused until the \
                 superdaemon is stopped and started"
                    .to_owned(),
            ),
        };
        if let Cure::None(_) = cure {
            guarded.given_up = true;
            self.guards.watch.remove(shared.socket);
        }
        let culprit = self.culprit(gone);
        let what = format!("{} has shut down the listener {}", culprit.name, title(listener));
        match cure {
            Cure::ListensAgain => self.tell(&format!("{what}; it listens again, the connections that waited are lost")),
            Cure::NewSocket => self.bind_again(place, &what, &culprit),
            Cure::None(why) => self.tell(&format!("{what}, {why}")),
        }
    }

    /// Puts a new socket at the path of one that is of no more use, and has the program restarted that holds the old
    /// one. `what` has happened, says the beginning of a line.
    fn bind_again(&mut self, place: usize, what: &str, culprit: &Culprit) {
        let Some(listener) = self.parts.listeners.all().get(place) else { return };
        let Some(guarded) = self.guards.guarded.get_mut(place) else { return };
        let Some(file) = &mut guarded.file else { return };
        // Whatever happens to it from now on is no news; and a set must not hold what is closed here but not by workers.
        self.guards.watch.remove(listener.as_fd());
        guarded.given_up = true;
        if let FileState::Replaced(found) = file.check() {
            guarded.foreign = Some(found);
            let path = file.path().display().to_string();
            return self.tell(&format!("{what}; {path} is somebody else's now and is left alone"));
        }
        file.give_way();
        let bound = self.parts.listeners.bind_again(place, file.mode()).map_err(|error| error.to_string());
        let renewed = bound.and_then(|old| {
            // Whoever had connected may have sent something that a close waits for.
            old.into_iter().for_each(|old| self.apart.close(old));
            let listener = self.parts.listeners.all().get(place).ok_or_else(String::new)?;
            file.renewed(listener.as_fd()).map_err(|error| io_reason(&error))
        });
        match (renewed, self.parts.listeners.all().get(place)) {
            (Ok(renewed), Some(listener)) => {
                self.guards.watch.add_file(renewed.path());
                self.guards.watch.add(place, listener.as_fd());
                guarded.file = Some(renewed);
                guarded.given_up = false;
                guarded.clients = AcceptWatch::Over;
                self.parts.service_manager.keep_instead(listener);
                self.restart_for_a_new_socket(&format!("{what}; it is bound again"), culprit);
            }
            (Err(why), _) => self.tell(&format!(
                "{what}, and it is not bound again: {why}; clients are refused, and it is tried again when a generation \
                 comes or goes"
            )),
            (Ok(_), None) => {}
        }
    }

    /// Who holds the old socket cannot accept any more.
    fn restart_for_a_new_socket(&mut self, what: &str, culprit: &Culprit) {
        let now = now();
        let states = self.supervisor.generations();
        let serving = states.iter().find(|state| !leaves(state));
        let Some(serving) = serving else {
            return self.tell(&format!("{what}, and the next generation gets the new socket"));
        };
        let name = name(serving);
        let recent = self.guards.restarted_at.is_some_and(|at| now.since(at) < RESTART_AGAIN);
        if recent && !culprit.leaves && !self.guards.wants_restart {
            return self.tell(&format!(
                "{what}, but {name} has the old socket; a restart for the same reason was of no use, so mend the \
                 program and restart it"
            ));
        }
        self.guards.restarted_at = Some(now);
        self.guards.wants_restart = true;
        self.tell(&format!("{what}, and since {name} has the old socket it is replaced"));
    }

    /// One restart for all listeners that a server has shut down.
    fn restart_if_wanted(&mut self) {
        if std::mem::take(&mut self.guards.wants_restart) {
            self.feed(Event::Restart(Requester::Superdaemon));
        }
    }

    /// Puts the files of unix sockets back that were removed.
    fn check_files(&mut self, gone: Option<(GenerationNumber, Pid)>) {
        for place in 0..self.guards.guarded.len() {
            let Some(guarded) = self.guards.guarded.get_mut(place) else { return };
            let Some(file) = &mut guarded.file else { continue };
            if guarded.repairs >= MOST_REPAIRS {
                continue;
            }
            let path = file.path().display().to_string();
            match file.check() {
                FileState::InPlace => guarded.foreign = None,
                FileState::PutBack => {
                    guarded.foreign = None;
                    guarded.repairs += 1;
                    let who = self.culprit(gone).name;
                    self.tell(&format!("{who} has removed {path}; it is put back, and clients can connect again"));
                }
                FileState::Replaced(found) => {
                    if guarded.foreign != Some(found) {
                        guarded.foreign = Some(found);
                        self.tell(&format!(
                            "{path} is somebody else's now, and clients do not reach this service by it; it is left \
                             alone, and put back should it become free"
                        ));
                    }
                }
                FileState::Lost => {
                    guarded.repairs += 1;
                    let culprit = self.culprit(gone);
                    self.bind_again(place, &format!("{} has removed {path} for good", culprit.name), &culprit);
                }
            }
        }
    }

    /// What else a server may have changed.
    fn restore(&mut self, place: usize, gone: Option<(GenerationNumber, Pid)>, queues: &Queues) {
        let Some(listener) = self.parts.listeners.all().get(place) else { return };
        let Some(guarded) = self.guards.guarded.get(place) else { return };
        let (title, shared) = (title(listener), SharedSocket::of(listener));
        let mut lines = Vec::new();
        let (mut backlog_said, mut shut_down_said) = (guarded.said.backlog, guarded.said.shut_down);
        let backlog = guarded.backlog;
        let who = |this: &Self| this.culprit(gone).name;
        // A longer queue does no harm. That of a listener which was shut down is none.
        if let Some(queue) = shared.queue_of_many(queues)
            && queue.backlog < backlog
            && !shared.is_shut_down()
        {
            if shared.listen(backlog).is_ok() {
                if !backlog_said {
                    backlog_said = true;
                    lines.push(format!(
                        "the program has reduced the backlog of {title} to {}; it is {backlog} again, and will be after \
                         each restart",
                        queue.backlog
                    ));
                }
            } else if let BoundAddress::Internet(address) = listener.address()
                && shared.listen_again(*address, backlog).is_ok()
            {
                lines.push(format!(
                    "{} has made a connection of the listener {title}; it listens again, the connections that waited \
                     are lost",
                    who(self)
                ));
            }
        }
        if shared.disconnect(listener.address()) {
            let kind = if shared.kind == Kind::Udp { "UDP" } else { "datagram" };
            lines.push(format!(
                "{} has connected the {kind} listener {title} to one peer; it takes datagrams of all again",
                who(self)
            ));
        }
        if shared.kind == Kind::Udp && shared.is_shut_down() && !shut_down_said {
            shut_down_said = true;
            lines.push(format!(
                "{} has shut down the UDP listener {title}, which cannot be undone: datagrams arrive, but programs that \
                 wait for them in recv find the end instead; stop and start again",
                who(self)
            ));
        }
        if let Some(guarded) = self.guards.guarded.get_mut(place) {
            (guarded.said.backlog, guarded.said.shut_down) = (backlog_said, shut_down_said);
        }
        lines.iter().for_each(|line| self.tell(line));
    }

    /// Sets back what a worker can set to keep clients from all others.
    fn put_options_back(&mut self, place: usize, gone: Option<(GenerationNumber, Pid)>, moment: Moment) {
        let Some(listener) = self.parts.listeners.all().get(place) else { return };
        let Some(guarded) = self.guards.guarded.get_mut(place) else { return };
        let found = put_back(listener.as_fd(), guarded.facts, moment, &guarded.accepted);
        if found.is_empty() {
            return;
        }
        let title = title(listener);
        let who = self.culprit(gone).name;
        for Turned { option, failure } in found {
            let what = deed(option, &title);
            let Some(guarded) = self.guards.guarded.get_mut(place) else { return };
            let line = match failure {
                None if moment == Moment::Spawn => {
                    format!(
                        "a server has {what}; it is taken back for the next generation, which may set it for itself"
                    )
                }
                None => format!("{who} has {what}; {}", restored(option)),
                Some(_) if guarded.said.lasting.contains(&option) => continue,
                Some(errno) => {
                    guarded.said.lasting.push(option);
                    format!(
                        "{who} has {what}, which cannot be undone: {}; clients may not be served until the superdaemon \
                         is stopped and started",
                        reason(errno.raw_os_error())
                    )
                }
            };
            self.tell(&line);
        }
    }

    /// The keys of TCP listeners; see [`Signatures`]. Only root is told of them.
    fn signatures(&self) -> Signatures {
        let has_tcp = self.parts.listeners.all().iter().any(|listener| listener.kind() == Kind::Tcp);
        if has_tcp && geteuid().is_root() { Signatures::read().unwrap_or_default() } else { Signatures::default() }
    }

    fn take_signatures(&mut self, place: usize, gone: Option<(GenerationNumber, Pid)>, signatures: &Signatures) {
        let Some(listener) = self.parts.listeners.all().get(place) else { return };
        if listener.kind() != Kind::Tcp {
            return;
        }
        let taken = signatures.take_from(listener.as_fd());
        let title = title(listener);
        let what = format!("set a key of TCP_MD5SIG for the listener {title}");
        match taken {
            Ok(false) => {}
            Ok(true) => {
                let who = self.culprit(gone).name;
                self.tell(&format!("{who} has {what}; clients without it are answered again"));
            }
            Err(error) => {
                let who = self.culprit(gone).name;
                self.tell(&format!(
                    "{who} has {what}, which cannot be undone: {}; clients may not be served until the superdaemon is \
                     stopped and started",
                    io_reason(&error)
                ));
            }
        }
    }

    /// Has the kernel tell when somebody waits, once.
    fn wait_for_clients(&mut self) {
        let current = self.supervisor.current();
        for (place, guarded) in self.guards.guarded.iter_mut().enumerate() {
            let idle =
                guarded.clients == AcceptWatch::Over && (guarded.accused.is_none() || guarded.accused != current);
            if let Some(listener) = self.parts.listeners.all().get(place)
                && listener.kind().is_stream()
                && idle
            {
                guarded.clients = AcceptWatch::Armed;
                self.guards.watch.tell_of_clients(place, listener.as_fd(), true);
            }
        }
    }

    fn look_at_clients_of(&mut self, place: usize, now: Instant) {
        let Some(listener) = self.parts.listeners.all().get(place) else { return };
        let Some(guarded) = self.guards.guarded.get_mut(place) else { return };
        let shared = SharedSocket::of(listener);
        let length = || shared.queue().map(|queue| queue.waiting);
        let asked_at = &mut self.guards.asked_at;
        let asked_lately = asked_at.is_some_and(|at| now.since(at) < ASK_AGAIN);
        // Where a thousand listeners get their first clients at a time, a later look will do for most.
        if asked_lately && guarded.clients.can_be_put_off() && length() != Some(0) {
            return guarded.clients.put_off(now);
        }
        let verdict = guarded.clients.look(now, length, || {
            *asked_at = Some(now);
            shared.clients()
        });
        let Verdict::NobodyAccepts { waiting, span: time } = verdict else { return };
        let states = self.supervisor.generations();
        // When there is none, everybody knows why nobody accepts.
        let Some(current) = states.iter().find(|state| state.role == Role::Current) else { return };
        // It does accept, only nobody saw it; now all of its workers are busy.
        if hold_accepted(&current.workers, listener) {
            return;
        }
        guarded.accused = Some(current.number);
        let title = title(listener);
        let line = format!(
            "nobody accepts on {title}: {}, and none was accepted for {}; {} does not use the socket that it was given, \
             or is still loading",
            plural(u64::try_from(waiting).unwrap_or(u64::MAX), "connection waits", "connections wait"),
            span(time),
            name(current)
        );
        self.tell(&line);
    }

    /// Who has most likely done what was just seen: one that has just gone, else one that is on its way out, else one
    /// that serves.
    fn culprit(&self, gone: Option<(GenerationNumber, Pid)>) -> Culprit {
        if let Some((generation, pid)) = gone {
            return Culprit {
                name: format!("generation {generation} (pid {pid}), which has just ended,"),
                leaves: true,
            };
        }
        let states = self.supervisor.generations();
        let leaving: Vec<String> = states.iter().filter(|state| leaves(state)).map(name).collect();
        if let [one] = leaving.as_slice() {
            return Culprit { name: format!("{one}, which was told to stop,"), leaves: true };
        }
        if !leaving.is_empty() {
            return Culprit { name: format!("one of {}, which were told to stop,", leaving.join(", ")), leaves: true };
        }
        let living: Vec<String> = states.iter().map(name).collect();
        let name = match living.as_slice() {
            [] => "a process that is no worker".to_owned(),
            [one] => one.clone(),
            several => format!("one of {}", several.join(", ")),
        };
        Culprit { name, leaves: false }
    }
}

/// A listener as it is called in a line.
fn title(listener: &Listener) -> String {
    format!("{} (descriptor {})", listener.name(), listener.number())
}

fn facts(listener: &Listener) -> Facts {
    let is_v6 = matches!(listener.address(), BoundAddress::Internet(address) if address.is_ipv6());
    // Whether it is for both is asked only where it can be.
    let takes_v4 = !is_v6 || sockopt::ipv6_v6only(listener) == Ok(false);
    Facts { kind: listener.kind(), is_v6, takes_v4 }
}

fn leaves(state: &GenerationState) -> bool {
    matches!(state.role, Role::Draining | Role::Ending | Role::Stopping)
}

fn name(state: &GenerationState) -> String {
    match state.workers.first() {
        Some(pid) => format!("generation {} (pid {pid})", state.number),
        None => format!("generation {}", state.number),
    }
}
