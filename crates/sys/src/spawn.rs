//! Starting a program with exactly the descriptors, signals and environment that it was promised.
//! The event loop calls [`spawn`] for workers, `log_command` for the log command; neither ever waits for an exec.

mod privileges;

pub use privileges::Privileges;

use std::ffi::{CStr, CString};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use libc::{c_char, c_int, c_uint};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::signal::{self, Mask, Signal};

/// Everything about a process to be started.
#[derive(Clone, Debug, Default)]
pub struct Plan<'fd> {
    /// The program and its arguments. A program without a slash is looked up in the `PATH` of `environment`.
    pub arguments: Vec<CString>,
    /// The whole environment, as `NAME=VALUE`.
    pub environment: Vec<CString>,
    /// The name of a variable that is to hold the process's own PID, which nobody knows before it exists.
    pub pid_variable: Option<String>,
    /// The directory to change to, as the user that the program runs as; none: the one of the caller.
    pub directory: Option<CString>,
    /// The descriptors that the program gets, each with its number there. It gets the caller's 0, 1 and 2 as well
    /// unless they are close-on-exec or named here, and no others.
    pub descriptors: Vec<(BorrowedFd<'fd>, RawFd)>,
    /// Signals that the program finds ignored. All others have the default disposition, none is blocked.
    pub ignored_signals: Vec<Signal>,
    /// Whether it leads a new process group; else it stays in the caller's. If it gets another user, it leads a new session
    /// as well: whoever has the terminal of a session can type on it, and so command who started the session.
    pub own_process_group: bool,
    /// Whom it runs as and what it may do.
    pub privileges: Privileges,
}

/// A child process that exists, whether it executes the program already or not.
#[derive(Debug)]
pub struct Spawned {
    /// Its PID, which is also its process group if it was to lead one.
    pub pid: i32,
    /// Tells whether the program could be executed.
    pub exec: ExecReport,
}

/// The descriptor on which the child reports. It becomes readable when [`ExecReport::read`] has something to tell.
#[derive(Debug)]
pub struct ExecReport(OwnedFd);

/// How far a child has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecState {
    /// It is still on the way to its program, for example because of a hung file system.
    Pending,
    /// It executes the program, or a signal ended it before it could, which its wait status tells.
    Executed,
    /// It could not execute the program and exits: with 255, or after a failure to change the directory with the low
    /// 8 bits of `errno`, as the programs of Perl that this one replaces do.
    Failed {
        /// What it was doing.
        stage: Stage,
        /// Why that failed, see errno(3).
        errno: i32,
    },
}

/// What a child does between its start and its program. The numbers stay as they are: another image of the program may
/// read them, and learns nothing of those that it does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Making its process group.
    ProcessGroup,
    /// Changing to its directory.
    Directory,
    /// Putting its descriptors in place.
    Descriptors,
    /// Setting its signals.
    Signals,
    /// Executing the program.
    Exec,
    /// Setting its resource limits.
    Limits,
    /// Setting its supplementary groups.
    Groups,
    /// Changing its group.
    Group,
    /// Changing its user.
    User,
    /// Giving up new privileges for good.
    NoNewPrivileges,
}

impl Stage {
    const ALL: [Stage; 10] = [
        Stage::ProcessGroup,
        Stage::Directory,
        Stage::Descriptors,
        Stage::Signals,
        Stage::Exec,
        Stage::Limits,
        Stage::Groups,
        Stage::Group,
        Stage::User,
        Stage::NoNewPrivileges,
    ];
}

/// Words that go after "failed to".
impl fmt::Display for Stage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Stage::ProcessGroup => "make a process group",
            Stage::Directory => "change the directory",
            Stage::Descriptors => "put the descriptors in place",
            Stage::Signals => "set the signals",
            Stage::Exec => "execute the program",
            Stage::Limits => "set the resource limits",
            Stage::Groups => "set the supplementary groups",
            Stage::Group => "change the group",
            Stage::User => "change the user",
            Stage::NoNewPrivileges => "give up new privileges",
        })
    }
}

/// Starts a process according to the plan. Does not wait for it to execute the program: see [`Spawned::exec`].
///
/// # Errors
/// No process, descriptor or memory left; or `InvalidInput`, if the plan has no program, gives a number twice or
/// gives a negative one. Everything that goes wrong in the child itself is told by [`Spawned::exec`].
pub fn spawn(plan: &Plan<'_>) -> io::Result<Spawned> {
    launch(plan, close_range)
}

impl ExecReport {
    /// How far the child has come; never blocks.
    ///
    /// # Errors
    /// Those of read(2); none is expected.
    pub fn read(&self) -> io::Result<ExecState> {
        let mut report = [0; Failure::SIZE];
        let length = loop {
            match rustix::io::read(&self.0, &mut report) {
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(ExecState::Pending),
                other => break other?,
            }
        };
        if length == 0 {
            return Ok(ExecState::Executed);
        }
        let Failure { stage, errno } = Failure::decode(report)
            .ok_or_else(|| io::Error::other("a child reported in words that its parent does not know"))?;
        Ok(ExecState::Failed { stage, errno })
    }
}

impl From<OwnedFd> for ExecReport {
    /// The reading end of a status pipe, as another image of this process had it.
    fn from(reader: OwnedFd) -> Self {
        Self(reader)
    }
}

impl AsFd for ExecReport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Marks every descriptor from 3 on as close-on-exec.
pub(crate) fn mark_everything() {
    const FIRST_AFTER_STDERR: c_uint = 3;
    if !mark_all_at_once(FIRST_AFTER_STDERR) {
        mark_one_by_one(FIRST_AFTER_STDERR, |_| false);
    }
}

/// Closes the descriptors from one number to another. Returns whether that worked.
type CloseRange = fn(c_uint, c_uint) -> bool;

fn launch(plan: &Plan<'_>, close_range: CloseRange) -> io::Result<Spawned> {
    let mut child = Child::prepare(plan, close_range)?;
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
    // From before the fork until the child has its own dispositions every signal waits: one that is meant for the
    // child is delivered when it unblocks them and acts as the program would have it.
    let before = Mask::ALL.set()?;
    // SAFETY: the child only runs `Child::run`, which is async-signal-safe and allocates nothing.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        child.run(writer.as_raw_fd());
    }
    let failure = io::Error::last_os_error();
    before.set()?;
    if pid < 0 {
        return Err(failure);
    }
    // The child goes first where both share a processor: what it begins is waited for, what its parent does is not.
    // SAFETY: has no preconditions.
    unsafe { libc::sched_yield() };
    if plan.own_process_group && !plan.privileges.is_another_user() {
        // The child does this too: whoever comes first, the group exists when either goes on. The call fails if the
        // child has executed its program or is gone, and then it has been made.
        // SAFETY: takes integers only.
        unsafe { libc::setpgid(pid, pid) };
    }
    Ok(Spawned { pid, exec: ExecReport(reader) })
}

/// What the child needs, laid out before the fork so that it only has to make system calls.
struct Child<'plan> {
    /// Where to look for the program, in this order.
    candidates: Vec<CString>,
    arguments: Vec<*const c_char>,
    /// Arguments for a shell that runs a candidate without `#!`; the second is set to the candidate then.
    shell_arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    /// The variable for the PID. The environment begins with it.
    pid_entry: Option<PidEntry>,
    directory: Option<&'plan CStr>,
    /// Sorted by target.
    placements: Vec<Placement>,
    ignored_signals: &'plan [Signal],
    own_process_group: bool,
    privileges: &'plan Privileges,
    close_range: CloseRange,
}

#[derive(Clone, Copy)]
struct Placement {
    source: RawFd,
    target: RawFd,
}

const SHELL: &CStr = c"/bin/sh";

impl<'plan> Child<'plan> {
    fn prepare(plan: &'plan Plan<'_>, close_range: CloseRange) -> io::Result<Child<'plan>> {
        let invalid = |message: String| io::Error::new(io::ErrorKind::InvalidInput, message);
        let Some((program, rest)) = plan.arguments.split_first() else {
            return Err(invalid("there is no program to start".to_owned()));
        };
        let mut placements: Vec<_> = plan
            .descriptors
            .iter()
            .map(|(source, target)| Placement { source: source.as_raw_fd(), target: *target })
            .collect();
        placements.sort_unstable_by_key(|placement| placement.target);
        if let Some(first) = placements.first().filter(|first| first.target < 0) {
            return Err(invalid(format!("{} is not the number of a descriptor", first.target)));
        }
        let twice = placements.windows(2).find_map(|pair| match pair {
            [one, other] if one.target == other.target => Some(one.target),
            _ => None,
        });
        if let Some(number) = twice {
            return Err(invalid(format!("descriptor {number} is given to the program twice")));
        }
        let pid_entry = plan.pid_variable.as_deref().map(PidEntry::new).transpose()?;
        let environment = plan.environment.iter().map(CString::as_c_str);
        Ok(Child {
            candidates: candidates(program, &plan.environment),
            arguments: null_terminated(plan.arguments.iter().map(CString::as_c_str)),
            shell_arguments: null_terminated([SHELL, c""].into_iter().chain(rest.iter().map(CString::as_c_str))),
            environment: null_terminated(pid_entry.as_ref().map(PidEntry::as_c_str).into_iter().chain(environment)),
            pid_entry,
            directory: plan.directory.as_deref(),
            placements,
            ignored_signals: &plan.ignored_signals,
            own_process_group: plan.own_process_group,
            privileges: &plan.privileges,
            close_range,
        })
    }

    /// The child's life before its program. Async-signal-safe and without allocation, as everything that it calls.
    fn run(&mut self, status: RawFd) -> ! {
        let mut status = status;
        let failure = self.become_the_program(&mut status);
        let report = failure.encode();
        let code = match failure.stage {
            Stage::Directory => failure.errno & 0xff,
            _ => 255,
        };
        // SAFETY: the report lives during the call; a report that cannot be written leaves the exit code. `_exit`
        // runs no code of the parent's.
        unsafe {
            libc::write(status, report.as_ptr().cast(), report.len());
            libc::_exit(code)
        }
    }

    /// Returns only if something failed. `status` is changed when the status pipe has to give way to a descriptor.
    fn become_the_program(&mut self, status: &mut RawFd) -> Failure {
        if self.own_process_group && self.lead_a_group() != 0 {
            return Failure { stage: Stage::ProcessGroup, errno: errno() };
        }
        // A higher limit makes room for the descriptors, and a new user could not raise it.
        if let Err(failed) = self.privileges.limit() {
            return failed.into();
        }
        if let Some(entry) = &mut self.pid_entry {
            // SAFETY: only returns a number.
            entry.fill_in(unsafe { libc::getpid() }.unsigned_abs());
            if let Some(first) = self.environment.first_mut() {
                *first = entry.as_c_str().as_ptr();
            }
        }
        if let Err(errno) = self.place_descriptors(status) {
            return Failure { stage: Stage::Descriptors, errno };
        }
        if let Err(failed) = self.privileges.change_user() {
            return failed.into();
        }
        // As the user that it is for: a file server may let nobody else in, and nobody shall be let in by our rights.
        // SAFETY: the path ends with a NUL.
        if self.directory.is_some_and(|directory| unsafe { libc::chdir(directory.as_ptr()) } != 0) {
            return Failure { stage: Stage::Directory, errno: errno() };
        }
        if self.set_signals().is_err() {
            return Failure { stage: Stage::Signals, errno: errno() };
        }
        Failure { stage: Stage::Exec, errno: self.execute() }
    }

    /// Makes a process group, or a session, which has one.
    fn lead_a_group(&self) -> c_int {
        // SAFETY: both take integers only, and none of them is a pointer.
        unsafe { if self.privileges.is_another_user() { libc::setsid().min(0) } else { libc::setpgid(0, 0) } }
    }

    fn place_descriptors(&mut self, status: &mut RawFd) -> Result<(), c_int> {
        // The numbers are filled from the lowest to the highest. What sits on one that something else gets before it is
        // its turn moves away first. Of listeners in their usual order none has to.
        if self.is_target(*status) {
            *status = self.lift(*status)?;
        }
        for index in 0..self.placements.len() {
            let Some(&Placement { source, target }) = self.placements.get(index) else { break };
            if source < target && self.is_target(source) {
                let lifted = self.lift(source)?;
                if let Some(placement) = self.placements.get_mut(index) {
                    placement.source = lifted;
                }
            }
        }
        for &Placement { source, target } in &self.placements {
            // A descriptor made by dup2(2) is not close-on-exec; one that is in its place already has to be told.
            // SAFETY: takes integers only; this process owns all its descriptors.
            let result = unsafe {
                if source == target { libc::fcntl(target, libc::F_SETFD, 0) } else { libc::dup2(source, target) }
            };
            if result < 0 {
                return Err(errno());
            }
        }
        self.close_others(*status);
        Ok(())
    }

    /// Closes what the program does not get, but for the status pipe, which the exec closes.
    ///
    /// An exec would close it all, but a close may wait, for a file system that does not answer; and in the course of an
    /// exec nobody can look into the process, so that all who do would wait as well.
    fn close_others(&self, status: RawFd) {
        const FIRST_AFTER_STDERR: RawFd = 3;
        let mut first = FIRST_AFTER_STDERR;
        let mut status = Some(status);
        for Placement { target, .. } in self.placements.iter().copied() {
            if let Some(status) = status.take_if(|status| *status < target) {
                first = self.close_up_to(first, status);
            }
            first = self.close_up_to(first, target);
        }
        if let Some(status) = status {
            first = self.close_up_to(first, status);
        }
        self.close(first, RawFd::MAX);
    }

    /// Closes from the first number to the one before that which is kept. Where to go on.
    fn close_up_to(&self, first: RawFd, kept: RawFd) -> RawFd {
        if kept > first {
            self.close(first, kept - 1);
        }
        first.max(kept.saturating_add(1))
    }

    fn close(&self, first: RawFd, last: RawFd) {
        let (Ok(first), Ok(last)) = (c_uint::try_from(first), c_uint::try_from(last)) else { return };
        if !(self.close_range)(first, last) {
            // Before Linux 5.9. The exec closes it.
            mark_one_by_one(first, |number| self.is_target(number));
        }
    }

    fn is_target(&self, number: RawFd) -> bool {
        self.placements.binary_search_by_key(&number, |placement| placement.target).is_ok()
    }

    /// A close-on-exec duplicate at a number that is no target.
    fn lift(&self, number: RawFd) -> Result<RawFd, c_int> {
        // SAFETY: takes integers only.
        let duplicate = |lowest: RawFd| unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, lowest) };
        let highest = self.placements.last().map_or(0, |placement| placement.target);
        let lifted = duplicate(highest.saturating_add(1));
        if lifted >= 0 {
            return Ok(lifted);
        }
        // The limit leaves no room above, so a gap has to do.
        let mut lowest = 0;
        loop {
            let lifted = duplicate(lowest);
            if lifted < 0 {
                return Err(errno());
            }
            if !self.is_target(lifted) {
                return Ok(lifted);
            }
            lowest = lifted.saturating_add(1);
        }
    }

    fn set_signals(&self) -> io::Result<()> {
        signal::ignore_only(self.ignored_signals)?;
        Mask::EMPTY.set().map(drop)
    }

    /// As execvp(3) does it: errno of the failure.
    fn execute(&mut self) -> c_int {
        let mut denied = false;
        let mut last = libc::ENOENT;
        for candidate in &self.candidates {
            let (arguments, environment) = (self.arguments.as_ptr(), self.environment.as_ptr());
            // SAFETY: all strings and both lists end with their NUL and live until the program replaces them.
            unsafe { libc::execve(candidate.as_ptr(), arguments, environment) };
            last = errno();
            if last == libc::ENOEXEC {
                if let Some(script) = self.shell_arguments.get_mut(1) {
                    *script = candidate.as_ptr();
                }
                // SAFETY: as above.
                unsafe { libc::execve(SHELL.as_ptr(), self.shell_arguments.as_ptr(), environment) };
                last = errno();
            }
            match last {
                libc::EACCES => denied = true,
                libc::ENOENT | libc::ENOTDIR | libc::ESTALE | libc::ENODEV | libc::ETIMEDOUT => {}
                _ => return last,
            }
        }
        if denied { libc::EACCES } else { last }
    }
}

/// An entry of an environment that is completed when the process knows its PID.
struct PidEntry {
    /// `NAME=`, then room for the digits, filled with zero bytes.
    text: Vec<u8>,
    /// Where the digits begin.
    start: usize,
}

impl PidEntry {
    /// The digits of a PID, and a zero byte.
    const ROOM: usize = 11;

    fn new(name: &str) -> io::Result<Self> {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not the name of a variable")));
        }
        let mut text = format!("{name}=").into_bytes();
        let start = text.len();
        text.resize(start + Self::ROOM, 0);
        Ok(Self { text, start })
    }

    /// What there is of it so far.
    fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.text).unwrap_or_default()
    }

    /// Writes the digits. Does not allocate.
    fn fill_in(&mut self, pid: u32) {
        let mut digits = [0; Self::ROOM];
        let mut rest = pid;
        let mut count = 0;
        for digit in digits.iter_mut().take(Self::ROOM - 1) {
            *digit = b"0123456789".get((rest % 10) as usize).copied().unwrap_or(b'0');
            count += 1;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let places = self.text.iter_mut().skip(self.start);
        for (place, digit) in places.zip(digits.iter().take(count).rev()) {
            *place = *digit;
        }
    }
}

/// The paths at which execvp(3) would look for the program.
fn candidates(program: &CStr, environment: &[CString]) -> Vec<CString> {
    let name = program.to_bytes();
    if name.is_empty() {
        return Vec::new();
    }
    if name.contains(&b'/') {
        return vec![program.to_owned()];
    }
    let path = environment.iter().find_map(|entry| entry.to_bytes().strip_prefix(b"PATH="));
    path.unwrap_or(b"/bin:/usr/bin")
        .split(|byte| *byte == b':')
        .filter_map(|directory| {
            // An empty entry is the current directory.
            let separator: &[u8] = if directory.is_empty() { b"" } else { b"/" };
            CString::new([directory, separator, name].concat()).ok()
        })
        .collect()
}

fn null_terminated<'text>(texts: impl Iterator<Item = &'text CStr>) -> Vec<*const c_char> {
    texts.map(CStr::as_ptr).chain([ptr::null()]).collect()
}

fn close_range(first: c_uint, last: c_uint) -> bool {
    // SAFETY: takes integers only. The child has a table of its own, and whatever owns these in its copy of the memory is
    // never dropped. The system call itself is used since older C libraries do not have the function.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) == 0 }
}

fn mark_all_at_once(first: c_uint) -> bool {
    // SAFETY: takes integers only; marks, closes nothing. The system call itself is used since older C libraries do
    // not have the function.
    unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) == 0 }
}

/// For kernels before 5.11. The parent makes all its own descriptors close-on-exec, so this only stops those that it
/// inherited; they are looked for up to the limit, or a million if that is higher.
fn mark_one_by_one(first: c_uint, is_kept: impl Fn(RawFd) -> bool) {
    const FAR_ENOUGH: libc::rlim_t = 1 << 20;
    let mut limit = libc::rlimit { rlim_cur: FAR_ENOUGH, rlim_max: FAR_ENOUGH };
    // SAFETY: the structure is ours to write to.
    unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    let end = c_int::try_from(limit.rlim_cur.min(FAR_ENOUGH)).unwrap_or(c_int::MAX);
    for number in (c_int::try_from(first).unwrap_or(0)..end).filter(|number| !is_kept(*number)) {
        // SAFETY: takes integers only; fails harmlessly on a number that is not open.
        unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

fn errno() -> c_int {
    // Does not allocate: an error of the system is kept as its number.
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// What goes through the status pipe: the number of the stage and errno, one byte and four.
#[derive(Clone, Copy)]
struct Failure {
    stage: Stage,
    errno: c_int,
}

impl From<privileges::Failed> for Failure {
    fn from((stage, errno): privileges::Failed) -> Self {
        Self { stage, errno: errno.raw_os_error() }
    }
}

impl Failure {
    const SIZE: usize = 5;

    fn encode(self) -> [u8; Failure::SIZE] {
        let [a, b, c, d] = self.errno.to_ne_bytes();
        [self.stage as u8, a, b, c, d]
    }

    fn decode([stage, errno @ ..]: [u8; Failure::SIZE]) -> Option<Failure> {
        let stage = Stage::ALL.get(usize::from(stage)).copied()?;
        Some(Failure { stage, errno: c_int::from_ne_bytes(errno) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::fs::{self, File};
    use std::io::{Read, Write};
    use std::os::fd::{FromRawFd, IntoRawFd};
    use std::os::unix::fs::PermissionsExt;
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    const LONG: Duration = Duration::from_secs(60);

    fn words(words: &[&str]) -> Vec<CString> {
        words.iter().map(|word| CString::new(*word).unwrap()).collect()
    }

    fn sleeper<'fd>() -> Plan<'fd> {
        Plan { arguments: words(&["/bin/sleep", "600"]), environment: words(&["A=b"]), ..Plan::default() }
    }

    fn outcome(report: &ExecReport) -> ExecState {
        let begun = Instant::now();
        loop {
            let state = report.read().unwrap();
            if state != ExecState::Pending {
                return state;
            }
            assert!(begun.elapsed() < LONG, "no report");
            let mut polled = libc::pollfd { fd: report.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one structure, ours to write to.
            unsafe { libc::poll(&raw mut polled, 1, 1000) };
        }
    }

    fn wait_status(pid: i32) -> c_int {
        let mut status = 0;
        // SAFETY: the status is ours to write to.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        status
    }

    fn exit_code(pid: i32) -> Option<i32> {
        let status = wait_status(pid);
        libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
    }

    fn end(child: &Spawned) {
        signal::send(child.pid, Signal::KILL).unwrap();
        wait_status(child.pid);
    }

    /// Output of a program started by the plan, whose descriptor 1 becomes a pipe.
    fn output(plan: Plan<'static>) -> String {
        let (mut reader, writer) = io::pipe().unwrap();
        let child = spawn(&Plan { descriptors: vec![(writer.as_fd(), 1)], ..plan }).unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        wait_status(child.pid);
        assert_eq!(outcome(&child.exec), ExecState::Executed);
        text
    }

    /// Runs `check` in a process with a single thread, in which it may do with descriptors and signals what it wants.
    /// It starts with 0, 1 and 2 on /dev/null and nothing else; what it returns or panics with is returned.
    fn in_a_process_of_its_own(check: fn()) {
        const FAR: c_int = 900;
        let (mut reader, writer) = io::pipe().unwrap();
        // SAFETY: glibc keeps its allocator usable in the child; no other lock is needed there.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: the harness, to which the descriptors belong, does not exist in this process.
            let mut verdict = unsafe {
                libc::dup3(writer.into_raw_fd(), FAR, libc::O_CLOEXEC);
                libc::syscall(libc::SYS_close_range, 0, FAR - 1, 0);
                open_null_thrice();
                libc::syscall(libc::SYS_close_range, FAR + 1, c_int::MAX, 0);
                File::from_raw_fd(FAR)
            };
            let message = match std::panic::catch_unwind(check) {
                Ok(()) => "ok".to_owned(),
                Err(panic) => match panic.downcast_ref::<String>() {
                    Some(text) => text.clone(),
                    None => format!("{:?}", panic.downcast_ref::<&str>()),
                },
            };
            let _ = verdict.write_all(message.as_bytes());
            // SAFETY: ends the process without running anything of the harness.
            unsafe { libc::_exit(0) };
        }
        drop(writer);
        let mut verdict = String::new();
        reader.read_to_string(&mut verdict).unwrap();
        wait_status(pid);
        assert_eq!(verdict, "ok");
    }

    fn temporary_directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("sys-spawn-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn executable(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    /// A small generator of numbers that look random (xorshift64).
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, limit: c_int) -> c_int {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            c_int::try_from(self.0 % u64::try_from(limit).unwrap()).unwrap()
        }
    }

    /// What each descriptor of a process is, as /proc shows it.
    fn descriptors_of(process: &str) -> BTreeMap<c_int, String> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(format!("/proc/{process}/fd")).unwrap() {
            let path = entry.unwrap().path();
            if let Ok(link) = fs::read_link(&path) {
                let number = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
                found.insert(number, link.to_str().unwrap().to_owned());
            }
        }
        found
    }

    /// A file with a name of its own at this number, unless that is taken.
    fn place_file(name: &str, number: c_int, close_on_exec: bool) -> bool {
        let name = CString::new(name).unwrap();
        // SAFETY: the number is checked to be free first, so nobody else owns it.
        unsafe {
            if libc::fcntl(number, libc::F_GETFD) >= 0 {
                return false;
            }
            let file = libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC);
            assert!(file >= 0);
            if file == number {
                let flag = if close_on_exec { libc::FD_CLOEXEC } else { 0 };
                libc::fcntl(number, libc::F_SETFD, flag);
            } else {
                let flag = if close_on_exec { libc::O_CLOEXEC } else { 0 };
                assert_eq!(libc::dup3(file, number, flag), number);
                libc::close(file);
            }
        }
        true
    }

    fn open_null_thrice() {
        for number in 0..3 {
            // SAFETY: the path ends with a NUL; the lowest numbers are free and belong to nobody.
            assert_eq!(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) }, number);
        }
    }

    fn close_all_of(numbers: std::ops::Range<c_int>) {
        for number in numbers {
            // SAFETY: only called in a process of its own, for numbers that the test itself opened.
            unsafe { libc::close(number) };
        }
    }

    const HIGHEST: c_int = 14;

    /// One round: files at random numbers, some of them to be leaked, given to a child at random other numbers.
    fn colliding_round(dice: &mut Dice, round: c_int, close_range: CloseRange) {
        // In every fourth round 0, 1 and 2 are not open, so that files and the status pipe come to lie there.
        let lowest = if round % 4 == 0 { 0 } else { 3 };
        close_all_of(0..HIGHEST);
        if lowest > 0 {
            open_null_thrice();
        }
        let mut sources = Vec::new();
        for file in 0..=dice.below(7) {
            let number = lowest + dice.below(HIGHEST - lowest);
            if place_file(&format!("file{file}"), number, dice.below(2) == 0 || number < 3) {
                sources.push(number);
            }
        }
        let mut descriptors = Vec::new();
        let mut expected = BTreeMap::new();
        let own = descriptors_of("self");
        if lowest == 3 {
            expected.extend((0..3).map(|number| (number, "/dev/null".to_owned())));
        }
        for target in 0..HIGHEST {
            if dice.below(2) == 0 {
                let index = usize::try_from(dice.below(c_int::try_from(sources.len()).unwrap())).unwrap();
                // SAFETY: open until the next round.
                let source = unsafe { BorrowedFd::borrow_raw(sources[index]) };
                expected.insert(target, own[&sources[index]].clone());
                descriptors.push((source, target));
            }
        }
        let own_process_group = dice.below(2) == 0;
        let missing = dice.below(4) == 0;
        let mut plan = Plan { descriptors, own_process_group, ..sleeper() };
        if missing {
            plan.arguments = words(&["/nonexistent/program"]);
        }
        plan.ignored_signals.push(Signal::PIPE);
        let child = launch(&plan, close_range).unwrap();
        let state = outcome(&child.exec);
        if missing {
            assert_eq!(state, ExecState::Failed { stage: Stage::Exec, errno: libc::ENOENT }, "round {round}");
            assert_eq!(exit_code(child.pid), Some(255), "round {round}");
            return;
        }
        assert_eq!(state, ExecState::Executed, "round {round}");
        // The loader of the program has libraries open for a moment.
        let begun = Instant::now();
        let mut found = descriptors_of(&child.pid.to_string());
        while found != expected && begun.elapsed() < Duration::from_secs(10) {
            found = descriptors_of(&child.pid.to_string());
        }
        // SAFETY: takes an integer.
        let group = unsafe { libc::getpgid(child.pid) };
        let status = fs::read_to_string(format!("/proc/{}/status", child.pid)).unwrap();
        end(&child);
        assert_eq!(found, expected, "round {round}: {:?}", plan.descriptors);
        assert_eq!(group == child.pid, own_process_group, "round {round}");
        for line in ["SigBlk:\t0000000000000000", "SigIgn:\t0000000000001000", "SigCgt:\t0000000000000000"] {
            assert!(status.contains(line), "round {round}: {line} in {status}");
        }
    }

    #[test]
    fn every_descriptor_is_in_its_place_whatever_collides() {
        in_a_process_of_its_own(|| {
            let mut dice = Dice(0x5eed_0001);
            (0..400).for_each(|round| colliding_round(&mut dice, round, close_range));
        });
    }

    #[test]
    fn descriptors_are_right_on_an_old_kernel_too() {
        in_a_process_of_its_own(|| {
            let mut dice = Dice(0x5eed_0002);
            (0..100).for_each(|round| colliding_round(&mut dice, round, |_, _| false));
        });
    }

    #[test]
    fn descriptors_are_right_when_the_limit_leaves_no_room_above() {
        in_a_process_of_its_own(|| {
            let limit = libc::rlimit { rlim_cur: 20, rlim_max: 20 };
            // SAFETY: the structure lives during the call.
            unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
            (3..8).for_each(|number| assert!(place_file(&format!("file{number}"), number, true)));
            let own = descriptors_of("self");
            // 3 to 7 turned round, and the highest number there is.
            // SAFETY: open until the process ends.
            let borrowed = |number| unsafe { BorrowedFd::borrow_raw(number) };
            let mut descriptors: Vec<_> = (3..8).map(|number| (borrowed(number), 10 - number)).collect();
            descriptors.push((borrowed(3), 19));
            let child = spawn(&Plan { descriptors: descriptors.clone(), ..sleeper() }).unwrap();
            assert_eq!(outcome(&child.exec), ExecState::Executed);
            let found = descriptors_of(&child.pid.to_string());
            end(&child);
            for (source, target) in &descriptors {
                assert_eq!(found.get(target), own.get(&source.as_raw_fd()));
            }
            descriptors.push((borrowed(3), 20));
            let child = spawn(&Plan { descriptors, ..sleeper() }).unwrap();
            let too_high = ExecState::Failed { stage: Stage::Descriptors, errno: libc::EBADF };
            assert_eq!(outcome(&child.exec), too_high);
            assert_eq!(exit_code(child.pid), Some(255));
        });
    }

    #[test]
    fn thousands_of_descriptors_do_not_leak() {
        in_a_process_of_its_own(|| {
            // SAFETY: integers, and a structure that lives during the call.
            unsafe {
                let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
                limit.rlim_cur = limit.rlim_max.min(6000);
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
                while libc::dup(0) >= 0 {}
                (4000..4005).for_each(|number| {
                    libc::close(number);
                });
            }
            let (reader, _writer) = io::pipe().unwrap();
            let descriptors = (3..500).map(|target| (reader.as_fd(), target)).collect();
            let child = spawn(&Plan { descriptors, ..sleeper() }).unwrap();
            assert_eq!(outcome(&child.exec), ExecState::Executed);
            let begun = Instant::now();
            while descriptors_of(&child.pid.to_string()).len() != 500 && begun.elapsed() < LONG {}
            let found = descriptors_of(&child.pid.to_string());
            end(&child);
            assert_eq!(found.len(), 500);
        });
    }

    #[test]
    fn no_signal_is_swallowed_between_fork_and_exec() {
        in_a_process_of_its_own(|| {
            let _signals = signal::SignalFd::take_over().unwrap();
            for round in 0..500 {
                let own_process_group = round % 2 == 0;
                let child = spawn(&Plan { own_process_group, ..sleeper() }).unwrap();
                if own_process_group {
                    signal::send_group(child.pid, Signal::TERM).unwrap();
                } else {
                    signal::send(child.pid, Signal::TERM).unwrap();
                }
                let status = wait_status(child.pid);
                assert!(libc::WIFSIGNALED(status), "round {round}: {status}");
                assert_eq!(libc::WTERMSIG(status), libc::SIGTERM, "round {round}");
                assert_eq!(outcome(&child.exec), ExecState::Executed);
            }
        });
    }

    #[test]
    fn mask_and_dispositions_of_the_parent_stay_with_it() {
        in_a_process_of_its_own(|| {
            for number in [1, 2, 10, 13, 15, 34, 64] {
                signal::ignore(Signal::from_number(number).unwrap()).unwrap();
            }
            let mask = Mask::ALL.set().and_then(|_| Mask::ALL.set()).unwrap().bits();
            let child = spawn(&Plan { ignored_signals: vec![Signal::USR1, Signal::PIPE], ..sleeper() }).unwrap();
            assert_eq!(outcome(&child.exec), ExecState::Executed);
            let status = fs::read_to_string(format!("/proc/{}/status", child.pid)).unwrap();
            end(&child);
            assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");
            assert!(status.contains("SigIgn:\t0000000000001200"), "{status}");
            assert_eq!(Mask::ALL.set().unwrap().bits(), mask);
        });
    }

    #[test]
    fn what_fails_in_the_child_is_told() {
        let directory = temporary_directory("failures");
        let plain = directory.join("plain");
        executable(&plain, "#!/bin/sh\n", 0o644);
        let bad = directory.join("bad");
        executable(&bad, "#!/nonexistent/interpreter\n", 0o755);
        let told = |plan: &Plan<'_>| {
            let child = spawn(plan).unwrap();
            let ExecState::Failed { stage, errno } = outcome(&child.exec) else { panic!("{plan:?} was executed") };
            (stage, errno, exit_code(child.pid).unwrap())
        };
        let program = |path: &Path| Plan { arguments: words(&[path.to_str().unwrap()]), ..Plan::default() };
        assert_eq!(told(&program(&plain)), (Stage::Exec, libc::EACCES, 255));
        assert_eq!(told(&program(&bad)), (Stage::Exec, libc::ENOENT, 255));
        assert_eq!(told(&program(&plain.join("x"))), (Stage::Exec, libc::ENOTDIR, 255));
        assert_eq!(told(&program(Path::new(""))), (Stage::Exec, libc::ENOENT, 255));
        let nowhere = Plan { directory: Some(c"/nonexistent".to_owned()), ..sleeper() };
        assert_eq!(told(&nowhere), (Stage::Directory, libc::ENOENT, 2));
        let not_there = Plan { directory: Some(CString::new(plain.to_str().unwrap()).unwrap()), ..sleeper() };
        assert_eq!(told(&not_there), (Stage::Directory, libc::ENOTDIR, 20));
        let unkillable = Plan { ignored_signals: vec![Signal::KILL], ..sleeper() };
        assert_eq!(told(&unkillable), (Stage::Signals, libc::EINVAL, 255));
        let huge = vec![CString::new(vec![b'x'; 4 << 20]).unwrap()];
        let too_long = Plan { environment: huge, ..sleeper() };
        assert_eq!(told(&too_long), (Stage::Exec, libc::E2BIG, 255));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn the_numbers_of_the_stages_are_those_that_other_images_know() {
        for (number, stage) in Stage::ALL.into_iter().enumerate() {
            assert_eq!(stage as usize, number, "{stage:?}");
            let failure = Failure { stage, errno: libc::EPERM };
            assert_eq!(Failure::decode(failure.encode()).map(|it| (it.stage, it.errno)), Some((stage, libc::EPERM)));
        }
        assert_eq!((Stage::Exec as u8, Stage::NoNewPrivileges as u8), (4, 9));
    }

    fn privileged(privileges: Privileges) -> Plan<'static> {
        let script = "id -u; id -g; id -G; umask; ulimit -n; grep -c 'NoNewPrivs:.1' /proc/self/status; pwd";
        let environment = words(&["PATH=/usr/bin:/bin"]);
        Plan { arguments: words(&["/bin/sh", "-c", script]), environment, privileges, ..Plan::default() }
    }

    /// Those of a service, with everything that can be set.
    fn of_service() -> Privileges {
        let group = rustix::process::Gid::from_raw;
        let limit = rustix::process::Rlimit { current: Some(50), maximum: Some(60) };
        Privileges {
            limits: vec![(rustix::process::Resource::Nofile, limit)],
            umask: Some(rustix::fs::Mode::from_raw_mode(0o77)),
            groups: Some(vec![group(64_001), group(64_005)]),
            group: Some(group(64_001)),
            user: Some(rustix::process::Uid::from_raw(64_001)),
            no_new_privileges: true,
        }
    }

    #[test]
    fn rights_are_given_up_in_an_order_that_works() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("giving up rights: needs root; not tested");
            return;
        }
        let text = output(Plan { directory: Some(c"/usr".to_owned()), ..privileged(of_service()) });
        assert_eq!(text, "64001\n64001\n64001 64005\n0077\n50\n1\n/usr\n");

        // Whoever has given up the rights cannot have them back, and each step is told by its own name.
        in_a_process_of_its_own(|| {
            of_service().change_user().unwrap();
            let told = |privileges: Privileges| {
                let child = spawn(&privileged(privileges)).unwrap();
                let state = outcome(&child.exec);
                assert_eq!(exit_code(child.pid), Some(255));
                state
            };
            let failed = |stage| ExecState::Failed { stage, errno: libc::EPERM };
            let (root, root_user) = (rustix::process::Gid::ROOT, rustix::process::Uid::ROOT);
            let high = rustix::process::Rlimit { current: None, maximum: None };
            let limits = vec![(rustix::process::Resource::Nofile, high)];
            assert_eq!(told(Privileges { limits, ..Privileges::default() }), failed(Stage::Limits));
            assert_eq!(told(Privileges { groups: Some(vec![root]), ..Privileges::default() }), failed(Stage::Groups));
            assert_eq!(told(Privileges { group: Some(root), ..Privileges::default() }), failed(Stage::Group));
            assert_eq!(told(Privileges { user: Some(root_user), ..Privileges::default() }), failed(Stage::User));
        });
    }

    #[test]
    fn a_directory_is_entered_with_the_rights_of_the_user() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("a directory of another user: needs root; not tested");
            return;
        }
        let directory = temporary_directory("closed");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        let user = Some(rustix::process::Uid::from_raw(64_001));
        let plan = Plan {
            directory: Some(CString::new(directory.to_str().unwrap()).unwrap()),
            ..privileged(Privileges { user, ..Privileges::default() })
        };
        let child = spawn(&plan).unwrap();
        assert_eq!(outcome(&child.exec), ExecState::Failed { stage: Stage::Directory, errno: libc::EACCES });
        assert_eq!(exit_code(child.pid), Some(libc::EACCES));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn plans_that_make_no_sense_start_nothing() {
        let (reader, _writer) = io::pipe().unwrap();
        let with = |descriptors| Plan { descriptors, ..sleeper() };
        for plan in [
            Plan::default(),
            with(vec![(reader.as_fd(), -1)]),
            with(vec![(reader.as_fd(), 5), (reader.as_fd(), 4), (reader.as_fd(), 5)]),
        ] {
            assert_eq!(spawn(&plan).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{plan:?}");
        }
    }

    #[test]
    fn the_program_is_looked_up_in_the_path_of_its_own_environment() {
        let directory = temporary_directory("path");
        let names: Vec<PathBuf> = ["first", "second"].iter().map(|name| directory.join(name)).collect();
        names.iter().for_each(|name| fs::create_dir(name).unwrap());
        let (first, second) = (names[0].join("prog"), names[1].join("prog"));
        let path = format!("PATH=/nonexistent:/etc/passwd:{}:{}", names[0].display(), names[1].display());
        let plan = |path: &str| Plan {
            arguments: words(&["prog", "an argument"]),
            environment: words(&[path, "OTHER=1"]),
            ..Plan::default()
        };
        // What may not be executed is passed over, and remembered if nothing better comes.
        executable(&first, "#!/bin/sh\n", 0o644);
        let child = spawn(&plan(&path)).unwrap();
        assert_eq!(outcome(&child.exec), ExecState::Failed { stage: Stage::Exec, errno: libc::EACCES });
        wait_status(child.pid);
        executable(&second, "#!/bin/sh\necho second \"$1\" $OTHER\n", 0o755);
        assert_eq!(output(plan(&path)), "second an argument 1\n");
        // An empty entry is the directory of the child.
        let here = Plan {
            directory: Some(CString::new(names[1].to_str().unwrap()).unwrap()),
            ..plan("PATH=/nonexistent::/x")
        };
        assert_eq!(output(here), "second an argument 1\n");
        // Without PATH the places of the standard programs are searched.
        let echo = Plan { arguments: words(&["echo", "hi"]), ..Plan::default() };
        assert_eq!(output(echo), "hi\n");
        let child = spawn(&plan("PATHS=x")).unwrap();
        assert_eq!(outcome(&child.exec), ExecState::Failed { stage: Stage::Exec, errno: libc::ENOENT });
        wait_status(child.pid);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_script_without_an_interpreter_line_runs_in_a_shell() {
        let directory = temporary_directory("script");
        let script = directory.join("script");
        executable(&script, "echo \"$0\" \"$1\" \"$2\"\n", 0o755);
        let path = format!("PATH={}:/bin", directory.display());
        let plan = Plan { arguments: words(&["script", "a b", "c"]), environment: words(&[&path]), ..Plan::default() };
        assert_eq!(output(plan), format!("{} a b c\n", script.display()));
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn the_child_gets_exactly_its_arguments_environment_and_directory() {
        let plan = Plan {
            arguments: words(&["/bin/sh", "-c", "pwd; env", "ignored"]),
            environment: words(&["ONE=1", "EMPTY=", "TWO=a=b"]),
            directory: Some(c"/usr".to_owned()),
            ..Plan::default()
        };
        let text = output(plan);
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("_=")).collect();
        lines.sort_unstable();
        assert_eq!(lines, ["/usr", "EMPTY=", "ONE=1", "PWD=/usr", "TWO=a=b"]);
    }
}
