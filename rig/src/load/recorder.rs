//! What the users of each partition did and were told, on one clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use lockstep_checker::{Append, AppendOutcome, History, Operation, Read, RecordId, Records, Restart, Tail};
use lockstep_client::{ConsumeError, ConsumedBatch, ConsumedRecord};

use super::Timing;

/// The history of every partition.
#[derive(Debug)]
pub struct Recorder {
    origin: Instant,
    partitions: Vec<Mutex<History>>,
    acknowledged: AtomicU64,
    timings: Mutex<Vec<Timing>>,
    /// How often brokers were ended or started: see [`Session`].
    lives: AtomicU64,
}

/// A reader's connection to one replica. What it still holds when a process ends is not recorded: a later process owes
/// nothing to what an earlier one showed last.
#[derive(Debug, Clone, Copy)]
pub struct Session {
    /// Which reader.
    pub reader: u64,
    /// The replica it reads from.
    pub node: u64,
    lives: u64,
}

impl Recorder {
    pub(super) fn new(partitions: u32) -> Self {
        Self {
            origin: Instant::now(),
            partitions: (0..partitions).map(|_| Mutex::default()).collect(),
            acknowledged: AtomicU64::new(0),
            timings: Mutex::default(),
            lives: AtomicU64::new(0),
        }
    }

    /// Microseconds since the load began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// Writes down when a send was due and when it was acknowledged.
    pub(super) fn timed(&self, timing: Timing) {
        self.timings.lock().unwrap_or_else(PoisonError::into_inner).push(timing);
    }

    /// All of these so far, as they came.
    pub(super) fn timings(&self) -> Vec<Timing> {
        self.timings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes down that processes ended: to be called when they have, before new ones start.
    pub fn restarted(&self, nodes: impl IntoIterator<Item = u64> + Clone) {
        // All histories at once: no reader is between its look at `lives` and its entry.
        let mut histories: Vec<_> = self.partitions.iter().map(lock).collect();
        self.lives.fetch_add(1, Ordering::Relaxed);
        let at = self.now();
        for history in &mut histories {
            for node in nodes.clone() {
                history.push(Operation::Restart(Restart { node, at }));
            }
        }
    }

    /// Begins to read from a replica.
    pub(super) fn session(&self, reader: u64, node: u64) -> Session {
        Session { reader, node, lives: self.lives.load(Ordering::Relaxed) }
    }

    /// Writes down a batch that was handed to a client.
    pub(super) fn invoked(&self, partition: u32, append: Append) -> usize {
        self.history(partition).push(Operation::Append(append))
    }

    /// Writes down how it ended.
    pub(super) fn completed(&self, partition: u32, place: usize, outcome: AppendOutcome) {
        if matches!(outcome, AppendOutcome::Acknowledged { .. }) {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
        }
        let at = self.now();
        self.history(partition).complete(place, at, outcome);
    }

    /// Writes down a batch that was read; returns how many records it has, `None` if the session is over.
    pub(super) fn read(
        &self,
        partition: u32,
        session: Session,
        invoked: u64,
        batch: &ConsumedBatch,
    ) -> Option<u64> {
        let records = ids(batch);
        let count = records.count();
        let completed = self.now();
        let mut history = self.history(partition);
        if self.lives.load(Ordering::Relaxed) != session.lives {
            return None;
        }
        history.push(Operation::Read(Read {
            reader: session.reader,
            node: session.node,
            from_lsn: batch.first_lsn,
            invoked,
            completed,
            high_watermark: Some(batch.high_watermark),
            records,
            // A reader has one session, and a session one subscription.
            continues: true,
        }));
        Some(count)
    }

    /// Writes down a confirmed tail.
    pub(super) fn tail(&self, partition: u32, invoked: u64, high_watermark: u64) {
        let completed = self.now();
        // Whichever node leads: what a majority confirmed does not go back from one leader to the next either.
        let tail = Tail { reader: 0, node: 0, confirmed: true, invoked, completed, high_watermark };
        self.history(partition).push(Operation::Tail(tail));
    }

    /// The history of a partition so far.
    pub fn history(&self, partition: u32) -> MutexGuard<'_, History> {
        lock(&self.partitions[partition as usize])
    }

    /// The partitions.
    pub fn partitions(&self) -> impl Iterator<Item = u32> + use<> {
        0..u32::try_from(self.partitions.len()).unwrap_or(u32::MAX)
    }
}

fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The records of a batch as the checker knows them.
pub fn ids(batch: &ConsumedBatch) -> Records {
    let id = |record: Result<ConsumedRecord, ConsumeError>| RecordId::parse(&record.ok()?.value?);
    let ids = batch.records().map(|record| id(record).unwrap_or(RecordId::FOREIGN));
    (batch.first_lsn..).zip(ids).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_with_the_processes_it_may_have_read_from() {
        let recorder = Recorder::new(2);
        let before = recorder.session(1, 2);
        recorder.restarted([1, 2]);
        assert_ne!(before.lives, recorder.session(2, 2).lives);
        for partition in recorder.partitions() {
            assert_eq!(recorder.history(partition).operations.len(), 2);
        }
    }

    #[test]
    fn only_acknowledgements_are_counted_as_such() {
        let recorder = Recorder::new(1);
        let place = recorder.invoked(0, Append::invoked(1, 1, 1, 0));
        recorder.completed(0, place, AppendOutcome::Unknown);
        assert_eq!(recorder.acknowledged(), 0);
        let place = recorder.invoked(0, Append::invoked(1, 2, 1, 0));
        let outcome = AppendOutcome::Acknowledged { first_lsn: 1, last_lsn: 1, duplicate: false };
        recorder.completed(0, place, outcome);
        assert_eq!(recorder.acknowledged(), 1);
    }
}
