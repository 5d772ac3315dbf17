//! Reading frames off a file, one after the other, each verified.
//!
//! Invariants: a length is compared with the bytes that remain before anything is allocated for it, and believed
//! only after the header's checksum passed. What [`Cursor::next`] returns has passed every checksum it carries.

mod beyond;

pub(crate) use beyond::{highest_synced_beyond, next_header};

use crate::entry::{Entry, EntryError};
use crate::envelope::Envelope;
use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameType, Nonce, Place};
use crate::index::{Noted, Point, Segment, SegmentIndex};
use crate::io::DiskFile;
use bytes::Bytes;
use lockstep_planted::{self as planted, Bug};
use std::io;
use std::sync::Arc;

/// Bytes fetched at a time while scanning.
pub(crate) const READ_AHEAD_BYTES: usize = 256 << 10;
/// And at least, for a caller that says how many it wants: less is not cheaper.
const READ_AHEAD_MIN_BYTES: usize = 4 << 10;
/// And at most, for one that does: a message's worth, and what an index's point may lie before it.
const READ_AHEAD_MAX_BYTES: usize = (1 << 20) + (128 << 10);

/// Who reads half a megabyte or more reads on: so many bytes behind it are announced to the disk, which fetches them while these are
/// on their way.
const ANNOUNCED_BYTES: usize = 3 << 20;
/// See [`ANNOUNCED_BYTES`].
const READS_ON_BYTES: usize = 512 << 10;

/// One verified frame.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) position: u64,
    pub(crate) header: FrameHeader,
    pub(crate) entry: Entry,
    /// The decoded envelope of an entry that has one.
    pub(crate) envelope: Option<Envelope>,
}

impl Frame {
    pub(crate) fn end(&self) -> u64 {
        self.position + self.header.frame_bytes()
    }

    /// What an index notes of it, if it holds an entry; `last_lsn_before` is the LSN it comes after.
    pub(crate) fn noted(&self, last_lsn_before: u64) -> Noted {
        let (index, position) = (self.entry.index, self.position);
        let point = Point { first_lsn: last_lsn_before + 1, index, position, max_before_ms: i64::MIN };
        let records = self.envelope.filter(|envelope| envelope.record_count > 0);
        Noted {
            point,
            term: self.entry.term,
            max_timestamp_ms: records.map(|envelope| envelope.max_timestamp_ms),
        }
    }

    pub(crate) fn record_count(&self) -> u64 {
        self.envelope.map_or(0, |envelope| u64::from(envelope.record_count))
    }
}

/// Why a cursor has no next frame.
#[derive(Debug)]
pub(crate) enum ScanError {
    Io(io::Error),
    /// The bytes at `position` are no frame of this segment.
    Bad {
        position: u64,
        why: &'static str,
    },
    /// The header at `position` passes its checksum, and what it describes is not of this format: another version
    /// wrote it, so it is neither damage nor a tear.
    Unknown {
        position: u64,
        error: EntryError,
    },
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Walks the frames of one segment from a position to its end.
pub(crate) struct Cursor {
    file: Arc<dyn DiskFile>,
    nonce: Nonce,
    position: u64,
    end: u64,
    read_ahead: usize,
    buffer: Bytes,
    buffer_position: u64,
}

impl Cursor {
    /// From the frame at `position`; `end` is where the last one ends, or may.
    pub(crate) fn new(file: Arc<dyn DiskFile>, nonce: Nonce, position: u64, end: u64) -> Self {
        let (read_ahead, buffer) = (READ_AHEAD_BYTES, Bytes::new());
        Self { file, nonce, position, end, read_ahead, buffer, buffer_position: position }
    }

    /// The same cursor, for a caller that wants about so many bytes.
    pub(crate) fn wanting(self, bytes: usize) -> Self {
        Self { read_ahead: bytes.clamp(READ_AHEAD_MIN_BYTES, READ_AHEAD_MAX_BYTES), ..self }
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next frame, `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, ScanError> {
        if self.position >= self.end {
            return Ok(None);
        }
        let header = self.header()?;
        let whole = self.fetch(header.frame_bytes() as usize)?;
        let envelope_end = FRAME_HEADER_BYTES + usize::from(header.envelope_length);
        let entry = Entry {
            index: header.index,
            term: header.term,
            kind: header.kind,
            envelope: whole.slice(FRAME_HEADER_BYTES..envelope_end),
            body: whole.slice(envelope_end..),
        };
        let envelope = match header.frame_type {
            FrameType::Entry if planted::is_active(Bug::SkipBodyChecksum) => {
                entry.check_shape().map_err(|error| self.misfit(error))?
            }
            FrameType::Entry => entry.verify().map_err(|error| self.misfit(error))?,
            FrameType::Seal | FrameType::Footer => None,
        };
        let frame = Frame { position: self.position, header, entry, envelope };
        self.position = frame.end();
        Ok(Some(frame))
    }

    /// Whether [`Cursor::next`] answers without going to the disk.
    pub(crate) fn is_next_at_hand(&self) -> bool {
        let at = (self.position - self.buffer_position) as usize;
        let buffered = self.buffer.get(at..).unwrap_or_default();
        let header = buffered.first_chunk().and_then(FrameHeader::decode);
        self.position >= self.end
            || header.is_some_and(|header| header.frame_bytes() <= buffered.len() as u64)
    }

    /// The header at the cursor, its checksum passed and its length within the file.
    pub(crate) fn header(&mut self) -> Result<FrameHeader, ScanError> {
        let bytes = self.fetch(FRAME_HEADER_BYTES)?;
        let bytes: &[u8; FRAME_HEADER_BYTES] =
            bytes[..].try_into().map_err(|_| self.bad("the file ends inside a frame's header"))?;
        let header = FrameHeader::decode(bytes).ok_or_else(|| self.bad("no frame header"))?;
        if header.frame_bytes() > self.end - self.position {
            return Err(self.bad("the frame is longer than what remains"));
        }
        let covered = self.fetch(FRAME_HEADER_BYTES + header.covered_bytes())?;
        let place = Place { nonce: self.nonce, position: self.position };
        if !FrameHeader::passes(bytes, place, &covered[FRAME_HEADER_BYTES..]) {
            return Err(self.bad("the header's checksum does not match"));
        }
        Ok(header)
    }

    /// `length` bytes from the cursor on, read ahead into the buffer.
    fn fetch(&mut self, length: usize) -> Result<Bytes, ScanError> {
        let remaining = usize::try_from(self.end - self.position).unwrap_or(usize::MAX);
        if length > remaining {
            return Err(self.bad("the file ends inside a frame"));
        }
        let at = (self.position - self.buffer_position) as usize;
        if at + length > self.buffer.len() {
            let ahead = length.max(self.read_ahead).min(remaining);
            if self.read_ahead >= READS_ON_BYTES {
                let behind = self.position + ahead as u64;
                let announced = self.end.saturating_sub(behind).min(ANNOUNCED_BYTES as u64);
                self.file.will_read(announced as usize, behind);
            }
            self.buffer = match self.file.read_at(ahead, self.position) {
                // What cannot be read may be of no concern yet.
                Err(_) if ahead > length => {
                    self.read_ahead = READ_AHEAD_MIN_BYTES;
                    self.file.read_at(length, self.position)?
                }
                read => read?,
            };
            self.buffer_position = self.position;
            if self.buffer.len() < length {
                return Err(self.bad("the file ends inside a frame"));
            }
            return Ok(self.buffer.slice(..length));
        }
        Ok(self.buffer.slice(at..at + length))
    }

    /// A header's checksum covers the envelope, so only the body can have been torn.
    fn misfit(&self, error: EntryError) -> ScanError {
        match error {
            EntryError::BodyChecksum { .. } => self.bad("the body's checksum does not match"),
            error => ScanError::Unknown { position: self.position, error },
        }
    }

    fn bad(&self, why: &'static str) -> ScanError {
        ScanError::Bad { position: self.position, why }
    }
}

/// The index of a sealed segment through entry `last_index`: from its footer, or by scanning it if that one is damaged
/// or cannot be read.
pub(crate) fn load_index(
    file: &Arc<dyn DiskFile>,
    segment: &Segment,
    last_index: u64,
    interval_bytes: u64,
) -> Result<SegmentIndex, ScanError> {
    match read_footer(file, segment) {
        Ok(index) => Ok(index),
        Err(ScanError::Bad { .. } | ScanError::Io(_)) => {
            rebuild_index(file, segment, last_index, interval_bytes)
        }
        Err(error) => Err(error),
    }
}

fn read_footer(file: &Arc<dyn DiskFile>, segment: &Segment) -> Result<SegmentIndex, ScanError> {
    let bad = ScanError::Bad { position: segment.end, why: "no footer" };
    let trailer = file.read_at(8, segment.end.saturating_sub(8))?;
    let Ok(trailer) = <[u8; 8]>::try_from(&trailer[..]) else { return Err(bad) };
    let position = u64::from_le_bytes(trailer);
    if position < segment.header_bytes || position >= segment.end {
        return Err(bad);
    }
    let frame = Cursor::new(file.clone(), segment.nonce, position, segment.end).next()?;
    let footer =
        frame.filter(|frame| frame.header.frame_type == FrameType::Footer && frame.end() == segment.end);
    footer.and_then(|frame| SegmentIndex::decode(&frame.entry.body)).ok_or(bad)
}

fn rebuild_index(
    file: &Arc<dyn DiskFile>,
    segment: &Segment,
    last_index: u64,
    interval_bytes: u64,
) -> Result<SegmentIndex, ScanError> {
    let mut index = SegmentIndex::default();
    let mut last_lsn = segment.checkpoint.last_lsn;
    let mut cursor = Cursor::new(file.clone(), segment.nonce, segment.header_bytes, segment.end);
    let mut through = segment.checkpoint.index;
    while through < last_index {
        match cursor.next() {
            Ok(Some(frame)) if frame.header.frame_type == FrameType::Entry => {
                index.note(&frame.noted(last_lsn), interval_bytes);
                last_lsn += frame.record_count();
                through = frame.header.index;
            }
            Ok(Some(_)) => {}
            // The footer was bad already; that the frames reach it is for the caller's chain to judge.
            Ok(None) | Err(ScanError::Bad { .. }) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(index)
}
