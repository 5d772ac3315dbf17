//! Programs of the machine: mount, mkfs, ip and their like.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::error::RigError;

/// Runs a command to its end, and returns what it printed.
///
/// # Errors
/// [`RigError::Command`] with what it said, if it does not run or does not succeed.
pub fn run(command: &mut Command) -> Result<String, RigError> {
    let shown = format!("{command:?}");
    let failed = |said: String| RigError::Command { command: shown.clone(), said };
    let output = command.stdin(Stdio::null()).output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(failed(if said.is_empty() { output.status.to_string() } else { said }));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command that runs what its next arguments name in a network namespace. Not by `ip netns exec`: that gives it a mount
/// namespace too, in which every volume stays mounted for as long as it runs.
#[must_use]
pub fn in_namespace(namespace: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}"));
    command
}

/// Whether a program of this name is on the path.
#[must_use]
pub fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([Path::new("/usr/sbin").to_owned()])
        .any(|at| at.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_which_command_and_what_it_said() {
        let error =
            run(Command::new("sh").args(["-c", "echo no such luck >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("\"sh\"") && error.contains("no such luck"), "{error}");
        assert!(run(&mut Command::new("no-such-program-anywhere")).is_err());
        assert!(exists("sh") && !exists("no-such-program-anywhere"));
    }
}
