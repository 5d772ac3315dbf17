//! Fetch: read committed batches by LSN, waiting for them if there are none yet.
//!
//! Any replica answers, up to its high watermark. Batches come whole, as the producer sent them: a fetch that
//! starts inside a batch gets all of it, and skips the records below the LSN it asked for. Limits bend for
//! the first batch, so that no batch is too long to be read.

use bytes::Bytes;

use super::payload;
use crate::outcome::Outcome;
use crate::wire::{DecodeError, wire_fields};

/// Reads from partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// How long to wait for `min_bytes`, in milliseconds; 0 to answer at once.
    pub max_wait_ms: u32,
    /// Bytes worth answering for before the time is up.
    pub min_bytes: u32,
    /// Bytes of batches to return in all.
    pub max_bytes: u32,
    /// Where to read.
    pub items: Vec<FetchItem>,
}

wire_fields!(FetchRequest { max_wait_ms, min_bytes, max_bytes, items });

/// One partition to read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchItem {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// First LSN wanted, from 1 up to the next one to be written (which waits for it).
    pub from_lsn: u64,
    /// Bytes of batches to return for this partition.
    pub max_bytes: u32,
}

wire_fields!(FetchItem { topic, partition, from_lsn, max_bytes });

/// What was read. The payload is the batches of all items, back to back, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchResponse {
    /// In the order of the request. [`LsnBelowLogStart`](crate::ErrorCode::LsnBelowLogStart) has the log start
    /// as its detail, [`LsnBeyondTail`](crate::ErrorCode::LsnBeyondTail) the next LSN.
    pub items: Vec<Outcome<Fetched>>,
}

wire_fields!(FetchResponse { items });

impl FetchResponse {
    /// The bytes in the payload that belong to each item, without copying; empty for an item that failed.
    ///
    /// # Errors
    /// [`DecodeError::PayloadMismatch`] if the items' lengths do not add up to the payload.
    pub fn split_payload(&self, payload: &Bytes) -> Result<Vec<Bytes>, DecodeError> {
        let length = |item: &Outcome<Fetched>| item.as_ref().map_or(0, |fetched| fetched.payload_length);
        payload::split(payload, self.items.iter().map(length))
    }
}

/// Batches of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// First LSN still kept.
    pub log_start: u64,
    /// Last LSN this replica knows to be committed.
    pub high_watermark: u64,
    /// LSN of the first record in the payload, at most the one asked for; the one asked for if there is none.
    pub first_lsn: u64,
    /// Bytes of this partition's batches in the payload.
    pub payload_length: u32,
}

wire_fields!(Fetched { log_start, high_watermark, first_lsn, payload_length });
