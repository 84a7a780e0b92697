//! The accept probe against real programs. Each gets a listener as descriptor 3, says on its standard output that it
//! is in the state meant, and is looked at. Python is needed; what else is not installed is passed over with a word.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::print_stdout)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use sys::accept_probe::{Absence, Answer, Evidence, How, Probe, Reason};
use sys::process_tree::{descendants, kill_family};
use sys::signal::{Signal, send};

/// Long enough for the slowest machine; it is only waited for when a test fails.
const LIMIT: Duration = Duration::from_secs(60);

/// A started program, ended with all its children when it is dropped.
struct Program {
    child: Child,
    said: Receiver<String>,
}

impl Program {
    /// Starts a program with these sockets as descriptors 3 and 4.
    fn start(sockets: &[&dyn AsFd], command: &[&str]) -> Program {
        let copy = |socket: &dyn AsFd| -> OwnedFd { socket.as_fd().try_clone_to_owned().unwrap() };
        let (script, second) = match sockets {
            [_] => ("exec \"$@\" 3<&0 </dev/null", Stdio::inherit()),
            [_, second] => ("exec \"$@\" 3<&0 4<&2 </dev/null 2>&1", copy(*second).into()),
            _ => panic!("one or two sockets"),
        };
        let mut child = Command::new("sh")
            .args(["-c", script, "sh"])
            .args(command)
            .stdin(copy(sockets[0]))
            .stdout(Stdio::piped())
            .stderr(second)
            .process_group(0)
            .spawn()
            .unwrap();
        let (tell, said) = channel();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| tell.send(line)));
        Program { child, said }
    }

    fn python(sockets: &[&dyn AsFd], script: &str) -> Program {
        let begin = "import socket, os, time, select, threading, sys\n\
                     def say(what): print(what, flush=True)\n\
                     s = socket.socket(fileno=3)\n";
        Program::start(sockets, &["python3", "-c", &format!("{begin}{script}")])
    }

    fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    fn next_line(&self) -> String {
        self.said.recv_timeout(LIMIT).expect("the program ended, or said nothing")
    }

    fn wait_for(&self, line: &str) {
        while self.next_line() != line {}
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        kill_family(self.pid(), |_| false).unwrap();
        self.child.wait().unwrap();
    }
}

fn tcp() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn probe(listener: &dyn AsFd) -> Probe {
    Probe::new([listener.as_fd()]).unwrap()
}

/// Looks until somebody waits.
fn until_yes(probe: &Probe, program: &Program) -> Evidence {
    let begun = Instant::now();
    loop {
        match probe.look(program.pid()) {
            Answer::Yes(evidence) => return evidence,
            answer => assert!(begun.elapsed() < LIMIT, "still: {answer}"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Looks until it is clear that we may not look.
fn until_denied(probe: &Probe, program: &Program) {
    let begun = Instant::now();
    loop {
        match probe.look(program.pid()) {
            Answer::Unknown(Reason::Denied { .. }) => return,
            Answer::Yes(evidence) => panic!("{evidence}"),
            answer => assert!(begun.elapsed() < LIMIT, "still: {answer}"),
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Looks several times and expects the same each time.
fn always(probe: &Probe, program: &Program, expected: Absence) {
    for _ in 0..20 {
        let answer = probe.look(program.pid());
        assert!(matches!(answer, Answer::No(absence) if absence == expected), "{answer}, expected: {expected}");
    }
}

/// A Python program that waits by itself.
fn python_waits(socket: &dyn AsFd, script: &str, how: How) {
    let program = Program::python(&[socket], script);
    let evidence = until_yes(&probe(socket), &program);
    assert_eq!(evidence, Evidence { pid: program.pid(), listener: Some(0), how }, "{script}");
}

fn is_installed(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", "command -v \"$0\" >/dev/null", program]).status().unwrap().success();
    if !found {
        println!("skipped: {program} is not installed");
    }
    found
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("skipped: only root can start programs as somebody else");
    }
    root
}

/// Whether this process may look into those of other users, which the root of a container often may not.
fn may_trace_everybody() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
    const CAP_SYS_PTRACE: u64 = 1 << 19;
    u64::from_str_radix(effective.trim(), 16).unwrap() & CAP_SYS_PTRACE != 0
}

/// A directory for one test, removed when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Directory {
        let path = std::env::temp_dir().join(format!("accept_probe-{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Directory(path)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).into_os_string().into_string().unwrap()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_blocked_accept_is_seen() {
    python_waits(&tcp(), "s.accept()", How::BlockedAccept);
}

#[test]
fn an_accept_with_a_timeout_is_seen() {
    python_waits(&tcp(), "s.settimeout(600); s.accept()", How::Poll);
}

#[test]
fn a_poll_is_seen() {
    python_waits(&tcp(), "p = select.poll(); p.register(1, 0); p.register(s, select.POLLIN); p.poll()", How::Poll);
}

#[test]
fn a_select_is_seen() {
    python_waits(&tcp(), "select.select([s], [], [])", How::Select);
}

#[test]
fn a_select_on_a_high_descriptor_is_seen() {
    python_waits(&tcp(), "os.dup2(3, 700); os.close(3); select.select([700], [], [], 600)", How::Select);
}

#[test]
fn an_event_loop_is_seen() {
    let script = "import asyncio\n\
                  async def main(): await (await asyncio.start_server(print, sock=s)).serve_forever()\n\
                  asyncio.run(main())";
    python_waits(&tcp(), script, How::Epoll);
}

#[test]
fn an_epoll_set_in_an_epoll_set_is_seen() {
    let script = "inner = select.epoll(); outer = select.epoll()\n\
                  inner.register(s, select.EPOLLIN); outer.register(inner, select.EPOLLIN); outer.poll()";
    python_waits(&tcp(), script, How::Epoll);
}

#[test]
fn an_epoll_set_is_seen_after_the_descriptor_that_was_put_into_it_is_closed() {
    let script = "c = os.dup(3); e = select.epoll(); e.register(c, select.EPOLLIN); os.close(c); e.poll()";
    python_waits(&tcp(), script, How::Epoll);
}

#[test]
fn one_of_several_threads_is_enough() {
    let script = "for _ in range(8): threading.Thread(target=s.accept).start()\ntime.sleep(600)";
    python_waits(&tcp(), script, How::BlockedAccept);
}

#[test]
fn a_unix_listener_is_seen() {
    let directory = Directory::new("unix");
    let listener = UnixListener::bind(directory.file("socket")).unwrap();
    python_waits(&listener, "s.accept()", How::BlockedAccept);
    python_waits(&listener, "select.select([s], [], [])", How::Select);
}

#[test]
fn a_datagram_socket_is_seen() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    python_waits(&socket, "s.recvfrom(1)", How::BlockedReceive);
    python_waits(&socket, "s.recvmsg(1)", How::BlockedReceive);
    python_waits(&socket, "os.read(3, 1)", How::BlockedReceive);
    python_waits(&socket, "select.select([s], [], [])", How::Select);
    let script = "import asyncio\n\
                  async def main():\n \
                    await asyncio.get_running_loop().create_datagram_endpoint(asyncio.DatagramProtocol, sock=s)\n \
                    await asyncio.sleep(600)\n\
                  asyncio.run(main())";
    python_waits(&socket, script, How::Epoll);
}

#[test]
fn datagram_sockets_decide_only_where_there_are_no_others() {
    let (stream, datagram) = (tcp(), UdpSocket::bind("127.0.0.1:0").unwrap());
    let script = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n\
                  u = socket.socket(fileno=4); threading.Thread(target=u.recvfrom, args=(1,)).start()\n\
                  say('up'); signal.sigwait([signal.SIGUSR1]); s.accept()";
    let program = Program::python(&[&stream, &datagram], script);
    program.wait_for("up");
    assert_eq!(until_yes(&probe(&datagram), &program).how, How::BlockedReceive);
    let both = Probe::new([datagram.as_fd(), stream.as_fd()]).unwrap();
    always(&both, &program, Absence::Held);
    send(program.pid(), Signal::USR1).unwrap();
    let expected = Evidence { pid: program.pid(), listener: Some(1), how: How::BlockedAccept };
    assert_eq!(until_yes(&both, &program), expected);
}

/// A server of one thread that has so much to do that it is never seen waiting.
#[test]
fn a_connection_that_was_accepted_is_seen() {
    let listener = tcp();
    let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let program = Program::python(&[&listener], "c, a = s.accept(); say('up'); time.sleep(600)");
    program.wait_for("up");
    let evidence = until_yes(&probe(&listener), &program);
    assert_eq!(evidence, Evidence { pid: program.pid(), listener: Some(0), how: How::Accepted });

    let directory = Directory::new("accepted");
    let listener = UnixListener::bind(directory.file("socket")).unwrap();
    let _client = UnixStream::connect(directory.file("socket")).unwrap();
    let program = Program::python(&[&listener], "c, a = s.accept(); say('up'); time.sleep(600)");
    program.wait_for("up");
    assert_eq!(until_yes(&probe(&listener), &program).how, How::Accepted);
}

#[test]
fn a_connection_to_the_listener_is_none_that_was_accepted() {
    let listener = tcp();
    let script = "c = socket.create_connection(s.getsockname()); d = socket.socket(); d.bind(('127.0.0.1', 0)); \
                  say('up'); time.sleep(600)";
    let program = Program::python(&[&listener], script);
    program.wait_for("up");
    always(&probe(&listener), &program, Absence::Held);

    let directory = Directory::new("connected");
    let listener = UnixListener::bind(directory.file("socket")).unwrap();
    let script = "c = socket.socket(socket.AF_UNIX); c.connect(s.getsockname()); p, q = socket.socketpair(); \
                  say('up'); time.sleep(600)";
    let program = Program::python(&[&listener], script);
    program.wait_for("up");
    always(&probe(&listener), &program, Absence::Held);
}

#[test]
fn a_program_that_sleeps_is_not_waiting() {
    let listener = tcp();
    let program = Program::python(&[&listener], "say('up'); time.sleep(600)");
    program.wait_for("up");
    always(&probe(&listener), &program, Absence::Held);
}

#[test]
fn a_program_that_waits_for_something_else_is_not_waiting() {
    let listener = tcp();
    let others = [
        "o = socket.socket(); o.bind(('127.0.0.1', 0)); o.listen(); say('up'); o.accept()",
        "o = socket.socket(); o.bind(('127.0.0.1', 0)); o.listen(); say('up'); select.select([o], [], [])",
        "p = select.poll(); p.register(s, select.POLLPRI); say('up'); p.poll()",
        "e = select.epoll(); e.register(s, select.EPOLLPRI); say('up'); e.poll()",
        "e = select.epoll(); e.register(s, select.EPOLLIN); e.unregister(s); say('up'); e.poll()",
        "select.select([], [s], [], 0); say('up'); select.select([], [], [s])",
        "r, w = os.pipe(); say('up'); os.read(r, 1)",
    ];
    for script in others {
        let program = Program::python(&[&listener], script);
        program.wait_for("up");
        always(&probe(&listener), &program, Absence::Held);
    }
}

#[test]
fn a_program_that_closed_the_listener_does_not_hold_it() {
    let listener = tcp();
    let script = "s.close(); o = socket.socket(); o.bind(('127.0.0.1', 0)); o.listen(); say('up'); o.accept()";
    let program = Program::python(&[&listener], script);
    program.wait_for("up");
    always(&probe(&listener), &program, Absence::NotHeld);
}

#[test]
fn an_ended_program_is_gone() {
    let listener = tcp();
    let mut program = Program::start(&[&listener], &["true"]);
    let begun = Instant::now();
    while !matches!(probe(&listener).look(program.pid()), Answer::No(Absence::Gone)) {
        assert!(begun.elapsed() < LIMIT);
    }
    program.child.wait().unwrap();
    always(&probe(&listener), &program, Absence::Gone);
}

#[test]
fn nothing_can_be_said_without_listeners() {
    let answer = Probe::new([]).unwrap().look(1);
    assert!(matches!(answer, Answer::Unknown(Reason::NoListeners)), "{answer}");
    let file = fs::File::open("/dev/null").unwrap();
    assert!(Probe::new([file.as_fd()]).is_err());
}

#[test]
fn the_listener_that_is_waited_on_is_named() {
    let (first, second) = (tcp(), tcp());
    let program = Program::python(&[&first, &second], "socket.socket(fileno=4).accept()");
    let probe = Probe::new([first.as_fd(), second.as_fd()]).unwrap();
    let expected = Evidence { pid: program.pid(), listener: Some(1), how: How::BlockedAccept };
    assert_eq!(until_yes(&probe, &program), expected);
}

#[test]
fn a_grandchild_is_seen() {
    let listener = tcp();
    let script = "sh -c 'python3 -c \"import socket; socket.socket(fileno=3).accept()\"; :'; :";
    let program = Program::start(&[&listener], &["sh", "-c", script]);
    let evidence = until_yes(&probe(&listener), &program);
    assert_eq!(evidence.how, How::BlockedAccept);
    assert_ne!(evidence.pid, program.pid());
    assert!(descendants(program.pid()).contains(&evidence.pid));
    let alone = probe(&listener).look_at([program.pid()]);
    assert!(matches!(alone, Answer::No(Absence::Held)), "{alone}");
}

#[test]
fn processes_that_come_and_go_are_no_reason_for_doubt() {
    let listener = tcp();
    let program =
        Program::start(&[&listener], &["sh", "-c", "while [ -d /proc/$PPID ]; do sh -c 'true; :' & true; done"]);
    let probe = probe(&listener);
    let begun = Instant::now();
    let mut families = 0;
    while families < 300 && begun.elapsed() < LIMIT {
        families += usize::from(!descendants(program.pid()).is_empty());
        let answer = probe.look(program.pid());
        assert!(matches!(answer, Answer::No(Absence::Held | Absence::NotHeld)), "{answer}");
    }
}

#[test]
fn more_descriptors_than_are_looked_at_are_admitted() {
    let listener = tcp();
    let many = "import resource; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]\n\
                resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))\n\
                try:\n for _ in range(5000): os.dup(1)\n\
                except OSError: say('refused'); time.sleep(600)\n";
    let program = Program::python(&[&listener], &format!("{many}say('up'); time.sleep(600)"));
    if program.next_line() == "refused" {
        println!("skipped: 5,000 descriptors are not allowed here");
        return;
    }
    let begun = Instant::now();
    let answer = probe(&listener).look(program.pid());
    println!("a look at {} descriptors took {:?}", sys::accept_probe::MOST_DESCRIPTORS, begun.elapsed());
    assert!(matches!(answer, Answer::Unknown(Reason::TooMuch { pid }) if pid == program.pid()), "{answer}");
    python_waits(&listener, &format!("{many}s.accept()"), How::BlockedAccept);
}

#[test]
fn node_is_seen() {
    if !is_installed("node") {
        return;
    }
    let listener = tcp();
    let script = "require('http').createServer((_, r) => r.end()).listen({fd: 3})";
    let program = Program::start(&[&listener], &["node", "-e", script]);
    assert_eq!(until_yes(&probe(&listener), &program).how, How::Epoll);

    let script = "setInterval(() => {}, 1000); console.log('up')";
    let program = Program::start(&[&listener], &["node", "-e", script]);
    program.wait_for("up");
    always(&probe(&listener), &program, Absence::Held);
}

#[test]
fn a_cluster_of_node_is_seen() {
    if !is_installed("node") {
        return;
    }
    for policy in ["SCHED_RR", "SCHED_NONE"] {
        let directory = Directory::new(policy);
        let script = directory.file("cluster.js");
        let text = format!(
            "const cluster = require('cluster'); cluster.schedulingPolicy = cluster.{policy};\n\
             if (cluster.isPrimary) {{ for (let i = 0; i < 3; i++) cluster.fork(); }}\n\
             else require('http').createServer((_, r) => r.end()).listen({{fd: 3}});\n"
        );
        fs::write(&script, text).unwrap();
        let listener = tcp();
        let program = Program::start(&[&listener], &["node", &script]);
        let evidence = until_yes(&probe(&listener), &program);
        assert_eq!((evidence.how, evidence.listener), (How::Epoll, Some(0)), "{policy}");
    }
}

#[test]
fn preforked_processes_of_perl_are_seen() {
    if !is_installed("perl") {
        return;
    }
    let listener = tcp();
    let script = "open(my $l, '+<&=', 3) or die; for (1..4) { next if fork; accept(my $c, $l); exit } sleep 600";
    let program = Program::start(&[&listener], &["perl", "-e", script]);
    let evidence = until_yes(&probe(&listener), &program);
    assert_eq!(evidence.how, How::BlockedAccept);
    assert_ne!(evidence.pid, program.pid());
}

#[test]
fn a_request_of_an_io_uring_is_seen() {
    if !is_installed("gcc") {
        return;
    }
    let directory = Directory::new("io_uring");
    let (source, program) = (directory.file("io_uring.c"), directory.file("io_uring"));
    fs::write(&source, include_str!("accept_probe/io_uring.c")).unwrap();
    if !Command::new("gcc").args(["-o", &program, &source]).status().unwrap().success() {
        println!("skipped: the headers here know no io_uring");
        return;
    }
    for how in ["single", "multishot", "sqpoll", "worker", "fixed"] {
        let listener = tcp();
        let program = Program::start(&[&listener], &[&program, how]);
        if program.next_line() == "refused" {
            println!("skipped: the kernel refuses an io_uring ({how})");
            continue;
        }
        let expected = Evidence { pid: program.pid(), listener: Some(0), how: How::IoUring };
        assert_eq!(until_yes(&probe(&listener), &program), expected, "{how}");
    }
}

#[test]
fn nginx_is_seen() {
    if !is_installed("nginx") {
        return;
    }
    for mutex in ["off", "on"] {
        let listener = tcp();
        let directory = Directory::new(&format!("nginx-{mutex}"));
        let port = listener.local_addr().unwrap().port();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {};", directory.file(name)))
            .concat();
        let text = format!(
            "daemon off; worker_processes 2; pid {}; error_log stderr;\n\
             events {{ accept_mutex {mutex}; }}\n\
             http {{ access_log off; {temporary} server {{ listen 127.0.0.1:{port}; }} }}\n",
            directory.file("pid")
        );
        let file = directory.file("nginx.conf");
        fs::write(&file, text).unwrap();
        let program = Program::start(&[&listener], &["env", "NGINX=3;", "nginx", "-c", &file]);
        if rustix::process::geteuid().is_root() && !may_trace_everybody() {
            until_denied(&probe(&listener), &program);
            continue;
        }
        let evidence = until_yes(&probe(&listener), &program);
        assert_eq!((evidence.how, evidence.listener), (How::Epoll, Some(0)));
        assert_ne!(evidence.pid, program.pid(), "a worker, which runs as another user if the master is root");
    }
}

#[test]
fn root_sees_a_program_of_another_user_if_it_may() {
    if !is_root() {
        return;
    }
    let accept = "os.setgid(65534); os.setuid(65534); s.accept()";
    if may_trace_everybody() {
        python_waits(&tcp(), accept, How::BlockedAccept);
        let poll = "os.setgid(65534); os.setuid(65534); p = select.poll(); p.register(s); p.poll()";
        python_waits(&tcp(), poll, How::Poll);
    } else {
        let listener = tcp();
        until_denied(&probe(&listener), &Program::python(&[&listener], accept));
    }
}

#[test]
fn nobody_is_not_told_about_a_program_of_root() {
    if !is_root() {
        return;
    }
    let listener = tcp();
    let program = Program::python(&[&listener], "say('up'); s.accept()");
    program.wait_for("up");
    let (probe, pid) = (probe(&listener), program.pid());
    let answer = thread::spawn(move || {
        // SAFETY: the bare system call changes the user of this thread alone, which ends soon.
        assert_eq!(unsafe { libc::syscall(libc::SYS_setresuid, 65534, 65534, 65534) }, 0);
        probe.look(pid)
    });
    let answer = answer.join().unwrap();
    assert!(matches!(&answer, Answer::Unknown(Reason::Denied { pid: at, .. }) if *at == pid), "{answer}");
    assert!(answer.to_string().contains(&format!("/proc/{pid}/fd")), "{answer}");
}

#[test]
fn what_a_look_costs() {
    let cost = |name: &str, script: &str| {
        let listener = tcp();
        let program = Program::python(&[&listener], script);
        let probe = probe(&listener);
        if script.contains("'up'") {
            program.wait_for("up");
        } else {
            until_yes(&probe, &program);
        }
        let mut times: Vec<Duration> = (0..200)
            .map(|_| {
                let begun = Instant::now();
                probe.look(program.pid());
                begun.elapsed()
            })
            .collect();
        times.sort();
        let mean = times.iter().sum::<Duration>() / 200;
        println!("a look at {name} costs {mean:?} (best {:?}, median {:?})", times[0], times[100]);
    };
    cost("a blocked accept", "s.accept()");
    cost("a poll", "s.settimeout(600); s.accept()");
    cost("an epoll set", "e = select.epoll(); e.register(s); e.poll()");
    cost("a program that sleeps", "say('up'); time.sleep(600)");
    cost(
        "8 threads that sleep",
        "for _ in range(8): threading.Thread(target=time.sleep, args=(600,)).start()\nsay('up'); time.sleep(600)",
    );
    cost("a program with 100 descriptors more", "[os.dup(1) for _ in range(100)]; say('up'); time.sleep(600)");
}
