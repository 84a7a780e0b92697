//! A program that crashes in every way there is, and goes on: this test executes itself as that program.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    unsafe_code,
    reason = "a test reports what fails by panicking, and its program what it was told on standard output"
)]

use std::ffi::CString;
use std::hint::black_box;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use sys::reexec::{Arrival, Survival, arrive};

/// Says how the program is to crash.
const CRASH: &str = "REEXEC_TEST_CRASH";

/// Runs the program, and returns its words and its status.
fn run(crash: &str) -> (Vec<String>, std::process::ExitStatus) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["the_program", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(CRASH, crash)
        .env("KEPT", "a=b")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    (words.lines().filter_map(|line| line.split_once("» ")).map(|(_, word)| word.to_owned()).collect(), output.status)
}

fn survived(crash: &str, reason: &str) {
    let (words, status) = run(crash);
    let [pid, now, told, state, environment] = words.as_slice() else { panic!("{crash}: {words:?} {status:?}") };
    assert_eq!(pid, now, "{crash}: another process");
    assert!(told.contains(reason), "{crash}: {told}");
    assert_eq!(state, "the second state at 1 of 2, a pipe");
    assert_eq!(environment, "KEPT=a=b, nothing else");
}

#[test]
fn a_panic() {
    survived("panic", "panicked at crates/sys/tests/reexec.rs");
    survived("panic", "this will not  do: 42");
}

#[test]
fn a_wild_write() {
    survived("wild write", "SIGSEGV at address 0x1238");
}

#[test]
fn a_stack_overflow() {
    survived("stack overflow", "SIGSEGV at address 0x");
}

#[test]
fn an_abort() {
    survived("abort", "SIGABRT, raised by itself");
}

#[test]
fn an_illegal_instruction() {
    survived("illegal", "SIGILL");
}

/// A crash before anything was remembered, or after it is not wanted any more, is the end.
#[test]
fn without_a_state_a_crash_is_a_crash() {
    for crash in ["too early", "too late"] {
        let (words, status) = run(crash);
        assert_eq!(words.len(), 1, "{words:?}");
        assert!(!status.success());
    }
}

/// A child that crashes between fork and exec does not take its parent's place.
#[test]
fn a_child_does_not_rise() {
    let (words, status) = run("child");
    assert_eq!(words.get(1).map(String::as_str), Some("the child was killed by signal 6"), "{words:?}");
    assert!(status.success());
}

#[test]
#[ignore = "it is the program of the others"]
fn the_program() {
    println!("» {}", std::process::id());
    match arrive().unwrap() {
        None => crash(&std::env::var(CRASH).unwrap_or_default()),
        Some(Arrival::Resumption(mut resumption)) => {
            println!("» {}", resumption.crash.unwrap_or_default());
            let state = String::from_utf8(resumption.state).unwrap();
            let (state, number) = state.rsplit_once(' ').unwrap();
            let pipe = resumption.inherited.take(number.parse().unwrap()).expect("the descriptor is open");
            assert!(resumption.inherited.take(pipe.as_raw_fd()).is_none(), "it can be taken once");
            assert!(resumption.inherited.take(999).is_none());
            let what = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
            println!("» {state}, a {}", what.to_string_lossy().split(':').next().unwrap());
            let ours = std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"START_SERVER")).count();
            println!(
                "» KEPT={}, {} else",
                std::env::var("KEPT").unwrap(),
                if ours == 0 { "nothing" } else { "something" }
            );
        }
        Some(Arrival::Trial { .. }) => panic!("this is no trial"),
    }
}

fn crash(how: &str) {
    let words = std::env::args_os().map(|word| CString::new(word.as_bytes()).unwrap());
    let mut survival = Survival::prepare(&words.collect::<Vec<_>>(), None).unwrap();
    let (reader, _writer) = std::io::pipe().unwrap();
    if how != "too early" {
        let longer = "a first state that is longer than the second one, and must not shine through";
        survival.remember(longer.as_bytes(), &[]).unwrap();
        let state = format!("the second state at 1 of 2 {}", reader.as_raw_fd());
        survival.remember(state.as_bytes(), &[reader.as_raw_fd()]).unwrap();
    }
    match how {
        "panic" => panic!("this will not\n do: {}", black_box(42)),
        // SAFETY: it is not: that is the point.
        "wild write" => unsafe { black_box(0x1238 as *mut u64).write_volatile(1) },
        "stack overflow" => println!("{}", overflow(black_box(1))),
        "illegal" => {
            let illegal = sys::signal::Signal::from_number(libc::SIGILL).unwrap();
            sys::signal::send(i32::try_from(std::process::id()).unwrap(), illegal).unwrap();
            // It may be another thread that has the signal.
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
        "too late" => {
            drop(survival);
            std::process::abort();
        }
        "child" => child(),
        _ => std::process::abort(),
    }
}

fn overflow(depth: u64) -> u64 {
    let room = black_box([depth; 1000]);
    if depth == 0 { 0 } else { room.iter().sum::<u64>().wrapping_add(overflow(black_box(depth + 1))) }
}

fn child() {
    // SAFETY: the child only aborts.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        std::process::abort();
    }
    let mut status = 0;
    // SAFETY: the status is ours to write to.
    unsafe { libc::waitpid(pid, &raw mut status, 0) };
    println!("» the child was killed by signal {}", libc::WTERMSIG(status));
}
