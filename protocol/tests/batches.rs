//! Record batches: what is built is valid, what is valid can be read, and every rule has a batch that breaks it.

#![allow(clippy::unwrap_used, reason = "in a test, failing is what unwrap is for")]

use bytes::{Bytes, BytesMut};
use lockstep_protocol::batch::{
    ATTRIBUTES_AT, BATCH_HEADER_BYTES, BATCH_LENGTH_AT, CRC_AT, LAST_OFFSET_DELTA_AT, LEADER_EPOCH_AT,
    MAGIC_AT, MAX_TIMESTAMP_AT, PRODUCER_EPOCH_AT, RECORDS_COUNT_AT,
};
use lockstep_protocol::{
    BatchBuilder, BatchError, BatchHeader, Batches, ErrorCode, ProducerSequence, Record, RecordHeader,
    RecordIter, ValidationLimits, stamp, validate,
};
use proptest::prelude::*;

const LIMITS: ValidationLimits =
    ValidationLimits { max_batch_bytes: 1 << 20, max_record_bytes: 1 << 16, trust_producer: false };
const PRODUCER: ProducerSequence = ProducerSequence { id: 7, epoch: 1, base_sequence: 40 };

/// Three records: with and without key, value and headers; the second is the youngest.
fn sample_records() -> [Record; 3] {
    let nothing = RecordHeader { key: "empty".into(), value: None };
    [
        Record::new(1_700_000_000_000, "hello").with_key("user-1").with_header("trace", &[1, 2][..]),
        Record::new(1_700_000_000_250, "world"),
        Record {
            timestamp_ms: 1_700_000_000_100,
            key: Some("user-2".into()),
            value: None,
            headers: vec![nothing],
        },
    ]
}

fn build(records: &[Record], producer: ProducerSequence) -> Bytes {
    let mut builder = BatchBuilder::new();
    for record in records {
        let foretold = builder.size_bytes_with(record);
        builder.push(record).unwrap();
        assert_eq!(builder.size_bytes(), foretold);
    }
    builder.build(producer).unwrap()
}

fn sample() -> Bytes {
    build(&sample_records(), PRODUCER)
}

/// The sample with `bytes` at `at`, and length and CRC right again: a wrong batch, not a damaged one.
fn forged(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut batch = sample().to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    resealed(batch)
}

fn resealed(mut batch: Vec<u8>) -> Vec<u8> {
    let length = (batch.len() - LEADER_EPOCH_AT) as i32;
    batch[BATCH_LENGTH_AT..LEADER_EPOCH_AT].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn fault(batch: &[u8]) -> BatchError {
    validate(batch, &LIMITS).unwrap_err()
}

fn read(batch: Bytes) -> Vec<(u64, Record)> {
    RecordIter::new(batch).unwrap().map(|record| record.map(|r| (r.lsn, r.record)).unwrap()).collect()
}

fn any_bytes() -> impl Strategy<Value = Option<Bytes>> {
    prop::option::of(prop::collection::vec(any::<u8>(), 0..100).prop_map(Bytes::from))
}

fn any_record() -> impl Strategy<Value = Record> {
    let header = (".{0,8}", any_bytes()).prop_map(|(key, value)| RecordHeader { key, value });
    (any::<i64>(), any_bytes(), any_bytes(), prop::collection::vec(header, 0..3))
        .prop_map(|(timestamp_ms, key, value, headers)| Record { timestamp_ms, key, value, headers })
}

proptest! {
    #[test]
    fn what_is_built_is_valid_and_reads_back_under_the_stamped_lsns(
        records in prop::collection::vec(any_record(), 1..20),
        first_lsn in 1_u64..1 << 62,
    ) {
        let mut batch = BytesMut::from(&build(&records, PRODUCER)[..]);
        stamp(&mut batch, first_lsn, 3).unwrap();
        let validated = validate(&batch, &LIMITS).unwrap();
        prop_assert_eq!(validated.records as usize, records.len());
        prop_assert_eq!(validated.producer, Some(PRODUCER));
        prop_assert_eq!(validated.header.last_lsn(), Some(first_lsn + records.len() as u64 - 1));
        let expected: Vec<(u64, Record)> = (first_lsn..).zip(records).collect();
        prop_assert_eq!(read(batch.freeze()), expected);
    }

    /// Behind a right checksum, so that the walk over the records sees the garbage.
    #[test]
    fn no_bytes_make_validation_or_reading_panic_and_what_is_valid_can_be_read(
        garbage in prop::collection::vec(any::<u8>(), 1..60),
        at: prop::sample::Index,
    ) {
        let mut batch = sample().to_vec();
        let start = at.index(batch.len());
        let end = batch.len().min(start + garbage.len());
        batch[start..end].copy_from_slice(&garbage[..end - start]);
        let _damaged = validate(&batch, &LIMITS);
        let mut forged = resealed(batch);
        forged[MAGIC_AT] = 2;
        if let Ok(valid) = validate(&forged, &LIMITS) {
            stamp(&mut forged, 1, 1).unwrap();
            prop_assert_eq!(read(forged.into()).len(), valid.records as usize);
        } else if let Ok(records) = RecordIter::new(forged.into()) {
            let _it_ends = records.count();
        }
    }
}

#[test]
fn a_batch_is_byte_for_byte_what_another_client_builds() {
    // kafka-python 3's DefaultRecordBatchBuilder, from the same records, producer and sequence.
    let theirs = include_str!("../vectors/batch.hex");
    let theirs: String = theirs.lines().filter(|line| !line.starts_with('#')).collect();
    let ours: String = sample().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(ours, theirs.replace(' ', ""));
}

#[test]
fn every_single_changed_bit_is_refused_except_where_the_leader_stamps() {
    let batch = sample();
    for bit in 0..batch.len() * 8 {
        let mut changed = batch.to_vec();
        changed[bit / 8] ^= 1 << (bit % 8);
        let stamped = bit / 8 < BATCH_LENGTH_AT || (LEADER_EPOCH_AT..MAGIC_AT).contains(&(bit / 8));
        assert_eq!(validate(&changed, &LIMITS).is_ok(), stamped, "bit {bit}");
    }
}

#[test]
fn every_prefix_of_a_batch_is_refused() {
    let batch = sample();
    for end in 0..batch.len() {
        assert!(validate(&batch[..end], &LIMITS).is_err(), "the first {end} bytes");
    }
}

#[test]
fn stamping_touches_offset_and_epoch_alone() {
    let before = sample();
    let mut after = BytesMut::from(&before[..]);
    stamp(&mut after, 1000, 12).unwrap();
    assert_eq!(&after[..BATCH_LENGTH_AT], 999_i64.to_be_bytes());
    assert_eq!(after[BATCH_LENGTH_AT..LEADER_EPOCH_AT], before[BATCH_LENGTH_AT..LEADER_EPOCH_AT]);
    assert_eq!(&after[LEADER_EPOCH_AT..MAGIC_AT], 12_i32.to_be_bytes());
    assert_eq!(after[MAGIC_AT..], before[MAGIC_AT..]);
}

#[test]
fn lsn_zero_and_lsns_beyond_kafkas_offsets_cannot_be_stamped() {
    let mut batch = BytesMut::from(&sample()[..]);
    for lsn in [0, (1 << 63) + 1, u64::MAX] {
        assert_eq!(stamp(&mut batch, lsn, 1), Err(BatchError::InvalidLsn { lsn }));
    }
    stamp(&mut batch, 1 << 63, 1).unwrap();
    assert_eq!(BatchHeader::parse(&batch).unwrap().first_lsn(), Some(1 << 63));
}

#[test]
fn too_few_bytes_cannot_be_stamped() {
    assert_eq!(stamp(&mut [0; 60], 1, 1), Err(BatchError::Truncated { needed: 61, actual: 60 }));
}

#[test]
fn an_empty_batch_is_neither_built_nor_taken() {
    assert_eq!(BatchBuilder::new().build(PRODUCER), Err(BatchError::Empty));
    let none = forged(RECORDS_COUNT_AT, &0_i32.to_be_bytes());
    assert_eq!((fault(&none), fault(&none).code()), (BatchError::Empty, ErrorCode::EmptyBatch));
}

#[test]
fn a_length_that_lies_is_refused() {
    let mut longer = sample().to_vec();
    longer.push(0);
    let (declared, actual) = (longer.len() as u64 - 1, longer.len() as u64);
    assert_eq!(fault(&longer), BatchError::LengthMismatch { declared, actual });

    longer[BATCH_LENGTH_AT] = 0x80;
    assert!(matches!(fault(&longer), BatchError::InvalidLength { .. }));
}

#[test]
fn a_count_that_lies_is_refused() {
    for (at, value) in [(RECORDS_COUNT_AT, 4), (RECORDS_COUNT_AT, -1), (LAST_OFFSET_DELTA_AT, 3)] {
        let batch = forged(at, &i32::to_be_bytes(value));
        assert!(matches!(fault(&batch), BatchError::CountMismatch { .. }), "{value} at {at}");
    }
}

#[test]
fn two_counts_that_lie_alike_are_caught_by_the_walk() {
    let lying = |records: i32| {
        let mut batch = forged(RECORDS_COUNT_AT, &records.to_be_bytes());
        batch[LAST_OFFSET_DELTA_AT..LAST_OFFSET_DELTA_AT + 4].copy_from_slice(&(records - 1).to_be_bytes());
        resealed(batch)
    };
    assert!(matches!(fault(&lying(2)), BatchError::TrailingBytes { .. }));
    assert!(matches!(fault(&lying(4)), BatchError::MalformedRecord { index: 3, .. }));
    assert!(matches!(fault(&lying(i32::MAX)), BatchError::MalformedRecord { index: 3, .. }));
}

#[test]
fn a_producer_that_is_trusted_is_not_walked_but_its_header_is_checked() {
    let trusting = ValidationLimits { trust_producer: true, ..LIMITS };
    let out_of_order = forged(BATCH_HEADER_BYTES + 3, &[2]);
    assert!(validate(&out_of_order, &trusting).is_ok());
    let lying = forged(RECORDS_COUNT_AT, &4_i32.to_be_bytes());
    assert!(matches!(validate(&lying, &trusting), Err(BatchError::CountMismatch { .. })));
}

#[test]
fn records_out_of_order_are_refused() {
    // The delta of the first record, after its length, attributes and timestamp: zigzag 2 is 1.
    let batch = forged(BATCH_HEADER_BYTES + 3, &[2]);
    assert_eq!(fault(&batch), BatchError::OffsetDelta { index: 0, found: 1 });
}

#[test]
fn old_formats_are_refused_by_name() {
    assert_eq!(fault(&forged(MAGIC_AT, &[1])), BatchError::UnsupportedMagic { magic: 1 });
}

#[test]
fn compression_is_refused_by_codec_and_other_attributes_altogether() {
    for codec in 1..=7_i16 {
        let compressed = forged(ATTRIBUTES_AT, &codec.to_be_bytes());
        assert_eq!(fault(&compressed), BatchError::UnsupportedCompression { codec });
    }
    for bit in 3..16 {
        let attributes = (1_u16 << bit) as i16;
        let batch = forged(ATTRIBUTES_AT, &attributes.to_be_bytes());
        assert_eq!(fault(&batch), BatchError::UnsupportedAttributes { attributes });
    }
}

#[test]
fn a_greatest_timestamp_that_lies_is_refused() {
    let actual = 1_700_000_000_250;
    let batch = forged(MAX_TIMESTAMP_AT, &i64::to_be_bytes(actual + 1));
    assert_eq!(fault(&batch), BatchError::MaxTimestamp { declared: actual + 1, actual });
}

#[test]
fn a_producer_without_epoch_is_refused_and_none_at_all_is_taken() {
    let batch = forged(PRODUCER_EPOCH_AT, &i16::to_be_bytes(-1));
    assert_eq!(fault(&batch), BatchError::InvalidProducer { producer_id: 7, epoch: -1, sequence: 40 });
    let anonymous = build(&sample_records(), ProducerSequence::NONE);
    assert_eq!(validate(&anonymous, &LIMITS).unwrap().producer, None);
}

#[test]
fn the_limits_are_inclusive_and_name_the_record() {
    let batch = build(&[Record::new(0, "small"), Record::new(0, vec![0; 1000])], PRODUCER);
    // Length and key length two and one bytes, attributes, deltas and header count one each, value length two.
    let record_bytes = 2 + 1 + 1 + 1 + 1 + 2 + 1000 + 1;
    let with = |max_batch_bytes, max_record_bytes| {
        validate(&batch, &ValidationLimits { max_batch_bytes, max_record_bytes, trust_producer: false })
    };
    assert!(with(batch.len(), record_bytes).is_ok());

    let too_large = with(batch.len() - 1, record_bytes).unwrap_err();
    assert_eq!(too_large.code(), ErrorCode::BatchTooLarge);

    let (bytes, limit) = (record_bytes as u64, record_bytes as u64 - 1);
    let refused = BatchError::RecordTooLarge { index: 1, bytes, limit };
    assert_eq!(with(batch.len(), record_bytes - 1), Err(refused));
}

#[test]
fn batches_back_to_back_are_cut_apart_without_copying() {
    let first = build(&[Record::new(0, "one")], PRODUCER);
    let payload = Bytes::from([&first[..], &sample()[..]].concat());
    let batches: Vec<Bytes> = Batches::new(payload.clone()).map(Result::unwrap).collect();
    assert_eq!(batches, [first.clone(), sample()]);
    assert_eq!(batches[1].as_ptr(), payload[first.len()..].as_ptr());
}

#[test]
fn a_batch_cut_short_in_a_payload_is_an_error_and_the_end() {
    let payload = Bytes::from([&sample()[..], &sample()[..100]].concat());
    let mut batches = Batches::new(payload);
    assert!(batches.next().unwrap().is_ok());
    assert_eq!(
        batches.next(),
        Some(Err(BatchError::Truncated { needed: sample().len() as u64, actual: 100 }))
    );
    assert_eq!(batches.next(), None);
}

#[test]
fn a_length_below_the_header_does_not_loop() {
    let mut payload = sample().to_vec();
    payload[BATCH_LENGTH_AT..LEADER_EPOCH_AT].copy_from_slice(&0_i32.to_be_bytes());
    let results: Vec<_> = Batches::new(payload.into()).collect();
    assert_eq!(results, [Err(BatchError::InvalidLength { batch_length: 0 })]);
}

#[test]
fn a_record_that_cannot_be_read_is_an_error_and_the_end() {
    let mut records = RecordIter::new(forged(BATCH_HEADER_BYTES + 3, &[2]).into()).unwrap();
    assert!(matches!(records.next(), Some(Err(BatchError::OffsetDelta { index: 0, .. }))));
    assert!(records.next().is_none());
}

#[test]
fn a_damaged_batch_is_not_read_at_all() {
    let mut batch = sample().to_vec();
    *batch.last_mut().unwrap() ^= 1;
    assert!(matches!(RecordIter::new(batch.into()), Err(BatchError::BadChecksum { .. })));
}

#[test]
fn header_names_must_be_text() {
    let batch = sample();
    let at = batch.windows(5).position(|window| window == b"trace").unwrap();
    let batch = forged(at, &[0xff]);
    let message = fault(&batch).to_string();
    assert!(message.contains("record 0") && message.contains("UTF-8"), "{message}");
}
