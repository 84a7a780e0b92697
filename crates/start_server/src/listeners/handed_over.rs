//! The listeners in the hands of another image of the program: written down by one, taken over by the next.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};

use sys::reexec::Inherited;

use super::numbers::Numbers;
use super::passed::passed_spec;
use super::socket_file::SocketFile;
use super::{BoundAddress, Listener, Listeners, socket_options};
use crate::config::Config;
use crate::handover::descriptor::{Kept, take};
use crate::handover::state;
use crate::listen_spec::ListenSpec;

impl Listeners {
    /// What the next image of the program has to know of them.
    pub fn state(&self, kept: &mut Kept) -> Vec<state::Listener> {
        let file = |file: &SocketFile| state::File { path: file.path.as_path().into(), identity: file.identity };
        let listener = |listener: &Listener| state::Listener {
            address: listener.spelling().into(),
            socket: kept.keep(listener.socket.as_fd()),
            file: listener.file.as_ref().map(file),
            is_managers: listener.is_managers,
            name: listener.spec.name.clone().filter(|_| listener.is_managers),
        };
        self.all.iter().map(listener).collect()
    }

    /// Those of the image before. They are what the configuration says: what may change with an upgrade was checked.
    ///
    /// # Errors
    /// A sentence: one of them is not there. No socket file is touched.
    pub fn resume(config: &Config, listeners: Vec<state::Listener>, inherited: &mut Inherited) -> Result<Self, String> {
        // Those that are on no command line were passed by the service manager.
        let is_complete = listeners.len() >= config.listeners.len();
        if !is_complete || listeners.iter().skip(config.listeners.len()).any(|listener| !listener.is_managers) {
            return Err("there are more or fewer listeners than the command line says".to_owned());
        }
        let sockets = listeners.iter().map(|listener| {
            let gone = || {
                let address = OsString::from(listener.address.clone());
                format!("the listener {} is not at descriptor {}", address.display(), listener.socket.fd)
            };
            let socket = take(inherited, listener.socket).ok_or_else(gone)?;
            let address = BoundAddress::of(&socket).map_err(|_| gone())?;
            Ok((socket, address))
        });
        let sockets: Vec<(OwnedFd, BoundAddress)> = sockets.collect::<Result<_, String>>()?;
        let mut specs = Vec::new();
        for (place, (listener, (socket, address))) in listeners.iter().zip(&sockets).enumerate() {
            specs.push(match config.listeners.get(place) {
                Some(spec) => ListenSpec { name: spec.name.clone().or_else(|| listener.name.clone()), ..spec.clone() },
                None => passed_spec(socket, address, listener.name.clone())?,
            });
        }
        let numbers = Numbers::choose(specs.iter().map(|spec| spec.descriptor), config.first_fd)
            .map_err(|error| error.to_string())?;
        let all = specs.into_iter().zip(listeners).zip(numbers.each()).zip(sockets);
        let all = all.map(|(((spec, listener), number), (socket, address))| {
            let file = listener.file.map(|file| SocketFile {
                path: file.path.into(),
                identity: file.identity,
                inherited: true,
            });
            let is_managers = listener.is_managers;
            let listener = Listener { spec, address, socket, number, file, is_managers };
            listener.restore_backlog();
            listener
        });
        Ok(Self { all: all.collect(), orphans: Vec::new(), released: Vec::new(), changes: 0 })
    }
}

impl Listener {
    /// A server may have shortened the queue; what the guards find now they take for what was asked for.
    fn restore_backlog(&self) {
        if self.kind().is_stream() && !self.is_managers {
            let _ = rustix::net::listen(&self.socket, socket_options::backlog(&self.spec.options));
        }
    }
}
