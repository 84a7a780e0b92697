//! Sockets on ports of TCP and UDP: made, bound and made to listen.
//! The listeners call [`resolve`] and [`open`] for each of them.

use std::ffi::OsStr;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::{Bound, ListenError, cannot_create, errno_reason, socket_options};
use crate::listen_spec::{Host, HostPort, ListenOptions};
use crate::orphans::inherit;
use crate::port_holders::{Protocol, holders, sockets};

/// A bound socket; one for TCP listens. `spelling` is what the user calls the address.
pub fn open(
    spelling: &OsStr,
    at: &HostPort,
    protocol: Protocol,
    options: &ListenOptions,
) -> Result<Bound, ListenError> {
    let address = SocketAddr::new(resolve(at)?, at.port);
    let unavailable = |errno, advice: String| {
        ListenError(format!("failed to bind to {}:{}; {advice}", spelling.display(), errno_reason(errno)))
    };
    // Where others may listen too, nothing is ever in the way, not even workers that were left behind. They would keep
    // their share of the connections for ever.
    let is_shared = options.reuseport == Some(true);
    let left_behind = if is_shared { inherit(&address.into(), &sockets(protocol, address)).ok() } else { None };
    let bound = match left_behind {
        Some(inheritance) => Bound { socket: inheritance.socket, file: None, orphans: inheritance.orphans },
        None => {
            let socket = create(address, protocol, options).map_err(cannot_create)?;
            match rustix::net::bind(&socket, &address) {
                Ok(()) => Bound::new(socket, None),
                Err(Errno::ADDRINUSE) if !is_ours(protocol, address) => {
                    let advice = bind_advice(Errno::ADDRINUSE, protocol, address);
                    match inherit(&address.into(), &sockets(protocol, address)) {
                        Ok(inheritance) => {
                            Bound { socket: inheritance.socket, file: None, orphans: inheritance.orphans }
                        }
                        // Meanwhile whoever had it may have gone.
                        Err(why) => match rustix::net::bind(&socket, &address) {
                            Ok(()) => Bound::new(socket, None),
                            Err(errno) => {
                                let advice = format!("{advice}; it is not taken over, because {why}");
                                return Err(unavailable(errno, advice));
                            }
                        },
                    }
                }
                Err(errno) => return Err(unavailable(errno, bind_advice(errno, protocol, address))),
            }
        }
    };
    let cannot_set = |(option, errno): (&str, Errno)| {
        ListenError(format!(
            "failed to set {option} for {}:{}; leave the option out, or see tcp(7) for what it needs",
            spelling.display(),
            errno_reason(errno)
        ))
    };
    socket_options::set(&bound.socket, protocol == Protocol::Tcp, options).map_err(cannot_set)?;
    if protocol == Protocol::Tcp {
        rustix::net::listen(&bound.socket, socket_options::backlog(options)).map_err(|errno| {
            let advice = bind_advice(errno, Protocol::Tcp, address);
            ListenError(format!("listen(2) failed:{} for {}; {advice}", errno_reason(errno), spelling.display()))
        })?;
    }
    Ok(bound)
}

/// What has to be there before the address is.
fn create(address: SocketAddr, protocol: Protocol, options: &ListenOptions) -> rustix::io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = if protocol == Protocol::Tcp { SocketType::STREAM } else { SocketType::DGRAM };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    // Connections that a predecessor closed must not keep us from its port. With UDP the option would let two
    // superdaemons take the same port, and one of them the datagrams of the other.
    if protocol == Protocol::Tcp {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    if options.reuseport == Some(true) {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    if address.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, options.v6only.unwrap_or(true))?;
    }
    Ok(socket)
}

/// The address of a host, for which a name may have to be looked up.
///
/// # Errors
/// The name has none.
pub fn resolve(at: &HostPort) -> Result<IpAddr, ListenError> {
    let name = match &at.host {
        Host::AnyV4 => return Ok(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        Host::V4(address) => return Ok(IpAddr::V4(*address)),
        Host::V6(address) => return Ok(IpAddr::V6(*address)),
        Host::Name(name) => name,
    };
    let failed = |why: &str| {
        let advice = "give an address, or a name that this machine can resolve";
        ListenError(format!("failed to resolve host:{name}:{why}; {advice}"))
    };
    let found: Vec<SocketAddr> = (name.as_str(), at.port)
        .to_socket_addrs()
        .map_err(|error| {
            let text = error.to_string();
            failed(text.strip_prefix("failed to lookup address information: ").unwrap_or(&text))
        })?
        .collect();
    let first = found.iter().find(|address| address.is_ipv4()).or(found.first());
    first.map(SocketAddr::ip).ok_or_else(|| failed("it has no address"))
}

fn is_ours(protocol: Protocol, address: SocketAddr) -> bool {
    holders(protocol, address).iter().any(|holder| holder.pid == rustix::process::getpid().as_raw_pid())
}

fn bind_advice(errno: Errno, protocol: Protocol, address: SocketAddr) -> String {
    match errno {
        Errno::ADDRINUSE => {
            if is_ours(protocol, address) {
                return "the same port is given twice; give each port once".to_owned();
            }
            let holders = holders(protocol, address);
            if holders.is_empty() {
                return "another process has it, which this user may not see; stop it or choose another port"
                    .to_owned();
            }
            let names: Vec<String> = holders.iter().map(ToString::to_string).collect();
            format!("{} has it; stop it or choose another port", names.join(", "))
        }
        Errno::ACCESS => "ports below 1024 are for root or need the capability CAP_NET_BIND_SERVICE; choose a higher \
                          port or start with that right"
            .to_owned(),
        Errno::ADDRNOTAVAIL => "no network interface of this machine has that address; use one that it has".to_owned(),
        _ => format!("tried to bind {address}, see bind(2)"),
    }
}
