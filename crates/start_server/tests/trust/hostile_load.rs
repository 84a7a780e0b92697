//! Hostile messages on every socket while a service is restarted under load: nothing is lost, and commands are answered.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::{Address, Client, Port, testserver, wait_for};

use crate::other_user::{SERVICE, STRANGER, as_user};
use crate::world::{is_root, ours, with_say};

/// So many messages each of the hostile processes sends, unless `HOSTILE_MESSAGES` says otherwise.
const MESSAGES: u32 = 5_000;

/// Between two restarts, so that the hostile have their turn, too.
const PAUSE: Duration = Duration::from_millis(200);

/// One that every user may execute.
const PYTHON: &str = "/usr/bin/python3";

/// Sends what it likes to all sockets of a superdaemon, in turn: `hostile.py PID MESSAGES TCP-PORT UNIX-PATH`.
const HOSTILE: &str = r#"
import array, os, re, socket, struct, sys
pid, messages, port, path = int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
pattern = re.compile(r"/\S+/%d-[0-9a-f]{16}\.(?:control|notify)" % pid)
def known():
    # A worker that has turned tells everybody.
    told = open(os.path.dirname(path) + "/told").read().split()
    return pattern.findall(open("/proc/net/unix", errors="replace").read()) + told
def lingering():
    # Whoever closes it last waits.
    listener = socket.create_server(("127.0.0.1", 0))
    one = socket.create_connection(listener.getsockname()); other = listener.accept()[0]
    one.setblocking(False)
    try:
        while True: one.send(b"x" * 65536)
    except BlockingIOError: pass
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5))
    return one, other
pipes = os.pipe()
rights = lambda *fds: [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
texts = [b"READY=1", b"STATUS=\x1b]0;title\x07\nREADY=1", b"STOPPING=1\nERRNO=1", b"x" * 4000, b"\0" * 70000, b"BARRIER=1",
         b'{"version":1,"request":"stop"}\n', b'{"version":1,"request":"upgrade","arguments":["--","/bin/false"]}\n', b"{", b""]
sent = 0; names = []
held = []
while sent < messages:
    if sent % 200 == 0: names = known()
    sent += 1
    text = texts[sent % len(texts)]
    way = sent % 4
    try:
        if way == 0 or way == 1 and not names:
            s = socket.socket(); s.setblocking(False)
            try: s.connect(("127.0.0.1", port))
            except BlockingIOError: pass
        elif way == 1:
            s = socket.socket(socket.AF_UNIX); s.setblocking(False); s.connect(path)
            s.sendmsg([b"x"], rights(pipes[0]))
        else:
            name = names[sent % len(names)] if names else path
            kind = socket.SOCK_STREAM if name.endswith("control") else socket.SOCK_DGRAM
            s = socket.socket(socket.AF_UNIX, kind); s.setblocking(False); s.connect(name)
            if sent % 500 == 3:
                one, other = lingering(); held.append(other)
                s.sendmsg([text], rights(one.fileno())); os.close(one.detach())
            elif sent % 5 == 0: s.sendmsg([text], rights(*pipes))
            else: s.send(text)
        s.close()
    except OSError: pass
print("sent", sent, flush=True)
"#;

struct Hostile(Child);

impl Hostile {
    fn begin(mut command: Command, arguments: [String; 4], dir: &Path) -> Self {
        let child = command.arg(dir.join("hostile.py")).args(arguments).stdout(Stdio::null()).spawn();
        Self(child.unwrap())
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn hostile_messages_on_every_socket_lose_no_request_and_delay_no_command() {
    if !is_root("another user's messages") {
        return;
    }
    let messages: u32 = std::env::var("HOSTILE_MESSAGES").ok().and_then(|text| text.parse().ok()).unwrap_or(MESSAGES);
    let port = Port::new();
    let builder = with_say(ours()).options([
        &format!("--port=127.0.0.1:{port}"),
        "--path=socket",
        "--ready=notify",
        "--interval=0.05",
        "--backlog=8192",
    ]);
    fs::set_permissions(builder.dir(), fs::Permissions::from_mode(0o777)).unwrap();
    fs::write(builder.dir().join("hostile.py"), HOSTILE).unwrap();
    let script = format!("echo $NOTIFY_SOCKET >told; ./say READY=1; exec {} --record=record", testserver().display());
    let as_service = ["setpriv", &format!("--reuid={SERVICE}"), &format!("--regid={SERVICE}"), "--clear-groups"];
    let words = as_service.into_iter().map(str::to_owned).chain(["sh".to_owned(), "-c".to_owned(), script]);
    let daemon = builder.program(words).start();
    daemon.wait_line("is ready after");
    let clients = [Client::start(Address::local(port.number())), Client::start(Address::Unix(daemon.path("socket")))];
    let arguments =
        [daemon.pid().to_string(), messages.to_string(), port.to_string(), daemon.path("socket").display().to_string()];
    let mut hostile = [
        Hostile::begin(as_user(STRANGER, PYTHON), arguments.clone(), daemon.dir()),
        Hostile::begin(as_user(STRANGER + 1, PYTHON), arguments, daemon.dir()),
    ];
    let (mut worst, mut restarts) = (Duration::ZERO, 0);
    let begun = Instant::now();
    while !hostile.iter_mut().all(Hostile::has_ended) {
        let output = daemon.verb(["--restart", "--until=commit", "--pid-file=pid"]);
        assert!(output.status.success(), "{output:?}");
        restarts += 1;
        assert!(hostile.iter_mut().all(|hostile| hostile.0.try_wait().unwrap().is_none_or(|status| status.success())));
        let asked = Instant::now();
        let output = daemon.verb(["--status", "--pid-file=pid"]);
        assert!(output.status.success(), "{output:?}");
        worst = worst.max(asked.elapsed());
        std::thread::sleep(PAUSE);
    }
    eprintln!(
        "{} hostile messages in {:.1} s, {restarts} restarts, the slowest --status took {worst:?}",
        2 * messages,
        begun.elapsed().as_secs_f64()
    );
    wait_for(
        || "an answer".to_owned(),
        || {
            clients.iter().for_each(|client| client.wait_answers(1));
            Some(())
        },
    );
    for client in clients {
        let tally = client.stop();
        assert_eq!(tally.lost(), 0, "{tally:?}");
    }
    assert!(restarts >= 2, "{restarts} restarts");
    assert!(worst < testkit::patience(), "{worst:?}");
    let lines = daemon.lines();
    assert!(!lines.iter().any(|line| line.contains("crashed") || line.contains('\u{1b}')), "{lines:?}");
    // Nobody who was not asked has been believed.
    assert!(!lines.iter().any(|line| line.contains("it reports an error")), "{lines:?}");
}
