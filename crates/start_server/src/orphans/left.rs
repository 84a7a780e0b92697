//! Workers that hold sockets which the service manager has passed to us. No address was in our way that would have told
//! of them; they are looked for at every such start.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::BorrowedFd;

use rustix::fs::fstat;
use rustix::process::{Pid, geteuid, getppid};
use sys::process_tree;

use super::Orphan;
use super::holders::{Holder, Marks, holders_of};

/// The workers among the holders of these sockets that have no superdaemon.
///
/// A superdaemon that lives is the parent of its workers and holds the sockets. So does the service manager; it is our
/// parent, and that of the orphans.
pub fn left_with<'a>(sockets: impl Iterator<Item = BorrowedFd<'a>>) -> Vec<Orphan> {
    let sockets: Vec<u64> = sockets.flat_map(fstat).map(|found| found.st_ino).collect();
    if sockets.is_empty() {
        return Vec::new();
    }
    let holders = holders_of(&sockets);
    let heads: BTreeMap<i32, Marks> = holders.iter().filter_map(|holder| head(holder.pid)).collect();
    let orphans = heads.iter().filter(|(pid, _)| has_no_superdaemon(**pid, &holders));
    orphans.filter_map(|(pid, marks)| Orphan::hold(*pid, marks).ok()).collect()
}

/// The worker to which a process belongs, if it is one that we may replace.
fn head(pid: i32) -> Option<(i32, Marks)> {
    let marks = Marks::of(pid).ok()??;
    let head = marks.head_of_family(pid);
    let is_ours = geteuid().is_root() || process_tree::user(head) == Some(geteuid().as_raw());
    is_ours.then_some((head, marks))
}

fn has_no_superdaemon(worker: i32, holders: &[Holder]) -> bool {
    let Some(parent) = process_tree::read(worker).map(|process| process.parent) else { return false };
    let is_manager = parent == 1 || Some(parent) == getppid().map(Pid::as_raw_pid);
    // Of whom we may not look at we do not know whether it holds them.
    is_manager || (fs::read_dir(format!("/proc/{parent}/fd")).is_ok() && holders.iter().all(|it| it.pid != parent))
}
