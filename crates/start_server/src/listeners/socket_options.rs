//! Sets on a socket what the user wants of it. The listeners call this once for each, before it listens: afterwards
//! nothing of it is touched, because all generations share it.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::sockopt;
use sys::tcp_options;

use crate::listen_spec::{DEFAULT_BACKLOG, KeepAlive, ListenOptions};

/// The length of the accept queue, as listen(2) wants it.
pub fn backlog(options: &ListenOptions) -> i32 {
    i32::try_from(options.backlog.unwrap_or(DEFAULT_BACKLOG)).unwrap_or(i32::MAX)
}

/// Sets everything that can be set after binding. What was not said is left as it is.
///
/// # Errors
/// The name of the option that cannot be set, and why.
pub fn set(socket: &OwnedFd, is_tcp: bool, options: &ListenOptions) -> Result<(), (&'static str, Errno)> {
    let named = |name: &'static str| move |errno: Errno| (name, errno);
    if let Some(nonblock) = options.nonblock {
        set_nonblocking(socket, nonblock).map_err(named("nonblock"))?;
    }
    if !is_tcp {
        return Ok(());
    }
    if let Some(seconds) = options.defer_accept {
        tcp_options::set_defer_accept(socket.as_fd(), seconds).map_err(named("defer-accept"))?;
    }
    if let Some(nodelay) = options.tcp_nodelay {
        sockopt::set_tcp_nodelay(socket, nodelay).map_err(named("tcp-nodelay"))?;
    }
    if let Some(keepalive) = options.keepalive {
        sockopt::set_socket_keepalive(socket, keepalive != KeepAlive::Off).map_err(named("keepalive"))?;
        if let KeepAlive::After(silence) = keepalive {
            sockopt::set_tcp_keepidle(socket, silence).map_err(named("keepalive"))?;
        }
    }
    if let Some(queue) = options.fastopen {
        tcp_options::set_fastopen(socket.as_fd(), queue).map_err(named("fastopen"))?;
    }
    Ok(())
}

fn set_nonblocking(socket: &OwnedFd, nonblock: bool) -> Result<(), Errno> {
    let mut flags = fcntl_getfl(socket)?;
    flags.set(OFlags::NONBLOCK, nonblock);
    fcntl_setfl(socket, flags)
}
