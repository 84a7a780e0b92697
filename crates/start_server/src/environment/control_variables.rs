//! The control variables: what the superdaemon itself takes from the environment of its workers. The files of an envdir
//! can set them, so they may change while it runs; what makes no sense is said, and counts as if it were not set.

use std::ffi::OsStr;
use std::time::Duration;

use supervisor::{AutoRestart, Settings};

use crate::span::{SpanError, parse_span};

/// Restarts come by themselves, unless it is empty or 0.
pub const ENABLE_AUTO_RESTART: &str = "ENABLE_AUTO_RESTART";
/// The time between two of them.
pub const AUTO_RESTART_INTERVAL: &str = "AUTO_RESTART_INTERVAL";
/// How long an old generation goes on beside a new one.
pub const KILL_OLD_DELAY: &str = "KILL_OLD_DELAY";

/// The time between automatic restarts, unless set otherwise, in seconds.
const DEFAULT_INTERVAL: u64 = 360;
/// The kill-old delay with automatic restarts, unless set otherwise.
const DEFAULT_DELAY_WITH_AUTO_RESTART: Duration = Duration::from_secs(5);

/// Their values, as they are set.
#[derive(Clone, Copy, Debug)]
pub struct ControlVariables<'a> {
    auto_restarts: bool,
    interval: Option<&'a OsStr>,
    kill_old_delay: Option<&'a OsStr>,
}

impl<'a> ControlVariables<'a> {
    /// Asks for each of them by its name.
    pub fn find(value: impl Fn(&str) -> Option<&'a OsStr>) -> Self {
        // Neither is true in Perl.
        let if_true = |name| value(name).filter(|value| !value.is_empty() && *value != "0");
        Self {
            auto_restarts: if_true(ENABLE_AUTO_RESTART).is_some(),
            interval: if_true(AUTO_RESTART_INTERVAL),
            kill_old_delay: value(KILL_OLD_DELAY),
        }
    }

    /// What workers are told of the interval where nobody has set it and there are automatic restarts.
    pub fn assumed_interval(&self) -> Option<String> {
        (self.auto_restarts && self.interval.is_none()).then(|| DEFAULT_INTERVAL.to_string())
    }

    /// What they mean, and warnings, as sentences, about those that make no sense.
    pub fn settings(&self) -> (Settings, Vec<String>) {
        let mut warnings = Vec::new();
        let auto_restart =
            self.auto_restarts.then(|| AutoRestart { interval: self.auto_restart_interval(&mut warnings) });
        let kill_old_delay = match self.kill_old_delay {
            None if self.auto_restarts => DEFAULT_DELAY_WITH_AUTO_RESTART,
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

    fn auto_restart_interval(&self, warnings: &mut Vec<String>) -> Duration {
        let default = Duration::from_secs(DEFAULT_INTERVAL);
        let Some(text) = self.interval else { return default };
        match read_span(text) {
            Ok(interval) if !interval.is_zero() => interval,
            Ok(_) => default,
            Err(error) => {
                let consequence = format!("it counts as {DEFAULT_INTERVAL}");
                warnings.push(nonsense(AUTO_RESTART_INTERVAL, text, error, &consequence));
                default
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

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(variables: &[(&str, &'a str)]) -> ControlVariables<'a> {
        ControlVariables::find(|wanted| {
            variables.iter().find(|(name, _)| *name == wanted).map(|(_, value)| OsStr::new(*value))
        })
    }

    #[test]
    fn each_is_read() {
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
            let (settings, texts) = find(variables).settings();
            assert_eq!(settings, Settings { kill_old_delay, auto_restart }, "{variables:?}");
            assert_eq!(texts.len(), warnings, "{variables:?} {texts:?}");
        }
    }

    #[test]
    fn an_interval_that_nobody_has_set_is_assumed_with_automatic_restarts() {
        for (variables, expected) in [
            (&[("ENABLE_AUTO_RESTART", "1")][..], Some("360")),
            (&[("ENABLE_AUTO_RESTART", "1"), ("AUTO_RESTART_INTERVAL", "0")], Some("360")),
            (&[("ENABLE_AUTO_RESTART", "1"), ("AUTO_RESTART_INTERVAL", "9")], None),
            (&[("ENABLE_AUTO_RESTART", "0")], None),
            (&[], None),
        ] {
            assert_eq!(find(variables).assumed_interval().as_deref(), expected, "{variables:?}");
        }
    }
}
