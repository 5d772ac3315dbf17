//! What the replicas of one partition hold at the end.
//!
//! What holds: a [`ReplicaLog`] is what the replica would serve, up to its own commit, batch by batch as its log bounds
//! them. Nothing is put right on the way in: a gap stays a gap.

use crate::{RecordId, Run};

/// The logs of the replicas that could be read. Without any, a history is only held against itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FinalState {
    /// One log for each replica.
    pub replicas: Vec<ReplicaLog>,
}

/// One replica's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaLog {
    /// The node it is on.
    pub node: u64,
    /// The first LSN it still keeps.
    pub log_start: u64,
    /// The last LSN it knows to be committed, 0 for none.
    pub commit: u64,
    pub(crate) runs: Vec<LogRun>,
}

/// A run of a log: never across two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogRun {
    pub(crate) run: Run,
    pub(crate) starts_batch: bool,
}

impl ReplicaLog {
    /// A log without records so far.
    #[must_use]
    pub const fn new(node: u64, log_start: u64, commit: u64) -> Self {
        Self { node, log_start, commit, runs: Vec::new() }
    }

    /// Adds the next batch of the log: its records have the LSNs from `first_lsn` on. A record whose value does not
    /// parse is [`RecordId::FOREIGN`].
    pub fn push_batch(&mut self, first_lsn: u64, ids: impl IntoIterator<Item = RecordId>) {
        let mut starts_batch = true;
        let lsns = std::iter::successors(Some(first_lsn), |lsn| lsn.checked_add(1));
        for (lsn, id) in lsns.zip(ids) {
            match self.runs.last_mut() {
                Some(last) if !starts_batch && continues(&last.run, id) => last.run.records += 1,
                _ => self.runs.push(LogRun { run: Run::of(lsn, id), starts_batch }),
            }
            starts_batch = false;
        }
    }

    /// The batches in it, as client and number, as often as they stand there; no foreign ones.
    pub fn batches(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let known = self.runs.iter().filter(|log_run| !log_run.run.is_foreign());
        known.map(|log_run| (log_run.run.client, log_run.run.number))
    }

    /// How many records.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|log_run| u64::from(log_run.run.records)).sum()
    }
}

/// Whether `id` is the record behind the run's last. Its LSN is, since a batch's LSNs rise by one.
fn continues(run: &Run, id: RecordId) -> bool {
    !run.is_foreign()
        && (run.client, run.number) == (id.client, id.number)
        && run.first_index.checked_add(run.records) == Some(id.index)
}
