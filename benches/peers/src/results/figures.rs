//! The figures of one case against one system, round by round.

use std::time::Duration;

use lockstep_load::series::Latencies;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::case::Case;
use crate::sampling::Samples;

/// So many samples have to lie above a percentile: fewer are chance.
const SAMPLES_ABOVE: f64 = 10.0;
/// How far a rate may be from the one that was asked for.
const RATE_TOLERANCE: f64 = 0.01;

/// One case, run once against one system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(super) round: u32,
    pub(super) records_per_second: f64,
    pub(super) bytes_per_second: f64,
    /// Time in microseconds, and how often it was seen.
    pub(super) histogram_us: Vec<(u64, u64)>,
    /// Processor time of all brokers for each gigabyte, both within the measured time; `None` if the generator did not tell
    /// when that was.
    #[serde(default)]
    pub(super) broker_seconds_per_gigabyte: Option<f64>,
    /// The same of the load generator.
    #[serde(default)]
    pub(super) load_seconds_per_gigabyte: Option<f64>,
    /// Of all brokers together, since they started.
    pub(super) peak_resident_bytes: f64,
}

impl Measured {
    /// From a load generator's answer; `None` if the series of the case is not in it, or holds nothing: whoever delivers
    /// nothing has no rate and no latency.
    pub(crate) fn from_answer(
        case: &Case,
        round: u32,
        answer: &Value,
        samples: &Samples,
        peak_resident_bytes: f64,
    ) -> Option<Self> {
        let series = answer.get(case.series())?;
        let records = series["records"].as_f64().filter(|records| *records > 0.0)?;
        let bytes = series["bytes"].as_f64().filter(|bytes| *bytes > 0.0)?;
        let seconds = series["seconds"].as_f64().filter(|seconds| *seconds > 0.0)?;
        let step = |step: &Value| Some((step[0].as_u64()?, step[1].as_u64()?));
        let histogram_us = series["histogram_us"].as_array()?.iter().map(step).collect::<Option<Vec<_>>>()?;
        let window = answer["measured_from_unix_ms"].as_f64().zip(answer["measured_to_unix_ms"].as_f64());
        let used = window.and_then(|(from, to)| samples.within(from, to));
        (!histogram_us.is_empty()).then_some(Self {
            round,
            records_per_second: records / seconds,
            bytes_per_second: bytes / seconds,
            histogram_us,
            broker_seconds_per_gigabyte: used.map(|used| used.brokers / bytes * 1e9),
            load_seconds_per_gigabyte: used.map(|used| used.load / bytes * 1e9),
            peak_resident_bytes,
        })
    }

    /// A line for whoever waits.
    pub(crate) fn brief(&self) -> String {
        let shown = |percent| {
            self.percentile(percent).map_or_else(|| "–".to_owned(), |latency| format!("{latency:?}"))
        };
        let cpu = self.broker_seconds_per_gigabyte.map_or_else(|| "–".to_owned(), |cpu| format!("{cpu:.2}"));
        format!(
            "{:.0} records/s, p50 {}, p99 {}, CPU {cpu} s/GB",
            self.records_per_second,
            shown(50.0),
            shown(99.0)
        )
    }

    pub(crate) fn records_per_second(&self) -> f64 {
        self.records_per_second
    }

    pub(super) fn latencies(&self) -> Latencies {
        let mut latencies = Latencies::default();
        latencies.add_counts(self.histogram_us.iter().copied());
        latencies
    }

    /// `None` where too few samples lie above it.
    pub(super) fn percentile(&self, percent: f64) -> Option<Duration> {
        let latencies = self.latencies();
        let samples_above = latencies.count() as f64 * (100.0 - percent) / 100.0;
        // What is off in the last digit is the arithmetic's.
        (samples_above + 1e-6 >= SAMPLES_ABOVE).then(|| latencies.percentile(percent))
    }

    /// In seconds.
    pub(super) fn latency(&self, percent: f64) -> Option<f64> {
        self.percentile(percent).map(|latency| latency.as_secs_f64())
    }
}

/// A median and what it lies between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) low: f64,
    pub(super) median: f64,
    pub(super) high: f64,
}

impl Spread {
    /// Of at least one figure.
    pub(super) fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let last = figures.len().checked_sub(1)?;
        let median = f64::midpoint(figures[last / 2], figures[last.div_ceil(2)]);
        Some(Self { low: figures[0], median, high: figures[last] })
    }
}

/// All rounds of one case against one system.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SystemResults {
    pub(super) name: String,
    /// Rounds that were begun.
    #[serde(default)]
    pub(super) attempts: u32,
    /// One for each round that came to an end.
    pub(super) rounds: Vec<Measured>,
}

impl SystemResults {
    /// Of the rounds that have such a figure.
    pub(super) fn spread(&self, figure: impl Fn(&Measured) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.rounds.iter().filter_map(figure).collect())
    }

    /// Latencies of all rounds together.
    pub(super) fn latencies(&self) -> Latencies {
        let mut all = Latencies::default();
        self.rounds.iter().for_each(|round| all.add(&round.latencies()));
        all
    }

    /// How many rounds had another rate than was asked for.
    pub(super) fn rounds_off(&self, asked_rate: f64) -> usize {
        let is_off = |round: &&Measured| (round.records_per_second / asked_rate - 1.0).abs() > RATE_TOLERANCE;
        self.rounds.iter().filter(is_off).count()
    }

    /// One's figure by another's, round by round. What is infinite counts: only nothing by nothing does not.
    pub(super) fn by(&self, other: &Self, figure: impl Fn(&Measured) -> Option<f64>) -> Option<Spread> {
        let ratio = |own: &Measured| {
            let other = other.rounds.iter().find(|other| other.round == own.round)?;
            Some(figure(own)? / figure(other)?).filter(|ratio| !ratio.is_nan())
        };
        Spread::of(self.rounds.iter().filter_map(ratio).collect())
    }

    /// How many times better we are, round by round: more of something, or less.
    pub(super) fn ours_against(
        &self,
        ours: &Self,
        figure: impl Fn(&Measured) -> Option<f64>,
        less_is_better: bool,
    ) -> Option<Spread> {
        if less_is_better { self.by(ours, figure) } else { ours.by(self, figure) }
    }
}
