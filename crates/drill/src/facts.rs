//! What the superdaemon shows of itself in the course of a drill: collected from its status, used by the diagnosis.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use control::Status;

use crate::target::Endpoint;

/// Who restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restarter {
    /// A superdaemon with a control socket: commits can be seen.
    Ours,
    /// One of Server::Starter's: only the end of a restart can be seen.
    Original,
    /// A command of which nothing is known but when it ended.
    Command,
}

/// What is known beside the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Who restarts.
    pub restarter: Restarter,
    /// Whether the address is one of TCP.
    pub tcp: bool,
    /// Whether the superdaemon holds a listener at the address, where that can be seen.
    pub held_by_superdaemon: Option<bool>,
    /// The fullest queue that was seen at that listener: how many waited, and how many may.
    pub fullest_queue: Option<(u32, u32)>,
    /// The ready rule in force.
    pub ready_rule: Option<String>,
    /// Every generation that was seen.
    pub generations: BTreeSet<u32>,
}

impl Facts {
    /// Nothing but this is known yet.
    pub fn new(restarter: Restarter, endpoint: &Endpoint) -> Self {
        Self {
            restarter,
            tcp: matches!(endpoint, Endpoint::Tcp(_)),
            held_by_superdaemon: None,
            fullest_queue: None,
            ready_rule: None,
            generations: BTreeSet::new(),
        }
    }

    /// Takes in what a status shows.
    pub fn observe(&mut self, status: &Status, endpoint: &Endpoint) {
        self.generations.extend(status.generations.iter().map(|one| one.generation));
        self.ready_rule = Some(status.ready_rule.clone());
        let mut unknown = false;
        let listener = status.listeners.iter().find(|one| match is_at(&one.kind, &one.address, endpoint) {
            Some(is) => is,
            None => {
                unknown = true;
                false
            }
        });
        self.held_by_superdaemon = match listener {
            Some(_) => Some(true),
            None if unknown => None,
            None => Some(false),
        };
        if let Some((queued, backlog)) = listener.and_then(|one| Some((one.queued?, one.backlog?)))
            && self.fullest_queue.is_none_or(|(fullest, _)| queued >= fullest)
        {
            self.fullest_queue = Some((queued, backlog));
        }
    }

    /// Whether connections were seen to find no room in the queue. The kernel admits one more than it was told.
    pub fn queue_was_full(&self) -> bool {
        self.fullest_queue.is_some_and(|(queued, backlog)| queued >= backlog)
    }
}

/// Whether a listener takes connections to an address; `None` if that cannot be told, as for a path that is relative to
/// a directory that we do not know.
fn is_at(kind: &str, address: &str, endpoint: &Endpoint) -> Option<bool> {
    match endpoint {
        Endpoint::Tcp(wanted) => {
            let listener: SocketAddr = match (kind, address.parse()) {
                ("tcp", Ok(listener)) => listener,
                _ => return Some(false),
            };
            let (here, there) = (listener.ip().to_canonical(), wanted.ip().to_canonical());
            Some(listener.port() == wanted.port() && (here.is_unspecified() || there.is_unspecified() || here == there))
        }
        Endpoint::Unix(wanted) => {
            let wanted = wanted.to_str()?;
            match kind {
                "unix" if wanted.replacen('\0', "@", 1) == address => Some(true),
                "unix" if address.starts_with('/') && wanted.starts_with('/') => Some(false),
                "unix" if address.starts_with('@') || wanted.starts_with('\0') => Some(false),
                "unix" => None,
                _ => Some(false),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_found_by_their_address() {
        let tcp = |text: &str| Endpoint::Tcp(text.parse().unwrap());
        let unix = |text: &str| Endpoint::Unix(text.into());
        for (kind, address, endpoint, expected) in [
            ("tcp", "127.0.0.1:80", tcp("127.0.0.1:80"), Some(true)),
            ("tcp", "0.0.0.0:80", tcp("127.0.0.1:80"), Some(true)),
            ("tcp", "[::]:80", tcp("127.0.0.1:80"), Some(true)),
            ("tcp", "127.0.0.2:80", tcp("127.0.0.1:80"), Some(false)),
            ("tcp", "127.0.0.1:81", tcp("127.0.0.1:80"), Some(false)),
            ("udp", "127.0.0.1:80", tcp("127.0.0.1:80"), Some(false)),
            ("unix", "/a", unix("/a"), Some(true)),
            ("unix", "/a", unix("/b"), Some(false)),
            ("unix", "a", unix("/b/a"), None),
            ("unix", "@a", unix("\0a"), Some(true)),
            ("unix", "@a", unix("/a"), Some(false)),
            ("unix", "/a", tcp("127.0.0.1:80"), Some(false)),
        ] {
            assert_eq!(is_at(kind, address, &endpoint), expected, "{kind} {address} {endpoint}");
        }
    }
}
