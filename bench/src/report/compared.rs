//! Who is compared, in words: what each candidate is, how it is named, and what it cannot do.

/// The candidate that is this project's.
pub const OURS: &str = "ours";
/// The candidate that does the least that can be done.
pub const FLOOR: &str = "floor";

/// Candidates that become ours: where they are better, it is by luck.
pub const LIKE_OURS: &[&str] = &[OURS, "ruby-gem"];

/// A candidate in words.
#[derive(Debug)]
pub struct Compared {
    /// As in the data.
    pub id: &'static str,
    /// As people call it.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    /// What has to be known to read its figures; empty if nothing.
    pub limits: &'static str,
}

/// All of them, in the order of the tables.
pub const ALL: &[Compared] = &[
    Compared { id: OURS, name: "start_server", what: "this project", limits: "" },
    Compared {
        id: FLOOR,
        name: "the floor",
        what: "a minimal program in C: fork, exec, wait for a byte that says ready, TERM",
        limits: "no superdaemon at all, but the lower bound: what the kernel takes for the same steps; whatever goes \
                 wrong, it does not notice",
    },
    Compared { id: "perl", name: "Server::Starter (Perl)", what: "the original `start_server`", limits: "timers only" },
    Compared {
        id: "ruby-gem",
        name: "start_server.rb",
        what: "the Ruby gem of this project: the command of the Ruby port, which becomes start_server",
        limits: "when it has started, it is start_server; later differences are noise",
    },
    Compared {
        id: "circus",
        name: "Circus",
        what: "a process and socket manager in Python; `reload` replaces its workers",
        limits: "the old worker is told to stop as soon as the new one is started, ready or not; asked by `circusctl`, a \
                 Python program whose own start is in the figures",
    },
    Compared {
        id: "systemfd",
        name: "systemfd",
        what: "binds sockets and becomes the server, by systemd's convention",
        limits: "cannot restart: when the server has started it is gone",
    },
    Compared {
        id: "systemd-socket-activate",
        name: "systemd-socket-activate",
        what: "systemd's tool to try socket activation: binds sockets, becomes the server at the first connection",
        limits: "cannot restart: when the server has started it is gone",
    },
    Compared {
        id: "s6",
        name: "s6",
        what: "a supervision suite in C (`s6-supervise`)",
        limits: "does not hold the socket: the server binds by itself, the old one has to end before the new one starts, \
                 and in between nobody listens: a second, for which it waits",
    },
    Compared {
        id: "supervisord",
        name: "supervisord",
        what: "a process manager in Python",
        limits: "does not hold the socket here: the server binds by itself, the old one has to end before the new one \
                 starts, and in between nobody listens; asked by `supervisorctl`, a Python program whose own start is in \
                 the figures",
    },
    Compared {
        id: "gunicorn",
        name: "gunicorn",
        what: "a web server in Python, which replaces its own workers on HUP",
        limits: "restarts nothing but itself; answers with a server of its own",
    },
    Compared {
        id: "nginx",
        name: "nginx",
        what: "a web server, which replaces its own workers on HUP",
        limits: "restarts nothing but itself; answers with a server of its own; closes idle keep-alive connections",
    },
    Compared {
        id: "haproxy",
        name: "HAProxy",
        what: "a proxy, whose master replaces its worker on USR2",
        limits: "restarts nothing but itself; answers with a server of its own; closes idle keep-alive connections",
    },
];

/// How a candidate is named; one that this report does not know, as in the data.
pub fn name(id: &str) -> &str {
    ALL.iter().find(|compared| compared.id == id).map_or(id, |compared| compared.name)
}

/// Its place in tables; those that this report does not know come last.
pub fn place(id: &str) -> usize {
    ALL.iter().position(|compared| compared.id == id).unwrap_or(ALL.len())
}
