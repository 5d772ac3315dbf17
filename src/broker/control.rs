//! What is asked and told about a partition beside its records: ends, times, trim, fence, leadership.

use std::time::Duration;

use lockstep_protocol::record::RecordIter;

use super::{Broker, ControlError};
use crate::cluster::{ReadFault, from_storage, read_committed};
use crate::engine::{AppendError, Command, PartitionHandle, ShardDescription};

/// How long a change or a confirmation may take.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(10);

/// The ends of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail {
    /// The first LSN still kept.
    pub log_start: u64,
    /// The last committed LSN; 0 if nothing was ever written.
    pub high_watermark: u64,
    /// The LSN the next record is expected to get; on the leader it counts what is not committed yet.
    pub next_lsn: u64,
    /// The replica's Raft term.
    pub term: u64,
    /// The leader's time on the last committed batch or command, in milliseconds since 1970 UTC; 0 if there is none.
    pub leader_time_ms: u64,
}

/// A record found by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundRecord {
    /// Its LSN.
    pub lsn: u64,
    /// Its timestamp in milliseconds since 1970 UTC.
    pub timestamp_ms: i64,
}

impl Broker {
    /// The ends of a partition's log. `linearizable`: nothing committed before the call lies above, which
    /// the leader alone can confirm; otherwise any replica says what it knows.
    ///
    /// # Errors
    /// The partition is not held here, or (linearizable) not led here.
    pub async fn tail(&self, topic: &str, partition: u32, linearizable: bool) -> Result<Tail, ControlError> {
        let handle = self.locate(topic, partition).await?.handle;
        let confirmed = if linearizable { within(handle.tail()).await? } else { 0 };
        let mut view = handle.view();
        view.high_watermark = view.high_watermark.max(confirmed);
        let mut next_lsn = view.high_watermark + 1;
        if view.is_leader
            && let Some(description) = handle.describe().await
        {
            next_lsn = next_lsn.max(description.last_lsn + 1);
        }
        Ok(Tail {
            log_start: view.log_start,
            high_watermark: view.high_watermark,
            next_lsn,
            term: view.term,
            leader_time_ms: u64::try_from(view.leader_time_ms).unwrap_or(0),
        })
    }

    /// The first committed record at or after a time, by the records' own timestamps.
    ///
    /// # Errors
    /// The partition is not held here, or cannot be read.
    pub async fn lsn_for_time(
        &self,
        topic: &str,
        partition: u32,
        timestamp_ms: i64,
    ) -> Result<Option<FoundRecord>, ControlError> {
        let handle = self.locate(topic, partition).await?.handle;
        let mut log_start = handle.view().log_start;
        loop {
            match search(&handle, log_start, timestamp_ms).await {
                // Trimmed meanwhile: what is left begins further on.
                Err(ControlError::Read(ReadFault::BelowLogStart { log_start: now })) if now > log_start => {
                    log_start = now;
                }
                Ok(Some(found)) if found.lsn < handle.view().log_start => log_start = handle.view().log_start,
                settled => return settled,
            }
        }
    }

    /// Lets the records below `log_start` go. Returns the log start in force afterwards.
    ///
    /// # Errors
    /// The partition is not led here, or the LSN is beyond the next one.
    pub async fn trim(&self, topic: &str, partition: u32, log_start: u64) -> Result<u64, ControlError> {
        let handle = self.locate(topic, partition).await?.handle;
        if log_start > handle.view().log_start {
            within(handle.command(Command::Trim { log_start })).await?;
        }
        Ok(handle.view().log_start.max(log_start))
    }

    /// Raises the partition's fencing epoch.
    ///
    /// # Errors
    /// The partition is not led here, or a greater epoch is in force.
    pub async fn fence(&self, topic: &str, partition: u32, epoch: u64) -> Result<u64, ControlError> {
        let handle = self.locate(topic, partition).await?.handle;
        within(handle.command(Command::Fence { epoch })).await?;
        Ok(epoch)
    }

    /// Hands a partition's leadership to another of its replicas, and waits until it has left.
    ///
    /// # Errors
    /// The partition is not led here, or the other did not take over.
    pub async fn transfer_leadership(
        &self,
        topic: &str,
        partition: u32,
        to: u64,
    ) -> Result<(), ControlError> {
        let handle = self.locate(topic, partition).await?.handle;
        let mut watch = handle.watch();
        within(async {
            handle.transfer_leadership(to).await?;
            let moved = watch.wait_for(|view| view.leader == Some(to)).await;
            moved.map(|_| ()).map_err(|_| AppendError::Stopped)
        })
        .await
    }

    /// This broker's replica of a partition, in detail.
    ///
    /// # Errors
    /// The partition is not held here.
    pub async fn describe_partition(
        &self,
        topic: &str,
        partition: u32,
    ) -> Result<ShardDescription, ControlError> {
        let handle = self.locate(topic, partition).await?.handle;
        handle.describe().await.ok_or(ControlError::Append(AppendError::Stopped))
    }
}

/// The first committed record at or after a time and at or above `log_start`.
async fn search(
    handle: &PartitionHandle,
    log_start: u64,
    timestamp_ms: i64,
) -> Result<Option<FoundRecord>, ControlError> {
    let up_to = handle.view().high_watermark;
    let Some(reader) = handle.reader() else {
        return Err(ReadFault::Unreadable("it is being repaired".into()).into());
    };
    let search = tokio::task::spawn_blocking(move || reader.lsn_for_time(timestamp_ms, up_to)).await;
    let candidate = match search {
        Ok(candidate) => candidate.map_err(|error| from_storage(handle, error))?,
        Err(panicked) => return Err(ReadFault::Unreadable(panicked.to_string().into()).into()),
    };
    match candidate {
        // The batch may begin below the log start; only what is above it is kept.
        Some(batch) => find_in_batches(handle, batch.first_lsn.max(log_start), timestamp_ms).await,
        None => Ok(None),
    }
}

/// The first record at or after a time, from `first_lsn` on.
async fn find_in_batches(
    handle: &PartitionHandle,
    first_lsn: u64,
    timestamp_ms: i64,
) -> Result<Option<FoundRecord>, ControlError> {
    let mut from_lsn = first_lsn;
    loop {
        let batches = read_committed(handle, from_lsn, 1).await?;
        let Some(batch) = batches.into_iter().next() else { return Ok(None) };
        from_lsn = batch.first_lsn + u64::from(batch.record_count);
        let unreadable =
            |error: lockstep_protocol::BatchError| ReadFault::Unreadable(error.to_string().into());
        for numbered in RecordIter::new(batch.bytes).map_err(unreadable)? {
            let numbered = numbered.map_err(unreadable)?;
            if numbered.lsn >= first_lsn && numbered.record.timestamp_ms >= timestamp_ms {
                let timestamp_ms = numbered.record.timestamp_ms;
                return Ok(Some(FoundRecord { lsn: numbered.lsn, timestamp_ms }));
            }
        }
    }
}

pub(super) async fn within<T>(work: impl Future<Output = Result<T, AppendError>>) -> Result<T, ControlError> {
    match tokio::time::timeout(CONTROL_TIMEOUT, work).await {
        Ok(answer) => answer.map_err(ControlError::from),
        Err(_) => {
            let waited_ms = u64::try_from(CONTROL_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
            Err(ControlError::TimedOut { waited_ms })
        }
    }
}
