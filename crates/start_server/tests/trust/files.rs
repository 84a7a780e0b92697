//! Files of ours in a directory of another user: the log, the status file, the files of unix sockets. Whoever owns the
//! directory exchanges what is in it, and must not turn that against root.

use std::fs::{self, File};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use testkit::{Builder, Daemon, TempDir};

use crate::other_user::{Exchange, SERVICE, STRANGER, directory_of, is_untouched, precious, script_as};
use crate::world::{is_root, ours, status};

fn superdaemon() -> Builder {
    ours().option("--interval=0.1").program(["sleep", "600"])
}

/// One that logs into `log/app.log` of a directory of the service's.
fn logging(daemon: Builder) -> Daemon {
    directory_of(SERVICE, daemon.dir(), "log");
    precious(daemon.dir());
    let daemon = daemon.option("--log-file=log/app.log").log("log/app.log").start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon
}

/// Puts something in the place of the log, and has it opened again. It is refused for this reason; the old one stays.
fn refused_at_usr1(daemon: &Daemon, script: &str, why: &str) {
    script_as(SERVICE, &daemon.path("log"), &format!("rm -f moved; mv app.log moved; {script}"));
    usr1_refused(daemon, why);
    script_as(SERVICE, &daemon.path("log"), "rm -f app.log; mv moved app.log");
}

fn usr1_refused(daemon: &Daemon, why: &str) {
    let said = || daemon.text("log/moved").matches("writing to the one that is open").count();
    let before = said();
    daemon.signal("USR1");
    daemon.wait_for("the refusal in the old log", || (said() > before).then_some(()));
    let text = daemon.text("log/moved");
    let line = text.lines().rfind(|line| line.contains("failed to open log file")).unwrap();
    assert!(line.contains(why), "{line}");
    assert!(is_untouched(&daemon.path("precious")));
    status(daemon);
}

#[test]
fn a_log_file_is_not_opened_through_a_link_of_another_user() {
    if !is_root("links in the log's directory") {
        return;
    }
    let daemon = logging(superdaemon());
    let link = format!("app.log is a symbolic link of user {SERVICE}, which is not followed");
    refused_at_usr1(&daemon, "ln -s ../precious app.log", &link);
    refused_at_usr1(&daemon, "ln -s ../new app.log", &link);
    assert!(!daemon.path("new").exists());
    // By two links, of which only the first is another user's.
    symlink("precious", daemon.path("ours")).unwrap();
    refused_at_usr1(&daemon, "ln -s ../ours app.log", &link);
    daemon.hup();
    daemon.wait_status_file(|generations| generations == [2]);
}

#[test]
fn a_log_directory_is_not_reached_through_a_link_of_another_user() {
    if !is_root("links on the way to the log") {
        return;
    }
    let builder = superdaemon();
    let home = directory_of(SERVICE, builder.dir(), "home");
    fs::create_dir(builder.dir().join("etc")).unwrap();
    script_as(SERVICE, &home, "ln -s ../etc log");
    let mut daemon = builder.option("--log-file=home/log/app.log").start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    let error = daemon.text("stderr");
    let why = format!("home/log is a symbolic link of user {SERVICE}, which is not followed; give a file that");
    assert!(error.contains(&why), "{error}");
    assert_eq!(fs::read_dir(daemon.path("etc")).unwrap().count(), 0);
}

#[test]
fn links_of_root_lead_to_the_log_as_ever() {
    let builder = superdaemon();
    fs::create_dir_all(builder.dir().join("releases/1")).unwrap();
    symlink("releases/1", builder.dir().join("current")).unwrap();
    symlink("app.1.log", builder.dir().join("releases/1/app.log")).unwrap();
    let daemon = builder.option("--log-file=current/app.log").log("releases/1/app.1.log").start();
    daemon.wait_line("starting new worker");
    daemon.signal("USR1");
    daemon.wait_line("received USR1, log file reopened");
}

#[test]
fn a_fifo_in_the_place_of_the_log_is_not_waited_for() {
    if !is_root("a FIFO in the log's directory") {
        return;
    }
    let daemon = logging(superdaemon());
    refused_at_usr1(&daemon, "mkfifo app.log", "it is a FIFO that nobody reads");
    // With a reader it would be another user who decides when the program waits.
    script_as(SERVICE, &daemon.path("log"), "mv app.log moved; mkfifo app.log");
    let reader = File::options().read(true).write(true).open(daemon.path("log/app.log")).unwrap();
    usr1_refused(&daemon, &format!("a FIFO of user {SERVICE} is there"));
    drop(reader);
}

#[test]
fn a_fifo_of_ours_is_a_log_if_it_has_a_reader() {
    let builder = superdaemon().option("--log-file=fifo");
    let mkfifo = std::process::Command::new("mkfifo").arg(builder.dir().join("fifo")).status().unwrap();
    assert!(mkfifo.success());
    let mut daemon = builder.start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    let error = daemon.text("stderr");
    assert!(error.contains("failed to open log file:fifo: it is a FIFO that nobody reads"), "{error}");

    let builder = superdaemon().option("--log-file=fifo");
    let path = builder.dir().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let reader = File::options().read(true).write(true).open(&path).unwrap();
    let daemon = builder.start();
    daemon.wait_status_file(|generations| generations == [1]);
    // What the program writes waits for room, as in every pipe.
    let flags = fs::read_to_string(format!("/proc/{}/fdinfo/1", daemon.workers()[0])).unwrap();
    let flags = flags.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
    assert_eq!(u32::from_str_radix(flags, 8).unwrap() & 0o4000, 0, "O_NONBLOCK");
    drop(reader);
}

#[test]
fn a_file_of_roots_under_another_name_is_not_written_to() {
    if !is_root("hard links in the log's directory") {
        return;
    }
    let daemon = logging(superdaemon());
    script_as(SERVICE, &daemon.path("log"), "mv app.log moved");
    // Where fs.protected_hardlinks is 0, the service does this itself.
    fs::hard_link(daemon.path("precious"), daemon.path("log/app.log")).unwrap();
    usr1_refused(&daemon, "the file has another name elsewhere");
}

#[test]
fn a_log_file_of_another_user_is_not_taken_for_ours() {
    if !is_root("another user's file") {
        return;
    }
    // In a directory like /tmp.
    let builder = superdaemon();
    let public = directory_of(0, builder.dir(), "public");
    fs::set_permissions(&public, fs::Permissions::from_mode(0o1777)).unwrap();
    script_as(STRANGER, &public, "echo mine >app.log; chmod 666 app.log");
    let mut daemon = builder.option("--log-file=public/app.log").start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    let error = daemon.text("stderr");
    assert!(error.contains(&format!("a file of user {STRANGER} is there, which is not taken for ours")), "{error}");
    assert_eq!(daemon.text("public/app.log"), "mine\n");

    // What the owner of the directory has made, as logrotate does with `create` and `su`, is used as it is.
    let daemon = logging(superdaemon());
    script_as(SERVICE, &daemon.path("log"), "mv app.log app.log.1; umask 077; touch app.log");
    daemon.signal("USR1");
    daemon.wait_line("received USR1, log file reopened");
    let found = fs::metadata(daemon.path("log/app.log")).unwrap();
    assert_eq!((found.mode() & 0o777, found.uid()), (0o600, SERVICE));
}

#[test]
fn what_is_created_has_its_own_permissions_whatever_the_umask() {
    for (umask, of_the_log) in [("000", 0o644), ("022", 0o644), ("077", 0o600)] {
        let daemon = superdaemon().after_script(&format!("umask {umask}")).option("--log-file=log").log("log").start();
        daemon.wait_status_file(|generations| generations == [1]);
        let mode = |name: &str| fs::metadata(daemon.path(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode("log"), mode("status")), (of_the_log, 0o644), "{umask}");
        // What is there keeps its own.
        fs::set_permissions(daemon.path("log"), fs::Permissions::from_mode(0o620)).unwrap();
        daemon.signal("USR1");
        daemon.wait_line("received USR1, log file reopened");
        assert_eq!(mode("log"), 0o620);
    }
}

#[test]
fn devices_are_logs_as_ever() {
    for log in ["/dev/null", "/dev/stdout", "/dev/stderr", "/proc/self/fd/1"] {
        let daemon = superdaemon().option(format!("--log-file={log}")).start();
        daemon.wait_status_file(|generations| generations == [1]);
        daemon.signal("USR1");
        daemon.hup();
        daemon.wait_status_file(|generations| generations == [2]);
        if log != "/dev/null" {
            let name = if log == "/dev/stderr" { "stderr" } else { "stdout" };
            daemon.wait_for("the log", || daemon.text(name).contains("old worker").then_some(()));
        }
    }
}

#[test]
fn last_words_are_quoted_from_the_log_itself() {
    if !is_root("quoting with the log exchanged") {
        return;
    }
    let script = "[ -e bad ] && { echo these are the last words; exit 1; }; exec sleep 600";
    let daemon = logging(ours().options(["--interval=0.1", "--max-attempts=1"]).program(["sh", "-c", script]));
    fs::write(daemon.path("bad"), "").unwrap();
    let log = daemon.path("log");
    for put in ["mkfifo app.log", "ln -s ../precious app.log", "echo forged >app.log", "true"] {
        script_as(SERVICE, &log, &format!("mv app.log moved; {put}"));
        let output = daemon.verb(["--restart", "--pid-file=pid"]);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{put}: {text}");
        assert!(text.contains("    these are the last words"), "{put}: {text}");
        assert!(!text.contains("precious") && !text.contains("forged"), "{put}: {text}");
        script_as(SERVICE, &log, "rm -f app.log; mv moved app.log");
    }
}

#[test]
fn a_status_file_is_not_written_through_links_of_another_user() {
    if !is_root("links in the status file's directory") {
        return;
    }
    let builder = Daemon::new(env!("CARGO_BIN_EXE_start_server")).options(["--interval=0.1", "--pid-file=pid"]);
    let run = directory_of(SERVICE, builder.dir(), "run");
    let target = precious(builder.dir());
    let daemon = builder.option("--status-file=run/status").program(["sleep", "600"]).start();
    daemon.wait_for("the status file", || daemon.text("run/status").starts_with("1:").then_some(()));
    // At the name of the temporary file as well as at its own.
    let script = format!("rm status; ln -s ../precious status; ln -s ../precious status.{}", daemon.pid());
    script_as(SERVICE, &run, &script);
    daemon.hup();
    daemon.wait_for("the status file", || daemon.text("run/status").starts_with("2:").then_some(()));
    assert!(fs::symlink_metadata(daemon.path("run/status")).unwrap().is_file());
    // The whole directory.
    fs::create_dir(daemon.path("etc")).unwrap();
    fs::rename(&run, daemon.path("moved")).unwrap();
    symlink("etc", &run).unwrap();
    std::os::unix::fs::lchown(&run, Some(SERVICE), Some(SERVICE)).unwrap();
    daemon.hup();
    daemon
        .wait_line(&format!("run is a symbolic link of user {SERVICE}, which is not followed; the status file is out"));
    assert_eq!(fs::read_dir(daemon.path("etc")).unwrap().count(), 0);
    assert!(is_untouched(&target));
}

/// A superdaemon with a unix socket in a directory of the service's, which was killed; its worker serves on.
fn killed_with_a_socket(socket: &Path, options: &str) -> Daemon {
    let daemon = listening(socket, options).start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.signal("KILL");
    daemon.wait_for("its end", || (!daemon.is_running()).then_some(()));
    daemon
}

fn listening(socket: &Path, options: &str) -> Builder {
    superdaemon().option(format!("--listen=unix:{}{options}", socket.display()))
}

#[test]
fn mode_and_owner_at_a_takeover_reach_nothing_but_the_socket() {
    if !is_root("exchanging a socket") {
        return;
    }
    const STARTS: usize = 12;
    let dir = TempDir::new();
    let run = directory_of(SERVICE, dir.path(), "run");
    let target = precious(dir.path());
    let socket = run.join("s");
    let options = format!(",mode=0666,owner={STRANGER},group={STRANGER}");
    let mut killed = vec![killed_with_a_socket(&socket, &options)];
    script_as(SERVICE, &run, "ln -s ../precious link");
    // A link; and a socket of somebody else's, as it could be any.
    let other = run.join("other");
    let _others = UnixListener::bind(dir.path().join("theirs")).unwrap();
    fs::hard_link(dir.path().join("theirs"), &other).unwrap();
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).unwrap();
    let mut started = 0;
    for with in ["link", "other"] {
        let _exchange = Exchange::of(SERVICE, &socket, &run.join(with));
        for _ in 0..STARTS {
            let mut daemon = listening(&socket, &options).start();
            daemon.wait_for("its start or its end", || {
                (daemon.status_file().is_some_and(|status| !status.is_empty())
                    || daemon.text("stderr").contains("failed to")
                    || !daemon.is_running())
                .then_some(())
            });
            if daemon.is_running() && daemon.status_file().is_some_and(|status| !status.is_empty()) {
                started += 1;
                daemon.signal("KILL");
                daemon.wait_for("its end", || (!daemon.is_running()).then_some(()));
                killed.push(daemon);
            } else {
                assert_eq!(daemon.exit_status().code(), Some(1), "{}", daemon.text("stderr"));
            }
            assert!(is_untouched(&target));
            let found = fs::symlink_metadata(dir.path().join("theirs")).unwrap();
            assert_eq!((found.mode() & 0o777, found.uid()), (0o600, 0));
        }
    }
    // Undisturbed it gets what was asked for.
    let place = [socket.clone(), other, run.join("link")].into_iter().find(|path| {
        fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket() && found.uid() == STRANGER)
    });
    if let Some(place) = place.filter(|place| *place != socket) {
        fs::rename(place, &socket).unwrap();
    }
    let daemon = listening(&socket, &options).start();
    daemon.wait_status_file(|generations| !generations.is_empty());
    let found = fs::symlink_metadata(&socket).unwrap();
    assert_eq!((found.mode() & 0o777, found.uid(), found.gid()), (0o666, STRANGER, STRANGER), "{started} starts");
}

#[test]
fn a_socket_is_not_bound_through_a_link_of_another_user() {
    if !is_root("links on the way to a socket") {
        return;
    }
    let dir = TempDir::new();
    let home = directory_of(SERVICE, dir.path(), "home");
    let etc = dir.path().join("etc");
    fs::create_dir(&etc).unwrap();
    drop(UnixListener::bind(etc.join("s")).unwrap());
    script_as(SERVICE, &home, "ln -s ../etc run; ln -s ../etc/s s");
    let cases = [
        ("run/s", format!("run is a symbolic link of user {SERVICE}, which is not followed")),
        ("s", format!("a symbolic link of user {SERVICE} is there, which is not followed")),
    ];
    for (path, why) in cases {
        let mut daemon = listening(&home.join(path), "").start();
        assert_eq!(daemon.exit_status().code(), Some(1));
        let error = daemon.text("stderr");
        assert!(error.contains(&why), "{error}");
    }
    // The stale socket is not ours to remove.
    assert!(etc.join("s").exists());
    assert!(home.join("s").exists());
}

#[test]
fn a_passed_socket_whose_file_was_exchanged_is_refused() {
    if !is_root("a passed socket") {
        return;
    }
    const PASS: &str = "use Socket; $^F = 1000; socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; \
        bind($s, pack_sockaddr_un($ENV{AT})) or die $!; listen($s, 9); \
        system('setpriv', '--reuid=64001', '--regid=64001', '--clear-groups', 'sh', '-c', $ENV{EXCHANGE}) == 0 or die; \
        $ENV{LISTEN_FDS} = 1; $ENV{LISTEN_PID} = $$; exec @ARGV";
    for (script, refused) in [("rm s; ln -s ../precious s", true), ("true", false)] {
        let dir = TempDir::new();
        let run = directory_of(SERVICE, dir.path(), "run");
        let target = precious(dir.path());
        let script = format!("cd {}; {script}", run.display());
        let mut daemon = listening(&run.join("s"), &format!(",mode=0640,owner={STRANGER}"))
            .env("AT", run.join("s"))
            .env("EXCHANGE", script)
            .env("PASS", PASS)
            .after_script("set -- perl -e \"$PASS\" \"$@\"")
            .start();
        if refused {
            assert_eq!(daemon.exit_status().code(), Some(1), "{}", daemon.text("stderr"));
        } else {
            daemon.wait_status_file(|generations| generations == [1]);
            let found = fs::symlink_metadata(run.join("s")).unwrap();
            assert_eq!((found.mode() & 0o777, found.uid()), (0o640, STRANGER));
        }
        assert!(is_untouched(&target));
    }
}

#[test]
fn what_is_in_the_place_of_the_kept_name_is_left_alone() {
    if !is_root("the kept name") {
        return;
    }
    let dir = TempDir::new();
    let run = directory_of(SERVICE, dir.path(), "run");
    let target = precious(dir.path());
    script_as(SERVICE, &run, "ln -s ../precious .s.kept");
    let mut daemon = listening(&run.join("s"), "").start();
    daemon.wait_status_file(|generations| generations == [1]);
    daemon.wait_line("cannot have a second name in its directory");
    UnixStream::connect(run.join("s")).unwrap();
    assert_eq!(daemon.stop().code(), Some(0));
    assert!(fs::symlink_metadata(run.join(".s.kept")).unwrap().is_symlink());
    assert!(is_untouched(&target));
}

#[test]
fn a_socket_file_is_removed_only_where_it_was_made() {
    if !is_root("an exchanged directory") {
        return;
    }
    let dir = TempDir::new();
    let run = directory_of(SERVICE, dir.path(), "run");
    let mut daemon = listening(&run.join("s"), "").start();
    daemon.wait_status_file(|generations| generations == [1]);
    // The same file under the same name in another directory, to which the path leads now.
    let etc = dir.path().join("etc");
    fs::create_dir(&etc).unwrap();
    fs::hard_link(run.join("s"), etc.join("s")).unwrap();
    fs::rename(&run, dir.path().join("moved")).unwrap();
    symlink("etc", &run).unwrap();
    std::os::unix::fs::lchown(&run, Some(SERVICE), Some(SERVICE)).unwrap();
    assert_eq!(daemon.stop().code(), Some(0));
    assert!(etc.join("s").exists());
    assert!(daemon.text("stderr").contains("failed to unlink file:"), "{}", daemon.text("stderr"));
}

#[test]
fn a_socket_in_a_directory_of_the_service_serves_as_ever() {
    if !is_root("a directory of the service's") {
        return;
    }
    let dir = TempDir::new();
    let run = directory_of(SERVICE, dir.path(), "run");
    let mut daemon = listening(&run.join("s"), &format!(",mode=0660,owner={SERVICE},group={STRANGER}")).start();
    daemon.wait_status_file(|generations| generations == [1]);
    let found = fs::symlink_metadata(run.join("s")).unwrap();
    assert_eq!((found.mode() & 0o777, found.uid(), found.gid()), (0o660, SERVICE, STRANGER));
    UnixStream::connect(run.join("s")).unwrap();
    // Now it is the service's own file.
    script_as(SERVICE, &run, "rm s");
    daemon.wait_line("it is put back");
    assert_eq!(daemon.stop().code(), Some(0));
    assert_eq!(fs::read_dir(&run).unwrap().count(), 0);
    chown(&run, Some(0), Some(0)).unwrap();
}
