//! Processes that are stopped, directories that are removed, and what a process used.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::PeersError;

/// How long a process may take to stop when it is asked.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
const POLL_PAUSE: Duration = Duration::from_millis(20);
/// Of what a command said, the end that is shown.
const SAID_BYTES: u64 = 1_500;

/// A directory that is removed when it is dropped.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    /// A new one inside another.
    pub(crate) fn new(parent: &Path) -> Result<Self, PeersError> {
        let path = parent.join(format!("lockstep-peers-{}", std::process::id()));
        fs::create_dir_all(&path).map_err(PeersError::io(&path))?;
        Ok(Self(path))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} is left behind: {error}", self.0.display());
        }
    }
}

/// A broker that runs; dropping it kills it.
pub(crate) struct Broker {
    child: Child,
    log: PathBuf,
}

impl Broker {
    /// Starts a command; what it says goes to `log`. It dies with this process.
    pub(crate) fn start(command: &mut Command, log: PathBuf) -> Result<Self, PeersError> {
        let file = File::create(&log).map_err(PeersError::io(&log))?;
        let both = file.try_clone().map_err(PeersError::io(&log))?;
        let shown = format!("{:?}", command.get_program());
        let child = command.stdin(Stdio::null()).stdout(file).stderr(both).spawn();
        let child = child.map_err(|error| PeersError::Command { command: shown, said: error.to_string() })?;
        Ok(Self { child, log })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// An error with its last words, if it has ended.
    pub(crate) fn check_alive(&mut self) -> Result<(), PeersError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(PeersError::Command { command: "a broker".to_owned(), said: last_words(&self.log) }),
        }
    }

    fn ask_to_stop(&self) {
        if let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) {
            // One that has ended needs no signal.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.ask_to_stop();
        let deadline = Instant::now() + PATIENCE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
            }
            std::thread::sleep(POLL_PAUSE);
        }
    }
}

/// Stops brokers side by side.
pub(crate) fn stop_all(brokers: &mut Vec<Broker>) {
    brokers.iter().for_each(Broker::ask_to_stop);
    brokers.clear();
}

/// The end of a log file.
pub(crate) fn last_words(log: &Path) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let start = file.metadata()?.len().saturating_sub(SAID_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_or_else(|error| error.to_string(), |bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
}

/// Runs a command to its end; returns what it printed.
pub(crate) fn output_of(command: &mut Command) -> Result<String, PeersError> {
    let shown = format!("{command:?}");
    let shown = shown.chars().take(200).collect::<String>();
    let failed = |said: String| PeersError::Command { command: shown.clone(), said };
    let output = command.stdin(Stdio::null()).output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    // A signal: somebody pressed Ctrl-C, which all of us got.
    if output.status.code().is_none() {
        return Err(PeersError::Interrupted);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: String = said.chars().rev().take(1_000).collect::<Vec<_>>().into_iter().rev().collect();
    Err(failed(said.trim().to_owned()))
}

/// What some processes have used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    /// Seconds of processor time, all together.
    pub(crate) cpu_seconds: f64,
    /// Bytes resident at the most, all together.
    pub(crate) peak_resident_bytes: f64,
}

impl Usage {
    /// Of these processes and all their descendants.
    pub(crate) fn of(pids: &[u32]) -> Self {
        let mut usage = Self::default();
        for pid in with_descendants(pids) {
            usage.cpu_seconds += cpu_seconds(pid).unwrap_or(0.0);
            usage.peak_resident_bytes += peak_resident_bytes(pid).unwrap_or(0.0);
        }
        usage
    }
}

fn with_descendants(pids: &[u32]) -> Vec<u32> {
    let mut all = pids.to_vec();
    let mut at = 0;
    while at < all.len() {
        let path = format!("/proc/{0}/task/{0}/children", all[at]);
        let children = fs::read_to_string(path).unwrap_or_default();
        all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        at += 1;
    }
    all
}

/// Fields 14 and 15 of `stat` count ticks; the name before them may hold blanks, and ends with the last bracket.
fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn peak_resident_bytes(pid: u32) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_stopped_and_its_directory_removed() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(parent.path()).unwrap();
        let broker = Broker::start(Command::new("sleep").arg("1000"), scratch.path().join("log")).unwrap();
        let pid = broker.pid();
        assert!(cpu_seconds(pid).is_some());
        drop(broker);
        drop(scratch);
        assert!(cpu_seconds(pid).is_none(), "it has ended and was waited for");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_last_words_of_a_broker_that_ended_are_told() {
        let parent = tempfile::tempdir().unwrap();
        let log = parent.path().join("log");
        let mut command = Command::new("sh");
        let mut broker = Broker::start(command.args(["-c", "echo no disk"]), log).unwrap();
        let _ = broker.child.wait();
        let error = broker.check_alive().unwrap_err().to_string();
        assert!(error.contains("no disk"), "{error}");
    }

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::of(&[std::process::id()]);
        assert!(usage.peak_resident_bytes > 0.0);
    }
}
