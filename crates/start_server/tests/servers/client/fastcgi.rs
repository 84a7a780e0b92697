//! FastCGI, as a web server speaks it to an application.

use super::{Answer, Failure, Incoming};
use crate::load::Loss;

// The FastCGI specification, section 8.
const VERSION: u8 = 1;
const BEGIN_REQUEST: u8 = 1;
const END_REQUEST: u8 = 3;
const PARAMS: u8 = 4;
const STDIN: u8 = 5;
const STDOUT: u8 = 6;
const RESPONDER: u8 = 1;
const KEEP_CONNECTION: u8 = 1;
const HEADER: usize = 8;

/// What has `script` answer a request for `path`.
pub fn request(script: &str, path: &str, last: bool) -> Vec<u8> {
    let keep = if last { 0 } else { KEEP_CONNECTION };
    let parameters = [
        ("SCRIPT_FILENAME", script),
        ("SCRIPT_NAME", "/index.php"),
        ("REQUEST_URI", path),
        ("REQUEST_METHOD", "GET"),
        ("QUERY_STRING", ""),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
    ];
    let mut request = record(BEGIN_REQUEST, &[0, RESPONDER, keep, 0, 0, 0, 0, 0]);
    request.extend(record(PARAMS, &parameters.map(|(name, value)| pair(name, value)).concat()));
    request.extend(record(PARAMS, &[]));
    request.extend(record(STDIN, &[]));
    request
}

/// Reads the whole answer.
pub fn answer(mut incoming: Incoming, last: bool) -> Result<Answer, Failure> {
    let mut output = Vec::new();
    let mut place = 0;
    loop {
        let header = incoming.bytes.get(place..place + HEADER);
        let Some(&[_, kind, _, _, high, low, padding, _]) = header else {
            incoming.needs_more()?;
            continue;
        };
        let begin = place + HEADER;
        let end = begin + usize::from(u16::from_be_bytes([high, low]));
        if incoming.bytes.len() < end + usize::from(padding) {
            incoming.needs_more()?;
            continue;
        }
        match kind {
            STDOUT => output.extend_from_slice(incoming.bytes.get(begin..end).unwrap_or_default()),
            END_REQUEST => break,
            _ => {}
        }
        place = end + usize::from(padding);
    }
    let body = String::from_utf8_lossy(&output).into_owned();
    match body.starts_with("Status:") {
        true => Err((Loss::Wrong, body)),
        false => Ok(Answer { body, can_go_on: !last }),
    }
}

/// A record of the only request on its connection.
fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut record = vec![VERSION, kind, 0, 1, high, low, 0, 0];
    record.extend_from_slice(content);
    record
}

/// A parameter, in the encoding for short ones.
fn pair(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).ok().filter(|length| *length < 128).unwrap();
    let mut pair = vec![length(name), length(value)];
    pair.extend_from_slice(name.as_bytes());
    pair.extend_from_slice(value.as_bytes());
    pair
}
