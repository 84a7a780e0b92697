//! What happens when the superdaemon itself crashes: it executes itself anew, at most so many times a minute, with the
//! reason in its environment. The handler of fatal signals and the panic hook live here.

use std::cell::UnsafeCell;
use std::ffi::{c_char, c_int, c_void};
use std::fmt::{self, Write};
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU64, Ordering};
use std::{io, mem};

use super::CRASH_VARIABLE;
use super::image::Image;
use crate::signal::{Mask, Signal};

/// As many crashes within a minute are met at once; before the next the process waits until the minute is over. All
/// the while the children serve and the listeners are open.
pub const MOST_IN_A_ROW: usize = 5;
/// As many make a program that was upgraded to give its place back to the one before.
const TOO_MANY_FOR_A_NEW_PROGRAM: usize = 3;
/// In nanoseconds.
const MINUTE: u64 = 60_000_000_000;

const FATAL: [c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE, libc::SIGABRT, libc::SIGTRAP, libc::SIGSYS];

/// The image that is executed when this one crashes; null: none, the process ends as any other.
static NEXT: AtomicPtr<Image> = AtomicPtr::new(ptr::null_mut());
/// The process that `NEXT` is for: a child between fork and exec must not take its parent's place.
static OWNER: AtomicI32 = AtomicI32::new(0);
static CRASHING: AtomicBool = AtomicBool::new(false);
/// Whether a SIGABRT that another process sends is meant to end this one.
static ABORT_ENDS: AtomicBool = AtomicBool::new(false);
/// When the last crashes were, on the monotonic clock, the latest first; 0: never.
static HISTORY: [AtomicU64; MOST_IN_A_ROW] = [const { AtomicU64::new(0) }; MOST_IN_A_ROW];
static RECORD: Shared<Record> = Shared(UnsafeCell::new(Record { text: [0; Record::SIZE], length: 0 }));

/// What only the one who has set `CRASHING` touches.
struct Shared<T>(UnsafeCell<T>);

// SAFETY: access is granted by `CRASHING`, which only one can set.
unsafe impl<T> Sync for Shared<T> {}

/// Gives room to the handler when it was the stack that overflowed.
#[repr(align(16))]
struct Stack(UnsafeCell<[u8; Stack::SIZE]>);

impl Stack {
    const SIZE: usize = 64 * 1024;
}

// SAFETY: only the kernel uses it, while a handler runs.
unsafe impl Sync for Stack {}

static STACK: Stack = Stack(UnsafeCell::new([0; Stack::SIZE]));

/// `START_SERVER_CRASH=TIME TIME …;REASON` and a zero byte, made without allocating.
pub(super) struct Record {
    text: [u8; Record::SIZE],
    length: usize,
}

impl Record {
    const SIZE: usize = 1024;

    pub fn as_ptr(&self) -> *const c_char {
        self.text.as_ptr().cast()
    }
}

/// Control characters would tear the line in the log that this becomes.
impl Write for Record {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // The last byte stays zero.
            if self.length + 1 < Self::SIZE
                && let Some(place) = self.text.get_mut(self.length)
            {
                *place = if byte.is_ascii_control() { b' ' } else { byte };
                self.length += 1;
            }
        }
        Ok(())
    }
}

/// From now on a crash executes this image. It must not be changed or freed before another one takes its place.
pub(super) fn arm(image: *mut Image) -> io::Result<()> {
    static INSTALLED: Once = Once::new();
    let mut result = Ok(());
    // SAFETY: takes nothing, touches nothing.
    OWNER.store(unsafe { libc::getpid() }, Ordering::SeqCst);
    NEXT.store(image, Ordering::SeqCst);
    INSTALLED.call_once(|| {
        install_hook();
        result = install_handlers();
    });
    result
}

/// To be called when all dispositions of signals were reset.
pub(crate) fn stay_armed() -> io::Result<()> {
    if is_armed() { install_handlers() } else { Ok(()) }
}

/// From now on a crash ends the process.
pub(super) fn disarm() {
    NEXT.store(ptr::null_mut(), Ordering::SeqCst);
}

/// From now on a SIGABRT that another process sends ends this one.
pub(super) fn let_abort_end_it() {
    ABORT_ENDS.store(true, Ordering::SeqCst);
}

/// Learns from the variable's value when the last crashes were. Returns the reason of the last.
pub(super) fn recall(value: &str) -> String {
    let (times, reason) = value.split_once(';').unwrap_or(("", value));
    for (slot, time) in HISTORY.iter().zip(times.split_ascii_whitespace()) {
        slot.store(time.parse().unwrap_or(0), Ordering::SeqCst);
    }
    reason.to_owned()
}

/// How many crashes there were within the last minute.
pub(super) fn recent() -> usize {
    let now = now();
    HISTORY.iter().map(|time| time.load(Ordering::SeqCst)).filter(|&time| is_recent(time, now)).count()
}

/// Crashes on purpose, because this image cannot go on.
pub(super) fn give_up(reason: &str) -> ! {
    rise(&format_args!("{reason}"));
    // SAFETY: ends the process.
    unsafe { libc::_exit(1) }
}

fn install_hook() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if is_armed() {
            // Printing it could wait for a reader for ever; the next image has a log that never waits.
            rise(&format_args!("{info}"));
        }
        before(info);
    }));
}

fn install_handlers() -> io::Result<()> {
    // SAFETY: the stack lives as long as the process; the zeroed structures are valid ones; the handler only does what
    // signal-safety(7) allows, and runs on the stack made for it.
    unsafe {
        let stack = libc::stack_t { ss_sp: STACK.0.get().cast(), ss_flags: 0, ss_size: Stack::SIZE };
        if libc::sigaltstack(&raw const stack, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction = on_fatal_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigfillset(&raw mut action.sa_mask);
        for signal in FATAL {
            if libc::sigaction(signal, &raw const action, ptr::null_mut()) != 0 {
                return Err(io::Error::last_os_error());
            }
        }
    }
    Ok(())
}

extern "C" fn on_fatal_signal(number: c_int, info: *mut libc::siginfo_t, _context: *mut c_void) {
    if is_armed() {
        // SAFETY: the kernel gives a valid structure to a handler with SA_SIGINFO.
        let info = unsafe { &*info };
        let name = Signal::from_number(number);
        let name: &dyn fmt::Display = match &name {
            Some(signal) => signal,
            None => &number,
        };
        if info.si_code > 0 {
            // SAFETY: a fault that the kernel reports has an address.
            let address = unsafe { info.si_addr() };
            rise(&format_args!("SIG{name} at address {address:p}"));
        } else {
            // SAFETY: a signal that was sent has a sender.
            let (pid, user) = unsafe { (info.si_pid(), info.si_uid()) };
            // SAFETY: takes nothing.
            if pid == unsafe { libc::getpid() } {
                rise(&format_args!("SIG{name}, raised by itself"));
            } else if number != libc::SIGABRT || !ABORT_ENDS.load(Ordering::SeqCst) {
                rise(&format_args!("SIG{name}, sent by pid {pid} of user {user}"));
            }
        }
    }
    die_of(number);
}

/// Ends the process the way it would have ended without a handler.
fn die_of(number: c_int) {
    // SAFETY: the default disposition runs no code of ours; the signal is delivered when the handler returns.
    unsafe {
        libc::signal(number, libc::SIG_DFL);
        libc::raise(number);
    }
}

fn is_armed() -> bool {
    // SAFETY: takes nothing, touches nothing.
    let us = unsafe { libc::getpid() };
    OWNER.load(Ordering::SeqCst) == us && !NEXT.load(Ordering::SeqCst).is_null()
}

/// Executes the next image. Returns if there is none, or if it cannot be executed, or if this is a crash in a crash.
/// Async-signal-safe.
fn rise(reason: &fmt::Arguments) {
    if CRASHING.swap(true, Ordering::SeqCst) {
        return;
    }
    // SAFETY: whoever `arm`s it keeps it, and nobody else touches it while `CRASHING` is set.
    let Some(image) = (unsafe { NEXT.load(Ordering::SeqCst).as_mut() }) else { return };
    // SAFETY: as above.
    let record = unsafe { &mut *RECORD.0.get() };
    // No signal must get lost on the way, nor come in between.
    let _ = Mask::all_but_fatal().set();
    let now = now();
    let oldest = HISTORY.last().map_or(0, |time| time.load(Ordering::SeqCst));
    if is_recent(oldest, now) {
        wait_until(oldest.saturating_add(MINUTE), now);
    }
    for pair in HISTORY.windows(2).rev() {
        if let [newer, older] = pair {
            older.store(newer.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }
    if let Some(latest) = HISTORY.first() {
        latest.store(self::now(), Ordering::SeqCst);
    }
    // Writing to a record does not fail.
    let _ = record.write_fmt(format_args!("{CRASH_VARIABLE}="));
    for time in &HISTORY {
        let _ = record.write_fmt(format_args!("{} ", time.load(Ordering::SeqCst)));
    }
    let _ = record.write_str(";");
    let _ = record.write_fmt(*reason);
    if let Some(fallback) = image.fallback.filter(|_| recent() >= TOO_MANY_FOR_A_NEW_PROGRAM) {
        image.execute_after_crash(record, fallback);
    }
    image.execute_after_crash(record, image.program);
}

fn is_recent(time: u64, now: u64) -> bool {
    time != 0 && now.saturating_sub(time) < MINUTE
}

/// Waits for that moment, or until somebody wants the process to end. Their signal stays where it is: the next image
/// obeys it.
fn wait_until(moment: u64, now: u64) {
    let milliseconds = moment.saturating_sub(now) / 1_000_000 + 1;
    let wishes = Mask::of(&[Signal::TERM, Signal::INT, Signal::QUIT]);
    let mut set = libc::pollfd { fd: wishes.descriptor(), events: libc::POLLIN, revents: 0 };
    // SAFETY: the structure is ours; a descriptor below zero is not looked at.
    unsafe {
        libc::poll(&raw mut set, 1, c_int::try_from(milliseconds).unwrap_or(c_int::MAX));
        libc::close(set.fd);
    }
}

fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is ours to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    let (seconds, rest) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}
