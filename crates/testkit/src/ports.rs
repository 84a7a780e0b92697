//! Port numbers for daemons that bind by number: free ones, never the same for two tests that run at the same time,
//! in one process or in several.

use std::fs::{self, File};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};

use rustix::fs::{FlockOperation, flock};

/// A port number that is this test's alone while the value lives, for TCP and UDP, IPv4 and IPv6.
///
/// The numbers come from below the range out of which the kernel serves `connect` and `bind` to port 0: a number from
/// that range could be given to any client between our look and the daemon's `bind`. That no other test takes it is
/// ensured by a lock on a file named after it, which ends with the process that holds it, however that ends.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Finds a free port.
    ///
    /// # Panics
    /// When there is none.
    #[expect(clippy::new_without_default, reason = "taking a port is no default")]
    pub fn new() -> Self {
        static TURN: AtomicU16 = AtomicU16::new(0);
        let candidates = below_ephemeral();
        let width = candidates.end - candidates.start;
        // Processes begin at different places, so that they seldom meet at a lock.
        let begin = (std::process::id().wrapping_mul(97) % u32::from(width)) as u16;
        for _ in 0..width {
            let offset = (begin + TURN.fetch_add(1, Ordering::Relaxed) % width) % width;
            let number = candidates.start + offset;
            if let Some(lock) = lock(number)
                && is_free(number)
            {
                return Self { number, _lock: lock };
            }
        }
        panic!("every port from {} to {} is taken", candidates.start, candidates.end - 1)
    }

    /// The number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

impl std::fmt::Display for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.number.fmt(f)
    }
}

fn below_ephemeral() -> Range<u16> {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let lowest = range.split_whitespace().next().and_then(|word| word.parse::<u16>().ok()).unwrap_or(32768);
    // Five digits and never below 10000: a port number in a log must not be mistaken for anything else.
    if lowest > 11000 { 10000..lowest } else { 61000..65000 }
}

fn lock(number: u16) -> Option<File> {
    let directory = lock_directory();
    let file = File::options().create(true).append(true).open(directory.join(number.to_string())).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

fn lock_directory() -> PathBuf {
    let directory = std::env::temp_dir().join(format!("testkit-ports-{}", rustix::process::getuid().as_raw()));
    fs::create_dir_all(&directory).unwrap();
    directory
}

/// Whether nobody listens at the port, or has it by UDP, at whatever address. The kernel is asked and nothing is
/// bound: a socket of ours would be inherited, for a moment, by a program that another thread starts just then.
fn is_free(number: u16) -> bool {
    const LISTENING: &str = "0A";
    let is_listening = |table| sockets(table).any(|(port, state)| port == number && state == LISTENING);
    !(is_listening("tcp") || is_listening("tcp6") || is_taken_by_udp(number))
}

/// Whether some socket has the port by UDP.
pub(crate) fn is_taken_by_udp(number: u16) -> bool {
    ["udp", "udp6"].into_iter().any(|name| sockets(name).any(|(port, _)| port == number))
}

/// The port and the state of each socket in one of the kernel's tables (proc_pid_net(5)); a kernel without the
/// protocol has no such table, and no such sockets.
fn sockets(table: &str) -> impl Iterator<Item = (u16, String)> {
    let text = fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
    let rows: Vec<_> = text.lines().skip(1).filter_map(socket).collect();
    rows.into_iter()
}

fn socket(row: &str) -> Option<(u16, String)> {
    let mut columns = row.split_whitespace().skip(1);
    let (_, port) = columns.next()?.rsplit_once(':')?;
    Some((u16::from_str_radix(port, 16).ok()?, columns.nth(1)?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::process::Command;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    #[test]
    fn no_port_is_handed_out_twice() {
        let ports: Vec<Port> = (0..50).map(|_| Port::new()).collect();
        let numbers: BTreeSet<u16> = ports.iter().map(Port::number).collect();
        assert_eq!(numbers.len(), ports.len());
    }

    #[test]
    fn a_port_in_use_is_not_free() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!is_free(listener.local_addr().unwrap().port()));
        let socket = UdpSocket::bind("[::1]:0").unwrap();
        assert!(!is_free(socket.local_addr().unwrap().port()));
    }

    /// Whatever looks at a port by listening there is inherited, for a moment, by a program that another thread starts
    /// just then: that listener takes the test's first connection, and resets it.
    #[test]
    fn a_port_that_was_found_answers_nobody() {
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        Command::new("true").status().unwrap();
                    }
                });
            }
            let answered = (0..500).filter(|_| TcpStream::connect(("127.0.0.1", Port::new().number())).is_ok()).count();
            is_over.store(true, Ordering::Relaxed);
            assert_eq!(answered, 0);
        });
    }

    #[test]
    fn a_lock_excludes_everybody_else() {
        let port = Port::new();
        assert!(lock(port.number()).is_none());
    }
}
