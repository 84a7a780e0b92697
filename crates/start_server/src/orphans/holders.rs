//! Who holds a socket, and whether that is a worker: what /proc says about it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::net::SocketAddrAny;
use rustix::process::geteuid;
use sys::process_tree;
use sys::unix_table::{self, Name};

use super::refusal;

/// A process that holds a socket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Holder {
    pub pid: i32,
    /// Where it holds it.
    pub descriptor: RawFd,
    /// The socket, as an inode.
    pub socket: u64,
}

/// What a superdaemon wrote into the environment of a worker. Descendants of the worker have it too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marks {
    /// `SERVER_STARTER_GENERATION`
    pub generation: u32,
    /// `SERVER_STARTER_PORT`
    pub variable: OsString,
}

/// What a holder of a socket is to the one who wants it.
pub(super) enum Who {
    /// A worker to which a superdaemon gave this socket, or a descendant of one.
    Worker(Marks),
    /// Somebody who will not hold it for long, in words that go after "because".
    Passing(String),
    /// Anybody else.
    Foreign(String),
}

impl Marks {
    /// Those of a process; `None` if it has none, or is gone.
    ///
    /// # Errors
    /// Its environment may not be read.
    pub fn of(pid: i32) -> io::Result<Option<Self>> {
        match fs::File::open(format!("/proc/{pid}/environ")).and_then(|mut file| io::Read::read(&mut file, &mut [0])) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(error),
            _ => {}
        }
        let marks = || {
            let variable = process_tree::variable(pid, "SERVER_STARTER_PORT")?;
            let generation = process_tree::variable(pid, "SERVER_STARTER_GENERATION")?.to_str()?.parse().ok()?;
            Some(Self { generation, variable })
        };
        Ok(marks())
    }

    /// The worker to whose family a process with these marks belongs: the oldest of its ancestors that has them too.
    pub fn head_of_family(&self, pid: i32) -> i32 {
        const LEVELS: usize = 1000;
        let mut head = pid;
        for _ in 0..LEVELS {
            let Some(parent) = process_tree::read(head).map(|process| process.parent) else { break };
            if parent <= 1 || !Self::of(parent).is_ok_and(|marks| marks.as_ref() == Some(self)) {
                break;
            }
            head = parent;
        }
        head
    }

    /// Whether the worker was given this socket: it has it where it was told to find it, or under a name of that
    /// address. A superdaemon that is itself the worker of another has the marks of its own listeners only.
    fn tell_of(&self, holder: &Holder, address: &SocketAddrAny) -> bool {
        let entries = self.variable.as_bytes().split(|&byte| byte == b';');
        entries.filter_map(|entry| rsplit_once(entry, b'=')).any(|(name, number)| {
            let number = std::str::from_utf8(number).ok().and_then(|number| number.parse::<RawFd>().ok());
            number.is_some_and(|number| socket_at(holder.pid, number) == Some(holder.socket)) || names(name, address)
        })
    }
}

fn rsplit_once(text: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = text.iter().rposition(|&byte| byte == at)?;
    Some((text.get(..place)?, text.get(place + 1..)?))
}

/// Whether a name in `SERVER_STARTER_PORT` may stand for this address: it ends in the same port, or file name.
fn names(name: &[u8], address: &SocketAddrAny) -> bool {
    if let Ok(address) = std::net::SocketAddr::try_from(address.clone()) {
        let port = rsplit_once(name, b':').map_or(name, |(_, port)| port);
        let port = port.strip_prefix(b"u").unwrap_or(port);
        return port == address.port().to_string().as_bytes();
    }
    let unix = rustix::net::SocketAddrUnix::try_from(address.clone()).ok();
    let name_of = |unix: &rustix::net::SocketAddrUnix| unix.path_bytes().or(unix.abstract_name()).map(<[u8]>::to_vec);
    let path = unix.as_ref().and_then(name_of).unwrap_or_default();
    let last = |path: &[u8]| Path::new(OsStr::from_bytes(path)).file_name().map(OsStr::to_owned);
    last(name).is_some() && last(name) == last(&path)
}

fn socket_at(pid: i32, descriptor: RawFd) -> Option<u64> {
    process_tree::socket_of(&fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?)
}

/// Each process that holds one of the sockets, as far as we may see that.
pub(super) fn holders_of(sockets: &[u64]) -> Vec<Holder> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: i32| {
            let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
            descriptors.flatten().find_map(|entry| {
                let socket = process_tree::socket_of(&fs::read_link(entry.path()).ok()?)
                    .filter(|inode| sockets.contains(inode))?;
                Some(Holder { pid, descriptor: entry.file_name().to_str()?.parse().ok()?, socket })
            })
        })
        .collect()
}

/// What `holder` is. `all` are the holders of the socket.
pub(super) fn who(holder: &Holder, all: &[Holder], address: &SocketAddrAny) -> Who {
    let pid = holder.pid;
    if u32::try_from(pid) == Ok(std::process::id()) {
        return Who::Foreign("we hold it ourselves".to_owned());
    }
    let Some(process) = process_tree::read(pid).filter(process_tree::Process::is_staying) else {
        return Who::Passing(format!("pid {pid}, which is just ending, holds it; try again"));
    };
    let marks = match Marks::of(pid) {
        Ok(marks) => marks.filter(|marks| marks.tell_of(holder, address)),
        Err(_) => return Who::Foreign(refusal::closed(pid)),
    };
    if let Some(marks) = marks {
        return match process_tree::user(pid) {
            Some(user) if user == geteuid().as_raw() || geteuid().is_root() => Who::Worker(marks),
            Some(user) => Who::Foreign(refusal::of_another_user(pid, user)),
            None => Who::Passing(format!("its worker (pid {pid}) has just ended; try again")),
        };
    }
    if !is_superdaemon(pid) {
        return Who::Foreign(format!("pid {pid}, which is no worker of a superdaemon, holds it"));
    }
    let has_workers = |process: &process_tree::Process| {
        all.iter().any(|other| process_tree::read(other.pid).is_some_and(|other| other.parent == process.pid))
    };
    if has_workers(&process) {
        return Who::Foreign(format!("pid {pid}, a superdaemon that lives, holds it"));
    }
    // Between fork and exec a worker to be looks like its superdaemon, and outlives it for a moment.
    Who::Passing(format!("pid {pid}, which seems to be a superdaemon that lives, holds it"))
}

/// Whether it runs the program that we run, or one that is called so.
fn is_superdaemon(pid: i32) -> bool {
    let program = |pid: &str| fs::metadata(format!("/proc/{pid}/exe")).map(|file| (file.dev(), file.ino())).ok();
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    program(&pid.to_string()).is_some_and(|its| Some(its) == program("self"))
        || matches!(name.trim_end(), "start_server" | "start_server.rb")
}

/// The inodes of the unix sockets that listen and were bound by this very path, or abstract name after `@`.
pub(super) fn unix_sockets_named(path: &Path) -> Vec<u64> {
    let wanted = match path.as_os_str().as_bytes() {
        [b'@', name @ ..] => Name::Abstract(name.to_vec()),
        // Two sockets may have been bound by the same relative path in different directories.
        _ if !path.is_absolute() => return Vec::new(),
        _ => Name::Path(path.to_owned()),
    };
    let table = unix_table::of_this_process().unwrap_or_default();
    table.into_iter().filter(|row| row.name == wanted).map(|row| row.inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::SocketAddrUnix;
    use std::net::SocketAddr;

    #[test]
    fn names_stand_for_addresses() {
        let tcp: SocketAddrAny = "127.0.0.1:80".parse::<SocketAddr>().unwrap().into();
        for name in ["80", "127.0.0.1:80", "0.0.0.0:80", "[::1]:80", "u80"] {
            assert!(names(name.as_bytes(), &tcp), "{name}");
        }
        for name in ["", "8080", "127.0.0.1:8", "/run/80", "80/run"] {
            assert!(!names(name.as_bytes(), &tcp), "{name}");
        }
        let unix: SocketAddrAny = SocketAddrUnix::new("/run/app.sock").unwrap().into();
        assert!(names(b"/run/app.sock", &unix) && names(b"app.sock", &unix));
        assert!(!names(b"", &unix) && !names(b"80", &unix) && !names(b"/run/app.sock/x", &unix));
    }

    #[test]
    fn only_a_number_in_brackets_is_a_socket() {
        assert_eq!(process_tree::socket_of(Path::new("socket:[4711]")), Some(4711));
        for link in ["pipe:[4711]", "socket:[]", "/tmp/socket:[1]", "socket:[1] (deleted)"] {
            assert_eq!(process_tree::socket_of(Path::new(link)), None, "{link}");
        }
    }

    #[test]
    fn this_process_has_no_marks() {
        let us = i32::try_from(std::process::id()).unwrap();
        assert_eq!(Marks::of(us).unwrap(), None);
        assert_eq!(Marks::of(i32::MAX).unwrap(), None);
        assert!(is_superdaemon(us), "it runs what we run");
    }
}
