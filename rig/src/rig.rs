//! What every scenario is given: the program under test, choices, a place to work in, and Ctrl-C.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::command;
use crate::error::RigError;
use crate::random::Random;
use crate::workspace::Workspace;

/// The longest time between Ctrl-C and its being noticed.
const INTERRUPT_PAUSE: Duration = Duration::from_millis(20);

/// What every scenario is given.
#[derive(Debug)]
pub struct Rig {
    /// The `lockstep` program.
    pub program: PathBuf,
    /// The run's choices.
    pub random: Random,
    /// Where to work.
    pub workspace: Workspace,
    /// What the load runs on.
    pub runtime: Runtime,
    interrupted: Arc<AtomicBool>,
}

impl Rig {
    /// Sets everything up.
    ///
    /// # Errors
    /// No program to test, or no place to work.
    pub fn new(program: Option<PathBuf>, parent: &Path, seed: u64) -> Result<Self, RigError> {
        let workspace = Workspace::new(parent)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(RigError::file(parent))?;
        let interrupted = Arc::new(AtomicBool::new(false));
        let heard = Arc::clone(&interrupted);
        runtime.spawn(async move {
            while tokio::signal::ctrl_c().await.is_ok() {
                heard.store(true, Ordering::Relaxed);
            }
        });
        let program = match program {
            Some(program) => program,
            None => sibling_program()?,
        };
        Ok(Self { program, random: Random::new(seed), workspace, runtime, interrupted })
    }

    /// Refuses to go on after Ctrl-C.
    ///
    /// # Errors
    /// [`RigError::Interrupted`].
    pub fn check_interrupted(&self) -> Result<(), RigError> {
        if self.interrupted.load(Ordering::Relaxed) { Err(RigError::Interrupted) } else { Ok(()) }
    }

    /// Lets the load run for a while.
    ///
    /// # Errors
    /// [`RigError::Interrupted`].
    pub fn pause(&self, time: Duration) -> Result<(), RigError> {
        let end = Instant::now() + time;
        loop {
            self.check_interrupted()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(INTERRUPT_PAUSE));
        }
    }

    /// Waits until something happens that is bound to; false if it does not within `limit`.
    ///
    /// # Errors
    /// [`RigError::Interrupted`].
    pub fn wait_until(&self, limit: Duration, mut happened: impl FnMut() -> bool) -> Result<bool, RigError> {
        let end = Instant::now() + limit;
        while !happened() {
            self.check_interrupted()?;
            if Instant::now() > end {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(true)
    }
}

/// `lockstep` beside this program; built first if it is not there.
fn sibling_program() -> Result<PathBuf, RigError> {
    let own = std::env::current_exe().map_err(RigError::file(Path::new("this program")))?;
    let program = own.with_file_name("lockstep");
    if !program.exists() {
        println!("building {} first", program.display());
        let mut build = Command::new("cargo");
        build.args(["build", "--package", "lockstep"]);
        if own.parent().is_some_and(|directory| directory.ends_with("release")) {
            build.arg("--release");
        }
        command::run(&mut build)?;
    }
    Ok(program)
}
