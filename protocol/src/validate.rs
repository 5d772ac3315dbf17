//! Validation at the door: what a batch must satisfy before it is replicated.
//!
//! What passes has: magic 2, its exact length, a right CRC, `records_count = last_offset_delta + 1 ≥ 1`, no
//! compression, transaction or control bits, and records whose offset deltas are 0, 1, 2 … to the last byte.
//! So LSNs have no gaps whatever a producer sends, and whatever is stored can be read.

use crate::batch::{ATTRIBUTES_AT, BATCH_HEADER_BYTES, BatchHeader, COMPRESSION_BITS, MAGIC};
use crate::batch_builder::ProducerSequence;
use crate::error_code::ErrorCode;
use crate::record::take_record;
use crate::wire::DecodeError;

/// What a producer may send. They apply at the door only: what is stored is served whatever the limits are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidationLimits {
    /// Longest batch in bytes, header included.
    pub max_batch_bytes: usize,
    /// Longest record in bytes of its encoding, length field included.
    pub max_record_bytes: usize,
    /// Skip the walk over the records (a topic's setting): density then depends on the producers.
    pub trust_producer: bool,
}

impl Default for ValidationLimits {
    /// Nothing but the format's own limits.
    fn default() -> Self {
        Self {
            max_batch_bytes: i32::MAX as usize,
            max_record_bytes: i32::MAX as usize,
            trust_producer: false,
        }
    }
}

/// A batch that may be replicated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidatedBatch {
    /// Its header.
    pub header: BatchHeader,
    /// Number of records, at least 1.
    pub records: u32,
    /// The producer and sequence, if the batch is to be recognised when it is sent again.
    pub producer: Option<ProducerSequence>,
}

/// Why bytes are not a batch that can be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does.
    #[error("the batch needs {needed} bytes, but {actual} are there: send it whole")]
    Truncated {
        /// Bytes there should be.
        needed: u64,
        /// Bytes there are.
        actual: u64,
    },
    /// The length field is below what a header takes.
    #[error("batch_length {batch_length} is less than a header: set it to the bytes after the field")]
    InvalidLength {
        /// The field's value.
        batch_length: i32,
    },
    /// The length field does not match the bytes.
    #[error(
        "the batch declares {declared} bytes, but has {actual}: set batch_length to the bytes after the field"
    )]
    LengthMismatch {
        /// Bytes by the length field.
        declared: u64,
        /// Bytes there are.
        actual: u64,
    },
    /// Longer than allowed.
    #[error("the batch has {bytes} bytes, the limit is {limit}: split it")]
    TooLarge {
        /// Bytes of the batch.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// Not record batch v2.
    #[error("record format {magic} is not supported: use format 2 (Kafka 0.11 or later)")]
    UnsupportedMagic {
        /// The format's number.
        magic: i8,
    },
    /// Bytes changed after the producer computed the CRC.
    #[error("the batch's CRC is {computed:#010x}, but it declares {declared:#010x}: send it again")]
    BadChecksum {
        /// The CRC in the header.
        declared: u32,
        /// The CRC of the bytes.
        computed: u32,
    },
    /// Compressed.
    #[error("compression codec {codec} is not supported: send the batch uncompressed")]
    UnsupportedCompression {
        /// Kafka's number of the codec.
        codec: i16,
    },
    /// Attribute bits that a producer may not set.
    #[error(
        "attributes {attributes:#06x} are not supported: clear the transactional, control, log-append-time and reserved bits"
    )]
    UnsupportedAttributes {
        /// The header's attributes.
        attributes: i16,
    },
    /// No records.
    #[error("the batch holds no records: send at least one")]
    Empty,
    /// The two counts contradict each other.
    #[error(
        "records_count is {records_count}, but last_offset_delta is {last_offset_delta}: it must be one less"
    )]
    CountMismatch {
        /// The header's count.
        records_count: i32,
        /// The header's last delta.
        last_offset_delta: i32,
    },
    /// A producer id without epoch or sequence.
    #[error("producer {producer_id} gives epoch {epoch} and sequence {sequence}: neither may be negative")]
    InvalidProducer {
        /// The producer's id.
        producer_id: i64,
        /// Its epoch.
        epoch: i16,
        /// The first record's sequence.
        sequence: i32,
    },
    /// A record longer than allowed.
    #[error("record {index} of the batch has {bytes} bytes, the limit is {limit}: make it smaller")]
    RecordTooLarge {
        /// Which record, from 0.
        index: u32,
        /// Bytes of its encoding.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// A record that cannot be read.
    #[error("record {index} of the batch is malformed: {fault}")]
    MalformedRecord {
        /// Which record, from 0.
        index: u32,
        /// What is wrong with it.
        fault: DecodeError,
    },
    /// Records are not numbered 0, 1, 2 …
    #[error("record {index} of the batch has offset delta {found}: number the records 0, 1, 2 and so on")]
    OffsetDelta {
        /// Which record, from 0.
        index: u32,
        /// The delta it gives.
        found: i32,
    },
    /// Bytes after the last record.
    #[error("{count} bytes follow the last record: set records_count to the number of records")]
    TrailingBytes {
        /// How many.
        count: u64,
    },
    /// The greatest timestamp is not what the header says.
    #[error("max_timestamp is {declared}, but the greatest of the records is {actual}: set it to that")]
    MaxTimestamp {
        /// The header's.
        declared: i64,
        /// The records'.
        actual: i64,
    },
    /// An LSN that Kafka's offsets (LSN − 1, signed, from 0) cannot express.
    #[error("{lsn} is no LSN of a record batch: LSNs run from 1 to 2^63")]
    InvalidLsn {
        /// The LSN.
        lsn: u64,
    },
}

impl BatchError {
    /// The code that tells the producer.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } => ErrorCode::BatchTooLarge,
            Self::RecordTooLarge { .. } => ErrorCode::RecordTooLarge,
            Self::Empty => ErrorCode::EmptyBatch,
            _ => ErrorCode::InvalidBatch,
        }
    }
}

/// Checks a batch that is all of `batch`.
///
/// # Errors
/// [`BatchError`]: the first rule it breaks.
pub fn validate(batch: &[u8], limits: &ValidationLimits) -> Result<ValidatedBatch, BatchError> {
    if batch.len() > limits.max_batch_bytes {
        return Err(BatchError::TooLarge { bytes: batch.len() as u64, limit: limits.max_batch_bytes as u64 });
    }
    let header = BatchHeader::parse(batch)?;
    let records = check_frame(batch, &header)?;
    let producer = producer_of(&header)?;
    if !limits.trust_producer {
        walk_records(batch, &header, records, limits)?;
    }
    Ok(ValidatedBatch { header, records, producer })
}

/// All that can be checked without looking at the records. Returns how many there are.
pub(crate) fn check_frame(batch: &[u8], header: &BatchHeader) -> Result<u32, BatchError> {
    let actual = batch.len() as u64;
    let invalid = BatchError::InvalidLength { batch_length: header.batch_length };
    let declared = header.total_bytes().ok_or(invalid)? as u64;
    if declared != actual {
        return Err(BatchError::LengthMismatch { declared, actual });
    }
    if header.magic != MAGIC {
        return Err(BatchError::UnsupportedMagic { magic: header.magic });
    }
    let computed = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    if computed != header.crc {
        return Err(BatchError::BadChecksum { declared: header.crc, computed });
    }
    check_attributes(header.attributes)?;
    check_count(header)
}

fn check_attributes(attributes: i16) -> Result<(), BatchError> {
    let codec = attributes & COMPRESSION_BITS;
    if attributes != codec {
        return Err(BatchError::UnsupportedAttributes { attributes });
    }
    if codec != 0 {
        return Err(BatchError::UnsupportedCompression { codec });
    }
    Ok(())
}

fn check_count(header: &BatchHeader) -> Result<u32, BatchError> {
    let BatchHeader { records_count, last_offset_delta, .. } = *header;
    if records_count == 0 {
        return Err(BatchError::Empty);
    }
    let mismatch = BatchError::CountMismatch { records_count, last_offset_delta };
    match u32::try_from(records_count) {
        Ok(records) if records_count - 1 == last_offset_delta => Ok(records),
        _ => Err(mismatch),
    }
}

fn producer_of(header: &BatchHeader) -> Result<Option<ProducerSequence>, BatchError> {
    let BatchHeader { producer_id, producer_epoch: epoch, base_sequence: sequence, .. } = *header;
    if producer_id < 0 {
        return Ok(None);
    }
    if epoch < 0 || sequence < 0 {
        return Err(BatchError::InvalidProducer { producer_id, epoch, sequence });
    }
    Ok(Some(ProducerSequence { id: producer_id, epoch, base_sequence: sequence }))
}

fn walk_records(
    batch: &[u8],
    header: &BatchHeader,
    records: u32,
    limits: &ValidationLimits,
) -> Result<(), BatchError> {
    let mut rest = &batch[BATCH_HEADER_BYTES..];
    let mut max_timestamp = i64::MIN;
    for index in 0..records {
        let (after, record) = take_record(rest, index)?;
        if record.total_bytes > limits.max_record_bytes {
            let (bytes, limit) = (record.total_bytes as u64, limits.max_record_bytes as u64);
            return Err(BatchError::RecordTooLarge { index, bytes, limit });
        }
        max_timestamp = max_timestamp.max(header.base_timestamp.wrapping_add(record.timestamp_delta));
        rest = after;
    }
    if !rest.is_empty() {
        return Err(BatchError::TrailingBytes { count: rest.len() as u64 });
    }
    if header.max_timestamp != max_timestamp {
        return Err(BatchError::MaxTimestamp { declared: header.max_timestamp, actual: max_timestamp });
    }
    Ok(())
}
