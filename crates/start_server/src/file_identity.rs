//! Which file it is, whatever its name: so that a file of ours that somebody else has replaced is not removed. The PID
//! file, the status file and the sockets' files are known by this.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::Stat;
use serde::{Deserialize, Serialize};

/// The device and the inode of a file. As long as the file is open or has a name, no other has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
}

/// Both numbers, with a hyphen between them: for a name that stands for the file.
impl fmt::LowerHex for FileIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}-{:x}", self.device, self.inode)
    }
}

impl FileIdentity {
    /// Of the file that has this name now; of a symbolic link itself, not of what it leads to.
    ///
    /// # Errors
    /// There is none, or it cannot be looked at.
    pub fn at(path: &Path) -> io::Result<Self> {
        fs::symlink_metadata(path).map(|found| Self::of(&found))
    }

    /// Of the file that this was found out about.
    pub fn of(metadata: &Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    /// The same, where it was found out without the standard library.
    pub fn of_stat(found: &Stat) -> Self {
        Self { device: found.st_dev, inode: found.st_ino }
    }

    /// Whether the file still has this name.
    pub fn is_at(self, path: &Path) -> bool {
        Self::at(path).is_ok_and(|found| found == self)
    }
}
