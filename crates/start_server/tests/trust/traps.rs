//! Workers that make whoever looks at them wait: with memory that never comes, by userfaultfd(2).

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use testkit::{Builder, Daemon, Port, TempDir, is_installed, testserver};

use crate::other_user::STRANGER;
use crate::world::{is_root, ours, put_program, status};

/// As long as this a command may take; the traps hold for ever.
const PROMPT: Duration = Duration::from_secs(10);

/// `trap.py WAY`: a thread waits in a system call with its argument on a page that never comes. Says so in the file
/// `trapped`; where the machine has no userfaultfd the file says `not here`.
const TRAP: &str = r#"
import ctypes, fcntl, os, select, signal, socket, struct, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
def tell(what): open("said", "w").write(what); os.rename("said", "trapped")
def page(where=None):
    fd = libc.syscall({"x86_64": 323, "aarch64": 282}.get(os.uname().machine, -1), 0)
    if fd < 0: tell("not here"); time.sleep(600)
    fcntl.ioctl(fd, 0xc018aa3f, struct.pack("QQQ", 0xaa, 0, 0))
    at = libc.mmap(ctypes.c_void_p(where), ctypes.c_size_t(4096), 3, 0x32 if where else 0x22, -1, ctypes.c_long(0))
    fcntl.ioctl(fd, 0xc020aa00, struct.pack("QQQQ", at, 4096, 1, 0))
    return at
way = sys.argv[1]
if way == "poll":
    at = page()
    threading.Thread(target=lambda: libc.poll(ctypes.c_void_p(at), 1, -1), daemon=True).start()
elif way == "epoll":
    # The lock of the epoll set is held, too.
    at = page(); one, other = socket.socketpair(); other.send(b"x")
    epoll = select.epoll(); epoll.register(one, select.EPOLLIN)
    threading.Thread(target=lambda: libc.epoll_wait(epoll.fileno(), ctypes.c_void_p(at), 1, -1), daemon=True).start()
elif way == "environ":
    # Of a process that has lost its parent. The page has nothing but the environment on it: it is three pages long.
    if "PAD" not in os.environ:
        os.execve(sys.executable, [sys.executable] + sys.argv, {"PAD": "x" * 12288, **os.environ})
    if os.fork(): signal.pause()
    if os.fork(): os._exit(0)
    os.setsid()
    environment = int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[47]) + 4095 & ~4095
    libc.munmap(ctypes.c_void_p(environment), ctypes.c_size_t(4096))
    page(environment)
time.sleep(.2); tell("yes"); time.sleep(600)
"#;

fn trapped(way: &str, options: &[&str]) -> Option<Daemon> {
    if !is_root("userfaultfd") || !is_installed("/usr/bin/python3") {
        return None;
    }
    let port = Port::new();
    let builder: Builder = ours().option(format!("--port=127.0.0.1:{port}")).options(options.iter().copied());
    put_program(builder.dir(), "trap.py", TRAP);
    let daemon = builder.program(["/usr/bin/python3", "trap.py", way]).start();
    let said = daemon.wait_file("trapped");
    if said == "yes" { Some(daemon) } else { None }
}

fn assert_answers(daemon: &Daemon) {
    let begun = Instant::now();
    for _ in 0..5 {
        status(daemon);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
}

/// Ends it in time.
fn assert_ends(mut daemon: Daemon) {
    let begun = Instant::now();
    daemon.signal("QUIT");
    daemon.exit_status();
    assert!(begun.elapsed() < PROMPT, "{:?}", begun.elapsed());
}

#[test]
fn a_worker_whose_memory_never_comes_is_not_waited_for() {
    for way in ["poll", "epoll"] {
        let Some(daemon) = trapped(way, &["--ready=accept", "--interval=0.2", "--ready-timeout=600"]) else { return };
        assert_answers(&daemon);
        assert_ends(daemon);
    }
}

#[test]
fn a_process_whose_environment_never_comes_is_not_waited_for() {
    let Some(daemon) = trapped("environ", &["--interval=0.2"]) else { return };
    assert_answers(&daemon);
    assert_ends(daemon);
}

/// Executes a program with a file of a file system open that does not answer when it is closed. Until it does nobody can
/// look into the process: `/proc/PID/stat` and the links in `/proc/PID/fd` wait, for example. The file system is this
/// program's own, so that it ends with it.
const EXEC_TRAP: &str = r#"
import ctypes, fcntl, os, signal, struct, sys
locked = [os.open(path, os.O_RDONLY) for path in sys.argv[2:]]
for fd in locked: fcntl.flock(fd, fcntl.LOCK_EX); os.set_inheritable(fd, True)
fuse = os.open("/dev/fuse", os.O_RDWR)
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"trap", b"/mnt", b"fuse.trap", 6, b"fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other" % fuse):
    print("not here", flush=True); sys.exit()
user = int(sys.argv[1]); os.setgroups([]); os.setgid(user); os.setuid(user)
def serve():
    signal.alarm(60)  # Whatever becomes of the test, nobody waits for longer.
    attributes = lambda inode, mode: struct.pack("6Q10I", inode, 0, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)
    while True:
        data = os.read(fuse, 1 << 20); _, op, unique, node = struct.unpack_from("IIQQ", data)
        it = attributes(1, 0o40755) if node == 1 else attributes(2, 0o100644)
        if op == 26: body = struct.pack("4I2H2I2H8I", 7, 31, 65536, 0, 12, 9, 65536, 1, 32, 0, *[0] * 8)
        elif op == 1: body = struct.pack("4Q2I", 2, 0, 3600, 3600, 0, 0) + attributes(2, 0o100644)
        elif op == 3: body = struct.pack("Q2I", 3600, 0, 0) + it
        elif op == 14: body = struct.pack("Q2I", 1, 0, 0)
        elif op in (2, 25, 36, 42): continue          # 25 is FLUSH: no answer
        else: body = b""
        os.write(fuse, struct.pack("IiQ", 16 + len(body), 0, unique) + body)
if os.fork() == 0:
    for fd in locked: os.close(fd)
    serve()
os.close(fuse)
file = os.open("/mnt/x", os.O_RDONLY)
print("trapped", os.getpid(), flush=True)
os.execv("/bin/sleep", ["trapped", "600"])
"#;

/// A process that executes, and everybody who has to do with it; ended with the value.
struct ExecTrap {
    child: Child,
    pid: i32,
}

impl ExecTrap {
    /// None where the machine has no such file systems.
    fn new(user: u32, locked: &[&Path]) -> Option<Self> {
        let mut child = Command::new("unshare")
            .args(["-m", "--propagation", "private", "/usr/bin/python3", "-c", EXEC_TRAP, &user.to_string()])
            .args(locked)
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let Some(pid) = said.strip_prefix("trapped ").and_then(|pid| pid.trim().parse().ok()) else {
            eprintln!("a file system that does not answer: not tested, since there can be none here");
            child.wait().unwrap();
            return None;
        };
        let trap = Self { child, pid };
        let stat = format!("/proc/{pid}/stat");
        let can_be_seen =
            || Command::new("timeout").args(["-s", "KILL", "0.2", "cat", &stat]).output().unwrap().status.success();
        let begun = Instant::now();
        while can_be_seen() {
            if begun.elapsed() > Duration::from_secs(2) {
                eprintln!("this kernel lets nobody wait who looks into a process that executes: not tested");
                return None;
            }
        }
        Some(trap)
    }
}

impl Drop for ExecTrap {
    fn drop(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.child.wait();
    }
}

/// Runs our program without the test kit, which looks into all processes, and so would wait, too.
fn plain(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_start_server"));
    command.args(arguments).current_dir(dir).stdin(Stdio::null());
    command
}

fn wait_for_text(path: &Path, text: &str) {
    let read = || std::fs::read_to_string(path).unwrap_or_default();
    testkit::wait_for(|| format!("{text} in {}", read()), || read().contains(text).then_some(()));
}

/// Whoever looks into a process that closes old descriptors, as it executes a program, waits for that. Anybody can make it take
/// for ever, with a file system of its own.
#[test]
fn a_process_that_never_ends_to_execute_is_in_nobodys_way() {
    if !is_root("another user's process") || !is_installed("/usr/bin/python3") {
        return;
    }
    let (port, dir) = (Port::new(), TempDir::new());
    let at = format!("--port=127.0.0.1:{port}");
    let server = format!("exec {} --drain=600", testserver().display());
    let options =
        [&at, "--pid-file=pid", "--interval=0.1", "--drain-timeout=1", "--stop-timeout=5", "--", "sh", "-c", &server];
    let start = |log: &str| {
        let log = std::fs::File::create(dir.path().join(log)).unwrap();
        plain(dir.path(), &options)
            .env("TESTKIT_DIR", dir.path())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap()
    };
    let mut first = start("first");
    wait_for_text(&dir.path().join("first"), "is ready after");
    let Some(trap) = ExecTrap::new(STRANGER, &[]) else {
        assert!(plain(dir.path(), &["--stop", "--pid-file=pid"]).status().unwrap().success());
        first.wait().unwrap();
        return;
    };
    // Old workers are killed with all that they have left, which is looked for among all processes.
    let begun = Instant::now();
    let restarted = plain(dir.path(), &["--restart", "--pid-file=pid", "--timeout=15"]).output().unwrap();
    let asked = plain(dir.path(), &["--status", "--pid-file=pid"]).output().unwrap();
    let took = begun.elapsed();
    // Who holds an address is found among all processes, too.
    first.kill().unwrap();
    first.wait().unwrap();
    let mut next = start("next");
    wait_for_text(&dir.path().join("next"), "is ready after");
    let stopped = plain(dir.path(), &["--stop", "--pid-file=pid", "--timeout=15"]).output().unwrap();
    drop(trap);
    next.wait().unwrap();
    assert!(restarted.status.success(), "{restarted:?}");
    assert!(asked.status.success(), "{asked:?}");
    assert!(took < PROMPT, "{took:?}");
    assert!(stopped.status.success(), "{stopped:?}");
    wait_for_text(&dir.path().join("next"), "is taken over from generation 2");
}

#[test]
fn nor_is_one_that_holds_the_lock_of_the_pid_file() {
    if !is_root("another user's process") || !is_installed("/usr/bin/python3") {
        return;
    }
    let dir = TempDir::new();
    std::fs::write(dir.path().join("pid"), "2147483647\n").unwrap();
    let Some(trap) = ExecTrap::new(STRANGER, &[&dir.path().join("pid")]) else { return };
    let begun = Instant::now();
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    let options = ["--pid-file=pid", "--interval=0.1", "--", "sleep", "600"];
    let mut daemon = plain(dir.path(), &options).stderr(log).spawn().unwrap();
    wait_for_text(&dir.path().join("log"), "is ready after");
    let took = begun.elapsed();
    let refused = plain(dir.path(), &["--stop", &format!("--pid={}", trap.pid)]).output().unwrap();
    let stopped = plain(dir.path(), &["--stop", "--pid-file=pid", "--timeout=15"]).output().unwrap();
    drop(trap);
    daemon.wait().unwrap();
    assert!(took < PROMPT, "{took:?}");
    wait_for_text(&dir.path().join("log"), "holds the lock of pid; another file takes its place");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("whoever looks into it has to wait"), "{refused:?}");
    assert!(stopped.status.success(), "{stopped:?}");
}
