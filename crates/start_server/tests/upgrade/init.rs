//! The same as the first process of a PID namespace, where a process that ends takes everything with it.

use std::process::Command;

use testkit::{Daemon, testserver};

use crate::programs::OURS;

#[test]
fn the_first_process_of_a_container_can_be_upgraded_and_can_crash() {
    let unshare = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let possible = Command::new("unshare").args(unshare).arg("true").status().is_ok_and(|status| status.success());
    if !possible {
        eprintln!("unshare is not permitted: not tested");
        return;
    }
    let script = r#"
        $S --upgrade --pid-file=pid || exit 10
        kill -SEGV 1; kill -0 1 || exit 11
        for i in $(seq 500); do grep -q crashed log && break; sleep 0.02; done
        $S --restart --pid-file=pid || exit 12
        $S --upgrade --pid-file=pid || exit 13
        $S --status --pid-file=pid >seen || exit 14
        touch done
        $S --stop --pid-file=pid
    "#;
    let inner = format!(
        "exec {OURS} --pid-file=pid --path=socket --interval=0 --log-file=log -- \
         sh -c 'if test ! -e begun; then touch begun; setsid sh ./script >out 2>&1 & fi; exec {} --ready-after=0'",
        testserver().display()
    );
    let builder = Daemon::new("/usr/bin/unshare").options(unshare).option("sh").option("-c").option(inner).log("log");
    std::fs::write(builder.dir().join("script"), script.replace("$S", OURS)).unwrap();
    let mut daemon = builder.start();
    let status = daemon.exit_status();
    let shown = || format!("{:?}\n{}\n{}", daemon.lines(), daemon.text("out"), daemon.text("seen"));
    assert_eq!(status.code(), Some(0), "{}", shown());
    assert!(daemon.path("done").exists(), "{}", shown());
    let seen = daemon.text("seen");
    assert!(seen.contains("(pid 1)") && seen.contains("upgrades in place: 2, crashes survived: 1"), "{}", shown());
    assert!(!daemon.path("pid").exists() && !daemon.path("socket").exists());
}
