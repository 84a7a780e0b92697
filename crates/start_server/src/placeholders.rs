//! Placeholders in the arguments of the program: `{fd:0}`, `{port:web}`, `{generation}`. `worker` reads them once, when
//! the listeners are there, and fills in the generation at each spawn.

use std::ffi::{CString, NulError, OsStr};
use std::os::unix::ffi::OsStrExt;

use crate::listeners::{BoundAddress, Listener};

/// An argument in which everything is filled in but the generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// What stands before, between and after the places for the generation. Never empty.
    pieces: Vec<Vec<u8>>,
}

const GENERATION: &[u8] = b"{generation}";

impl Template {
    /// Reads an argument. Only the exact forms are replaced: `{fd:L}`, `{host:L}`, `{port:L}` and `{addr:L}`, where L is
    /// the index of a listener from 0 on or its name, and `{generation}`. All other braces stay as they are.
    ///
    /// # Errors
    /// A listener that is not there, or that has no host and port: a sentence that says which there are.
    pub fn read(argument: &OsStr, listeners: &[Listener]) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut piece = Vec::new();
        let mut rest = argument.as_bytes();
        while let Some((byte, after)) = rest.split_first() {
            if let Some(after) = rest.strip_prefix(GENERATION) {
                pieces.push(std::mem::take(&mut piece));
                rest = after;
            } else if let Some(after) = replace(rest, listeners, &mut piece)? {
                rest = after;
            } else {
                piece.push(*byte);
                rest = after;
            }
        }
        pieces.push(piece);
        Ok(Self { pieces })
    }

    /// The argument for this generation.
    ///
    /// # Errors
    /// It contains a zero byte; no argument can.
    pub fn fill_in(&self, generation: u32) -> Result<CString, NulError> {
        CString::new(self.pieces.join(generation.to_string().as_bytes()))
    }
}

/// Appends the value of the placeholder that the text begins with, and returns what follows it; `None` if it begins
/// with none.
fn replace<'t>(text: &'t [u8], listeners: &[Listener], out: &mut Vec<u8>) -> Result<Option<&'t [u8]>, String> {
    let Some((kind, which, after)) = split(text) else { return Ok(None) };
    let Some(listener) = find(which, listeners) else {
        let is_meant = is_index(which) || listeners.iter().any(|listener| listener.given_name().is_some());
        return if is_meant { Err(nobody(kind, which, listeners)) } else { Ok(None) };
    };
    let value = match (kind, listener.address()) {
        ("fd", _) => listener.number().to_string().into_bytes(),
        ("addr", address) => address.bytes(),
        ("host", BoundAddress::Internet(address)) => address.ip().to_string().into_bytes(),
        ("port", BoundAddress::Internet(address)) => address.port().to_string().into_bytes(),
        _ => {
            return Err(format!(
                "{{{kind}:{which}}} in the arguments of the program: {} is a unix socket and has no {kind}; use \
                 {{addr:{which}}}",
                listener.name()
            ));
        }
    };
    out.extend(value);
    Ok(Some(after))
}

/// Takes `{KIND:WHICH}` off the beginning.
fn split(text: &[u8]) -> Option<(&'static str, &str, &[u8])> {
    let text = text.strip_prefix(b"{")?;
    let kind = ["fd", "host", "port", "addr"]
        .into_iter()
        .find(|kind| text.strip_prefix(kind.as_bytes()).is_some_and(|rest| rest.starts_with(b":")))?;
    let text = text.get(kind.len() + 1..)?;
    let end = text.iter().position(|byte| *byte == b'}')?;
    let (which, after) = text.split_at_checked(end)?;
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let which = Some(which).filter(|which| !which.is_empty() && which.iter().all(is_word))?;
    Some((kind, std::str::from_utf8(which).ok()?, after.get(1..)?))
}

fn is_index(which: &str) -> bool {
    which.bytes().all(|byte| byte.is_ascii_digit())
}

fn find<'l>(which: &str, listeners: &'l [Listener]) -> Option<&'l Listener> {
    if is_index(which) {
        return listeners.get(which.parse::<usize>().ok()?);
    }
    listeners.iter().find(|listener| listener.given_name() == Some(which))
}

fn nobody(kind: &str, which: &str, listeners: &[Listener]) -> String {
    let there_are: Vec<String> =
        listeners.iter().enumerate().map(|(index, listener)| format!("{index} ({})", listener.name())).collect();
    let there_are = if there_are.is_empty() { "none".to_owned() } else { there_are.join(", ") };
    format!("{{{kind}:{which}}} in the arguments of the program names no listener; there are {there_are}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen_spec::{parse_listener, parse_ports};
    use crate::listeners::{Listeners, PassedSockets};

    /// Two listeners, the second of which has a name. Tests run side by side, and each has its own abstract address.
    fn listeners(test: &str) -> Listeners {
        let mut specs = parse_ports(OsStr::new("127.0.0.1:0")).unwrap();
        let name = format!("unix:@placeholders-{test}-{},name=api", std::process::id());
        specs.push(parse_listener(OsStr::new(&name)).unwrap());
        Listeners::open(&specs, PassedSockets::default(), 3, &mut |_| {}).unwrap()
    }

    fn filled_in(argument: &str, listeners: &Listeners) -> Result<String, String> {
        let template = Template::read(OsStr::new(argument), listeners.all())?;
        Ok(template.fill_in(7).unwrap().into_string().unwrap())
    }

    #[test]
    fn exact_forms_are_replaced() {
        let listeners = listeners("exact");
        let port = match listeners.all()[0].address() {
            BoundAddress::Internet(address) => address.port(),
            other => panic!("{other}"),
        };
        for (argument, expected) in [
            ("fd://{fd:0}", "fd://3".to_owned()),
            ("{fd:0},{fd:api},{fd:1}", "3,4,4".to_owned()),
            ("{addr:0}", format!("127.0.0.1:{port}")),
            ("http://{host:0}:{port:0}/", format!("http://127.0.0.1:{port}/")),
            ("{addr:api}", format!("@placeholders-exact-{}", std::process::id())),
            ("g{generation}-{generation}", "g7-7".to_owned()),
            ("{{fd:0}}", "{3}".to_owned()),
        ] {
            assert_eq!(filled_in(argument, &listeners), Ok(expected), "{argument}");
        }
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        let listeners = listeners("else");
        for argument in
            ["", "{", "{}", "{fd}", "{fd:}", "{fd:0", "{FD:0}", "{ fd:0}", "{gen}", "{\"fd\":0}", "{fd: 0}", "{fd:a b}"]
        {
            assert_eq!(filled_in(argument, &listeners), Ok(argument.to_owned()));
        }
        let bytes = OsStr::from_bytes(b"\xff{fd:0}");
        let template = Template::read(bytes, listeners.all()).unwrap();
        assert_eq!(template.fill_in(1).unwrap().as_bytes(), b"\xff3");
    }

    #[test]
    fn a_listener_that_is_not_there_is_an_error() {
        let listeners = listeners("absent");
        for (argument, expected) in [
            ("{fd:2}", "{fd:2} in the arguments of the program names no listener; there are 0 (127.0.0.1:0), 1 (api)"),
            ("x{port:web}", "{port:web} in the arguments of the program names no listener"),
            (
                "{port:api}",
                "{port:api} in the arguments of the program: api is a unix socket and has no port; use {addr:api}",
            ),
            ("{host:1}", "has no host"),
        ] {
            let error = filled_in(argument, &listeners).unwrap_err();
            assert!(error.contains(expected), "{argument} gave {error}");
        }
    }

    #[test]
    fn where_no_listener_has_a_name_words_in_braces_mean_nothing() {
        let specs = parse_ports(OsStr::new("127.0.0.1:0")).unwrap();
        let listeners = Listeners::open(&specs, PassedSockets::default(), 3, &mut |_| {}).unwrap();
        assert_eq!(filled_in("{host:web}", &listeners), Ok("{host:web}".to_owned()));
        assert!(filled_in("{fd:1}", &listeners).is_err());
    }
}
