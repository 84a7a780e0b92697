//! The environment that workers get. It is put together from three layers: the superdaemon's own environment, its
//! options, and the files of the envdir, which are read again while it runs.

mod control_variables;
mod envdir;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use self::control_variables::{AUTO_RESTART_INTERVAL, ControlVariables, ENABLE_AUTO_RESTART, KILL_OLD_DELAY};
use self::envdir::{Envdir, Unread};
use crate::config::EnvironmentOptions;
use crate::envdir_watch::EnvdirWatch;
use crate::export::stale;
use crate::files::{Reach, SILENT};
use crate::handover::state::Text;
use crate::listeners::Listener;

const ENVDIR: &str = "ENVDIR";
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
    /// What is known of its file system, once it has been read.
    reach: Option<Reach>,
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
        Self { base, envdir, overlay: Variables::new(), known_faults: BTreeSet::new(), reach: None }
    }

    /// Forgets what came from outside and tells of descriptors that workers do not have.
    pub fn remove_stale(&mut self, listeners: &[Listener]) {
        let all = self.base.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()));
        let stale: Vec<OsString> = stale(all, listeners).into_iter().map(OsStr::to_owned).collect();
        self.base.retain(|name, _| !stale.contains(name));
    }

    /// Has workers hear of their own user instead of ours. The envdir can say otherwise.
    pub fn tell_of_user(&mut self, variables: &[(OsString, Option<OsString>)]) {
        for (name, value) in variables {
            match value {
                Some(value) => drop(self.base.insert(name.clone(), value.clone())),
                None => drop(self.base.remove(name)),
            }
        }
    }

    /// The directory whose files set variables: that of the option, else the one that `ENVDIR` names.
    pub fn envdir(&self) -> Option<&Path> {
        self.envdir.as_deref()
    }

    /// Reads the envdir for the first time: what is wrong with it as a whole is found out before anything runs.
    ///
    /// Returned are warnings, as sentences.
    ///
    /// # Errors
    /// It is not to be believed: a sentence.
    pub fn load(&mut self) -> Result<Vec<String>, String> {
        let Some(dir) = &self.envdir else { return Ok(Vec::new()) };
        match envdir::read(dir) {
            Err(Unread::Refused(why)) => Err(format!("failed to read the envdir {}: {why}", dir.display())),
            read => {
                self.reach = Some(Reach::of(dir));
                Ok(self.take(read))
            }
        }
    }

    /// Whether the envdir can be looked at without waiting for a file system that does not answer.
    pub fn answers(&mut self) -> bool {
        let Some(dir) = &self.envdir else { return true };
        self.reach.get_or_insert_with(|| Reach::of_unknown(dir)).answers()
    }

    /// A watch on the envdir, if there is one.
    pub fn watch(&mut self) -> Option<EnvdirWatch> {
        let answers = self.answers();
        self.envdir.as_deref().map(|dir| EnvdirWatch::new(dir, answers))
    }

    /// Reads the envdir anew. A missing directory sets nothing; one that cannot be read, or is not to be believed, leaves
    /// all as it was.
    ///
    /// Returned are warnings, as sentences, about what is wrong now and was not the last time.
    pub fn reload(&mut self) -> Vec<String> {
        let answers = self.answers();
        match &self.envdir {
            Some(dir) if answers => self.take(envdir::read(dir)),
            Some(_) => self.take(Err(Unread::Refused(SILENT.to_owned()))),
            None => Vec::new(),
        }
    }

    fn take(&mut self, read: Result<Envdir, Unread>) -> Vec<String> {
        let Some(dir) = &self.envdir else { return Vec::new() };
        let faults = match read {
            Ok(found) => {
                self.overlay = found.variables;
                found.faults
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
        let interval = self.control_variables().assumed_interval();
        variables.extend(interval.iter().map(|interval| (OsStr::new(AUTO_RESTART_INTERVAL), OsStr::new(interval))));
        variables.extend(listeners.iter().map(|(name, value)| borrowed((name, value))));
        variables.insert(GENERATION.as_ref(), &generation);
        variables.extend(extra.iter().map(|(name, value)| (OsStr::new(*name), value.as_os_str())));
        // No layer can hold a zero byte, so nothing is lost here.
        variables.into_iter().filter_map(|(name, value)| entry(name, value)).collect()
    }

    /// What the superdaemon itself takes from all this, as it is now.
    pub fn control_variables(&self) -> ControlVariables<'_> {
        ControlVariables::find(|name| self.value(name))
    }

    fn value(&self, name: &str) -> Option<&OsStr> {
        let name = OsStr::new(name);
        self.overlay.get(name).or_else(|| self.base.get(name)).map(OsString::as_os_str)
    }
}

fn entry(name: &OsStr, value: &OsStr) -> Option<CString> {
    let mut entry = Vec::with_capacity(name.len() + value.len() + "=\0".len());
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'=');
    entry.extend_from_slice(value.as_bytes());
    CString::new(entry).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use supervisor::Settings;
    use testkit::TempDir;

    use super::*;
    use crate::span::SpanText;

    fn write(dir: &TempDir, name: &str, content: impl AsRef<[u8]>) {
        fs::write(dir.path().join(name), content).unwrap();
    }

    fn remove(dir: &TempDir, name: &str) {
        fs::remove_file(dir.path().join(name)).unwrap();
    }

    fn outer(variables: &[(&str, &str)]) -> impl Iterator<Item = (OsString, OsString)> {
        let owned: Vec<_> = variables.iter().map(|(name, value)| (name.into(), value.into())).collect();
        owned.into_iter()
    }

    fn port(value: &str) -> [(OsString, OsString); 1] {
        [(PORT.into(), value.into())]
    }

    fn with_envdir(dir: &TempDir, variables: &[(&str, &str)]) -> Environment {
        let options = EnvironmentOptions { envdir: Some(dir.path().to_owned()), ..Default::default() };
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
        write(&dir, "LISTEN_FDS", "5\n");
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
        let environment = Environment::new(outer(&[("ENABLE_AUTO_RESTART", "1")]), EnvironmentOptions::default());
        assert_eq!(worker(&environment), ["AUTO_RESTART_INTERVAL=360", "ENABLE_AUTO_RESTART=1"]);
    }

    #[test]
    fn files_that_cannot_be_used_are_named_once() {
        let dir = TempDir::new();
        write(&dir, "A=B", "1\n");
        write(&dir, "SERVER_STARTER_PORT", "1\n");
        write(&dir, "SERVER_STARTER_GENERATION", "1\n");
        write(&dir, "TOO_LONG", "x".repeat(64 * 1024));
        let mut environment = with_envdir(&dir, &[("TOO_LONG", "outer")]);
        let warnings = environment.reload();
        assert_eq!(warnings.len(), 4, "{warnings:?}");
        assert!(warnings.iter().all(|warning| warning.contains("skipping ")), "{warnings:?}");
        assert_eq!(worker(&environment), ["TOO_LONG=outer"]);
        let port = environment.for_worker(&port("80=3"), 7, &[]);
        assert!(port.iter().any(|entry| entry.as_bytes() == b"SERVER_STARTER_PORT=80=3"));
        assert!(port.iter().any(|entry| entry.as_bytes() == b"SERVER_STARTER_GENERATION=7"));

        assert_eq!(environment.reload(), Vec::<String>::new());
        remove(&dir, "A=B");
        environment.reload();
        write(&dir, "A=B", "1\n");
        assert_eq!(environment.reload().len(), 1);
    }

    #[test]
    fn a_removed_file_gives_way_to_the_outer_value() {
        let dir = TempDir::new();
        write(&dir, "FOO", "1\n");
        write(&dir, "BAR", "1\n");
        let mut environment = with_envdir(&dir, &[("FOO", "outer")]);
        environment.reload();
        assert_eq!(worker(&environment), ["BAR=1", "FOO=1"]);
        write(&dir, "FOO", "2\n");
        environment.reload();
        assert_eq!(worker(&environment), ["BAR=1", "FOO=2"]);
        remove(&dir, "FOO");
        remove(&dir, "BAR");
        environment.reload();
        assert_eq!(worker(&environment), ["FOO=outer"]);
    }

    #[test]
    fn a_directory_that_comes_and_goes() {
        let dir = TempDir::new();
        let inner = dir.path().join("env");
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
    fn the_envdir_overrules_the_option_which_overrules_the_outer_environment() {
        let dir = TempDir::new();
        let options = EnvironmentOptions {
            envdir: Some(dir.path().to_owned()),
            enable_auto_restart: true,
            kill_old_delay: Some(SpanText::parse("2").unwrap()),
            ..Default::default()
        };
        let mut environment = Environment::new(outer(&[("KILL_OLD_DELAY", "1")]), options);
        environment.reload();
        let (settings, _) = environment.control_variables().settings();
        assert_eq!(settings.kill_old_delay, Duration::from_secs(2));
        assert!(settings.auto_restart.is_some());
        write(&dir, "KILL_OLD_DELAY", "3\n");
        write(&dir, "ENABLE_AUTO_RESTART", "0\n");
        environment.reload();
        assert_eq!(
            environment.control_variables().settings().0,
            Settings { kill_old_delay: Duration::from_secs(3), auto_restart: None }
        );
        remove(&dir, "KILL_OLD_DELAY");
        remove(&dir, "ENABLE_AUTO_RESTART");
        environment.reload();
        assert_eq!(environment.control_variables().settings().0, settings);
    }
}
