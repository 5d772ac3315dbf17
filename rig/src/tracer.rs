//! `strace` at work on a process that runs already: some of its calls fail, or do nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::error::RigError;
use crate::rig::Rig;

/// How long it may take to take hold.
const ATTACH_TIME_MAX: Duration = Duration::from_secs(10);

/// A tracer that holds a process. Dropping it lets go.
#[derive(Debug)]
pub struct Tracer {
    process: Child,
    log: PathBuf,
}

impl Tracer {
    /// Takes hold of all threads of a process. `inject` is what `calls` do instead, in the tracer's own words.
    ///
    /// # Errors
    /// The tracer does not run, or is not let near the process.
    pub fn attach(rig: &Rig, pid: u32, calls: &str, inject: &str, outside: &Path) -> Result<Self, RigError> {
        let log = outside.join(format!("strace-{pid}.log"));
        let said = outside.join(format!("strace-{pid}.said"));
        let words = File::create(&said).map_err(RigError::file(&said))?;
        let mut strace = Command::new("strace");
        strace.args(["-f", "-p", &pid.to_string(), "-e", &format!("trace={calls}")]);
        strace.args(["-e", &format!("inject={calls}:{inject}"), "-o"]).arg(&log);
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(words);
        std::os::unix::process::CommandExt::process_group(&mut strace, 0);
        let failed = |why: String| {
            let said = fs::read_to_string(&said).unwrap_or_default();
            RigError::Command { command: "strace".to_owned(), said: format!("{why}{said}") }
        };
        let process = strace.spawn().map_err(|error| failed(error.to_string()))?;
        let tracer = Self { process, log };
        let holds = || fs::read_to_string(&said).is_ok_and(|said| said.contains("attached"));
        if rig.wait_until(ATTACH_TIME_MAX, holds)? { Ok(tracer) } else { Err(failed(String::new())) }
    }

    /// Lets go; returns how many calls did not do what they do.
    #[must_use]
    pub fn release(mut self) -> usize {
        self.stop();
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains("(INJECTED)")).count()
    }

    fn stop(&mut self) {
        if let Some(pid) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw)
            && self.process.try_wait().is_ok_and(|ended| ended.is_none())
        {
            // Not SIGKILL: it has to let go in order.
            let _ = kill_process(pid, Signal::INT);
        }
        let _ = self.process.wait();
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.stop();
    }
}
