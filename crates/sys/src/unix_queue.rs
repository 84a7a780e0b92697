//! How many connections wait to be accepted on a unix listener, asked over netlink: see sock_diag(7), and
//! `net/unix/diag.c` of Linux. The status that a superdaemon shows is made with it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

use crate::listen_queue::ListenQueue;
use crate::socket_diag::{BY_FAMILY, HEADER, REFUSAL, REQUEST, attribute, half, word};

/// `UDIAG_SHOW_RQLEN`
const SHOW_QUEUE: u32 = 0x10;
/// `UNIX_DIAG_RQLEN`, the attribute that answers it.
const QUEUE: u16 = 4;

/// Asks for the accept queue of one listening unix socket after another, in our network namespace.
#[derive(Debug)]
pub struct UnixQueues(OwnedFd);

impl UnixQueues {
    /// The way to the kernel.
    ///
    /// # Errors
    /// The kernel was built without netlink, or there are no descriptors.
    pub fn open() -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Ok(Self(socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))?))
    }

    /// The queue of this one. Never blocks: the kernel answers at once.
    ///
    /// # Errors
    /// The socket is no unix socket, or the kernel was built without `CONFIG_UNIX_DIAG`.
    pub fn of(&self, listener: impl AsFd) -> io::Result<ListenQueue> {
        let [waiting, backlog] = self.ask(listener, SHOW_QUEUE, QUEUE)?;
        Ok(ListenQueue { waiting, backlog })
    }

    /// The file that a unix socket is bound to: the lower 32 bits of its inode, and its device as the kernel writes it.
    pub(crate) fn file_of(&self, socket: impl AsFd) -> io::Result<[u32; 2]> {
        /// `UDIAG_SHOW_VFS`
        const SHOW_FILE: u32 = 2;
        /// `UNIX_DIAG_VFS`, the attribute that answers it.
        const FILE: u16 = 1;
        self.ask(socket, SHOW_FILE, FILE)
    }

    /// The two words of an attribute.
    fn ask(&self, socket: impl AsFd, show: u32, attribute: u16) -> io::Result<[u32; 2]> {
        let Self(kernel) = self;
        let inode = rustix::fs::fstat(&socket)?.st_ino;
        // Sockets are numbered with 32 bits.
        let inode = u32::try_from(inode).map_err(io::Error::other)?;
        send(kernel, &question(inode, show), SendFlags::empty())?;
        let mut space = [0; 512];
        let (length, _) = recv(kernel, &mut space[..], RecvFlags::empty())?;
        answer(space.get(..length).unwrap_or_default(), inode, attribute)
    }
}

/// `struct nlmsghdr` and `struct unix_diag_req`, in the byte order of the machine.
fn question(inode: u32, show: u32) -> Vec<u8> {
    const ANY_COOKIE: u32 = u32::MAX;
    const LENGTH: u32 = 40;
    let family = u8::try_from(AddressFamily::UNIX.as_raw()).unwrap_or(1);
    let mut text = Vec::new();
    text.extend(LENGTH.to_ne_bytes());
    text.extend([BY_FAMILY.to_ne_bytes(), REQUEST.to_ne_bytes()].concat());
    text.extend([0; 8]);
    text.extend([family, 0, 0, 0]);
    for word in [u32::MAX, inode, show, ANY_COOKIE, ANY_COOKIE] {
        text.extend(word.to_ne_bytes());
    }
    text
}

fn answer(text: &[u8], inode: u32, wanted: u16) -> io::Result<[u32; 2]> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer about a unix socket is strange");
    let kind = half(text, 4).ok_or_else(strange)?;
    if kind == REFUSAL {
        let negative = word(text, HEADER).ok_or_else(strange)?.cast_signed();
        return Err(io::Error::from_raw_os_error(negative.saturating_neg()));
    }
    if kind != BY_FAMILY || word(text, HEADER + 4) != Some(inode) {
        return Err(strange());
    }
    // `struct unix_diag_msg` is as long as the header.
    let found = text.get(2 * HEADER..).and_then(|attributes| attribute(attributes, wanted)).ok_or_else(strange)?;
    word(found, 0).zip(word(found, 4)).map(|(first, second)| [first, second]).ok_or_else(strange)
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

    use super::*;

    fn of_unix(listener: impl AsFd) -> io::Result<ListenQueue> {
        UnixQueues::open()?.of(listener)
    }

    #[test]
    fn counts_those_who_wait() {
        let address = SocketAddr::from_abstract_name(format!("unix_queue-{}-{}", std::process::id(), line!())).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        rustix::net::listen(&listener, 7).unwrap();
        assert_eq!(of_unix(&listener).unwrap(), ListenQueue { waiting: 0, backlog: 7 });
        let clients: Vec<_> = (0..3).map(|_| UnixStream::connect_addr(&address).unwrap()).collect();
        assert_eq!(of_unix(&listener).unwrap().waiting, 3);
        let accepted = listener.accept().unwrap();
        assert_eq!(of_unix(&listener).unwrap(), ListenQueue { waiting: 2, backlog: 7 });
        drop((clients, accepted));
    }

    #[test]
    fn only_unix_sockets_have_one() {
        assert!(of_unix(std::net::TcpListener::bind("127.0.0.1:0").unwrap()).is_err());
        assert!(of_unix(std::fs::File::open("/dev/null").unwrap()).is_err());
    }

    #[test]
    fn a_strange_answer_is_an_error() {
        let proper = |attributes: &[u8]| {
            let head = [40u32.to_ne_bytes().to_vec(), BY_FAMILY.to_ne_bytes().to_vec(), vec![0; 10]].concat();
            let body = [vec![1, 1, 10, 0], 77u32.to_ne_bytes().to_vec(), vec![0; 8]].concat();
            [head, body, attributes.to_vec()].concat()
        };
        let attribute = |kind: u16, body: &[u8]| {
            [&(body.len() as u16 + 4).to_ne_bytes()[..], &kind.to_ne_bytes()[..], body].concat()
        };
        let queue = attribute(QUEUE, &[2u32.to_ne_bytes(), 9u32.to_ne_bytes()].concat());
        let other = [attribute(0, b"name"), queue.clone()].concat();
        for right in [&queue, &other] {
            assert_eq!(answer(&proper(right), 77, QUEUE).unwrap(), [2, 9]);
        }
        for wrong in [vec![], proper(&[]), proper(&[0; 64]), proper(&queue[..6]), proper(&queue)[..20].to_vec()] {
            assert_eq!(answer(&wrong, 77, QUEUE).unwrap_err().kind(), io::ErrorKind::InvalidData, "{wrong:?}");
        }
        assert!(answer(&proper(&queue), 78, QUEUE).is_err());
        let refusal =
            [36u32.to_ne_bytes().to_vec(), REFUSAL.to_ne_bytes().to_vec(), vec![0; 10], (-2i32).to_ne_bytes().to_vec()];
        assert_eq!(answer(&refusal.concat(), 77, QUEUE).unwrap_err().raw_os_error(), Some(libc::ENOENT));
    }
}
