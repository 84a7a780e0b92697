//! Being told to stop: one value for threads, callbacks, event loops and futures.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{self, UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use signal_hook::consts::SIGTERM;

/// The numbers of the signals by which servers are told to stop, for [`Stop::on`].
pub mod signal {
    pub use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
}

/// The supervisor's word that this process should stop: by default SIGTERM.
///
/// The first request counts, and it stays: whoever asks later hears it too. Clones are the same request. It can be
/// asked ([`is_requested`](Self::is_requested)), waited for ([`wait`](Self::wait)), handed to a callback
/// ([`then`](Self::then)), watched in an event loop (it is [`AsFd`]: readable from the request on, and never to be
/// read), and awaited with the feature `tokio` (`requested`).
///
/// From its making on the signal does nothing else, even when the value has gone. Make it before [`ready`](crate::ready):
/// what arrives earlier ends the process.
#[derive(Clone, Debug)]
pub struct Stop {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    requested: Arc<AtomicBool>,
    /// Readable after the request, since nobody ever reads it.
    receiver: UnixStream,
    sender: UnixStream,
}

impl Stop {
    /// Stops on SIGTERM, which start_server, systemd and nearly everybody else send.
    ///
    /// # Errors
    /// The process has no descriptors left.
    pub fn new() -> io::Result<Self> {
        Self::on(&[SIGTERM])
    }

    /// Stops on any of these [signals](signal): those of `--signal-on-hup` and `--signal-on-term`, or SIGINT besides
    /// SIGTERM for a server that also runs in a terminal.
    ///
    /// # Errors
    /// A signal that cannot be caught, or the process has no descriptors left.
    pub fn on(signals: &[i32]) -> io::Result<Self> {
        let (receiver, sender) = UnixStream::pair()?;
        let requested = Arc::new(AtomicBool::new(false));
        for &signal in signals {
            if signal_hook::consts::FORBIDDEN.contains(&signal) {
                let problem = format!("signal {signal} cannot be caught; choose another to stop on");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
            }
            // In this order: who wakes up finds the flag set.
            signal_hook::flag::register(signal, Arc::clone(&requested))?;
            signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
        }
        Ok(Self { inner: Arc::new(Inner { requested, receiver, sender }) })
    }

    /// Asks to stop, as the signal does: for an administrator's command, or a fault after which to go on makes no sense.
    pub fn request(&self) {
        self.inner.requested.store(true, Ordering::SeqCst);
        // If the buffer is full it is readable, too.
        let _ = rustix::net::send(&self.inner.sender, b"X", rustix::net::SendFlags::DONTWAIT);
    }

    /// Whether the process was told to stop. Cheap enough to be asked for every request.
    pub fn is_requested(&self) -> bool {
        self.inner.requested.load(Ordering::SeqCst)
    }

    /// Waits until the process is told to stop.
    pub fn wait(&self) {
        while !self.is_requested() {
            let _ = self.wait_for(None, None);
        }
    }

    /// Waits until the process is told to stop, at most this long. Gives whether it was.
    pub fn wait_timeout(&self, limit: Duration) -> bool {
        let _ = self.wait_for(None, Some(limit));
        self.is_requested()
    }

    /// Calls `callback` when the process is told to stop, in a thread that waits for it.
    ///
    /// # Errors
    /// No thread could be made.
    pub fn then(&self, callback: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        let stop = self.clone();
        thread::Builder::new().name("stop".to_owned()).spawn(move || {
            stop.wait();
            callback();
        })
    }

    /// Accepts the next connection; `None` when the process was told to stop.
    ///
    /// This is `accept` for a listener that several generations share. It makes the listener non-blocking and waits
    /// for it and for the request: a connection that another generation takes first does no harm, nor does a listener
    /// that another generation has made non-blocking.
    ///
    /// # Errors
    /// As accept(2), less those that concern a single connection. Another attempt may succeed; if the process is short
    /// of something, the error comes after a pause, so that who tries again does not spin.
    pub fn accept<L: Accept>(&self, listener: &L) -> io::Result<Option<(L::Stream, L::Address)>> {
        loop {
            let Some(()) = self.wait_readable(listener.as_fd())? else { return Ok(None) };
            // At each turn: another generation may have changed it.
            rustix::io::ioctl_fionbio(listener, true)?;
            match listener.accept_one() {
                Ok(accepted) => return Ok(Some(accepted)),
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    self.wait_timeout(Duration::from_millis(100));
                    return Err(error);
                }
            }
        }
    }

    /// Receives the next datagram; `None` when the process was told to stop. Those that it did not take stay in the
    /// socket, for the next generation.
    ///
    /// It works in either blocking mode of the socket, and leaves it.
    ///
    /// # Errors
    /// As recvfrom(2).
    pub fn recv_from(&self, socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
        loop {
            let Some(()) = self.wait_readable(socket.as_fd())? else { return Ok(None) };
            match rustix::net::recvfrom(socket, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((length, _, Some(from))) => return Ok(Some((length, from.try_into()?))),
                // The second is an old answer's: nobody was there to receive it.
                Ok((.., None)) | Err(Errno::AGAIN | Errno::INTR | Errno::CONNREFUSED) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Waits until a connection has something to read (or has ended): its next request. `false` means that nothing will
    /// come, and that it can be closed.
    ///
    /// A client gets `idle` to send its request. Once the process was told to stop it gets `grace` instead, since the
    /// request may be on its way: a connection that is closed at once is a request lost. Answer that request in a way
    /// that tells the client to send no other here, in HTTP `Connection: close`.
    ///
    /// # Errors
    /// As poll(2).
    pub fn wait_request(&self, connection: impl AsFd, idle: Duration, grace: Duration) -> io::Result<bool> {
        let begun = Instant::now();
        while !self.is_requested() {
            let Some(left) = idle.checked_sub(begun.elapsed()) else { return Ok(false) };
            if self.wait_for(Some(connection.as_fd()), Some(left))? {
                return Ok(true);
            }
        }
        wait_readable(&[connection.as_fd()], Some(grace)).map(|ready| ready.contains(&true))
    }

    /// A future that is over when the process is told to stop. It borrows nothing, and any number can be made.
    ///
    /// # Errors
    /// There is no tokio runtime here with input and output enabled, or the process has no descriptors left.
    #[cfg(feature = "tokio")]
    pub fn requested(&self) -> io::Result<impl Future<Output = ()> + Send + Sync + 'static + use<>> {
        // Without a runtime tokio panics instead of saying so.
        tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        // A descriptor of its own, since none can be registered twice.
        let receiver = self.inner.receiver.try_clone()?;
        receiver.set_nonblocking(true)?;
        let receiver = tokio::net::UnixStream::from_std(receiver)?;
        let requested = Arc::clone(&self.inner.requested);
        Ok(async move {
            while !requested.load(Ordering::SeqCst) {
                if receiver.readable().await.is_err() {
                    // The runtime is being shut down: this future is not going to be asked again.
                    std::future::pending::<()>().await;
                }
                // tokio may err, and has to be told so before it waits again. The look comes after it has noted how
                // often the descriptor became ready, so that a request in between is not forgotten.
                let _ = receiver.try_io(tokio::io::Interest::READABLE, || {
                    if requested.load(Ordering::SeqCst) { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
                });
            }
        })
    }

    /// Waits for `other` to become readable; `None` when the process was told to stop.
    fn wait_readable(&self, other: BorrowedFd<'_>) -> io::Result<Option<()>> {
        while !self.is_requested() {
            if self.wait_for(Some(other), None)? {
                return Ok(Some(()));
            }
        }
        Ok(None)
    }

    /// Waits for the request or for `other`; whether `other` is readable.
    fn wait_for(&self, other: Option<BorrowedFd<'_>>, limit: Option<Duration>) -> io::Result<bool> {
        let both: Vec<_> = std::iter::once(self.inner.receiver.as_fd()).chain(other).collect();
        Ok(wait_readable(&both, limit)?.get(1) == Some(&true))
    }
}

impl AsFd for Stop {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.receiver.as_fd()
    }
}

/// Waits for one of the descriptors to become readable, or for the limit; which are.
fn wait_readable(descriptors: &[BorrowedFd<'_>], limit: Option<Duration>) -> io::Result<Vec<bool>> {
    let begun = Instant::now();
    loop {
        let mut all: Vec<_> = descriptors.iter().map(|it| PollFd::from_borrowed_fd(*it, PollFlags::IN)).collect();
        let left = limit.map(|limit| limit.saturating_sub(begun.elapsed()));
        // Longer than anybody waits is for ever.
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match poll(&mut all, left.as_ref()) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
            Ok(_) => return Ok(all.iter().map(|it| !it.revents().is_empty()).collect()),
        }
    }
}

/// Errors of accept(2) after which the next connection can be accepted right away: another generation was quicker, or
/// the client has given up.
fn concerns_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), WouldBlock | Interrupted | ConnectionAborted | ConnectionReset | TimedOut)
}

/// Listeners from which [`Stop::accept`] accepts.
pub trait Accept: AsFd + sealed::Accept {
    /// The connections.
    type Stream: Into<OwnedFd>;
    /// Where they come from.
    type Address;
    /// The accept of the type itself.
    #[doc(hidden)]
    fn accept_one(&self) -> io::Result<(Self::Stream, Self::Address)>;
}

mod sealed {
    pub trait Accept {}
    impl Accept for std::net::TcpListener {}
    impl Accept for std::os::unix::net::UnixListener {}
}

impl Accept for TcpListener {
    type Stream = TcpStream;
    type Address = SocketAddr;
    fn accept_one(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept()
    }
}

impl Accept for UnixListener {
    type Stream = UnixStream;
    type Address = net::SocketAddr;
    fn accept_one(&self) -> io::Result<(UnixStream, net::SocketAddr)> {
        self.accept()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_signal_is_heard_by_everybody_and_for_ever() {
        let stop = Stop::on(&[signal::SIGUSR1]).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let called = stop.then(move || sender.send("called").unwrap()).unwrap();
        assert!(!stop.is_requested());
        assert!(!stop.wait_timeout(Duration::from_millis(1)));
        signal_hook::low_level::raise(signal::SIGUSR1).unwrap();
        stop.wait();
        stop.clone().wait();
        assert!(stop.is_requested());
        assert_eq!(receiver.recv().unwrap(), "called");
        called.join().unwrap();
        assert!(wait_readable(&[stop.as_fd()], Some(Duration::ZERO)).unwrap()[0]);
        signal_hook::low_level::raise(signal::SIGUSR1).unwrap();
        assert!(stop.is_requested());
    }

    #[test]
    fn a_signal_that_cannot_be_caught_is_refused() {
        assert_eq!(Stop::on(&[9]).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn accept_does_not_hang_when_another_was_quicker() {
        let stop = Stop::on(&[]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).unwrap();
        let (one, other) = (listener.try_clone().unwrap(), listener.try_clone().unwrap());
        let accepting = [one, other].map(|listener| {
            let stop = stop.clone();
            thread::spawn(move || stop.accept(&listener).unwrap().is_some())
        });
        testkit::wait_for(
            || "a thread that accepts".to_owned(),
            || accepting.iter().any(JoinHandle::is_finished).then_some(()),
        );
        stop.request();
        let outcomes = accepting.map(|thread| thread.join().unwrap());
        assert_eq!(outcomes.iter().filter(|it| **it).count(), 1);
    }

    #[test]
    fn what_is_waiting_is_left_to_the_next_generation() {
        let stop = Stop::on(&[]).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stop.request();
        assert!(stop.accept(&listener).unwrap().is_none());
        assert!(listener.accept().is_ok());
    }

    #[test]
    fn datagrams_are_received_without_a_change_of_mode() {
        let stop = Stop::on(&[]).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.send_to(b"hello", socket.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 10];
        let received = stop.recv_from(&socket, &mut buffer).unwrap();
        assert_eq!(received, Some((5, client.local_addr().unwrap())));
        stop.request();
        assert_eq!(stop.recv_from(&socket, &mut buffer).unwrap(), None);
    }

    #[test]
    fn a_request_is_waited_for_even_after_the_stop() {
        const LONG: Duration = Duration::from_secs(60);
        const SHORT: Duration = Duration::from_millis(1);
        let stop = Stop::on(&[]).unwrap();
        let (server, mut client) = UnixStream::pair().unwrap();
        assert!(!stop.wait_request(&server, SHORT, LONG).unwrap());
        let waiting = thread::spawn({
            let (stop, server) = (stop.clone(), server.try_clone().unwrap());
            move || stop.wait_request(&server, LONG, LONG).unwrap()
        });
        stop.request();
        client.write_all(b"GET").unwrap();
        assert!(waiting.join().unwrap());
        assert!(stop.wait_request(&server, LONG, SHORT).unwrap());
        drop(client);
        assert!(stop.wait_request(&server, SHORT, SHORT).unwrap(), "the end of a connection is something to read");
    }
}
