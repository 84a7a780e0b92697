//! What travels between a verb and a running superdaemon, and how it is written down. No input or output here.
//!
//! A message is one JSON object on one line of at most [`LONGEST_LINE`] bytes. The client sends a [`Request`]; the
//! superdaemon sends any number of [`Reply::Progress`] and then exactly one other [`Reply`], after which it closes the
//! connection. While it waits, a client may send [`Request::GiveUp`]. Both sides ignore members that they do not know,
//! so that either can be newer than the other; `version` changes only when that is not enough.
//! `docs/control.md` describes the protocol for clients in other languages.

mod status;

use serde::{Deserialize, Serialize};

pub use status::{Generation, Listener, Role, Status};

/// The version of the protocol that this crate speaks.
pub const VERSION: u32 = 1;

/// No message is longer, the line end included. It is the status of a superdaemon with thousands of listeners that
/// needs so much.
pub const LONGEST_LINE: usize = 1024 * 1024;

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case")]
pub enum Request {
    /// Replace the program and say how that went.
    Restart {
        /// When to answer.
        #[serde(default)]
        until: Until,
    },
    /// End all workers, then the superdaemon, and answer last thing.
    Stop,
    /// Say what there is.
    Status,
    /// Execute the program of the superdaemon itself anew, and say how that went.
    Upgrade {
        /// The absolute path of another program, instead of the file that the superdaemon was started from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        path: Option<String>,
        /// Another command line, without its first word.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        arguments: Option<Vec<String>>,
    },
    /// Do not wait any longer for what was asked for on this connection. A restart that nobody else waits for is
    /// abandoned, if a generation serves that can be kept.
    GiveUp,
}

/// What somebody who asked for a restart waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Until {
    /// The new generation is current and the old ones were told to go.
    Commit,
    /// Nothing older is left.
    #[default]
    Drained,
}

/// What a superdaemon says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// Something happened on the way.
    Progress {
        /// The line that stands in the log, too.
        line: String,
    },
    /// The restart is done.
    Restarted {
        /// The generation that serves now.
        generation: u32,
    },
    /// The restart was given up.
    Failed {
        /// Why, in words.
        reason: String,
        /// How often it was tried.
        attempts: u32,
        /// The generation that failed last.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        generation: Option<u32>,
        /// Its raw wait status, as wait(2) gives it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<i32>,
        /// The generation that goes on serving.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kept: Option<u32>,
        /// What was written to the log file while it was tried for the last time: at most the last 20 lines.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        log: Vec<String>,
    },
    /// The superdaemon runs the other program.
    Upgraded {
        /// The version of the program before.
        from: String,
        /// The version of the program now.
        to: String,
    },
    /// There is no upgrade, and nothing has changed.
    Refused {
        /// Why, in words.
        reason: String,
    },
    /// The client gave up waiting.
    TimedOut {
        /// The generation that became current all the same; older ones still drain.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        committed: Option<u32>,
        /// The workers that do.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        draining: Vec<i32>,
        /// The generation that serves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        serving: Option<u32>,
        /// Whether what was asked for will not be done. If not, it goes on: it is done already, somebody else wants it
        /// too, or nobody would serve without it.
        #[serde(default)]
        abandoned: bool,
    },
    /// The superdaemon is ending: there will be no restart.
    Stopping,
    /// Everything has ended.
    Stopped,
    /// What there is.
    Status(Box<Status>),
    /// The request cannot be met at all.
    Error {
        /// Why, in words.
        reason: String,
    },
}

/// A message with the version of the protocol, as it stands on the line.
#[derive(Serialize, Deserialize)]
struct Line<Message> {
    version: u32,
    #[serde(flatten)]
    message: Message,
}

/// The line for a message, its end included.
pub fn encode<Message: Serialize>(message: &Message) -> String {
    let line = Line { version: VERSION, message };
    // Strings, numbers and lists can always be written as JSON; should that ever change, it is not worth a life.
    let mut text = serde_json::to_string(&line).unwrap_or_else(|_| {
        format!("{{\"version\":{VERSION},\"reply\":\"error\",\"reason\":\"the answer could not be written down\"}}")
    });
    text.push('\n');
    text
}

/// The request on a line.
///
/// # Errors
/// A sentence for the client that wrote it.
pub fn decode_request(line: &str) -> Result<Request, String> {
    decode(line)
}

/// The reply on a line.
///
/// # Errors
/// A sentence for the user who waits for it.
pub fn decode_reply(line: &str) -> Result<Reply, String> {
    decode(line)
}

fn decode<Message: for<'a> Deserialize<'a>>(line: &str) -> Result<Message, String> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    match serde_json::from_str::<Version>(line) {
        Ok(Version { version: VERSION }) => {}
        Ok(Version { version }) => {
            return Err(format!(
                "this is version {version} of the control protocol, and only version {VERSION} is understood here"
            ));
        }
        Err(error) => return Err(format!("this is no message of the control protocol: {error}")),
    }
    serde_json::from_str::<Line<Message>>(line)
        .map(|line| line.message)
        .map_err(|error| format!("this message of the control protocol is not understood: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_the_way() {
        for request in [
            Request::Restart { until: Until::Commit },
            Request::Restart { until: Until::Drained },
            Request::Stop,
            Request::Status,
            Request::Upgrade { path: None, arguments: None },
            Request::Upgrade {
                path: Some("/opt/start_server".to_owned()),
                arguments: Some(vec!["--".to_owned(), "server".to_owned()]),
            },
            Request::GiveUp,
        ] {
            assert_eq!(decode_request(&encode(&request)), Ok(request));
        }
        for reply in [
            Reply::Progress { line: "starting new worker 7 \"\n\u{7f}ü".to_owned() },
            Reply::Restarted { generation: 3 },
            Reply::Failed {
                reason: "it exited".to_owned(),
                attempts: 2,
                generation: Some(4),
                status: Some(256),
                kept: Some(1),
                log: vec!["syntax error".to_owned()],
            },
            Reply::TimedOut { committed: None, draining: vec![], serving: Some(1), abandoned: true },
            Reply::TimedOut { committed: Some(2), draining: vec![4711], serving: Some(2), abandoned: false },
            Reply::Upgraded { from: "0.1.0".to_owned(), to: "0.2.0".to_owned() },
            Reply::Refused { reason: "it is a directory".to_owned() },
            Reply::Stopping,
            Reply::Stopped,
            Reply::Status(Box::default()),
            Reply::Error { reason: "no".to_owned() },
        ] {
            let line = encode(&reply);
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert_eq!(decode_reply(&line), Ok(reply));
        }
    }

    #[test]
    fn a_line_is_as_documented() {
        assert_eq!(
            encode(&Request::Restart { until: Until::Commit }),
            "{\"version\":1,\"request\":\"restart\",\"until\":\"commit\"}\n"
        );
        assert_eq!(
            encode(&Reply::Restarted { generation: 3 }),
            "{\"version\":1,\"reply\":\"restarted\",\"generation\":3}\n"
        );
    }

    #[test]
    fn a_newer_client_is_understood_as_far_as_possible() {
        let line = r#"{"version":1,"request":"restart","colour":"blue"}"#;
        assert_eq!(decode_request(line), Ok(Request::Restart { until: Until::Drained }));
    }

    #[test]
    fn nonsense_gets_a_sentence() {
        for (line, part) in [
            ("", "no message"),
            ("GET / HTTP/1.1", "no message"),
            ("[1,2]", "no message"),
            (r#"{"request":"stop"}"#, "no message"),
            (r#"{"version":2,"request":"stop"}"#, "version 2"),
            (r#"{"version":1,"request":"explode"}"#, "not understood"),
            (r#"{"version":1}"#, "not understood"),
        ] {
            let error = decode_request(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
