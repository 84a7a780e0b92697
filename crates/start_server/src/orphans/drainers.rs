//! Old generations of a superdaemon that was killed, which were told to go before that and have closed their listeners.
//! They finish by themselves; but somebody has to see to it that they do, so they are watched like the others.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use rustix::param::clock_ticks_per_second;
use rustix::process::geteuid;
use sys::process_tree;

use super::{Orphan, holders::Marks};
use crate::files::open_to_read;

/// The clock of the file system and that of the processes may differ by so much.
const TOLERANCE: Duration = Duration::from_secs(2);

/// The generations in a status file that was left behind which are still there, besides those in `orphans`.
///
/// The file alone is not believed: it may be stale, or not be ours. A process that it lists must have been started
/// before the file was written, and with the same listeners as one of `orphans`, whose superdaemon is known to be gone;
/// and it must have become the child of the same process as that one.
pub fn drainers(status_file: &Path, orphans: &[Orphan]) -> Vec<Orphan> {
    let Ok((text, written)) = read(status_file) else { return Vec::new() };
    let parents: BTreeSet<i32> =
        orphans.iter().filter_map(|orphan| Some(process_tree::read(orphan.pid)?.parent)).collect();
    let mut found: Vec<Orphan> = Vec::new();
    for (generation, pid) in text.lines().filter_map(entry) {
        if orphans.iter().chain(&found).any(|known| known.pid == pid) {
            continue;
        }
        let Ok(Some(marks)) = Marks::of(pid) else { continue };
        let is_theirs = marks.generation == generation
            && orphans.iter().any(|orphan| orphan.variable == marks.variable)
            && process_tree::user(pid).is_some_and(|user| user == geteuid().as_raw() || geteuid().is_root());
        let Ok(orphan) = Orphan::hold(pid, &marks) else { continue };
        // Looked at only now that the PID cannot pass on.
        let is_in_place = process_tree::read(pid).is_some_and(|process| {
            parents.contains(&process.parent)
                && process_tree::start_time(pid).and_then(started).is_some_and(|started| started <= written + TOLERANCE)
        });
        if is_theirs && is_in_place {
            found.push(orphan);
        }
    }
    found
}

/// The text of a status file that our user or root has written, and when that was, since 1970.
fn read(path: &Path) -> io::Result<(String, Duration)> {
    let file = open_to_read(path)?;
    let found = file.metadata()?;
    let of_others = found.uid() != geteuid().as_raw() && found.uid() != 0;
    const LARGEST: u64 = 1 << 20;
    if of_others || found.len() > LARGEST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let written = found.modified()?.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
    let mut text = String::new();
    file.take(LARGEST).read_to_string(&mut text)?;
    Ok((text, written))
}

fn entry(line: &str) -> Option<(u32, i32)> {
    let (generation, pid) = line.split_once(':')?;
    Some((generation.parse().ok()?, pid.parse().ok().filter(|pid| *pid > 1)?))
}

/// When that many clock ticks after boot was, since 1970.
fn started(ticks: u64) -> Option<Duration> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.parse().ok()?;
    Some(Duration::from_secs(boot) + Duration::from_secs(ticks.checked_div(clock_ticks_per_second())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_status_file() {
        assert_eq!(entry("7:4711"), Some((7, 4711)));
        for line in ["", "7", "7:", ":7", "7:1", "7:0", "7:-5", "x:9", "7:9:9"] {
            assert_eq!(entry(line), None, "{line}");
        }
    }

    #[test]
    fn we_were_started_before_now() {
        let us = process_tree::start_time(rustix::process::getpid().as_raw_pid()).unwrap();
        let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let started = started(us).unwrap();
        assert!(started <= now + TOLERANCE && started + Duration::from_secs(3600) > now, "{started:?} {now:?}");
    }
}
