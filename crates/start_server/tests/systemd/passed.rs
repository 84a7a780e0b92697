//! Sockets that were passed at the start.

use std::process::Command;

use testkit::{Address, Builder, Client, Daemon, Port, get};

use crate::manager::Manager;
use crate::world::{ours, status};

const NONE: [&str; 0] = [];
const OURS: &str = env!("CARGO_BIN_EXE_start_server");

/// Opens what its arguments say, from descriptor 3 on, and becomes what follows `--`; or with the argument `restart`, runs
/// that again and again until it succeeds, with the same sockets.
const LAUNCHER: &str = r#"
use Socket qw(:DEFAULT inet_pton pack_sockaddr_in6);
$^F = 1000;
my @open;
sub made { my ($domain, $type, $address, $listen) = @_;
    socket(my $socket, $domain, $type, 0) or die "socket: $!";
    setsockopt($socket, SOL_SOCKET, SO_REUSEADDR, 1) if $domain != AF_UNIX;
    bind($socket, $address) or die "bind: $!" if $address;
    listen($socket, 77) or die "listen: $!" if $listen;
    push @open, $socket;
}
while (($_ = shift) ne '--') {
    my ($kind, $at) = /^(\w+):?(.*)/;
    if ($kind eq 'tcp') { made(AF_INET, SOCK_STREAM, pack_sockaddr_in($at, INADDR_LOOPBACK), 1) }
    elsif ($kind eq 'both') { made(AF_INET6, SOCK_STREAM, pack_sockaddr_in6($at, inet_pton(AF_INET6, '::')), 1) }
    elsif ($kind eq 'udp') { made(AF_INET, SOCK_DGRAM, pack_sockaddr_in($at, INADDR_LOOPBACK), 0) }
    elsif ($kind eq 'unix') { made(AF_UNIX, SOCK_STREAM, pack_sockaddr_un($at), 1) }
    elsif ($kind eq 'abstract') { made(AF_UNIX, SOCK_DGRAM, pack('S a*', AF_UNIX, "\0$at"), 0) }
    elsif ($kind eq 'deaf') { made(AF_INET, SOCK_STREAM, pack_sockaddr_in($at, INADDR_LOOPBACK), 0) }
    elsif ($kind eq 'unbound') { made(AF_INET, SOCK_DGRAM, undef, 0) }
    elsif ($kind eq 'restart') { $restart = 1 }
    elsif ($kind eq 'file') { open(my $file, '<', '/dev/null') or die $!; push @open, $file }
    else { die $_ }
}
$ENV{LISTEN_FDS} //= @open;
while ($restart and my $pid = fork // die $!) {
    waitpid($pid, 0);
    exit if !$?;
}
$ENV{LISTEN_PID} //= $$;
exec @ARGV or die $!;
"#;

pub fn passing(daemon: Builder, sockets: &[String], names: &str) -> Builder {
    let script = format!("exec perl -e \"$LAUNCHER\" {} -- \"$@\"", sockets.join(" "));
    daemon.env("LISTEN_FDNAMES", names).env("LAUNCHER", LAUNCHER).after_script(&script)
}

pub fn listeners(daemon: &Daemon) -> Vec<(String, String)> {
    status(daemon).listeners.into_iter().map(|listener| (listener.name, listener.address)).collect()
}

#[test]
fn they_become_listeners_beside_those_of_the_command_line() {
    let [one, two, three, four] = [(); 4].map(|()| Port::new());
    let name = format!("passed-{}", std::process::id());
    let sockets = [
        format!("tcp:{one}"),
        format!("udp:{two}"),
        "unix:sock".into(),
        format!("abstract:{name}"),
        format!("both:{three}"),
    ];
    let options = [&format!("--port=127.0.0.1:{four}"), "--interval=0", "--export=listen-fds"];
    let mut daemon = passing(ours().options(options), &sockets, "web:twice:unknown:twice:").server(NONE).start();
    let dump = daemon.wait_dump(1);
    let expected = format!("127.0.0.1:{four}=3;127.0.0.1:{one}=4;127.0.0.1:{two}=5;sock=6;@{name}=7;[::]:{three}=8");
    assert_eq!(dump.env("SERVER_STARTER_PORT"), Some(expected.as_str()));
    assert_eq!(dump.env("LISTEN_FDS"), Some("6"));
    let names = format!("127.0.0.1_{four}:web:127.0.0.1_u{two}:sock:@{name}:[__]_{three}");
    assert_eq!(dump.env("LISTEN_FDNAMES"), Some(names.as_str()));
    daemon.wait_ready(1);
    for address in [Address::local(one.number()), Address::local(three.number()), Address::Unix(daemon.path("sock"))] {
        assert_eq!(get(&address, "/").unwrap().generation, 1);
    }
    assert_eq!(listeners(&daemon)[1], ("web".to_owned(), format!("127.0.0.1:{one}")));
    // Its length is the business of whoever made it.
    assert_eq!(status(&daemon).listeners[1].backlog, Some(77));
    assert!(daemon.stop().success());
    assert!(daemon.path("sock").exists());
}

#[test]
fn they_take_the_place_of_what_has_their_address() {
    let [one, two, three] = [(); 3].map(|()| Port::new());
    let sockets = ["unix:sock".to_owned(), format!("tcp:{one}"), format!("both:{two}"), format!("udp:{three}")];
    let options = [
        format!("--port=localhost:{one}"),
        format!("--port={two}"),
        format!("--listen=udp:127.0.0.1:{three},name=mine"),
        "--path=sock".to_owned(),
        "--backlog=5".to_owned(),
        "--interval=0".to_owned(),
    ];
    let mut daemon = passing(ours().options(options), &sockets, "a:b:c:d").server(NONE).start();
    let dump = daemon.wait_dump(1);
    let expected = format!("localhost:{one}=3;{two}=4;sock=5;127.0.0.1:{three}=6");
    assert_eq!(dump.env("SERVER_STARTER_PORT"), Some(expected.as_str()));
    let names: Vec<String> = listeners(&daemon).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["b", "c", "a", "mine"]);
    assert_eq!(status(&daemon).listeners[0].backlog, Some(5));
    assert!(daemon.stop().success());
    assert!(daemon.path("sock").exists());
}

#[test]
fn what_is_for_another_process_is_left_alone() {
    let (one, two) = (Port::new(), Port::new());
    let daemon = ours().options(["--interval=0".to_owned(), format!("--port=127.0.0.1:{two}")]).env("LISTEN_PID", "1");
    let daemon = passing(daemon, &[format!("tcp:{one}")], "web").server(NONE).start();
    assert_eq!(daemon.wait_dump(1).env("SERVER_STARTER_PORT"), Some(format!("127.0.0.1:{two}=3").as_str()));
}

#[test]
fn nonsense_is_refused() {
    let port = Port::new();
    for (sockets, variables, expected) in [
        ("file", "", "failed to listen on descriptor 3 (x), which was passed: it is no socket; pass listening"),
        ("unbound", "", "it is not bound to a port"),
        (&format!("deaf:{port}"), "", "it does not listen"),
        (
            "file",
            "LISTEN_FDS=2 LISTEN_FDNAMES=x:y",
            "failed to take descriptor 4, which LISTEN_FDS announces: Bad file",
        ),
        ("file", "LISTEN_FDS=many", "LISTEN_FDS is set to \"many\", which is no number of descriptors"),
        ("file", "LISTEN_FDNAMES=x:y", "LISTEN_FDNAMES is set to \"x:y\", which are not the names of 1 descriptors"),
    ] {
        let output = Command::new("perl")
            .args(["-e", LAUNCHER, sockets, "--", OURS, "--", "true"])
            .env("LISTEN_FDNAMES", "x")
            .envs(variables.split(' ').filter_map(|word| word.split_once('=')))
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && text.contains(expected), "{text}");
    }
}

#[test]
fn what_was_kept_takes_its_place_or_goes() {
    let [one, two, three] = [(); 3].map(|()| Port::new());
    let sockets = [
        format!("tcp:{one}"),
        format!("tcp:{two}"),
        format!("tcp:{three}"),
        "unix:sock".to_owned(),
        "file".to_owned(),
        "unbound".to_owned(),
    ];
    let names = format!(
        "start_server-tcp-127.0.0.1_{one}:start_server-tcp-gone:start_server-tcp-127.0.0.1_0:start_server-unix-sock:\
         start_server-memory:start_server-udp-useless"
    );
    let options = [
        "--interval=0".to_owned(),
        "--port=127.0.0.1:0".to_owned(),
        format!("--port=127.0.0.1:{one}"),
        "--path=sock".to_owned(),
    ];
    let (manager, daemon) = Manager::of(ours().options(options));
    let mut daemon = passing(daemon, &sockets, &names).server(NONE).start();
    daemon.wait_ready(1);
    let addresses: Vec<String> = listeners(&daemon).into_iter().map(|(_, address)| address).collect();
    assert_eq!(addresses, [format!("127.0.0.1:{three}"), format!("127.0.0.1:{one}"), "sock".to_owned()]);
    assert_eq!(manager.texts("FDSTOREREMOVE=1\nFDNAME="), ["start_server-udp-useless", "start_server-tcp-gone"]);
    assert!(get(&Address::local(two.number()), "/").is_err());
    // This file was made by a superdaemon, and so it is removed by one.
    assert!(daemon.stop().success());
    assert!(!daemon.path("sock").exists());
}

/// The next superdaemon is given the listener, so no address is in its way that would tell it of those who serve there.
#[test]
fn workers_that_were_left_with_them_are_replaced() {
    let port = Port::new();
    let sockets = [format!("tcp:{port}"), "restart".to_owned()];
    let options = ["--interval=0".to_owned(), format!("--port=127.0.0.1:{port}")];
    let name = format!("start_server-tcp-127.0.0.1_{port}");
    let daemon = passing(ours().options(options), &sockets, &name).server(NONE).start();
    daemon.wait_ready(1);
    let superdaemon = || daemon.wait_file("pid").trim().parse::<u32>().unwrap();
    let client = Client::start(Address::local(port.number()));
    client.wait_answers(20);
    for generation in 2..4 {
        let before = superdaemon();
        daemon.signal_process(before, "KILL");
        let line = format!("generation {} (pid ", generation - 1);
        daemon.wait_for("the worker to be found", || {
            daemon.lines().into_iter().find(|it| it.starts_with(&line) && it.contains(" serves there without its"))
        });
        daemon.wait_event(generation - 1, "exit 0");
        daemon.wait_status_file(|generations| generations == [generation]);
        client.wait_answers(20);
    }
    assert_eq!(client.stop().lost(), 0);
    daemon.signal_process(superdaemon(), "TERM");
    daemon.wait_gone();
}
