//! Which sockets are bound to a file, asked over netlink: see sock_diag(7), and `net/unix/diag.c` of Linux. A superdaemon
//! that finds a socket file of a predecessor asks here whose it is.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

use crate::unix_queue::{BY_FAMILY, HEADER, REFUSAL, REQUEST, half, word};

/// `NLM_F_DUMP`: all sockets, not one.
const DUMP: u16 = 0x300;
/// `NLMSG_DONE`, the kind of the last message.
const DONE: u16 = 3;
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
    let flags = SocketFlags::CLOEXEC;
    let kernel = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))?;
    send(&kernel, &question(), SendFlags::empty())?;
    // The kernel fills at most so much at a time: NLMSG_GOODSIZE and its likes.
    let mut space = vec![0; 1 << 16];
    let mut found = Vec::new();
    loop {
        let (length, _) = recv(&kernel, &mut space[..], RecvFlags::empty())?;
        let mut messages = space.get(..length).unwrap_or_default();
        if messages.is_empty() {
            return Err(strange());
        }
        while let Some(size) = word(messages, 0) {
            let size = usize::try_from(size).map_err(io::Error::other)?;
            let message = messages.get(..size).filter(|_| size >= HEADER).ok_or_else(strange)?;
            match half(message, 4) {
                Some(DONE) => return Ok(found),
                Some(REFUSAL) => {
                    let negative = word(message, HEADER).ok_or_else(strange)?.cast_signed();
                    return Err(io::Error::from_raw_os_error(negative.saturating_neg()));
                }
                Some(BY_FAMILY) if is_bound_to(message, file.ino(), file.dev()) => {
                    found.extend(word(message, HEADER + 4).map(u64::from));
                }
                _ => {}
            }
            messages = messages.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// `struct nlmsghdr` and `struct unix_diag_req`, in the byte order of the machine.
fn question() -> Vec<u8> {
    const LENGTH: u32 = 40;
    let family = u8::try_from(AddressFamily::UNIX.as_raw()).unwrap_or(1);
    let mut text = Vec::new();
    text.extend(LENGTH.to_ne_bytes());
    text.extend([BY_FAMILY.to_ne_bytes(), (REQUEST | DUMP).to_ne_bytes()].concat());
    text.extend([0; 8]);
    text.extend([family, 0, 0, 0]);
    for word in [NOT_CONNECTED, 0, SHOW_FILE, 0, 0] {
        text.extend(word.to_ne_bytes());
    }
    text
}

/// The kernel tells of the inode only its lower 32 bits, and of the device its own encoding: 12 bits and 20.
fn is_bound_to(message: &[u8], inode: u64, device: u64) -> bool {
    let encoded = u64::from(rustix::fs::major(device)) << 20 | u64::from(rustix::fs::minor(device));
    let mut attributes = message.get(2 * HEADER..).unwrap_or_default();
    while let (Some(length), Some(kind)) = (half(attributes, 0), half(attributes, 2)) {
        if kind == FILE {
            let file = word(attributes, 4).zip(word(attributes, 8));
            return file.is_some_and(|(of, on)| u64::from(of) == inode & 0xffff_ffff && u64::from(on) == encoded);
        }
        let next = usize::from(length).max(4).next_multiple_of(4);
        attributes = attributes.get(next..).unwrap_or_default();
    }
    false
}

fn strange() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer about unix sockets is strange")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

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
        fs::write(at("file"), "").unwrap();
        drop(listener);
        assert!(sockets(&at("file")).unwrap().is_empty());
        assert!(sockets(&at("other")).unwrap().is_empty(), "nobody has it any more");
        fs::remove_dir_all(directory).unwrap();
    }
}
