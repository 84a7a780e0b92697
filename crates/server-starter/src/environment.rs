//! What the variables say: which descriptors were passed, under which names and addresses. No descriptor is touched
//! here. Asked by `table.rs`.

use std::ffi::OsString;
use std::os::fd::RawFd;

use crate::{Error, ErrorKind};

pub const PORT: &str = "SERVER_STARTER_PORT";
pub const GENERATION: &str = "SERVER_STARTER_GENERATION";
pub const LISTEN_FDS: &str = "LISTEN_FDS";
pub const LISTEN_PID: &str = "LISTEN_PID";
pub const LISTEN_FDNAMES: &str = "LISTEN_FDNAMES";
pub const NOTIFY_SOCKET: &str = "NOTIFY_SOCKET";

/// All variables with which a supervisor speaks to its server.
pub const ALL: [&str; 7] = [PORT, GENERATION, LISTEN_FDS, LISTEN_PID, "LISTEN_PIDFDID", LISTEN_FDNAMES, NOTIFY_SOCKET];

/// The first descriptor of `LISTEN_FDS`: `SD_LISTEN_FDS_START` in sd_listen_fds(3).
const FIRST: RawFd = 3;
/// More than any process can have open. Keeps a nonsensical count from costing memory.
const MOST: usize = 1 << 20;

/// A descriptor that was passed to this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    pub number: RawFd,
    /// The left side in `SERVER_STARTER_PORT`: the address as the user of start_server typed it.
    pub typed: Option<String>,
    /// Its name in `LISTEN_FDNAMES`.
    pub name: Option<String>,
}

/// What the variables hold.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    pub port: Option<OsString>,
    pub listen_fds: Option<OsString>,
    pub listen_pid: Option<OsString>,
    pub listen_fdnames: Option<OsString>,
}

impl Variables {
    pub fn of_this_process() -> Self {
        let of = std::env::var_os;
        Self {
            port: of(PORT),
            listen_fds: of(LISTEN_FDS),
            listen_pid: of(LISTEN_PID),
            listen_fdnames: of(LISTEN_FDNAMES),
        }
    }

    /// The descriptors that are meant for process `pid`: in the order of `SERVER_STARTER_PORT`, then those of
    /// `LISTEN_FDS` that it does not have.
    ///
    /// # Errors
    /// A variable that cannot be understood.
    pub fn passed(&self, pid: u32) -> Result<Vec<Passed>, Error> {
        let mut all =
            self.port.as_ref().map_or(Ok(Vec::new()), |value| server_starter_port(&value.to_string_lossy()))?;
        for (number, name) in self.listen_fds(pid)? {
            match all.iter_mut().find(|passed| passed.number == number) {
                Some(passed) => passed.name = name,
                None => all.push(Passed { number, typed: None, name }),
            }
        }
        Ok(all)
    }

    fn listen_fds(&self, pid: u32) -> Result<Vec<(RawFd, Option<String>)>, Error> {
        let Some(count) = &self.listen_fds else { return Ok(Vec::new()) };
        if let Some(value) = &self.listen_pid {
            let value = value.to_string_lossy();
            let meant: u32 =
                value.parse().map_err(|_| unclear(LISTEN_PID, &value, "which is not the number of a process"))?;
            // They are for another process, from which we have the variables: sd_listen_fds(3).
            if meant != pid {
                return Ok(Vec::new());
            }
        }
        let count = count.to_string_lossy();
        let wanted = count.parse().ok().filter(|wanted| *wanted <= MOST);
        let wanted: usize =
            wanted.ok_or_else(|| unclear(LISTEN_FDS, &count, "which is not a number of descriptors"))?;
        let names = match &self.listen_fdnames {
            None => vec![None; wanted],
            Some(value) => {
                let value = value.to_string_lossy();
                let names: Vec<_> =
                    value.split(':').map(|name| Some(name.to_owned()).filter(|it| !it.is_empty())).collect();
                if names.len() != wanted && wanted > 0 {
                    let problem = format!("which are {} names, but {LISTEN_FDS} says {wanted}", names.len());
                    return Err(unclear(LISTEN_FDNAMES, &value, &problem));
                }
                names
            }
        };
        Ok((FIRST..).zip(names).take(wanted).collect())
    }
}

/// `ADDRESS=FD;ADDRESS=FD;…`
///
/// A path may hold `=`, so the last one counts; it may even hold `;`, so what does not end with `=FD` goes on. No
/// supervisor puts a listener in the place of standard output or error.
fn server_starter_port(value: &str) -> Result<Vec<Passed>, Error> {
    let unclear = |problem: String| unclear(PORT, value, &problem);
    let mut all: Vec<Passed> = Vec::new();
    let mut begun = String::new();
    for piece in value.split(';') {
        if !begun.is_empty() {
            begun.push(';');
        }
        begun.push_str(piece);
        let Some((typed, number)) = begun.rsplit_once('=') else { continue };
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number || matches!(number, "1" | "2") {
            continue;
        }
        let number: RawFd = number.parse().map_err(|_| unclear(format!("in which {number} is not a descriptor")))?;
        if let Some(other) = all.iter().find(|other| other.number == number) {
            let other = other.typed.as_deref().unwrap_or_default();
            return Err(unclear(format!("in which both “{other}” and “{typed}” are descriptor {number}")));
        }
        all.push(Passed { number, typed: Some(typed.to_owned()), name: None });
        begun.clear();
    }
    if !begun.is_empty() {
        return Err(unclear(format!("in which “{begun}” is not ADDRESS=DESCRIPTOR")));
    }
    Ok(all)
}

fn unclear(variable: &str, value: &str, problem: &str) -> Error {
    Error::new(
        ErrorKind::Variable,
        format!("{variable} is “{value}”, {problem}; it is set by start_server or systemd and should be left as it is"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PID: u32 = 4711;

    fn variables(port: Option<&str>, fds: Option<&str>, pid: Option<&str>, names: Option<&str>) -> Variables {
        let os = |text: Option<&str>| text.map(OsString::from);
        Variables { port: os(port), listen_fds: os(fds), listen_pid: os(pid), listen_fdnames: os(names) }
    }

    fn shown(variables: &Variables) -> String {
        match variables.passed(PID) {
            Ok(all) => {
                let one = |it: &Passed| format!("{}:{:?}:{:?}", it.number, it.typed, it.name).replace("Some", "");
                all.iter().map(one).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn server_starter_port_is_understood() {
        let port = |value| shown(&variables(Some(value), None, None, None));
        assert_eq!(port("8080=3"), r#"3:("8080"):None"#);
        assert_eq!(port("[::1]:80=5;127.0.0.1:80=4"), r#"5:("[::1]:80"):None 4:("127.0.0.1:80"):None"#);
        assert_eq!(port("/run/a=b.sock=3"), r#"3:("/run/a=b.sock"):None"#);
        assert_eq!(port("/run/a;b=c=3;80=4"), r#"3:("/run/a;b=c"):None 4:("80"):None"#);
        assert_eq!(port("/run/a=1;b=3"), r#"3:("/run/a=1;b"):None"#);
        assert_eq!(port("80=0"), r#"0:("80"):None"#);
        assert_eq!(port(""), "");
        for (value, problem) in [
            ("8080", "“8080” is not ADDRESS=DESCRIPTOR"),
            ("8080=x", "“8080=x” is not ADDRESS=DESCRIPTOR"),
            ("8080=-1", "“8080=-1” is not ADDRESS=DESCRIPTOR"),
            ("8080=2", "“8080=2” is not ADDRESS=DESCRIPTOR"),
            ("8080=99999999999", "99999999999 is not a descriptor"),
            ("80=3;81=3", "both “80” and “81” are descriptor 3"),
        ] {
            let error = port(value);
            assert!(error.starts_with(&format!("SERVER_STARTER_PORT is “{value}”, in which {problem}; ")), "{error}");
        }
    }

    #[test]
    fn listen_fds_is_understood() {
        let of = |fds, pid, names| shown(&variables(None, Some(fds), pid, names));
        assert_eq!(of("2", Some("4711"), None), "3:None:None 4:None:None");
        assert_eq!(of("1", None, Some("web")), r#"3:None:("web")"#);
        assert_eq!(of("3", Some("4711"), Some("a::c")), r#"3:None:("a") 4:None:None 5:None:("c")"#);
        assert_eq!(of("2", Some("4712"), Some("a:b")), "", "meant for another process");
        assert_eq!(of("0", Some("4711"), Some("")), "");
        assert_eq!(shown(&variables(None, None, Some("4711"), Some("a"))), "");
        for (fds, pid, names, problem) in [
            ("x", None, None, "LISTEN_FDS is “x”, which is not a number of descriptors; "),
            ("-1", None, None, "LISTEN_FDS is “-1”, "),
            ("99999999999", None, None, "LISTEN_FDS is “99999999999”, "),
            ("1", Some("me"), None, "LISTEN_PID is “me”, which is not the number of a process; "),
            ("1", None, Some("a:b"), "LISTEN_FDNAMES is “a:b”, which are 2 names, but LISTEN_FDS says 1; "),
        ] {
            let error = of(fds, pid, names);
            assert!(error.starts_with(problem), "{error}");
        }
    }

    #[test]
    fn a_descriptor_in_both_is_one() {
        let both = variables(Some("127.0.0.1:80=4;/s=3"), Some("3"), Some("4711"), Some("unix:web:more"));
        assert_eq!(shown(&both), r#"4:("127.0.0.1:80"):("web") 3:("/s"):("unix") 5:None:("more")"#);
    }
}
