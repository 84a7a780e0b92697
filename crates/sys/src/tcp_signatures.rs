//! Keys by which a TCP socket wants connections to be signed (`TCP_MD5SIG` of tcp(7)): a listener that has one does not
//! answer whoever has none. Any process that shares a listener can give it keys; the guard of the listeners takes them
//! away. The kernel tells of them over netlink, and only to those who have CAP_NET_ADMIN.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::fstat;

use crate::socket_diag::{attribute, dump, half, word};

/// `INET_DIAG_MD5SIG`
const SIGNATURES: u16 = 18;
/// Of `struct inet_diag_msg`, which the attributes follow.
const MESSAGE: usize = 72;
/// Of `struct tcp_diag_md5sig`.
const TOLD_KEY: usize = 100;

/// The keys of all listeners of the network namespace.
#[derive(Debug, Default)]
pub struct Signatures(Vec<(u64, Key)>);

/// Whose connections have to be signed: the family, the length of the prefix, and the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    family: u8,
    prefix: u8,
    address: [u8; 16],
}

impl Signatures {
    /// Asks the kernel.
    ///
    /// # Errors
    /// It was built without the answer (`CONFIG_INET_DIAG`), or there are no descriptors.
    pub fn read() -> io::Result<Self> {
        let mut found = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            dump(&question(family), |text| found.extend(keys(text)))?;
        }
        Ok(Self(found))
    }

    /// Takes away those of this listener. Whether it had any.
    ///
    /// # Errors
    /// One cannot be taken away: it was made for one network device.
    pub fn take_from(&self, listener: BorrowedFd<'_>) -> io::Result<bool> {
        if self.0.is_empty() {
            return Ok(false);
        }
        let inode = fstat(listener)?.st_ino;
        let mut had_any = false;
        for (_, key) in self.0.iter().filter(|(found, _)| *found == inode) {
            forget(listener, key)?;
            had_any = true;
        }
        Ok(had_any)
    }
}

/// `struct inet_diag_req_v2` for all that listen. The keys come with what `TCP_INFO` says.
fn question(family: c_int) -> Vec<u8> {
    /// `TCP_LISTEN` as a bit.
    const LISTENING: u32 = 1 << 10;
    /// `INET_DIAG_INFO`, as a bit.
    const INFO: c_int = 1 << 1;
    const REST: usize = 48;
    let head = [family, libc::IPPROTO_TCP, INFO, 0].into_iter().filter_map(|byte| u8::try_from(byte).ok());
    head.chain(LISTENING.to_ne_bytes()).chain([0; REST]).collect()
}

/// The inode of the socket and a key, for each key in a message.
fn keys(text: &[u8]) -> Vec<(u64, Key)> {
    let inode = word(text, 68);
    let told = text.get(MESSAGE..).and_then(|attributes| attribute(attributes, SIGNATURES)).unwrap_or_default();
    told.chunks_exact(TOLD_KEY).filter_map(|key| Some((inode?.into(), Key::read(key)?))).collect()
}

impl Key {
    /// Reads `struct tcp_diag_md5sig`.
    fn read(text: &[u8]) -> Option<Self> {
        // The third field is the length of the key itself.
        half(text, 2)?;
        Some(Self { family: *text.first()?, prefix: *text.get(1)?, address: *text.get(4..)?.first_chunk()? })
    }
}

/// A key without a length is taken away.
fn forget(listener: BorrowedFd<'_>, key: &Key) -> io::Result<()> {
    /// `TCP_MD5SIG_EXT` and `TCP_MD5SIG_FLAG_PREFIX` of `linux/tcp.h`.
    const TCP_MD5SIG_EXT: c_int = 32;
    const PREFIX: u8 = 1;
    /// Of `struct tcp_md5sig`: a `struct sockaddr_storage` comes first.
    const SIZE: usize = 216;
    const FLAGS: usize = 128;
    // In `struct sockaddr_in` and `struct sockaddr_in6`.
    let (place, length) = if c_int::from(key.family) == libc::AF_INET { (4, 4) } else { (8, 16) };
    let mut text = [0u8; SIZE];
    let family = u16::from(key.family).to_ne_bytes();
    let parts =
        [(0, &family[..]), (place, key.address.get(..length).unwrap_or_default()), (FLAGS, &[PREFIX, key.prefix])];
    for (at, part) in parts {
        text.iter_mut().skip(at).zip(part).for_each(|(byte, value)| *byte = *value);
    }
    let length = libc::socklen_t::try_from(SIZE).unwrap_or(0);
    // SAFETY: the kernel reads `length` bytes, which the text has.
    let result = unsafe {
        libc::setsockopt(listener.as_raw_fd(), libc::IPPROTO_TCP, TCP_MD5SIG_EXT, text.as_ptr().cast(), length)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    use super::*;

    /// As a process that has turned gives it. Whether the kernel has such keys.
    fn sign(listener: &TcpListener, key: &Key) -> bool {
        let place = if c_int::from(key.family) == libc::AF_INET { 4 } else { 8 };
        let mut text = [0u8; 216];
        text[..2].copy_from_slice(&u16::from(key.family).to_ne_bytes());
        text[place..place + 4].copy_from_slice(&key.address[..4]);
        (text[128], text[129], text[136]) = (1, key.prefix, b'k');
        text[130..132].copy_from_slice(&1u16.to_ne_bytes());
        // SAFETY: the kernel reads as many bytes as there are.
        0 == unsafe { libc::setsockopt(listener.as_raw_fd(), libc::IPPROTO_TCP, 32, text.as_ptr().cast(), 216) }
    }

    #[test]
    fn keys_are_seen_and_taken_away() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("the keys of TCP: needs root, to see them; not tested");
            return;
        }
        for (address, family) in [("127.0.0.1:0", libc::AF_INET), ("[::1]:0", libc::AF_INET6)] {
            let listener = TcpListener::bind(address).unwrap();
            let (all, some) = (
                Key { family: u8::try_from(family).unwrap(), prefix: 0, address: [0; 16] },
                Key {
                    family: u8::try_from(family).unwrap(),
                    prefix: 8,
                    address: std::array::from_fn(|i| if i == 0 { 10 } else { 0 }),
                },
            );
            assert!(!Signatures::read().unwrap().take_from(listener.as_fd()).unwrap());
            if !(sign(&listener, &all) && sign(&listener, &some)) {
                eprintln!("the keys of TCP: this kernel has none; not tested");
                return;
            }
            assert!(Signatures::read().unwrap().take_from(listener.as_fd()).unwrap());
            assert!(!Signatures::read().unwrap().take_from(listener.as_fd()).unwrap());
        }
    }
}
