//! The unix sockets of a network namespace that are bound and not connected, by their names: `/proc/PID/net/unix`, see
//! proc_pid_net(5). Commands look here where a superdaemon listens, the takeover whose socket is in its way.
//!
//! Names are what whoever bound the socket has chosen, line ends included: a row may be forged. What is read here is
//! where to look, not evidence.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The socket.
    pub inode: u64,
    /// Whether it accepts connections; else it may receive datagrams.
    pub accepts: bool,
    /// What it is bound to.
    pub name: Name,
}

/// What a unix socket is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// A file, by the path that was given.
    Path(PathBuf),
    /// A name in the abstract name space, less the zero byte that it begins with. Zero bytes in it are shown as `@`.
    Abstract(Vec<u8>),
}

/// The sockets in the network namespace of a process.
///
/// # Errors
/// The process is gone or hidden, or there is no `/proc`.
pub fn of_process(pid: i32) -> io::Result<Vec<Row>> {
    Ok(parse(&fs::read(format!("/proc/{pid}/net/unix"))?))
}

/// The sockets in our own network namespace.
///
/// # Errors
/// There is no `/proc`.
pub fn of_this_process() -> io::Result<Vec<Row>> {
    Ok(parse(&fs::read("/proc/self/net/unix")?))
}

fn parse(table: &[u8]) -> Vec<Row> {
    table.split(|&byte| byte == b'\n').filter_map(row).collect()
}

/// `Num RefCount Protocol Flags Type St Inode Path`, the inode padded with blanks, the path to the end of the line.
fn row(line: &[u8]) -> Option<Row> {
    /// `SS_UNCONNECTED`
    const NOT_CONNECTED: &[u8] = b"01";
    /// `__SO_ACCEPTCON`
    const ACCEPTS: u32 = 1 << 16;
    let mut rest = line;
    let mut column = || {
        let start = rest.iter().position(|&byte| byte != b' ')?;
        let text = rest.get(start..)?;
        let end = text.iter().position(|&byte| byte == b' ').unwrap_or(text.len());
        rest = text.get(end..)?;
        text.get(..end)
    };
    let (_number, _references, _protocol, flags) = (column()?, column()?, column()?, column()?);
    let (_kind, state, inode) = (column()?, column()?, column()?);
    let flags = u32::from_str_radix(std::str::from_utf8(flags).ok()?, 16).ok()?;
    let name = match rest.strip_prefix(b" ")? {
        [] => return None,
        [b'@', name @ ..] => Name::Abstract(name.to_vec()),
        path => Name::Path(OsStr::from_bytes(path).into()),
    };
    let inode = std::str::from_utf8(inode).ok()?.parse().ok()?;
    (state == NOT_CONNECTED).then_some(Row { inode, accepts: flags & ACCEPTS != 0, name })
}

#[cfg(test)]
mod tests {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};

    use super::*;

    #[test]
    fn rows_are_read_whatever_the_name() {
        let line = |rest: &str| row(format!("0000000000000000: 00000002 00000000 00010000 0001 01 {rest}").as_bytes());
        let path = |inode, path: &str| Some(Row { inode, accepts: true, name: Name::Path(path.into()) });
        assert_eq!(line("12345 /run/a.sock"), path(12345, "/run/a.sock"));
        assert_eq!(line("  345 /run/with blanks "), path(345, "/run/with blanks "));
        assert_eq!(line("7 relative"), path(7, "relative"));
        assert_eq!(line("7 @a@b").unwrap().name, Name::Abstract(b"a@b".to_vec()));
        for broken in ["12345", "12345 ", "x /run/a.sock", ""] {
            assert_eq!(line(broken), None, "{broken}");
        }
        assert_eq!(row(b"Num       RefCount Protocol Flags    Type St Inode Path"), None);
        assert_eq!(row(b"0: 00000003 00000000 00000000 0001 03 5 /run/connected"), None);
    }

    #[test]
    fn what_is_bound_is_found() {
        let directory = std::env::temp_dir().join(format!("unix_table-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        let at = |name: &str| directory.join(name);
        let name = format!("unix_table-{}", std::process::id());
        let inode = |socket: &dyn std::os::fd::AsFd| rustix::fs::fstat(socket.as_fd()).unwrap().st_ino;
        let listener = UnixListener::bind(at("l")).unwrap();
        let unnamed = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let datagrams = UnixDatagram::bind(at("d")).unwrap();
        let _client = UnixStream::connect(at("l")).unwrap();
        let _accepted = listener.accept().unwrap();
        for table in [of_this_process().unwrap(), of_process(std::process::id() as i32).unwrap()] {
            let find = |wanted: Name| {
                table.iter().filter(|row| row.name == wanted).map(|row| (row.inode, row.accepts)).collect::<Vec<_>>()
            };
            assert_eq!(find(Name::Path(at("l"))), [(inode(&listener), true)]);
            assert_eq!(find(Name::Path(at("d"))), [(inode(&datagrams), false)]);
            assert_eq!(find(Name::Abstract(name.clone().into())), [(inode(&unnamed), true)]);
        }
        assert!(of_process(i32::MAX).is_err());
        fs::remove_dir_all(directory).unwrap();
    }
}
