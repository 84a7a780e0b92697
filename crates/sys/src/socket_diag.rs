//! Asking the kernel about its sockets over netlink: see sock_diag(7). What the questions about internet and about unix
//! sockets have in common.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

/// `SOCK_DIAG_BY_FAMILY`, the kind of the question and of its answer.
pub(crate) const BY_FAMILY: u16 = 20;
/// `NLMSG_ERROR`, the kind of a refusal.
pub(crate) const REFUSAL: u16 = 2;
/// `NLM_F_REQUEST`
pub(crate) const REQUEST: u16 = 1;
/// Of `struct nlmsghdr`.
pub(crate) const HEADER: usize = 16;
/// `NLM_F_DUMP`: all sockets, not one.
const DUMP: u16 = 0x300;
/// `NLMSG_DONE`, the kind of the last message.
const DONE: u16 = 3;

/// Asks for all sockets that a question is about, and calls `each` with what the kernel says of each of them, from after
/// the header of the message. Never blocks for long: the kernel answers at once.
///
/// # Errors
/// The kernel was built without the answer to such questions, or there are no descriptors.
pub(crate) fn dump(question: &[u8], each: impl FnMut(&[u8])) -> io::Result<()> {
    ask(&connect()?, question, each)
}

/// The same where the kernel may have more to say of one socket than goes into a page. It leaves such a socket out of the
/// first datagram of an answer, unless a longer read came before: so it is asked twice.
///
/// # Errors
/// As [`dump`].
pub(crate) fn dump_at_length(question: &[u8], each: impl FnMut(&[u8])) -> io::Result<()> {
    let kernel = connect()?;
    ask(&kernel, question, |_| {})?;
    ask(&kernel, question, each)
}

fn connect() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?)
}

fn ask(kernel: &OwnedFd, question: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let length = u32::try_from(HEADER + question.len()).map_err(io::Error::other)?;
    let mut text = length.to_ne_bytes().to_vec();
    text.extend([BY_FAMILY.to_ne_bytes(), (REQUEST | DUMP).to_ne_bytes()].concat());
    text.extend([0; 8]);
    text.extend(question);
    send(kernel, &text, SendFlags::empty())?;
    // The kernel never fills more at a time.
    let mut space = vec![0; 1 << 16];
    loop {
        let (length, _) = recv(kernel, &mut space[..], RecvFlags::empty())?;
        if read(space.get(..length).unwrap_or_default(), &mut each)? {
            return Ok(());
        }
    }
}

/// Reads the messages of one datagram. Whether the last of all was among them.
fn read(mut messages: &[u8], each: &mut impl FnMut(&[u8])) -> io::Result<bool> {
    let strange = || io::Error::new(io::ErrorKind::InvalidData, "the kernel's answer about its sockets is strange");
    loop {
        let length = word(messages, 0).and_then(|length| usize::try_from(length).ok()).ok_or_else(strange)?;
        let message = messages.get(HEADER..length).ok_or_else(strange)?;
        match half(messages, 4) {
            Some(DONE) => return Ok(true),
            Some(REFUSAL) => {
                let negative = word(message, 0).ok_or_else(strange)?.cast_signed();
                return Err(io::Error::from_raw_os_error(negative.saturating_neg()));
            }
            Some(BY_FAMILY) => each(message),
            _ => {}
        }
        messages = messages.get(length.next_multiple_of(4)..).unwrap_or_default();
        if messages.is_empty() {
            return Ok(false);
        }
    }
}

/// The first attribute of this kind: `struct nlattr`s begin at multiples of four.
pub(crate) fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let (length, kind) = (usize::from(half(attributes, 0)?), half(attributes, 2)?);
        if kind == wanted {
            return attributes.get(4..length);
        }
        // Each is at least as long as its own header.
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

pub(crate) fn half(text: &[u8], at: usize) -> Option<u16> {
    text.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

pub(crate) fn word(text: &[u8], at: usize) -> Option<u32> {
    text.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(HEADER + body.len()).unwrap();
        [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 10], body].concat()
    }

    #[test]
    fn messages_are_read_one_by_one() {
        let mut seen = Vec::new();
        let two = [message(BY_FAMILY, b"1234"), message(BY_FAMILY, b"5678")].concat();
        assert!(!read(&two, &mut |body| seen.push(body.to_vec())).unwrap());
        assert!(read(&[two, message(DONE, &[0; 4])].concat(), &mut |body| seen.push(body.to_vec())).unwrap());
        assert_eq!(seen, [b"1234", b"5678", b"1234", b"5678"]);
    }

    #[test]
    fn a_refusal_and_nonsense_are_errors() {
        let refusal = message(REFUSAL, &(-2i32).to_ne_bytes());
        assert_eq!(read(&refusal, &mut |_| {}).unwrap_err().raw_os_error(), Some(libc::ENOENT));
        for strange in [&b""[..], &[0; 40], &message(BY_FAMILY, b"1234")[..18], &message(REFUSAL, b"")] {
            assert_eq!(read(strange, &mut |_| {}).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
