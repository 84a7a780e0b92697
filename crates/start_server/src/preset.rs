//! What is right for well-known servers: the signals by which they stop without losing a request, how they take over
//! listeners, and how these have to be set. The command line puts a preset below the options that are given.

use sys::signal::Signal;

use crate::export::{CONVENTIONS, Convention};
use crate::listen_spec::ListenOptions;

/// A server, and what is right for it. Every preset observes the kernel for readiness (`--ready=accept`).
#[derive(Debug)]
pub struct Preset {
    /// Its name in `--preset`.
    pub name: &'static str,
    /// What finishes the requests in progress, and nothing else. It is both signals, on HUP and on TERM.
    pub signal: Signal,
    /// How the server learns of its listeners; nothing if from `SERVER_STARTER_PORT` or from its command line.
    pub export: &'static [Convention],
    /// Whether connections should only be accepted once they have sent something: the server drops those that have
    /// not when it stops.
    pub defer_accept: bool,
    /// Whether small answers have to be sent at once: the server does not see to it on inherited listeners.
    pub tcp_nodelay: bool,
    /// Whether the listeners must not block: the server relies on it.
    pub nonblock: bool,
    /// A command line that works.
    pub example: &'static str,
    /// What the server's own configuration has to look like, or what to know.
    pub advice: &'static str,
}

/// A server for which nothing has to be done.
const PLAIN: Preset = Preset {
    name: "",
    signal: Signal::TERM,
    export: &[],
    defer_accept: false,
    tcp_nodelay: false,
    nonblock: false,
    example: "",
    advice: "",
};

/// All presets, by name.
pub static PRESETS: [Preset; 15] = [
    Preset {
        name: "gunicorn",
        export: &[Convention::ListenFds],
        example: "gunicorn --no-control-socket -w 4 app:app",
        advice: "without --bind, which would take the listener a second time; --preload if the application is slow",
        ..PLAIN
    },
    Preset {
        name: "h2o",
        example: "h2o -m worker -c h2o.conf",
        advice: "listen: {host, port} in h2o.conf has to be spelled as in --port",
        ..PLAIN
    },
    Preset {
        name: "haproxy",
        signal: Signal::USR1,
        example: "env FD={fd:0} haproxy -db -f haproxy.cfg",
        advice: "with \"bind fd@${FD}\" in haproxy.cfg",
        ..PLAIN
    },
    Preset {
        name: "hypercorn",
        defer_accept: true,
        example: "hypercorn --bind fd://{fd:0} app:app",
        advice: "--graceful-timeout is how long requests may take to finish",
        ..PLAIN
    },
    Preset {
        name: "lighttpd",
        signal: Signal::INT,
        export: &[Convention::ListenFds],
        example: "lighttpd -D -f lighttpd.conf",
        advice: "with server.systemd-socket-activation = \"enable\" in lighttpd.conf",
        ..PLAIN
    },
    Preset {
        name: "nginx",
        signal: Signal::QUIT,
        export: &[Convention::Nginx],
        nonblock: true,
        example: "nginx -g 'daemon off;' -c /etc/nginx/nginx.conf",
        advice: "every listener has to stand in nginx.conf, spelled as in --port: a number alone, or address and port",
        ..PLAIN
    },
    Preset {
        name: "node",
        example: "node server.js",
        advice: "with listen({fd}) of the number in SERVER_STARTER_PORT, and server.close() on SIGTERM",
        ..PLAIN
    },
    Preset {
        name: "php-fpm",
        signal: Signal::QUIT,
        export: &[Convention::Fpm],
        example: "php-fpm -F -y fpm.conf",
        advice: "listen = in fpm.conf is the address with its port, or the path; process_control_timeout is how long \
                 requests may take to finish",
        ..PLAIN
    },
    Preset {
        name: "puma",
        export: &[Convention::ListenFds],
        defer_accept: true,
        example: "puma --bind-to-activated-sockets only -C puma.rb",
        advice: "puma has to be the process that is started: with Bundler, \"bundle exec --keep-file-descriptors puma\"",
        ..PLAIN
    },
    Preset {
        name: "starlet",
        example: "plackup -s Starlet --max-workers=4 app.psgi",
        advice: "nothing more is needed",
        ..PLAIN
    },
    Preset {
        name: "starman",
        signal: Signal::QUIT,
        defer_accept: true,
        example: "starman --workers 4 app.psgi",
        advice: "not for unix sockets; a connection that is accepted in the very moment of the signal is lost (Starlet \
                 loses none)",
        ..PLAIN
    },
    Preset {
        name: "twiggy",
        signal: Signal::QUIT,
        example: "plackup -s Twiggy app.psgi",
        advice: "not for unix sockets",
        ..PLAIN
    },
    Preset {
        name: "unicorn",
        signal: Signal::QUIT,
        export: &[Convention::Unicorn],
        example: "unicorn -c unicorn.conf.rb config.ru",
        advice: "without listen in unicorn.conf.rb; with slow_start of the gem server-starter, --signal-on-hup=CONT",
        ..PLAIN
    },
    Preset {
        name: "uvicorn",
        defer_accept: true,
        tcp_nodelay: true,
        example: "uvicorn --fd {fd:0} app:app",
        advice: "one process; for several use gunicorn with uvicorn's worker class",
        ..PLAIN
    },
    Preset {
        name: "uwsgi",
        example: "uwsgi --master --die-on-term --hook-master-start 'unix_signal:15 gracefully_kill_them_all' \
                  --http-socket fd://{fd:0} --module app",
        advice: "the hook makes TERM wait for the requests in progress",
        ..PLAIN
    },
];

impl Preset {
    /// The preset of this name.
    ///
    /// # Errors
    /// The names that there are.
    pub fn find(name: &str) -> Result<&'static Self, String> {
        PRESETS.iter().find(|preset| preset.name == name).ok_or_else(|| {
            let names: Vec<&str> = PRESETS.iter().map(|preset| preset.name).collect();
            format!("list or one of {} expected", names.join(", "))
        })
    }

    /// How the listeners are to be set.
    pub fn listen_options(&self) -> ListenOptions {
        ListenOptions {
            // Whether a second is enough is a matter of the clients' networks; servers that set this themselves use it.
            defer_accept: self.defer_accept.then_some(1),
            tcp_nodelay: self.tcp_nodelay.then_some(true),
            nonblock: self.nonblock.then_some(true),
            ..ListenOptions::default()
        }
    }

    /// The options that it stands for, as they would be typed.
    pub fn options(&self) -> String {
        let mut options = vec![format!("--signal-on-hup={0} --signal-on-term={0}", self.signal)];
        let exports: Vec<&str> =
            CONVENTIONS.iter().filter(|(_, it)| self.export.contains(it)).map(|(name, _)| *name).collect();
        if !exports.is_empty() {
            options.push(format!("--export={}", exports.join(",")));
        }
        let switches =
            [("--defer-accept", self.defer_accept), ("--tcp-nodelay", self.tcp_nodelay), ("--nonblock", self.nonblock)];
        options.extend(switches.iter().filter(|(_, is_on)| *is_on).map(|(name, _)| (*name).to_owned()));
        options.push("--ready=accept".to_owned());
        options.join(" ")
    }
}

/// What `--preset=list` prints.
pub fn list() -> String {
    let mut text = "A preset stands for options; each of them can be given besides to overrule it.\n".to_owned();
    for preset in &PRESETS {
        text += &format!(
            "\n{}\n    {}\n    start_server --preset={} --port=... -- {}\n    {}\n",
            preset.name,
            preset.options(),
            preset.name,
            preset.example,
            preset.advice
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_sorted_and_found_by_name() {
        assert!(PRESETS.is_sorted_by_key(|preset| preset.name));
        assert!(PRESETS.iter().all(|preset| Preset::find(preset.name).unwrap().name == preset.name));
        assert!(Preset::find("apache").unwrap_err().contains("gunicorn, h2o, haproxy"));
    }

    #[test]
    fn the_list_says_what_each_stands_for() {
        let text = list();
        for preset in &PRESETS {
            assert!(text.contains(&format!("\n{}\n    {}\n", preset.name, preset.options())), "{}", preset.name);
            assert!(!preset.example.is_empty() && !preset.advice.is_empty(), "{}", preset.name);
        }
        let nginx = Preset::find("nginx").unwrap();
        let expected = "--signal-on-hup=QUIT --signal-on-term=QUIT --export=nginx --nonblock --ready=accept";
        assert_eq!(nginx.options(), expected);
    }
}
