//! What this machine has of what scenarios need. What is missing is said aloud, never passed over.

use std::path::Path;

use crate::command;

/// Says that something was not done, and why.
pub fn skipped(what: &str, why: &str) {
    println!("SKIPPED {what}: {why}");
}

/// Whether this user may mount, cut and trace.
///
/// # Errors
/// Why not.
pub fn is_root() -> Result<(), String> {
    if rustix::process::geteuid().is_root() { Ok(()) } else { Err("this user is not root".to_owned()) }
}

/// Whether images can be mounted.
///
/// # Errors
/// Why not.
pub fn has_loop_devices() -> Result<(), String> {
    if !Path::new("/dev/loop-control").exists() {
        return Err("this machine has no loop devices (/dev/loop-control)".to_owned());
    }
    has_program("losetup").and_then(|()| has_program("mount"))
}

/// Whether a program is installed.
///
/// # Errors
/// Why not.
pub fn has_program(program: &str) -> Result<(), String> {
    if command::exists(program) { Ok(()) } else { Err(format!("{program} is not installed")) }
}
