//! Which options of a listener are looked at, when, and what is said of one that was found changed. Any worker can change
//! them for all generations, without any rights. `event_loop/guards.rs` comes here.
//!
//! Two kinds are told apart. What no server has a use for on a listener that it shares is put back whenever a generation
//! comes or goes. What some set on purpose, each for itself, is put back before the next one is spawned: only then is it
//! certain that nobody who counts on it is yet to begin.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use sys::shared_options::SharedOption;

use crate::listeners::Kind;

/// An option that was found changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turned {
    /// Which.
    pub option: SharedOption,
    /// Why it stays so, if it does.
    pub failure: Option<Errno>,
}

/// When listeners are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A generation has come or gone.
    Change,
    /// A generation is about to be spawned.
    Spawn,
}

/// Which socket it is.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Its kind.
    pub kind: Kind,
    /// Whether it is for IPv6.
    pub is_v6: bool,
    /// Whether IPv4 can reach it.
    pub takes_v4: bool,
}

/// Of all sockets on ports.
const INTERNET: [SharedOption; 3] = [SharedOption::Device, SharedOption::Filter, SharedOption::DontRoute];
const V4: [SharedOption; 2] = [SharedOption::Ttl, SharedOption::MinTtl];
const V6: [SharedOption; 3] = [SharedOption::Hops, SharedOption::MinHops, SharedOption::RoutingHeader];
const TCP: [SharedOption; 3] = [SharedOption::LowWater, SharedOption::Pacing, SharedOption::TcpCork];
const UDP: [SharedOption; 5] = [
    SharedOption::Cork,
    SharedOption::Encapsulation,
    SharedOption::Reuse,
    SharedOption::ReceiveBuffer,
    SharedOption::SendBuffer,
];
const UDP_V4: [SharedOption; 1] = [SharedOption::OutDevice];
const UDP_V6: [SharedOption; 2] = [SharedOption::OutDevice6, SharedOption::DontFragment];
const UNIX_DATAGRAM: [SharedOption; 1] = [SharedOption::Filter];

/// What servers set for themselves.
const OWN_CHOICE: [SharedOption; 1] = [SharedOption::ReceiveTimeout];
const OWN_CHOICE_TCP: [SharedOption; 3] = [SharedOption::Linger, SharedOption::SendTimeout, SharedOption::UserTimeout];
const OWN_CHOICE_UNIX: [SharedOption; 1] = [SharedOption::NoRights];
const OWN_CHOICE_UDP: [SharedOption; 3] = [SharedOption::SendTimeout, SharedOption::Segments, SharedOption::NoSum];

/// The options to look at.
pub fn options(facts: Facts, moment: Moment) -> impl Iterator<Item = SharedOption> {
    const NONE: &[SharedOption] = &[];
    let Facts { kind, is_v6, takes_v4 } = facts;
    let is_internet = matches!(kind, Kind::Tcp | Kind::Udp);
    let when = |is_so: bool, options: &'static [SharedOption]| if is_so { options } else { NONE };
    let lists: [&[SharedOption]; 7] = match moment {
        Moment::Spawn => [
            &OWN_CHOICE,
            when(kind == Kind::Tcp, &OWN_CHOICE_TCP),
            when(kind == Kind::Udp, &OWN_CHOICE_UDP),
            when(!is_internet, &OWN_CHOICE_UNIX),
            NONE,
            NONE,
            NONE,
        ],
        Moment::Change => [
            when(is_internet, &INTERNET),
            when(is_internet && takes_v4, &V4),
            when(is_internet && is_v6, &V6),
            when(kind == Kind::Tcp, &TCP),
            when(kind == Kind::Udp, &UDP),
            when(kind == Kind::Udp, if is_v6 { &UDP_V6 } else { &UDP_V4 }),
            when(kind == Kind::UnixDatagram, &UNIX_DATAGRAM),
        ],
    };
    lists.into_iter().flatten().copied()
}

/// Puts back what was changed, but for what was so from the beginning.
pub fn put_back(socket: BorrowedFd<'_>, facts: Facts, moment: Moment, accepted: &[SharedOption]) -> Vec<Turned> {
    let looked_at = options(facts, moment).filter(|option| !accepted.contains(option));
    let found = looked_at.filter_map(|option| match option.put_back(socket) {
        Ok(false) => None,
        Ok(true) => Some(Turned { option, failure: None }),
        Err(errno) => Some(Turned { option, failure: Some(errno) }),
    });
    found.collect()
}

/// What whoever has made a socket wants of it: what does harm already.
pub fn accepted(socket: BorrowedFd<'_>, facts: Facts) -> Vec<SharedOption> {
    let all = options(facts, Moment::Change).chain(options(facts, Moment::Spawn));
    all.filter(|option| option.does_harm(socket)).collect()
}

/// What was done, in words that go after "has".
pub fn deed(option: SharedOption, listener: &str) -> String {
    let what = |name: &str| format!("set {name} of the listener {listener}");
    match option {
        SharedOption::Device => format!("bound the listener {listener} to one network device (SO_BINDTODEVICE)"),
        SharedOption::Filter => format!("attached a filter to the listener {listener} (SO_ATTACH_FILTER)"),
        SharedOption::DontRoute => what("SO_DONTROUTE"),
        SharedOption::LowWater => what("SO_RCVLOWAT"),
        SharedOption::Pacing => what("SO_MAX_PACING_RATE"),
        SharedOption::Ttl => what("IP_TTL"),
        SharedOption::Hops => what("IPV6_UNICAST_HOPS"),
        SharedOption::MinTtl => what("IP_MINTTL"),
        SharedOption::MinHops => what("IPV6_MINHOPCOUNT"),
        SharedOption::RoutingHeader => what("IPV6_RTHDR"),
        SharedOption::OutDevice => what("IP_UNICAST_IF"),
        SharedOption::OutDevice6 => what("IPV6_UNICAST_IF"),
        SharedOption::Cork => what("UDP_CORK"),
        SharedOption::Encapsulation => what("UDP_ENCAP"),
        SharedOption::Reuse => what("SO_REUSEADDR"),
        SharedOption::ReceiveBuffer => what("a small SO_RCVBUF"),
        SharedOption::SendBuffer => what("a small SO_SNDBUF"),
        SharedOption::DontFragment => what("IPV6_DONTFRAG"),
        SharedOption::TcpCork => what("TCP_CORK"),
        SharedOption::NoRights => what("SO_PASSRIGHTS"),
        SharedOption::Linger => what("SO_LINGER"),
        SharedOption::ReceiveTimeout => what("SO_RCVTIMEO"),
        SharedOption::SendTimeout => what("SO_SNDTIMEO"),
        SharedOption::UserTimeout => what("TCP_USER_TIMEOUT"),
        SharedOption::Segments => what("UDP_SEGMENT"),
        SharedOption::NoSum => what("UDP_NO_CHECK6_TX"),
    }
}

/// What is true again, in words that go after "; ".
pub fn restored(option: SharedOption) -> &'static str {
    match option {
        SharedOption::Device => "it takes what comes by any again",
        SharedOption::Filter => "it takes everything again",
        SharedOption::Reuse => "nobody else can bind to its port any more; whoever has done so takes its datagrams",
        _ => "it is as it was again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_asked_for_what_it_has() {
        for (kind, is_v6, most) in [
            (Kind::Tcp, false, 8),
            (Kind::Tcp, true, 9),
            (Kind::Udp, false, 11),
            (Kind::Udp, true, 13),
            (Kind::Unix, false, 0),
            (Kind::UnixDatagram, false, 1),
        ] {
            let facts = Facts { kind, is_v6, takes_v4: !is_v6 };
            assert_eq!(options(facts, Moment::Change).count(), most, "{kind}");
            assert!(options(facts, Moment::Spawn).count() <= 4, "{kind}");
            assert!(
                options(facts, Moment::Change).all(|option| options(facts, Moment::Spawn).all(|own| own != option))
            );
        }
    }
}
