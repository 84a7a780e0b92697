//! `--ready=notify`: whoever can write to a generation's socket may send what it likes, and with it descriptors whose
//! close waits.

use std::fs;
use std::io::{IoSlice, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::process::Child;
use std::time::{Duration, Instant};

use control::Role;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg, sockopt::set_socket_linger};
use testkit::{Address, Builder, Client, Daemon, Port, is_installed};

use crate::floods::alone;
use crate::other_user::{SERVICE, STRANGER, as_user};
use crate::world::{descriptors, generation, is_root, ours, put_program, shell, status, with_say};

const SAID_SO: &str = ": it said so";

/// A command is answered within this, however busy the machine is; whoever attacks wants it to take half a minute.
const PROMPT: Duration = Duration::from_secs(10);

/// What a worker does: it says what it is told to, line by line, at the FIFO `say.GENERATION`, as commands of a shell.
const OBEY: &str = "f=say.$SERVER_STARTER_GENERATION; mkfifo $f; while read -r line; do eval \"$line\"; done <>$f & ";

fn notified() -> Builder {
    with_say(ours()).options(["--ready=notify", "--ready-timeout=600", "--interval=0.1"])
}

fn have_it_do(daemon: &Daemon, generation: u32, line: &str) {
    // The FIFO is there.
    daemon.wait_event(generation, "start");
    fs::write(daemon.path(&format!("say.{generation}")), format!("{line}\n")).unwrap();
}

fn socket_of(daemon: &Daemon, generation: u32) -> String {
    daemon.wait_dump(generation).env("NOTIFY_SOCKET").unwrap().to_owned()
}

fn assert_answers(daemon: &Daemon) {
    let begun = Instant::now();
    assert_eq!(status(daemon).pid, i32::try_from(daemon.pid()).unwrap());
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
}

/// A connection whose last close takes half a minute: more is to be sent than the other end, which is given, too, will
/// ever read.
fn lingering() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (other, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    while (&stream).write(&[0; 65536]).is_ok() {}
    set_socket_linger(&stream, Some(Duration::from_secs(30))).unwrap();
    (stream, other)
}

/// Whether it could be sent.
fn send_with(socket: &UnixDatagram, text: &[u8], descriptor: impl AsFd) -> bool {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    sendmsg(socket, &[IoSlice::new(text)], &mut ancillary, SendFlags::empty()).is_ok()
}

/// Ends a process of the test however that ends.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn descriptors_whose_close_waits_hold_up_nobody() {
    let daemon = notified().program(shell(&format!("{OBEY} exec $SERVER"))).start();
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(socket_of(&daemon, 1)).unwrap();
    let before = descriptors(&daemon);
    let mut other_ends = Vec::new();
    for _ in 0..5 {
        // Else it could be us who close last, and so wait.
        daemon.signal("STOP");
        daemon.wait_state('T');
        for _ in 0..8 {
            let (stream, other) = lingering();
            assert!(send_with(&sender, b"FDSTORE=1", &stream));
            other_ends.push(other);
        }
        daemon.signal("CONT");
        assert_answers(&daemon);
    }
    let begun = Instant::now();
    have_it_do(&daemon, 1, "./say READY=1");
    daemon.wait_line(SAID_SO);
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
    daemon.wait_for("no more descriptors than before", || (descriptors(&daemon) <= before).then_some(()));
    daemon.wait_for("no process but the worker's", || (daemon.workers().len() == 1).then_some(()));
}

#[test]
fn the_end_of_a_generation_does_not_wait_for_what_its_socket_holds() {
    let daemon = notified().program(shell(&format!("{OBEY} exec $SERVER"))).start();
    let sender = UnixDatagram::unbound().unwrap();
    sender.connect(socket_of(&daemon, 1)).unwrap();
    have_it_do(&daemon, 1, "./say READY=1");
    daemon.wait_line(SAID_SO);
    // It must not take them off the queue before it is at its end.
    daemon.signal("STOP");
    daemon.wait_state('T');
    let (stream, _other) = lingering();
    sender.set_nonblocking(true).unwrap();
    while send_with(&sender, b"x", &stream) {}
    drop(stream);
    let begun = Instant::now();
    daemon.term();
    daemon.signal("CONT");
    daemon.wait_line("worker");
    let mut daemon = daemon;
    assert_eq!(daemon.exit_status().code(), Some(0));
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
}

/// With tens of thousands of datagrams of a stranger, who is the last of a long line of ancestors, and descriptors whose
/// close waits among them.
#[test]
fn a_stranger_who_never_stops_talking_holds_up_nobody() {
    const TALK: &str = r#"
import array, ctypes, os, socket, struct, sys, time
libc = ctypes.CDLL(None)
for _ in range(200):
    if os.fork():
        libc.prctl(1, 9); libc.pause(); os._exit(0)
    libc.prctl(1, 9)
end = time.time() + 60
talker = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); talker.settimeout(1)
listener = socket.socket(); listener.bind(("127.0.0.1", 0)); listener.listen()
held, sent = [], 0
def say(number):
    for attempt in range(100):
        try:
            talker.connect(sys.argv[1 + number % (len(sys.argv) - 2)])
            if number % 1000: talker.send(b"READY=1\nSTATUS=believe me")
            else:
                one = socket.create_connection(listener.getsockname()); other, _ = listener.accept()
                one.setblocking(False)
                try:
                    while True: one.send(b"x" * 65536)
                except BlockingIOError: pass
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 30))
                talker.sendmsg([b"READY=1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [one.fileno()]))])
                # Whoever closes it last waits: not we.
                held.append((one, other))
            return
        except OSError: time.sleep(.001)
while sent < 30000 and time.time() < end:
    say(sent); sent += 1
    if sent == 1000: open(sys.argv[-1], "w").close()
print(sent, flush=True)
time.sleep(60)
"#;
    if !is_root("a stranger") || !is_installed("/usr/bin/python3") {
        return;
    }
    let _alone = alone();
    let port = Port::new();
    let daemon =
        notified().option(format!("--port=127.0.0.1:{port}")).program(shell(&format!("{OBEY} exec $SERVER"))).start();
    let first = socket_of(&daemon, 1);
    have_it_do(&daemon, 1, "./say READY=1");
    daemon.wait_line(SAID_SO);
    put_program(daemon.dir(), "talk.py", TALK);
    daemon.hup();
    let second = socket_of(&daemon, 2);
    let mut stranger = as_user(STRANGER, "/usr/bin/python3");
    stranger.arg(daemon.path("talk.py")).args([first, second]).arg(daemon.path("at-it"));
    let _stranger = Ended(stranger.spawn().unwrap());
    let clients = [(); 3].map(|()| Client::start(Address::local(port.number())));
    daemon.wait_for("the stranger", || daemon.path("at-it").exists().then_some(()));
    for _ in 0..20 {
        assert_answers(&daemon);
    }
    assert_eq!(generation(&daemon, 2).unwrap().role, Role::Starting);
    have_it_do(&daemon, 2, "./say READY=1");
    daemon.wait_lines(SAID_SO, 2);
    daemon.wait_status_file(|generations| generations == [2]);
    clients.iter().for_each(|client| client.wait_answers(10));
    for tally in clients.map(Client::stop) {
        assert_eq!(tally.lost(), 0, "{tally:?}");
    }
}

#[test]
fn another_user_of_the_family_is_believed_whether_it_stays_or_not() {
    if !is_root("another user") {
        return;
    }
    let as_service = format!("setpriv --reuid={SERVICE} --regid={SERVICE} --clear-groups");
    for script in [
        format!("{as_service} ./say READY=1 stay & wait"),
        // The one that stays tells whose word counts of the one that goes.
        format!("{as_service} sleep 600 & {as_service} ./say STATUS=x READY=1 & wait"),
    ] {
        let daemon = notified().program(shell(&script)).start();
        daemon.wait_line(SAID_SO);
    }
}

#[test]
fn a_living_process_of_another_generation_is_not_believed() {
    let daemon = notified().program(shell(&format!("{OBEY} exec $SERVER"))).start();
    have_it_do(&daemon, 1, "./say READY=1");
    daemon.wait_line(SAID_SO);
    daemon.hup();
    let second = socket_of(&daemon, 2);
    have_it_do(&daemon, 1, &format!("NOTIFY_SOCKET={second} ./say READY=1 STATUS=first stay &"));
    daemon.wait_for("its word", || (generation(&daemon, 2)?.status.as_deref() == Some("first")).then_some(()));
    assert_eq!(generation(&daemon, 2).unwrap().role, Role::Starting);
    have_it_do(&daemon, 2, "./say READY=1");
    daemon.wait_lines(SAID_SO, 2);
}

#[test]
fn the_file_goes_with_its_generation_and_stays_when_the_superdaemon_is_replaced() {
    let mut daemon = notified().program(shell(&format!("{OBEY} exec $SERVER"))).start();
    let first = socket_of(&daemon, 1);
    have_it_do(&daemon, 1, "./say READY=1");
    daemon.wait_line(SAID_SO);
    daemon.hup();
    let second = socket_of(&daemon, 2);
    let output = daemon.verb(["--upgrade", "--pid-file=pid"]);
    assert!(output.status.success(), "{output:?}");
    daemon.signal("SEGV");
    daemon.wait_line("it goes on where it was");
    assert!(fs::exists(&first).unwrap() && fs::exists(&second).unwrap());
    have_it_do(&daemon, 2, "./say READY=1");
    daemon.wait_lines(SAID_SO, 2);
    daemon.wait_for("the end of the first file", || (!fs::exists(&first).unwrap()).then_some(()));
    assert!(daemon.stop().success());
    assert!(!fs::exists(&second).unwrap());
}

/// Everybody reads in `/proc/net/unix` what a socket was bound to.
#[test]
fn only_the_generation_is_told_the_name() {
    let daemon = notified().program(shell(&format!("{OBEY} exec $SERVER"))).start();
    let name = socket_of(&daemon, 1);
    assert!(fs::exists(&name).unwrap());
    let table = fs::read_to_string("/proc/net/unix").unwrap();
    assert!(!table.contains(name.to_string().as_str()), "{name}");
    have_it_do(&daemon, 1, "./say READY=1");
    daemon.wait_line(SAID_SO);
}
