//! Another image of the superdaemon goes on with what the service manager has passed and was told.

use testkit::{Address, Client, Port, get};

use crate::manager::Manager;
use crate::passed::{listeners, passing};
use crate::world::ours;

const NONE: [&str; 0] = [];

#[test]
fn passed_listeners_and_the_manager_stay_over_an_upgrade_and_a_crash() {
    let (one, two) = (Port::new(), Port::new());
    let sockets = [format!("tcp:{one}"), "unix:sock".to_owned()];
    let options = ["--ready=accept".to_owned(), format!("--port=127.0.0.1:{two}")];
    let (manager, daemon) = Manager::of(ours().options(options));
    let mut daemon = passing(daemon, &sockets, "web:admin").server(NONE).start();
    let extend = "EXTEND_TIMEOUT_USEC=75000000";
    let mut events = vec![extend, "READY=1"];
    manager.wait_events(&daemon, &events);
    let names = |daemon| listeners(daemon).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let before = names(&daemon);
    let client = Client::start(Address::local(one.number()));
    client.wait_answers(20);

    let upgraded = daemon.verb(["--upgrade", "--pid-file=pid"]);
    assert!(upgraded.status.success(), "{upgraded:?}");
    daemon.settle();
    daemon.signal("SEGV");
    daemon.wait_line("it goes on where it was");
    assert_eq!(names(&daemon), before);
    // Nothing of that is news to the manager.
    manager.wait_events(&daemon, &events);

    assert!(daemon.verb(["--restart", "--pid-file=pid"]).status.success());
    events.extend(["RELOADING=1", extend, "READY=1"]);
    manager.wait_events(&daemon, &events);
    manager.wait_status(&daemon, |status| status.starts_with("generation 2 (pid ") && status.ends_with(") serves"));
    let dump = daemon.wait_dump(2);
    let expected = format!("127.0.0.1:{two}=3;127.0.0.1:{one}=4;sock=5");
    assert_eq!(dump.env("SERVER_STARTER_PORT"), Some(expected.as_str()));
    for address in [Address::local(one.number()), Address::local(two.number()), Address::Unix(daemon.path("sock"))] {
        assert_eq!(get(&address, "/").unwrap().generation, 2);
    }
    client.wait_answers(20);
    let tally = client.stop();
    assert_eq!(tally.lost(), 0, "{tally:?}");
    assert!(daemon.stop().success());
    events.push("STOPPING=1");
    manager.wait_events(&daemon, &events);
    assert!(daemon.path("sock").exists(), "it is the manager's");
}
