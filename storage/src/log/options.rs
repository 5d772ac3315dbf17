//! What a log is told from outside.

use crate::cache::Cache;
use crate::pool::SegmentPool;
use crate::reader::ReadFiles;
use bytes::Bytes;
use std::sync::Arc;

/// Sizes and identity of a log.
#[derive(Clone)]
pub struct LogOptions {
    /// The shard the log belongs to: stands in each segment and vote, and must match at recovery.
    pub shard: u64,
    /// A segment is complete at this size, in bytes.
    pub segment_bytes: u64,
    /// What the newest entries may take of memory, with those of all logs that share it: envelopes, bodies, and what is kept
    /// about each entry.
    pub cache: Arc<Cache>,
    /// Distance of the points of the sparse index, in bytes.
    pub index_interval_bytes: u64,
    /// Where old segment files go and new ones may come from; without it they are removed and grown.
    pub pool: Option<Arc<SegmentPool>>,
    /// The files that readers keep open, of all logs that share it.
    pub read_files: Arc<ReadFiles>,
    /// Whether recovery takes for durable what a seal says was synced. A repair does not: until it is proven, files may
    /// have been changed under the seals.
    pub trust_seals: bool,
    /// Through this index a sync of the log is known to have returned, whatever the log itself proves: what is missing
    /// at or below it is damage and no tear. 0 if nothing is known.
    pub synced_index: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self {
            shard: 0,
            segment_bytes: 64 << 20,
            cache: Cache::new(16 << 20),
            index_interval_bytes: 64 << 10,
            pool: None,
            read_files: ReadFiles::new(1),
            trust_seals: true,
            synced_index: 0,
        }
    }
}

/// What a new segment's checkpoint takes from the shard; the log knows the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RollState {
    /// The configuration as of the last entry.
    pub membership: Bytes,
    /// Raft index of the entry that made it.
    pub membership_index: u64,
    /// Producers, fence, positions as of the last entry.
    pub state: Bytes,
    /// First LSN kept.
    pub log_start: u64,
    /// Leader time of the last entry that carried one, in milliseconds since 1970.
    pub leader_time_ms: i64,
}
