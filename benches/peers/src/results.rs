//! What was measured: kept as JSON, shown as tables in Markdown and as a page.

mod markdown;
mod page;

use std::path::Path;
use std::time::Duration;

use lockstep_load::series::Latencies;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::case::{Case, Kind};
use crate::error::PeersError;
use crate::process::Usage;

/// The system that others are compared with.
const OURS: &str = "lockstep";
/// Brokers that store each record.
const REPLICAS: u32 = 3;

/// One case, run once against one system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    round: u32,
    records_per_second: f64,
    bytes_per_second: f64,
    /// Time in microseconds, and how often it was seen.
    histogram_us: Vec<(u64, u64)>,
    /// Processor time of all brokers for each gigabyte, warm-up included in both.
    cpu_seconds_per_gigabyte: f64,
    /// Of all brokers together, since they started.
    peak_resident_bytes: f64,
}

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
    systems: Vec<SystemResults>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SystemResults {
    name: String,
    /// One for each round that came to an end.
    rounds: Vec<Measured>,
}

/// Everything that was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Results {
    machine: String,
    limits: Value,
    /// System, and all its settings.
    settings: Vec<(String, String)>,
    /// What there are no figures of, and why.
    skipped: Vec<(String, String)>,
    cases: Vec<CaseResults>,
}

impl Measured {
    /// From a load generator's answer; `None` if the series of the case is not in it.
    pub(crate) fn from_answer(case: &Case, round: u32, answer: &Value, used: Usage) -> Option<Self> {
        let series = answer.get(case.series())?;
        let records = series["records"].as_f64()?;
        let bytes = series["bytes"].as_f64()?;
        let seconds = series["seconds"].as_f64().filter(|seconds| *seconds > 0.0)?;
        let histogram_us = series["histogram_us"].as_array()?;
        let step = |step: &Value| Some((step[0].as_u64()?, step[1].as_u64()?));
        let bytes_per_second = bytes / seconds;
        let gigabytes = bytes_per_second * (seconds + case.warm_up) / 1e9;
        Some(Self {
            round,
            records_per_second: records / seconds,
            bytes_per_second,
            histogram_us: histogram_us.iter().map(step).collect::<Option<Vec<_>>>()?,
            cpu_seconds_per_gigabyte: if gigabytes > 0.0 { used.cpu_seconds / gigabytes } else { 0.0 },
            peak_resident_bytes: used.peak_resident_bytes,
        })
    }

    /// A line for whoever waits.
    pub(crate) fn brief(&self) -> String {
        let latencies = self.latencies();
        format!(
            "{:.0} records/s, p50 {:?}, p99 {:?}",
            self.records_per_second,
            latencies.percentile(50.0),
            latencies.percentile(99.0)
        )
    }

    fn latencies(&self) -> Latencies {
        let mut latencies = Latencies::default();
        latencies.add_counts(self.histogram_us.iter().copied());
        latencies
    }

    fn percentile(&self, percent: f64) -> Duration {
        self.latencies().percentile(percent)
    }
}

/// A median and what it lies between.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Spread {
    /// Of at least one figure.
    fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let last = figures.len().checked_sub(1)?;
        let median = f64::midpoint(figures[last / 2], figures[last.div_ceil(2)]);
        Some(Self { low: figures[0], median, high: figures[last] })
    }
}

impl SystemResults {
    fn spread(&self, figure: impl Fn(&Measured) -> f64) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(figure).collect())
    }

    /// Latencies of all rounds together.
    fn latencies(&self) -> Latencies {
        let mut all = Latencies::default();
        self.rounds.iter().for_each(|round| all.add(&round.latencies()));
        all
    }

    /// How many times better we are, round by round: more records a second, or less time.
    fn ours_against(
        &self,
        ours: &Self,
        figure: impl Fn(&Measured) -> f64,
        less_is_better: bool,
    ) -> Option<Spread> {
        let ratio = |theirs: &Measured| {
            let ours = ours.rounds.iter().find(|ours| ours.round == theirs.round)?;
            let (ours, theirs) = (figure(ours), figure(theirs));
            Some(if less_is_better { theirs / ours } else { ours / theirs })
        };
        let ratios = self.rounds.iter().filter_map(ratio);
        Spread::of(ratios.filter(|ratio| ratio.is_finite()).collect())
    }
}

impl CaseResults {
    fn ours(&self) -> Option<&SystemResults> {
        self.systems.iter().find(|system| system.name == OURS)
    }
}

impl Results {
    pub(crate) fn new(limits: Value, machine: String) -> Self {
        Self { machine, limits, settings: Vec::new(), skipped: Vec::new(), cases: Vec::new() }
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

    pub(crate) fn add(&mut self, case: &Case, system: &str, measured: Measured) {
        let at = self.cases.iter().position(|known| known.name == case.name).unwrap_or_else(|| {
            self.cases.push(CaseResults {
                name: case.name.clone(),
                what: case.what(),
                record_bytes: case.record_bytes,
                connections: case.connections,
                is_about_throughput: case.is_about_throughput(),
                is_written: case.series() != "read",
                is_fan_out: case.kind == Kind::FanOut,
                systems: Vec::new(),
            });
            self.cases.len() - 1
        });
        let systems = &mut self.cases[at].systems;
        let at = systems.iter().position(|known| known.name == system).unwrap_or_else(|| {
            systems.push(SystemResults { name: system.to_owned(), rounds: Vec::new() });
            systems.len() - 1
        });
        systems[at].rounds.push(measured);
    }

    /// A limit of the machine.
    fn limit(&self, name: &str) -> f64 {
        self.limits[name].as_f64().unwrap_or(f64::NAN)
    }

    /// The median of a sync of about so many bytes, with three files side by side, in microseconds.
    fn sync_p50_us(&self, group_bytes: f64) -> Option<f64> {
        let syncs = self.limits["syncs"].as_array()?;
        let with_three = syncs.iter().filter(|sync| sync["files"] == 3);
        let distance = |sync: &Value| (sync["group_bytes"].as_f64().unwrap_or(1.0) / group_bytes).ln().abs();
        let nearest = with_three.min_by(|one, other| distance(one).total_cmp(&distance(other)))?;
        nearest["p50_us"].as_f64()
    }

    /// What our median takes of each limit of the machine, the greatest first.
    fn shares(&self, case: &CaseResults) -> Vec<(&'static str, f64)> {
        let Some(rate) = case.ours().and_then(|ours| ours.spread(|round| round.bytes_per_second)) else {
            return Vec::new();
        };
        let (rate, replicas) = (rate.median, f64::from(REPLICAS));
        let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
        let cpu = case.ours().and_then(|ours| ours.spread(|round| round.cpu_seconds_per_gigabyte));
        let cpu = cpu.map_or(0.0, |cpu| cpu.median * rate / 1e9 / cores);
        let mut shares = vec![("processor, brokers alone", cpu)];
        let loopback = self.limit("loopback_bytes_per_second");
        if case.is_written && !case.is_fan_out {
            // Each replica writes a record once; it comes in once and goes to two followers.
            shares.push((
                "disk, sequential write",
                rate * replicas / self.limit("sequential_write_bytes_per_second"),
            ));
            shares.push(("loopback", rate * replicas / loopback));
            shares.push(("CRC-32C", rate * (replicas + 1.0) / self.limit("crc32c_bytes_per_second")));
        } else {
            shares.push(("loopback", rate / loopback));
        }
        shares.retain(|(_, share)| share.is_finite());
        shares.sort_by(|one, other| other.1.total_cmp(&one.1));
        shares
    }

    pub(crate) fn markdown(&self) -> String {
        markdown::of(self)
    }

    pub(crate) fn html(&self) -> String {
        page::of(self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::case;

    fn measured(round: u32, rate: f64, latency_us: u64) -> Measured {
        Measured {
            round,
            records_per_second: rate,
            bytes_per_second: rate * 1_000.0,
            histogram_us: vec![(latency_us, 100)],
            cpu_seconds_per_gigabyte: 2.0,
            peak_resident_bytes: 1e6,
        }
    }

    fn results() -> Results {
        let limits = json!({
            "sequential_write_bytes_per_second": 3e8,
            "loopback_bytes_per_second": 3e9,
            "crc32c_bytes_per_second": 2e10,
            "syncs": [{ "files": 3, "group_bytes": 4096, "p50_us": 400 }],
        });
        let mut results = Results::new(limits, "a machine".to_owned());
        for case in case::all(1_000, 10.0, 1.0) {
            let rounds = [(1, 3_000.0, 1_000.0), (2, 2_000.0, 1_000.0), (4, 40_000.0, 10_000.0)];
            for (round, ours, theirs) in rounds {
                results.add(&case, OURS, measured(round, ours, 500));
                results.add(&case, "kafka", measured(round, theirs, 1_000));
            }
            // A round that only one of them came to the end of is in no ratio.
            results.add(&case, OURS, measured(3, 1e9, 500));
        }
        results.skipped("rabbitmq", "not here");
        results
    }

    #[test]
    fn ratios_are_taken_round_by_round() {
        let results = results();
        let case = &results.cases[0];
        let ratio = case.systems[1]
            .ours_against(case.ours().unwrap(), |round| round.records_per_second, false)
            .unwrap();
        assert_eq!((ratio.low, ratio.median, ratio.high), (2.0, 3.0, 4.0));
        let p99 = |round: &Measured| round.percentile(99.0).as_secs_f64();
        let ratio = case.systems[1].ours_against(case.ours().unwrap(), p99, true).unwrap();
        assert!((ratio.median - 2.0).abs() < 0.01);
    }

    #[test]
    fn a_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 10.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of(vec![]), None);
    }

    #[test]
    fn results_are_read_as_they_were_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("results.json");
        let results = results();
        results.write(&path).unwrap();
        assert_eq!(Results::read(&path).unwrap(), results);
    }

    #[test]
    fn whatever_was_measured_or_skipped_is_shown() {
        let results = results();
        for shown in [results.markdown(), results.html()] {
            for case in &results.cases {
                assert!(shown.contains(&case.name), "{} is missing", case.name);
            }
            assert!(shown.contains("rabbitmq") && shown.contains("not here"));
            assert!(!shown.contains("NaN"));
        }
    }

    #[test]
    fn an_answer_without_the_series_of_its_case_is_none() {
        let case = &case::all(1_000, 2.0, 0.0)[0];
        let figures = json!({ "records": 10, "bytes": 1000, "seconds": 2.0, "histogram_us": [[5, 10]] });
        let found = Measured::from_answer(case, 1, &json!({ "acknowledged": figures }), Usage::default());
        assert_eq!(found.unwrap().records_per_second, 5.0);
        assert_eq!(Measured::from_answer(case, 1, &json!({ "read": figures }), Usage::default()), None);
    }
}
