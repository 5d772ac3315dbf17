//! Where everything of one run lies, and goes from when it ends.
//!
//! What holds:
//! - Nothing is written outside of one directory, `lockstep-rig.PID`.
//! - It is unmounted and removed when the run ends, by Ctrl-C and panic too; what a killed run left behind goes when
//!   the next one starts. A run that found violations keeps it, unmounted, and says where.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;
use crate::error::RigError;

/// How the directories of all runs begin; the process id follows.
const PREFIX: &str = "lockstep-rig.";

/// The directory of one run. Dropping it unmounts what is mounted below it and removes it.
#[derive(Debug)]
pub struct Workspace {
    path: PathBuf,
    kept: bool,
}

impl Workspace {
    /// A new one below `parent`; leftovers of runs that are dead are removed first.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(parent: &Path) -> Result<Self, RigError> {
        for leftover in leftovers(parent) {
            println!("removing what an earlier run left behind: {}", leftover.display());
            remove(&leftover);
        }
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(&path).map_err(RigError::file(&path))?;
        let path = path.canonicalize().map_err(RigError::file(&path))?;
        Ok(Self { path, kept: false })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new, empty directory in it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn directory(&self, name: &str) -> Result<PathBuf, RigError> {
        let path = self.path.join(name);
        fs::create_dir_all(&path).map_err(RigError::file(&path))?;
        Ok(path)
    }

    /// Removes a directory of [`Workspace::directory`] before the run ends, unless the workspace is kept.
    pub fn clear(&self, name: &str) {
        if !self.kept {
            remove(&self.path.join(name));
        }
    }

    /// Leaves the files where they are, as evidence.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// Whether [`Workspace::keep`] was called.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.kept
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        unmount_below(&self.path);
        if self.kept {
            // Under another name, or the next run would take it for a leftover.
            let evidence = self.path.with_file_name(format!("lockstep-rig-evidence.{}", std::process::id()));
            let shown = if fs::rename(&self.path, &evidence).is_ok() { &evidence } else { &self.path };
            println!("the files are kept in {}: remove them when they have been looked at", shown.display());
        } else {
            remove(&self.path);
        }
    }
}

/// Directories of runs whose process is gone.
fn leftovers(parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let is_dead = |path: &PathBuf| {
        let pid = path.file_name().and_then(|name| name.to_str()?.strip_prefix(PREFIX)?.parse::<u32>().ok());
        pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists())
    };
    entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_dead).collect()
}

fn remove(path: &Path) {
    unmount_below(path);
    if let Err(error) = fs::remove_dir_all(path)
        && path.exists()
    {
        eprintln!("cannot remove {}: {error}", path.display());
    }
}

/// Unmounts everything below a directory, the innermost first.
fn unmount_below(path: &Path) {
    for mounted in mounts_below(path) {
        if let Err(error) = command::run(Command::new("umount").arg("--lazy").arg(&mounted)) {
            eprintln!("{error}");
        }
    }
}

/// What is mounted below a directory, the newest first.
fn mounts_below(path: &Path) -> Vec<PathBuf> {
    let Ok(mounts) = fs::read_to_string("/proc/self/mounts") else { return Vec::new() };
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(1)).map(PathBuf::from);
    let mut below: Vec<PathBuf> = points.filter(|point| point.starts_with(path) && point != path).collect();
    below.reverse();
    below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_runs_leftovers_go_and_a_living_ones_stay() {
        let parent = tempfile::tempdir().unwrap();
        // No process ever has the greatest number.
        let dead = parent.path().join(format!("{PREFIX}{}", u32::MAX));
        let living = parent.path().join(format!("{PREFIX}1"));
        let foreign = parent.path().join("thesis");
        for directory in [&dead, &living, &foreign] {
            fs::create_dir_all(directory.join("inside")).unwrap();
        }
        let workspace = Workspace::new(parent.path()).unwrap();
        assert!(!dead.exists() && living.exists() && foreign.exists());
        let path = workspace.directory("some").unwrap();
        drop(workspace);
        assert!(!path.exists() && !path.parent().unwrap().exists());
    }

    #[test]
    fn evidence_is_kept_under_a_name_that_the_next_run_leaves_alone() {
        let parent = tempfile::tempdir().unwrap();
        let mut workspace = Workspace::new(parent.path()).unwrap();
        fs::write(workspace.path().join("history"), "").unwrap();
        workspace.keep();
        drop(workspace);
        drop(Workspace::new(parent.path()).unwrap());
        let kept: Vec<_> = fs::read_dir(parent.path()).unwrap().collect();
        assert_eq!(kept.len(), 1);
    }
}
