//! Which sockets are bound to a file, asked over netlink: see sock_diag(7), and `net/unix/diag.c` of Linux. A superdaemon
//! that finds a socket file of a predecessor asks here whose it is.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::net::AddressFamily;

use crate::socket_diag::{HEADER, attribute, dump, word};
use crate::unix_queue::UnixQueues;

/// `UDIAG_SHOW_VFS`
const SHOW_FILE: u32 = 2;
/// `UNIX_DIAG_VFS`, the attribute that answers it: the inode of the file, then its device.
const FILE: u16 = 1;
/// `TCP_CLOSE` and `TCP_LISTEN` as bits: unconnected datagram sockets, and listeners. The connections that a listener has
/// accepted are bound to the same file.
const NOT_CONNECTED: u32 = 1 << 7 | 1 << 10;

/// The inodes of the sockets in our network namespace that are bound to the file at `path`, whatever name of it they
/// were bound by, and whether or not that name is still there. Connections are not among them.
///
/// # Errors
/// There is no such file, or the kernel was built without `CONFIG_UNIX_DIAG`, or there are no descriptors.
pub fn sockets(path: &Path) -> io::Result<Vec<u64>> {
    let file = std::fs::metadata(path)?;
    let mut found = Vec::new();
    dump(&question(), |socket| {
        if is_bound_to(socket, file.ino(), file.dev()) {
            found.extend(word(socket, 4).map(u64::from));
        }
    })?;
    Ok(found)
}

/// Whether this socket of our network namespace is bound to this file, which may be held with `O_PATH`.
///
/// # Errors
/// It is bound to no file, or the kernel was built without `CONFIG_UNIX_DIAG`, or there are no descriptors, or no `/proc`
/// where that is needed.
pub fn is_file_of(socket: impl AsFd, file: impl AsFd) -> io::Result<bool> {
    let [of, on] = UnixQueues::open()?.file_of(socket)?;
    let found = rustix::fs::fstat(&file)?;
    if is_same(of, on, found.st_ino, found.st_dev) {
        return Ok(true);
    }
    // Overlays and btrfs show other numbers than the kernel uses itself.
    let (inode, device) = as_the_kernel_has_it(&file)?;
    Ok(is_same(of, on, inode, device))
}

/// The inode and the device of an open file: see `fdinfo` in proc_pid_fdinfo(5), of Linux 5.14 and later, and
/// proc_pid_mountinfo(5).
fn as_the_kernel_has_it(file: impl AsFd) -> io::Result<(u64, u64)> {
    let unknown = || io::Error::new(io::ErrorKind::Unsupported, "the kernel does not tell which file that is");
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_fd().as_raw_fd()))?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let inode = field("ino:").and_then(|inode| inode.parse().ok()).ok_or_else(unknown)?;
    let mount = field("mnt_id:").ok_or_else(unknown)?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mut mounts = mounts.lines().map(|line| line.split(' '));
    let mut fields = mounts.find(|fields| fields.clone().next() == Some(mount)).ok_or_else(unknown)?;
    let device = fields.nth(2).and_then(|device| device.split_once(':')).ok_or_else(unknown)?;
    match (device.0.parse(), device.1.parse()) {
        (Ok(major), Ok(minor)) => Ok((inode, rustix::fs::makedev(major, minor))),
        _ => Err(unknown()),
    }
}

/// `struct unix_diag_req`, in the byte order of the machine.
fn question() -> Vec<u8> {
    let family = u8::try_from(AddressFamily::UNIX.as_raw()).unwrap_or(1);
    let mut text = vec![family, 0, 0, 0];
    for word in [NOT_CONNECTED, 0, SHOW_FILE, 0, 0] {
        text.extend(word.to_ne_bytes());
    }
    text
}

fn is_bound_to(socket: &[u8], inode: u64, device: u64) -> bool {
    // `struct unix_diag_msg` is as long as a header.
    let file = socket.get(HEADER..).and_then(|attributes| attribute(attributes, FILE));
    file.and_then(|file| word(file, 0).zip(word(file, 4))).is_some_and(|(of, on)| is_same(of, on, inode, device))
}

/// Of the inode the kernel tells only the lower 32 bits, and of the device its own encoding: 12 bits and 20.
fn is_same(of: u32, on: u32, inode: u64, device: u64) -> bool {
    let encoded = u64::from(rustix::fs::major(device)) << 20 | u64::from(rustix::fs::minor(device));
    u64::from(of) == inode & 0xffff_ffff && u64::from(on) == encoded
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    use rustix::fs::{Mode, OFlags};

    use super::*;

    #[test]
    fn a_socket_is_known_by_each_name_of_its_file() {
        let directory = std::env::temp_dir().join(format!("unix_file-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let at = |name: &str| directory.join(name);
        let listener = UnixListener::bind(at("one")).unwrap();
        let datagrams = UnixDatagram::bind(at("two")).unwrap();
        let _client = UnixStream::connect(at("one")).unwrap();
        let _accepted = listener.accept().unwrap();
        fs::hard_link(at("one"), at("other")).unwrap();
        fs::remove_file(at("one")).unwrap();
        let inode = |socket: &dyn std::os::fd::AsFd| rustix::fs::fstat(socket.as_fd()).unwrap().st_ino;
        assert_eq!(sockets(&at("other")).unwrap(), [inode(&listener)]);
        assert_eq!(
            sockets(&directory.join("..").join(directory.file_name().unwrap()).join("two")).unwrap(),
            [inode(&datagrams)]
        );
        assert!(sockets(&at("one")).is_err());
        let hold = |name: &str| rustix::fs::open(at(name), OFlags::PATH | OFlags::NOFOLLOW, Mode::empty()).unwrap();
        let (one, two) = (hold("other"), hold("two"));
        assert!(is_file_of(&listener, &one).unwrap() && is_file_of(&datagrams, &two).unwrap());
        assert!(!is_file_of(&listener, &two).unwrap());
        assert!(is_file_of(UnixDatagram::unbound().unwrap(), &one).is_err());
        fs::write(at("file"), "").unwrap();
        drop(listener);
        assert!(sockets(&at("file")).unwrap().is_empty());
        assert!(sockets(&at("other")).unwrap().is_empty(), "nobody has it any more");
        fs::remove_dir_all(directory).unwrap();
    }
}
