//! A server's own listen(2) sets the length of the queue for all.

use testkit::Port;

use super::{count, restart, serving, stop};

#[test]
fn a_backlog_that_a_server_has_reduced_is_restored() {
    let port = Port::new();
    let options = [&*format!("--port=127.0.0.1:{port}"), "--path=socket", "--backlog=55"];
    let daemon = serving(options, ["start=listen"]);
    for generation in 1..3 {
        let status = daemon.verb(["--status", "--json", "--pid-file=pid"]);
        let status = String::from_utf8_lossy(&status.stdout).into_owned();
        assert_eq!(status.matches(r#""backlog": 55"#).count(), 2, "{status}");
        restart(&daemon, generation);
    }
    for name in [&*format!("127.0.0.1:{port} (descriptor 3)"), "socket (descriptor 4)"] {
        let line = format!("the program has reduced the backlog of {name} to 1; it is 55 again");
        assert_eq!(count(&daemon, &line), 1, "{:?}", daemon.lines());
    }
    stop(daemon);
}
