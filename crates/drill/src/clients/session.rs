//! A conversation on one connection: HTTP by hyper, or bytes that are sent and bytes that are expected. Clients ask in
//! it, once or again and again.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;

use hyper::Request;
use hyper::body::Body;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONNECTION, HOST, HeaderValue, USER_AGENT};
use tokio::task::{JoinHandle, spawn_local};

use super::wire::{Hold, Seen, Wire};
use crate::sample::Loss;
use crate::target::{Endpoint, Page};

/// What is said, and what counts as an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// A page is asked for by HTTP/1.1; a whole answer with a status from 200 to 399 is right.
    Http(Page),
    /// These bytes are sent.
    Raw {
        /// They may be none, if the server speaks first.
        send: Vec<u8>,
        /// Bytes that must come; any will do if they are none.
        expect: Vec<u8>,
    },
}

/// A conversation.
pub struct Session {
    speech: Speech,
    seen: Rc<Seen>,
}

enum Speech {
    Http { sender: SendRequest<String>, _driver: Driver },
    Raw(Wire),
}

/// Hyper's other half of a connection; it ends with this value, and the connection with it.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Raw answers are not looked through any further.
const LONGEST_ANSWER: usize = 1 << 20;

impl Session {
    /// Connects. There is no limit of time here.
    ///
    /// # Errors
    ///
    /// As for [`Wire::connect`].
    pub async fn open(endpoint: &Endpoint, protocol: &Protocol, hold: Option<Rc<Hold>>) -> Result<Self, Loss> {
        let wire = Wire::connect(endpoint, hold).await?;
        let seen = wire.seen();
        let speech = match protocol {
            Protocol::Raw { .. } => Speech::Raw(wire),
            Protocol::Http(_) => {
                let (sender, connection) = handshake(wire).await.map_err(|_| Loss::ResetBefore)?;
                // How it ends is seen by who asks, and on the wire.
                let driver = spawn_local(async move { drop(connection.await) });
                Speech::Http { sender, _driver: Driver(driver) }
            }
        };
        Ok(Self { speech, seen })
    }

    /// Bytes sent and received so far.
    pub fn traffic(&self) -> (u64, u64) {
        (self.seen.sent.get(), self.seen.received.get())
    }

    /// Whether the other side has closed the connection, or said something unasked, while nobody used it.
    pub async fn is_stale(&mut self) -> bool {
        match &mut self.speech {
            Speech::Http { sender, .. } => sender.ready().await.is_err(),
            Speech::Raw(wire) => wire.is_readable().await,
        }
    }

    /// Asks once; `last` says that the connection is not needed any more. There is no limit of time here.
    ///
    /// # Errors
    ///
    /// The answer did not come, or is not right.
    pub async fn ask(&mut self, protocol: &Protocol, last: bool) -> Result<(), Loss> {
        let (_, before) = self.traffic();
        let result = match (&mut self.speech, protocol) {
            (Speech::Http { sender, .. }, Protocol::Http(page)) => ask_for(sender, page, last).await,
            (Speech::Raw(wire), Protocol::Raw { send, expect }) => converse(wire, send, expect).await,
            // A session speaks what it was opened for.
            _ => Err(Broken::Answer(Loss::Garbled)),
        };
        result.map_err(|broken| match broken {
            Broken::Answer(loss) => loss,
            Broken::Connection if self.seen.received.get() == before => Loss::ResetBefore,
            Broken::Connection if self.seen.ended.get() => Loss::ResetWithin,
            Broken::Connection => Loss::Garbled,
        })
    }
}

/// Why there is no right answer.
enum Broken {
    /// There is one, and it is wrong.
    Answer(Loss),
    /// It ended before the answer did, or the answer cannot be understood.
    Connection,
}

async fn ask_for(sender: &mut SendRequest<String>, page: &Page, last: bool) -> Result<(), Broken> {
    let gone = |_: hyper::Error| Broken::Connection;
    sender.ready().await.map_err(gone)?;
    let mut request = Request::get(page.path.as_str())
        .header(HOST, page.host.as_str())
        .header(USER_AGENT, concat!("drill/", env!("CARGO_PKG_VERSION")))
        .body(String::new())
        .map_err(|_| Broken::Answer(Loss::Garbled))?;
    if last {
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let answer = sender.send_request(request).await.map_err(gone)?;
    let status = answer.status();
    let mut body = answer.into_body();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        frame.map_err(gone)?;
    }
    if status.is_success() || status.is_redirection() {
        Ok(())
    } else {
        Err(Broken::Answer(Loss::WrongStatus(status.as_u16())))
    }
}

async fn converse(wire: &mut Wire, send: &[u8], expect: &[u8]) -> Result<(), Broken> {
    wire.send(send).await.map_err(|_| Broken::Connection)?;
    let mut answer: Vec<u8> = Vec::new();
    let mut space = [0; 4096];
    loop {
        let length = wire.receive(&mut space).await.map_err(|_| Broken::Connection)?;
        if length == 0 {
            return Err(Broken::Connection);
        }
        answer.extend(space.iter().take(length));
        if expect.is_empty() || answer.windows(expect.len()).any(|window| window == expect) {
            return Ok(());
        }
        if answer.len() > LONGEST_ANSWER {
            return Err(Broken::Answer(Loss::Garbled));
        }
    }
}
