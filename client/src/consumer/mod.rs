//! Reading records: a subscription per partition, checked, merged, and moved to another broker when one dies.
//!
//! What holds:
//!
//! - Records of a partition come in the order of their LSNs, each once, none left out: every batch's first LSN
//!   is the one after the last batch's last, or the consumer ends with an error.
//! - Every batch's checksum, which its producer computed, is verified here.
//! - Only committed records come.
//! - Memory is bounded: the broker pushes no more than the credit, which is renewed as batches are taken.

mod added;
mod builder;
pub(crate) mod following;
mod partition;
mod progress;
pub(crate) mod verify;

use std::iter::Skip;

use bytes::Bytes;
use lockstep_protocol::{BatchError, RecordHeader, RecordIter};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub use builder::{ConsumerBuilder, Start};

use crate::error::{ConsumeError, PositionError};
use progress::Progress;

/// Reads a topic. Dropping it ends its subscriptions.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use lockstep_client::{Client, Start};
///
/// let client = Client::connect("127.0.0.1:7400").await?;
/// let mut consumer = client.consumer("greetings").partition(0).from(Start::Earliest).open().await?;
/// while let Some(record) = consumer.next().await {
///     let record = record?;
///     println!("{}: {:?}", record.lsn, record.value);
/// }
/// # Ok(()) }
/// ```
pub struct Consumer {
    batches: mpsc::Receiver<Result<ConsumedBatch, ConsumeError>>,
    /// What is left of the batch that [`Consumer::next`] is in.
    current: Option<Records>,
    /// After an error there is nothing more.
    failed: bool,
    /// They end with it.
    _readers: JoinSet<()>,
    /// What was returned, for its group.
    progress: Option<Progress>,
}

/// A record as it was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumedRecord {
    /// Its partition.
    pub partition: u32,
    /// Its number there.
    pub lsn: u64,
    /// Its producer's time, in milliseconds since 1970 UTC.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers.
    pub headers: Vec<RecordHeader>,
}

/// Records that were committed as one, from the first one asked for on.
#[derive(Debug, Clone)]
pub struct ConsumedBatch {
    /// Their partition.
    pub partition: u32,
    /// LSN of the first record that was asked for.
    pub first_lsn: u64,
    /// LSN of the last record.
    pub last_lsn: u64,
    /// The last committed LSN, as the broker knew when it sent this.
    pub high_watermark: u64,
    /// The whole batch as it was stored (Kafka's record batch v2), checked; it may begin before `first_lsn`.
    pub bytes: Bytes,
    records: RecordIter,
    skip: usize,
}

/// The records of a batch, in order. After an error there is nothing more.
#[derive(Debug, Clone)]
pub struct Records {
    partition: u32,
    records: Skip<RecordIter>,
    next_lsn: u64,
}

impl ConsumedBatch {
    /// The records from `first_lsn` on.
    #[must_use]
    pub fn records(&self) -> Records {
        Records {
            partition: self.partition,
            records: self.records.clone().skip(self.skip),
            next_lsn: self.first_lsn,
        }
    }
}

impl Iterator for Records {
    type Item = Result<ConsumedRecord, ConsumeError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (partition, lsn) = (self.partition, self.next_lsn);
        let result = self.records.next()?;
        self.next_lsn += 1;
        let damaged = |error: BatchError| ConsumeError::Damaged { partition, lsn, error };
        Some(result.map_err(damaged).map(|numbered| ConsumedRecord {
            partition,
            lsn: numbered.lsn,
            timestamp_ms: numbered.record.timestamp_ms,
            key: numbered.record.key,
            value: numbered.record.value,
            headers: numbered.record.headers,
        }))
    }
}

impl Consumer {
    /// The next record. `None` at the end that was asked for, and after an error. Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<ConsumedRecord, ConsumeError>> {
        loop {
            if self.failed {
                return None;
            }
            if let Err(error) = self.commit_if_due().await {
                return Some(Err(error));
            }
            if let Some(record) = self.current.as_mut().and_then(Iterator::next) {
                self.failed = record.is_err();
                if let (Some(progress), Ok(record)) = (&mut self.progress, &record) {
                    progress.returned(record.partition, record.lsn);
                }
                return Some(record);
            }
            match self.receive().await? {
                Ok(batch) => self.current = Some(batch.records()),
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// The next batch, whole: what [`Consumer::next`] has not yet returned of the last one is skipped. `None`
    /// at the end that was asked for, and after an error. Cancel-safe.
    pub async fn next_batch(&mut self) -> Option<Result<ConsumedBatch, ConsumeError>> {
        if self.failed {
            return None;
        }
        if let Err(error) = self.commit_if_due().await {
            return Some(Err(error));
        }
        let batch = self.receive().await?;
        if let (Some(progress), Ok(batch)) = (&mut self.progress, &batch) {
            progress.returned(batch.partition, batch.last_lsn);
        }
        Some(batch)
    }

    /// Commits, for its group, that every record returned so far is processed; without a group nothing happens. What was
    /// not committed when a consumer ends comes again to the next one.
    ///
    /// # Errors
    /// [`PositionError::Fenced`] if another member reads for the group.
    pub async fn commit(&mut self) -> Result<(), PositionError> {
        match &mut self.progress {
            Some(progress) => progress.commit().await,
            None => Ok(()),
        }
    }

    /// Of a batch that was returned whole, only what is at or below this LSN counts as processed.
    pub fn processed(&mut self, partition: u32, lsn: u64) {
        if let Some(progress) = &mut self.progress {
            progress.returned(partition, lsn);
        }
    }

    async fn receive(&mut self) -> Option<Result<ConsumedBatch, ConsumeError>> {
        let batch = self.batches.recv().await?;
        self.current = None;
        self.failed = batch.is_err();
        Some(batch)
    }

    /// Commits what was returned before, if that is to be done now and then and is due.
    async fn commit_if_due(&mut self) -> Result<(), ConsumeError> {
        match &mut self.progress {
            Some(progress) if progress.is_due() => progress.commit().await.map_err(|error| {
                self.failed = true;
                ConsumeError::Commit(error)
            }),
            _ => Ok(()),
        }
    }
}
