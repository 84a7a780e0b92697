//! The envdir: who can write there decides what the program is, so root believes only what nobody else can write.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::Path;
use std::process::Command;

use testkit::{Builder, Daemon, TempDir};

use crate::other_user::{SERVICE, STRANGER, as_user, copy_for_all, directory_of};
use crate::world::{is_root, ours};

/// Writes what variables beginning with `E_` its environment has into the file `env.GENERATION`.
const SHOW: &str = "env | grep ^E_ | sort >env.$SERVER_STARTER_GENERATION; exec sleep 600";

/// One with an envdir of root's, in which there is `E_A=1`.
fn with_envdir() -> Builder {
    let builder = ours().options(["--interval=0.1", "--envdir=env"]).program(["sh", "-c", SHOW]);
    fs::create_dir(builder.dir().join("env")).unwrap();
    fs::write(builder.dir().join("env/E_A"), "1\n").unwrap();
    builder
}

/// Waits for a generation and gives the variables that it got.
fn variables(daemon: &Daemon, generation: u32) -> Vec<String> {
    daemon.wait_status_file(|generations| generations == [generation]);
    let text = daemon.wait_file(&format!("env.{generation}"));
    text.lines().map(str::to_owned).collect()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn an_envdir_that_others_can_write_stops_the_start_of_roots() {
    if !is_root("an envdir of others") {
        return;
    }
    let refused = |prepare: &dyn Fn(&Path), why: &str| {
        let builder = with_envdir();
        prepare(&builder.dir().join("env"));
        let mut daemon = builder.start();
        assert_eq!(daemon.exit_status().code(), Some(1));
        let error = daemon.text("stderr");
        assert!(error.contains("failed to read the envdir env: ") && error.contains(why), "{error}");
        assert!(daemon.workers().is_empty() && !daemon.path("pid").exists());
    };
    let owned = format!("it can be written by user {SERVICE}, who would be root by that");
    refused(&|env| chown(env, Some(SERVICE), Some(0)).unwrap(), &owned);
    refused(&|env| chmod(env, 0o777), "it can be written by everybody");
    // That only an owner can remove a file of such a directory does not help.
    refused(&|env| chmod(env, 0o1777), "it can be written by everybody");
    let group = format!("it can be written by group {SERVICE}");
    let for_a_group = |env: &Path| {
        chown(env, Some(0), Some(SERVICE)).unwrap();
        chmod(env, 0o775);
    };
    refused(&for_a_group, &group);
    let behind_a_link = |env: &Path| {
        fs::rename(env, env.with_file_name("real")).unwrap();
        symlink("real", env).unwrap();
        lchown(env, Some(SERVICE), Some(SERVICE)).unwrap();
    };
    refused(&behind_a_link, &format!("env is a symbolic link of user {SERVICE}, which is not followed"));
}

#[test]
fn an_envdir_that_others_can_write_later_is_not_read_again() {
    if !is_root("an envdir that is given away") {
        return;
    }
    let daemon = with_envdir().start();
    assert_eq!(variables(&daemon, 1), ["E_A=1"]);
    chown(daemon.path("env"), Some(SERVICE), Some(SERVICE)).unwrap();
    fs::write(daemon.path("env/E_A"), "2\n").unwrap();
    fs::write(daemon.path("env/E_B"), "2\n").unwrap();
    daemon.hup();
    assert_eq!(variables(&daemon, 2), ["E_A=1"]);
    daemon.hup();
    assert_eq!(variables(&daemon, 3), ["E_A=1"]);
    let said =
        daemon.lines().into_iter().filter(|line| line.contains("failed to read the envdir env: it can be")).count();
    assert_eq!(said, 1);
    daemon
        .wait_line("who would be root by that; let root own it, and nobody else write it; its variables stay as they");
    chown(daemon.path("env"), Some(0), Some(0)).unwrap();
    daemon.hup();
    assert_eq!(variables(&daemon, 4), ["E_A=2", "E_B=2"]);
}

#[test]
fn files_and_links_of_others_and_links_that_lead_out_are_skipped() {
    if !is_root("single files in the envdir") {
        return;
    }
    let builder = with_envdir();
    let env = builder.dir().join("env");
    let put = |name: &str| {
        fs::write(env.join(name), "2\n").unwrap();
        env.join(name)
    };
    chown(put("E_OTHERS"), Some(SERVICE), Some(0)).unwrap();
    chmod(&put("E_OPEN"), 0o666);
    fs::write(builder.dir().join("secret"), "secret\n").unwrap();
    symlink("../secret", env.join("E_OUT")).unwrap();
    symlink(builder.dir().join("secret"), env.join("E_ABSOLUTE")).unwrap();
    symlink("E_A", env.join("E_LINK")).unwrap();
    symlink("E_A", env.join("E_THEIRS")).unwrap();
    lchown(env.join("E_THEIRS"), Some(SERVICE), Some(SERVICE)).unwrap();
    // A directory in it that others can write, with a file of root's that somebody has given another name.
    directory_of(SERVICE, &env, "inside");
    fs::hard_link(builder.dir().join("secret"), env.join("inside/secret")).unwrap();
    symlink("inside/secret", env.join("E_TRAP")).unwrap();
    let daemon = builder.start();
    assert_eq!(variables(&daemon, 1), ["E_A=1", "E_LINK=1"]);
    daemon.hup();
    assert_eq!(variables(&daemon, 2), ["E_A=1", "E_LINK=1"]);
    let log = daemon.text("stderr");
    for (name, why) in [
        ("E_OTHERS", format!("it can be written by user {SERVICE}, who would be root")),
        ("E_OPEN", "it can be written by everybody".to_owned()),
        ("E_OUT", "it is a symbolic link that leads out of the directory".to_owned()),
        ("E_ABSOLUTE", "it is a symbolic link that leads out of the directory".to_owned()),
        ("E_THEIRS", format!("E_THEIRS is a symbolic link of user {SERVICE}")),
        ("E_TRAP", "the file has another name elsewhere".to_owned()),
    ] {
        let line = format!("skipping env/{name} in the envdir: {why}");
        assert_eq!(log.matches(&line).count(), 1, "{line}\n{log}");
    }
}

/// As Kubernetes mounts a `ConfigMap`: the files are links by way of a link that is exchanged.
fn as_kubernetes_does(dir: &Path, version: &str) {
    let inner = format!("..2024_{version}");
    fs::create_dir(dir.join(&inner)).unwrap();
    fs::write(dir.join(&inner).join("E_A"), format!("{version}\n")).unwrap();
    symlink(&inner, dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    if fs::symlink_metadata(dir.join("E_A")).is_ok_and(|found| found.is_file()) {
        fs::remove_file(dir.join("E_A")).unwrap();
        symlink("..data/E_A", dir.join("E_A")).unwrap();
    }
}

#[test]
fn links_as_kubernetes_makes_them_are_followed() {
    let builder = with_envdir();
    as_kubernetes_does(&builder.dir().join("env"), "one");
    let daemon = builder.start();
    assert_eq!(variables(&daemon, 1), ["E_A=one"]);
    as_kubernetes_does(&daemon.path("env"), "two");
    daemon.hup();
    assert_eq!(variables(&daemon, 2), ["E_A=two"]);
    assert!(!daemon.text("stderr").contains("envdir"), "{}", daemon.text("stderr"));
}

#[test]
fn what_is_mounted_for_reading_only_is_believed() {
    if !is_root("a read-only mount") {
        return;
    }
    let builder = with_envdir();
    let env = builder.dir().join("env");
    as_kubernetes_does(&env, "one");
    // As the directory of such a volume is.
    chmod(&env, 0o777);
    let mounted = "mount --bind env env && mount -o remount,ro,bind env";
    let can = Command::new("unshare").args(["-m", "sh", "-c", mounted]).current_dir(builder.dir()).output().unwrap();
    if !can.status.success() {
        eprintln!("a read-only mount: cannot be made here; not tested");
        return;
    }
    let script = format!("set -- unshare -m sh -c '{mounted} && exec \"$@\"' sh \"$@\"");
    let daemon = builder.after_script(&script).start();
    assert_eq!(variables(&daemon, 1), ["E_A=one"]);
    assert!(!daemon.text("stderr").contains("envdir"), "{}", daemon.text("stderr"));
}

/// What a superdaemon of the service's own says, and the variables that its program gets.
fn as_the_service(prepare: impl Fn(&Path)) -> (String, String) {
    let dir = TempDir::new();
    let program = copy_for_all(dir.path());
    let home = directory_of(SERVICE, dir.path(), "home");
    let env = directory_of(SERVICE, &home, "env");
    chown(&home, Some(SERVICE), Some(SERVICE)).unwrap();
    fs::write(env.join("E_A"), "1\n").unwrap();
    prepare(&env);
    let output = as_user(SERVICE, "timeout")
        .arg("--signal=TERM")
        .arg("10")
        .arg(program)
        .args(["--interval=0", "--envdir=env", "--", "sh", "-c"])
        .arg("env | grep ^E_ | sort; kill $PPID; exec sleep 600")
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir(&home)
        .output()
        .unwrap();
    (String::from_utf8_lossy(&output.stderr).into_owned(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn an_envdir_of_the_services_own_is_believed_by_its_superdaemon() {
    if !is_root("a superdaemon of another user") {
        return;
    }
    // A umask of 002 is usual where every user has a group.
    let (said, got) = as_the_service(|env| {
        chmod(env, 0o775);
        fs::write(env.with_file_name("outside"), "2\n").unwrap();
        symlink("../outside", env.join("E_OUT")).unwrap();
    });
    assert!(!said.contains("envdir"), "{said}");
    assert_eq!(got, "E_A=1\nE_OUT=2\n");
}

#[test]
fn an_envdir_that_others_can_write_is_said_to_who_is_not_root() {
    if !is_root("a superdaemon of another user") {
        return;
    }
    let (said, got) = as_the_service(|env| chown(env, Some(STRANGER), Some(0)).unwrap());
    let line =
        format!("the envdir env can be written by user {STRANGER}, who can have the program do anything by that");
    assert_eq!(said.matches(&line).count(), 1, "{said}");
    assert_eq!(got, "E_A=1\n");
    let (said, got) = as_the_service(|env| chmod(&env.join("E_A"), 0o666));
    assert_eq!(said.matches("env/E_A in the envdir can be written by everybody").count(), 1, "{said}");
    assert_eq!(got, "E_A=1\n");
    let (said, got) = as_the_service(|env| {
        fs::rename(env, env.with_file_name("real")).unwrap();
        symlink("real", env).unwrap();
        lchown(env, Some(STRANGER), Some(STRANGER)).unwrap();
    });
    assert!(said.contains(&format!("env is a symbolic link of user {STRANGER}")), "{said}");
    assert_eq!(got, "E_A=1\n");
}
