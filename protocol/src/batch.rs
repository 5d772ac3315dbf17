//! The header of Kafka's record batch v2 (KIP-98), byte for byte; big endian.
//!
//! ```text
//!  0  i64 base_offset         stamped by the leader: first LSN - 1; not under the CRC
//!  8  i32 batch_length        bytes after this field
//! 12  i32 leader_epoch        stamped by the leader: its term; not under the CRC
//! 16  i8  magic               2
//! 17  u32 crc                 CRC-32C of byte 21 to the end
//! 21  i16 attributes          compression (bits 0-2), time type (3), transactional (4), control (5)
//! 23  i32 last_offset_delta   records - 1
//! 27  i64 base_timestamp      milliseconds since 1970; records state the difference
//! 35  i64 max_timestamp
//! 43  i64 producer_id         -1: none
//! 51  i16 producer_epoch
//! 53  i32 base_sequence       the first record's
//! 57  i32 records_count
//! 61  records …
//! ```
//!
//! The producer's CRC is the one that is stored, replicated and handed to consumers. Stamping touches bytes
//! 0–7 and 12–15, and nothing else ever changes.

use bytes::Bytes;
use nom::number::complete::{be_i8, be_i16, be_i32, be_i64, be_u32};

use crate::validate::BatchError;
use crate::wire::{Parsed, finish};

/// Where `base_offset` stands.
pub const BASE_OFFSET_AT: usize = 0;
/// Where `batch_length` stands.
pub const BATCH_LENGTH_AT: usize = BASE_OFFSET_AT + 8;
/// Where the bytes begin that `batch_length` counts; `leader_epoch` stands here.
pub const LEADER_EPOCH_AT: usize = BATCH_LENGTH_AT + 4;
/// Where `magic` stands.
pub const MAGIC_AT: usize = LEADER_EPOCH_AT + 4;
/// Where `crc` stands.
pub const CRC_AT: usize = MAGIC_AT + 1;
/// Where the bytes begin that the CRC covers, to the batch's end; `attributes` stands here.
pub const ATTRIBUTES_AT: usize = CRC_AT + 4;
/// Where `last_offset_delta` stands.
pub const LAST_OFFSET_DELTA_AT: usize = ATTRIBUTES_AT + 2;
/// Where `base_timestamp` stands.
pub const BASE_TIMESTAMP_AT: usize = LAST_OFFSET_DELTA_AT + 4;
/// Where `max_timestamp` stands.
pub const MAX_TIMESTAMP_AT: usize = BASE_TIMESTAMP_AT + 8;
/// Where `producer_id` stands.
pub const PRODUCER_ID_AT: usize = MAX_TIMESTAMP_AT + 8;
/// Where `producer_epoch` stands.
pub const PRODUCER_EPOCH_AT: usize = PRODUCER_ID_AT + 8;
/// Where `base_sequence` stands.
pub const BASE_SEQUENCE_AT: usize = PRODUCER_EPOCH_AT + 2;
/// Where `records_count` stands.
pub const RECORDS_COUNT_AT: usize = BASE_SEQUENCE_AT + 4;
/// Bytes of the header; the records begin here.
pub const BATCH_HEADER_BYTES: usize = RECORDS_COUNT_AT + 4;

/// The only format version that is accepted.
pub const MAGIC: i8 = 2;
/// Attribute bits that name the compression codec; 0 is none.
pub const COMPRESSION_BITS: i16 = 0b111;
/// Attribute bit: timestamps were set by the broker.
pub const LOG_APPEND_TIME_BIT: i16 = 1 << 3;
/// Attribute bit: part of a transaction.
pub const TRANSACTIONAL_BIT: i16 = 1 << 4;
/// Attribute bit: holds a transaction's marker, not records.
pub const CONTROL_BIT: i16 = 1 << 5;

const _: () = assert!(ATTRIBUTES_AT == 21 && BATCH_HEADER_BYTES == 61, "the layout drawn above");

/// The header's fields, as they stand: parsed, not judged (see [`crate::validate()`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// First LSN − 1 once stamped.
    pub base_offset: i64,
    /// Bytes after the length field.
    pub batch_length: i32,
    /// The leader's term once stamped.
    pub leader_epoch: i32,
    /// Format version.
    pub magic: i8,
    /// CRC-32C of all from the attributes on.
    pub crc: u32,
    /// Compression, time type, transactional, control.
    pub attributes: i16,
    /// Number of records − 1.
    pub last_offset_delta: i32,
    /// Milliseconds since 1970 UTC, to which the records' differences are added.
    pub base_timestamp: i64,
    /// The greatest timestamp of a record, in milliseconds since 1970 UTC.
    pub max_timestamp: i64,
    /// The producer's id, or −1.
    pub producer_id: i64,
    /// The producer's epoch, or −1.
    pub producer_epoch: i16,
    /// The first record's sequence, or −1.
    pub base_sequence: i32,
    /// Number of records.
    pub records_count: i32,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`.
    ///
    /// # Errors
    /// [`BatchError::Truncated`] if there are fewer than [`BATCH_HEADER_BYTES`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let too_short =
            |_| BatchError::Truncated { needed: BATCH_HEADER_BYTES as u64, actual: bytes.len() as u64 };
        finish(header_fields(bytes)).map(|(_, header)| header).map_err(too_short)
    }

    /// Bytes of the whole batch, if its length field is not negative.
    #[must_use]
    pub fn total_bytes(&self) -> Option<usize> {
        Some(usize::try_from(self.batch_length).ok()? + LEADER_EPOCH_AT)
    }

    /// LSN of the first record, once the leader has stamped it.
    #[must_use]
    pub fn first_lsn(&self) -> Option<u64> {
        Some(u64::try_from(self.base_offset).ok()? + 1)
    }

    /// LSN of the last record, once the leader has stamped the batch.
    #[must_use]
    pub fn last_lsn(&self) -> Option<u64> {
        Some(self.first_lsn()? + u64::try_from(self.last_offset_delta).ok()?)
    }
}

fn header_fields(input: &[u8]) -> Parsed<'_, BatchHeader> {
    let (input, base_offset) = be_i64(input)?;
    let (input, batch_length) = be_i32(input)?;
    let (input, leader_epoch) = be_i32(input)?;
    let (input, magic) = be_i8(input)?;
    let (input, crc) = be_u32(input)?;
    let (input, attributes) = be_i16(input)?;
    let (input, last_offset_delta) = be_i32(input)?;
    let (input, base_timestamp) = be_i64(input)?;
    let (input, max_timestamp) = be_i64(input)?;
    let (input, producer_id) = be_i64(input)?;
    let (input, producer_epoch) = be_i16(input)?;
    let (input, base_sequence) = be_i32(input)?;
    let (input, records_count) = be_i32(input)?;
    let header = BatchHeader {
        base_offset,
        batch_length,
        leader_epoch,
        magic,
        crc,
        attributes,
        last_offset_delta,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        records_count,
    };
    Ok((input, header))
}

/// Numbers a batch: writes `base_offset` = `first_lsn` − 1 and `leader_epoch` = `term`, and nothing else.
///
/// # Errors
/// [`BatchError::Truncated`] if `batch` is shorter than a header, [`BatchError::InvalidLsn`] if `first_lsn` is
/// 0 or beyond what Kafka's signed offsets hold.
pub fn stamp(batch: &mut [u8], first_lsn: u64, term: i32) -> Result<(), BatchError> {
    if batch.len() < BATCH_HEADER_BYTES {
        return Err(BatchError::Truncated { needed: BATCH_HEADER_BYTES as u64, actual: batch.len() as u64 });
    }
    let offset = first_lsn.checked_sub(1).and_then(|offset| i64::try_from(offset).ok());
    let base_offset = offset.ok_or(BatchError::InvalidLsn { lsn: first_lsn })?;
    batch[BASE_OFFSET_AT..BATCH_LENGTH_AT].copy_from_slice(&base_offset.to_be_bytes());
    batch[LEADER_EPOCH_AT..MAGIC_AT].copy_from_slice(&term.to_be_bytes());
    Ok(())
}

/// The batches of a payload, by their length fields; each shares the payload's memory. After an error there
/// is nothing more.
#[derive(Debug, Clone)]
pub struct Batches {
    rest: Bytes,
}

impl Batches {
    /// The batches that stand back to back in `payload`.
    #[must_use]
    pub fn new(payload: Bytes) -> Self {
        Self { rest: payload }
    }

    fn take(&mut self) -> Result<Bytes, BatchError> {
        let header = BatchHeader::parse(&self.rest)?;
        let total = header.total_bytes().filter(|total| *total >= BATCH_HEADER_BYTES);
        let total = total.ok_or(BatchError::InvalidLength { batch_length: header.batch_length })?;
        if total > self.rest.len() {
            return Err(BatchError::Truncated { needed: total as u64, actual: self.rest.len() as u64 });
        }
        Ok(self.rest.split_to(total))
    }
}

impl Iterator for Batches {
    type Item = Result<Bytes, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let batch = self.take();
        if batch.is_err() {
            self.rest.clear();
        }
        Some(batch)
    }
}
