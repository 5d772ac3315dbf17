//! Where everybody's operations come together: one clock, one file, and what was counted.
//!
//! What holds: times are microseconds of one monotone clock. An operation is written once, when its outcome is known or
//! will never be. If the file cannot be written, everybody stops, and the history has no end: it is never taken for
//! whole.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lockstep_checker::{AppendOutcome, Header, HistoryWriter, Operation};
use tokio::sync::watch;

/// Clients of one run that have ids of their own before those of a run one millisecond later begin.
const CLIENTS_PER_MILLISECOND: u64 = 1 << 12;

/// What was recorded so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) acknowledged: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) unknown: AtomicU64,
    pub(super) records_acknowledged: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) records_read: AtomicU64,
    pub(super) tails: AtomicU64,
    pub(super) restarts: AtomicU64,
    /// The greatest LSN anyone was told of.
    pub(super) last_lsn: AtomicU64,
}

/// Takes operations from everyone.
pub(super) struct Recorder {
    started: Instant,
    file: Mutex<Option<HistoryWriter<BufWriter<File>>>>,
    failure: Mutex<Option<io::Error>>,
    next_client: AtomicU64,
    stop: watch::Sender<bool>,
    pub(super) counts: Counts,
}

impl Recorder {
    /// Begins a history; time 0 is now.
    pub(super) fn create(path: &Path, topic: &str, partition: u32) -> io::Result<Self> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started_us = u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX);
        let file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let writer = HistoryWriter::new(file, Header::new(topic, partition, started_us))?;
        Ok(Self {
            started: Instant::now(),
            file: Mutex::new(Some(writer)),
            failure: Mutex::new(None),
            next_client: AtomicU64::new((started_us / 1_000).wrapping_mul(CLIENTS_PER_MILLISECOND)),
            stop: watch::Sender::new(false),
            counts: Counts::default(),
        })
    }

    /// The time.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// An id that no other client, and none of another run, has.
    pub(super) fn new_client(&self) -> u64 {
        self.next_client.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes an operation.
    pub(super) fn record(&self, operation: Operation) {
        self.count(&operation);
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(writer) = file.as_mut() else { return };
        if let Err(error) = writer.write(operation) {
            *file = None;
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            self.stop();
        }
    }

    fn count(&self, operation: &Operation) {
        let add = |counter: &AtomicU64, count: u64| {
            counter.fetch_add(count, Ordering::Relaxed);
        };
        let counts = &self.counts;
        match operation {
            Operation::Append(append) => match append.outcome {
                AppendOutcome::Acknowledged { last_lsn, .. } => {
                    add(&counts.acknowledged, 1);
                    add(&counts.records_acknowledged, append.records.into());
                    counts.last_lsn.fetch_max(last_lsn, Ordering::Relaxed);
                }
                AppendOutcome::CertainlyFailed => add(&counts.failed, 1),
                AppendOutcome::Unknown => add(&counts.unknown, 1),
            },
            Operation::Read(read) => {
                add(&counts.reads, 1);
                add(&counts.records_read, read.records.count());
            }
            Operation::Tail(tail) => {
                add(&counts.tails, 1);
                counts.last_lsn.fetch_max(tail.high_watermark, Ordering::Relaxed);
            }
            Operation::Restart(_) => add(&counts.restarts, 1),
            Operation::Trim(_) => {}
        }
    }

    /// Tells everybody to stop.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Whether everybody is to stop.
    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits until everybody is to stop. Cancel-safe.
    pub(super) async fn stopped(&self) {
        // The sender lives as long as this does.
        let _ = self.stop.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Ends the history, once nobody records any more.
    pub(super) fn finish(&self) -> io::Result<()> {
        if let Some(error) = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(error);
        }
        let writer = self.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(writer) = writer else { return Ok(()) };
        let file = writer.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use lockstep_checker::{Append, read_history};

    use super::*;

    #[test]
    fn a_history_that_could_not_be_written_stops_everybody_and_is_never_taken_for_whole() {
        if !Path::new("/dev/full").exists() {
            return;
        }
        let recorder = Recorder::create(Path::new("/dev/full"), "orders", 0).unwrap();
        let client = recorder.new_client();
        for number in (1..100_000).take_while(|_| !recorder.is_stopped()) {
            recorder.record(Operation::Append(Append::invoked(client, number, 1, recorder.now())));
        }
        assert!(recorder.is_stopped());
        assert!(recorder.finish().is_err());
    }

    #[test]
    fn what_is_recorded_is_read_back_and_clients_are_unlike() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("history.jsonl");
        let recorder = Recorder::create(&path, "orders", 3).unwrap();
        let (first, second) = (recorder.new_client(), recorder.new_client());
        assert_ne!(first, second);
        let operation = Operation::Append(Append::invoked(first, 1, 1, recorder.now()));
        recorder.record(operation.clone());
        recorder.finish().unwrap();
        let (header, history) = read_history(std::fs::read(&path).unwrap().as_slice()).unwrap();
        assert_eq!((header.topic.as_str(), header.partition), ("orders", 3));
        assert_eq!(history.operations, [operation]);
    }
}
