//! A service manager that the tests play: the socket that NOTIFY_SOCKET names, and what was heard on it.

use std::cell::RefCell;
use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use testkit::{Builder, Daemon};

#[derive(Debug)]
pub struct Manager {
    socket: UnixDatagram,
    heard: RefCell<Vec<Heard>>,
}

#[derive(Debug)]
pub struct Heard {
    pub text: String,
    pub descriptors: Vec<OwnedFd>,
}

impl Manager {
    /// A manager for this superdaemon, at the path `notify` in its directory.
    pub fn of(daemon: Builder) -> (Self, Builder) {
        let path = daemon.dir().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        (Self { socket, heard: RefCell::default() }, daemon.env("NOTIFY_SOCKET", path))
    }

    fn listen(&self) {
        loop {
            let mut text = [0; 4096];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            // A superdaemon that another test starts at this moment must not find them at its descriptors.
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            let received = recvmsg(&self.socket, &mut [IoSliceMut::new(&mut text)], &mut ancillary, flags);
            let Ok(received) = received else { return };
            let descriptors = ancillary.drain().flat_map(|message| match message {
                RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<_>>(),
                _ => Vec::new(),
            });
            let descriptors = descriptors.collect();
            let text = String::from_utf8(text[..received.bytes].to_vec()).unwrap();
            self.heard.borrow_mut().push(Heard { text, descriptors });
        }
    }

    /// The first lines of everything that was heard so far, but for the words for people and for what is kept.
    pub fn events(&self) -> Vec<String> {
        self.listen();
        let heard = self.heard.borrow();
        let lines = heard.iter().filter_map(|heard| heard.text.lines().next());
        let mut lines: Vec<&str> =
            lines.filter(|line| !line.starts_with("STATUS=") && !line.starts_with("FD")).collect();
        lines.dedup();
        lines.into_iter().map(str::to_owned).collect()
    }

    /// What was said to people last.
    pub fn status(&self) -> String {
        self.texts("STATUS=").pop().unwrap_or_default()
    }

    /// Everything heard so far that begins so, less that.
    pub fn texts(&self, beginning: &str) -> Vec<String> {
        self.listen();
        let heard = self.heard.borrow();
        heard.iter().filter_map(|heard| heard.text.strip_prefix(beginning)).map(str::to_owned).collect()
    }

    /// Waits until the events are these.
    pub fn wait_events(&self, daemon: &Daemon, expected: &[&str]) {
        daemon.wait_for(&format!("the events {expected:?}"), || {
            let events = self.events();
            assert!(events.len() <= expected.len(), "{events:?} instead of {expected:?}");
            (events == expected).then_some(())
        });
    }

    /// Waits until what was said last to people satisfies this.
    pub fn wait_status(&self, daemon: &Daemon, wanted: impl Fn(&str) -> bool) -> String {
        daemon.wait_for("a certain status", || Some(self.status()).filter(|status| wanted(status)))
    }

    /// What is kept, by name, and the descriptors.
    pub fn kept(&self) -> Vec<(String, OwnedFd)> {
        self.listen();
        let heard = self.heard.borrow();
        let kept = heard.iter().filter(|heard| heard.text.starts_with("FDSTORE=1\n"));
        kept.map(|heard| {
            let name = heard.text.lines().find_map(|line| line.strip_prefix("FDNAME=")).unwrap();
            assert!(heard.text.contains("\nFDPOLL=0\n") && heard.descriptors.len() == 1, "{heard:?}");
            (name.to_owned(), heard.descriptors[0].try_clone().unwrap())
        })
        .collect()
    }
}
