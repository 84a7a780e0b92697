//! The protocol, as a client in another language would speak it.

use testkit::Daemon;

use crate::client::{Client, GIVE_UP, RESTART, STATUS};
use crate::world::ours;

fn started(options: &[&str]) -> Daemon {
    let daemon = ours().option("--interval=0.1").options(options.iter().copied()).server(["--drain=600"]).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_ready(1);
    daemon
}

fn asked(daemon: &Daemon, request: impl AsRef<[u8]>) -> serde_json::Value {
    let mut client = Client::connect(daemon);
    client.send(request);
    client.answer()
}

#[test]
fn a_request_is_answered_once_and_the_connection_closed() {
    let daemon = started(&[]);
    let status = asked(&daemon, STATUS);
    assert_eq!((&status["reply"], &status["pid"]), (&"status".into(), &daemon.pid().into()));
    let mut client = Client::connect(&daemon);
    client.send("{\"version\":1,\"request\":\"restart\",\"until\":\"commit\"}\n");
    client.wait_progress("starting new worker");
    client.wait_progress("killing old workers");
    let answer = client.answer();
    assert_eq!((&answer["reply"], &answer["generation"]), (&"restarted".into(), &2.into()));
}

#[test]
fn a_request_may_come_in_pieces() {
    let daemon = started(&[]);
    let mut client = Client::connect(&daemon);
    STATUS.as_bytes().iter().for_each(|byte| client.send([*byte]));
    assert_eq!(client.answer()["reply"], "status");
}

#[test]
fn what_is_not_known_is_ignored() {
    let daemon = started(&[]);
    let line = " { \"request\" : \"status\" , \"colour\" : [ \"blue\" ] , \"version\" : 1 } \r\n";
    assert_eq!(asked(&daemon, line)["reply"], "status");
}

#[test]
fn nonsense_gets_a_sentence_at_once() {
    let daemon = started(&[]);
    for (nonsense, why) in [
        (&b"\n"[..], "this is no message of the control protocol"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "this is no message"),
        (b"\xff\xfe\x00\x01\n", "this is no message"),
        (b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\n", "this is no message"),
        (b"{\"version\":2,\"request\":\"status\"}\n", "this is version 2 of the control protocol"),
        (b"{\"version\":1,\"request\":\"explode\"}\n", "is not understood"),
        (b"{\"version\":1}\n", "is not understood"),
        (b"{\"version\":1,\"request\":\"restart\",\"until\":\"tomorrow\"}\n", "is not understood"),
        (GIVE_UP.as_bytes(), "there is nothing to give up"),
        (&[b'['; 65_000], "a request is a line of at most 65536 bytes"),
        (&[b'x'; 100_000], "a request is a line of at most 65536 bytes"),
    ] {
        let mut client = Client::connect(&daemon);
        client.send_all_that_fits(nonsense);
        if nonsense == [b'['; 65_000] {
            client.send([b'['; 536]);
        }
        let answer = client.answer();
        assert_eq!(answer["reply"], "error", "{answer}");
        assert!(answer["reason"].as_str().unwrap().contains(why), "{answer}");
    }
}

#[test]
fn a_connection_is_for_one_request() {
    let daemon = started(&[]);
    let mut client = Client::connect(&daemon);
    client.send(RESTART);
    client.wait_progress("killing old workers");
    client.send(STATUS);
    assert_eq!(client.answer()["reason"], "a connection is for one request");
}

#[test]
fn a_client_may_give_up_in_the_same_breath() {
    let daemon = started(&["--kill-old-delay=60"]);
    let answer = asked(&daemon, [RESTART, GIVE_UP].concat());
    assert_eq!((&answer["reply"], &answer["serving"]), (&"timed-out".into(), &1.into()));
    daemon.wait_line("is abandoned, because nobody waits for it any more");
}

#[test]
fn one_who_has_said_everything_may_say_so() {
    let daemon = started(&[]);
    let mut client = Client::connect(&daemon);
    client.send(STATUS);
    client.shut();
    assert_eq!(client.answer()["reply"], "status");
    let mut client = Client::connect(&daemon);
    client.send("{\"version\":1,\"request\":\"restart\",\"until\":\"commit\"}\n");
    client.shut();
    assert_eq!(client.answer()["reply"], "restarted");
}

#[test]
fn a_restart_goes_on_without_the_one_who_asked_for_it() {
    let daemon = started(&["--kill-old-delay=1"]);
    let mut client = Client::connect(&daemon);
    client.send(RESTART);
    client.wait_progress("before killing old workers");
    drop(client);
    daemon.wait_event(1, "signal TERM");
}
