//! Says who lost what was lost, why that usually happens, and what to change. Pure: sums and facts in, findings out.
//!
//! What can be known from outside: a connection that is *refused* found nobody listening, and the listener is the
//! superdaemon's affair, if it holds it. A connection that is *reset* was accepted by the server program, since the
//! kernel resets none that waits in the queue of a listener that somebody holds.

use std::time::Duration;

use crate::facts::{Facts, Restarter};
use crate::sample::{Kind, Loss, Restart};
use crate::tally::{Tally, When};

/// Whose doing something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The server program's.
    Server,
    /// The superdaemon's, or of the tool that restarts.
    Superdaemon,
    /// Of how the two are set up together: the options of the superdaemon have to fit the server program.
    Setup,
    /// Nobody's: it belongs to the protocol.
    Nobody,
    /// It cannot be told.
    Unknown,
}

impl Fault {
    /// The name in reports and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Superdaemon => "superdaemon",
            Self::Setup => "setup",
            Self::Nobody => "nobody",
            Self::Unknown => "unknown",
        }
    }
}

/// One thing that was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// A name for programs; it stays.
    pub id: &'static str,
    /// Whose doing it is.
    pub fault: Fault,
    /// How many requests it concerns.
    pub count: usize,
    /// What happened.
    pub what: String,
    /// Why that usually is.
    pub why: String,
    /// What to change.
    pub advice: String,
}

/// Who waits this much longer in a restart than anybody did in calm waits for a server.
const NOTICEABLE: Duration = Duration::from_millis(500);

/// Finds out, the gravest first.
pub fn diagnose(tally: &Tally, restarts: &[Restart], facts: &Facts) -> Vec<Finding> {
    let of_calm = tally.lost_where(|_, _, when| when == When::Calm);
    let rules = [
        refused(tally, facts),
        no_graceful_stop(tally, facts),
        held_dropped(tally),
        unread_dropped(tally, facts),
        slow_cut(tally),
        timeouts(tally, facts),
        statuses(tally),
        garbled(tally),
        unreachable(tally),
        failed_restarts(restarts),
        not_drained(tally, restarts),
        in_calm(tally, of_calm),
        waiting(tally, facts),
        races(tally),
    ];
    rules.into_iter().flatten().collect()
}

/// Whether a loss is a connection that was closed although it was open.
fn is_reset(loss: Loss) -> bool {
    matches!(loss, Loss::ResetBefore | Loss::ResetWithin)
}

/// Losses of one kind of client in restarts, by reset.
fn resets(tally: &Tally, of: impl Fn(Kind) -> bool) -> usize {
    tally.lost_where(|kind, loss, when| of(kind) && is_reset(loss) && when == When::Restart)
}

/// Whether the superdaemon is known not to hold the listener.
fn binds_itself(facts: &Facts) -> bool {
    facts.held_by_superdaemon == Some(false)
}

fn refused(tally: &Tally, facts: &Facts) -> Option<Finding> {
    let count = some(tally.lost_where(|_, loss, when| loss == Loss::Refused && when == When::Restart))?;
    let what = "connections were refused during a restart: nobody listened".to_owned();
    let id = "refused";
    Some(if binds_itself(facts) {
        Finding {
            id,
            fault: Fault::Setup,
            count,
            what,
            why: "The superdaemon holds no listener at this address: the server program binds it itself, and when the \
                  old generation closes its own listener, nobody listens until the new one has bound."
                .to_owned(),
            advice:
                "Give the address to start_server (--port, --path, --listen), and let the server take the listener \
                     that it inherits (SERVER_STARTER_PORT, --export, --preset)."
                    .to_owned(),
        }
    } else if facts.restarter == Restarter::Command {
        Finding {
            id,
            fault: Fault::Superdaemon,
            count,
            what,
            why: "The restart closes the listener and opens it again: the old process ends before the new one \
                  listens."
                .to_owned(),
            advice:
                "Let something hold the listener that outlives the server program, which is what start_server does."
                    .to_owned(),
        }
    } else {
        Finding {
            id,
            fault: Fault::Superdaemon,
            count,
            what,
            why: "A superdaemon keeps its listeners open through every restart, so one of these is true: it ended; it \
                  was itself restarted; or the address belongs to somebody else."
                .to_owned(),
            advice: "See its log, and compare the address with the listeners that start_server --status shows."
                .to_owned(),
        }
    })
}

fn no_graceful_stop(tally: &Tally, facts: &Facts) -> Option<Finding> {
    let whole = some(resets(tally, is_plain))?;
    // Whoever drops whole requests drops all others, too: that needs no finding of its own.
    let count = resets(tally, |_| true);
    let within = tally.lost_where(|_, loss, when| loss == Loss::ResetWithin && when == When::Restart);
    let part = if within > 0 { format!(", {within} in the middle of the answer") } else { String::new() };
    let what = format!("connections were dropped during a restart, {whole} of them after a whole request{part}");
    if binds_itself(facts) {
        return Some(Finding {
            id: "own-listener-closed",
            fault: Fault::Setup,
            count,
            what,
            why: "The server program binds the address itself. When it closes its listener, the kernel resets every \
                  connection that waits in the queue; and what it had accepted may have been dropped, too."
                .to_owned(),
            advice: "Give the address to start_server (--port, --path, --listen), whose listener stays open."
                .to_owned(),
        });
    }
    Some(Finding {
        id: "no-graceful-stop",
        fault: Fault::Server,
        count,
        what,
        why: "The server program accepted these connections and ended, or closed them, without an answer. It does not \
              stop gracefully on the signal that it gets: SIGTERM simply ends a program that does not handle it."
            .to_owned(),
        advice: "Let the server, when it is told to go, stop accepting, finish what it has accepted, and only then exit. \
                 Many servers do so on another signal: --signal-on-hup=QUIT (nginx, php-fpm, unicorn), or --preset=NAME, \
                 which knows the well-known ones. Also look whether --drain-timeout is long enough."
            .to_owned(),
    })
}

/// Whether clients of a kind send whole requests that are answered quickly.
fn is_plain(kind: Kind) -> bool {
    matches!(kind, Kind::New | Kind::KeepAlive)
}

/// Losses of one kind of client in restarts by reset, if the plain clients had none: else the reason is the same.
fn resets_apart(tally: &Tally, of: Kind) -> Option<usize> {
    let plain = resets(tally, is_plain);
    some(resets(tally, |kind| kind == of)).filter(|_| plain == 0)
}

/// Whether there were plain clients at all.
fn has_plain(tally: &Tally) -> bool {
    tally.kinds.keys().any(|kind| is_plain(*kind))
}

fn held_dropped(tally: &Tally) -> Option<Finding> {
    let count = resets_apart(tally, Kind::Held)?;
    let others = if has_plain(tally) {
        "Requests that were sent whole came through. If only because they are answered quickly, there is no graceful \
         stop at all, which clients with --slow-path would show; else it takes a connection with half a request for idle."
    } else {
        "Clients of the kind new would show whether it finishes whole requests."
    };
    Some(Finding {
        id: "half-request-dropped",
        fault: Fault::Server,
        count,
        what: "requests of which the server had only a part were dropped".to_owned(),
        why: format!(
            "The server program was told to go while these were on their way, as they are from clients far away or with \
             a large body. {others}"
        ),
        advice:
            "Let the server wait, within limits, for the rest of a request that has begun. A reverse proxy in front \
                 that reads requests whole before it passes them on (nginx does) hides this from users."
                .to_owned(),
    })
}

fn unread_dropped(tally: &Tally, facts: &Facts) -> Option<Finding> {
    let count = resets_apart(tally, Kind::Delayed)?;
    let advice = if facts.tcp {
        "Start the superdaemon with --defer-accept: the kernel then hands a connection to the server when its first byte \
         has come, and one that has sent nothing waits in the queue for the next generation. Or let the server treat a \
         connection on which nothing was asked yet as busy for a moment after it was told to go."
    } else {
        "Let the server treat a connection on which nothing was asked yet as busy for a moment after it was told to go \
         (--defer-accept is for TCP only)."
    };
    Some(Finding {
        id: "unread-connection-dropped",
        fault: Fault::Server,
        count,
        what: "connections on which the client had just not spoken yet were dropped".to_owned(),
        why: format!(
            "The server program accepted them, had read nothing, and closed them when it was told to go. A client that \
             is a round trip away always has such a moment. {}",
            if has_plain(tally) { "Clients that speak at once came through." } else { "" }
        ),
        advice: advice.to_owned(),
    })
}

fn slow_cut(tally: &Tally) -> Option<Finding> {
    let count = resets_apart(tally, Kind::Slow)?;
    Some(Finding {
        id: "slow-request-cut",
        fault: Fault::Server,
        count,
        what: "requests that the server was working on were dropped".to_owned(),
        why: "The old generation ended before they were done: it does not wait for running requests, waits for a \
              shorter time than they take (its own graceful timeout), or was killed at the --drain-timeout of the \
              superdaemon."
            .to_owned(),
        advice:
            "Let the server finish running requests; make its own graceful timeout, and then --drain-timeout, longer \
                 than the longest request."
                .to_owned(),
    })
}

fn timeouts(tally: &Tally, facts: &Facts) -> Option<Finding> {
    let timed_out = |loss| matches!(loss, Loss::ConnectTimeout | Loss::AnswerTimeout);
    let count = some(tally.lost_where(|_, loss, when| timed_out(loss) && when == When::Restart))?;
    let connect = tally.lost_where(|_, loss, when| loss == Loss::ConnectTimeout && when == When::Restart);
    if facts.queue_was_full() || connect > 0 {
        let queue = facts.fullest_queue.map(|(queued, backlog)| format!(" ({queued} of {backlog} waited)"));
        return Some(Finding {
            id: "queue-full",
            fault: Fault::Setup,
            count,
            what: format!("requests got no answer in time: the queue was full{}", queue.unwrap_or_default()),
            why: "Nobody accepted for so long that the queue of the listener was full, and the kernel dropped further \
                  attempts to connect."
                .to_owned(),
            advice: "Raise --backlog (and net.core.somaxconn), and shorten the time in which nobody accepts: \
                     --ready=accept or --ready=notify lets the old generation serve until the new one does."
                .to_owned(),
        });
    }
    let quick = |kind| matches!(kind, Kind::New | Kind::KeepAlive | Kind::Delayed);
    if tally.lost_where(|kind, loss, when| quick(kind) && timed_out(loss) && when == When::Restart) == 0 {
        return Some(Finding {
            id: "long-request-unanswered",
            fault: Fault::Server,
            count,
            what: "held or slow requests got no answer in time".to_owned(),
            why: "The connection stayed open, but nobody answered: the server lost track of it, or needs longer than \
                  --timeout."
                .to_owned(),
            advice: "Try a longer --timeout first; then see what the old generation does with such a request."
                .to_owned(),
        });
    }
    Some(Finding {
        id: "nobody-accepted",
        fault: Fault::Setup,
        count,
        what: "connections were taken by the kernel, but nobody answered in time".to_owned(),
        why: format!(
            "The old generation had stopped before the new one accepted: it was taken for ready too early{}.",
            match facts.ready_rule.as_deref() {
                Some("alive") => ", for the rule is “alive”, which looks at the process only",
                _ => "",
            }
        ),
        advice:
            "Use --ready=accept or --ready=notify; or an --interval that is longer than the program needs to start."
                .to_owned(),
    })
}

fn statuses(tally: &Tally) -> Option<Finding> {
    let wrong = |loss| matches!(loss, Loss::WrongStatus(_));
    let count = some(tally.lost_where(|_, loss, when| wrong(loss) && when == When::Restart))?;
    let mut seen: Vec<u16> = tally
        .losses()
        .filter_map(|(_, loss, when, _)| match loss {
            Loss::WrongStatus(status) if when == When::Restart => Some(status),
            _ => None,
        })
        .collect();
    seen.sort_unstable();
    seen.dedup();
    let list: Vec<String> = seen.iter().map(u16::to_string).collect();
    let of_a_proxy = seen.iter().any(|status| matches!(status, 502 | 504));
    Some(Finding {
        id: "wrong-status",
        fault: if of_a_proxy { Fault::Unknown } else { Fault::Server },
        count,
        what: format!("answers had the status {}", list.join(", ")),
        why: if of_a_proxy {
            "502 and 504 are what a proxy says when the server behind it dropped its request or did not answer. The \
             drill sees the proxy only."
        } else {
            "The server program answered, but with an error: it refuses work while it stops, or begins to serve before \
             it can (no database yet, no cache)."
        }
        .to_owned(),
        advice: if of_a_proxy {
            "Drill the server behind the proxy directly to see who it is; let the proxy repeat requests that are safe to \
             repeat (proxy_next_upstream in nginx)."
        } else {
            "Let the old generation answer normally until it has stopped accepting; let the new one say when it is ready \
             (--ready=notify), or have it checked (--ready=exec:COMMAND)."
        }
        .to_owned(),
    })
}

fn garbled(tally: &Tally) -> Option<Finding> {
    let count = some(tally.lost_where(|_, loss, when| loss == Loss::Garbled && when == When::Restart))?;
    Some(Finding {
        id: "wrong-answer",
        fault: Fault::Server,
        count,
        what: "answers could not be understood, or were not the expected ones".to_owned(),
        why: "Bytes came, but they are no HTTP, or do not hold what --expect says.".to_owned(),
        advice: "See what the server writes while it starts and stops.".to_owned(),
    })
}

fn unreachable(tally: &Tally) -> Option<Finding> {
    let count = some(tally.lost_where(|_, loss, when| loss == Loss::Unreachable && when == When::Restart))?;
    Some(Finding {
        id: "unreachable",
        fault: Fault::Unknown,
        count,
        what: "no connection could be made, for a reason of the network or of this machine".to_owned(),
        why: "Too many open files, no free local port, no route, no permission for the socket.".to_owned(),
        advice: "Try fewer --clients or a lower --rate; look at ulimit -n.".to_owned(),
    })
}

fn failed_restarts(restarts: &[Restart]) -> Option<Finding> {
    let failed = restarts.iter().filter(|restart| restart.committed.is_none());
    let failed: Vec<&str> = failed.filter_map(|restart| restart.failure.as_deref()).collect();
    let first = failed.first()?;
    Some(Finding {
        id: "restart-failed",
        fault: Fault::Unknown,
        count: 0,
        what: format!("{} of {} restarts failed: {first}", failed.len(), restarts.len()),
        why: "The new generation did not become current.".to_owned(),
        advice: "See the log of the superdaemon; if it takes long, give the drill a longer --restart-timeout."
            .to_owned(),
    })
}

/// The new generation is current, but the old one does not go.
fn not_drained(tally: &Tally, restarts: &[Restart]) -> Option<Finding> {
    let stayed = restarts.iter().filter(|restart| restart.committed.is_some());
    let stayed: Vec<&str> = stayed.filter_map(|restart| restart.failure.as_deref()).collect();
    let first = stayed.first()?;
    let keeps = tally.kinds.contains_key(&Kind::KeepAlive);
    Some(Finding {
        id: "old-generation-stays",
        fault: Fault::Server,
        count: 0,
        what: format!("in {} of {} restarts the old generation did not go: {first}", stayed.len(), restarts.len()),
        why: format!(
            "It waits for connections that do not end. {}",
            if keeps {
                "Clients that keep their connection, as some of this drill do, go on asking on it as long as the server \
                 answers without “Connection: close” (Node.js does, after server.close())."
            } else {
                "Web sockets, long polls and requests that hang do not; or it does not stop on its signal at all."
            }
        ),
        advice:
            "Let the server, once it is told to go, say “Connection: close” in every answer; and limit the time by \
                 --drain-timeout. A drill with --kinds=new,held shows whether it is the kept connections."
                .to_owned(),
    })
}

fn in_calm(tally: &Tally, count: usize) -> Option<Finding> {
    let count = some(count)?;
    let unanswered = tally.lost_where(|_, loss, when| loss == Loss::Refused && when == When::Calm);
    Some(Finding {
        id: "lost-in-calm",
        fault: if unanswered == count { Fault::Unknown } else { Fault::Server },
        count,
        what: "requests were lost while nothing was restarted".to_owned(),
        why: "These have nothing to do with the restarts that the drill made, unless an old generation outlived them: the \
              server fails under this load, died, or was restarted by somebody else."
            .to_owned(),
        advice: "Run the drill with --restarts=0 --pause=10s and mend this first.".to_owned(),
    })
}

/// Nobody was refused or gave up, but somebody waited.
fn waiting(tally: &Tally, facts: &Facts) -> Option<Finding> {
    let worse = |loss| matches!(loss, Loss::Refused | Loss::ConnectTimeout | Loss::AnswerTimeout);
    if tally.lost_where(|_, loss, when| worse(loss) && when == When::Restart) > 0 {
        return None;
    }
    let (calm, restarts) = (tally.calm?, tally.restarts?);
    // Of every hundred answers one: a machine under load stops a single client now and then.
    if restarts.p99 < calm.max.max(calm.p50 * 10) + NOTICEABLE {
        return None;
    }
    let rule = facts.ready_rule.as_deref();
    let advice = if matches!(rule, Some("accept" | "notify")) {
        "The rule in force may say so too early for this program, as “accept” does for one that listens before it has \
         loaded: use --ready=notify, or --kill-old-delay."
    } else {
        "Use --ready=accept or --ready=notify, so that the old generation serves until the new one does; or \
         --kill-old-delay, if the first requests are slow because caches are cold."
    };
    Some(Finding {
        id: "long-waiting",
        fault: Fault::Setup,
        count: 0,
        what: format!(
            "requests had to wait up to {} in a restart, and {} at most in calm",
            crate::report::text::time(restarts.max),
            crate::report::text::time(calm.max)
        ),
        why: "For a while nobody accepted, and connections waited in the queue: the old generation had stopped before \
              the new one was able to serve. Or the new one is slow at first."
            .to_owned(),
        advice: advice.to_owned(),
    })
}

fn races(tally: &Tally) -> Option<Finding> {
    let count = some(tally.races())?;
    let graceless = resets(tally, |_| true) > 0;
    Some(Finding {
        id: "keep-alive-race",
        fault: Fault::Nobody,
        count,
        what: "requests met the closing of their connection (not counted as lost)".to_owned(),
        why: format!(
            "The server closed a connection that had served before, at the moment at which the next request was on its \
             way. HTTP/1.1 cannot exclude that; clients and proxies send such a request again.{}",
            if graceless { " Here some may as well have been dropped like the others above." } else { "" }
        ),
        advice:
            "Fewer of them: let the server announce the end by “Connection: close” in its last answers, and keep an \
                 idle connection open a moment longer after that. In nginx as a proxy: proxy_next_upstream error."
                .to_owned(),
    })
}

fn some(count: usize) -> Option<usize> {
    (count > 0).then_some(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::{Outcome, Sample};
    use crate::target::Endpoint;

    fn ms(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn facts(change: impl FnOnce(&mut Facts)) -> Facts {
        let mut facts = Facts::new(Restarter::Ours, &Endpoint::Tcp("127.0.0.1:1".parse().unwrap()));
        facts.held_by_superdaemon = Some(true);
        change(&mut facts);
        facts
    }

    fn usual() -> Facts {
        facts(|_| ())
    }

    fn restart(failure: Option<&str>) -> Restart {
        Restart {
            begun: ms(1000),
            ready_after: None,
            committed: None,
            drained: None,
            ended: ms(2000),
            generation: None,
            failure: failure.map(str::to_owned),
        }
    }

    /// In a restart, unless `at` is below 1000; every kind had an answer in calm, too.
    fn found(outcomes: &[(Kind, u64, Outcome)], facts: &Facts) -> Vec<(&'static str, Fault, usize)> {
        let sample = |kind, at, outcome| Sample { kind, begun: ms(at), asked: ms(at), ended: ms(at + 1), outcome };
        let mut samples: Vec<Sample> = outcomes.iter().map(|(kind, at, what)| sample(*kind, *at, *what)).collect();
        samples.extend([Kind::New, Kind::KeepAlive].map(|kind| sample(kind, 0, Outcome::Answered)));
        let restarts = [restart(None)];
        let tally = Tally::of(&samples, &restarts);
        diagnose(&tally, &restarts, facts).iter().map(|found| (found.id, found.fault, found.count)).collect()
    }

    #[test]
    fn losses_are_told_apart() {
        let lost = |kind, loss| (kind, 1500, Outcome::Lost(loss));
        for (what, facts, outcomes, expected) in [
            ("nothing", usual(), vec![], vec![]),
            ("nobody listens", usual(), vec![lost(Kind::New, Loss::Refused)], vec![("refused", Fault::Superdaemon, 1)]),
            (
                "the program binds itself",
                facts(|facts| facts.held_by_superdaemon = Some(false)),
                vec![lost(Kind::New, Loss::Refused), lost(Kind::New, Loss::ResetBefore)],
                vec![("refused", Fault::Setup, 1), ("own-listener-closed", Fault::Setup, 1)],
            ),
            (
                "another tool",
                facts(|facts| facts.restarter = Restarter::Command),
                vec![lost(Kind::New, Loss::Refused)],
                vec![("refused", Fault::Superdaemon, 1)],
            ),
            (
                "no graceful stop",
                usual(),
                vec![
                    lost(Kind::New, Loss::ResetBefore),
                    lost(Kind::New, Loss::ResetWithin),
                    lost(Kind::Held, Loss::ResetBefore),
                ],
                vec![("no-graceful-stop", Fault::Server, 3)],
            ),
            (
                "only halves",
                usual(),
                vec![lost(Kind::Held, Loss::ResetBefore)],
                vec![("half-request-dropped", Fault::Server, 1)],
            ),
            (
                "only silent ones",
                usual(),
                vec![lost(Kind::Delayed, Loss::ResetBefore)],
                vec![("unread-connection-dropped", Fault::Server, 1)],
            ),
            (
                "only slow ones",
                usual(),
                vec![lost(Kind::Slow, Loss::ResetBefore)],
                vec![("slow-request-cut", Fault::Server, 1)],
            ),
            (
                "a full queue",
                facts(|facts| facts.fullest_queue = Some((9, 8))),
                vec![lost(Kind::New, Loss::AnswerTimeout)],
                vec![("queue-full", Fault::Setup, 1)],
            ),
            (
                "no connection",
                usual(),
                vec![lost(Kind::New, Loss::ConnectTimeout)],
                vec![("queue-full", Fault::Setup, 1)],
            ),
            (
                "nobody accepts",
                facts(|facts| facts.fullest_queue = Some((7, 8))),
                vec![lost(Kind::New, Loss::AnswerTimeout)],
                vec![("nobody-accepted", Fault::Setup, 1)],
            ),
            (
                "a held one is forgotten",
                usual(),
                vec![lost(Kind::Held, Loss::AnswerTimeout)],
                vec![("long-request-unanswered", Fault::Server, 1)],
            ),
            (
                "a proxy",
                usual(),
                vec![lost(Kind::New, Loss::WrongStatus(502))],
                vec![("wrong-status", Fault::Unknown, 1)],
            ),
            (
                "an error of the server",
                usual(),
                vec![lost(Kind::New, Loss::WrongStatus(503))],
                vec![("wrong-status", Fault::Server, 1)],
            ),
            ("nonsense", usual(), vec![lost(Kind::New, Loss::Garbled)], vec![("wrong-answer", Fault::Server, 1)]),
            (
                "no descriptors",
                usual(),
                vec![lost(Kind::New, Loss::Unreachable)],
                vec![("unreachable", Fault::Unknown, 1)],
            ),
            (
                "before the restart",
                usual(),
                vec![(Kind::New, 10, Outcome::Lost(Loss::ResetBefore))],
                vec![("lost-in-calm", Fault::Server, 1)],
            ),
            (
                "a race",
                usual(),
                vec![(Kind::KeepAlive, 1500, Outcome::KeepAliveRace)],
                vec![("keep-alive-race", Fault::Nobody, 1)],
            ),
        ] {
            assert_eq!(found(&outcomes, &facts), expected, "{what}");
        }
    }

    #[test]
    fn the_advice_fits_the_socket() {
        let samples = [Sample {
            kind: Kind::Delayed,
            begun: ms(1500),
            asked: ms(1500),
            ended: ms(1501),
            outcome: Outcome::Lost(Loss::ResetBefore),
        }];
        let restarts = [restart(None)];
        let tally = Tally::of(&samples, &restarts);
        for (tcp, expected) in [(true, "with --defer-accept"), (false, "for TCP only")] {
            let found = diagnose(&tally, &restarts, &facts(|facts| facts.tcp = tcp));
            assert!(found[0].advice.contains(expected), "{}", found[0].advice);
        }
    }

    #[test]
    fn who_waits_long_in_a_restart_is_noticed() {
        for (calm, longest, expected) in [(5, 2000, true), (5, 400, false), (3000, 2000, false)] {
            let answered = |at, took| Sample {
                kind: Kind::New,
                begun: ms(at),
                asked: ms(at),
                ended: ms(at + took),
                outcome: Outcome::Answered,
            };
            let restarts = [Restart { begun: ms(10_000), ended: ms(12_000), ..restart(None) }];
            let tally = Tally::of(&[answered(0, calm), answered(10_500, longest)], &restarts);
            let found = diagnose(&tally, &restarts, &usual());
            assert_eq!(found.iter().any(|found| found.id == "long-waiting"), expected, "{calm} {longest}");
        }
    }

    #[test]
    fn a_restart_that_failed_is_told() {
        let restarts = [restart(None), restart(Some("it broke"))];
        let found = diagnose(&Tally::default(), &restarts, &usual());
        assert_eq!(found.len(), 1);
        assert!(found[0].what.contains("1 of 2 restarts failed: it broke"), "{}", found[0].what);
        let restarts = [Restart { committed: Some(ms(1100)), ..restart(Some("it stays")) }];
        let found = diagnose(&Tally::default(), &restarts, &usual());
        assert_eq!((found.len(), found[0].id, found[0].fault), (1, "old-generation-stays", Fault::Server));
    }
}
