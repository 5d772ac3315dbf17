//! What was measured: kept as JSON, shown as tables in Markdown and as a page.

mod figures;
mod markdown;
mod page;
mod shares;
#[cfg(test)]
mod tests;

use std::path::Path;

pub(crate) use figures::Measured;
use figures::SystemResults;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::case::{Case, Kind};
use crate::error::PeersError;

/// The system that others are compared with.
const OURS: &str = "lockstep";

/// One case, against every system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct CaseResults {
    name: String,
    what: String,
    record_bytes: u32,
    connections: u32,
    is_about_throughput: bool,
    is_written: bool,
    /// Whether what the brokers' processors deliver is what is compared.
    #[serde(default)]
    is_fan_out: bool,
    /// Records a second that were asked for.
    #[serde(default)]
    asked_rate: Option<f64>,
    systems: Vec<SystemResults>,
}

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    machine: String,
    /// Of that machine; a file of an earlier version does not tell.
    #[serde(default)]
    cores: Option<f64>,
    limits: Value,
    /// How it was measured: what, and how much.
    #[serde(default)]
    run: Vec<(String, String)>,
    /// System, and all its settings.
    settings: Vec<(String, String)>,
    /// What there are no figures of, and why.
    skipped: Vec<(String, String)>,
    /// Which round of what came to no end, and why.
    #[serde(default)]
    failed: Vec<(String, String)>,
    /// Which promise of ours was broken.
    #[serde(default)]
    violations: Vec<(String, String)>,
    cases: Vec<CaseResults>,
}

impl CaseResults {
    fn of(case: &Case) -> Self {
        Self {
            name: case.name.clone(),
            what: case.what(),
            record_bytes: case.record_bytes,
            connections: case.connections,
            is_about_throughput: case.is_about_throughput(),
            is_written: case.series() != "read",
            is_fan_out: case.kind == Kind::FanOut,
            asked_rate: case.asked_rate(),
            systems: Vec::new(),
        }
    }

    /// Whether each connection has one record in flight.
    fn is_single(&self) -> bool {
        self.name.starts_with("single-")
    }

    fn system(&self, name: &str) -> Option<&SystemResults> {
        self.systems.iter().find(|system| system.name == name)
    }

    fn ours(&self) -> Option<&SystemResults> {
        self.system(OURS)
    }
}

impl Results {
    pub(crate) fn new(limits: Value, machine: String) -> Self {
        let cores = std::thread::available_parallelism().ok().map(|cores| cores.get() as f64);
        Self {
            machine,
            cores,
            limits,
            run: Vec::new(),
            settings: Vec::new(),
            skipped: Vec::new(),
            failed: Vec::new(),
            violations: Vec::new(),
            cases: Vec::new(),
        }
    }

    pub(crate) fn read(path: &Path) -> Result<Self, PeersError> {
        let text = std::fs::read(path).map_err(PeersError::io(path))?;
        serde_json::from_slice(&text)
            .map_err(|error| PeersError::Usage(format!("{}: {error}", path.display())))
    }

    pub(crate) fn write(&self, path: &Path) -> Result<(), PeersError> {
        let text = serde_json::to_vec(self).map_err(|error| PeersError::Usage(error.to_string()))?;
        std::fs::write(path, text).map_err(PeersError::io(path))
    }

    pub(crate) fn settings(&mut self, system: &str, settings: &str) {
        if self.settings.iter().all(|(name, _)| name != system) {
            self.settings.push((system.to_owned(), settings.to_owned()));
        }
    }

    pub(crate) fn skipped(&mut self, what: &str, why: &str) {
        let skipped = (what.to_owned(), why.lines().last().unwrap_or(why).to_owned());
        // Once is enough for all rounds.
        if !self.skipped.contains(&skipped) {
            self.skipped.push(skipped);
        }
    }

    /// How it was measured.
    pub(crate) fn run(&mut self, what: &str, how: String) {
        self.run.push((what.to_owned(), how));
    }

    /// A round of a case against a system that came to an end.
    pub(crate) fn add(&mut self, case: &Case, system: &str, measured: Measured) {
        let system = self.attempted(case, system);
        system.rounds.push(measured);
    }

    /// One that did not.
    pub(crate) fn add_failure(&mut self, case: &Case, system: &str, round: u32, error: &PeersError) {
        self.attempted(case, system);
        let what = format!("{system}, {}, round {round}", case.name);
        if let PeersError::Violation(said) = error {
            self.violations.push((what.clone(), said.clone()));
        }
        self.failed.push((what, error.to_string()));
    }

    /// Whether a promise of ours was broken: then no figure is worth anything.
    pub(crate) fn has_violations(&self) -> bool {
        !self.violations.is_empty()
    }

    fn attempted(&mut self, case: &Case, system: &str) -> &mut SystemResults {
        let at = self.cases.iter().position(|known| known.name == case.name).unwrap_or_else(|| {
            self.cases.push(CaseResults::of(case));
            self.cases.len() - 1
        });
        let systems = &mut self.cases[at].systems;
        let at = systems.iter().position(|known| known.name == system).unwrap_or_else(|| {
            systems.push(SystemResults { name: system.to_owned(), attempts: 0, rounds: Vec::new() });
            systems.len() - 1
        });
        systems[at].attempts += 1;
        &mut systems[at]
    }

    fn case(&self, name: &str) -> Option<&CaseResults> {
        self.cases.iter().find(|case| case.name == name)
    }

    pub(crate) fn markdown(&self) -> String {
        markdown::of(self)
    }

    pub(crate) fn html(&self) -> String {
        page::of(self)
    }
}
