//! Processes that are stopped, directories that are removed, and what a process used.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::error::PeersError;
use crate::interrupt;

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

/// A broker that runs; dropping it stops it, and kills whatever it started.
pub(crate) struct Broker {
    child: Child,
    log: PathBuf,
}

impl Broker {
    /// Starts a command; what it says goes to `log`. Ctrl-C does not reach it: this process stops it.
    pub(crate) fn start(command: &mut Command, log: PathBuf) -> Result<Self, PeersError> {
        let file = File::create(&log).map_err(PeersError::io(&log))?;
        let both = file.try_clone().map_err(PeersError::io(&log))?;
        let shown = format!("{:?}", command.get_program());
        let child = command.stdin(Stdio::null()).stdout(file).stderr(both).process_group(0).spawn();
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
        kill_group(&self.child);
    }
}

/// Kills a child and whatever it started: each leads a process group.
fn kill_group(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // Mostly there is nobody left in it.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// Stops brokers side by side.
pub(crate) fn stop_all(brokers: &mut Vec<Broker>) {
    brokers.iter().for_each(Broker::ask_to_stop);
    brokers.clear();
}

/// The end of a log file.
pub(crate) fn last_words(log: &Path) -> String {
    let read = || -> io::Result<Vec<u8>> {
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
pub(crate) fn output_of(command: &mut Command, limit: Duration) -> Result<String, PeersError> {
    Running::start(command)?.output(limit)
}

/// A command that runs; dropping it kills it and whatever it started.
pub(crate) struct Running {
    child: Child,
    /// Its beginning.
    shown: String,
    printed: Option<JoinHandle<Vec<u8>>>,
    said: Option<JoinHandle<Vec<u8>>>,
}

impl Running {
    /// Starts it. Ctrl-C does not reach it: this process kills it.
    pub(crate) fn start(command: &mut Command) -> Result<Self, PeersError> {
        let shown = format!("{command:?}").chars().take(200).collect::<String>();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command
            .spawn()
            .map_err(|error| PeersError::Command { command: shown.clone(), said: error.to_string() })?;
        let printed = child.stdout.take().map(read_to_end);
        let said = child.stderr.take().map(read_to_end);
        Ok(Self { child, shown, printed, said })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end; returns what it printed.
    pub(crate) fn output(mut self, limit: Duration) -> Result<String, PeersError> {
        let status = self.wait(limit)?;
        kill_group(&self.child);
        let text = |thread: Option<JoinHandle<Vec<u8>>>| {
            let bytes = thread.and_then(|thread| thread.join().ok()).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        if status.success() {
            return Ok(text(self.printed.take()));
        }
        let said = text(self.said.take());
        let end: String = said.chars().rev().take(1_000).collect::<Vec<_>>().into_iter().rev().collect();
        Err(PeersError::Command { command: self.shown.clone(), said: format!("{} ({status})", end.trim()) })
    }

    fn wait(&mut self, limit: Duration) -> Result<ExitStatus, PeersError> {
        let deadline = Instant::now() + limit;
        loop {
            let failed = |error: io::Error| PeersError::Command {
                command: self.shown.clone(),
                said: error.to_string(),
            };
            if let Some(status) = self.child.try_wait().map_err(failed)? {
                return Ok(status);
            }
            interrupt::check()?;
            if Instant::now() > deadline {
                return Err(PeersError::TooLong { command: self.shown.clone(), seconds: limit.as_secs() });
            }
            std::thread::sleep(POLL_PAUSE);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill_group(&self.child);
        let _ = self.child.wait();
    }
}

fn read_to_end(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}

/// Bytes resident at the most, of these processes together, since each started.
pub(crate) fn peak_resident_bytes(pids: &[u32]) -> f64 {
    pids.iter().filter_map(|pid| peak_resident_bytes_of(*pid)).sum()
}

/// These processes and all their descendants.
pub(crate) fn with_descendants(pids: &[u32]) -> Vec<u32> {
    let mut all = pids.to_vec();
    let mut at = 0;
    while at < all.len() {
        // Each thread has the children that it started.
        let threads = fs::read_dir(format!("/proc/{}/task", all[at])).into_iter().flatten().flatten();
        for thread in threads {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        at += 1;
    }
    all
}

/// Those of them that the kernel calls so.
pub(crate) fn named(pids: &[u32], name: &str) -> BTreeSet<u32> {
    let is_named = |pid: &&u32| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|found| found.trim_end() == name)
    };
    pids.iter().filter(is_named).copied().collect()
}

/// Fields 14 and 15 of `stat` count ticks; the name before them may hold blanks, and ends with the last bracket.
pub(crate) fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn peak_resident_bytes_of(pid: u32) -> Option<f64> {
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
        let mut broker = shell(parent.path(), "echo no disk");
        let _ = broker.child.wait();
        let error = broker.check_alive().unwrap_err().to_string();
        assert!(error.contains("no disk"), "{error}");
    }

    #[test]
    fn this_process_uses_something() {
        assert!(peak_resident_bytes(&[std::process::id()]) > 0.0);
    }

    fn shell(directory: &Path, script: &str) -> Broker {
        Broker::start(Command::new("sh").args(["-c", script]), directory.join("log")).unwrap()
    }

    /// What a look finds, as soon as it finds something.
    fn wait_for<T>(in_vain: &str, mut look: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(Instant::now() < deadline, "{in_vain}");
            std::thread::sleep(POLL_PAUSE);
        }
    }

    /// Those that a shell started, as soon as there are any but `not`.
    fn started_by(shell: u32, not: &BTreeSet<u32>) -> BTreeSet<u32> {
        wait_for("the shell starts nothing", || {
            let found = named(&with_descendants(&[shell]), "sleep");
            (!found.is_empty() && found != *not).then_some(found)
        })
    }

    fn signal(pid: u32) {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
    }

    #[test]
    fn a_broker_that_was_started_again_is_another_process() {
        let parent = tempfile::tempdir().unwrap();
        let broker = shell(parent.path(), "while :; do sleep 1000; done");
        let before = started_by(broker.pid(), &BTreeSet::new());
        before.iter().copied().for_each(signal);
        assert_ne!(started_by(broker.pid(), &before), before);
    }

    #[test]
    fn what_a_broker_started_does_not_outlive_it() {
        let parent = tempfile::tempdir().unwrap();
        let broker = shell(parent.path(), "sleep 1000 & wait");
        let child = *started_by(broker.pid(), &BTreeSet::new()).first().unwrap();
        drop(broker);
        // Nobody but the system's first process is left to wait for it: till then it has no memory.
        wait_for(&format!("{child} is left behind"), || {
            peak_resident_bytes_of(child).is_none().then_some(())
        });
    }

    #[test]
    fn a_command_that_takes_too_long_fails_by_name() {
        let began = Instant::now();
        let error = output_of(Command::new("sleep").arg("1000"), Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("\"sleep\" \"1000\" was still running"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(100));
    }

    #[test]
    fn a_command_that_somebody_killed_is_a_failure_and_no_interruption() {
        let running = Running::start(Command::new("sleep").arg("1000")).unwrap();
        signal(running.pid());
        let error = running.output(Duration::from_secs(10)).unwrap_err();
        assert!(matches!(&error, PeersError::Command { said, .. } if said.contains("signal: 9")), "{error}");
    }
}
