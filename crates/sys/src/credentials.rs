//! Who is at the other end of a unix socket. The control socket, the verbs and the notify sockets ask.
//!
//! Libraries that make the PID a number above zero cannot be used for this: for a process outside of our PID namespace
//! the kernel gives 0.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, RawFd};

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

/// A datagram at the head of a socket's queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// How many bytes of the buffer it fills.
    pub length: usize,
    /// Whether it was longer than the buffer.
    pub truncated: bool,
    /// Who sent it; none if the socket was not told to ask, see `SO_PASSCRED` of unix(7).
    pub sender: Option<Credentials>,
    /// Whether descriptors came with it.
    pub has_descriptors: bool,
}

/// Looks at the next datagram and leaves it where it is. Neither waits for one, nor gets the descriptors that came with
/// it: there is room for the sender's credentials alone.
///
/// The kernel takes references of its own to what came along (`scm_fp_dup`), finds no room for them, and drops them
/// (`scm_detach_fds`). None of them is the last, since the datagram stays in the queue and nobody else can take it from
/// there meanwhile: `unix_dgram_recvmsg` holds the lock of the queue until it is done, `iolock`, which was `readlock`
/// before Linux 4.7. So it has been as long as there is an `SCM_RIGHTS` that can be looked at.
///
/// # Errors
/// `WouldBlock` if there is none; else those of recvmsg(2).
pub fn peek(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut room = [MaybeUninit::uninit(); ROOM_FOR_CREDENTIALS];
    receive_into(socket, buffer, &mut room, libc::MSG_PEEK)
}

/// Takes the next datagram off the queue, without waiting for one. To be used for one that [`peek`] has shown to come
/// without descriptors: the last reference to what came along would be dropped here, which may wait.
///
/// # Errors
/// As of [`peek`].
pub fn take(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut room = [MaybeUninit::uninit(); ROOM_FOR_CREDENTIALS];
    receive_into(socket, buffer, &mut room, 0)
}

/// Takes datagrams with descriptors off the queue: the next one, and those right after it for which `is_next` says so,
/// but no more than `most`. The descriptors are left open, for the end of the process to close them: this is for one that was
/// made for nothing else ([`crate::apart`]), and has told its parent that the datagrams are gone before it begins
/// to close, since only that may wait.
pub fn take_for_good(socket: impl AsFd, is_next: impl Fn(Credentials) -> bool, most: usize) {
    let socket = socket.as_fd();
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    for count in 0..most {
        if count > 0 {
            let Ok(Datagram { has_descriptors: true, sender: Some(sender), .. }) = peek(socket, &mut []) else {
                return;
            };
            if !is_next(sender) {
                return;
            }
        }
        let mut room = [MaybeUninit::uninit(); ROOM_FOR_DESCRIPTORS];
        if receive_into(socket, &mut [], &mut room, libc::MSG_CMSG_CLOEXEC).is_err() {
            return;
        }
        // What finds no number is closed at once.
        let lowest = rustix::io::fcntl_dupfd_cloexec(socket, 0).map(IntoRawFd::into_raw_fd);
        let has_room = |lowest| u64::try_from(lowest).is_ok_and(|lowest| lowest + MOST_DESCRIPTORS <= limit);
        if !lowest.is_ok_and(has_room) {
            return;
        }
    }
}

/// The kernel passes no more at a time (`SCM_MAX_FD`).
const MOST_DESCRIPTORS: u64 = 253;
/// In units of `u64`, for the alignment: exactly what credentials take, so that nothing else fits.
const ROOM_FOR_CREDENTIALS: usize = space_for(size_of::<libc::ucred>());
const ROOM_FOR_DESCRIPTORS: usize = ROOM_FOR_CREDENTIALS + space_for(MOST_DESCRIPTORS as usize * size_of::<RawFd>());

#[allow(clippy::cast_possible_truncation, reason = "some hundred bytes")]
const fn space_for(data: usize) -> usize {
    // SAFETY: takes a number only.
    unsafe { libc::CMSG_SPACE(data as u32) as usize }.div_ceil(size_of::<u64>())
}

fn receive_into(
    socket: impl AsFd,
    buffer: &mut [u8],
    room: &mut [MaybeUninit<u64>],
    flags: c_int,
) -> io::Result<Datagram> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast::<c_void>(), iov_len: buffer.len() };
    // SAFETY: the structure consists of integers and pointers, for which all bits zero is a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = room.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(room) as _;
    // SAFETY: the message refers to one part and to a control buffer, both ours and of the lengths that it says.
    let received = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT | flags) };
    let Ok(length) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
    let (sender, has_descriptors) = read_control(&message);
    Ok(Datagram {
        length,
        truncated: message.msg_flags & libc::MSG_TRUNC != 0,
        sender,
        has_descriptors: has_descriptors || message.msg_flags & libc::MSG_CTRUNC != 0,
    })
}

/// Takes the credentials out of a received message; and whether there are descriptors in it, which are nobody's.
#[allow(clippy::unnecessary_cast, reason = "C libraries disagree about the types of lengths in control messages")]
fn read_control(message: &libc::msghdr) -> (Option<Credentials>, bool) {
    let (mut sender, mut has_descriptors) = (None, false);
    // SAFETY: recvmsg(2) has filled in the message, so that each header lies in the control buffer and says how long
    // its data are; CMSG_NXTHDR stays within the buffer. The data need not be aligned, hence the unaligned read.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while let Some(current) = header.as_ref() {
            let length = (current.cmsg_len as usize).saturating_sub(libc::CMSG_LEN(0) as usize);
            match (current.cmsg_level, current.cmsg_type) {
                (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if length >= size_of::<libc::ucred>() => {
                    let found = libc::CMSG_DATA(header).cast::<libc::ucred>().read_unaligned();
                    sender = Some(Credentials { pid: found.pid, uid: found.uid });
                }
                (libc::SOL_SOCKET, libc::SCM_RIGHTS) => has_descriptors = true,
                _ => {}
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    (sender, has_descriptors)
}

/// Has the kernel tell the sender of each datagram: `SO_PASSCRED` of unix(7).
///
/// # Errors
/// Not a unix socket.
pub fn ask_for_senders(socket: impl AsFd) -> io::Result<()> {
    set_flag(socket.as_fd(), libc::SO_PASSCRED, true)
}

fn set_flag(socket: BorrowedFd<'_>, option: c_int, on: bool) -> io::Result<()> {
    let value = c_int::from(on);
    // SAFETY: the kernel reads an integer of the length that is given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const value).cast(),
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
    // To be refused is no loss where there is nothing to be had.
    let _ = set_flag(socket.as_fd(), SO_PASSRIGHTS, false);
}

fn size_as_length<T>() -> io::Result<socklen_t> {
    socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixDatagram, UnixStream};
    use std::time::{Duration, Instant};

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    fn us() -> Credentials {
        Credentials { pid: std::process::id() as i32, uid: rustix::process::geteuid().as_raw() }
    }

    fn send_with(socket: &UnixDatagram, text: &[u8], descriptors: &[BorrowedFd]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(descriptors)));
        sendmsg(socket, &[io::IoSlice::new(text)], &mut ancillary, SendFlags::empty()).unwrap();
    }

    /// A connection whose last close takes half a minute: there is more to send than the other end will ever read.
    fn lingering() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (other, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        while io::Write::write(&mut &stream, &[0; 65536]).is_ok() {}
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::from_secs(30))).unwrap();
        (stream, other)
    }

    fn open_descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
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
        assert_eq!(peek(&one, &mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(take(&one, &mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        other.send(b"abc").unwrap();
        other.send(b"abcdef").unwrap();
        let first = Datagram { length: 3, truncated: false, sender: Some(us()), has_descriptors: false };
        for look in [peek, peek, take] {
            assert_eq!(look(one.as_fd(), &mut buffer).unwrap(), first);
            assert_eq!(&buffer[..3], b"abc");
        }
        assert_eq!(take(&one, &mut buffer).unwrap(), Datagram { length: 4, truncated: true, ..first });
    }

    #[test]
    fn a_look_shows_that_descriptors_came_along_and_gets_none() {
        let (one, other) = UnixDatagram::pair().unwrap();
        ask_for_senders(&one).unwrap();
        let (stream, _other_end) = lingering();
        for count in [1, 2, 253] {
            send_with(&other, b"", &vec![stream.as_fd(); count]);
        }
        drop(stream);
        let begun = Instant::now();
        for _ in 0..100 {
            let found = peek(&one, &mut [0; 16]).unwrap();
            assert_eq!(found, Datagram { length: 0, truncated: false, sender: Some(us()), has_descriptors: true });
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "a look has waited");
        let apart = crate::apart::Apart::close(one.into()).unwrap();
        crate::apart::end(apart.pid());
        assert!(begun.elapsed() < Duration::from_secs(10), "the end of the socket has waited");
        rustix::process::waitpid(rustix::process::Pid::from_raw(apart.pid()), rustix::process::WaitOptions::empty())
            .unwrap();
    }

    #[test]
    fn datagrams_with_descriptors_are_taken_apart_and_nobody_waits() {
        let (one, other) = UnixDatagram::pair().unwrap();
        ask_for_senders(&one).unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let (stream, _other_end) = lingering();
        send_with(&other, b"BARRIER=1", &[writer.as_fd(); 253]);
        send_with(&other, b"x", &[stream.as_fd()]);
        other.send(b"READY=1").unwrap();
        send_with(&other, b"x", &[writer.as_fd()]);
        drop((stream, writer));
        let begun = Instant::now();
        let ours = us();
        let take_some = || {
            let apart = crate::apart::Apart::begin(&[one.as_fd()], |reporter| {
                take_for_good(&one, |sender| sender == ours, 10);
                reporter.say(b"taken");
            });
            let apart = apart.unwrap();
            rustix::event::poll(&mut [rustix::event::PollFd::new(&apart, rustix::event::PollFlags::IN)], None).unwrap();
            assert_eq!(apart.news(), crate::apart::News::Said(b"taken".to_vec()));
            apart.pid()
        };
        let mut pids = vec![take_some()];
        let mut text = [0; 16];
        let found = take(&one, &mut text).unwrap();
        assert_eq!((&text[..found.length], found.has_descriptors), (&b"READY=1"[..], false));
        pids.push(take_some());
        assert_eq!(peek(&one, &mut text).unwrap_err().kind(), ErrorKind::WouldBlock);
        // End of file: nobody holds the writing end any more.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        assert!(begun.elapsed() < Duration::from_secs(10), "something has waited");
        for pid in pids {
            crate::apart::end(pid);
            rustix::process::waitpid(rustix::process::Pid::from_raw(pid), rustix::process::WaitOptions::empty())
                .unwrap();
        }
    }

    #[test]
    fn where_the_kernel_can_descriptors_are_refused() {
        let (one, other) = UnixDatagram::pair().unwrap();
        let passrights = refuses(&one);
        refuse_descriptors(&one);
        let null = std::fs::File::open("/dev/null").unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [null.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let sent = sendmsg(&other, &[io::IoSlice::new(b"x")], &mut ancillary, SendFlags::empty());
        assert_eq!(sent.is_err(), passrights, "{sent:?}");
        let before = open_descriptors();
        other.send(b"x").unwrap();
        assert!(take(&one, &mut [0; 1]).is_ok() && open_descriptors() <= before);
    }

    /// Whether the kernel knows how.
    fn refuses(socket: &UnixDatagram) -> bool {
        set_flag(socket.as_fd(), 83, true).is_ok()
    }
}
