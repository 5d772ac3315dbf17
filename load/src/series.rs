//! Latencies and throughput, gathered by many tasks, as figures over time.
//!
//! What holds:
//!
//! - A latency counts if its operation *began* in the measured time, whenever it ended: a stall at the very end is not
//!   lost.
//! - Throughput counts what *ended* in the measured time.
//! - Percentiles are exact to three digits, from 1 µs to an hour.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::pace::Clock;

/// Tasks share this many places to gather in, so that a thousand of them do not need a thousand histograms.
const SHARDS: usize = 8;
/// The longest latency that is told from longer ones.
const LATENCY_MAX_US: u64 = 3_600_000_000;
/// Digits that are exact.
const DIGITS: u8 = 3;

/// How long something took, many times.
#[derive(Debug, Clone, PartialEq)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_MAX_US, DIGITS);
        Self(histogram.expect("the bounds and digits are within what the histogram takes"))
    }
}

impl Latencies {
    /// Adds a time that was seen `count` times.
    pub fn record(&mut self, time: Duration, count: u64) {
        let microseconds = u64::try_from(time.as_nanos().div_ceil(1_000)).unwrap_or(LATENCY_MAX_US);
        self.0.saturating_record_n(microseconds.max(1), count);
    }

    /// Adds times that were gathered elsewhere, as [`Latencies::counts`] gives them; of anything else, what fits.
    pub fn add_counts(&mut self, counts: impl IntoIterator<Item = (u64, u64)>) {
        for (microseconds, count) in counts {
            self.0.saturating_record_n(microseconds.max(1), count);
        }
    }

    /// Adds all of another's.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that `percent` of them did not exceed; zero if there are none.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        match self.0.len() {
            0 => Duration::ZERO,
            _ => Duration::from_micros(self.0.value_at_percentile(percent).min(self.0.max())),
        }
    }

    /// The longest.
    #[must_use]
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.0.max())
    }

    /// Their mean.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.0.mean() / 1e6)
    }

    /// Each time in microseconds that was seen, and how often.
    pub fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value()))
    }

    fn clear(&mut self) {
        self.0.reset();
    }
}

/// One thing that was done.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// When it began, or was to begin.
    pub began: Duration,
    /// When it ended.
    pub ended: Duration,
    /// Records in it.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Gathered {
    latencies: Latencies,
    records: u64,
    bytes: u64,
    /// All records there were, measured or not.
    records_ever: u64,
}

/// Where many tasks put what they did.
#[derive(Debug)]
pub struct Series {
    clock: Arc<Clock>,
    shards: Vec<Mutex<Gathered>>,
}

impl Series {
    /// Nothing yet.
    #[must_use]
    pub fn new(clock: Arc<Clock>) -> Self {
        Self { clock, shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Adds what task number `task` did.
    pub fn record(&self, task: usize, sample: &Sample) {
        let mut gathered = lock(&self.shards[task % SHARDS]);
        gathered.records_ever += sample.records;
        if self.clock.measures(sample.began) {
            let latency = sample.ended.saturating_sub(sample.began);
            gathered.latencies.record(latency, sample.records);
        }
        if self.clock.measures(sample.ended) {
            gathered.records += sample.records;
            gathered.bytes += sample.bytes;
        }
    }

    /// All records so far, measured or not.
    #[must_use]
    pub fn records_ever(&self) -> u64 {
        self.shards.iter().map(|shard| lock(shard).records_ever).sum()
    }

    /// Moves what was gathered since the last time into `figures`, as its next slot.
    pub fn drain_into(&self, figures: &mut Figures) {
        let (mut latencies, mut records, mut bytes) = (Latencies::default(), 0, 0);
        for shard in &self.shards {
            let mut gathered = lock(shard);
            latencies.add(&gathered.latencies);
            gathered.latencies.clear();
            records += std::mem::take(&mut gathered.records);
            bytes += std::mem::take(&mut gathered.bytes);
        }
        let now = self.clock.now();
        let measured_to = now.min(self.clock.measured_to()).saturating_sub(self.clock.measured_from());
        figures.add(measured_to, &latencies, records, bytes);
    }
}

fn lock(gathered: &Mutex<Gathered>) -> MutexGuard<'_, Gathered> {
    gathered.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What came of one kind of operation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// How long each took, once per record.
    pub latencies: Latencies,
    /// Records done in the measured time.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// How long was measured.
    pub time: Duration,
    /// The same, piece by piece.
    pub slots: Vec<Slot>,
}

/// A piece of the measured time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slot {
    /// When it ends, since measuring began.
    pub to: Duration,
    /// How long it is.
    pub time: Duration,
    /// Records done in it.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Median latency of what ended in it.
    pub p50: Duration,
    /// Only one in a hundred took longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl Slot {
    /// Records a second.
    #[must_use]
    pub fn records_per_second(&self) -> f64 {
        self.records as f64 / self.time.as_secs_f64().max(1e-9)
    }

    /// Bytes a second.
    #[must_use]
    pub fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64().max(1e-9)
    }
}

impl Figures {
    /// Records a second.
    #[must_use]
    pub fn records_per_second(&self) -> f64 {
        self.records as f64 / self.time.as_secs_f64().max(1e-9)
    }

    /// Bytes a second.
    #[must_use]
    pub fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.time.as_secs_f64().max(1e-9)
    }

    fn add(&mut self, to: Duration, latencies: &Latencies, records: u64, bytes: u64) {
        self.latencies.add(latencies);
        self.records += records;
        self.bytes += bytes;
        let time = to.saturating_sub(self.time);
        if time.is_zero() {
            self.add_late(latencies, records, bytes);
            return;
        }
        self.time = to;
        self.slots.push(Slot {
            to,
            time,
            records,
            bytes,
            p50: latencies.percentile(50.0),
            p99: latencies.percentile(99.0),
            max: latencies.max(),
        });
    }

    /// What began in the measured time and ended behind it belongs to the last slot's worst.
    fn add_late(&mut self, latencies: &Latencies, records: u64, bytes: u64) {
        if let Some(last) = self.slots.last_mut() {
            last.records += records;
            last.bytes += bytes;
            last.max = last.max.max(latencies.max());
            last.p99 = last.p99.max(latencies.percentile(99.0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    fn milliseconds(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn percentiles_are_exact_to_three_digits() {
        let mut latencies = Latencies::default();
        (1..=100_000_u64).for_each(|time| latencies.record(Duration::from_micros(time), 1));
        let expected = [
            (50.0, 50_000.0),
            (90.0, 90_000.0),
            (99.0, 99_000.0),
            (99.9, 99_900.0),
            (99.99, 99_990.0),
            (100.0, 100_000.0),
        ];
        for (percent, expected) in expected {
            let found = latencies.percentile(percent).as_micros() as f64;
            assert!((found / expected - 1.0).abs() < 0.001, "p{percent}: {found}");
        }
        assert_eq!(latencies.count(), 100_000);
        assert!((latencies.mean().as_secs_f64() / 0.050_000_5 - 1.0).abs() < 0.001);
    }

    #[test]
    fn one_outlier_in_ten_thousand_is_above_four_nines_and_not_below() {
        let mut latencies = Latencies::default();
        latencies.record(milliseconds(1), 9_999);
        latencies.record(milliseconds(500), 1);
        assert_eq!(latencies.percentile(99.99).as_millis(), 1);
        assert_eq!(latencies.max().as_millis(), 500);
        latencies.record(milliseconds(500), 2);
        assert_eq!(latencies.percentile(99.99).as_millis(), 500);
    }

    #[test]
    fn no_latency_at_all_is_no_panic() {
        let none = Latencies::default();
        let (p99, max, mean) = (none.percentile(99.0), none.max(), none.mean());
        assert_eq!((p99, max, mean), (Duration::ZERO, Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn an_impossibly_long_latency_counts_as_the_longest() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::MAX, 1);
        assert_eq!(latencies.count(), 1);
        assert!(latencies.max() >= Duration::from_secs(3_599));
    }

    #[test]
    fn histograms_travel_as_counts_and_come_back_the_same() {
        let mut latencies = Latencies::default();
        [1, 17, 900, 1_000_000].iter().for_each(|time| latencies.record(Duration::from_micros(*time), *time));
        let mut copy = Latencies::default();
        copy.add_counts(latencies.counts());
        assert_eq!(copy.percentile(99.99), latencies.percentile(99.99));
        assert_eq!(copy.count(), latencies.count());
    }

    #[tokio::test(start_paused = true)]
    async fn latency_counts_by_its_beginning_and_throughput_by_its_end() {
        let clock = Arc::new(Clock::new(Instant::now(), milliseconds(100), milliseconds(100)));
        let series = Series::new(Arc::clone(&clock));
        let sample = |began, ended| Sample {
            began: milliseconds(began),
            ended: milliseconds(ended),
            records: 1,
            bytes: 10,
        };
        series.record(0, &sample(50, 150));
        series.record(1, &sample(120, 130));
        series.record(2, &sample(190, 900));
        tokio::time::advance(milliseconds(1_000)).await;
        let mut figures = Figures::default();
        series.drain_into(&mut figures);
        assert_eq!(figures.latencies.count(), 2, "what began in the warm-up does not count");
        assert_eq!(figures.latencies.max().as_millis(), 710, "what ended late does");
        assert_eq!((figures.records, figures.bytes), (2, 20));
        assert_eq!(figures.time, milliseconds(100));
        assert_eq!(series.records_ever(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn slots_add_up_to_the_whole() {
        let clock = Arc::new(Clock::new(Instant::now(), Duration::ZERO, milliseconds(1_000)));
        let series = Series::new(Arc::clone(&clock));
        let mut figures = Figures::default();
        for step in 1..=10 {
            tokio::time::advance(milliseconds(100)).await;
            let ended = clock.now() - milliseconds(1);
            let began = ended - milliseconds(step);
            series.record(step as usize, &Sample { began, ended, records: step, bytes: 100 * step });
            series.drain_into(&mut figures);
        }
        assert_eq!(figures.slots.len(), 10);
        assert_eq!(figures.slots.iter().map(|slot| slot.records).sum::<u64>(), figures.records);
        assert_eq!(figures.slots.iter().map(|slot| slot.time).sum::<Duration>(), figures.time);
        assert_eq!(figures.slots[9].max.as_millis(), 10);
        assert!((figures.records_per_second() - 55.0).abs() < 1e-9);
    }
}
