//! Who is at the other end of a unix socket. The control socket, the verbs and the notify sockets ask.
//!
//! Libraries that make the PID a number above zero cannot be used for this: for a process outside of our PID namespace
//! the kernel gives 0.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use libc::{c_int, c_void, socklen_t};

/// A process as the kernel vouches for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its PID; 0 if it is outside of our PID namespace.
    pub pid: i32,
    /// Its effective user.
    pub uid: u32,
}

/// The process that connected this stream socket, or that listens at its other end: `SO_PEERCRED` of unix(7).
///
/// # Errors
/// Not a socket.
pub fn of_peer(socket: impl AsFd) -> io::Result<Credentials> {
    let mut found = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_as_length::<libc::ucred>()?;
    // SAFETY: the kernel writes at most `length` bytes, which `found` has.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(Credentials { pid: found.pid, uid: found.uid }) } else { Err(io::Error::last_os_error()) }
}

/// A datagram that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// How many bytes of the buffer it fills.
    pub length: usize,
    /// Whether it was longer than the buffer.
    pub truncated: bool,
    /// Who sent it; none if the socket was not told to ask, see `SO_PASSCRED` of unix(7).
    pub sender: Option<Credentials>,
}

/// Receives a datagram without waiting for one. Descriptors that come with it are closed, which is what the sender of
/// a `BARRIER=1` waits for (sd_notify(3)).
///
/// # Errors
/// `WouldBlock` if there is none; else those of recvmsg(2).
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Datagram> {
    // The kernel passes at most 253 descriptors at a time (SCM_MAX_FD), and credentials. `u64` for the alignment.
    let mut control = [MaybeUninit::<u64>::uninit(); 160];
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast::<c_void>(), iov_len: buffer.len() };
    // SAFETY: the structure consists of integers and pointers, for which all bits zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the message refers to one part and to a control buffer, both ours and of the lengths that it says.
    let received = unsafe {
        libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC)
    };
    let Ok(length) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
    let sender = read_control(&message);
    Ok(Datagram { length, truncated: message.msg_flags & libc::MSG_TRUNC != 0, sender })
}

/// Takes the credentials out of a received message, and closes the descriptors in it.
#[allow(clippy::unnecessary_cast, reason = "C libraries disagree about the types of lengths in control messages")]
fn read_control(message: &libc::msghdr) -> Option<Credentials> {
    let mut sender = None;
    // SAFETY: recvmsg(2) has filled in the message, so that each header lies in the control buffer and says how long
    // its data are; CMSG_NXTHDR stays within the buffer. The data need not be aligned, hence the unaligned reads.
    // The descriptors were made for us by the call and nobody else knows them.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(current) = header.as_ref() {
            let data = libc::CMSG_DATA(header);
            let header_length = libc::CMSG_LEN(0) as usize;
            let length = (current.cmsg_len as usize).saturating_sub(header_length);
            match (current.cmsg_level, current.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if length >= size_of::<libc::ucred>() => {
                    let found = data.cast::<libc::ucred>().read_unaligned();
                    sender = Some(Credentials { pid: found.pid, uid: found.uid });
                }
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => {
                    for index in 0..length / size_of::<RawFd>() {
                        drop(OwnedFd::from_raw_fd(data.cast::<RawFd>().add(index).read_unaligned()));
                    }
                }
                _ => {}
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    sender
}

/// Has the kernel tell the sender of each datagram: `SO_PASSCRED` of unix(7).
///
/// # Errors
/// Not a unix socket.
pub fn ask_for_senders(socket: impl AsFd) -> io::Result<()> {
    let yes: c_int = 1;
    // SAFETY: the kernel reads an integer of the length that is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PASSCRED,
            (&raw const yes).cast(),
            size_as_length::<c_int>()?,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel refuse descriptors that somebody sends to this socket (`SO_PASSRIGHTS`, Linux 6.16): the sender gets
/// EPERM. Older kernels do not have it, and then nothing is changed: a descriptor that is not asked for is closed as its
/// message is read.
pub fn refuse_descriptors(socket: impl AsFd) {
    /// Not in the headers of most systems yet; see include/uapi/asm-generic/socket.h.
    const SO_PASSRIGHTS: c_int = 83;
    let no: c_int = 0;
    let Ok(length) = size_as_length::<c_int>() else { return };
    // SAFETY: the kernel reads an integer of the length that is given.
    unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), libc::SOL_SOCKET, SO_PASSRIGHTS, (&raw const no).cast(), length);
    }
}

fn size_as_length<T>() -> io::Result<socklen_t> {
    socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    fn us() -> Credentials {
        Credentials { pid: std::process::id() as i32, uid: rustix::process::geteuid().as_raw() }
    }

    #[test]
    fn a_peer_is_known() {
        let (one, _other) = UnixStream::pair().unwrap();
        assert_eq!(of_peer(&one).unwrap(), us());
    }

    /// Where the kernel does not know the option, the descriptor goes with the message.
    #[test]
    fn descriptors_can_be_refused() {
        let (one, other) = UnixStream::pair().unwrap();
        refuse_descriptors(&one);
        let descriptors = [other.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        match sendmsg(&other, &[io::IoSlice::new(b"x")], &mut ancillary, SendFlags::empty()) {
            Ok(length) => assert_eq!(length, 1),
            Err(errno) => assert_eq!(errno, rustix::io::Errno::PERM),
        }
        rustix::net::send(&other, b"y", SendFlags::empty()).unwrap();
    }

    #[test]
    fn datagrams_say_who_sent_them() {
        let (one, other) = UnixDatagram::pair().unwrap();
        ask_for_senders(&one).unwrap();
        let mut buffer = [0; 4];
        assert_eq!(receive(&one, &mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        other.send(b"abc").unwrap();
        other.send(b"abcdef").unwrap();
        let expected = Datagram { length: 3, truncated: false, sender: Some(us()) };
        assert_eq!(receive(&one, &mut buffer).unwrap(), expected);
        assert_eq!(&buffer[..3], b"abc");
        assert_eq!(receive(&one, &mut buffer).unwrap(), Datagram { length: 4, truncated: true, sender: Some(us()) });
    }

    #[test]
    fn descriptors_that_come_along_are_closed() {
        let (one, other) = UnixDatagram::pair().unwrap();
        ask_for_senders(&one).unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let descriptors = [writer.as_fd(); 253];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        sendmsg(&other, &[io::IoSlice::new(b"BARRIER=1")], &mut ancillary, SendFlags::empty()).unwrap();
        drop(writer);
        assert_eq!(receive(&one, &mut [0; 16]).unwrap().sender, Some(us()));
        // End of file: nobody holds the writing end any more.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }
}
