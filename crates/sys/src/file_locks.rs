//! Who has locked a file with flock(2): `/proc/locks`, see proc_locks(5). The PID file asks.

use std::fs;
use std::os::fd::AsFd;

/// The process that holds an exclusive lock of this file, as far as it can be seen: in our PID namespace, and as the
/// process that has taken the lock, which may be gone while a child of it still has the file open.
pub fn holder(file: impl AsFd) -> Option<i32> {
    let found = rustix::fs::fstat(file).ok()?;
    let device = (rustix::fs::major(found.st_dev), rustix::fs::minor(found.st_dev));
    find(&fs::read_to_string("/proc/locks").ok()?, device, found.st_ino)
}

/// A row is `1: FLOCK  ADVISORY  WRITE 4711 08:01:1234 0 EOF`: device in two hexadecimal parts, inode in decimal.
fn find(table: &str, device: (u32, u32), inode: u64) -> Option<i32> {
    table.lines().find_map(|line| {
        let mut columns = line.split_ascii_whitespace();
        if columns.nth(1)? != "FLOCK" || columns.nth(1)? != "WRITE" {
            return None;
        }
        let pid: i32 = columns.next()?.parse().ok()?;
        let mut file = columns.next()?.split(':');
        let major = u32::from_str_radix(file.next()?, 16).ok()?;
        let minor = u32::from_str_radix(file.next()?, 16).ok()?;
        let is_it = (major, minor) == device && file.next()?.parse() == Ok(inode);
        (is_it && pid > 0).then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::fs::{FlockOperation, flock};

    use super::*;

    #[test]
    fn whoever_has_locked_a_file_is_found() {
        let path = std::env::temp_dir().join(format!("file_locks-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        assert_eq!(holder(&file), None);
        flock(&file, FlockOperation::NonBlockingLockExclusive).unwrap();
        assert_eq!(holder(&file), Some(rustix::process::getpid().as_raw_pid()));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn rows_of_others_are_passed_over() {
        let table = "1: POSIX  ADVISORY  WRITE 5 08:01:7 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 6 08:01:7 0 EOF\n2: FLOCK  \
                     ADVISORY  READ 7 08:01:7 0 EOF\nx\n\n3: FLOCK  ADVISORY  WRITE 8 fd:0a:7 0 EOF\n4: FLOCK  ADVISORY  \
                     WRITE -1 08:02:7 0 EOF\n";
        assert_eq!(find(table, (8, 1), 7), None);
        assert_eq!(find(table, (0xfd, 10), 7), Some(8));
        assert_eq!(find(table, (8, 2), 7), None);
    }
}
