//! Images with next to nothing in them: a file system with our program, the server, and the libraries that they need.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use testkit::{Builder, Daemon, get, testserver};

use crate::world;
use crate::{address, can_contain, start};

/// A user without an entry in any list of users, as some orchestrators make up.
const NOBODY: &str = "1000770000:0";

/// A superdaemon with nothing but `image` around it, which will be a directory beside its files. What `mounts` makes is
/// there too.
fn contained(mounts: &str) -> Builder {
    let builder = Daemon::new(env!("CARGO_BIN_EXE_start_server"));
    let image = builder.dir().join("image");
    let ours = [Path::new(env!("CARGO_BIN_EXE_start_server")), testserver()].map(Path::to_path_buf);
    for file in ours.iter().cloned().chain(ours.iter().flat_map(|program| libraries(program))) {
        let inside = image.join(file.strip_prefix("/").unwrap());
        fs::create_dir_all(inside.parent().unwrap()).unwrap();
        world::copy_program(&file, &inside);
    }
    for directory in ["proc", "run", "dev"] {
        fs::create_dir(image.join(directory)).unwrap();
    }
    fs::write(image.join("dev/null"), "").unwrap();
    // Whoever it is may make its socket there, and write down what the server does.
    let open = |path: &Path| fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    open(&image.join("run"));
    open(builder.dir());
    let image = image.display();
    let (before, after) = ("unshare --pid --net --ipc --mount --fork --kill-child sh -c", "sh");
    let script = format!(
        "mount --bind {image} {image}; mount --bind /dev/null {image}/dev/null; mkdir {image}/run/log; \
         {mounts}; exec chroot --userspec={NOBODY} {image} \"$@\""
    );
    let script = script.replace("IMAGE", &image.to_string());
    builder.after_script(&format!("set -- {before} '{}' {after} \"$@\"", script.replace('\'', r"'\''")))
}

/// The libraries of a program, with the loader.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = Command::new("ldd").arg(program).output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

fn serve(builder: Builder, options: &[&str]) -> Daemon {
    let server = testserver().display().to_string();
    start(builder.option("--path=/run/socket").options(options.iter().copied()).program([server]))
}

/// Where its socket is for us.
fn link_socket(daemon: &Daemon) {
    std::os::unix::fs::symlink("image/run/socket", daemon.path("socket")).unwrap();
}

const PROC: &str = "mount -t proc proc IMAGE/proc";
const READ_ONLY: &str = "mount -t tmpfs -o mode=1777 run IMAGE/run; mount -o remount,ro,bind IMAGE IMAGE";

/// No shell, no list of users, no place for temporary files, nothing to write to but the directory of the socket.
#[test]
fn an_image_with_nothing_but_the_programs() {
    if !can_contain("an_image_with_nothing_but_the_programs") {
        return;
    }
    let mut daemon = serve(contained(PROC), &["--ready=accept", "--stop-timeout=8"]);
    link_socket(&daemon);
    daemon.wait_line("is ready after");
    assert_eq!(get(&address(&daemon), "/").unwrap().generation, 1);
    daemon.hup();
    daemon.wait_line("killing old workers");
    assert_eq!(get(&address(&daemon), "/").unwrap().generation, 2);
    assert_eq!(daemon.stop().code(), Some(0));
    assert!(!daemon.path("image/run/socket").exists());
}

/// The superdaemon needs no file: not even where nothing can be written.
#[test]
fn a_read_only_image() {
    if !can_contain("a_read_only_image") {
        return;
    }
    let mut daemon = serve(contained(&format!("{PROC}; {READ_ONLY}")), &["--ready=accept"]);
    daemon.wait_line("is ready after");
    daemon.hup();
    daemon.wait_line("killing old workers");
    assert_eq!(daemon.stop().code(), Some(0));
    // Files that are asked for are an error at once.
    let mut daemon = contained(&format!("{PROC}; {READ_ONLY}"))
        .options(["--pid-file=/pid"])
        .program([testserver().display().to_string()])
        .start();
    assert_eq!(daemon.exit_status().code(), Some(1));
    daemon.wait_line("failed to open file:/pid: Read-only file system");
}

/// Without /proc it serves and is replaced; what cannot be seen then is said.
#[test]
fn an_image_without_proc() {
    if !can_contain("an_image_without_proc") {
        return;
    }
    let mut daemon = serve(contained("true"), &["--ready=accept", "--interval=0.1"]);
    link_socket(&daemon);
    daemon.wait_line("cannot be examined: there is no /proc of this PID namespace; mount it");
    daemon.wait_line("is ready after");
    daemon.hup();
    daemon.wait_line("killing old workers");
    assert_eq!(get(&address(&daemon), "/").unwrap().generation, 2);
    assert_eq!(daemon.stop().code(), Some(0));
}

/// What needs a shell says so before anything is spawned.
#[test]
fn an_image_without_a_shell() {
    if !can_contain("an_image_without_a_shell") {
        return;
    }
    for (option, complaint) in [
        ("--ready=exec:curl -f http://localhost/", "failed to find /bin/sh, which runs the command of --ready=exec"),
        (
            "--log-file=| cat >log",
            "failed to open pipe:| cat >log: /bin/sh, which is to run it: No such file or directory",
        ),
    ] {
        let mut daemon = contained(PROC).option(option).program([testserver().display().to_string()]).start();
        assert_eq!(daemon.exit_status().code(), Some(1));
        daemon.wait_line(complaint);
        assert!(!daemon.lines().iter().any(|line| line.contains("starting new worker")));
    }
}

/// Standard input, output and error may be closed, and the working directory gone.
#[test]
fn nothing_is_open_and_the_directory_is_gone() {
    if !can_contain("nothing_is_open_and_the_directory_is_gone") {
        return;
    }
    let builder = crate::ours().option("--ready=accept").options(["--log-file=log"]).log("log");
    let mut daemon = start(builder.server([""; 0]));
    daemon.wait_line("is ready after");
    assert_eq!(daemon.stop().code(), Some(0));

    let builder = Daemon::new(env!("CARGO_BIN_EXE_start_server")).option("--ready=accept");
    let file = |name: &str| builder.dir().join(name).display().to_string();
    let options = [format!("--path={}", file("socket")), format!("--log-file={}", file("log"))];
    let enter = format!("mkdir gone; cd gone; rmdir ../gone; exec <&- >&- 2>&-; set -- {} \"$@\"", crate::NAMESPACES);
    let builder = builder.options(options).after_script(&enter).log("log");
    let mut daemon = start(builder.server([""; 0]));
    daemon.wait_line("is ready after");
    daemon.hup();
    daemon.wait_line("killing old workers");
    assert_eq!(get(&address(&daemon), "/").unwrap().generation, 2);
    assert_eq!(daemon.stop().code(), Some(0));
}

/// Root of a user namespace of its own has no right over anything outside.
#[test]
fn root_of_a_user_namespace() {
    if !can_contain("root_of_a_user_namespace") {
        return;
    }
    let namespaces = "unshare --user --map-root-user --pid --net --ipc --mount --fork --kill-child --mount-proc";
    let probe = format!("{namespaces} true");
    let words: Vec<&str> = probe.split(' ').collect();
    if !Command::new(words[0]).args(&words[1..]).output().unwrap().status.success() {
        eprintln!("root_of_a_user_namespace: this machine has no user namespaces; not tested");
        return;
    }
    let builder = Daemon::new(env!("CARGO_BIN_EXE_start_server")).options(["--path=socket", "--ready=accept"]);
    let mut daemon = start(builder.after_script(&format!("set -- {namespaces} \"$@\"")).server([""; 0]));
    daemon.wait_line("is ready after");
    daemon.hup();
    daemon.wait_line("killing old workers");
    assert_eq!(get(&address(&daemon), "/").unwrap().generation, 2);
    assert_eq!(daemon.stop().code(), Some(0));
}
