//! Reading committed batches from a local replica: memory first, the segments otherwise.

use std::sync::Arc;
use std::time::Instant;

use lockstep_storage::{CachedRead, ReadBatch, ReadError};

use crate::engine::PartitionHandle;
use crate::metrics;

/// Why committed records could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadFault {
    /// Retention or a trim removed them.
    #[error("the records were removed; the log starts at LSN {log_start} now: continue there")]
    BelowLogStart {
        /// The first LSN still kept.
        log_start: u64,
    },
    /// The replica's files could not be read.
    #[error("this replica cannot be read: {0}; ask another one")]
    Unreadable(Arc<str>),
}

/// Committed batches from the one that holds `from_lsn` on: whole ones, about `max_bytes` of them but at least
/// one, none above the high watermark. Nothing if `from_lsn` is not committed yet.
///
/// # Errors
/// The records are gone, or the files cannot be read.
pub async fn read_committed(
    handle: &PartitionHandle,
    from_lsn: u64,
    max_bytes: usize,
) -> Result<Vec<ReadBatch>, ReadFault> {
    let up_to = handle.view().high_watermark;
    if from_lsn > up_to {
        return Ok(Vec::new());
    }
    let Some(reader) = handle.reader() else {
        return Err(unreadable(&"it is being repaired, or catches up"));
    };
    match reader.cached(from_lsn, max_bytes, up_to) {
        CachedRead::Hit(batches) => {
            metrics::tail_cache_hit();
            return Ok(batches);
        }
        CachedRead::AtEnd => return Ok(Vec::new()),
        CachedRead::BelowStart { log_start } => return Err(ReadFault::BelowLogStart { log_start }),
        CachedRead::Miss => metrics::tail_cache_missed(),
    }
    let begun = Instant::now();
    let read = tokio::task::spawn_blocking(move || reader.read(from_lsn, max_bytes, up_to)).await;
    match read {
        Ok(Ok(batches)) => {
            let bytes: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
            metrics::cold_read(bytes as u64, begun.elapsed());
            Ok(batches)
        }
        Ok(Err(error)) => Err(from_storage(handle, error)),
        Err(panicked) => Err(unreadable(&panicked)),
    }
}

/// What a failed read of the segments means to whoever asked; damage has the replica repaired.
pub fn from_storage(handle: &PartitionHandle, error: ReadError) -> ReadFault {
    match error {
        ReadError::BelowStart { log_start } => ReadFault::BelowLogStart { log_start },
        other => {
            if let ReadError::Damaged(damage) = &other {
                handle.report_damage(damage.to_string());
            }
            metrics::cold_read_failed();
            unreadable(&other)
        }
    }
}

fn unreadable(error: &impl std::fmt::Display) -> ReadFault {
    ReadFault::Unreadable(error.to_string().into())
}
