//! How far a consumer has come, for the group it reads for.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::PositionError;
use crate::group::{Group, PositionCommit};

/// What was returned, and what of it is committed.
pub(crate) struct Progress {
    group: Group,
    topic: String,
    generation: u64,
    every: Option<Duration>,
    committed_at: Instant,
    /// By partition: the next LSN, and the one committed last.
    partitions: BTreeMap<u32, (u64, u64)>,
}

impl Progress {
    /// Nothing was returned yet.
    pub(crate) fn new(group: Group, topic: String, generation: u64, every: Option<Duration>) -> Self {
        Self { group, topic, generation, every, committed_at: Instant::now(), partitions: BTreeMap::new() }
    }

    /// A record was returned, and all before it in its partition.
    pub(crate) fn returned(&mut self, partition: u32, lsn: u64) {
        self.partitions.entry(partition).or_default().0 = lsn + 1;
    }

    /// Whether it is time to commit.
    pub(crate) fn is_due(&self) -> bool {
        self.every.is_some_and(|every| self.committed_at.elapsed() >= every)
    }

    /// Commits what was returned. What is not done when this is dropped is done the next time.
    pub(crate) async fn commit(&mut self) -> Result<(), PositionError> {
        for (partition, (next_lsn, committed)) in &mut self.partitions {
            if *next_lsn != *committed {
                let position = self.group.at(&self.topic, *partition, *next_lsn);
                self.group.commit(PositionCommit { generation: self.generation, ..position }).await?;
                *committed = *next_lsn;
            }
        }
        self.committed_at = Instant::now();
        Ok(())
    }
}
