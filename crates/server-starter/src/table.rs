//! The inherited listeners of this process: verified when the table is made, and then given out, each once.

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use rustix::io::Errno;

use crate::address::Written;
use crate::descriptor::{Address, Nature, adopt, keep};
use crate::environment::{LISTEN_FDNAMES, LISTEN_FDS, PORT, Passed, Variables};
use crate::socket::Socket;
use crate::{Error, ErrorKind, Kind, bind};

/// All descriptors that were passed, taken or not.
#[derive(Debug)]
pub struct Table {
    entries: Vec<Entry>,
    /// The variables from which they are known, as they were, for messages.
    source: String,
}

#[derive(Debug)]
struct Entry {
    passed: Passed,
    nature: Nature,
    /// Gone once it was taken.
    descriptor: Option<OwnedFd>,
}

/// An inherited listener that nobody has taken yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inherited {
    /// Its name in `LISTEN_FDNAMES`.
    pub name: Option<String>,
    /// The address that `SERVER_STARTER_PORT` has for it, as it was typed.
    pub typed: Option<String>,
    /// What it is.
    pub kind: Kind,
    /// Where it is bound.
    pub address: Address,
    /// The number of the descriptor in the variables.
    pub number: RawFd,
}

/// What a listener is asked for by.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    Name(&'a str),
    Address(&'a str),
    Next,
}

impl Table {
    /// Takes possession of everything that the variables name, and verifies it.
    ///
    /// # Errors
    /// A variable that cannot be understood; a descriptor that is not open; in `SERVER_STARTER_PORT`, one that is
    /// something else than it says.
    pub fn new(variables: &Variables, pid: u32) -> Result<Self, Error> {
        let source =
            [(PORT, &variables.port), (LISTEN_FDS, &variables.listen_fds), (LISTEN_FDNAMES, &variables.listen_fdnames)];
        let source = source.iter().filter_map(|(name, value)| Some(format!("{name}=“{}”", value.as_ref()?.display())));
        let source = source.collect::<Vec<_>>().join(", ");
        let mut entries = Vec::new();
        for passed in variables.passed(pid)? {
            let entry = Entry::new(passed).map_err(|(passed, problem)| {
                let number = passed.number;
                Error::new(
                    ErrorKind::Descriptor,
                    format!("{source} names descriptor {number}, {problem}; has something closed or replaced it?"),
                )
            })?;
            entries.push(entry);
        }
        Ok(Self { entries, source })
    }

    /// What was not taken yet.
    pub fn left(&self) -> Vec<Inherited> {
        let one = |entry: &Entry| {
            let Nature::Listener(kind, address) = &entry.nature else { return None };
            entry.descriptor.as_ref()?;
            let Passed { number, typed, name } = entry.passed.clone();
            Some(Inherited { name, typed, kind: *kind, address: address.clone(), number })
        };
        self.entries.iter().filter_map(one).collect()
    }

    /// Gives out a listener. `None` if there is none (any more) by that name or address.
    ///
    /// # Errors
    /// If there is one, but of another kind.
    pub fn take<S: Socket>(&mut self, wanted: Wanted<'_>) -> Result<Option<S>, Error> {
        let fitting = |entry: &&mut Entry| entry.is_left(S::KIND) && entry.answers_to(wanted);
        if let Some(entry) = self.entries.iter_mut().find(fitting) {
            return entry.take().map(Some);
        }
        // Without this look a misspelt type would pass for a missing listener.
        let similar = |entry: &&Entry| !entry.is(S::KIND) && entry.descriptor.is_some() && entry.answers_to(wanted);
        match (wanted, self.entries.iter().find(similar)) {
            (Wanted::Next, _) | (_, None) => Ok(None),
            (_, Some(entry)) => Err(Error::new(
                ErrorKind::NoMatch,
                format!(
                    "{} was asked for by {wanted}, but descriptor {} is {}",
                    S::KIND,
                    entry.passed.number,
                    entry.nature
                ),
            )),
        }
    }

    /// Gives out the listener that is called `name`, or that has `address`, or that is the only one of its kind; binds
    /// `address` if there is none at all.
    ///
    /// # Errors
    /// See [`listen_or_bind`](crate::listen_or_bind).
    pub fn listen_or_bind<S: Socket>(&mut self, name: &str, address: &str) -> Result<S, Error> {
        for wanted in [Wanted::Name(name), Wanted::Address(address)] {
            if let Some(socket) = self.take(wanted)? {
                return Ok(socket);
            }
        }
        let was_taken = |entry: &Entry| {
            entry.is(S::KIND) && (entry.answers_to(Wanted::Name(name)) || entry.answers_to(Wanted::Address(address)))
        };
        if self.entries.iter().any(was_taken) {
            return Err(Error::new(
                ErrorKind::Taken,
                format!("{} “{name}” ({address}) was taken before; each can be taken once", S::KIND),
            ));
        }
        let mut left: Vec<_> = self.entries.iter_mut().filter(|entry| entry.is_left(S::KIND)).collect();
        match left.as_mut_slice() {
            [] => bind::bind(S::KIND, address, &self.source).and_then(|descriptor| finish(descriptor, address)),
            // No name was given to it, so it can only be meant for this.
            [only] if !only.has_given_name() => only.take(),
            _ => {
                let left: Vec<_> = left.iter().map(|entry| entry.shown()).collect();
                Err(Error::new(
                    ErrorKind::NoMatch,
                    format!(
                        "{} was asked for by name “{name}” or address {address}, but {} has {}; change the address, or \
                         name the listener (start_server --listen=ADDRESS,name={name} --export=listen-fds, or \
                         FileDescriptorName={name} in the systemd socket unit)",
                        S::KIND,
                        self.source,
                        left.join(", ")
                    ),
                ))
            }
        }
    }
}

impl Entry {
    fn new(passed: Passed) -> Result<Self, (Passed, String)> {
        let unusable = |errno: Errno| match errno {
            Errno::BADF => "which is not open".to_owned(),
            Errno::EXIST => "which this program has opened itself, or taken before".to_owned(),
            errno => format!("which cannot be used ({errno})"),
        };
        let descriptor = match adopt(passed.number) {
            Ok(descriptor) => descriptor,
            Err(errno) => return Err((passed, unusable(errno))),
        };
        let nature = Nature::of(descriptor.as_fd());
        // What LISTEN_FDS holds may be anything; SERVER_STARTER_PORT holds listeners, and says where.
        if let Some(typed) = &passed.typed {
            let problem = match &nature {
                Nature::Listener(_, address) if Written::parse(typed).can_be(address) => None,
                Nature::Listener(..) => Some(format!("which is {nature} and not at {typed}")),
                Nature::Other(what) => Some(format!("which is {what} and no listener at {typed}")),
            };
            if let Some(problem) = problem {
                // It is not ours, then: somebody else may be using it.
                std::mem::forget(descriptor);
                return Err((passed, problem));
            }
        }
        match keep(descriptor) {
            Ok(descriptor) => Ok(Self { passed, nature, descriptor: Some(descriptor) }),
            Err(errno) => Err((passed, unusable(errno))),
        }
    }

    fn is(&self, kind: Kind) -> bool {
        matches!(self.nature, Nature::Listener(actual, _) if actual == kind)
    }

    fn is_left(&self, kind: Kind) -> bool {
        self.is(kind) && self.descriptor.is_some()
    }

    fn answers_to(&self, wanted: Wanted<'_>) -> bool {
        match wanted {
            Wanted::Next => true,
            Wanted::Name(name) => self.passed.name.as_deref() == Some(name),
            Wanted::Address(address) => {
                let is_there = |actual: &Address| Written::parse(address).is(actual);
                self.passed.typed.as_deref() == Some(address)
                    || matches!(&self.nature, Nature::Listener(_, actual) if is_there(actual))
            }
        }
    }

    /// Whether somebody gave it a name to tell it from others. Without one, start_server fills in the address as well as
    /// the rules for names allow, and systemd the name of the unit or one of the words of sd_listen_fds_with_names(3).
    fn has_given_name(&self) -> bool {
        let (Some(name), Nature::Listener(kind, address)) = (&self.passed.name, &self.nature) else { return false };
        let address = match (kind, address) {
            (Kind::Udp, Address::Inet(address)) => format!("{}:u{}", address.ip(), address.port()),
            _ => address.to_string(),
        };
        let allowed = |c: char| if c.is_ascii_graphic() && c != ':' { c } else { '_' };
        let of_address: String = address.chars().map(allowed).take(255).collect();
        let by_default = ["unknown", "stored", "connection"].contains(&name.as_str()) || name.ends_with(".socket");
        !by_default && *name != of_address
    }

    fn shown(&self) -> String {
        match &self.passed.name {
            Some(name) => format!("{} named “{name}” (descriptor {})", self.nature, self.passed.number),
            None => format!("{} (descriptor {})", self.nature, self.passed.number),
        }
    }

    fn take<S: Socket>(&mut self) -> Result<S, Error> {
        let what = self.shown();
        match self.descriptor.take() {
            Some(descriptor) => finish(descriptor, &what),
            None => Err(Error::new(ErrorKind::Taken, format!("{what} was taken before; each can be taken once"))),
        }
    }
}

fn finish<S: Socket>(descriptor: OwnedFd, what: &str) -> Result<S, Error> {
    S::from_descriptor(descriptor).map_err(|error: io::Error| {
        Error::new(ErrorKind::System, format!("{} cannot be used, {what}: {error}", S::KIND))
    })
}

impl std::fmt::Display for Wanted<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => write!(f, "name “{name}”"),
            Self::Address(address) => write!(f, "address {address}"),
            Self::Next => f.write_str("order"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::IntoRawFd;
    use std::os::unix::net::UnixListener;

    const PID: u32 = 4711;

    /// The table of a process that was given these: the address as typed, and the socket.
    fn table(passed: Vec<(&str, OwnedFd)>) -> Result<Table, Error> {
        let of = |(typed, socket): (&str, OwnedFd)| format!("{typed}={}", left_open(socket));
        let port = passed.into_iter().map(of).collect::<Vec<_>>().join(";");
        Table::new(&Variables { port: Some(port.into()), ..Variables::default() }, PID)
    }

    fn tcp() -> (OwnedFd, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        (listener.into(), address)
    }

    /// As whoever executed this program would have left it.
    fn left_open(socket: OwnedFd) -> RawFd {
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::empty()).unwrap();
        socket.into_raw_fd()
    }

    fn udp(address: &str) -> OwnedFd {
        UdpSocket::bind(address).unwrap().into()
    }

    fn message<T>(result: Result<T, Error>) -> String {
        result.err().unwrap().to_string()
    }

    fn at(listener: &TcpListener) -> String {
        listener.local_addr().unwrap().to_string()
    }

    #[test]
    fn listeners_are_taken_by_address_or_in_order_and_once() {
        let ((one, first), (other, second)) = (tcp(), tcp());
        let mut table = table(vec![(&first, one), ("127.0.0.1:0", other)]).unwrap();
        assert_eq!(table.left().len(), 2);
        let listener = table.take::<TcpListener>(Wanted::Address(&second)).unwrap().unwrap();
        assert_eq!(at(&listener), second, "found where it really is");
        assert!(table.take::<TcpListener>(Wanted::Address(&second)).unwrap().is_none());
        assert_eq!(table.left().len(), 1);
        assert_eq!(at(&table.take(Wanted::Next).unwrap().unwrap()), first);
        assert!(table.take::<TcpListener>(Wanted::Next).unwrap().is_none());
        let again = table.listen_or_bind::<TcpListener>("web", &first).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Taken, "{again}");
    }

    #[test]
    fn the_descriptor_tells_the_kind() {
        let (listener, address) = tcp();
        // start_server spells both in the same way.
        let mut table = table(vec![(&address, listener), (&address, udp(&address))]).unwrap();
        let socket: UdpSocket = table.listen_or_bind("dns", &address).unwrap();
        assert_eq!(socket.local_addr().unwrap().to_string(), address);
        assert!(table.take::<UdpSocket>(Wanted::Next).unwrap().is_none());
        let error = table.take::<UnixListener>(Wanted::Address(&address)).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with(&format!("a unix listener was asked for by address {address}, but descriptor "))
                && error.to_string().ends_with(&format!(" is a TCP listener at {address}")),
            "{error}"
        );
        assert_eq!(at(&table.listen_or_bind("web", "0.0.0.0:1").unwrap()), address);
    }

    #[test]
    fn a_path_may_hold_anything() {
        let dir = testkit::TempDir::new();
        let path = dir.path().join("a=b;c");
        let path = path.to_str().unwrap();
        let listener = UnixListener::bind(path).unwrap();
        let mut table = table(vec![(path, listener.into())]).unwrap();
        let listener: UnixListener = table.listen_or_bind("app", path).unwrap();
        assert_eq!(listener.local_addr().unwrap().as_pathname().unwrap().to_str(), Some(path));
    }

    #[test]
    fn the_only_one_is_meant_and_a_choice_is_refused() {
        let (listener, address) = tcp();
        let mut only = table(vec![(&address, listener)]).unwrap();
        assert_eq!(at(&only.listen_or_bind("web", "127.0.0.1:1").unwrap()), address);

        let ((one, first), (other, second)) = (tcp(), tcp());
        let mut two = table(vec![(&first, one), (&second, other)]).unwrap();
        let error = two.listen_or_bind::<TcpListener>("web", "127.0.0.1:1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoMatch);
        for part in ["name “web” or address 127.0.0.1:1", &first, &second, "SERVER_STARTER_PORT=“", "name=web"] {
            assert!(error.to_string().contains(part), "{error}");
        }
        assert_eq!(at(&two.listen_or_bind("web", &second).unwrap()), second);
        assert_eq!(at(&two.listen_or_bind("admin", "127.0.0.1:1").unwrap()), first);
        let bound: TcpListener = two.listen_or_bind("more", "127.0.0.1:0").unwrap();
        assert!(![first, second].contains(&at(&bound)), "nothing is left, so it is bound");
    }

    /// Entries as LISTEN_FDS would make them: the numbers of that cannot be had in a test process.
    fn named(entries: Vec<(Option<&str>, OwnedFd)>) -> Table {
        let entry = |(name, socket): (Option<&str>, OwnedFd)| {
            let passed = Passed { number: left_open(socket), typed: None, name: name.map(str::to_owned) };
            Entry::new(passed).unwrap()
        };
        Table { entries: entries.into_iter().map(entry).collect(), source: "LISTEN_FDS=“…”".to_owned() }
    }

    #[test]
    fn listeners_are_taken_by_name() {
        let ((one, first), (other, second), (more, third)) = (tcp(), tcp(), tcp());
        let mut table = named(vec![(Some("admin"), one), (Some("web"), other), (Some("web"), more)]);
        assert_eq!(at(&table.listen_or_bind("web", &first).unwrap()), second, "the name counts more");
        assert_eq!(at(&table.take(Wanted::Name("web")).unwrap().unwrap()), third, "two may have one name");
        assert!(table.take::<TcpListener>(Wanted::Name("web")).unwrap().is_none());
        assert!(message(table.take::<UdpSocket>(Wanted::Name("admin"))).contains("is a TCP listener at"));
        let error = table.listen_or_bind::<TcpListener>("mail", "127.0.0.1:0").unwrap_err();
        assert!(error.to_string().contains("named “admin”"), "a name that was given is no other's: {error}");
        assert_eq!(table.left()[0].name.as_deref(), Some("admin"));
    }

    #[test]
    fn a_name_that_nobody_gave_does_not_count() {
        let spelt = |address: &str| address.replace(':', "_");
        for name in [&|_: &str| "unknown".to_owned(), &|_: &str| "app.socket".to_owned(), &spelt]
            as [&dyn Fn(&str) -> String; 3]
        {
            let (listener, address) = tcp();
            let mut table = named(vec![(Some(&name(&address)), listener)]);
            assert_eq!(at(&table.listen_or_bind("web", "127.0.0.1:1").unwrap()), address);
        }
        let socket = udp("127.0.0.1:0");
        let Nature::Listener(_, Address::Inet(address)) = Nature::of(&socket) else { panic!("no UDP socket") };
        let mut table = named(vec![(Some(&format!("127.0.0.1_u{}", address.port())), socket)]);
        assert_eq!(table.listen_or_bind::<UdpSocket>("dns", "127.0.0.1:1").unwrap().local_addr().unwrap(), address);
    }

    #[test]
    fn what_is_no_listener_is_left_alone_and_told() {
        let file = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let mut table = named(vec![(Some("log"), file())]);
        assert!(table.left().is_empty());
        assert!(message(table.take::<TcpListener>(Wanted::Name("log"))).ends_with(" is no socket"));
        assert!(table.take::<TcpListener>(Wanted::Next).unwrap().is_none());
    }

    #[test]
    fn what_the_variable_says_is_verified() {
        let (listener, address) = tcp();
        let number = left_open(listener);
        let variables =
            |typed: &str| Variables { port: Some(OsString::from(format!("{typed}={number}"))), ..Variables::default() };
        for (typed, problem) in [
            ("127.0.0.2:0", format!("which is a TCP listener at {address} and not at 127.0.0.2:0; ")),
            ("127.0.0.1:1", format!("which is a TCP listener at {address} and not at 127.0.0.1:1; ")),
            ("8080", format!("which is a TCP listener at {address} and not at 8080; ")),
            ("/run/app.sock", format!("which is a TCP listener at {address} and not at /run/app.sock; ")),
        ] {
            let error = Table::new(&variables(typed), PID).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Descriptor);
            let expected = format!("SERVER_STARTER_PORT=“{typed}={number}” names descriptor {number}, {problem}");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
        // It was left as it was each time.
        assert_eq!(Table::new(&variables(&address), PID).unwrap().left()[0].number, number);

        let file = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        assert!(message(table(vec![("80", file)])).contains("which is no socket and no listener at 80; "));
        let socket = UnixListener::bind_addr(
            &<std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(format!(
                "server-starter-{}",
                std::process::id()
            ))
            .unwrap(),
        );
        assert!(
            message(table(vec![("/run/x", socket.unwrap().into())])).contains("which is a unix listener at @server-")
        );
        let closed = Variables { port: Some("80=1000000".into()), ..Variables::default() };
        assert!(message(Table::new(&closed, PID)).contains("names descriptor 1000000, which is not open; "));
    }

    #[test]
    fn a_server_that_runs_alone_binds() {
        let mut nothing = Table::new(&Variables::default(), PID).unwrap();
        let listener: TcpListener = nothing.listen_or_bind("web", "127.0.0.1:0").unwrap();
        let taken = at(&listener);
        let error = nothing.listen_or_bind::<TcpListener>("web", &taken).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Bind);
        assert!(
            error.to_string().starts_with(&format!("a TCP listener was not inherited, and {taken} cannot be")),
            "{error}"
        );
        assert!(
            message(nothing.listen_or_bind::<TcpListener>("web", "/a/path")).contains("looks like 127.0.0.1:8080, ")
        );
        assert!(message(nothing.listen_or_bind::<UnixListener>("web", "80")).contains("looks like /run/app.sock or "));

        let dir = testkit::TempDir::new();
        let path = dir.path().join("socket");
        let path = path.to_str().unwrap();
        let first: UnixListener = nothing.listen_or_bind("app", path).unwrap();
        assert!(nothing.listen_or_bind::<UnixListener>("app", path).is_err(), "somebody listens there");
        drop(first);
        let _: UnixListener = nothing.listen_or_bind("app", path).unwrap();
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, "precious").unwrap();
        assert!(nothing.listen_or_bind::<UnixListener>("app", path).is_err(), "no socket is not ours to remove");
        assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
    }

    #[test]
    fn a_port_that_is_held_by_the_generation_before_is_explained() {
        let (listener, taken) = tcp();
        let mut table = named(vec![(Some("web"), listener)]);
        let _: TcpListener = table.listen_or_bind("web", &taken).unwrap();
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = message(table.listen_or_bind::<TcpListener>("admin", &at(&other)));
        assert!(error.contains("held by the generation before this one, have the supervisor hold it"), "{error}");
    }
}
