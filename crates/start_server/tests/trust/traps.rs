//! Workers that make whoever looks at them wait: with memory that never comes, by userfaultfd(2).

use std::time::{Duration, Instant};

use testkit::{Builder, Daemon, Port, is_installed};

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
    # Of a process that has lost its parent.
    if os.fork(): signal.pause()
    if os.fork(): os._exit(0)
    os.setsid()
    environment = int(open("/proc/self/stat").read().rsplit(")", 1)[1].split()[47]) & ~4095
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
