//! The value of `--listen`: one address of any kind, with a name and options of its own.
//! The command line calls [`parse_listener`].

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::options::{parse_account, parse_mode};
use super::path::check_path;
use super::port::parse_port;
use super::{
    LONGEST_PATH, ListenAddress, ListenOptions, ListenSpec, ListenSpecError, UnixAddress, Why, parse_backlog,
    parse_defer_accept, parse_fastopen, parse_keepalive, parse_switch,
};

/// What can be said after the address.
pub(super) const KEYS: [&str; 13] = [
    "name",
    "fd",
    "backlog",
    "defer-accept",
    "tcp-nodelay",
    "nonblock",
    "v6only",
    "reuseport",
    "keepalive",
    "fastopen",
    "mode",
    "owner",
    "group",
];

/// Reads `ADDRESS[,KEY[=VALUE]]...`.
///
/// ADDRESS is `[HOST:][u]PORT` as in `--port`, also with `tcp:` or `udp:` before it, or `unix:` or `unix-dgram:` with a
/// path or, for an abstract socket, `@` and a name. A path with a comma can only be given by `--path`. A key without a
/// value means `yes`.
///
/// # Errors
/// An address or a key that does not follow the grammar, or that does not go with the kind of the address.
pub fn parse_listener(value: &OsStr) -> Result<ListenSpec, ListenSpecError> {
    let invalid = |why| ListenSpecError { option: "listen", value: value.to_owned(), why };
    let mut parts = value.as_bytes().split(|byte| *byte == b',').map(OsStr::from_bytes);
    let mut spec = parse_address(parts.next().unwrap_or_default()).map_err(invalid)?;
    for part in parts {
        let part = part.to_str().ok_or_else(|| invalid(Why::NotUtf8))?;
        let (key, value) = part.split_once('=').unwrap_or((part, "yes"));
        apply(&mut spec, key, value).map_err(invalid)?;
    }
    Ok(spec)
}

fn parse_address(address: &OsStr) -> Result<ListenSpec, Why> {
    let bytes = address.as_bytes();
    let unix = |place: &[u8], make: fn(UnixAddress) -> ListenAddress| {
        Ok(ListenSpec {
            spelling: OsStr::from_bytes(place).to_owned(),
            name: None,
            address: make(parse_place(place)?),
            descriptor: None,
            options: ListenOptions::default(),
        })
    };
    if let Some(place) = bytes.strip_prefix(b"unix:") {
        return unix(place, ListenAddress::Unix);
    }
    if let Some(place) = bytes.strip_prefix(b"unix-dgram:") {
        return unix(place, ListenAddress::UnixDatagram);
    }
    let text = address.to_str().ok_or(Why::NotUtf8)?;
    match (text.strip_prefix("tcp:"), text.strip_prefix("udp:")) {
        (Some(port), _) => match parse_port(port)? {
            spec @ ListenSpec { address: ListenAddress::Tcp(_), .. } => Ok(spec),
            _ => Err(Why::Grammar),
        },
        (_, Some(port)) => match parse_port(port)? {
            ListenSpec { address: ListenAddress::Tcp(at) | ListenAddress::Udp(at), spelling, descriptor, .. } => {
                let address = ListenAddress::Udp(at);
                Ok(ListenSpec { spelling, name: None, address, descriptor, options: ListenOptions::default() })
            }
            _ => Err(Why::Grammar),
        },
        _ => parse_port(text),
    }
}

fn parse_place(place: &[u8]) -> Result<UnixAddress, Why> {
    match place.strip_prefix(b"@") {
        Some([]) => Err(Why::EmptyName),
        // The name stands where a path has its closing zero.
        Some(name) if name.len() > LONGEST_PATH => Err(Why::PathTooLong { length: name.len() }),
        Some(name) => Ok(UnixAddress::Abstract(name.to_vec())),
        None => check_path(OsStr::from_bytes(place)).map(UnixAddress::Path),
    }
}

fn apply(spec: &mut ListenSpec, key: &str, value: &str) -> Result<(), Why> {
    let Some(key) = KEYS.into_iter().find(|known| *known == key) else {
        return Err(Why::UnknownKey(key.to_owned()));
    };
    if let Some(what) = other_kind(key, &spec.address) {
        return Err(Why::NotFor { key, what });
    }
    let bad = |expected| Why::BadValue { key, value: value.to_owned(), expected };
    let options = &mut spec.options;
    match key {
        "name" => spec.name = Some(parse_name(value)?),
        "fd" => {
            let number = value.parse().ok().filter(|number: &i32| *number >= 0);
            spec.descriptor = Some(number.ok_or_else(|| bad("number of a descriptor expected"))?);
        }
        "backlog" => options.backlog = Some(parse_backlog(value).map_err(bad)?),
        "defer-accept" => options.defer_accept = Some(parse_defer_accept(value).map_err(bad)?),
        "tcp-nodelay" => options.tcp_nodelay = Some(parse_switch(value).map_err(bad)?),
        "nonblock" => options.nonblock = Some(parse_switch(value).map_err(bad)?),
        "v6only" => options.v6only = Some(parse_switch(value).map_err(bad)?),
        "reuseport" => options.reuseport = Some(parse_switch(value).map_err(bad)?),
        "keepalive" => options.keepalive = Some(parse_keepalive(value).map_err(bad)?),
        "fastopen" => options.fastopen = Some(parse_fastopen(value).map_err(bad)?),
        "mode" => options.mode = Some(parse_mode(value).map_err(bad)?),
        "owner" => options.owner = Some(parse_account(value).map_err(bad)?),
        _group => options.group = Some(parse_account(value).map_err(bad)?),
    }
    Ok(())
}

/// What the key is for, if not for this kind of address.
fn other_kind(key: &str, address: &ListenAddress) -> Option<&'static str> {
    use ListenAddress::{Udp, Unix, UnixDatagram};
    use UnixAddress::Path;
    match (key, address) {
        ("defer-accept" | "tcp-nodelay" | "keepalive" | "fastopen", Udp(_) | Unix(_) | UnixDatagram(_)) => Some("TCP"),
        ("v6only" | "reuseport", Unix(_) | UnixDatagram(_)) => Some("TCP and UDP"),
        ("backlog", Udp(_) | UnixDatagram(_)) => Some("TCP and unix stream sockets"),
        ("mode" | "owner" | "group", address) if !matches!(address, Unix(Path(_)) | UnixDatagram(Path(_))) => {
            Some("unix sockets with a path")
        }
        _ => None,
    }
}

fn parse_name(text: &str) -> Result<String, Why> {
    if is_name(text) { Ok(text.to_owned()) } else { Err(Why::BadName) }
}

/// Whether a listener can be called so: the name fits into `LISTEN_FDNAMES`, see sd_listen_fds_with_names(3), and
/// cannot be taken for an index.
pub fn is_name(text: &str) -> bool {
    const LONGEST: usize = 255;
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'));
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_word && !is_number && text.len() <= LONGEST
}

#[cfg(test)]
mod tests {
    use super::super::KeepAlive;
    use super::super::tests::one;
    use super::*;

    fn read(value: &str) -> Result<ListenSpec, String> {
        parse_listener(OsStr::new(value)).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_of_every_kind_are_read() {
        for (value, expected) in [
            ("8000", "8000 -> tcp any 8000"),
            ("tcp:127.0.0.1:8000", "127.0.0.1:8000 -> tcp 127.0.0.1 8000"),
            ("[::1]:8000=7", "[::1]:8000 -> tcp ::1 8000 fd 7"),
            ("127.0.0.1:u53", "127.0.0.1:53 -> udp 127.0.0.1 53"),
            ("udp:127.0.0.1:53", "127.0.0.1:53 -> udp 127.0.0.1 53"),
            ("udp:53,fd=9", "53 -> udp any 53 fd 9"),
            ("unix:/run/a=b;c", "/run/a=b;c -> unix /run/a=b;c"),
            ("unix:@name", "@name -> unix abstract(name)"),
            ("unix-dgram:/run/d", "/run/d -> unix-dgram /run/d"),
            ("unix-dgram:@d", "@d -> unix-dgram abstract(d)"),
        ] {
            assert_eq!(read(value).map(|spec| one(&spec)), Ok(expected.to_owned()), "{value}");
        }
    }

    #[test]
    fn a_listener_has_a_name_and_options_of_its_own() {
        let spec = read("127.0.0.1:80,name=web,backlog=9,defer-accept,tcp-nodelay,nonblock=no,keepalive=30,fastopen=5");
        let spec = spec.unwrap();
        assert_eq!(spec.name.as_deref(), Some("web"));
        let expected = ListenOptions {
            backlog: Some(9),
            defer_accept: Some(1),
            tcp_nodelay: Some(true),
            nonblock: Some(false),
            keepalive: parse_keepalive("30").ok(),
            fastopen: Some(5),
            ..ListenOptions::default()
        };
        assert_eq!(spec.options, expected);
        assert_ne!(expected.keepalive, Some(KeepAlive::On));
        let spec = read("unix:/s,mode=0660,owner=root,group=33,backlog=1").unwrap();
        assert_eq!((spec.options.mode, spec.options.backlog), (Some(0o660), Some(1)));
        let spec = read("[::]:80,v6only=no,reuseport").unwrap();
        assert_eq!((spec.options.v6only, spec.options.reuseport), (Some(false), Some(true)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (value, expected) in [
            ("", "expected PORT,"),
            ("http", "invalid ``listen'' value:http: expected PORT,"),
            ("tcp:u80", "expected PORT,"),
            ("unix:", "expected the path"),
            ("unix:@", "expected a name for the abstract socket"),
            ("80,", "there is no ; known are name, fd, "),
            ("80,colour=red", "there is no colour; known are"),
            ("80,name=", "expected a name of letters"),
            ("80,name=7", "expected a name of letters"),
            ("80,name=a:b", "expected a name of letters"),
            ("80,fd=x", "fd=x makes no sense; number of a descriptor expected"),
            ("80,nonblock=maybe", "nonblock=maybe makes no sense; yes or no expected"),
            ("80,backlog", "backlog=yes makes no sense; number from"),
            ("80,mode=0600", "mode is for unix sockets with a path only"),
            ("unix:@a,mode=0600", "mode is for unix sockets with a path only"),
            ("unix:/s,mode=rw", "mode=rw makes no sense; octal"),
            ("unix:/s,defer-accept", "defer-accept is for TCP only"),
            ("u53,backlog=5", "backlog is for TCP and unix stream sockets only"),
            ("unix:/s,reuseport", "reuseport is for TCP and UDP only"),
        ] {
            let error = read(value).unwrap_err();
            assert!(error.contains(expected), "{value:?} gave {error}");
        }
        assert!(parse_listener(OsStr::from_bytes(b"80,name=\xff")).is_err());
        let spec = parse_listener(OsStr::from_bytes(b"unix:/s\xff"));
        assert_eq!(spec.map(|spec| spec.spelling), Ok(OsStr::from_bytes(b"/s\xff").to_owned()));
    }
}
