//! In which system call each thread of a process is blocked, and on which descriptors, see proc_pid_syscall(5).

use std::io;

use libc::{c_ulong, iovec};

use super::{Budget, How, Kind, RawFd, Reason, files};
use crate::accept_probe::descriptors::Open;

/// More entries of poll(2) than this are not read. Listeners come first in nearly every program.
const MOST_POLLED: usize = 1024;

/// A select(2) of the C library goes to descriptor 1023; some programs go further with sets of their own.
const MOST_SELECTED: usize = 8192;

/// The listener on which a thread of the process is blocked; `None` in the pair if that is one of several.
pub(super) fn waiting(
    pid: i32,
    kind: Kind,
    open: &Open,
    budget: &mut Budget,
) -> Result<Option<(Option<usize>, How)>, Reason> {
    let mut doubt = None;
    for thread in files::names(pid, "task")? {
        if !budget.spend() {
            return Err(Reason::TooMuch { pid });
        }
        let found = match files::read_short(pid, &format!("task/{thread}/syscall")) {
            Ok(None) => continue,
            Ok(Some(text)) => match Call::parse(&text, kind) {
                Ok(None) => continue,
                Ok(Some(call)) => call.target(pid, open).map(|listener| listener.map(|it| (Some(it), call.how()))),
                Err(reason) => Err(reason),
            },
            Err(denied @ Reason::Denied { .. }) => {
                match files::read_short(pid, &format!("task/{thread}/wchan"))?.as_deref() {
                    Some(place) if is_place_of_waiting(place) && open.other_sockets.is_empty() => {
                        Ok(Some((open.only_target(), how_in_general(kind))))
                    }
                    _ => Err(denied),
                }
            }
            Err(reason) => Err(reason),
        };
        match found {
            Ok(None) => {}
            Ok(waiting) => return Ok(waiting),
            Err(reason) => doubt = doubt.or(Some(reason)),
        }
    }
    doubt.map_or(Ok(None), Err)
}

/// Where in the kernel a thread sleeps in accept(2), for TCP and for other sockets, or in recv(2).
fn is_place_of_waiting(place: &str) -> bool {
    ["inet_csk_accept", "inet_csk_wait_for_connect", "__skb_wait_for_more_packets"].contains(&place)
}

fn how_in_general(kind: Kind) -> How {
    match kind {
        Kind::Stream => How::BlockedAccept,
        Kind::Datagram => How::BlockedReceive,
    }
}

/// A system call that may wait for a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Accept { descriptor: RawFd },
    Receive { descriptor: RawFd },
    Poll { address: usize, count: usize },
    Select { address: usize, count: usize },
}

/// The calls by their numbers, which differ between architectures.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod number {
    use libc::c_long;

    pub(super) const ARE_KNOWN: bool = true;
    pub(super) const ACCEPT: &[c_long] = &[libc::SYS_accept, libc::SYS_accept4];
    pub(super) const RECEIVE: &[c_long] = &[libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_recvmmsg, libc::SYS_read];
    #[cfg(target_arch = "x86_64")]
    pub(super) const POLL: &[c_long] = &[libc::SYS_poll, libc::SYS_ppoll];
    #[cfg(target_arch = "x86_64")]
    pub(super) const SELECT: &[c_long] = &[libc::SYS_select, libc::SYS_pselect6];
    #[cfg(target_arch = "aarch64")]
    pub(super) const POLL: &[c_long] = &[libc::SYS_ppoll];
    #[cfg(target_arch = "aarch64")]
    pub(super) const SELECT: &[c_long] = &[libc::SYS_pselect6];
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod number {
    use libc::c_long;

    pub(super) const ARE_KNOWN: bool = false;
    pub(super) const ACCEPT: &[c_long] = &[];
    pub(super) const RECEIVE: &[c_long] = &[];
    pub(super) const POLL: &[c_long] = &[];
    pub(super) const SELECT: &[c_long] = &[];
}

impl Call {
    /// Reads `NUMBER ARGUMENT…`, or `running`, or `-1` for a thread that is blocked elsewhere.
    fn parse(text: &str, kind: Kind) -> Result<Option<Call>, Reason> {
        let mut words = text.split_ascii_whitespace();
        let Some(number) = words.next().and_then(|word| word.parse().ok()).filter(|&number| number >= 0) else {
            return Ok(None);
        };
        if !number::ARE_KNOWN {
            return Err(Reason::Architecture);
        }
        let mut argument =
            || words.next().and_then(|word| u64::from_str_radix(word.strip_prefix("0x")?, 16).ok()).unwrap_or(0);
        let (first, second) = (argument(), argument());
        Ok(match kind {
            Kind::Stream if number::ACCEPT.contains(&number) => Some(Call::Accept { descriptor: low_half(first) }),
            Kind::Datagram if number::RECEIVE.contains(&number) => Some(Call::Receive { descriptor: low_half(first) }),
            _ if number::POLL.contains(&number) => {
                Some(Call::Poll { address: address(first), count: count(second, MOST_POLLED) })
            }
            _ if number::SELECT.contains(&number) => {
                Some(Call::Select { address: address(second), count: count(first, MOST_SELECTED) })
            }
            _ => None,
        })
    }

    fn how(self) -> How {
        match self {
            Call::Accept { .. } => How::BlockedAccept,
            Call::Receive { .. } => How::BlockedReceive,
            Call::Poll { .. } => How::Poll,
            Call::Select { .. } => How::Select,
        }
    }

    /// The listener that it waits for.
    fn target(self, pid: i32, open: &Open) -> Result<Option<usize>, Reason> {
        match self {
            Call::Accept { descriptor } | Call::Receive { descriptor } => Ok(open.target(descriptor)),
            Call::Poll { address, count } => {
                let mut entries = vec![0; count * size_of::<libc::pollfd>()];
                let entries = read_memory(pid, address, &mut entries)?;
                Ok(polled_for_input(entries).find_map(|descriptor| open.target(descriptor)))
            }
            Call::Select { address, count } => {
                let mut set = vec![0; count.div_ceil(c_ulong::BITS as usize) * size_of::<c_ulong>()];
                let set = read_memory(pid, address, &mut set)?;
                let mut held = open.targets.iter();
                Ok(held.find(|&&(descriptor, _)| is_selected(set, descriptor)).map(|&(_, listener)| listener))
            }
        }
    }
}

/// The kernel takes only the lower half of a register for an `int`; the other may hold anything.
fn low_half(register: u64) -> i32 {
    register as i32
}

fn address(register: u64) -> usize {
    usize::try_from(register).unwrap_or(0)
}

fn count(register: u64, most: usize) -> usize {
    usize::try_from(low_half(register)).unwrap_or(0).min(most)
}

/// The descriptors in an array of `struct pollfd` of which the caller wants to know when there is input.
fn polled_for_input(entries: &[u8]) -> impl Iterator<Item = RawFd> {
    entries.chunks_exact(size_of::<libc::pollfd>()).filter_map(|entry| {
        let (descriptor, rest) = entry.split_first_chunk()?;
        let (events, _) = rest.split_first_chunk()?;
        let for_input = i16::from_ne_bytes(*events) & (libc::POLLIN | libc::POLLRDNORM) != 0;
        for_input.then_some(RawFd::from_ne_bytes(*descriptor))
    })
}

/// Whether a descriptor is in an `fd_set`.
fn is_selected(set: &[u8], descriptor: RawFd) -> bool {
    let Ok(descriptor) = usize::try_from(descriptor) else { return false };
    let bits = c_ulong::BITS as usize;
    let word = set.chunks_exact(size_of::<c_ulong>()).nth(descriptor / bits).and_then(|word| word.try_into().ok());
    word.is_some_and(|word| c_ulong::from_ne_bytes(word) >> (descriptor % bits) & 1 == 1)
}

/// Reads the memory of another process as far as it is there.
fn read_memory(pid: i32, address: usize, buffer: &mut [u8]) -> Result<&[u8], Reason> {
    let local = iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = iovec { iov_base: std::ptr::without_provenance_mut(address), iov_len: buffer.len() };
    // SAFETY: the kernel writes to no more than the one local buffer, which is borrowed for as long; the remote address
    // means something only in the other process and may be wrong without harm, which is EFAULT.
    let length = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    match usize::try_from(length).map_err(|_| io::Error::last_os_error()) {
        Ok(length) => Ok(buffer.get(..length).unwrap_or_default()),
        // The thread has moved on, and what it waited for is gone.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EFAULT | libc::ESRCH)) => Ok(&[]),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(Reason::Denied { pid, what: format!("the memory of the process {pid}") })
        }
        Err(error) => Err(Reason::Failed { what: format!("the memory of the process {pid}"), error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_do_not_wait_for_a_listener_are_passed_over() {
        for text in ["running\n", "-1 0x7ffe 0x7f4a\n", "", "x", "-1"] {
            assert_eq!(Call::parse(text, Kind::Stream).unwrap(), None, "{text}");
        }
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    #[test]
    fn calls_are_read_with_their_arguments() {
        let parse = |number, arguments: &str, kind| Call::parse(&format!("{number} {arguments}\n"), kind).unwrap();
        let arguments = "0x3 0x7ffef6c9ff70 0x7ffef6c9ff64 0x80000 0x0 0x0 0x7ffef6c9ff38 0x7f5334528f63";
        assert_eq!(parse(libc::SYS_accept4, arguments, Kind::Stream), Some(Call::Accept { descriptor: 3 }));
        assert_eq!(parse(libc::SYS_accept4, arguments, Kind::Datagram), None);
        assert_eq!(parse(libc::SYS_recvfrom, arguments, Kind::Datagram), Some(Call::Receive { descriptor: 3 }));
        assert_eq!(parse(libc::SYS_recvfrom, arguments, Kind::Stream), None);
        let garbage_above = "0xdeadbeef00000007 0x0";
        assert_eq!(parse(libc::SYS_accept, garbage_above, Kind::Stream), Some(Call::Accept { descriptor: 7 }));
        assert_eq!(parse(libc::SYS_ppoll, "0x1000 0x2", Kind::Stream), Some(Call::Poll { address: 0x1000, count: 2 }));
        let select = parse(libc::SYS_pselect6, "0x4 0x1000", Kind::Stream);
        assert_eq!(select, Some(Call::Select { address: 0x1000, count: 4 }));
        let huge = parse(libc::SYS_ppoll, "0x1000 0x7fffffff", Kind::Stream);
        assert_eq!(huge, Some(Call::Poll { address: 0x1000, count: MOST_POLLED }));
        let negative = parse(libc::SYS_pselect6, "0xffffffff 0x1000", Kind::Stream);
        assert_eq!(negative, Some(Call::Select { address: 0x1000, count: 0 }));
    }

    #[test]
    fn only_input_counts_in_a_poll() {
        let entry =
            |descriptor: RawFd, events: i16| [&descriptor.to_ne_bytes()[..], &events.to_ne_bytes(), &[0, 0]].concat();
        let entries =
            [entry(3, libc::POLLOUT), entry(4, libc::POLLIN | libc::POLLPRI), entry(-1, libc::POLLIN)].concat();
        assert_eq!(polled_for_input(&entries).collect::<Vec<_>>(), [4, -1]);
        assert_eq!(polled_for_input(&entries[..15]).count(), 0, "half an entry says nothing");
    }

    #[test]
    fn descriptors_are_found_in_a_set() {
        let mut set = vec![0; 2 * size_of::<c_ulong>()];
        set[..size_of::<c_ulong>()].copy_from_slice(&c_ulong::to_ne_bytes(1 << 3));
        set[size_of::<c_ulong>()..].copy_from_slice(&c_ulong::to_ne_bytes(1));
        let next = RawFd::try_from(c_ulong::BITS).unwrap();
        let selected: Vec<RawFd> = (-1..200).filter(|&descriptor| is_selected(&set, descriptor)).collect();
        assert_eq!(selected, [3, next]);
    }

    #[test]
    fn memory_is_read_as_far_as_it_is_there() {
        let own = rustix::process::getpid().as_raw_pid();
        let text = *b"what is here";
        let mut buffer = [0; 12];
        assert_eq!(read_memory(own, (&raw const text).addr(), &mut buffer).unwrap(), &text);
        assert_eq!(read_memory(own, 8, &mut buffer).unwrap(), b"");
        assert_eq!(read_memory(i32::MAX, 8, &mut buffer).unwrap(), b"");
        assert_eq!(read_memory(own, 8, &mut []).unwrap(), b"");
    }
}
