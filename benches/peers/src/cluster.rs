//! Three brokers of one system, and a case run against them.

mod kafka;
mod nats;
mod ours;
mod rabbitmq;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::case::Case;
use crate::error::PeersError;
use crate::install::{Program, Tool};
use crate::interrupt;
use crate::process::{Broker, Running, last_words, named, peak_resident_bytes, stop_all, with_descendants};
use crate::results::Measured;
use crate::sampling::Sampler;
use crate::system::System;

/// Far above what any of them takes.
const PATIENCE: Duration = Duration::from_secs(90);
/// The longest that a case may take besides what it warms up and measures: each has bounds of its own below this.
const CASE_LIMIT: Duration = Duration::from_secs(3 * 60);
/// What stands in what our load generator says when a promise was broken.
const VIOLATION: &str = "violation: ";
/// What the kernel keeps of a process's name.
const PROCESS_NAME_CHARACTERS: usize = 15;
/// Between two looks.
const POLL_PAUSE: Duration = Duration::from_millis(100);
/// Of an answer that is not understood, what is shown.
const SAID_CHARACTERS: usize = 300;
/// Brokers of a cluster.
pub(crate) const BROKERS: usize = 3;

/// Three brokers of one system.
pub(crate) struct Cluster<'a> {
    program: &'a Program,
    brokers: Vec<Broker>,
    addresses: String,
    directory: PathBuf,
}

impl<'a> Cluster<'a> {
    /// Starts one, on an empty directory of its own.
    pub(crate) fn start(program: &'a Program, parent: &Path) -> Result<Self, PeersError> {
        let directory = parent.join(program.system.name());
        // What an earlier round left.
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).map_err(PeersError::io(&directory))?;
        let (brokers, addresses) = match &program.tool {
            Tool::Lockstep { program } => ours::start(program, &directory)?,
            Tool::Kafka(kafka) => kafka::start(program.system, kafka, &directory)?,
            Tool::Nats { server, .. } => nats::start(program.system, server, &directory)?,
            Tool::Rabbitmq { .. } => rabbitmq::start(&directory)?,
        };
        Ok(Self { program, brokers, addresses, directory })
    }

    /// Runs one case.
    pub(crate) fn run(&mut self, case: &Case, round: u32) -> Result<Measured, PeersError> {
        let mut command = self.load_command(case, round);
        let pids = self.pids();
        let before = self.running(&pids);
        // What the case before left unwritten is its own, not this one's.
        rustix::fs::sync();
        let load = Running::start(&mut command)?;
        let sampler = Sampler::start(pids.clone(), load.pid());
        let limit = CASE_LIMIT + Duration::from_secs_f64(case.duration + case.warm_up + case.client_warm_up);
        let text = load.output(limit);
        let samples = sampler.stop();
        let text = text.map_err(|error| as_violation(self.program.system, error))?;
        self.brokers.iter_mut().try_for_each(Broker::check_alive)?;
        same_brokers(&before, &self.running(&self.pids()))?;
        let line = text.lines().last().unwrap_or_default();
        let answer = serde_json::from_str(line).unwrap_or(Value::Null);
        let measured = Measured::from_answer(case, round, &answer, &samples, peak_resident_bytes(&pids));
        measured.ok_or_else(|| PeersError::Command {
            command: format!("a load generator, which was to tell what was {}", case.series()),
            said: line.chars().take(SAID_CHARACTERS).collect(),
        })
    }

    /// Everything that the brokers consist of.
    fn pids(&self) -> Vec<u32> {
        with_descendants(&self.brokers.iter().map(Broker::pid).collect::<Vec<_>>())
    }

    /// The brokers alone: some have helpers that come and go.
    fn running(&self, pids: &[u32]) -> BTreeSet<u32> {
        named(pids, &self.program.process_name())
    }

    fn load_command(&self, case: &Case, round: u32) -> Command {
        let mut command = match &self.program.tool {
            Tool::Lockstep { program } => {
                let mut command = Command::new(program);
                command.args(["bench", case.load(), "--json"]);
                command
            }
            Tool::Kafka(kafka) => {
                let mut command = kafka.java(&["-Dpeers.log=error", "-Dpeers.log.target=SYSTEM_ERR"]);
                command.args(["lockstep.peers.KafkaLoad", case.load(), "--topic"]);
                command.arg(format!("{}-{round}", case.name));
                command
            }
            Tool::Nats { load, .. } => {
                let mut command = Command::new(load);
                command.args([case.load(), "--topic", &format!("{}-{round}", case.name)]);
                command
            }
            Tool::Rabbitmq { class_path } => {
                let mut command = Command::new("java");
                command.args(["-cp", class_path, "lockstep.peers.RabbitLoad", case.load(), "--topic"]);
                command.arg(format!("{}-{round}", case.name));
                command
            }
        };
        command.args(["--brokers", &self.addresses]);
        command.args(case.common_options(self.program.system.has_virtual_machine()));
        command.args(self.program.system.own_options(case));
        command
    }
}

/// Stops the brokers and removes their data.
impl Drop for Cluster<'_> {
    fn drop(&mut self) {
        stop_all(&mut self.brokers);
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            eprintln!("{} is left behind: {error}", self.directory.display());
        }
    }
}

impl Program {
    /// Every setting that is not the system's own default, for the report.
    pub(crate) fn settings(&self, cases: &[Case]) -> String {
        let settings = match &self.tool {
            Tool::Lockstep { .. } => ours::SETTINGS.to_owned(),
            Tool::Kafka(_) => kafka::settings(self.system),
            Tool::Nats { .. } => nats::settings(self.system),
            Tool::Rabbitmq { .. } => rabbitmq::SETTINGS.to_owned(),
        };
        format!("{}; {settings}; options of its load generator: {}", self.versions, self.options(cases))
    }

    /// What the kernel calls the process of a broker.
    fn process_name(&self) -> String {
        match &self.tool {
            Tool::Lockstep { program } => {
                let name = program.file_name().unwrap_or_default().to_string_lossy();
                name.chars().take(PROCESS_NAME_CHARACTERS).collect()
            }
            Tool::Kafka(_) => "java".to_owned(),
            Tool::Nats { .. } => "nats-server".to_owned(),
            Tool::Rabbitmq { .. } => "beam.smp".to_owned(),
        }
    }

    /// What its load generator is told, as it stands on the command line, and in which cases.
    fn options(&self, cases: &[Case]) -> String {
        let mut told: Vec<(String, Vec<&str>)> = Vec::new();
        for case in cases.iter().filter(|case| self.system.can_run(case)) {
            let options = self.system.own_options(case).join(" ");
            match told.iter_mut().find(|(known, _)| *known == options) {
                Some((_, names)) => names.push(&case.name),
                None => told.push((options, vec![&case.name])),
            }
        }
        let shown = |(options, names): (String, Vec<&str>)| {
            let options = if options.is_empty() { "none" } else { &options };
            format!("{options} ({})", names.join(", "))
        };
        told.into_iter().map(shown).collect::<Vec<_>>().join("; ")
    }
}

/// A broker that was started again by whoever watches over it has lost what it had in memory. A process more is none: some
/// start helpers of their own name.
fn same_brokers(before: &BTreeSet<u32>, after: &BTreeSet<u32>) -> Result<(), PeersError> {
    if before.is_subset(after) && before.len() >= BROKERS {
        return Ok(());
    }
    let said = format!("processes were {before:?} before and are {after:?} after it");
    Err(PeersError::Command { command: "a broker".to_owned(), said })
}

/// Our load generator says so when a promise was broken.
fn as_violation(system: System, error: PeersError) -> PeersError {
    match error {
        PeersError::Command { said, .. } if system == System::Lockstep && said.contains(VIOLATION) => {
            PeersError::Violation(said)
        }
        other => other,
    }
}

/// Ports of loopback that are free at the moment, outside of the range that outgoing connections take theirs from.
fn free_ports(count: usize) -> Vec<u16> {
    let first = 10_000 + (std::process::id() % 1_000) as u16 * 20;
    let all = (first..32_000).chain(10_000..first);
    all.filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).take(count).collect()
}

/// Waits until something is so; or until a broker ends, or patience does.
fn wait_until(what: &str, brokers: &mut [Broker], mut is_so: impl FnMut() -> bool) -> Result<(), PeersError> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        interrupt::check()?;
        brokers.iter_mut().try_for_each(Broker::check_alive)?;
        if Instant::now() > deadline {
            return Err(PeersError::Missing(format!("waited in vain until {what}")));
        }
        std::thread::sleep(POLL_PAUSE);
    }
    Ok(())
}

/// Whether a log file says so.
fn says(log: &Path, text: &str) -> bool {
    std::fs::read_to_string(log).is_ok_and(|said| said.contains(text)) || last_words(log).contains(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_in_which_a_broker_was_started_again_fails() {
        let before = BTreeSet::from([1, 2, 3]);
        same_brokers(&before, &before).unwrap();
        same_brokers(&before, &BTreeSet::from([1, 2, 3, 9])).unwrap();
        let error = same_brokers(&before, &BTreeSet::from([1, 2, 4])).unwrap_err().to_string();
        assert!(error.contains("{1, 2, 3} before and are {1, 2, 4}"), "{error}");
    }

    #[test]
    fn brokers_that_cannot_be_seen_are_no_proof_that_they_are_the_same() {
        let none = BTreeSet::new();
        same_brokers(&none, &none).unwrap_err();
    }

    #[test]
    fn a_promise_that_we_broke_is_told_from_a_failure() {
        let failed = |said: &str| PeersError::Command { command: "a load".into(), said: said.into() };
        let lost = "error: violation: 3 records were lost; the run counts as nothing";
        assert!(matches!(as_violation(System::Lockstep, failed(lost)), PeersError::Violation(_)));
        assert!(matches!(as_violation(System::Lockstep, failed("no broker")), PeersError::Command { .. }));
        assert!(matches!(as_violation(System::Nats, failed(lost)), PeersError::Command { .. }));
    }
}
