//! Writes down everything that the program was given: `testkit::Dump` says what, and reads it.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_getfd};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, getsockname, sockopt};

use crate::watch;

/// Collects the facts, by name. To be called before anything is changed or opened.
pub fn collect() -> BTreeMap<String, String> {
    let mut facts = descriptors();
    let mut fact = |name: &str, value: String| facts.insert(name.to_owned(), value);
    fact("argv", lossy(std::env::args_os()).join(" "));
    fact("cwd", std::env::current_dir().map_or_else(|error| error.to_string(), |dir| dir.display().to_string()));
    // Asked of the C library: in a PID namespace whose first process leads neither its group nor its session both are 0,
    // which is no PID to rustix.
    // SAFETY: all four only return a number.
    let (pid, parent, group, session) = unsafe { (libc::getpid(), libc::getppid(), libc::getpgrp(), libc::getsid(0)) };
    fact("parent", parent.to_string());
    fact("group", group.to_string());
    fact("session", session.to_string());
    fact("own group", (group == pid).to_string());
    fact("own session", (session == pid).to_string());
    let status = fs::read_to_string("/proc/self/status").expect("cannot read /proc/self/status");
    for (name, value) in status.lines().filter_map(|line| line.split_once(":\t")) {
        match name {
            "SigBlk" | "SigIgn" | "SigCgt" => fact(name, value.to_owned()),
            "Umask" => fact("umask", value.to_owned()),
            _ => None,
        };
    }
    for (name, value) in std::env::vars_os() {
        fact(&format!("env {}", name.to_string_lossy()), value.to_string_lossy().into_owned());
    }
    facts
}

/// Writes the facts into `file`.
pub fn write(file: &Path, facts: &BTreeMap<String, String>) {
    // NUL is the one byte that no fact can hold.
    let text: String = facts.iter().map(|(name, value)| format!("{name}\t{value}\0")).collect();
    fs::write(file, text).expect("cannot write the dump");
}

fn lossy(words: impl Iterator<Item = std::ffi::OsString>) -> Vec<String> {
    words.map(|word| word.to_string_lossy().into_owned()).collect()
}

fn descriptors() -> BTreeMap<String, String> {
    let entries = fs::read_dir("/proc/self/fd").expect("cannot read /proc/self/fd");
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let numbers: Vec<i32> = names.filter_map(|name| name.parse().ok()).collect();
    // By now the directory is closed, and with it the one descriptor that was ours: it cannot be described.
    numbers.into_iter().filter_map(|number| Some((format!("fd {number}"), describe(number)?))).collect()
}

fn describe(number: i32) -> Option<String> {
    let kind = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
    // SAFETY: the descriptor is open, as the link shows, and nothing closes it while this function runs: there is one
    // thread.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    let mut words = vec![match kind.to_str() {
        Some(name) if name.starts_with("socket:") => socket(fd),
        Some(name) if name.starts_with("pipe:") => "pipe".to_owned(),
        _ => kind.display().to_string(),
    }];
    if fcntl_getfl(fd).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK)) {
        words.push("nonblocking".to_owned());
    }
    if fcntl_getfd(fd).is_ok_and(|flags| flags.contains(FdFlags::CLOEXEC)) {
        words.push("close-on-exec".to_owned());
    }
    Some(words.join(" "))
}

/// For example `tcp 127.0.0.1:80 listening reuseaddr backlog=128`.
fn socket(fd: BorrowedFd<'_>) -> String {
    let stream = sockopt::socket_type(fd) == Ok(SocketType::STREAM);
    let family = sockopt::socket_domain(fd).ok();
    let kind = match (family, stream) {
        (Some(AddressFamily::UNIX), true) => "unix",
        (Some(AddressFamily::UNIX), false) => "unix-datagram",
        (_, true) => "tcp",
        (_, false) => "udp",
    };
    let mut words = vec![kind.to_owned(), address(fd).unwrap_or_else(|| "-".to_owned())];
    let mut flag = |name: &str, set: bool| {
        if set {
            words.push(name.to_owned());
        }
    };
    flag("listening", sockopt::socket_acceptconn(fd) == Ok(true));
    flag("reuseaddr", sockopt::socket_reuseaddr(fd) == Ok(true));
    flag("reuseport", sockopt::socket_reuseport(fd) == Ok(true));
    if family == Some(AddressFamily::INET6) {
        flag("v6only", sockopt::ipv6_v6only(fd) == Ok(true));
    }
    if kind == "tcp" {
        flag("nodelay", sockopt::tcp_nodelay(fd) == Ok(true));
        flag("keepalive", sockopt::socket_keepalive(fd) == Ok(true));
        for (name, option) in [("defer-accept", libc::TCP_DEFER_ACCEPT), ("fastopen", libc::TCP_FASTOPEN)] {
            match tcp_option(fd, option) {
                None | Some(0) => {}
                Some(value) => words.push(format!("{name}={value}")),
            }
        }
    }
    if kind == "tcp"
        && let Some(backlog) = watch::backlog(fd)
    {
        words.push(format!("backlog={backlog}"));
    }
    words.join(" ")
}

fn tcp_option(fd: BorrowedFd<'_>, option: i32) -> Option<i32> {
    let (mut value, mut length) = (0_i32, 4);
    // SAFETY: the kernel writes at most four bytes, into ours.
    let result = unsafe {
        let value = (&raw mut value).cast();
        libc::getsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, option, value, &raw mut length)
    };
    (result == 0).then_some(value)
}

fn address(fd: BorrowedFd<'_>) -> Option<String> {
    let address = getsockname(fd).ok()?;
    if let Ok(address) = std::net::SocketAddr::try_from(address.clone()) {
        return Some(address.to_string());
    }
    let address = SocketAddrUnix::try_from(address).ok()?;
    match address.abstract_name() {
        Some(name) => Some(format!("@{}", String::from_utf8_lossy(name))),
        None => Some(address.path()?.to_string_lossy().into_owned()),
    }
}
