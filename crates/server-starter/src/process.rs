//! What this process was given by whoever started it: read once, at the first use of anything here.

use std::ffi::OsString;
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};

use crate::environment::{ALL, GENERATION, Variables};
use crate::table::{Table, Wanted};
use crate::{Error, Inherited, Socket, notify};

struct Process {
    listeners: Result<Mutex<Table>, Error>,
    notify_socket: Option<OsString>,
    generation: Option<u32>,
}

/// Only one can be made, since each descriptor can be owned once.
static PROCESS: LazyLock<Process> = LazyLock::new(|| Process {
    listeners: Table::new(&Variables::of_this_process(), std::process::id()).map(Mutex::new),
    notify_socket: notify::socket(),
    generation: std::env::var(GENERATION).ok().and_then(|text| text.parse().ok()),
});

fn with_table<T>(act: impl FnOnce(&mut Table) -> Result<T, Error>) -> Result<T, Error> {
    let table = PROCESS.listeners.as_ref().map_err(Clone::clone)?;
    act(&mut table.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The listener for this purpose: inherited if there is one, and else bound here and now. The type decides which kind
/// of socket it is.
///
/// ```no_run
/// # fn main() -> Result<(), server_starter::Error> {
/// let web: std::net::TcpListener = server_starter::listen_or_bind("web", "127.0.0.1:8080")?;
/// let admin: std::os::unix::net::UnixListener = server_starter::listen_or_bind("admin", "/run/admin.sock")?;
/// # Ok(())
/// # }
/// ```
///
/// In this order:
///
/// 1. the inherited listener of this kind that is named `name` (`LISTEN_FDNAMES`: `FileDescriptorName=` in a systemd
///    socket unit, `--listen=ADDRESS,name=NAME --export=listen-fds` of start_server);
/// 2. the one at `address`, as it was typed for start_server or as the kernel knows it;
/// 3. the only one of this kind that is left, if nobody gave it a name: so `start_server --port=80` decides, and the
///    address in the program is the default for when it runs alone;
/// 4. if none of this kind is left: `address` is bound. It is `HOST:PORT` or a port alone (on every IPv4 address) for TCP
///    and UDP, a path or `@name` for unix sockets. A socket file that nobody has open any more is removed first.
///
/// # Errors
/// Inherited listeners that are not what the variables say. Some are left, but none that fits: to bind another one would
/// leave the clients of those waiting for ever. It was taken before. It cannot be bound.
pub fn listen_or_bind<S: Socket>(name: &str, address: &str) -> Result<S, Error> {
    with_table(|table| table.listen_or_bind(name, address))
}

/// The inherited listener named `name` in `LISTEN_FDNAMES`. If several have that name, the next one; `None` if there
/// is none (any more).
///
/// # Errors
/// It is of another kind, or the variables are wrong.
pub fn take_named<S: Socket>(name: &str) -> Result<Option<S>, Error> {
    with_table(|table| table.take(Wanted::Name(name)))
}

/// The inherited listener at `address`: as it stands in `SERVER_STARTER_PORT` (`8080`, `127.0.0.1:8080`, `[::1]:8080`,
/// `/run/app.sock`), or where it really is. `None` if there is none (any more).
///
/// # Errors
/// It is of another kind, or the variables are wrong.
pub fn take_at<S: Socket>(address: &str) -> Result<Option<S>, Error> {
    with_table(|table| table.take(Wanted::Address(address)))
}

/// The next inherited listener of this kind, in the order of `SERVER_STARTER_PORT`, or of the descriptors. `None` if
/// none is left.
///
/// # Errors
/// The variables are wrong.
pub fn take_next<S: Socket>() -> Result<Option<S>, Error> {
    with_table(|table| table.take(Wanted::Next))
}

/// The inherited listeners that were not taken yet, to choose from or to complain about.
///
/// # Errors
/// The variables are wrong.
pub fn inherited() -> Result<Vec<Inherited>, Error> {
    with_table(|table| Ok(table.left()))
}

/// The number of this generation under start_server; `None` elsewhere.
pub fn generation() -> Option<u32> {
    PROCESS.generation
}

/// Says that this process can serve now: `READY=1`. Under `start_server --ready=notify`, and systemd's `Type=notify`,
/// the old generation is told to go only then. Without `NOTIFY_SOCKET` it does nothing.
///
/// Say it when a request would be answered at once: caches warm, database connected, [`Stop`](crate::Stop) made.
///
/// # Errors
/// There is a supervisor, but it cannot be told.
pub fn ready() -> Result<(), Error> {
    tell("READY=1")
}

/// Says in a line what the process is doing: `STATUS=…`, shown by `start_server --status` and `systemctl status`.
///
/// # Errors
/// There is a supervisor, but it cannot be told.
pub fn status(text: &str) -> Result<(), Error> {
    tell(&notify::status(text))
}

/// Says that this process has begun to stop: `STOPPING=1`.
///
/// # Errors
/// There is a supervisor, but it cannot be told.
pub fn stopping() -> Result<(), Error> {
    tell("STOPPING=1")
}

fn tell(message: &str) -> Result<(), Error> {
    PROCESS.notify_socket.as_ref().map_or(Ok(()), |socket| notify::send(socket, message))
}

/// Keeps the supervisor's variables from a program that this process starts: it has none of the descriptors, and must
/// not speak for this process.
///
/// ```
/// let mut command = std::process::Command::new("true");
/// server_starter::remove_variables_from(&mut command);
/// # assert!(command.status().unwrap().success());
/// ```
pub fn remove_variables_from(command: &mut Command) {
    for name in ALL {
        command.env_remove(name);
    }
}

/// Removes the supervisor's variables from the environment of this process. All functions here go on knowing what they
/// held.
///
/// # Safety
/// As for [`std::env::remove_var`]: no other thread may be using the environment. Call it first of all in `main`. Where
/// that cannot be promised, [`remove_variables_from`] keeps them from child processes.
#[allow(unsafe_code)]
pub unsafe fn remove_variables() {
    LazyLock::force(&PROCESS);
    for name in ALL {
        // SAFETY: the caller has promised what this needs.
        unsafe { std::env::remove_var(name) };
    }
}
