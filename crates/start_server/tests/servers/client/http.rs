//! HTTP/1.1, as far as the servers here speak it.

use super::{Answer, Failure, Incoming};
use crate::load::Loss;

/// The request for `path`.
pub fn request(path: &str, last: bool) -> String {
    let close = if last { "Connection: close\r\n" } else { "" };
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n")
}

/// Reads the whole answer.
pub fn answer(mut incoming: Incoming, last: bool) -> Result<Answer, Failure> {
    let head = loop {
        if let Some(end) = find(&incoming.bytes, b"\r\n\r\n") {
            break Head::parse(&incoming.bytes, end + 4)?;
        }
        incoming.needs_more()?;
    };
    let mut is_open = true;
    let body = loop {
        let body = incoming.bytes.get(head.length..).unwrap_or_default();
        let whole = match head.body {
            Body::Length(length) => body.get(..length).map(<[u8]>::to_vec),
            Body::Chunked => unchunk(body),
            Body::UntilTheEnd if is_open => None,
            Body::UntilTheEnd => Some(body.to_vec()),
        };
        match whole {
            Some(body) => break body,
            None if head.body == Body::UntilTheEnd => is_open = incoming.more()?,
            None => incoming.needs_more()?,
        }
    };
    let can_go_on = !last && head.is_kept && head.body != Body::UntilTheEnd;
    Ok(Answer { body: String::from_utf8_lossy(&body).into_owned(), can_go_on })
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Body {
    Length(usize),
    Chunked,
    UntilTheEnd,
}

struct Head {
    /// Its length, and so the place where the body begins.
    length: usize,
    body: Body,
    is_kept: bool,
}

impl Head {
    fn parse(bytes: &[u8], length: usize) -> Result<Self, Failure> {
        let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).to_ascii_lowercase();
        let (status, headers) = text.split_once("\r\n").unwrap_or_default();
        if status.split(' ').nth(1) != Some("200") {
            return Err((Loss::Wrong, status.to_owned()));
        }
        let header = |wanted: &str| {
            let values = headers.lines().filter_map(|line| line.split_once(':'));
            values.filter(|(name, _)| *name == wanted).map(|(_, value)| value.trim()).next_back()
        };
        let body = match (header("transfer-encoding"), header("content-length").map(str::parse)) {
            (Some("chunked"), _) => Body::Chunked,
            (_, Some(Ok(length))) => Body::Length(length),
            _ => Body::UntilTheEnd,
        };
        let is_kept = match header("connection") {
            Some(words) if status.starts_with("http/1.0") => words.contains("keep-alive"),
            Some(words) => !words.contains("close"),
            None => !status.starts_with("http/1.0"),
        };
        Ok(Self { length, body, is_kept })
    }
}

/// The body that was cut into these chunks, if all are there.
fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = find(rest, b"\r\n")?;
        let number = std::str::from_utf8(rest.get(..line)?).ok()?;
        let length = usize::from_str_radix(number.split(';').next()?.trim(), 16).ok()?;
        let chunk = rest.get(line + 2..line + 2 + length)?;
        let after = rest.get(line + 2 + length..)?.strip_prefix(b"\r\n")?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(chunk);
        rest = after;
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_put_together() {
        assert_eq!(unchunk(b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n\r\n").unwrap(), b"hello!");
        assert_eq!(unchunk(b"5\r\nhello\r\n0\r\n"), None);
        assert_eq!(unchunk(b"5\r\nhel"), None);
    }

    #[test]
    fn a_head_says_where_the_answer_ends_and_whether_another_may_follow() {
        let parse = |text: &str| Head::parse(text.as_bytes(), text.len());
        let head = parse("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n").unwrap();
        assert!(head.body == Body::Length(7) && head.is_kept);
        let head = parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n").unwrap();
        assert!(head.body == Body::Chunked && !head.is_kept);
        let head = parse("HTTP/1.0 200 OK\r\n\r\n").unwrap();
        assert!(head.body == Body::UntilTheEnd && !head.is_kept);
        assert_eq!(parse("HTTP/1.1 502 Bad Gateway\r\n\r\n").err().unwrap().0, Loss::Wrong);
    }
}
