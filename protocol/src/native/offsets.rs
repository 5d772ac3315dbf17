//! Offsets: where a partition's log starts and ends, and which LSN belongs to a time.

use crate::wire::wire_fields;

/// Asks for the ends of a partition's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailRequest {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Answer only with what no committed write before this request can exceed: the leader confirms with a
    /// majority that it still leads. Otherwise any replica answers from what it knows.
    pub linearizable: bool,
}

wire_fields!(TailRequest { topic, partition, linearizable });

/// The ends of a partition's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailResponse {
    /// First LSN still kept.
    pub log_start: u64,
    /// Last committed LSN; 0 if nothing was ever written.
    pub high_watermark: u64,
    /// The LSN the next record is expected to get: what a conditional append states. On the leader it counts
    /// accepted batches that are not committed yet; elsewhere it is the high watermark + 1.
    pub next_lsn: u64,
    /// The replica's Raft term.
    pub term: u64,
    /// The leader's time on the last committed batch or command, in milliseconds since 1970 UTC; 0 if there is none.
    pub leader_time_ms: u64,
}

wire_fields!(TailResponse { log_start, high_watermark, next_lsn, term, leader_time_ms });

/// Asks for the first record at or after a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LsnForTimeRequest {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Milliseconds since 1970 UTC, compared with the records' own timestamps.
    pub timestamp_ms: i64,
}

wire_fields!(LsnForTimeRequest { topic, partition, timestamp_ms });

/// The first committed record at or after the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LsnForTimeResponse {
    /// Its LSN; `None` if every committed record is older.
    pub lsn: Option<u64>,
    /// Its timestamp in milliseconds since 1970 UTC; the time asked for if there is none.
    pub timestamp_ms: i64,
}

wire_fields!(LsnForTimeResponse { lsn, timestamp_ms });
