//! Three brokers of one system, and a case run against them.

mod kafka;
mod nats;
mod ours;
mod rabbitmq;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::case::Case;
use crate::error::PeersError;
use crate::install::{Program, Tool};
use crate::process::{Broker, Usage, last_words, output_of, stop_all};
use crate::results::Measured;

/// Far above what any of them takes.
const PATIENCE: Duration = Duration::from_secs(90);
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
        let pids: Vec<u32> = self.brokers.iter().map(Broker::pid).collect();
        // What the case before left unwritten is its own, not this one's.
        rustix::fs::sync();
        let before = Usage::of(&pids);
        let text = output_of(&mut command)?;
        let after = Usage::of(&pids);
        self.brokers.iter_mut().try_for_each(Broker::check_alive)?;
        let used = Usage { cpu_seconds: after.cpu_seconds - before.cpu_seconds, ..after };
        let line = text.lines().last().unwrap_or_default();
        let answer = serde_json::from_str(line).unwrap_or(Value::Null);
        Measured::from_answer(case, round, &answer, used).ok_or_else(|| PeersError::Command {
            command: format!("a load generator, which was to tell what was {}", case.series()),
            said: line.chars().take(SAID_CHARACTERS).collect(),
        })
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
        command.args(case.common_options());
        command.args(self.program.system.grouping_options(case));
        command
    }

    /// Stops the brokers and removes their data.
    pub(crate) fn stop(mut self) {
        stop_all(&mut self.brokers);
        if let Err(error) = std::fs::remove_dir_all(&self.directory) {
            eprintln!("{} is left behind: {error}", self.directory.display());
        }
    }
}

impl Program {
    /// Every setting that is not the system's own default, for the report.
    pub(crate) fn settings(&self) -> String {
        match &self.tool {
            Tool::Lockstep { .. } => ours::SETTINGS.to_owned(),
            Tool::Kafka(_) => kafka::settings(self.system),
            Tool::Nats { .. } => nats::settings(self.system),
            Tool::Rabbitmq { .. } => rabbitmq::SETTINGS.to_owned(),
        }
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
