//! Processor time as it goes by, so that what a window took can be told afterwards.
//!
//! A load generator starts, connects, makes topics and fills them before it measures, and removes them behind that: none of
//! it is what the measured records cost.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::process::cpu_seconds;

/// Between two samples.
const PAUSE: Duration = Duration::from_millis(100);

/// Processor time used so far, at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Sample {
    unix_ms: f64,
    used: Used,
}

/// Seconds of processor time.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Used {
    /// Of all brokers together.
    pub(crate) brokers: f64,
    /// Of the load generator.
    pub(crate) load: f64,
}

/// Samples in the order of time.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<Sample>);

impl Samples {
    /// What was used from one moment to another; `None` if one of them lies outside.
    pub(crate) fn within(&self, from_unix_ms: f64, to_unix_ms: f64) -> Option<Used> {
        let (from, to) = (self.at(from_unix_ms)?, self.at(to_unix_ms)?);
        (from_unix_ms < to_unix_ms)
            .then_some(Used { brokers: to.brokers - from.brokers, load: to.load - from.load })
    }

    /// Between two samples it is taken to go evenly.
    fn at(&self, unix_ms: f64) -> Option<Used> {
        let pair = self.0.windows(2).find(|pair| pair[0].unix_ms <= unix_ms && unix_ms <= pair[1].unix_ms)?;
        let [before, after] = [pair[0], pair[1]];
        let part = (unix_ms - before.unix_ms) / (after.unix_ms - before.unix_ms).max(f64::EPSILON);
        let between = |before: f64, after: f64| before + (after - before) * part;
        Some(Used {
            brokers: between(before.used.brokers, after.used.brokers),
            load: between(before.used.load, after.used.load),
        })
    }
}

/// A thread that takes samples.
pub(crate) struct Sampler {
    stop: Sender<()>,
    thread: JoinHandle<Samples>,
}

impl Sampler {
    /// Of these brokers and this load generator.
    pub(crate) fn start(brokers: Vec<u32>, load: u32) -> Self {
        let (stop, stopped) = channel();
        let thread = std::thread::spawn(move || {
            let mut samples = Vec::new();
            let mut used = Used::default();
            let mut is_last = false;
            loop {
                // The last sample is taken when the load generator is gone: of it, what was known last stays.
                used.brokers = brokers.iter().filter_map(|pid| cpu_seconds(*pid)).sum();
                used.load = cpu_seconds(load).unwrap_or(used.load);
                samples.push(Sample { unix_ms: unix_ms(), used });
                if is_last {
                    return Samples(samples);
                }
                is_last = stopped.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout);
            }
        });
        Self { stop, thread }
    }

    /// All of them.
    pub(crate) fn stop(self) -> Samples {
        drop(self.stop);
        self.thread.join().unwrap_or_default()
    }
}

fn unix_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Samples {
        let sample = |(unix_ms, brokers)| Sample { unix_ms, used: Used { brokers, load: brokers / 2.0 } };
        // Three seconds go by before what is measured, one after it.
        Samples([(0.0, 0.0), (1_000.0, 3.0), (3_000.0, 4.0), (4_000.0, 14.0)].map(sample).to_vec())
    }

    #[test]
    fn only_what_is_used_within_the_window_counts() {
        assert_eq!(samples().within(1_000.0, 3_000.0), Some(Used { brokers: 1.0, load: 0.5 }));
        assert_eq!(samples().within(2_000.0, 3_500.0), Some(Used { brokers: 5.5, load: 2.75 }));
    }

    #[test]
    fn a_window_that_was_not_watched_throughout_has_no_figure() {
        assert_eq!(samples().within(-1.0, 3_000.0), None);
        assert_eq!(samples().within(1_000.0, 4_001.0), None);
        assert_eq!(samples().within(3_000.0, 3_000.0), None);
        assert_eq!(Samples::default().within(0.0, 1.0), None);
    }

    #[test]
    fn a_busy_process_is_seen_to_be_busy() {
        let sampler = Sampler::start(vec![std::process::id()], u32::MAX);
        let began = unix_ms() + 150.0;
        let mut sum = 0u64;
        while unix_ms() < began + 500.0 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let used = sampler.stop().within(began, began + 400.0).unwrap();
        assert!(used.brokers > 0.05, "{used:?}");
        assert_eq!(used.load, 0.0, "there is no such process");
    }
}
