//! Record batches: judged at the door, numbered, read by a consumer.

use bytes::{Bytes, BytesMut};
use lockstep_protocol::batch::{
    ATTRIBUTES_AT, BASE_OFFSET_AT, BATCH_HEADER_BYTES, BATCH_LENGTH_AT, CRC_AT, LAST_OFFSET_DELTA_AT,
    LEADER_EPOCH_AT, MAGIC_AT, MAX_TIMESTAMP_AT, RECORDS_COUNT_AT,
};
use lockstep_protocol::{
    BatchBuilder, Batches, NumberedRecord, ProducerSequence, RecordIter, ValidatedBatch, ValidationLimits,
    stamp, validate,
};

use super::super::allocation::{within, within_size_class};
use super::super::choices::Choices;
use super::frames::shared;

/// A payload of batches, or one batch whose length, counts and checksum are right.
pub fn batches(input: &[u8]) {
    let mut choices = Choices::new(input);
    let form = choices.byte();
    let limits = limits(form, &mut choices);
    if form & 1 == 0 {
        let payload = shared(choices.rest());
        let cut: Vec<Bytes> = Batches::new(payload.clone()).flatten().collect();
        assert!(payload.starts_with(&cut.concat()), "batches stand back to back");
        cut.into_iter().for_each(|batch| judge(batch, &limits));
    } else {
        judge(sealed(choices.rest(), form), &limits);
    }
}

fn limits(form: u8, choices: &mut Choices) -> ValidationLimits {
    let mut limits = ValidationLimits { trust_producer: form & 2 != 0, ..ValidationLimits::default() };
    if form & 4 != 0 {
        limits.max_batch_bytes = choices.below(1024) as usize;
        limits.max_record_bytes = choices.below(256) as usize;
    }
    limits
}

/// The input as a batch that gets past the checks of length, magic, checksum, attributes and counts; `form` leaves
/// some of them as they came.
fn sealed(input: &[u8], form: u8) -> Bytes {
    let mut batch = input.to_vec();
    batch.resize(batch.len().max(BATCH_HEADER_BYTES), 0);
    let length = (batch.len() - LEADER_EPOCH_AT) as i32;
    batch[BATCH_LENGTH_AT..LEADER_EPOCH_AT].copy_from_slice(&length.to_be_bytes());
    batch[MAGIC_AT] = 2;
    if form & 8 == 0 {
        batch[ATTRIBUTES_AT..LAST_OFFSET_DELTA_AT].fill(0);
        let count =
            i32::from_be_bytes(batch[RECORDS_COUNT_AT..BATCH_HEADER_BYTES].try_into().unwrap_or_default());
        let last = count.wrapping_sub(1).to_be_bytes();
        batch[LAST_OFFSET_DELTA_AT..LAST_OFFSET_DELTA_AT + 4].copy_from_slice(&last);
    }
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

fn judge(batch: Bytes, limits: &ValidationLimits) {
    let verdict = within(0, || validate(&batch, limits));
    let read = read(&batch);
    let Ok(valid) = verdict else { return };
    assert!(batch.len() <= limits.max_batch_bytes && valid.records >= 1);
    if !limits.trust_producer {
        stored(&batch, &valid);
        let read = read.filter(|records| !records.is_empty());
        assert!(
            read.is_none_or(|records| records.len() == valid.records as usize),
            "what is taken can be read"
        );
    }
}

/// Reads a batch as a consumer does; `None` if it is not one that may be shown.
fn read(batch: &Bytes) -> Option<Vec<NumberedRecord>> {
    let records = RecordIter::new(batch.clone()).ok()?;
    within_size_class(2 * batch.len(), || records.collect::<Result<Vec<_>, _>>()).ok()
}

/// What passed at the door can be numbered without touching its checksum, and every record of it can be read.
fn stored(batch: &Bytes, valid: &ValidatedBatch) {
    let mut stamped = BytesMut::from(&batch[..]);
    stamp(&mut stamped, 77, 3).expect("a whole header");
    assert_eq!(&stamped[BATCH_LENGTH_AT..LEADER_EPOCH_AT], &batch[BATCH_LENGTH_AT..LEADER_EPOCH_AT]);
    assert_eq!(&stamped[MAGIC_AT..], &batch[MAGIC_AT..], "stamping touches nothing else");
    assert_eq!(BASE_OFFSET_AT, 0);
    let stamped = stamped.freeze();
    let records = read(&stamped).expect("what was taken can be read");
    assert!(
        records.iter().map(|record| record.lsn).eq(77..77 + u64::from(valid.records)),
        "LSNs without gaps"
    );
    let latest = records.iter().map(|record| record.record.timestamp_ms).max();
    let declared =
        i64::from_be_bytes(batch[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].try_into().unwrap_or_default());
    assert_eq!(latest, Some(declared));
    rebuilt(&records);
}

/// A producer that sends the same records again sends a batch that reads the same.
fn rebuilt(records: &[NumberedRecord]) {
    let mut builder = BatchBuilder::new();
    for record in records {
        // Timestamps further apart than a batch can say are refused.
        if builder.push(&record.record).is_err() {
            return;
        }
    }
    let Ok(batch) = builder.build(ProducerSequence::NONE) else { return };
    validate(&batch, &ValidationLimits::default()).expect("our own batches are valid");
    let mut stamped = BytesMut::from(&batch[..]);
    stamp(&mut stamped, 77, 3).expect("a whole header");
    assert_eq!(read(&stamped.freeze()).as_deref(), Some(records));
}
