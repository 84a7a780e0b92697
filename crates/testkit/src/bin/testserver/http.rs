//! As much of HTTP/1.1 as the tests need: GET, keep-alive, and a path that says what to do.

use std::time::Duration;

use testkit::signals;

/// A request that has arrived whole.
pub struct Request {
    /// What to do about it.
    pub wish: Wish,
    /// Whether the client wants to ask again on this connection.
    pub keep_alive: bool,
}

/// What a path asks for.
pub enum Wish {
    /// `/` and everything unknown: an answer.
    Answer,
    /// `/sleep/SECONDS`: an answer, then.
    AnswerAfter(Duration),
    /// `/exit/N`: no answer, but an exit with this status.
    Exit(i32),
    /// `/kill/NAME`: no answer, but death by this signal.
    Die(i32),
}

/// Takes the first request off what a connection has received, if it is complete.
pub fn take_request(received: &mut Vec<u8>) -> Option<Request> {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head: Vec<u8> = received.drain(..end).collect();
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let path = head.split_whitespace().nth(1).unwrap_or("/");
    Some(Request { wish: wish(path), keep_alive: !head.contains("\r\nconnection: close\r\n") })
}

/// The whole answer with this body.
pub fn answer(body: &str, keep_alive: bool) -> String {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let length = body.len();
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: {connection}\r\n\r\n{body}"
    )
}

fn wish(path: &str) -> Wish {
    let mut words = path.split('/').skip(1);
    let wish = match (words.next(), words.next()) {
        (Some("sleep"), Some(time)) => {
            let time = time.parse().ok().and_then(|time| Duration::try_from_secs_f64(time).ok());
            time.map(Wish::AnswerAfter)
        }
        (Some("exit"), Some(code)) => code.parse().ok().map(Wish::Exit),
        (Some("kill"), Some(name)) => signals::number(&name.to_ascii_uppercase()).map(Wish::Die),
        _ => None,
    };
    wish.unwrap_or(Wish::Answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_taken_when_it_is_whole() {
        let mut received = b"GET / HTTP/1.1\r\nConnection: close\r\n".to_vec();
        assert!(take_request(&mut received).is_none());
        received.extend(b"\r\nGET /exit/3 HTTP/1.1\r\n\r\nrest");
        let first = take_request(&mut received).unwrap();
        assert!(matches!(first.wish, Wish::Answer) && !first.keep_alive);
        let second = take_request(&mut received).unwrap();
        assert!(matches!(second.wish, Wish::Exit(3)) && second.keep_alive);
        assert_eq!(received, b"rest");
    }

    #[test]
    fn paths_are_wishes() {
        assert!(matches!(wish("/sleep/0.5"), Wish::AnswerAfter(time) if time == Duration::from_millis(500)));
        assert!(matches!(wish("/kill/kill"), Wish::Die(9)));
        assert!(matches!(wish("/sleep/long"), Wish::Answer));
        assert!(matches!(wish("/nothing"), Wish::Answer));
    }
}
