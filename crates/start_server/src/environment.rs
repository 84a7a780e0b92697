//! The environment that workers get, and what the superdaemon itself takes from it (its control variables).
//! It is put together from three layers: the superdaemon's own environment, its options, and the files of the envdir,
//! which are read again while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use supervisor::{AutoRestart, Settings};

use crate::config::EnvironmentOptions;
use crate::export::stale;
use crate::handover::state::Text;
use crate::listeners::Listener;
use crate::span::{SpanError, parse_span};

const ENVDIR: &str = "ENVDIR";
const ENABLE_AUTO_RESTART: &str = "ENABLE_AUTO_RESTART";
const AUTO_RESTART_INTERVAL: &str = "AUTO_RESTART_INTERVAL";
const KILL_OLD_DELAY: &str = "KILL_OLD_DELAY";
/// Tells a worker of its listeners.
pub const PORT: &str = "SERVER_STARTER_PORT";
const GENERATION: &str = "SERVER_STARTER_GENERATION";

/// What systemd told the superdaemon, and nobody else, about descriptors, sockets and the watchdog: sd_listen_fds(3),
/// sd_notify(3), sd_watchdog_enabled(3).
const NOT_FOR_WORKERS: [&str; 8] = [
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "LISTEN_PIDFDID",
    "NOTIFY_SOCKET",
    "FDSTORE",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
];

/// The seconds between automatic restarts, unless set otherwise.
const DEFAULT_AUTO_RESTART_INTERVAL: &str = "360";
/// The kill-old delay with automatic restarts, unless set otherwise.
const AUTO_RESTART_KILL_OLD_DELAY: Duration = Duration::from_secs(5);

/// The most that is read of a file in the envdir, in bytes. The kernel takes no more than twice this for a variable.
const LONGEST_VALUE: usize = 64 * 1024;

type Variables = BTreeMap<OsString, OsString>;

/// The environment of workers, as it stands since it was last loaded.
#[derive(Debug)]
pub struct Environment {
    /// The superdaemon's own environment with its options on top.
    base: Variables,
    envdir: Option<PathBuf>,
    /// What the files of the envdir set, on top of the base.
    overlay: Variables,
    /// What is wrong with the envdir and has been said.
    known_faults: BTreeSet<String>,
}

impl Environment {
    /// Puts the options on top of the `outer` environment, which is the superdaemon's own. The envdir is not read yet.
    pub fn new(outer: impl Iterator<Item = (OsString, OsString)>, options: EnvironmentOptions) -> Self {
        let mut base = Variables::new();
        for (name, value) in outer.filter(|(name, _)| !NOT_FOR_WORKERS.iter().any(|not| name == not)) {
            // Of two variables with one name, the first is the one that getenv(3) finds.
            base.entry(name).or_insert(value);
        }
        let EnvironmentOptions { envdir, enable_auto_restart, auto_restart_interval, kill_old_delay } = options;
        let exported = [
            (ENVDIR, envdir.map(PathBuf::into_os_string)),
            (ENABLE_AUTO_RESTART, enable_auto_restart.then(|| "1".into())),
            (AUTO_RESTART_INTERVAL, auto_restart_interval.map(|span| span.as_str().into())),
            (KILL_OLD_DELAY, kill_old_delay.map(|span| span.as_str().into())),
        ];
        base.extend(exported.into_iter().filter_map(|(name, value)| Some((name.into(), value?))));
        let envdir = base.get(OsStr::new(ENVDIR)).filter(|dir| !dir.is_empty()).map(PathBuf::from);
        Self { base, envdir, overlay: Variables::new(), known_faults: BTreeSet::new() }
    }

    /// Forgets what came from outside and tells of descriptors that workers do not have.
    pub fn remove_stale(&mut self, listeners: &[Listener]) {
        let all = self.base.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        let stale: Vec<OsString> = stale(all, listeners).into_iter().map(OsStr::to_owned).collect();
        self.base.retain(|name, _| !stale.contains(name));
    }

    /// The directory whose files set variables: that of the option, else the one that `ENVDIR` names.
    pub fn envdir(&self) -> Option<&Path> {
        self.envdir.as_deref()
    }

    /// Reads the envdir anew. A missing directory sets nothing; one that cannot be read leaves all as it was.
    ///
    /// Returned are warnings, as sentences, about what is wrong now and was not the last time.
    pub fn reload(&mut self) -> Vec<String> {
        let Some(dir) = &self.envdir else { return Vec::new() };
        let faults = match read_envdir(dir) {
            Ok((variables, faults)) => {
                self.overlay = variables;
                faults
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                self.overlay.clear();
                BTreeSet::new()
            }
            Err(error) => BTreeSet::from([format!(
                "failed to read the envdir {}: {error}; its variables stay as they were",
                dir.display()
            )]),
        };
        let news = faults.difference(&self.known_faults).cloned().collect();
        self.known_faults = faults;
        news
    }

    /// What the envdir set when it was last read, for the next image of the program.
    pub fn state(&self) -> Vec<(Text, Text)> {
        self.overlay.iter().map(|(name, value)| (name.as_os_str().into(), value.as_os_str().into())).collect()
    }

    /// Goes on with what the envdir set for the image before.
    pub fn resume(&mut self, variables: Vec<(Text, Text)>) {
        self.overlay = variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    }

    /// What the control variables say now, and warnings, as sentences, about those that make no sense.
    pub fn settings(&self) -> (Settings, Vec<String>) {
        let mut warnings = Vec::new();
        let auto_restart = self.auto_restarts().then(|| self.auto_restart(&mut warnings));
        let kill_old_delay = match self.value(KILL_OLD_DELAY) {
            None if auto_restart.is_some() => AUTO_RESTART_KILL_OLD_DELAY,
            None => Duration::ZERO,
            Some(value) => read_span(value).unwrap_or_else(|error| {
                if error != SpanError::Negative {
                    warnings.push(nonsense(KILL_OLD_DELAY, value, error, "there is no delay"));
                }
                Duration::ZERO
            }),
        };
        (Settings { kill_old_delay, auto_restart }, warnings)
    }

    /// Everything that a worker finds in its environment, as execve(2) wants it: sorted by name, no name twice.
    ///
    /// `listeners` are the variables that tell of the listeners, the same for all workers; `extra` those that the
    /// superdaemon sets for this one. Neither they nor the generation can be overruled by the envdir.
    pub fn for_worker(
        &self,
        listeners: &[(OsString, OsString)],
        generation: u32,
        extra: &[(&str, OsString)],
    ) -> Vec<CString> {
        fn borrowed<'a>((name, value): (&'a OsString, &'a OsString)) -> (&'a OsStr, &'a OsStr) {
            (name, value)
        }
        let generation = OsString::from(generation.to_string());
        // Of two with one name, the later one counts.
        let layers = self.base.iter().chain(&self.overlay).map(borrowed);
        let mut variables: BTreeMap<&OsStr, &OsStr> = layers.collect();
        if self.auto_restarts() && self.auto_restart_interval().is_none() {
            variables.insert(AUTO_RESTART_INTERVAL.as_ref(), DEFAULT_AUTO_RESTART_INTERVAL.as_ref());
        }
        variables.extend(listeners.iter().map(|(name, value)| borrowed((name, value))));
        variables.insert(GENERATION.as_ref(), &generation);
        variables.extend(extra.iter().map(|(name, value)| (OsStr::new(*name), value.as_os_str())));
        // No layer can hold a zero byte, so nothing is lost here.
        variables.into_iter().filter_map(|(name, value)| entry(name, value)).collect()
    }

    fn value(&self, name: &str) -> Option<&OsStr> {
        let name = OsStr::new(name);
        self.overlay.get(name).or_else(|| self.base.get(name)).map(OsString::as_os_str)
    }

    /// The variable's value unless it is one that is false in Perl.
    fn true_value(&self, name: &str) -> Option<&OsStr> {
        self.value(name).filter(|value| !value.is_empty() && *value != "0")
    }

    fn auto_restarts(&self) -> bool {
        self.true_value(ENABLE_AUTO_RESTART).is_some()
    }

    fn auto_restart_interval(&self) -> Option<&OsStr> {
        self.true_value(AUTO_RESTART_INTERVAL)
    }

    fn auto_restart(&self, warnings: &mut Vec<String>) -> AutoRestart {
        let text = self.auto_restart_interval().unwrap_or(OsStr::new(DEFAULT_AUTO_RESTART_INTERVAL));
        match read_span(text) {
            Ok(interval) if !interval.is_zero() => AutoRestart { interval },
            result => {
                if let Err(error) = result {
                    warnings.push(nonsense(AUTO_RESTART_INTERVAL, text, error, "it counts as 360"));
                }
                AutoRestart { interval: Duration::from_secs(360) }
            }
        }
    }
}

/// Reads a duration with the blanks around it that an editor may leave in a file.
fn read_span(value: &OsStr) -> Result<Duration, SpanError> {
    parse_span(value.to_string_lossy().trim())
}

fn nonsense(name: &str, value: &OsStr, error: SpanError, consequence: &str) -> String {
    format!("{name} is set to \"{}\", which is not usable ({error}); {consequence}", value.display())
}

fn entry(name: &OsStr, value: &OsStr) -> Option<CString> {
    let mut entry = Vec::with_capacity(name.len() + value.len() + "=\0".len());
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'=');
    entry.extend_from_slice(value.as_bytes());
    CString::new(entry).ok()
}

/// Reads every file of the envdir. What is wrong with single files is returned beside what the others set.
fn read_envdir(dir: &Path) -> io::Result<(Variables, BTreeSet<String>)> {
    let mut variables = Variables::new();
    let mut faults = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        if name.as_bytes().starts_with(b".") {
            continue;
        }
        let path = dir.join(&name);
        let mut skip = |why: &str| {
            faults.insert(format!("skipping {} in the envdir: {why}", path.display()));
        };
        if name.as_bytes().contains(&b'=') {
            skip("the name of a variable cannot contain =");
        } else if name == PORT || name == GENERATION {
            skip("start_server sets this variable itself");
        } else {
            match read_value(&path) {
                Ok(Value::Set(value)) => {
                    variables.insert(name, value);
                }
                Ok(Value::Nothing) => {}
                Ok(Value::TooLong) => skip("its first line is longer than 64 KiB"),
                Err(error) => skip(&error.to_string()),
            }
        }
    }
    Ok((variables, faults))
}

/// What a file of the envdir says about its variable.
enum Value {
    Set(OsString),
    Nothing,
    TooLong,
}

/// Reads the first line of a file, as Server::Starter does: only the newline goes, a zero byte ends the value, and a
/// file without a single byte sets nothing.
fn read_value(path: &Path) -> io::Result<Value> {
    let Some(file) = open_regular(path)? else { return Ok(Value::Nothing) };
    let mut content = Vec::new();
    file.take(LONGEST_VALUE as u64).read_to_end(&mut content)?;
    if content.is_empty() {
        return Ok(Value::Nothing);
    }
    match content.iter().position(|byte| matches!(byte, b'\n' | 0)) {
        Some(end) => content.truncate(end),
        None if content.len() == LONGEST_VALUE => return Ok(Value::TooLong),
        None => {}
    }
    Ok(Value::Set(OsString::from_vec(content)))
}

/// Opens a file, or what a symbolic link leads to. Links into nowhere and whatever is no regular file are `None`.
fn open_regular(path: &Path) -> io::Result<Option<File>> {
    // Without NONBLOCK, opening a FIFO would wait for a writer.
    match rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty()) {
        Ok(file) => {
            let file = File::from(file);
            Ok(file.metadata()?.is_file().then_some(file))
        }
        // A link that leads nowhere or in a circle, a file that has just gone, a socket.
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::LOOP | rustix::io::Errno::NXIO) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::span::SpanText;

    /// A directory that goes with the test.
    struct TempDir(PathBuf);

    impl TempDir {
        fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let name = format!("envdir-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn write(&self, name: &str, content: impl AsRef<[u8]>) {
            fs::write(self.0.join(name), content).unwrap();
        }

        fn remove(&self, name: &str) {
            fs::remove_file(self.0.join(name)).unwrap();
        }
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn outer(variables: &[(&str, &str)]) -> impl Iterator<Item = (OsString, OsString)> {
        let owned: Vec<_> = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        owned.into_iter()
    }

    fn port(value: &str) -> [(OsString, OsString); 1] {
        [(PORT.into(), value.into())]
    }

    fn with_envdir(dir: &TempDir, variables: &[(&str, &str)]) -> Environment {
        let options = EnvironmentOptions { envdir: Some(dir.0.clone()), ..Default::default() };
        Environment::new(outer(variables), options)
    }

    /// The variables of a worker as `NAME=VALUE`, less those that are always there.
    fn worker(environment: &Environment) -> Vec<String> {
        let variables = environment.for_worker(&port("80=3"), 7, &[]);
        let texts = variables.into_iter().map(|entry| entry.into_string().unwrap());
        texts.filter(|entry| !entry.starts_with("SERVER_STARTER_") && !entry.starts_with("ENVDIR=")).collect()
    }

    #[test]
    fn a_worker_gets_the_protocol_once_and_everything_in_order() {
        let environment = Environment::new(
            outer(&[
                ("B", "2"),
                ("SERVER_STARTER_PORT", "x"),
                ("A", "1"),
                ("A", "9"),
                ("SERVER_STARTER_GENERATION", "3"),
            ]),
            EnvironmentOptions::default(),
        );
        let variables = environment.for_worker(&port("80=3;/s=4"), 7, &[("NOTIFY_SOCKET", "@x".into())]);
        let texts: Vec<_> = variables.into_iter().map(|entry| entry.into_string().unwrap()).collect();
        assert_eq!(
            texts,
            ["A=1", "B=2", "NOTIFY_SOCKET=@x", "SERVER_STARTER_GENERATION=7", "SERVER_STARTER_PORT=80=3;/s=4"]
        );
    }

    #[test]
    fn what_was_meant_for_the_superdaemon_alone_is_removed() {
        let dir = TempDir::new();
        let inherited = [
            ("LISTEN_PID", "1"),
            ("LISTEN_FDS", "1"),
            ("LISTEN_FDNAMES", "a"),
            ("LISTEN_PIDFDID", "1"),
            ("NOTIFY_SOCKET", "/n"),
            ("LISTEN_ON", "kept"),
        ];
        let mut environment = with_envdir(&dir, &inherited);
        environment.reload();
        assert_eq!(worker(&environment), ["LISTEN_ON=kept"]);
        dir.write("LISTEN_FDS", "5\n");
        environment.reload();
        assert_eq!(worker(&environment), ["LISTEN_FDS=5", "LISTEN_ON=kept"]);
    }

    #[test]
    fn options_are_exported() {
        let options = EnvironmentOptions {
            envdir: Some("/nowhere".into()),
            enable_auto_restart: true,
            auto_restart_interval: Some(SpanText::parse("2m").unwrap()),
            kill_old_delay: Some(SpanText::parse("0.50").unwrap()),
        };
        let environment = Environment::new(outer(&[("ENVDIR", "/other"), ("KILL_OLD_DELAY", "3")]), options);
        assert_eq!(environment.envdir(), Some(Path::new("/nowhere")));
        assert_eq!(environment.value(ENVDIR), Some(OsStr::new("/nowhere")));
        assert_eq!(worker(&environment), ["AUTO_RESTART_INTERVAL=2m", "ENABLE_AUTO_RESTART=1", "KILL_OLD_DELAY=0.50"]);
    }

    #[test]
    fn the_default_interval_is_exported_with_auto_restart() {
        for (variables, expected) in [
            (&[("ENABLE_AUTO_RESTART", "1")][..], Some("AUTO_RESTART_INTERVAL=360")),
            (&[("ENABLE_AUTO_RESTART", "1"), ("AUTO_RESTART_INTERVAL", "0")], Some("AUTO_RESTART_INTERVAL=360")),
            (&[("ENABLE_AUTO_RESTART", "1"), ("AUTO_RESTART_INTERVAL", "9")], Some("AUTO_RESTART_INTERVAL=9")),
            (&[("ENABLE_AUTO_RESTART", "0")], None),
            (&[], None),
        ] {
            let environment = Environment::new(outer(variables), EnvironmentOptions::default());
            let found = worker(&environment).into_iter().find(|entry| entry.starts_with("AUTO_RESTART_INTERVAL"));
            assert_eq!(found.as_deref(), expected, "{variables:?}");
        }
    }

    #[test]
    fn files_are_read_as_the_original_reads_them() {
        let dir = TempDir::new();
        let full = "x".repeat(LONGEST_VALUE - 1);
        dir.write("PLAIN", "value\n");
        dir.write("NO_NEWLINE", "value");
        dir.write("SECOND_LINE", "first\nsecond\n");
        dir.write("BLANKS", "  a b \r\n");
        dir.write("JUST_NEWLINE", "\n");
        dir.write("EMPTY", "");
        dir.write("NUL", "a\0b\n");
        dir.write("NUL_FIRST", "\0b\n");
        dir.write("BACKUP~", "1\n");
        dir.write(".HIDDEN", "1\n");
        dir.write("FULL", &full);
        fs::create_dir(dir.0.join("DIRECTORY")).unwrap();
        symlink("PLAIN", dir.0.join("LINK")).unwrap();
        symlink("nothing", dir.0.join("DANGLING")).unwrap();
        symlink("CIRCLE", dir.0.join("CIRCLE")).unwrap();
        std::os::unix::net::UnixListener::bind(dir.0.join("SOCKET")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(dir.0.join("FIFO")).status().unwrap().success());

        let mut environment = with_envdir(&dir, &[("EMPTY", "outer"), ("PLAIN", "outer")]);
        assert_eq!(environment.reload(), Vec::<String>::new());
        assert_eq!(
            worker(&environment),
            [
                "BACKUP~=1",
                "BLANKS=  a b \r",
                "EMPTY=outer",
                &format!("FULL={full}"),
                "JUST_NEWLINE=",
                "LINK=value",
                "NO_NEWLINE=value",
                "NUL=a",
                "NUL_FIRST=",
                "PLAIN=value",
                "SECOND_LINE=first",
            ]
        );
    }

    #[test]
    fn files_that_cannot_be_used_are_named_once() {
        let dir = TempDir::new();
        dir.write("A=B", "1\n");
        dir.write("SERVER_STARTER_PORT", "1\n");
        dir.write("SERVER_STARTER_GENERATION", "1\n");
        dir.write("TOO_LONG", "x".repeat(LONGEST_VALUE));
        let mut environment = with_envdir(&dir, &[("TOO_LONG", "outer")]);
        let warnings = environment.reload();
        assert_eq!(warnings.len(), 4, "{warnings:?}");
        assert!(warnings.iter().all(|warning| warning.contains("skipping ")), "{warnings:?}");
        assert_eq!(worker(&environment), ["TOO_LONG=outer"]);
        let port = environment.for_worker(&port("80=3"), 7, &[]);
        assert!(port.iter().any(|entry| entry.as_bytes() == b"SERVER_STARTER_PORT=80=3"));
        assert!(port.iter().any(|entry| entry.as_bytes() == b"SERVER_STARTER_GENERATION=7"));

        assert_eq!(environment.reload(), Vec::<String>::new());
        dir.remove("A=B");
        environment.reload();
        dir.write("A=B", "1\n");
        assert_eq!(environment.reload().len(), 1);
    }

    #[test]
    fn an_unreadable_file_is_skipped() {
        use std::os::unix::fs::PermissionsExt;
        let dir = TempDir::new();
        dir.write("SECRET", "1\n");
        fs::set_permissions(dir.0.join("SECRET"), fs::Permissions::from_mode(0o000)).unwrap();
        if File::open(dir.0.join("SECRET")).is_ok() {
            return; // The permissions mean nothing to root.
        }
        let mut environment = with_envdir(&dir, &[("SECRET", "outer")]);
        assert_eq!(environment.reload().len(), 1);
        assert_eq!(worker(&environment), ["SECRET=outer"]);
    }

    #[test]
    fn a_removed_file_gives_way_to_the_outer_value() {
        let dir = TempDir::new();
        dir.write("FOO", "1\n");
        dir.write("BAR", "1\n");
        let mut environment = with_envdir(&dir, &[("FOO", "outer")]);
        environment.reload();
        assert_eq!(worker(&environment), ["BAR=1", "FOO=1"]);
        dir.write("FOO", "2\n");
        environment.reload();
        assert_eq!(worker(&environment), ["BAR=1", "FOO=2"]);
        dir.remove("FOO");
        dir.remove("BAR");
        environment.reload();
        assert_eq!(worker(&environment), ["FOO=outer"]);
    }

    #[test]
    fn a_directory_that_comes_and_goes() {
        let dir = TempDir::new();
        let inner = dir.0.join("env");
        let mut environment =
            Environment::new(outer(&[("ENVDIR", inner.to_str().unwrap())]), EnvironmentOptions::default());
        assert_eq!(environment.reload(), Vec::<String>::new());
        assert!(worker(&environment).is_empty());
        fs::create_dir(&inner).unwrap();
        fs::write(inner.join("FOO"), "1").unwrap();
        environment.reload();
        assert_eq!(worker(&environment), ["FOO=1"]);
        fs::remove_dir_all(&inner).unwrap();
        fs::write(&inner, "a file").unwrap();
        assert_eq!(environment.reload(), Vec::<String>::new());
        assert!(worker(&environment).is_empty());
    }

    #[test]
    fn no_envdir() {
        for variables in [&[][..], &[("ENVDIR", "")]] {
            let mut environment = Environment::new(outer(variables), EnvironmentOptions::default());
            assert_eq!(environment.envdir(), None);
            assert_eq!(environment.reload(), Vec::<String>::new());
        }
    }

    #[test]
    fn control_variables() {
        let seconds = Duration::from_secs;
        let auto = |secs| Some(AutoRestart { interval: seconds(secs) });
        for (variables, kill_old_delay, auto_restart, warnings) in [
            (&[][..], seconds(0), None, 0),
            (&[("ENABLE_AUTO_RESTART", "")], seconds(0), None, 0),
            (&[("ENABLE_AUTO_RESTART", "0")], seconds(0), None, 0),
            (&[("AUTO_RESTART_INTERVAL", "x")], seconds(0), None, 0),
            (&[("ENABLE_AUTO_RESTART", "1")], seconds(5), auto(360), 0),
            (&[("ENABLE_AUTO_RESTART", "no")], seconds(5), auto(360), 0),
            (&[("ENABLE_AUTO_RESTART", "1"), ("AUTO_RESTART_INTERVAL", "")], seconds(5), auto(360), 0),
            (&[("ENABLE_AUTO_RESTART", "1"), ("AUTO_RESTART_INTERVAL", "0")], seconds(5), auto(360), 0),
            (&[("ENABLE_AUTO_RESTART", "1"), ("AUTO_RESTART_INTERVAL", "0.0")], seconds(5), auto(360), 0),
            (&[("ENABLE_AUTO_RESTART", "1"), ("AUTO_RESTART_INTERVAL", "x")], seconds(5), auto(360), 1),
            (&[("ENABLE_AUTO_RESTART", "1"), ("AUTO_RESTART_INTERVAL", "-3")], seconds(5), auto(360), 1),
            (&[("ENABLE_AUTO_RESTART", "1"), ("AUTO_RESTART_INTERVAL", "020")], seconds(5), auto(20), 0),
            (&[("ENABLE_AUTO_RESTART", "1"), ("AUTO_RESTART_INTERVAL", "2m\r")], seconds(5), auto(120), 0),
            (&[("ENABLE_AUTO_RESTART", "1"), ("KILL_OLD_DELAY", "0")], seconds(0), auto(360), 0),
            (&[("KILL_OLD_DELAY", "3")], seconds(3), None, 0),
            (&[("KILL_OLD_DELAY", " 3 ")], seconds(3), None, 0),
            (&[("KILL_OLD_DELAY", "1.5")], Duration::from_millis(1500), None, 0),
            (&[("KILL_OLD_DELAY", "-3")], seconds(0), None, 0),
            (&[("KILL_OLD_DELAY", "")], seconds(0), None, 1),
            (&[("KILL_OLD_DELAY", "soon")], seconds(0), None, 1),
        ] {
            let environment = Environment::new(outer(variables), EnvironmentOptions::default());
            let (settings, texts) = environment.settings();
            assert_eq!(settings, Settings { kill_old_delay, auto_restart }, "{variables:?}");
            assert_eq!(texts.len(), warnings, "{variables:?} {texts:?}");
        }
    }

    #[test]
    fn the_envdir_overrules_the_option_which_overrules_the_outer_environment() {
        let dir = TempDir::new();
        let options = EnvironmentOptions {
            envdir: Some(dir.0.clone()),
            enable_auto_restart: true,
            kill_old_delay: Some(SpanText::parse("2").unwrap()),
            ..Default::default()
        };
        let mut environment = Environment::new(outer(&[("KILL_OLD_DELAY", "1")]), options);
        environment.reload();
        let (settings, _) = environment.settings();
        assert_eq!(settings.kill_old_delay, Duration::from_secs(2));
        assert!(settings.auto_restart.is_some());
        dir.write("KILL_OLD_DELAY", "3\n");
        dir.write("ENABLE_AUTO_RESTART", "0\n");
        environment.reload();
        assert_eq!(environment.settings().0, Settings { kill_old_delay: Duration::from_secs(3), auto_restart: None });
        dir.remove("KILL_OLD_DELAY");
        dir.remove("ENABLE_AUTO_RESTART");
        environment.reload();
        assert_eq!(environment.settings().0, settings);
    }
}
