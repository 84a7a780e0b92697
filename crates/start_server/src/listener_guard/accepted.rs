//! Whether a generation has accepted anything on a listener: it then holds a connection that was accepted there. That
//! tells a server that is stuck, or takes its time, from one that does not use the listener at all.

use std::fs;
use std::time::Duration;

use supervisor::Pid;
use sys::{apart, process_tree, waiting_clients};

use crate::listeners::{Kind, Listener};

/// So much is looked at; it takes some ten milliseconds.
const MOST_PROCESSES: usize = 256;
const MOST_DESCRIPTORS: usize = 8192;

/// Whoever looks into a process may have to wait for it, so another process looks. So long it gets.
const LIMIT: Duration = Duration::from_millis(200);

/// Whether one of these workers or of their descendants holds a connection that was accepted on the listener. Not if
/// they cannot be looked into, or have more processes and descriptors than there is time to look at.
pub fn hold_accepted(workers: &[Pid], listener: &Listener) -> bool {
    let accepted = match listener.kind() {
        Kind::Tcp => waiting_clients::accepted_on_tcp(listener).unwrap_or_default(),
        Kind::Unix => accepted_at(&listener.address().bytes()),
        Kind::Udp | Kind::UnixDatagram => Vec::new(),
    };
    if accepted.is_empty() {
        return false;
    }
    let family = |worker: &Pid| [vec![worker.0], process_tree::first_descendants(worker.0, MOST_PROCESSES)].concat();
    let answer = apart::ask(LIMIT, |reporter| {
        let mut left = MOST_DESCRIPTORS;
        if workers.iter().flat_map(family).any(|pid| holds_one(pid, &accepted, &mut left)) {
            reporter.say(b"yes");
        }
    });
    answer.is_some_and(|answer| !answer.text.is_empty())
}

/// The connected unix sockets with this address, which those have that were accepted. For the table see
/// proc_pid_net(5).
fn accepted_at(address: &[u8]) -> Vec<u64> {
    const CONNECTED: &str = "03";
    let wanted = String::from_utf8_lossy(address);
    let table = fs::read("/proc/net/unix").unwrap_or_default();
    String::from_utf8_lossy(&table)
        .lines()
        .filter_map(|line| {
            let mut columns = line.split_ascii_whitespace();
            let state = columns.nth(5)?;
            let inode = columns.next()?;
            (state == CONNECTED && line.ends_with(&*wanted)).then(|| inode.parse().ok())?
        })
        .collect()
}

fn holds_one(pid: i32, sockets: &[u64], left: &mut usize) -> bool {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
    let entries = descriptors.map_while(Result::ok).take_while(|_| {
        *left = left.saturating_sub(1);
        *left > 0
    });
    entries
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| process_tree::socket_of(&target).is_some_and(|inode| sockets.contains(&inode)))
}
