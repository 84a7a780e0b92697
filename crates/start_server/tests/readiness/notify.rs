//! `--ready=notify`: who may say that a generation is ready, and what else can be said.

use std::fs::File;
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::{Duration, Instant};

use control::Role;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use testkit::{Builder, Daemon, Port, is_installed, testserver, wait_for};

use crate::world::{descriptors, generation, is_root, ours, put_program, running, shell, status, with_say};

const SAID_SO: &str = ": it said so";

/// A superdaemon that waits to be told, long enough for any test.
fn notified() -> Builder {
    with_say(ours()).options(["--ready=notify", "--ready-timeout=60", "--interval=0.1"])
}

/// A superdaemon whose program says nothing by itself, but what it is told to: see [`have_it_say`].
fn silent() -> Daemon {
    let obey = "f=say.$SERVER_STARTER_GENERATION; mkfifo $f; while read line; do ./say \"$line\"; done <>$f &";
    let daemon = notified().program(shell(&format!("{obey} exec $SERVER"))).start();
    daemon.wait_event(1, "start");
    daemon
}

/// Has a process of the generation say something.
fn have_it_say(daemon: &Daemon, generation: u32, text: &str) {
    std::fs::write(daemon.dir().join(format!("say.{generation}")), format!("{text}\n")).unwrap();
}

/// What somebody of our user who knows a generation's socket, but does not belong to it, can send to it.
struct Sender(UnixDatagram);

impl Sender {
    fn to(daemon: &Daemon, generation: u32) -> Self {
        let socket = UnixDatagram::unbound().unwrap();
        socket.connect(daemon.wait_dump(generation).env("NOTIFY_SOCKET").unwrap()).unwrap();
        Self(socket)
    }

    fn send(&self, datagram: impl AsRef<[u8]>) {
        self.0.send(datagram.as_ref()).unwrap();
    }

    fn send_with(&self, datagram: &[u8], descriptors: &[BorrowedFd]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
        sendmsg(&self.0, &[IoSlice::new(datagram)], &mut ancillary, SendFlags::empty()).unwrap();
    }

    /// Returns when everything that was sent before has been heard.
    fn settle(&self, daemon: &Daemon, number: u32) {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let mark = format!("mark {}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        self.send(format!("STATUS={mark}"));
        daemon.wait_for("a status", || (generation(daemon, number)?.status == Some(mark.clone())).then_some(()));
    }
}

fn role(daemon: &Daemon, number: u32) -> Role {
    generation(daemon, number).unwrap().role
}

fn assert_ready_by(program: &str) {
    let daemon = notified().program(shell(program)).start();
    daemon.wait_line(SAID_SO);
    let generation = generation(&daemon, 1).unwrap();
    assert_eq!((generation.role, generation.ready_by.as_deref()), (Role::Current, Some("notify")), "{program}");
}

#[test]
fn the_worker_says_so() {
    assert_ready_by("exec ./say READY=1 stay");
}

#[test]
fn somebody_says_so_who_is_gone_at_once() {
    assert_ready_by("./say READY=1; exec sleep 600");
}

#[test]
fn a_grandchild_says_so_through_wrappers() {
    assert_ready_by("sh -c 'sh -c \"./say READY=1 stay; :\"; :'; :");
}

#[test]
fn a_process_says_so_that_has_left_the_family() {
    assert_ready_by("setsid -f ./say READY=1 stay; exec sleep 600");
}

#[test]
fn a_worker_of_another_user_says_so() {
    if !is_root("a worker of another user") {
        return;
    }
    for script in
        ["exec ./say READY=1 stay", "./say READY=1; exec sleep 600", "setsid -f ./say READY=1; exec sleep 600"]
    {
        assert_ready_by(&format!("exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '{script}'"));
    }
}

#[test]
fn a_stranger_is_not_believed() {
    if !is_root("a stranger") {
        return;
    }
    let daemon = silent();
    let socket = daemon.wait_dump(1).env("NOTIFY_SOCKET").unwrap().to_owned();
    let stranger = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "./say", "READY=1", "STATUS=believe me"])
        .env("NOTIFY_SOCKET", socket)
        .current_dir(daemon.dir())
        .status();
    assert!(stranger.unwrap().success());
    let friend = Sender::to(&daemon, 1);
    friend.send("READY=0");
    friend.settle(&daemon, 1);
    assert_eq!(role(&daemon, 1), Role::Starting);
    have_it_say(&daemon, 1, "READY=1");
    daemon.wait_line(SAID_SO);
}

#[test]
fn nothing_but_ready_is_ready() {
    let daemon = silent();
    let sender = Sender::to(&daemon, 1);
    daemon.settle();
    let before = descriptors(&daemon);
    for nothing in [
        &b"RELOADING=1\nMONOTONIC_USEC=12345"[..],
        b"",
        b"\0",
        b"READY",
        b"READY=",
        b"READY=0",
        b"READY=1x",
        b" READY=1",
        b"XREADY=1",
        b"READY=1\0",
        b"\xff\xfe\xfd\n\x80=\x80\n====\n\n\n",
        b"WATCHDOG=trigger\nFDSTORE=1\nMAINPID=1\nEXTEND_TIMEOUT_USEC=abc\nERRNO=",
        // What does not fit is not half believed.
        &[&b"READY=1\n"[..], &[b'x'; 5000]].concat(),
        &[b'R'; 100_000],
    ] {
        sender.send(nothing);
    }
    sender.settle(&daemon, 1);
    assert_eq!(role(&daemon, 1), Role::Starting);
    daemon.wait_for("no more descriptors than before", || (descriptors(&daemon) <= before).then_some(()));
    // Nor is it, if somebody else says so who is alive.
    sender.send("READY=1");
    sender.settle(&daemon, 1);
    assert_eq!(role(&daemon, 1), Role::Starting);
    have_it_say(&daemon, 1, "READY=1");
    daemon.wait_line(SAID_SO);
}

#[test]
fn a_flood_harms_nobody() {
    let daemon = silent();
    let sender = Sender::to(&daemon, 1);
    std::thread::scope(|scope| {
        let flood = scope.spawn(|| (0..30_000).for_each(|n| sender.send(format!("STATUS={n}\nRELOADING=1\nX={n}"))));
        let mut answers = 0;
        while !flood.is_finished() || answers == 0 {
            assert_eq!(status(&daemon).pid, i32::try_from(daemon.pid()).unwrap());
            answers += 1;
        }
    });
    have_it_say(&daemon, 1, "READY=1");
    daemon.wait_line(SAID_SO);
}

#[test]
fn a_barrier_is_answered() {
    let daemon = silent();
    let sender = Sender::to(&daemon, 1);
    let (mut here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    sender.send_with(b"BARRIER=1", &[there.as_fd()]);
    drop(there);
    here.set_read_timeout(Some(testkit::patience())).unwrap();
    // The answer is that the last copy of the other end was closed.
    assert_eq!(here.read(&mut [0]).unwrap(), 0);
}

#[test]
fn descriptors_that_come_along_are_closed() {
    let daemon = silent();
    let sender = Sender::to(&daemon, 1);
    daemon.settle();
    let before = descriptors(&daemon);
    let null = File::open("/dev/null").unwrap();
    for _ in 0..200 {
        sender.send_with(b"FDSTORE=1\nFDNAME=x", &[null.as_fd(); 10]);
        sender.send_with(&[b'x'; 10_000], &[null.as_fd(); 10]);
    }
    sender.settle(&daemon, 1);
    daemon.wait_for("no more descriptors than before", || (descriptors(&daemon) <= before).then_some(()));
}

#[test]
fn an_error_and_a_status_are_shown() {
    let daemon = silent();
    let sender = Sender::to(&daemon, 1);
    sender.send("STATUS=loading 3 of 5\u{1b}[2J");
    daemon.wait_for("the status", || {
        (generation(&daemon, 1)?.status.as_deref() == Some("loading 3 of 5\u{fffd}[2J")).then_some(())
    });
    sender.send("ERRNO=2");
    daemon.wait_line("generation 1: it reports an error: No such file or directory");
    sender.send("STOPPING=1");
    daemon
        .wait_for("the status", || (generation(&daemon, 1)?.status.as_deref() == Some("it is stopping")).then_some(()));
}

#[test]
fn more_time_is_given_to_whoever_asks() {
    let daemon = with_say(ours())
        .options(["--ready=notify", "--ready-timeout=1", "--interval=0.1"])
        .program(shell("./say EXTEND_TIMEOUT_USEC=20000000; sleep 2; ./say READY=1; exec sleep 600"))
        .start();
    daemon.wait_line(SAID_SO);
    assert!(!daemon.lines().iter().any(|line| line.contains("was not ready within")), "{:?}", daemon.lines());
}

#[test]
fn a_generation_that_says_nothing_has_failed_and_the_old_one_stays() {
    let daemon = with_say(ours())
        .options(["--ready=notify", "--ready-timeout=1", "--interval=0.1", "--max-attempts=1"])
        // The shell dies of the signal; the server that it runs does not even hear of it.
        .program(shell("[ $SERVER_STARTER_GENERATION != 1 ] || ./say READY=1; $SERVER; sleep 600; :"))
        .start();
    daemon.wait_line(SAID_SO);
    let [(_, old)] = daemon.wait_status_file(|generations| generations == [1])[..] else { panic!() };
    daemon.hup();
    let new = daemon.wait_event(2, "start").pid;
    daemon.wait_line("generation 2 (pid");
    daemon.wait_line("was not ready within 1 s; sending TERM to it");
    daemon.wait_line("restart given up after 1 attempt");
    daemon.wait_line("generation 1 goes on serving");
    assert_eq!(daemon.status_file().unwrap(), [(1, old)]);
    // Nothing of it is left to begin to serve after all.
    daemon.wait_for("the end of the server", || (!daemon.processes().contains(&new)).then_some(()));
    assert!(daemon.events().iter().all(|event| event.generation != 1 || !event.what.starts_with("signal")));
}

#[test]
fn another_generations_word_does_not_count() {
    let daemon = silent();
    let first = Sender::to(&daemon, 1);
    have_it_say(&daemon, 1, "READY=1");
    daemon.wait_line(SAID_SO);
    daemon.hup();
    let second = Sender::to(&daemon, 2);
    have_it_say(&daemon, 1, "READY=1");
    first.settle(&daemon, 1);
    second.settle(&daemon, 2);
    assert_eq!((role(&daemon, 1), role(&daemon, 2)), (Role::Current, Role::Starting));
    have_it_say(&daemon, 2, "READY=1");
    daemon.wait_lines(SAID_SO, 2);
    daemon.wait_status_file(|generations| generations == [2]);
}

#[test]
fn the_socket_is_the_generations_own() {
    let own = "/run/of/our/own";
    let daemon = notified().env("NOTIFY_SOCKET", own).server([] as [&str; 0]).start();
    let name = daemon.wait_dump(1).env("NOTIFY_SOCKET").unwrap().to_owned();
    let file = std::path::Path::new(&name);
    let is_ours = file.file_name().unwrap().to_str().unwrap().starts_with(&format!("{}-", daemon.pid()));
    assert!(file.is_absolute() && is_ours && name.ends_with(".notify") && file.exists(), "{name}");
    assert_eq!(daemon.wait_dump(1).descriptors().keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    for rule in ["alive", "accept", "exec:env >> check.env"] {
        let port = Port::new();
        let daemon = ours()
            .options([format!("--port=127.0.0.1:{port}"), format!("--ready={rule}"), "--interval=0.1".to_owned()])
            .env("NOTIFY_SOCKET", own)
            .server([] as [&str; 0])
            .start();
        assert_eq!(daemon.wait_dump(1).env("NOTIFY_SOCKET"), None, "{rule}");
        daemon.wait_line("is ready after");
        assert!(!daemon.text("check.env").contains("NOTIFY_SOCKET"), "{rule}");
    }
}

#[test]
fn a_server_that_speaks_is_replaced_in_no_time() {
    let daemon = with_say(ours())
        .options(["--ready=notify", "--interval=600"])
        .program(shell("exec ./say READY=1 stay"))
        .start();
    daemon.wait_line(SAID_SO);
    let begun = Instant::now();
    let output = daemon.verb(["--restart", "--pid-file=pid"]);
    assert!(output.status.success(), "{output:?}");
    // An interval is ten minutes here; and a loaded machine may need a while to start Perl.
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

/// The program that systemd itself has for shell scripts, where it is installed.
#[test]
fn systemd_notify_is_understood() {
    if !is_installed("systemd-notify") {
        return;
    }
    let daemon = notified().program(shell("systemd-notify --ready --status=up; exec sleep 600")).start();
    daemon.wait_line(SAID_SO);
    assert_eq!(generation(&daemon, 1).unwrap().status.as_deref(), Some("up"));
    // It waits for the barrier's answer, so it would still be there.
    wait_for(
        || "its end".to_owned(),
        || running(&daemon, "systemd-notify --ready --status=up").is_empty().then_some(()),
    );
    daemon.wait_for("the sleep", || (!running(&daemon, "sleep 600").is_empty()).then_some(()));
}

/// A server that says that it is ready, and then dies before the old one was told to go.
#[test]
fn ready_and_dead_is_not_ready() {
    let daemon = notified().options(["--max-attempts=1", "--kill-old-delay=30"]);
    put_program(daemon.dir(), "serve", &format!("#!/bin/sh\nexec {} --record=record\n", testserver().display()));
    let daemon = daemon
        .program(shell("./say READY=1; [ $SERVER_STARTER_GENERATION = 1 ] && exec ./serve; sleep 0.3; exit 7"))
        .start();
    daemon.wait_line("is ready after");
    daemon.hup();
    daemon.wait_line("was ready, but exited with status 7 within the kill-old delay");
    daemon.wait_line("restart given up after 1 attempt");
    assert_eq!(status(&daemon).current, Some(1));
}
