//! A connection that notes what happens on it, and can hold the second half of a request back: that is how a request
//! is held across a restart without any help of the server. Sessions speak over it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use hyper::rt::ReadBufCursor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::sleep;

use crate::sample::Loss;
use crate::target::Endpoint;

/// A connection to the server.
pub struct Wire {
    stream: Stream,
    seen: Rc<Seen>,
    hold: Option<Rc<Hold>>,
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// What happened on a connection so far.
#[derive(Debug, Default)]
pub struct Seen {
    /// Bytes that the kernel took.
    pub sent: Cell<u64>,
    /// Bytes that came.
    pub received: Cell<u64>,
    /// Whether the other side closed or reset it.
    pub ended: Cell<bool>,
}

/// Holds the second half of what is written first back, until it is opened.
#[derive(Debug, Default)]
pub struct Hold {
    half_sent: Cell<bool>,
    open: Cell<bool>,
    writer: RefCell<Option<Waker>>,
    watcher: RefCell<Option<Waker>>,
}

impl Hold {
    /// A closed one.
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    /// Lets the rest pass.
    pub fn open(&self) {
        self.open.set(true);
        wake(&self.writer);
    }

    /// Waits until the first half has been sent.
    pub async fn half_sent(&self) {
        poll_fn(|context| {
            *self.watcher.borrow_mut() = Some(context.waker().clone());
            if self.half_sent.get() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// How many of `length` bytes may pass.
    fn poll_pass(&self, context: &Context<'_>, length: usize) -> Poll<usize> {
        if self.open.get() {
            return Poll::Ready(length);
        }
        if !self.half_sent.get() {
            return Poll::Ready(length.div_ceil(2));
        }
        *self.writer.borrow_mut() = Some(context.waker().clone());
        Poll::Pending
    }

    fn passed(&self) {
        self.half_sent.set(true);
        wake(&self.watcher);
    }
}

fn wake(waker: &RefCell<Option<Waker>>) {
    if let Some(waker) = waker.borrow_mut().take() {
        waker.wake();
    }
}

/// A unix socket whose queue is full refuses to be waited for; a client that blocks would wait.
const QUEUE_FULL_AGAIN: Duration = Duration::from_millis(5);

impl Wire {
    /// Connects. There is no limit of time here.
    ///
    /// # Errors
    ///
    /// [`Loss::Refused`] if nobody listens, [`Loss::Unreachable`] for all other reasons.
    pub async fn connect(endpoint: &Endpoint, hold: Option<Rc<Hold>>) -> Result<Self, Loss> {
        let stream = loop {
            let stream = match endpoint {
                Endpoint::Tcp(address) => TcpStream::connect(address).await.map(Stream::Tcp),
                Endpoint::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
            };
            match stream {
                Ok(stream) => break stream,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => sleep(QUEUE_FULL_AGAIN).await,
                    // A path that is not there is a unix socket that nobody listens on.
                    io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => return Err(Loss::Refused),
                    io::ErrorKind::ConnectionReset => return Err(Loss::ResetBefore),
                    _ => return Err(Loss::Unreachable),
                },
            }
        };
        if let Stream::Tcp(stream) = &stream {
            // A half of a request must not wait for the other one. Where that is refused, it is only slower.
            let _ = stream.set_nodelay(true);
        }
        Ok(Self { stream, seen: Rc::default(), hold })
    }

    /// What happens on it.
    pub fn seen(&self) -> Rc<Seen> {
        Rc::clone(&self.seen)
    }

    /// Sends all of it.
    pub async fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = poll_fn(|context| self.poll_send(context, bytes)).await?;
            bytes = bytes.get(sent..).unwrap_or_default();
        }
        Ok(())
    }

    /// Receives something; nothing at the end.
    pub async fn receive(&mut self, space: &mut [u8]) -> io::Result<usize> {
        poll_fn(|context| self.poll_receive(context, space)).await
    }

    /// Whether there is something to receive, an end included. What there is is thrown away.
    pub async fn is_readable(&mut self) -> bool {
        poll_fn(|context| Poll::Ready(self.poll_receive(context, &mut [0; 64]).is_ready())).await
    }

    fn poll_send(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let length = match &self.hold {
            Some(hold) => ready!(hold.poll_pass(context, bytes.len())),
            None => bytes.len(),
        };
        let bytes = bytes.get(..length).unwrap_or(bytes);
        let sent = ready!(match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Stream::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        });
        match &sent {
            Ok(sent) => self.seen.sent.set(self.seen.sent.get() + *sent as u64),
            Err(_) => self.seen.ended.set(true),
        }
        if let Some(hold) = &self.hold {
            hold.passed();
        }
        Poll::Ready(sent)
    }

    fn poll_receive(&mut self, context: &mut Context<'_>, space: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(space);
        let result = ready!(match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, &mut buffer),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, &mut buffer),
        });
        let length = buffer.filled().len();
        self.seen.received.set(self.seen.received.get() + length as u64);
        self.seen.ended.set(self.seen.ended.get() || result.is_err() || length == 0);
        Poll::Ready(result.map(|()| length))
    }
}

impl hyper::rt::Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // By way of a buffer of our own: to lend hyper's, which is uninitialised, needs unsafe code.
        let mut space = [0; 8192];
        let space = space.get_mut(..cursor.remaining().min(8192)).unwrap_or_default();
        let length = ready!(self.poll_receive(context, space))?;
        cursor.put_slice(space.get(..length).unwrap_or_default());
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Wire {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What the kernel has taken is on its way.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
