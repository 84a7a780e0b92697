//! Unix sockets: made, bound, with a file that is ours or under an abstract name, and made to listen.
//! The listeners call [`open`] for each of them.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Uid, chownat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::umask;
use sys::accounts;

use super::socket_file::{SocketFile, change};
use super::{Bound, ListenError, errno_reason, socket_options};
use crate::errno::{io_reason, reason};
use crate::file_identity::FileIdentity;
use crate::files::{Directories, Place, is_ours};
use crate::listen_spec::{Account, LONGEST_PATH, ListenOptions, UnixAddress};
use crate::orphans::{Inheritance, inherit, unix_sockets_at};

/// Whoever may enter the directory may connect, as ever.
const DEFAULT_MODE: u32 = 0o777;

/// A bound socket; if it is for streams it listens. `report` gets lines to log.
pub fn open(
    at: &UnixAddress,
    kind: SocketType,
    options: &ListenOptions,
    directories: &mut Directories,
    report: &mut dyn FnMut(String),
) -> Result<Bound, ListenError> {
    let bound = match at {
        UnixAddress::Path(path) => at_path(path, kind, options, directories, report)?,
        UnixAddress::Abstract(name) => under_name(name, kind)?,
    };
    set_options(&bound.socket, &place(at), kind, options)?;
    Ok(bound)
}

/// A new socket that is bound to a path. Whoever connects finds it with these permissions from the first moment on.
fn bind_path(path: &Path, kind: SocketType, mode: u32) -> Result<OwnedFd, ListenError> {
    let address = address_of(path)?;
    let socket = new_socket(kind)?;
    let before = umask(!Mode::from_raw_mode(mode) & Mode::from_raw_mode(0o777));
    let bound = rustix::net::bind(&socket, &address);
    umask(before);
    bound.map_err(|errno| cannot_bind(path, errno))?;
    Ok(socket)
}

fn cannot_bind(path: &Path, errno: Errno) -> ListenError {
    let advice = match errno {
        Errno::NOENT | Errno::NOTDIR => "create its directory first",
        Errno::ACCESS | Errno::PERM | Errno::ROFS => "choose a directory in which files can be created",
        _ => "choose another path",
    };
    refused(&path.display().to_string(), errno, advice)
}

/// Where a socket's file is or will be. The kernel binds by the path itself, which clients use and workers are told; what
/// that has come to is looked at here.
///
/// # Errors
/// There is no such directory, or the way there is not to be trusted.
pub fn place_of(path: &Path, directories: &mut Directories) -> Result<Place, ListenError> {
    directories.place(path).map_err(|error| match Errno::from_io_error(&error) {
        Some(errno) => cannot_bind(path, errno),
        None => ListenError(format!(
            "failed to listen to file {}:{}; choose a path without links of others",
            path.display(),
            io_reason(&error)
        )),
    })
}

/// A socket like the first one that was bound to this path, for the listeners to replace that.
///
/// # Errors
/// The path is taken, or cannot be bound any more.
pub fn bind_again(path: &Path, kind: SocketType, mode: u32, options: &ListenOptions) -> Result<OwnedFd, ListenError> {
    let socket = bind_path(path, kind, mode)?;
    set_options(&socket, &path.display().to_string(), kind, options)?;
    Ok(socket)
}

fn set_options(socket: &OwnedFd, place: &str, kind: SocketType, options: &ListenOptions) -> Result<(), ListenError> {
    let cannot = |advice: &'static str| move |errno| refused(place, errno, advice);
    socket_options::set(socket, false, options)
        .map_err(|(_, errno)| cannot("this is the machine's refusal, see fcntl(2)")(errno))?;
    if kind == SocketType::STREAM {
        rustix::net::listen(socket, socket_options::backlog(options))
            .map_err(cannot("this is the machine's refusal, see listen(2)"))?;
    }
    Ok(())
}

fn new_socket(kind: SocketType) -> Result<OwnedFd, ListenError> {
    rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).map_err(super::cannot_create)
}

fn address_of(path: &Path) -> Result<SocketAddrUnix, ListenError> {
    // The kernel would take a path without its closing zero, but not every client could connect to it.
    let fitting = if path.as_os_str().len() > LONGEST_PATH { Err(Errno::NAMETOOLONG) } else { Ok(path) };
    fitting.and_then(SocketAddrUnix::new).map_err(|errno| {
        let advice = "the path of a unix socket can have 107 bytes; choose a shorter one, or a relative one";
        refused(&path.display().to_string(), errno, advice)
    })
}

fn at_path(
    path: &Path,
    kind: SocketType,
    options: &ListenOptions,
    directories: &mut Directories,
    report: &mut dyn FnMut(String),
) -> Result<Bound, ListenError> {
    let address = address_of(path)?;
    let place = place_of(path, directories)?;
    let (socket, orphans, inherited) = match make_way(path, &place, &address, report)? {
        Some(inheritance) => (inheritance.socket, inheritance.orphans, true),
        None => (bind_path(path, kind, options.mode.unwrap_or(DEFAULT_MODE))?, Vec::new(), false),
    };
    let mut file = SocketFile::of(&socket, path, &place)?;
    file.inherited = inherited;
    let bound = Bound { socket, file: Some(file), orphans };
    // A new one was made with its mode.
    let mode = options.mode.filter(|_| inherited);
    set_permissions(&bound.socket, path, &place, mode, options)?;
    Ok(bound)
}

fn under_name(name: &[u8], kind: SocketType) -> Result<Bound, ListenError> {
    let shown = format!("@{}", String::from_utf8_lossy(name));
    let address = SocketAddrUnix::new_abstract_name(name)
        .map_err(|errno| refused(&shown, errno, "the name of an abstract socket can have 107 bytes"))?;
    let socket = new_socket(kind)?;
    match rustix::net::bind(&socket, &address) {
        Ok(()) => Ok(Bound::new(socket, None)),
        Err(Errno::ADDRINUSE) => {
            let inheritance = inherit(&address.into(), &unix_sockets_at(Path::new(&shown))).map_err(|why| {
                let advice = format!("stop it or choose another name; it is not taken over, because {why}");
                refused(&shown, Errno::ADDRINUSE, &format!("another process has it; {advice}"))
            })?;
            Ok(Bound { socket: inheritance.socket, file: None, orphans: inheritance.orphans })
        }
        Err(errno) => Err(refused(&shown, errno, "choose another name")),
    }
}

/// Gives the socket's file, which is there already, the mode and the owner that were asked for.
pub fn set_permissions(
    socket: impl AsFd,
    path: &Path,
    place: &Place,
    mode: Option<u32>,
    options: &ListenOptions,
) -> Result<(), ListenError> {
    if mode.is_none() && options.owner.is_none() && options.group.is_none() {
        return Ok(());
    }
    let owner = options.owner.as_ref().map(|owner| number(path, "owner", owner, accounts::user_id)).transpose()?;
    let group = options.group.as_ref().map(|group| number(path, "group", group, accounts::group_id)).transpose()?;
    change(socket, path, place, |file, found| {
        if let Some(mode) = mode.filter(|mode| *mode != found.st_mode & 0o7777) {
            sys::file_mode::set(file, mode).map_err(|error| {
                cannot_change(path, "mode", &io_reason(&error), "leave the option out, or start as the file's owner")
            })?;
        }
        if owner.is_none_or(|owner| owner == found.st_uid) && group.is_none_or(|group| group == found.st_gid) {
            return Ok(());
        }
        let (owner, group) = (owner.map(Uid::from_raw), group.map(Gid::from_raw));
        chownat(file, c"", owner, group, AtFlags::EMPTY_PATH).map_err(|errno| {
            let advice = "only root can give a file away; start as root, or choose a group that this user belongs to";
            cannot_change(path, "owner or group", &reason(errno.raw_os_error()), advice)
        })
    })
}

type Lookup = fn(&std::ffi::CStr) -> io::Result<Option<u32>>;

fn number(path: &Path, what: &str, account: &Account, look_up: Lookup) -> Result<u32, ListenError> {
    let name = match account {
        Account::Id(id) => return Ok(*id),
        Account::Name(name) => name,
    };
    let found = CString::new(name.as_bytes()).map_err(io::Error::from).and_then(|name| look_up(&name));
    let advice = "give one that exists, or a number";
    match found {
        Ok(Some(id)) => Ok(id),
        Ok(None) => Err(cannot_change(path, what, &format!("there is no {name}"), advice)),
        Err(error) => Err(cannot_change(path, what, &io_reason(&error), advice)),
    }
}

/// Why a socket's file cannot be changed.
pub fn cannot_change(path: &Path, what: &str, why: &str, advice: &str) -> ListenError {
    ListenError(format!("failed to change the {what} of the socket file {}:{why}; {advice}", path.display()))
}

fn place(at: &UnixAddress) -> String {
    match at {
        UnixAddress::Path(path) => path.display().to_string(),
        UnixAddress::Abstract(name) => format!("@{}", String::from_utf8_lossy(name)),
    }
}

/// Why a unix socket cannot be listened on.
pub fn refused(place: &str, errno: Errno, advice: &str) -> ListenError {
    ListenError(format!("failed to listen to file {place}:{}; {advice}", errno_reason(errno)))
}

/// Removes what a superdaemon that was killed has left behind, and nothing else. If its workers still serve there, the
/// socket is taken over from them.
fn make_way(
    path: &Path,
    place: &Place,
    address: &SocketAddrUnix,
    report: &mut dyn FnMut(String),
) -> Result<Option<Inheritance>, ListenError> {
    // What cannot be looked at is left for bind(2) to complain about.
    let Ok(found) = place.look() else { return Ok(None) };
    let mut target = Some(FileType::from_raw_mode(found.st_mode));
    let link = target == Some(FileType::Symlink);
    if link {
        if !is_ours(found.st_uid) {
            let advice = format!(
                "a symbolic link of user {} is there, which is not followed; remove it or choose another path",
                found.st_uid
            );
            return Err(refused(&path.display().to_string(), Errno::ADDRINUSE, &advice));
        }
        target = match std::fs::metadata(path) {
            Ok(target) => Some(FileType::from_raw_mode(target.mode())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(_) => {
                let advice = "a symbolic link to something unknown is there and was left alone; remove it or choose \
                              another path";
                return Err(refused(&path.display().to_string(), Errno::ADDRINUSE, advice));
            }
        };
    }
    if let Some(target) = target {
        let in_the_way = if link || target != FileType::Socket { Vec::new() } else { unix_sockets_at(path) };
        if !in_the_way.is_empty() {
            match inherit(&address.clone().into(), &in_the_way) {
                Ok(inheritance) => return Ok(Some(inheritance)),
                Err(why) => refuse_all_but_stale_sockets(path, address, target, link)
                    .map_err(|ListenError(text)| ListenError(format!("{text}; it is not taken over, because {why}")))?,
            }
        }
        refuse_all_but_stale_sockets(path, address, target, link)?;
    }
    report(format!("removing existing socket file:{}", path.display()));
    // What has taken its name meanwhile is left alone; bind(2) complains.
    let removed = if place.has(FileIdentity::of_stat(&found)) { place.remove() } else { Ok(()) };
    match removed {
        Ok(()) | Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(ListenError(format!(
            "failed to remove existing socket file:{}:{}; remove it or choose another path",
            path.display(),
            errno_reason(errno)
        ))),
    }
}

fn refuse_all_but_stale_sockets(
    path: &Path,
    address: &SocketAddrUnix,
    kind: FileType,
    link: bool,
) -> Result<(), ListenError> {
    let link = if link { "a symbolic link to " } else { "" };
    if kind != FileType::Socket {
        let kind = match kind {
            FileType::RegularFile => "a regular file",
            FileType::Directory => "a directory",
            _ => "something that is not a socket",
        };
        let advice = format!("{link}{kind} is there and was left alone; remove it or choose another path");
        return Err(refused(&path.display().to_string(), Errno::ADDRINUSE, &advice));
    }
    match probe(address) {
        // Nobody listens; or it went away while we looked.
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        // A full accept queue, and a socket of another type, show that it is in use as an answer does.
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS | Errno::PROTOTYPE) => {
            let advice =
                format!("{link}a socket is there on which another process listens; stop it or choose another path");
            Err(refused(&path.display().to_string(), Errno::ADDRINUSE, &advice))
        }
        Err(errno) => {
            let advice = format!(
                "{link}a socket is there, and whether somebody listens on it cannot be told ({}); remove it or choose \
                 another path",
                errno_reason(errno)
            );
            Err(refused(&path.display().to_string(), Errno::ADDRINUSE, &advice))
        }
    }
}

fn probe(address: &SocketAddrUnix) -> rustix::io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&socket, address)
}
