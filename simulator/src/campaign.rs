//! Many runs, side by side: seed after seed until the time is up, and a table of what they went through.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::kinds::FaultKind;
use crate::stats::Stats;
use crate::{Options, Plan, Violation, run};

/// From this duration on every kind of fault must have struck.
const FULL_COVERAGE_FROM: Duration = Duration::from_secs(60);
/// How often the progress line is written.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// What to run.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// The first seed.
    pub first: u64,
    /// Behind the last one, if there is a last one.
    pub end: Option<u64>,
    /// For how long, if the seeds do not end before.
    pub duration: Option<Duration>,
    /// Leave out the seeds whose cluster is not one of brokers.
    pub brokers: bool,
    /// Runs at the same time.
    pub threads: usize,
    /// Write a progress line to standard error.
    pub progress: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// What all runs went through together.
    pub stats: Stats,
    /// How long it took.
    pub took: Duration,
    /// Seeds whose run ended with a violation.
    pub violations: BTreeMap<u64, Violation>,
}

impl Campaign {
    /// Runs it.
    pub fn run(&self) -> Report {
        let started = Instant::now();
        let (next, stopped) = (AtomicU64::new(self.first), AtomicBool::new(false));
        let report = Mutex::new(Report::default());
        let lock = || report.lock().unwrap_or_else(PoisonError::into_inner);
        std::thread::scope(|scope| {
            for _ in 0..self.threads.max(1) {
                scope.spawn(|| {
                    while !stopped.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        let late = self.duration.is_some_and(|limit| started.elapsed() >= limit);
                        if late || self.end.is_some_and(|end| seed >= end) {
                            return;
                        }
                        if self.brokers && !Plan::draw(seed).brokers {
                            continue;
                        }
                        let outcome = run(seed, &Options::default());
                        let mut report = lock();
                        report.stats.add(&outcome.stats);
                        if let Some(violation) = outcome.violation {
                            eprintln!("\nseed {seed}: {}: {}", violation.rule, violation.message);
                            report.violations.insert(seed, violation);
                        }
                    }
                });
            }
            scope.spawn(|| {
                while self.progress && !stopped.load(Ordering::Relaxed) {
                    let waited = Instant::now();
                    while waited.elapsed() < PROGRESS_EVERY && !stopped.load(Ordering::Relaxed) {
                        let ended = self.duration.is_some_and(|limit| started.elapsed() >= limit)
                            || self.end.is_some_and(|end| next.load(Ordering::Relaxed) >= end);
                        if ended {
                            stopped.store(true, Ordering::Relaxed);
                        }
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    let report = lock();
                    let stats = &report.stats;
                    eprint!(
                        "\r{} s: {} seeds, {} commits, {} crashes, {} truncations, {} violations   ",
                        started.elapsed().as_secs(),
                        stats.seeds,
                        stats.entries,
                        stats.crashes(),
                        stats.truncations,
                        report.violations.len()
                    );
                    let _ = std::io::stderr().flush();
                }
            });
        });
        if self.progress {
            eprintln!();
        }
        let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.took = started.elapsed();
        report
    }
}

/// Faults that happen by chance, beside the kinds of a plan.
const BY_CHANCE: &[&str] = &[
    "message-lost",
    "message-damaged",
    "message-reordered",
    "message-repeated",
    "delay-spike",
    "disk-spike",
    "off-turn-job",
    "damage-refused-by-frame",
    "damage-refused-by-entry",
    "damage-found-by-scrub",
    "damage-found-by-read",
    "repair-begun",
    "repair-done",
    "membership-applied",
    "leader-removed",
    "replica-created",
    "replica-created-again",
    "replica-dropped",
    "broker-registered",
    "broker-joined",
    "broker-drained",
    "broker-kept",
    "broker-removed",
    "drain-refused",
    "removal-refused",
    "rebalance-begun",
    "move-begun",
    "move-finished",
    "move-cancelled",
];

impl Report {
    /// Kinds of fault that never struck.
    pub fn never_struck(&self) -> Vec<&'static str> {
        let kinds = FaultKind::ALL.iter().chain(FaultKind::OF_BROKERS).map(|kind| kind.name());
        let names = kinds.chain(BY_CHANCE.iter().copied());
        names.filter(|name| !self.stats.faults.contains_key(name)).collect()
    }

    /// Whether nothing is wrong with it: no violation, and nothing left untried in a long campaign.
    pub fn is_good(&self) -> bool {
        self.violations.is_empty() && (self.took < FULL_COVERAGE_FROM || self.never_struck().is_empty())
    }

    /// The table.
    pub fn table(&self) -> String {
        let stats = &self.stats;
        let hours = |time: u64| format!("{:.2} h", time as f64 / 3.6e12);
        let mut rows = vec![
            ("seeds".to_owned(), stats.seeds.to_string()),
            ("took".to_owned(), format!("{:.0} s", self.took.as_secs_f64())),
            ("simulated, busy".to_owned(), hours(stats.busy)),
            ("simulated, idle".to_owned(), hours(stats.idle)),
            ("events".to_owned(), stats.events.to_string()),
            ("committed entries".to_owned(), stats.entries.to_string()),
            ("committed records".to_owned(), stats.records.to_string()),
            ("acknowledged batches".to_owned(), stats.acknowledged.to_string()),
            ("records shown to readers".to_owned(), stats.records_read.to_string()),
            ("  of them pushed".to_owned(), stats.records_pushed.to_string()),
            ("subscriptions opened".to_owned(), stats.subscriptions.to_string()),
            ("crashes".to_owned(), stats.crashes().to_string()),
            ("  processes killed".to_owned(), stats.kills.to_string()),
            ("  power cuts".to_owned(), stats.power_cuts.to_string()),
            ("elections".to_owned(), stats.elections.to_string()),
            ("truncations".to_owned(), stats.truncations.to_string()),
            ("snapshots installed".to_owned(), stats.snapshots.to_string()),
        ];
        rows.extend(stats.faults.iter().map(|(name, count)| (format!("fault {name}"), count.to_string())));
        rows.extend(self.never_struck().into_iter().map(|name| (format!("fault {name}"), "0".to_owned())));
        rows.push(("violations".to_owned(), self.violations.len().to_string()));
        let mut table: String = rows.iter().map(|(name, value)| format!("{name:<34}{value:>16}\n")).collect();
        for (seed, violation) in &self.violations {
            table += &format!("seed {seed}: {}: {}\n", violation.rule, violation.message);
            table += &format!("  lockstep-simulator run --seed {seed} --trace\n");
        }
        table
    }
}
