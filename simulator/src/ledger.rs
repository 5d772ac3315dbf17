//! What clients did and were told, for the checker: one history for each partition.

use lockstep_checker::{Append, AppendOutcome, FinalState, History, Operation, Read, Restart, Tail, Trim};

use crate::queue::Time;
use crate::stats::Stats;

/// Everything that is known from outside.
pub struct Ledger {
    histories: Vec<History>,
    next_client: u64,
}

impl Ledger {
    /// Nothing has happened in `partitions` partitions.
    pub fn new(partitions: u32, forgetful: bool) -> Self {
        let mut histories = vec![History::default(); partitions as usize];
        if forgetful {
            let trim = Trim { invoked: 0, before_lsn: u64::MAX };
            for history in &mut histories {
                history.push(Operation::Trim(trim));
            }
        }
        Self { histories, next_client: 1 }
    }

    /// A new logical writer or reader.
    pub fn client(&mut self) -> u64 {
        self.next_client += 1;
        self.next_client - 1
    }

    /// A batch is about to be sent; returns its place.
    pub fn appends(&mut self, partition: u32, append: Append) -> usize {
        self.of(partition).push(Operation::Append(append))
    }

    /// A batch's outcome is known.
    pub fn appended(&mut self, partition: u32, place: usize, at: Time, outcome: AppendOutcome) {
        self.of(partition).complete(place, at, outcome);
    }

    /// Records were shown.
    pub fn read(&mut self, partition: u32, read: Read) {
        self.of(partition).push(Operation::Read(read));
    }

    /// The end of the log was told.
    pub fn tail(&mut self, partition: u32, tail: Tail) {
        self.of(partition).push(Operation::Tail(tail));
    }

    /// Records below an LSN may go.
    pub fn trim(&mut self, partition: u32, invoked: Time, before_lsn: u64) {
        self.of(partition).push(Operation::Trim(Trim { invoked, before_lsn }));
    }

    /// A node's process ended or began.
    pub fn restart(&mut self, node: u64, at: Time) {
        for history in &mut self.histories {
            history.push(Operation::Restart(Restart { node, at }));
        }
    }

    /// A node gave its replica of a partition up. Another one there begins anew, in the same process perhaps.
    pub fn replaced(&mut self, partition: u32, node: u64, at: Time) {
        self.of(partition).push(Operation::Restart(Restart { node, at }));
    }

    /// Judges one partition.
    pub fn check(&self, partition: u32, last: &FinalState) -> lockstep_checker::Verdict {
        lockstep_checker::check(&self.histories[partition as usize], last)
    }

    /// Counts what clients know to be committed, and what readers saw.
    pub fn count(&self, stats: &mut Stats) {
        for operation in self.histories.iter().flat_map(|history| &history.operations) {
            match operation {
                Operation::Append(Append { outcome: AppendOutcome::Acknowledged { .. }, .. }) => {
                    stats.acknowledged += 1;
                }
                Operation::Read(Read { records, continues, .. }) => {
                    stats.records_read += records.count();
                    stats.records_pushed += if *continues { records.count() } else { 0 };
                }
                _ => {}
            }
        }
    }

    fn of(&mut self, partition: u32) -> &mut History {
        &mut self.histories[partition as usize]
    }
}
