//! Where the superdaemon's own lines go: to its standard error, which is the log if there is one. Every line is one
//! write, and none ever makes the superdaemon wait: what a slow or stuck reader does not take is kept for it up to a
//! limit, and then counted.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat};
use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::files::Reach;
use crate::handover::state;
use crate::printable::printable;

/// The lines that wait for their reader may take up as many bytes.
const LIMIT: usize = 64 * 1024;

/// The way to the log.
#[derive(Debug)]
pub struct LogOutput {
    way: Way,
    queue: VecDeque<Line>,
    /// The bytes in the queue.
    queued: usize,
    /// The lines that were lost since the last one that was taken into the queue.
    lost: u64,
}

/// How to write without ever waiting.
#[derive(Debug)]
enum Way {
    /// To a description of our own that is non-blocking. That flag must not be set on the one we inherited: others
    /// write to it too, and do not expect it.
    NonBlocking(OwnedFd),
    /// To a socket, which can be told with every message not to wait.
    Socket(OwnedFd),
    /// To a regular file, which always has room, if its file system answers. Its end is shared with all who write to the
    /// same description.
    File(OwnedFd, Reach),
    /// After asking whether there is room, and not more than there is then.
    Asking(OwnedFd),
    /// There is no standard error.
    Nowhere,
}

#[derive(Debug)]
struct Line {
    bytes: Vec<u8>,
    /// How many lines are lost if this one is: a notice about lost lines stands for all of them.
    stands_for: u64,
}

impl LogOutput {
    /// Lines go to where this descriptor leads, which is not changed in any way and may be closed afterwards.
    pub fn on(fd: BorrowedFd<'_>) -> LogOutput {
        LogOutput { way: Way::to(fd), queue: VecDeque::new(), queued: 0, lost: 0 }
    }

    /// What the next image of the program has to know.
    pub fn state(&self) -> state::Log {
        let line = |line: &Line| (line.bytes.as_slice().into(), line.stands_for);
        state::Log { lines: self.queue.iter().map(line).collect(), lost: self.lost }
    }

    /// Goes on with what the image before could not write.
    pub fn resume(&mut self, log: state::Log) {
        for (text, stands_for) in log.lines {
            self.push(Line { bytes: text.into_bytes(), stands_for });
        }
        self.lost = log.lost;
        self.flush();
    }

    /// Writes a line, at once if possible, else as soon as [`LogOutput::flush`] can. Whatever is in the text, it is one
    /// line of the log.
    pub fn line(&mut self, text: &str) {
        self.flush();
        self.announce_loss();
        let line = Line { bytes: format!("{}\n", printable(text)).into_bytes(), stands_for: 1 };
        if self.lost > 0 || !self.has_room_for(&line) {
            self.lost = self.lost.saturating_add(1);
            return;
        }
        self.push(line);
        self.flush();
    }

    /// Whether what the log is on can be asked for anything.
    pub fn answers(&mut self) -> bool {
        match &mut self.way {
            Way::File(fd, reach) => reach.answers_for(fd.as_fd()),
            _ => true,
        }
    }

    /// The descriptor to be polled for room to write, if there are lines that wait for it.
    pub fn pending(&self) -> Option<BorrowedFd<'_>> {
        if self.queue.is_empty() { None } else { self.way.fd() }
    }

    /// Writes as many of the waiting lines as can be written without waiting.
    pub fn flush(&mut self) {
        loop {
            let Some(line) = self.queue.front_mut() else {
                self.announce_loss();
                if self.queue.is_empty() {
                    return;
                }
                continue;
            };
            match self.way.write(&line.bytes) {
                Ok(written) if written < line.bytes.len() => {
                    line.bytes.drain(..written);
                    self.queued = self.queued.saturating_sub(written);
                }
                Ok(written) => {
                    self.queued = self.queued.saturating_sub(written);
                    self.queue.pop_front();
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                // The disk is full, or the reader is gone: waiting would be for nothing.
                Err(_) => return self.lose_everything(),
            }
        }
    }

    /// Writes the waiting lines, and waits for room, but not longer than the limit.
    pub fn finish(&mut self, limit: Duration) {
        let begun = Instant::now();
        loop {
            self.flush();
            let Some(left) = limit.checked_sub(begun.elapsed()) else { return };
            let Some(fd) = self.pending() else { return };
            let timeout = Timespec::try_from(left).ok();
            // If this fails it is tried again, until the limit.
            let _ = poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], timeout.as_ref());
        }
    }

    fn has_room_for(&self, line: &Line) -> bool {
        self.queued.saturating_add(line.bytes.len()) <= LIMIT
    }

    fn push(&mut self, line: Line) {
        self.queued = self.queued.saturating_add(line.bytes.len());
        self.queue.push_back(line);
    }

    /// Puts a notice where lines are missing, once there is room for it.
    fn announce_loss(&mut self) {
        if self.lost == 0 {
            return;
        }
        let bytes = format!("{} lines are missing here, because the log did not take them\n", self.lost).into_bytes();
        let notice = Line { bytes, stands_for: self.lost };
        if self.has_room_for(&notice) {
            self.push(notice);
            self.lost = 0;
        }
    }

    fn lose_everything(&mut self) {
        let lost = self.queue.drain(..).map(|line| line.stands_for).fold(0, u64::saturating_add);
        self.queued = 0;
        self.lost = self.lost.saturating_add(lost);
    }
}

/// A description of our own of a file that all append to: workers can change the flags of the one that they have, too,
/// so that nothing can be written any more. One that is written to at a common offset has to be shared.
fn own_description(file: &OwnedFd) -> Option<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CLOEXEC;
    let appends = rustix::fs::fcntl_getfl(file).is_ok_and(|flags| flags.contains(OFlags::APPEND));
    let reopen = || rustix::fs::open(format!("/proc/self/fd/{}", file.as_raw_fd()), flags, Mode::empty()).ok();
    if appends { reopen() } else { None }
}

impl Way {
    fn to(fd: BorrowedFd<'_>) -> Way {
        let Ok(same) = rustix::io::fcntl_dupfd_cloexec(fd, 0) else { return Way::Nowhere };
        match fstat(&same).map(|found| FileType::from_raw_mode(found.st_mode)) {
            Ok(FileType::Socket) => Way::Socket(same),
            Ok(FileType::RegularFile) => {
                let file = own_description(&same).unwrap_or(same);
                let reach = Reach::of_file(&file);
                Way::File(file, reach)
            }
            Ok(FileType::Fifo | FileType::CharacterDevice) => {
                let path = format!("/proc/self/fd/{}", same.as_raw_fd());
                let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::APPEND | OFlags::NOCTTY | OFlags::CLOEXEC;
                match rustix::fs::open(path, flags, Mode::empty()) {
                    Ok(own) => Way::NonBlocking(own),
                    Err(_) => Way::Asking(same),
                }
            }
            _ => Way::Asking(same),
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Way::NonBlocking(fd) | Way::Socket(fd) | Way::Asking(fd) => Some(fd.as_fd()),
            // Poll takes it for ready. What waits is written with the next line.
            Way::File(..) | Way::Nowhere => None,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        /// A pipe that says it has room has room for this much, see PIPE_BUF in pipe(7).
        const ATOMIC: usize = 4096;
        match self {
            Way::File(fd, reach) => {
                if reach.answers_for(fd.as_fd()) {
                    rustix::io::write(fd, bytes)
                } else {
                    Err(Errno::AGAIN)
                }
            }
            Way::NonBlocking(fd) => rustix::io::write(fd, bytes),
            Way::Socket(fd) => rustix::net::send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Way::Asking(fd) => match poll(&mut [PollFd::new(fd, PollFlags::OUT)], Some(&Timespec::default()))? {
                0 => Err(Errno::AGAIN),
                _ => rustix::io::write(fd, bytes.get(..ATOMIC).unwrap_or(bytes)),
            },
            Way::Nowhere => Err(Errno::BADF),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::io::{Read, Write, pipe};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    fn way_of(output: &LogOutput) -> &'static str {
        match output.way {
            Way::NonBlocking(_) => "non-blocking",
            Way::Socket(_) => "socket",
            Way::File(..) => "file",
            Way::Asking(_) => "asking",
            Way::Nowhere => "nowhere",
        }
    }

    /// Writes far more than can be taken; lets the reader read; writes one more line. Returns all that was read.
    fn flood(mut output: LogOutput, mut reader: impl Read) -> String {
        const LINES: usize = 40_000;
        for number in 0..LINES {
            output.line(&format!("line {number} ............................................"));
        }
        assert!(output.pending().is_some());
        let mut text = Vec::new();
        while output.pending().is_some() {
            let mut buffer = [0; 8192];
            let length = reader.read(&mut buffer).unwrap();
            text.extend_from_slice(&buffer[..length]);
            output.flush();
        }
        output.line("after the flood");
        output.finish(Duration::from_secs(30));
        assert!(output.pending().is_none());
        drop(output);
        reader.read_to_end(&mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        let mut missing = 0;
        let mut next = 0;
        for line in text.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["line", number, _] => {
                    assert_eq!(number.parse::<usize>().unwrap(), next);
                    next += 1;
                }
                [number, "lines", "are", "missing", ..] => {
                    let number: usize = number.parse().unwrap();
                    missing += number;
                    next += number;
                }
                _ => assert_eq!(line, "after the flood"),
            }
        }
        assert!(missing > 0);
        assert_eq!(next, LINES, "every line is there or counted");
        assert!(text.ends_with("after the flood\n"));
        text
    }

    #[test]
    fn a_full_pipe_does_not_hold_it_up() {
        let (reader, writer) = pipe().unwrap();
        let output = LogOutput::on(writer.as_fd());
        assert_eq!(way_of(&output), "non-blocking");
        let inherited = rustix::fs::fcntl_getfl(&writer).unwrap();
        assert!(!inherited.contains(OFlags::NONBLOCK), "the others' description is as it was");
        drop(writer);
        flood(output, reader);
    }

    #[test]
    fn a_full_socket_does_not_hold_it_up() {
        let (reader, writer) = UnixStream::pair().unwrap();
        let output = LogOutput::on(writer.as_fd());
        assert_eq!(way_of(&output), "socket");
        drop(writer);
        flood(output, reader);
    }

    #[test]
    fn a_pipe_that_cannot_be_reopened_does_not_hold_it_up() {
        let (reader, writer) = pipe().unwrap();
        let mut output = LogOutput::on(writer.as_fd());
        output.way = Way::Asking(writer.into());
        flood(output, reader);
    }

    #[test]
    fn long_lines_arrive_whole() {
        let (mut reader, writer) = pipe().unwrap();
        let mut output = LogOutput::on(writer.as_fd());
        output.way = Way::Asking(writer.into());
        output.line(&"x".repeat(50_000));
        output.line("y");
        drop(output);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("{}\ny\n", "x".repeat(50_000)));
    }

    #[test]
    fn a_line_is_one_write() {
        // A datagram socket keeps the limits of each write.
        let (reader, writer) = UnixDatagram::pair().unwrap();
        let mut output = LogOutput::on(writer.as_fd());
        output.line("received HUP, spawning a new worker");
        let mut buffer = [0; 100];
        let length = reader.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"received HUP, spawning a new worker\n");
    }

    #[test]
    fn errors_end_nothing_and_are_made_up_for() {
        let (reader, writer) = pipe().unwrap();
        let mut output = LogOutput::on(writer.as_fd());
        drop(reader);
        output.line("one");
        output.line("two");
        assert!(output.pending().is_none(), "nothing to be polled for");
        let (mut reader, writer) = pipe().unwrap();
        output.way = Way::to(writer.as_fd());
        drop(writer);
        output.line("three");
        drop(output);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "2 lines are missing here, because the log did not take them\nthree\n");
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut output = LogOutput::on(full.as_fd());
        output.line("no space");
        assert!(output.pending().is_none());
        output.finish(Duration::ZERO);
    }

    #[test]
    fn the_end_does_not_wait_longer_than_it_may() {
        let (_reader, writer) = pipe().unwrap();
        let mut output = LogOutput::on(writer.as_fd());
        (0..5000).for_each(|_| output.line("................................................................"));
        let begun = Instant::now();
        output.finish(Duration::from_millis(50));
        assert!(begun.elapsed() >= Duration::from_millis(50) && begun.elapsed() < Duration::from_secs(20));
        assert!(output.pending().is_some());
    }

    #[test]
    fn a_file_is_appended_to_by_all_in_turn() {
        let path = std::env::temp_dir().join(format!("log_output-{}", std::process::id()));
        let _ = fs::remove_file(&path);
        // As `2> file` of a shell: not opened for appending.
        let mut inherited = File::create(&path).unwrap();
        let mut output = LogOutput::on(inherited.as_fd());
        output.line("superdaemon");
        inherited.write_all(b"worker\n").unwrap();
        output.line("superdaemon again");
        assert_eq!(fs::read_to_string(&path).unwrap(), "superdaemon\nworker\nsuperdaemon again\n");
        let mut log: File = crate::files::open_log_file(&path).unwrap().into();
        log.write_all(b"appended\n").unwrap();
        assert!(fs::read_to_string(&path).unwrap().ends_with("again\nappended\n"));
        fs::remove_file(&path).unwrap();
    }
}
