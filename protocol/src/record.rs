//! Records inside a batch (Kafka v2, uncompressed).
//!
//! ```text
//! varint  length            bytes after this field
//! i8      attributes        0
//! varint  timestamp_delta   to the batch's base_timestamp
//! varint  offset_delta      0, 1, 2 …
//! varint  key_length        -1: no key
//! …       key
//! varint  value_length      -1: no value
//! …       value
//! varint  headers           count, then for each: varint length, key (UTF-8), varint length or -1, value
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use nom::Parser;
use nom::bytes::complete::take;
use nom::number::complete::be_i8;

use crate::batch::{BATCH_HEADER_BYTES, BatchHeader};
use crate::validate::{BatchError, check_frame};
use crate::varint::{put_varint, varint, varint_bytes, varlong};
use crate::wire::{DecodeError, Parsed, check_count, finish, refuse};

/// What a producer writes and a consumer reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Milliseconds since 1970 UTC.
    pub timestamp_ms: i64,
    /// What the record is about, if anything.
    pub key: Option<Bytes>,
    /// What it says.
    pub value: Option<Bytes>,
    /// What else there is to say, in order; a key may recur.
    pub headers: Vec<RecordHeader>,
}

/// A name and an optional value beside a record's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    /// The name.
    pub key: String,
    /// The value.
    pub value: Option<Bytes>,
}

impl Record {
    /// A record of a value alone.
    #[must_use]
    pub fn new(timestamp_ms: i64, value: impl Into<Bytes>) -> Self {
        Self { timestamp_ms, value: Some(value.into()), ..Self::default() }
    }

    /// Adds a key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push(RecordHeader { key: key.into(), value: Some(value.into()) });
        self
    }
}

/// A record and its place in the partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedRecord {
    /// Its number, from 1.
    pub lsn: u64,
    /// What was written.
    pub record: Record,
}

/// The records of a stored batch, numbered. After an error there is nothing more.
///
/// A fetch from inside a batch gets all of it: skip the records below the LSN that was asked for.
#[derive(Debug, Clone)]
pub struct RecordIter {
    rest: Bytes,
    first_lsn: u64,
    base_timestamp: i64,
    records: u32,
    next_delta: u32,
}

impl RecordIter {
    /// Checks the batch's length, CRC and header, and reads its records lazily. `batch` is exactly one batch;
    /// [`crate::Batches`] cuts a payload into them.
    ///
    /// # Errors
    /// [`BatchError`], as [`crate::validate()`] gives for all but the records themselves, and
    /// [`BatchError::InvalidLsn`] for a base offset below 0.
    pub fn new(batch: Bytes) -> Result<Self, BatchError> {
        let header = BatchHeader::parse(&batch)?;
        let records = check_frame(&batch, &header)?;
        let first_lsn = header.first_lsn().ok_or(BatchError::InvalidLsn { lsn: 0 })?;
        let rest = batch.slice(BATCH_HEADER_BYTES..);
        Ok(Self { rest, first_lsn, base_timestamp: header.base_timestamp, records, next_delta: 0 })
    }

    fn take(&mut self) -> Result<NumberedRecord, BatchError> {
        let delta = self.next_delta;
        let (after, raw) = take_record(&self.rest, delta)?;
        let record = raw.to_record(&self.rest, self.base_timestamp, delta)?;
        self.rest = self.rest.slice_ref(after);
        self.next_delta += 1;
        Ok(NumberedRecord { lsn: self.first_lsn + u64::from(delta), record })
    }
}

impl Iterator for RecordIter {
    type Item = Result<NumberedRecord, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next_delta == self.records {
            return None;
        }
        let record = self.take();
        if record.is_err() {
            self.next_delta = self.records;
        }
        Some(record)
    }
}

/// A record whose layout is sound, its fields still in the batch.
pub(crate) struct RawRecord<'a> {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    header_count: u32,
    headers: &'a [u8],
    /// Bytes of the record, its length field included.
    pub(crate) total_bytes: usize,
}

impl RawRecord<'_> {
    /// The record, sharing the memory of `batch`, in which it stands.
    fn to_record(&self, batch: &Bytes, base_timestamp: i64, index: u32) -> Result<Record, BatchError> {
        let mut headers = Vec::with_capacity(self.header_count as usize);
        let mut input = self.headers;
        for _ in 0..self.header_count {
            let (rest, (key, value)) =
                finish(header(input)).map_err(|fault| BatchError::MalformedRecord { index, fault })?;
            headers
                .push(RecordHeader { key: key.to_owned(), value: value.map(|bytes| batch.slice_ref(bytes)) });
            input = rest;
        }
        Ok(Record {
            timestamp_ms: base_timestamp.wrapping_add(self.timestamp_delta),
            key: self.key.map(|bytes| batch.slice_ref(bytes)),
            value: self.value.map(|bytes| batch.slice_ref(bytes)),
            headers,
        })
    }
}

/// Takes the record that must stand at `index`, checking it through its last header.
pub(crate) fn take_record(input: &[u8], index: u32) -> Result<(&[u8], RawRecord<'_>), BatchError> {
    let (rest, mut record) =
        finish(raw_record(input)).map_err(|fault| BatchError::MalformedRecord { index, fault })?;
    record.total_bytes = input.len() - rest.len();
    if u32::try_from(record.offset_delta) != Ok(index) {
        return Err(BatchError::OffsetDelta { index, found: record.offset_delta });
    }
    Ok((rest, record))
}

fn raw_record(input: &[u8]) -> Parsed<'_, RawRecord<'_>> {
    let (after, body) = sized(input)?;
    let (body, _attributes) = be_i8(body)?;
    let (body, timestamp_delta) = varlong(body)?;
    let (body, offset_delta) = varint(body)?;
    let (body, key) = nullable(body)?;
    let (body, value) = nullable(body)?;
    let (headers, header_count) = count(body)?;
    let mut rest = headers;
    for _ in 0..header_count {
        rest = header(rest)?.0;
    }
    if !rest.is_empty() {
        return refuse(DecodeError::TrailingBytes { count: rest.len() as u64 });
    }
    let record =
        RawRecord { timestamp_delta, offset_delta, key, value, header_count, headers, total_bytes: 0 };
    Ok((after, record))
}

/// A header takes at least a length for its key and one for its value.
const RECORD_HEADER_BYTES_MIN: usize = 2;

fn count(input: &[u8]) -> Parsed<'_, u32> {
    let (rest, declared) = varint(input)?;
    let Ok(declared) = u32::try_from(declared) else {
        return refuse(DecodeError::InvalidTag { what: "count of headers", value: declared as u64 });
    };
    check_count(declared, RECORD_HEADER_BYTES_MIN, rest)?;
    Ok((rest, declared))
}

fn header(input: &[u8]) -> Parsed<'_, (&str, Option<&[u8]>)> {
    let (input, key) = sized(input)?;
    let Ok(key) = std::str::from_utf8(key) else { return refuse(DecodeError::NotUtf8) };
    let (input, value) = nullable(input)?;
    Ok((input, (key, value)))
}

/// A length, and that many bytes; −1 stands for nothing.
fn nullable(input: &[u8]) -> Parsed<'_, Option<&[u8]>> {
    match varint(input)? {
        (rest, -1) => Ok((rest, None)),
        _ => sized(input).map(|(rest, bytes)| (rest, Some(bytes))),
    }
}

/// A length of at least 0, and that many bytes.
fn sized(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (rest, length) = varint(input)?;
    let Ok(length) = u32::try_from(length) else {
        return refuse(DecodeError::InvalidTag { what: "length", value: length as u64 });
    };
    check_count(length, 1, rest)?;
    take(length).parse(rest)
}

/// Appends a record.
pub(crate) fn encode_record(record: &Record, timestamp_delta: i64, offset_delta: i32, out: &mut BytesMut) {
    put_varint(body_bytes(record, timestamp_delta, offset_delta) as i64, out);
    out.put_i8(0);
    put_varint(timestamp_delta, out);
    put_varint(offset_delta.into(), out);
    put_nullable(record.key.as_ref(), out);
    put_nullable(record.value.as_ref(), out);
    put_varint(record.headers.len() as i64, out);
    for header in &record.headers {
        put_varint(header.key.len() as i64, out);
        out.put_slice(header.key.as_bytes());
        put_nullable(header.value.as_ref(), out);
    }
}

/// Bytes that [`encode_record`] appends.
pub(crate) fn encoded_bytes(record: &Record, timestamp_delta: i64, offset_delta: i32) -> usize {
    let body = body_bytes(record, timestamp_delta, offset_delta);
    varint_bytes(body as i64) + body
}

fn body_bytes(record: &Record, timestamp_delta: i64, offset_delta: i32) -> usize {
    let headers = record.headers.iter().map(|header| {
        varint_bytes(header.key.len() as i64) + header.key.len() + nullable_bytes(header.value.as_ref())
    });
    1 + varint_bytes(timestamp_delta)
        + varint_bytes(offset_delta.into())
        + nullable_bytes(record.key.as_ref())
        + nullable_bytes(record.value.as_ref())
        + varint_bytes(record.headers.len() as i64)
        + headers.sum::<usize>()
}

fn nullable_bytes(bytes: Option<&Bytes>) -> usize {
    bytes.map_or(varint_bytes(-1), |bytes| varint_bytes(bytes.len() as i64) + bytes.len())
}

fn put_nullable(bytes: Option<&Bytes>, out: &mut BytesMut) {
    match bytes {
        None => put_varint(-1, out),
        Some(bytes) => {
            put_varint(bytes.len() as i64, out);
            out.put_slice(bytes);
        }
    }
}
