//! Trouble with real processes, directories, disks and sockets: each gets an error that names the fix, what can go on
//! goes on, and nothing acknowledged is lost.

#[path = "../processes/mod.rs"]
mod processes;

mod directories;
mod frames;
mod full_disk;
mod growing;
mod joining;
mod ledger;
mod requests;
mod starting;
mod watching;

use std::{
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

/// Far above what any refusal takes: it keeps a broker that starts where it should not from hanging a test.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a command that must end by itself, with this exit code; returns what it said on standard error.
fn refused(command: &mut Command, code: i32) -> String {
    let output = ended(command.stdin(Stdio::null()));
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{command:?} said: {said}");
    said
}

/// Runs a command to its end, which must come.
fn ended(command: &mut Command) -> Output {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command can be run");
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().expect("a child can be waited for").is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
            let output = child.wait_with_output().expect("a killed child ends");
            panic!("{command:?} runs on and on: {}", said(&output));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("a child that ended can be read")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asserts that a message holds each of these.
#[track_caller]
fn assert_says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is missing in: {message}");
    }
}
