//! Listeners with names and options, and how programs are told of them: what a real worker finds in its environment,
//! its arguments and at its descriptors.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test reports what fails by panicking"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::process::Command;

use testkit::{Address, Daemon, Dump, Port, get};

const OURS: &str = env!("CARGO_BIN_EXE_start_server");

fn serving(options: &[&str], arguments: &[&str]) -> Daemon {
    let daemon = Daemon::new(OURS).with_files().option("--interval=0").options(options).server(arguments).start();
    // Without an interval the superdaemon does not wait for what a generation does at its start; a test does.
    daemon.wait_ready(1);
    daemon.wait_status_file(|generations| generations == [1]);
    daemon
}

fn dump(options: &[&str], arguments: &[&str]) -> Dump {
    let mut daemon = serving(options, arguments);
    let dump = daemon.wait_dump(1);
    assert!(daemon.stop().success());
    dump
}

/// What a superdaemon that does not even start has to say.
fn refusal(options: &[&str], program: &[&str]) -> String {
    let output = Command::new(OURS).args(options).arg("--").args(program).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn without_options_listeners_are_as_ever() {
    let port = Port::new();
    let dump = dump(&[&format!("--port=127.0.0.1:{port}"), "--path=s"], &[]);
    let descriptors = dump.descriptors();
    assert_eq!(descriptors[&3], format!("tcp 127.0.0.1:{port} listening reuseaddr backlog=4096"));
    assert_eq!(descriptors[&4], "unix s listening");
    for name in ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "UNICORN_FD", "NGINX", "FPM_SOCKETS", "EINHORN_FD_COUNT"]
    {
        assert_eq!(dump.env(name), None, "{name}");
    }
}

#[test]
fn options_for_all_and_for_one_reach_the_sockets() {
    let name = format!("@listeners-test-{}", std::process::id());
    let (one, other) = (Port::new(), Port::new());
    let dump = dump(
        &[
            &format!("--port=127.0.0.1:{one}"),
            &format!("--listen=127.0.0.1:{other},name=web,backlog=7,nonblock=no,tcp-nodelay=no,fastopen=16,keepalive"),
            "--backlog=9",
            "--nonblock",
            "--tcp-nodelay",
            "--defer-accept=3",
            &format!("--listen=unix:{name}"),
        ],
        &[],
    );
    let descriptors = dump.descriptors();
    let expected = "listening reuseaddr nodelay defer-accept=3 backlog=9 nonblocking";
    assert_eq!(descriptors[&3], format!("tcp 127.0.0.1:{one} {expected}"));
    let expected = "listening reuseaddr keepalive defer-accept=3 fastopen=16 backlog=7";
    assert_eq!(descriptors[&4], format!("tcp 127.0.0.1:{other} {expected}"));
    assert_eq!(descriptors[&5], format!("unix {name} listening nonblocking"));
    let expected = format!("127.0.0.1:{one}=3;127.0.0.1:{other}=4;{name}=5");
    assert_eq!(dump.env("SERVER_STARTER_PORT"), Some(&*expected));
}

#[test]
fn one_socket_can_serve_both_families() {
    let port = Port::new();
    let mut daemon = serving(&[&format!("--port=[::]:{port}"), "--v6only=no"], &[]);
    get(&Address::local(port.number()), "/").unwrap();
    let expected = format!("tcp [::]:{port} listening reuseaddr backlog=4096");
    assert_eq!(daemon.wait_dump(1).descriptors()[&3], expected);
    assert!(daemon.stop().success());
}

#[test]
fn a_port_can_be_shared_with_others() {
    let port = Port::new();
    let option = format!("--listen=127.0.0.1:{port},reuseport");
    let (mut one, mut other) = (serving(&[&option], &[]), serving(&[&option], &[]));
    assert!(other.wait_dump(1).descriptors()[&3].contains("reuseport"));
    get(&Address::local(port.number()), "/").unwrap();
    assert!(one.stop().success());
    get(&Address::local(port.number()), "/").unwrap();
    assert!(other.stop().success());
}

#[test]
fn where_others_may_listen_too_workers_left_behind_are_still_taken_over() {
    let port = Port::new();
    let option = format!("--listen=127.0.0.1:{port},reuseport");
    let mut first = serving(&[&option], &[]);
    let orphan = first.workers()[0];
    first.signal("KILL");
    first.exit_status();
    let mut second = Daemon::new(OURS).with_files().options(["--interval=0", &option]).server([] as [&str; 0]).start();
    second.wait_line("is taken over from generation 1");
    // The orphan is told to go once the new generation serves.
    second.wait_status_file(|generations| generations == [2]);
    second.wait_for("the end of the orphan", || (!first.processes().contains(&orphan)).then_some(()));
    get(&Address::local(port.number()), "/").unwrap();
    assert!(second.stop().success());
}

#[test]
fn the_port_that_the_system_chose_is_shown_everywhere() {
    let mut daemon = serving(
        &["--listen=127.0.0.1:0,name=web", "--port=127.0.0.1:0", "--export=listen-fds"],
        &["--say={port:web},{addr:1},{host:0}"],
    );
    let dump = daemon.wait_dump(1);
    let bound = |number: i32| {
        let description = dump.descriptors()[&number].to_owned();
        description.split(' ').nth(1).unwrap().to_owned()
    };
    // Ports come before --listen.
    let (plain, web) = (bound(3), bound(4));
    let web_port = web.rsplit_once(':').unwrap().1;
    assert!(dump.get("argv").unwrap().ends_with(&format!(" --say={web_port},{web},127.0.0.1")), "{dump:?}");
    assert_eq!(dump.env("SERVER_STARTER_PORT"), Some("127.0.0.1:0=3;127.0.0.1:0=4"));
    assert_eq!(dump.env("LISTEN_FDNAMES"), Some(&*format!("{}:web", plain.replace(':', "_"))));
    for address in [&plain, &web] {
        daemon.wait_line(&format!("listening on {address}, which the system chose for 127.0.0.1:0"));
    }
    let status = String::from_utf8(daemon.verb(["--status", "--pid-file=pid"]).stdout).unwrap();
    assert!(status.contains(&plain) && status.contains(&web) && status.contains("web"), "{status}");
    assert!(daemon.stop().success());
}

#[test]
fn files_of_unix_sockets_have_the_mode_and_the_owner_that_were_asked_for() {
    let (mut owner, mut options) = ("", vec!["--path=open", "--listen=unix:closed,mode=0640"]);
    if rustix::process::geteuid().is_root() {
        owner = "daemon";
        options.push("--listen=unix:given,mode=600,owner=daemon,group=2");
    }
    let mut daemon = serving(&options, &[]);
    let metadata = |name: &str| fs::symlink_metadata(daemon.path(name)).unwrap();
    let mode = |name: &str| metadata(name).permissions().mode() & 0o7777;
    assert_eq!((mode("open"), mode("closed")), (0o777, 0o640));
    if owner == "daemon" {
        assert_eq!((mode("given"), metadata("given").uid(), metadata("given").gid()), (0o600, 1, 2));
    }
    get(&Address::Unix(daemon.path("closed")), "/").unwrap();
    assert!(daemon.stop().success());
    for name in ["open", "closed", "given"] {
        assert!(!daemon.path(name).exists(), "{name}");
    }
}

#[test]
fn owners_that_do_not_exist_are_refused_and_leave_nothing_behind() {
    let directory = tempdir("owners");
    let path = directory.join("s");
    let text = refusal(&[&format!("--listen=unix:{},owner=nobody-of-that-name", path.display())], &["true"]);
    let expected = format!("failed to change the owner of the socket file {}:there is no nobody-of", path.display());
    assert!(text.contains(&expected), "{text}");
    assert!(!path.exists());
    fs::remove_dir(directory).unwrap();
}

#[test]
fn datagrams_of_unix_sockets_are_served() {
    let mut daemon = serving(&["--listen=unix-dgram:log,name=log"], &[]);
    let dump = daemon.wait_dump(1);
    assert_eq!(dump.descriptors()[&3], "unix-datagram log");
    assert_eq!(dump.env("SERVER_STARTER_PORT"), Some("log=3"));
    let sender = UnixDatagram::unbound().unwrap();
    sender.send_to(b"hello", daemon.path("log")).unwrap();
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [2]);
    sender.send_to(b"hello", daemon.path("log")).unwrap();
    assert!(daemon.stop().success());
    assert!(!daemon.path("log").exists());
}

#[test]
fn exports_are_set_for_the_worker_itself() {
    let port = Port::new();
    let listen = format!("--listen=127.0.0.1:{port},name=web");
    let mut daemon = serving(&[&listen, "--listen=unix:s", "--export=listen-fds,unicorn,puma,nginx,fpm,einhorn"], &[]);
    for generation in [1, 2] {
        let worker = daemon.wait_status_file(|generations| generations == [generation])[0].1;
        let dump = daemon.wait_dump(generation);
        for (name, expected) in [
            ("LISTEN_PID", worker.to_string()),
            ("LISTEN_FDS", "2".to_owned()),
            ("LISTEN_FDNAMES", "web:s".to_owned()),
            ("UNICORN_FD", "3,4".to_owned()),
            ("PUMA_INHERIT_0", format!("3:tcp://127.0.0.1:{port}")),
            ("PUMA_INHERIT_1", "4:unix://s".to_owned()),
            ("NGINX", "3;4;".to_owned()),
            ("FPM_SOCKETS", format!("127.0.0.1:{port}=3,s=4")),
            ("EINHORN_MASTER_PID", daemon.pid().to_string()),
            ("EINHORN_FD_COUNT", "2".to_owned()),
            ("EINHORN_FD_1", "4".to_owned()),
        ] {
            assert_eq!(dump.env(name), Some(&*expected), "{name}");
        }
        if generation == 1 {
            daemon.hup();
        }
    }
    assert!(daemon.stop().success());
}

#[test]
fn what_came_from_outside_and_is_stale_does_not_reach_workers() {
    let port = Port::new();
    let mut daemon = Daemon::new(OURS)
        .with_files()
        .options(["--interval=0", &format!("--port=127.0.0.1:{port}")])
        .env("LISTEN_FDS", "3")
        .env("LISTEN_FDNAMES", "a:b:c")
        .env("UNICORN_FD", "9")
        .env("NGINX", "3;")
        .env("PUMA_INHERIT_0", "12:tcp://127.0.0.1:1")
        .env("EINHORN_FD_0", "3")
        .server([] as [&str; 0])
        .start();
    let dump = daemon.wait_dump(1);
    for name in ["LISTEN_FDS", "LISTEN_FDNAMES", "UNICORN_FD", "PUMA_INHERIT_0", "EINHORN_FD_0"] {
        assert_eq!(dump.env(name), None, "{name}");
    }
    // This one names a descriptor that the worker has: whoever set it knew.
    assert_eq!(dump.env("NGINX"), Some("3;"));
    assert!(daemon.stop().success());
}

#[test]
fn descriptors_can_begin_higher() {
    let (one, other) = (Port::new(), Port::new());
    let options = [&*format!("--port=127.0.0.1:{one}"), &format!("--port=127.0.0.1:{other}=51"), "--path=s"];
    let dump = dump(&[&options[..], &["--first-fd=50", "--export=nginx"]].concat(), &["--say={fd:0}-{fd:1}-{fd:2}"]);
    let expected = format!("127.0.0.1:{one}=50;127.0.0.1:{other}=51;s=52");
    assert_eq!(dump.env("SERVER_STARTER_PORT"), Some(&*expected));
    assert_eq!(dump.env("NGINX"), Some("50;51;52;"));
    assert!(dump.get("argv").unwrap().ends_with(" --say=50-51-52"));
    assert!(!dump.descriptors().contains_key(&3));
}

#[test]
fn the_generation_in_the_arguments_changes_with_each() {
    let mut daemon = serving(&[], &["--say=g{generation}", "--say={fd}"]);
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [2]);
    for generation in [1, 2] {
        let dump = daemon.wait_dump(generation);
        let expected = format!(" --say=g{generation} --say={{fd}}");
        assert!(dump.get("argv").unwrap().ends_with(&expected), "{dump:?}");
    }
    assert!(daemon.stop().success());
}

#[test]
fn what_does_not_go_together_is_said_before_anything_is_started() {
    for (options, program, expected) in [
        (&["--port=127.0.0.1:0=7", "--export=listen-fds"][..], "true", "is at 7 instead of 3; leave out =FD"),
        (&["--port=127.0.0.1:0"], "{fd:1}", "{fd:1} in the arguments of the program names no listener; there are 0 ("),
        (&["--listen=unix:@listeners-test,name=a"], "{port:a}", "a is a unix socket and has no port; use {addr:a}"),
        (&["--listen=127.0.0.1:0,name=web"], "{fd:wbe}", "names no listener; there are 0 (web)"),
        (&["--listen=127.0.0.1:0,fd=2"], "true", "this is the descriptor of the standard error output"),
    ] {
        let text = refusal(options, &["/bin/echo", program]);
        assert!(text.contains(expected), "{options:?} gave {text}");
    }
}

#[test]
fn one_signal_without_the_other_is_worth_a_word() {
    let port = Port::new();
    let port = format!("--port=127.0.0.1:{port}");
    let mut daemon = serving(&[&port, "--signal-on-hup=QUIT"], &["--graceful-on=QUIT,TERM"]);
    daemon
        .wait_line("--signal-on-hup is given and --signal-on-term is not, so workers are told to stop by TERM at the");
    assert!(daemon.stop().success());
}

fn tempdir(name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("listeners-test-{}-{name}", std::process::id()));
    fs::create_dir_all(&path).unwrap();
    path
}
