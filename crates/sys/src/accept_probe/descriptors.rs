//! What a process has open: listeners, epoll sets with what they watch, io_urings with what they have in hand.
//! See proc_pid_fd(5) and proc_pid_fdinfo(5).

use std::mem::MaybeUninit;

use rustix::fs::{Mode, OFlags, RawDir, readlinkat_raw};
use rustix::io::Errno;

use super::{Budget, How, Kind, MOST_DESCRIPTORS, Probe, RawFd, Reason, files};

/// So many bytes of a file are read: an epoll set that watches 10,000 sockets has no more.
const MOST_FDINFO: u64 = 1 << 20;

/// Numbers of io_uring requests, see io_uring_enter(2).
const IORING_OP_RECVMSG: u32 = 10;
const IORING_OP_ACCEPT: u32 = 13;

/// The descriptors of a process that matter.
pub(super) struct Open {
    /// Those of a listener, each with the position of the listener.
    pub(super) targets: Vec<(RawFd, usize)>,
    /// Other sockets.
    pub(super) other_sockets: Vec<RawFd>,
    /// Whether there are no descriptors at all, as in a zombie.
    pub(super) is_empty: bool,
    /// Whether all descriptors were looked at.
    pub(super) is_complete: bool,
    epoll_sets: Vec<RawFd>,
    rings: Vec<RawFd>,
}

impl Open {
    pub(super) fn holds_target(&self) -> bool {
        !self.targets.is_empty()
    }

    /// The listener that this descriptor is.
    pub(super) fn target(&self, descriptor: RawFd) -> Option<usize> {
        self.targets.iter().find(|&&(held, _)| held == descriptor).map(|&(_, listener)| listener)
    }

    /// The only listener that is open, if it is the only one.
    pub(super) fn only_target(&self) -> Option<usize> {
        let (_, first) = self.targets.first().copied()?;
        self.targets.iter().all(|&(_, listener)| listener == first).then_some(first)
    }
}

/// What matters among the descriptors of a process; `None` if it is gone.
pub(super) fn open_in(pid: i32, probe: &Probe, budget: &mut Budget) -> Result<Option<Open>, Reason> {
    let path = format!("/proc/{pid}/fd");
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&path, flags, Mode::empty()).map_err(Into::into);
    let Some(directory) = files::unless_gone(opened, pid, &path)? else { return Ok(None) };

    let mut open = Open {
        targets: vec![],
        other_sockets: vec![],
        is_empty: true,
        is_complete: true,
        epoll_sets: vec![],
        rings: vec![],
    };
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut entries = RawDir::new(&directory, &mut buffer);
    let mut count = 0;
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
            other => match files::unless_gone(other.map_err(Into::into), pid, &path)? {
                Some(entry) => entry,
                None => break,
            },
        };
        let Some(descriptor) = entry.file_name().to_str().ok().and_then(|name| name.parse::<RawFd>().ok()) else {
            continue;
        };
        open.is_empty = false;
        count += 1;
        if count > MOST_DESCRIPTORS || !budget.spend() {
            open.is_complete = false;
            break;
        }
        // Longer targets are none of ours.
        let mut target = [MaybeUninit::uninit(); 48];
        let read = readlinkat_raw(&directory, entry.file_name(), &mut target).map_err(Into::into);
        if let Some((target, _)) = files::unless_gone(read, pid, &path)? {
            open.note(descriptor, target, probe);
        }
    }
    Ok(Some(open))
}

impl Open {
    fn note(&mut self, descriptor: RawFd, target: &[u8], probe: &Probe) {
        match Target::parse(target) {
            Some(Target::Socket(inode)) => match probe.index_of(inode) {
                Some(listener) => self.targets.push((descriptor, listener)),
                None => self.other_sockets.push(descriptor),
            },
            Some(Target::EpollSet) => self.epoll_sets.push(descriptor),
            Some(Target::Ring) => self.rings.push(descriptor),
            None => {}
        }
    }
}

/// What the link of a descriptor points at.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Socket(u64),
    EpollSet,
    Ring,
}

impl Target {
    fn parse(link: &[u8]) -> Option<Target> {
        match link {
            b"anon_inode:[eventpoll]" => Some(Target::EpollSet),
            b"anon_inode:[io_uring]" => Some(Target::Ring),
            _ => {
                let inode = link.strip_prefix(b"socket:[")?.strip_suffix(b"]")?;
                Some(Target::Socket(str::from_utf8(inode).ok()?.parse().ok()?))
            }
        }
    }
}

/// The listener that an epoll set of this process watches, or on which an io_uring waits.
///
/// An epoll set that is watched by another one needs no thought: it is open in the process, or it does not exist.
pub(super) fn waiting(pid: i32, probe: &Probe, open: &Open) -> Result<Option<(Option<usize>, How)>, Reason> {
    let mut is_complete = true;
    for &descriptor in &open.epoll_sets {
        if let Some(file) = files::open(pid, &format!("fdinfo/{descriptor}"))? {
            let (listener, all_read) = files::find_in_lines(file, MOST_FDINFO, |line| {
                let watched = Watched::parse(line).filter(|watched| watched.for_input)?;
                let same = |target: &&super::Target| (target.inode, target.device) == (watched.inode, watched.device);
                probe.targets.iter().find(same).map(|target| target.index)
            });
            if listener.is_some() {
                return Ok(Some((listener, How::Epoll)));
            }
            is_complete &= all_read;
        }
    }
    for &descriptor in &open.rings {
        if let Some(file) = files::open(pid, &format!("fdinfo/{descriptor}"))? {
            let mut ring = Ring::default();
            let (_, all_read) = files::find_in_lines(file, MOST_FDINFO, |line| {
                ring.see(line, probe);
                None::<()>
            });
            if ring.is_waiting && (open.holds_target() || ring.listener.is_some()) {
                return Ok(Some((open.only_target().or(ring.listener), How::IoUring)));
            }
            is_complete &= all_read;
        }
    }
    if is_complete { Ok(None) } else { Err(Reason::TooMuch { pid }) }
}

/// What a line of an epoll set's fdinfo tells:
/// `tfd:        3 events: 80000019 data:        3  pos:0 ino:9acf2 sdev:9`
#[derive(Debug, PartialEq, Eq)]
struct Watched {
    inode: u64,
    device: u64,
    for_input: bool,
}

impl Watched {
    fn parse(line: &str) -> Option<Watched> {
        line.strip_prefix("tfd:")?;
        let field = |name: &str| {
            let (_, rest) = line.split_once(name)?;
            u64::from_str_radix(rest.split_ascii_whitespace().next()?, 16).ok()
        };
        let input = (libc::EPOLLIN | libc::EPOLLRDNORM).unsigned_abs();
        let for_input = field(" events:")? & u64::from(input) != 0;
        Some(Watched { inode: field(" ino:")?, device: field(" sdev:")?, for_input })
    }
}

/// What the fdinfo of an io_uring tells, line by line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ring {
    /// Whether it has a request to accept, or to receive, in hand.
    is_waiting: bool,
    /// A listener that was handed over to the ring.
    listener: Option<usize>,
    in_poll_list: bool,
}

impl Ring {
    fn see(&mut self, line: &str, probe: &Probe) {
        let wanted = match probe.kind {
            Kind::Stream => IORING_OP_ACCEPT,
            Kind::Datagram => IORING_OP_RECVMSG,
        };
        if !line.starts_with(' ') {
            self.in_poll_list = line.starts_with("PollList:");
        } else if self.in_poll_list {
            // "  op=13, task_works=0"
            let request = line.trim_start().strip_prefix("op=").and_then(|rest| rest.split(',').next());
            self.is_waiting |= request.and_then(|number| number.parse().ok()) == Some(wanted);
        } else if let Some((_, link)) = line.split_once(": ")
            && let Some(Target::Socket(inode)) = Target::parse(link.trim().as_bytes())
        {
            // "    0: socket:[129527]"
            self.listener = self.listener.or(probe.index_of(inode));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(kind: Kind) -> Probe {
        Probe { targets: vec![super::super::Target { index: 4, inode: 99, device: 9, name: None }], kind }
    }

    #[test]
    fn links_of_descriptors_are_told_apart() {
        assert_eq!(Target::parse(b"socket:[12]"), Some(Target::Socket(12)));
        assert_eq!(Target::parse(b"anon_inode:[eventpoll]"), Some(Target::EpollSet));
        assert_eq!(Target::parse(b"anon_inode:[io_uring]"), Some(Target::Ring));
        for other in ["/tmp/socket:[12]", "socket:[x]", "socket:[12", "", "pipe:[12]", "socket:[12] (deleted)"] {
            assert_eq!(Target::parse(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn a_line_of_an_epoll_set_is_read() {
        let line = |events: &str| {
            Watched::parse(&format!("tfd:        3 events: {events} data: 1000000005  pos:0 ino:9acf2 sdev:9\n"))
        };
        let watched = |for_input| Some(Watched { inode: 0x9_acf2, device: 9, for_input });
        assert_eq!(line("80000019"), watched(true));
        assert_eq!(line("10000001"), watched(true), "with EPOLLEXCLUSIVE");
        assert_eq!(line("      40"), watched(true), "EPOLLRDNORM");
        assert_eq!(line("       4"), watched(false), "only for output");
        assert_eq!(line("40000000"), watched(false), "a one-shot that has had its shot");
        assert_eq!(Watched::parse("pos:\t0\n"), None);
        assert_eq!(Watched::parse("tfd: 3 events: 19 data: 3\n"), None, "before Linux 4.13");
    }

    #[test]
    fn an_io_uring_is_read() {
        let see = |kind, text: &str| {
            let mut ring = Ring::default();
            text.lines().for_each(|line| ring.see(line, &probe(kind)));
            (ring.is_waiting, ring.listener)
        };
        let text = |op| {
            format!(
                "pos:\t0\nSQEs:\t0\nUserFiles:\t1\n    0: socket:[99]\nUserBufs:\t0\nPollList:\n  op=6, \
                     task_works=0\n  op={op}, task_works=0\nCqOverflowList:\n  user_data=13, res=13, flags=0\n"
            )
        };
        assert_eq!(see(Kind::Stream, &text(13)), (true, Some(4)));
        assert_eq!(see(Kind::Stream, &text(10)), (false, Some(4)));
        assert_eq!(see(Kind::Datagram, &text(10)), (true, Some(4)));
        assert_eq!(see(Kind::Stream, "PollList:\nCqOverflowList:\n  op=13, task_works=0\n"), (false, None));
    }
}
