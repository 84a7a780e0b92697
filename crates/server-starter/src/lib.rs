//! For server programs that are to be replaced while they run: under `start_server`, under systemd socket activation,
//! or alone. It finds the inherited listener, says when the server is ready, and hears when it should stop.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let address = "127.0.0.1:0";
//! # /*
//! let address = "127.0.0.1:8080";
//! # */
//! let listener: std::net::TcpListener = server_starter::listen_or_bind("web", address)?;
//! let stop = server_starter::Stop::new()?;
//! server_starter::ready()?;
//! // … serve with `while let Some((connection, _)) = stop.accept(&listener)? { … }`
//! # Ok(())
//! # }
//! ```
//!
//! With these three lines the same program
//!
//! - serves `127.0.0.1:8080` when it is run alone,
//! - serves whatever `start_server --port=80 --ready=notify -- program` listens on, and is replaced on HUP,
//! - serves the socket of a systemd unit.
//!
//! # A complete program
//!
//! A server with a thread for each connection. It speaks a protocol of lines, in which `bye` says that nothing more is
//! answered on this connection; what that is for comes [below](#a-graceful-stop-step-by-step).
//!
//! ```
//! use std::error::Error;
//! use std::io::{self, BufRead, BufReader, Write};
//! use std::net::{TcpListener, TcpStream};
//! use std::time::Duration;
//!
//! use server_starter::{Stop, Work};
//!
//! fn main() -> Result<(), Box<dyn Error>> {
//!     let address = "127.0.0.1:8080";
//! #   let address = "127.0.0.1:0";
//!     let listener: TcpListener = server_starter::listen_or_bind("lines", address)?;
//!     let stop = Stop::new()?;
//!     let work = Work::default();
//!     // Everything that an answer needs is there.
//!     server_starter::ready()?;
//! #   let client = std::thread::spawn({
//! #       let (stop, address) = (stop.clone(), listener.local_addr()?);
//! #       move || {
//! #           let mut connection = BufReader::new(TcpStream::connect(address).unwrap());
//! #           let mut ask = |line: &str| {
//! #               connection.get_mut().write_all(line.as_bytes()).unwrap();
//! #               let mut answer = String::new();
//! #               connection.read_line(&mut answer).unwrap();
//! #               answer
//! #           };
//! #           assert_eq!(ask("one\n"), "ONE\n");
//! #           stop.request();
//! #           assert_eq!(ask("two\n"), "TWO bye\n");
//! #       }
//! #   });
//!
//!     while let Some((connection, _)) = stop.accept(&listener)? {
//!         let (stop, running) = (stop.clone(), work.begin());
//!         std::thread::spawn(move || {
//!             let _ = serve(&connection, &stop);
//!             drop(running);
//!         });
//!     }
//!
//!     server_starter::stopping()?;
//!     let left = work.finish(Duration::from_secs(30));
//! #   client.join().unwrap();
//!     if left == 0 { Ok(()) } else { Err(format!("{left} connections were cut off").into()) }
//! }
//!
//! fn serve(connection: &TcpStream, stop: &Stop) -> io::Result<()> {
//!     let mut reader = BufReader::new(connection);
//!     let (idle, grace) = (Duration::from_secs(60), Duration::from_secs(1));
//!     while !reader.buffer().is_empty() || stop.wait_request(connection, idle, grace)? {
//!         let mut line = String::new();
//!         if reader.read_line(&mut line)? == 0 {
//!             break;
//!         }
//!         let is_last = stop.is_requested();
//!         let bye = if is_last { " bye" } else { "" };
//!         (&*connection).write_all(format!("{}{bye}\n", line.trim_end().to_uppercase()).as_bytes())?;
//!         if is_last {
//!             break;
//!         }
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # With tokio
//!
//! With the feature `tokio` a listener can be had as one of tokio's, and `Stop::requested` gives futures that are over
//! when the process is told to stop.
//!
#![cfg_attr(feature = "tokio", doc = "```")]
#![cfg_attr(not(feature = "tokio"), doc = "```ignore")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let address = "127.0.0.1:0";
//! # /*
//! let address = "127.0.0.1:8080";
//! # */
//! let listener: tokio::net::TcpListener = server_starter::listen_or_bind("web", address)?;
//! let stop = server_starter::Stop::new()?;
//! let mut stopped = std::pin::pin!(stop.requested()?);
//! let mut connections = tokio::task::JoinSet::new();
//! server_starter::ready()?;
//! # stop.request();
//! loop {
//!     tokio::select! {
//!         biased; // the stop first
//!         () = &mut stopped => break,
//!         accepted = listener.accept() => {
//!             let (connection, _) = accepted?;
//!             connections.spawn(serve(connection, stop.clone()));
//!         }
//!         Some(_) = connections.join_next() => {}
//!     }
//! }
//! let all_done = async { while connections.join_next().await.is_some() {} };
//! tokio::time::timeout(std::time::Duration::from_secs(30), all_done).await?;
//! # async fn serve(_: tokio::net::TcpStream, _: server_starter::Stop) {}
//! # Ok(())
//! # }
//! ```
//!
//! The directory `examples/` of the repository has complete servers with threads, axum, actix-web, tonic (gRPC), UDP, and
//! tokio on a unix socket. Each is replaced under load in its test, and loses nothing.
//!
//! # Which listener
//!
//! | variable | set by | holds |
//! |---|---|---|
//! | `SERVER_STARTER_PORT` | start_server | `ADDRESS=FD;ADDRESS=FD`, the addresses as typed: `8080`, `127.0.0.1:8080`, `[::1]:8080`, `/run/app.sock` |
//! | `LISTEN_FDS`, `LISTEN_PID`, `LISTEN_FDNAMES` | systemd; start_server with `--export=listen-fds` | how many from descriptor 3 on, for which process, and their names |
//!
//! [`listen_or_bind`] looks by name, then by address, then takes the only one there is, and binds if there is none.
//! [`take_named`], [`take_at`] and [`take_next`] do one of these; [`inherited`] lists what is left.
//!
//! Each listener can be taken once, since its descriptor can have one owner. All are verified first: that the descriptor
//! is open, is a socket, of that kind, listens, and is bound where the variable says. All get close-on-exec at once,
//! taken or not. They are read at the first use of this crate, so use it before anything could close or reuse
//! descriptors that it does not know: at the beginning of `main`.
//!
//! UDP looks like TCP in `SERVER_STARTER_PORT`; the type that is asked for decides.
//!
//! # A graceful stop, step by step
//!
//! start_server tells the old generation to go by SIGTERM (`--signal-on-hup`), when the new one is ready. systemd, and
//! the end of start_server itself, do the same (`--signal-on-term`). Then:
//!
//! 1. **Stop accepting.** At once, and first: [`Stop::accept`] does. What waits in the listener's queue is not lost, the
//!    next generation shares that queue. What this process has accepted nobody else can serve.
//! 2. **Serve what was accepted,** even a connection on which nothing has arrived. The client may be a network's round
//!    trip away: its request is under way, and to close the connection now is to lose it. Give it some grace
//!    ([`Stop::wait_request`]).
//! 3. **Say that each answer is the last of its connection**: `Connection: close` in HTTP/1, GOAWAY in HTTP/2. A client
//!    that knows this sends no further request there. An idle connection that is closed without this word may meet
//!    the client's next request halfway.
//! 4. **Finish what runs,** however long it takes, up to a deadline ([`Work::finish`]). It should be shorter than
//!    start_server's `--drain-timeout`, and systemd's `TimeoutStopSec`, after which the process is killed.
//! 5. **Exit with 0.** What has to be written (logs, metrics) is written before.
//!
//! # Pitfalls
//!
//! ## To listen before the server can answer
//!
//! From the moment at which a process waits for connections, the kernel gives it some, although the generation before is
//! still there and could answer. So load, warm up and connect first, then take the listener and register it with the
//! runtime (tokio does that when the type is made), then say [`ready`]. And have start_server wait for that word:
//! `--ready=notify`. By default it takes a process for ready that has lived for a second.
//!
//! ## Keep-alive
//!
//! A server that only stops accepting is kept alive by its clients for as long as they like. One that closes idle
//! connections loses requests. Hence steps 2 and 3. What frameworks call graceful shutdown mostly closes idle
//! connections at once; `examples/` shows for each what to do before calling it.
//!
//! ## Blocking mode is shared
//!
//! Whether a socket blocks is a property of the *open file description*, which all generations, and start_server, have in
//! common. If one generation makes its listener non-blocking, it is so in all of them, at once.
//!
//! - Event loops, tokio among them, need it non-blocking, and set that (the sockets of tokio that this crate gives are).
//! - A plain `accept` in a loop needs it blocking. In an old generation of that sort `accept` begins to fail with
//!   `WouldBlock` (EAGAIN) when a new one with an event loop comes; many a loop then spins, or ends.
//! - To wait by `poll` and accept from a *blocking* listener is no way out: when another generation is quicker, `accept`
//!   hangs until the next client comes, and hears no stop.
//!
//! [`Stop::accept`] works in either mode: it makes the listener non-blocking, waits, and goes on waiting if there was
//! nothing to accept. Do not use `TcpListener::incoming` with an inherited listener. `start_server --listen=8080,nonblock`
//! makes the mode the same from the first generation on. Never set a listener back to blocking: others are waiting on it.
//!
//! Listeners of std come as they were inherited. Connections are not affected: on Linux an accepted socket is blocking
//! whatever the listener is.
//!
//! ## To shut the listener down
//!
//! `shutdown(2)` works on the socket, not on the descriptor: it ends the listener of all generations. Drop it instead.
//!
//! ## Child processes
//!
//! They do not inherit the listeners, but they inherit the variables, and a program that believes them takes something
//! else for a listener. [`remove_variables_from`] a command before it is run.
#![deny(unsafe_code)]

mod address;
mod bind;
mod descriptor;
mod environment;
mod error;
mod notify;
mod process;
mod socket;
mod stop;
mod table;
mod work;

pub use descriptor::Address;
pub use error::{Error, ErrorKind};
pub use process::{
    generation, inherited, listen_or_bind, ready, remove_variables, remove_variables_from, status, stopping, take_at,
    take_named, take_next,
};
pub use socket::{Kind, Socket};
pub use stop::{Accept, Stop, signal};
pub use table::Inherited;
pub use work::{Running, Work};
