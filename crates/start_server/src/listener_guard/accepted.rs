//! Whether a generation has accepted anything on a listener: it then holds a connection that was accepted there. That
//! tells a server that is stuck, or takes its time, from one that does not use the listener at all.

use std::fs;

use supervisor::Pid;
use sys::{process_tree, waiting_clients};

use crate::listeners::{Kind, Listener};

/// So much is looked at; it takes some ten milliseconds.
const MOST_PROCESSES: usize = 256;
const MOST_DESCRIPTORS: usize = 8192;

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
    let mut left = MOST_DESCRIPTORS;
    workers.iter().flat_map(family).any(|pid| holds_one(pid, &accepted, &mut left))
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
    entries.filter_map(|entry| fs::read_link(entry.path()).ok()).any(|target| {
        let inode = target.to_str().and_then(|target| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        inode.is_some_and(|inode| sockets.contains(&inode))
    })
}
