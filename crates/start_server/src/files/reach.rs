//! Whether the files that the service can do without can be reached: a file system over the network, or of another
//! process, may stop answering, and must not stop the event loop with it. The status file, the envdir, the log and the
//! files of sockets are asked about here before they are touched while the superdaemon runs.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{StatFs, fstatfs, statfs};
use sys::answering::{answers_for, answers_for_path};

/// What does not answer within this time does not answer.
const PATIENCE: Duration = Duration::from_millis(200);
/// It is not asked again before.
const SILENCE: Duration = Duration::from_secs(5);
/// One answer counts for so long: for all that is done at a time.
const STILL_VALID: Duration = Duration::from_millis(50);

/// The reason, for sentences.
pub const SILENT: &str = "its file system does not answer";

/// What is known of the file system that something is on.
#[derive(Debug, Default)]
pub struct Reach {
    /// None for one of this machine, which is not asked: that it answers is as certain as that the machine does.
    asked_by: Option<CString>,
    /// Whether it answered when it was asked last, and when that was.
    last: Option<(bool, Instant)>,
}

impl Reach {
    /// Looks which kind of file system a path is on. It is asked by this path.
    pub fn of(path: &Path) -> Self {
        Self::on(statfs(path).ok(), path)
    }

    /// The same where it may not answer already.
    pub fn of_unknown(path: &Path) -> Self {
        let mut reach = Self { asked_by: CString::new(path.as_os_str().as_bytes()).ok(), last: None };
        if reach.answers() { Self::of(path) } else { reach }
    }

    /// Looks which kind of file system an open file is on, which is asked by that file, see [`Reach::answers_for`].
    pub fn of_file(file: impl AsFd) -> Self {
        Self::on(fstatfs(file).ok(), Path::new(""))
    }

    fn on(system: Option<StatFs>, path: &Path) -> Self {
        let is_asked = system.is_some_and(|system| !is_local(&system));
        Self { asked_by: is_asked.then(|| CString::new(path.as_os_str().as_bytes()).ok()).flatten(), last: None }
    }

    /// Whether it is of this machine, and so is never asked.
    pub fn is_local(&self) -> bool {
        self.asked_by.is_none()
    }

    /// Whether it answers. If it does not, this takes a fifth of a second, and no longer than that every five seconds.
    pub fn answers(&mut self) -> bool {
        self.ask(|path| answers_for_path(path, PATIENCE))
    }

    /// The same, asked by this open file.
    pub fn answers_for(&mut self, file: BorrowedFd) -> bool {
        self.ask(|_| answers_for(file, PATIENCE))
    }

    fn ask(&mut self, ask: impl FnOnce(&CString) -> bool) -> bool {
        let Some(path) = &self.asked_by else { return true };
        if let Some((answered, at)) = self.last
            && at.elapsed() < if answered { STILL_VALID } else { SILENCE }
        {
            return answered;
        }
        let answered = ask(path);
        self.last = Some((answered, Instant::now()));
        answered
    }
}

/// File systems on a disk or in the memory of this machine; see statfs(2). Whatever else there is may wait for another.
fn is_local(system: &StatFs) -> bool {
    const LOCAL: [u32; 16] = [
        0x0102_1994, // tmpfs
        0x8584_58f6, // ramfs
        0xef53,      // ext2, ext3, ext4
        0x5846_5342, // xfs
        0x9123_683e, // btrfs
        0x794c_7630, // overlayfs
        0xf2f5_2010, // f2fs
        0x2fc1_2fc1, // zfs
        0x7371_7368, // squashfs
        0xe0f5_e1e2, // erofs
        0x4d44,      // vfat
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x1373,      // devfs
        0x1cd1,      // devpts
        0x5049_5045, // pipes
    ];
    // What the kernel means is 32 bits wide, whatever the machine's type for it.
    LOCAL.iter().any(|kind| u64::from(*kind) == (system.f_type as u64 & 0xffff_ffff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_of_this_machine_are_not_asked() {
        for path in ["/proc/self", "/dev"] {
            let mut reach = Reach::of(Path::new(path));
            assert!(reach.asked_by.is_none() && reach.answers(), "{path}");
            assert!(Reach::of_unknown(Path::new(path)).asked_by.is_none());
        }
        assert!(Reach::of(Path::new("/nonexistent")).asked_by.is_none());
    }

    #[test]
    fn what_is_silent_is_left_alone_for_a_while() {
        let mut reach = Reach { asked_by: Some(c"/".to_owned()), last: None };
        assert!(reach.answers());
        reach.last = None;
        assert!(!reach.ask(|_| false) && !reach.answers(), "it is left alone for a while");
    }
}
