//! A reader that follows one partition.

use lockstep_storage::ReadBatch;
use tokio::sync::watch;

use super::fetch::{check_position, check_works};
use super::{Broker, FetchError};
use crate::cluster::read_committed;
use crate::engine::{PartitionHandle, ShardView};

/// A position in a partition, and what it takes to move on. Holds no records.
pub struct Subscription {
    handle: PartitionHandle,
    watch: watch::Receiver<ShardView>,
    next_lsn: u64,
    batch_bytes_max: usize,
}

impl Broker {
    /// Begins to follow a partition at `from_lsn`, up to the next one to be written.
    ///
    /// # Errors
    /// The partition is not held here, or the LSN is not in it.
    pub async fn subscribe(
        &self,
        topic: &str,
        partition: u32,
        from_lsn: u64,
    ) -> Result<Subscription, FetchError> {
        let located = self.locate(topic, partition).await?;
        check_position(&located, from_lsn).await?;
        let watch = located.handle.watch();
        let batch_bytes_max = self.batch_bytes_max(&located.topic.settings);
        Ok(Subscription { handle: located.handle, watch, next_lsn: from_lsn, batch_bytes_max })
    }
}

impl Subscription {
    /// What everyone may know of the partition now.
    pub fn view(&self) -> ShardView {
        self.handle.view()
    }

    /// The LSN to be read next.
    pub fn next_lsn(&self) -> u64 {
        self.next_lsn
    }

    /// The most that [`Subscription::read`] may return, in bytes, when it is asked for `max_bytes`.
    pub fn read_bytes_max(&self, max_bytes: usize) -> usize {
        max_bytes.max(self.batch_bytes_max)
    }

    /// Waits until the next LSN is committed.
    ///
    /// # Errors
    /// The partition was closed, or its replica here has stopped.
    pub async fn ready(&mut self) -> Result<(), FetchError> {
        let next_lsn = self.next_lsn;
        let settled = |view: &ShardView| view.high_watermark >= next_lsn || check_works(view).is_err();
        let view = self.watch.wait_for(settled).await.map_err(|_| FetchError::Closed)?.clone();
        if view.high_watermark < next_lsn {
            check_works(&view)?;
        }
        Ok(())
    }

    /// Reads about `max_bytes` of whole batches, at least one if one is committed, and moves on behind them.
    ///
    /// # Errors
    /// The records are gone, or the replica cannot be read.
    pub async fn read(&mut self, max_bytes: usize) -> Result<Vec<ReadBatch>, FetchError> {
        let batches = read_committed(&self.handle, self.next_lsn, max_bytes).await?;
        if let Some(last) = batches.last() {
            self.next_lsn = last.first_lsn + u64::from(last.record_count);
        }
        Ok(batches)
    }
}
