//! Produce: append batches.
//!
//! Each batch commits whole or not at all, alone: batches of one request stand or fall independently, and
//! their results come in the request's order. A success means that the batch is **written and synced on a
//! majority of its replicas**; there is no weaker acknowledgement.
//!
//! Conditions are judged once, by the leader, against all that it has accepted before. With a producer id,
//! epoch and sequence in the batch header, a batch that is sent again is stored once and answered with its
//! first LSNs, across leader changes and restarts.

use bytes::{BufMut, Bytes, BytesMut};
use nom::number::complete::le_u8;

use super::payload;
use super::positions::PositionCommit;
use crate::outcome::Outcome;
use crate::wire::{DecodeError, Parsed, Wire, refuse, wire_fields};

/// Appends batches. The payload is the record batches, back to back, in the order of the items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceRequest {
    /// How long to wait for the commit, in milliseconds. After that the outcome is unknown, not undone.
    pub timeout_ms: u32,
    /// What is appended where.
    pub batches: Vec<ProduceItem>,
}

wire_fields!(ProduceRequest { timeout_ms, batches });

impl ProduceRequest {
    /// The batches in the payload, one per item, without copying.
    ///
    /// # Errors
    /// [`DecodeError::PayloadMismatch`] if the items' lengths do not add up to the payload.
    pub fn split_payload(&self, payload: &Bytes) -> Result<Vec<Bytes>, DecodeError> {
        payload::split(payload, self.batches.iter().map(|item| item.batch_length))
    }
}

/// One batch and its conditions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceItem {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// Append only if the batch's first record gets exactly this LSN; else
    /// [`ConditionFailed`](crate::ErrorCode::ConditionFailed), its detail the next LSN.
    pub expected_next_lsn: Option<u64>,
    /// Append only if the partition's fencing epoch is not greater than this; else
    /// [`Fenced`](crate::ErrorCode::Fenced), its detail that epoch.
    pub fence: Option<u64>,
    /// Commit this position with the batch: both or neither. It is kept in the partition.
    pub position: Option<PositionCommit>,
    /// Bytes of the batch in the payload.
    pub batch_length: u32,
}

wire_fields!(ProduceItem { topic, partition, expected_next_lsn, fence, position, batch_length });

/// What became of each batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceResponse {
    /// In the order of the request.
    pub results: Vec<Outcome<Produced>>,
}

wire_fields!(ProduceResponse { results });

/// A committed batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Produced {
    /// LSN of its first record.
    pub first_lsn: u64,
    /// LSN of its last record.
    pub last_lsn: u64,
    /// Whether it had been stored before; the LSNs are then those it got the first time.
    pub duplicate: bool,
    /// What is promised.
    pub acked: Durability,
}

wire_fields!(Produced { first_lsn, last_lsn, duplicate, acked });

/// What an acknowledgement promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Durability {
    /// Written and synced on a majority of the replicas.
    SyncedMajority = 1,
}

impl Wire for Durability {
    const MIN_BYTES: usize = 1;

    fn encode(&self, out: &mut BytesMut) {
        out.put_u8(*self as u8);
    }

    fn parse(input: &[u8]) -> Parsed<'_, Self> {
        match le_u8(input)? {
            (rest, 1) => Ok((rest, Self::SyncedMajority)),
            (_, value) => refuse(DecodeError::InvalidTag { what: "durability", value: value.into() }),
        }
    }
}

#[cfg(test)]
impl crate::generate::Generate for Durability {
    fn generate(_: &mut crate::generate::Source) -> Self {
        Self::SyncedMajority
    }
}
