//! Building a record batch: the producer's side of [`crate::batch`].

use bytes::{BufMut, Bytes, BytesMut};

use crate::batch::{ATTRIBUTES_AT, BATCH_HEADER_BYTES, CRC_AT, LEADER_EPOCH_AT, MAGIC};
use crate::record::{Record, encode_record, encoded_bytes};
use crate::validate::BatchError;

/// Who sent a batch, and where it stands among the producer's batches for a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerSequence {
    /// The producer's id.
    pub id: i64,
    /// The producer's epoch.
    pub epoch: i16,
    /// Sequence of the first record; the next batch's is this plus the number of records, and after
    /// `i32::MAX` comes 0.
    pub base_sequence: i32,
}

impl ProducerSequence {
    /// A batch that is not recognised if it is sent twice.
    pub const NONE: Self = Self { id: -1, epoch: -1, base_sequence: -1 };
}

/// Collects records into one batch.
///
/// ```
/// use lockstep_protocol::{BatchBuilder, ProducerSequence, Record, ValidationLimits, validate};
///
/// let mut builder = BatchBuilder::new();
/// builder.push(&Record::new(1_700_000_000_000, "hello"))?;
/// let batch = builder.build(ProducerSequence::NONE)?;
/// assert_eq!(validate(&batch, &ValidationLimits::default())?.header.records_count, 1);
/// # Ok::<(), lockstep_protocol::BatchError>(())
/// ```
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    /// Room for the header, and the records so far.
    bytes: BytesMut,
    records: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        let mut bytes = BytesMut::new();
        bytes.put_bytes(0, BATCH_HEADER_BYTES);
        Self { bytes, records: 0, base_timestamp: 0, max_timestamp: i64::MIN }
    }

    /// Appends a record; its LSN in the batch is the number of records before it.
    ///
    /// # Errors
    /// [`BatchError::TooLarge`] if the batch would outgrow the format's 32-bit length; nothing is appended then.
    pub fn push(&mut self, record: &Record) -> Result<(), BatchError> {
        let grown = self.size_bytes_with(record);
        if i32::try_from(grown).is_err() {
            return Err(BatchError::TooLarge { bytes: grown as u64, limit: i32::MAX as u64 });
        }
        if self.records == 0 {
            self.base_timestamp = record.timestamp_ms;
        }
        encode_record(record, self.timestamp_delta(record), self.records, &mut self.bytes);
        self.records += 1;
        self.max_timestamp = self.max_timestamp.max(record.timestamp_ms);
        Ok(())
    }

    /// Number of records so far.
    #[must_use]
    pub fn records(&self) -> u32 {
        self.records.unsigned_abs()
    }

    /// Whether there is no record yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Bytes of the batch as it stands.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of the batch if `record` were appended.
    #[must_use]
    pub fn size_bytes_with(&self, record: &Record) -> usize {
        self.bytes.len() + encoded_bytes(record, self.timestamp_delta(record), self.records)
    }

    /// The batch, ready to be sent: unnumbered, since the leader stamps the LSNs.
    ///
    /// # Errors
    /// [`BatchError::Empty`] without records.
    pub fn build(mut self, producer: ProducerSequence) -> Result<Bytes, BatchError> {
        if self.records == 0 {
            return Err(BatchError::Empty);
        }
        let batch_length = self.bytes.len() - LEADER_EPOCH_AT;
        let mut header = &mut self.bytes[..BATCH_HEADER_BYTES];
        header.put_i64(0);
        header.put_i32(i32::try_from(batch_length).expect("push keeps the batch below i32::MAX bytes"));
        header.put_i32(-1);
        header.put_i8(MAGIC);
        header.put_u32(0);
        header.put_i16(0);
        header.put_i32(self.records - 1);
        header.put_i64(self.base_timestamp);
        header.put_i64(self.max_timestamp);
        header.put_i64(producer.id);
        header.put_i16(producer.epoch);
        header.put_i32(producer.base_sequence);
        header.put_i32(self.records);
        let crc = crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..]);
        self.bytes[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        Ok(self.bytes.freeze())
    }

    /// The first record sets the base; far-apart times wrap around, and wrap back when read.
    fn timestamp_delta(&self, record: &Record) -> i64 {
        if self.records == 0 { 0 } else { record.timestamp_ms.wrapping_sub(self.base_timestamp) }
    }
}
