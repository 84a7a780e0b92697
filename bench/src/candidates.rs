//! Who is measured, and how each is started and restarted: data, and nothing else. `measure` runs them.
//!
//! In all words, `{dir}` is a directory for this run alone, `{server}` the command of the tiny server, `{ours}`
//! and `{floor}` where those programs are, `{root}` this project, `{port}` the (first) port, `{count}` how many ports;
//! a word `{listeners}` becomes the candidate's `listener` once for each port.

use std::time::Duration;

/// One way to run one program.
#[derive(Debug)]
pub struct Candidate {
    /// As in the raw data.
    pub id: &'static str,
    /// `default`, `told` or `small`.
    pub mode: &'static str,
    /// The command line; the first word is looked for in the tools' directory, then in PATH.
    pub start: &'static [&'static str],
    /// What stands for a listener, once for each.
    pub listener: &'static str,
    /// Files that it needs, with their text.
    pub files: &'static [(&'static str, &'static str)],
    /// How its server is replaced.
    pub restart: Restart,
    /// What it runs.
    pub serves: Serves,
    /// How many listeners it is asked for at most.
    pub most_listeners: u32,
    /// Whether it goes on with the next restart while old generations are draining.
    pub overlaps: bool,
    /// What prints its version.
    pub version: &'static [&'static str],
}

impl Candidate {
    /// Whether a restart takes the second that Server::Starter's timers take.
    pub fn waits_for_timers(&self) -> bool {
        self.mode == "default" && ["ours", "perl", "ruby-gem"].contains(&self.id)
    }

    /// How long it needs, when the new server answers and the old one has gone, until it hears the next request for sure.
    /// Not all servers that restart themselves say when that is; HAProxy's master was once seen not to hear one at once.
    pub fn settles(&self) -> Duration {
        if self.serves == Itself { Duration::from_millis(500) } else { Duration::ZERO }
    }
}

/// How a server is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It cannot be.
    Never,
    /// By a signal to the process that was started.
    Signal(rustix::process::Signal),
    /// By a command.
    Command(&'static [&'static str]),
}

/// What a candidate runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// The tiny server, as its child.
    Tiny,
    /// The tiny server, which it becomes.
    Becomes,
    /// A server of its own.
    Itself,
}

use Restart::{Command, Never, Signal};
use Serves::{Becomes, Itself, Tiny};
use rustix::process::Signal as Number;

const HUP: Restart = Signal(Number::HUP);
const USR2: Restart = Signal(Number::USR2);

/// What most have in common.
const BASE: Candidate = Candidate {
    id: "",
    mode: "default",
    start: &[],
    listener: "--port=127.0.0.1:{port}",
    files: &[],
    restart: HUP,
    serves: Tiny,
    most_listeners: 1000,
    overlaps: true,
    version: &[],
};

const OURS: Candidate = Candidate {
    id: "ours",
    start: &["{ours}", "--status-file={dir}/status", "{listeners}", "--", "{server}"],
    version: &["{ours}", "--version"],
    ..BASE
};

const PERL: Candidate = Candidate {
    id: "perl",
    start: &["/usr/bin/start_server", "--status-file={dir}/status", "{listeners}", "--", "{server}"],
    version: &["/usr/bin/start_server", "--version"],
    ..BASE
};

/// All of them, ours first.
pub const ALL: &[Candidate] = &[
    Candidate {
        mode: "told",
        start: &["{ours}", "--status-file={dir}/status", "--ready=notify", "{listeners}", "--", "{server}"],
        ..OURS
    },
    OURS,
    Candidate {
        mode: "small",
        start: &["{ours}", "--status-file={dir}/status", "--interval=0", "{listeners}", "--", "{server}"],
        ..OURS
    },
    Candidate {
        id: "floor",
        mode: "told",
        start: &["{floor}", "{count}", "{port}", "{server}"],
        version: &["cc", "--version"],
        ..BASE
    },
    PERL,
    Candidate {
        mode: "small",
        start: &[
            "/usr/bin/start_server",
            "--status-file={dir}/status",
            "--interval=0",
            "{listeners}",
            "--",
            "{server}",
        ],
        ..PERL
    },
    Candidate {
        id: "ruby-gem",
        start: &[
            "ruby",
            "-I{root}/ruby/lib",
            "{root}/ruby/bin/start_server.rb",
            "--status-file={dir}/status",
            "{listeners}",
            "--",
            "{server}",
        ],
        version: &["ruby", "--version"],
        ..BASE
    },
    Candidate {
        id: "circus",
        start: &["circusd", "{dir}/circus.ini"],
        files: &[(
            "circus.ini",
            "[circus]\nendpoint = ipc://{dir}/endpoint\npubsub_endpoint = ipc://{dir}/pubsub\nwarmup_delay = 0\n\
             check_delay = 1\nloglevel = WARNING\n\n[watcher:web]\ncmd = {server} --fd=$(circus.sockets.web)\n\
             use_sockets = True\nnumprocesses = 1\ncopy_env = True\n\n[socket:web]\nhost = 127.0.0.1\nport = {port}\n",
        )],
        restart: Command(&["circusctl", "--endpoint", "ipc://{dir}/endpoint", "reload", "web"]),
        most_listeners: 1,
        overlaps: false,
        version: &["circusd", "--version"],
        ..BASE
    },
    Candidate {
        id: "systemfd",
        start: &["systemfd", "-q", "--no-pid", "{listeners}", "--", "{server}"],
        listener: "--socket=http::127.0.0.1:{port}",
        restart: Never,
        serves: Becomes,
        version: &["systemfd", "--version"],
        ..BASE
    },
    Candidate {
        id: "systemd-socket-activate",
        start: &["systemd-socket-activate", "{listeners}", "{server}"],
        listener: "--listen=127.0.0.1:{port}",
        restart: Never,
        serves: Becomes,
        version: &["systemd-socket-activate", "--version"],
        ..BASE
    },
    Candidate {
        id: "s6",
        start: &["s6-supervise", "{dir}/service"],
        files: &[("service/run", "#!/bin/sh\nexec {server} --bind={port}\n")],
        restart: Command(&["s6-svc", "-r", "{dir}/service"]),
        most_listeners: 1,
        overlaps: false,
        version: &["dpkg-query", "-W", "-f=${Version}", "s6"],
        ..BASE
    },
    Candidate {
        id: "supervisord",
        start: &["supervisord", "-n", "-c", "{dir}/supervisord.conf"],
        files: &[(
            "supervisord.conf",
            "[supervisord]\nnodaemon = true\nlogfile = {dir}/supervisord.log\npidfile = {dir}/supervisord.pid\n\
             childlogdir = {dir}\n\n[unix_http_server]\nfile = {dir}/supervisor.sock\n\n[rpcinterface:supervisor]\n\
             supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n\n[supervisorctl]\n\
             serverurl = unix://{dir}/supervisor.sock\n\n[program:web]\ncommand = {server} --bind={port}\n",
        )],
        restart: Command(&["supervisorctl", "-c", "{dir}/supervisord.conf", "restart", "web"]),
        most_listeners: 1,
        overlaps: false,
        version: &["supervisord", "--version"],
        ..BASE
    },
    Candidate {
        id: "gunicorn",
        start: &[
            "gunicorn",
            "--chdir={dir}",
            "--bind=127.0.0.1:{port}",
            "--log-level=warning",
            "--worker-class=gthread",
            "--threads=8",
            "--keep-alive=75",
            "app:app",
        ],
        files: &[(
            "app.py",
            "import os\n\ndef app(environ, start_response):\n    body = b'%d\\n' % os.getpid()\n    \
             start_response('200 OK', [('Content-Length', str(len(body)))])\n    return [body]\n",
        )],
        serves: Itself,
        most_listeners: 1,
        version: &["gunicorn", "--version"],
        ..BASE
    },
    Candidate {
        id: "nginx",
        start: &["nginx", "-p", "{dir}", "-e", "{dir}/error.log", "-c", "{dir}/nginx.conf"],
        files: &[(
            "nginx.conf",
            "daemon off;\nworker_processes 1;\npid {dir}/nginx.pid;\nerror_log {dir}/error.log;\nevents {}\nhttp {\n\
             access_log off;\nkeepalive_requests 1000000;\nclient_body_temp_path {dir}/t1;\nproxy_temp_path {dir}/t2;\n\
             fastcgi_temp_path {dir}/t3;\nuwsgi_temp_path {dir}/t4;\nscgi_temp_path {dir}/t5;\nserver {\n\
             listen 127.0.0.1:{port};\nlocation / { return 200 \"$pid\\n\"; }\n}\n}\n",
        )],
        serves: Itself,
        most_listeners: 1,
        version: &["nginx", "-v"],
        ..BASE
    },
    Candidate {
        id: "haproxy",
        start: &["haproxy", "-W", "-f", "{dir}/haproxy.cfg"],
        files: &[(
            "haproxy.cfg",
            "global\n  stats socket {dir}/haproxy.sock mode 600 expose-fd listeners\ndefaults\n  mode http\n  \
             timeout client 30s\n  timeout server 30s\n  timeout connect 5s\n  timeout http-keep-alive 30s\n\
             frontend web\n  bind 127.0.0.1:{port}\n  \
             http-request return status 200 content-type text/plain lf-string \"%pid\\n\"\n",
        )],
        restart: USR2,
        serves: Itself,
        most_listeners: 1,
        version: &["haproxy", "-v"],
        ..BASE
    },
];
