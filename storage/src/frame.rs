//! A frame: the local header in front of an envelope and a body.
//!
//! ```text
//!  0             4      6      7      8               12            14     16
//!  +-------------+------+------+------+---------------+-------------+------+
//!  | header_crc  |magic | type | kind | body_length   | envelope_len| zero |
//!  +-------------+------+------+------+---------------+-------------+------+
//!  | term                             | index                              |
//!  +----------------------------------+------------------------------------+ 32
//!  | synced_index                     | chain                              |
//!  +----------------------------------+------------------------------------+ 48
//!  | envelope (0 or 48 bytes) | body …                                     |
//!  +--------------------------+--------------------------------------------+
//! ```
//!
//! Invariants:
//! - `header_crc` is a CRC-32C over the segment's nonce, the frame's position in its file, bytes 4..48, the
//!   envelope, and the body's first 21 bytes (the whole body where there is no envelope to hold its checksum).
//!   So a frame of another shard, another place or a former life of the file never passes.
//! - `synced_index` is below `index` in an entry's frame: it says through where this log's own syncs had
//!   returned when the frame was made. In a seal the two are equal.
//! - `chain` is xxh3-64 over (previous chain, term, index, kind, envelope, those same first bytes of the body).
//!   The envelope holds the body's checksum, so equal (index, chain) on two replicas means equal prefixes.

use crate::codec::Fields;
use crate::entry::{Entry, EntryKind, MAX_BODY_BYTES, MAX_SYSTEM_BODY_BYTES};
use crate::envelope::{BODY_PREFIX_BYTES, ENVELOPE_BYTES};
use bytes::Bytes;
use lockstep_planted::{self as planted, Bug};
use xxhash_rust::xxh3::Xxh3;

/// Size of a frame's local header in bytes.
pub const FRAME_HEADER_BYTES: usize = 48;

pub(crate) const MAGIC: u16 = 0x4B4C;
const _: () = assert!(4 + 2 + 1 + 1 + 4 + 2 + 2 + 8 + 8 + 8 + 8 == FRAME_HEADER_BYTES);
const _: () = assert!(MAX_BODY_BYTES <= u32::MAX as usize);

/// The random bytes of one use of a segment file.
pub type Nonce = [u8; 16];

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameType {
    /// One entry.
    Entry,
    /// Everything before it is synced. Written when a log goes idle or stops cleanly; its body is the committed
    /// index (8 bytes).
    Seal,
    /// The sparse index of a segment that is complete; its last frame.
    Footer,
}

/// A frame's local header, without its checksum. See the module for the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// What the frame is for.
    pub frame_type: FrameType,
    /// What Raft does with the entry; [`EntryKind::Normal`] in seal and footer.
    pub kind: EntryKind,
    /// Bytes of body.
    pub body_length: u32,
    /// Bytes of envelope: 0 or 48.
    pub envelope_length: u16,
    /// Term of the entry; in seal and footer that of the last one before.
    pub term: u64,
    /// Raft index of the entry; in seal and footer that of the last one before.
    pub index: u64,
    /// Through where this log's syncs had returned when the frame was made.
    pub synced_index: u64,
    /// Chain value through `index`.
    pub chain: u64,
}

/// What a header's checksum is seeded with: the use of the file, and the place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Nonce of the segment.
    pub nonce: Nonce,
    /// Position of the header in the file, in bytes.
    pub position: u64,
}

impl Place {
    fn checksum(&self, parts: [&[u8]; 3]) -> u32 {
        let nonce = if planted::is_active(Bug::AcceptFormerLife) { [0; 16] } else { self.nonce };
        let seed = crc32c::crc32c_append(crc32c::crc32c(&nonce), &self.position.to_le_bytes());
        parts.iter().fold(seed, |crc, part| crc32c::crc32c_append(crc, part))
    }
}

impl FrameHeader {
    /// Whole length of the frame in bytes.
    pub fn frame_bytes(&self) -> u64 {
        (FRAME_HEADER_BYTES + self.covered_envelope() + self.body_length as usize) as u64
    }

    fn covered_envelope(&self) -> usize {
        usize::from(self.envelope_length)
    }

    /// How many bytes of the body the header's checksum covers.
    pub(crate) fn covered_body(&self) -> usize {
        covered_body(self.covered_envelope(), self.body_length as usize)
    }

    /// How many bytes after the header its checksum covers.
    pub(crate) fn covered_bytes(&self) -> usize {
        self.covered_envelope() + self.covered_body()
    }

    /// The 48 bytes drawn above, for a frame of this envelope and body at `place`.
    pub(crate) fn encode(&self, place: Place, envelope: &[u8], body: &[u8]) -> [u8; FRAME_HEADER_BYTES] {
        debug_assert_eq!((self.covered_envelope(), self.body_length as usize), (envelope.len(), body.len()));
        let mut out = [0; FRAME_HEADER_BYTES];
        out[4..6].copy_from_slice(&MAGIC.to_le_bytes());
        out[6] = match self.frame_type {
            FrameType::Entry => 1,
            FrameType::Seal => 2,
            FrameType::Footer => 3,
        };
        out[7] = self.kind.to_byte();
        out[8..12].copy_from_slice(&self.body_length.to_le_bytes());
        out[12..14].copy_from_slice(&self.envelope_length.to_le_bytes());
        out[16..24].copy_from_slice(&self.term.to_le_bytes());
        out[24..32].copy_from_slice(&self.index.to_le_bytes());
        out[32..40].copy_from_slice(&self.synced_index.to_le_bytes());
        out[40..48].copy_from_slice(&self.chain.to_le_bytes());
        let crc = place.checksum([&out[4..], envelope, &body[..self.covered_body()]]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads the fields, without the checksum: `None` if no writer of this format could have made them.
    pub(crate) fn decode(bytes: &[u8; FRAME_HEADER_BYTES]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let _header_crc = fields.u32()?;
        if fields.u16()? != MAGIC {
            return None;
        }
        let frame_type = match fields.u8()? {
            1 => FrameType::Entry,
            2 => FrameType::Seal,
            3 => FrameType::Footer,
            _ => return None,
        };
        let kind = EntryKind::from_byte(fields.u8()?)?;
        let (body_length, envelope_length, zero) = (fields.u32()?, fields.u16()?, fields.u16()?);
        let (term, index, synced_index) = (fields.number()?, fields.number()?, fields.number()?);
        let chain = fields.u64()?;
        let body_limit = match (frame_type, usize::from(envelope_length)) {
            (FrameType::Entry, ENVELOPE_BYTES) => MAX_BODY_BYTES,
            (FrameType::Entry, 0) => MAX_SYSTEM_BODY_BYTES,
            (FrameType::Seal, 0) => 8,
            (FrameType::Footer, 0) => MAX_BODY_BYTES,
            _ => return None,
        };
        let numbered = index > 0 || frame_type != FrameType::Entry;
        let possible = zero == 0 && numbered && body_length as usize <= body_limit;
        possible.then_some(Self {
            frame_type,
            kind,
            body_length,
            envelope_length,
            term,
            index,
            synced_index,
            chain,
        })
    }

    /// Whether `bytes` carry the checksum of a header at `place`, `covered` being the
    /// [`covered_bytes`](Self::covered_bytes) behind it.
    pub(crate) fn passes(bytes: &[u8; FRAME_HEADER_BYTES], place: Place, covered: &[u8]) -> bool {
        let [a, b, c, d, ..] = *bytes;
        u32::from_le_bytes([a, b, c, d]) == place.checksum([&bytes[4..], covered, &[]])
    }
}

/// Where an envelope holds the checksum of the rest, the first 21 bytes; else the whole body.
fn covered_body(envelope_length: usize, body_length: usize) -> usize {
    if envelope_length == 0 { body_length } else { body_length.min(BODY_PREFIX_BYTES) }
}

/// The chain value through `entry`, after one whose chain value is `previous`.
pub fn chain_after(previous: u64, entry: &Entry) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&previous.to_le_bytes());
    hash.update(&entry.term.to_le_bytes());
    hash.update(&entry.index.to_le_bytes());
    hash.update(&[entry.kind.to_byte()]);
    hash.update(&entry.envelope);
    hash.update(&entry.body[..covered_body(entry.envelope.len(), entry.body.len())]);
    hash.digest()
}

/// The header bytes of an entry's frame.
pub(crate) fn entry_header(entry: &Entry, place: Place, synced_index: u64, chain: u64) -> Bytes {
    let header = FrameHeader {
        frame_type: FrameType::Entry,
        kind: entry.kind,
        body_length: entry.body.len() as u32,
        envelope_length: entry.envelope.len() as u16,
        term: entry.term,
        index: entry.index,
        synced_index,
        chain,
    };
    Bytes::copy_from_slice(&header.encode(place, &entry.envelope, &entry.body))
}

/// Length of an entry's frame in bytes.
pub(crate) fn entry_frame_bytes(entry: &Entry) -> u64 {
    (FRAME_HEADER_BYTES + entry.payload_bytes()) as u64
}

/// A whole frame without envelope: seal or footer.
pub(crate) fn assemble(header: FrameHeader, place: Place, body: &[u8]) -> Bytes {
    [&header.encode(place, &[], body), body].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Envelope, EnvelopeKind};

    fn sample() -> Entry {
        let body = Bytes::from((0..100).collect::<Vec<u8>>());
        let envelope = Envelope {
            kind: EnvelopeKind::Batch,
            record_count: 3,
            first_lsn: 8,
            leader_time_ms: 1,
            max_timestamp_ms: 2,
            body_crc: Envelope::checksum(&body),
            state_length: 0,
            fence: 0,
        };
        let envelope = Bytes::copy_from_slice(&envelope.encode());
        Entry { index: 5, term: 2, kind: EntryKind::Normal, envelope, body }
    }

    fn passes(bytes: &[u8], place: Place) -> bool {
        let header: &[u8; FRAME_HEADER_BYTES] = bytes[..FRAME_HEADER_BYTES].try_into().unwrap();
        FrameHeader::decode(header).is_some_and(|decoded| {
            let end = FRAME_HEADER_BYTES + decoded.covered_bytes();
            bytes
                .get(FRAME_HEADER_BYTES..end)
                .is_some_and(|covered| FrameHeader::passes(header, place, covered))
        })
    }

    #[test]
    fn every_flipped_bit_another_place_and_another_life_are_seen() {
        let (entry, place) = (sample(), Place { nonce: [4; 16], position: 4096 });
        let header = entry_header(&entry, place, 4, chain_after(7, &entry));
        let mut frame = [&header[..], &entry.envelope, &entry.body].concat();
        assert!(passes(&frame, place));
        assert!(!passes(&frame, Place { position: 4097, ..place }));
        assert!(!passes(&frame, Place { nonce: [5; 16], ..place }));
        for bit in 0..(FRAME_HEADER_BYTES + ENVELOPE_BYTES + BODY_PREFIX_BYTES) * 8 {
            frame[bit / 8] ^= 1 << (bit % 8);
            assert!(!passes(&frame, place), "bit {bit}");
            frame[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn an_index_that_no_entry_has_is_no_header() {
        let place = Place { nonce: [4; 16], position: 4096 };
        for index in [0, u64::MAX] {
            let entry = Entry { index, ..sample() };
            let header = entry_header(&entry, place, 0, 1);
            assert_eq!(FrameHeader::decode(header[..].try_into().unwrap()), None, "index {index}");
        }
    }

    #[test]
    fn the_chain_differs_with_all_that_came_before_and_all_that_is_in_the_entry() {
        let chain = chain_after(7, &sample());
        let mut others = vec![chain_after(8, &sample())];
        others.push(chain_after(7, &Entry { index: 6, ..sample() }));
        others.push(chain_after(7, &Entry { term: 3, ..sample() }));
        others.push(chain_after(7, &Entry { kind: EntryKind::Membership, ..sample() }));
        others.push(chain_after(7, &Entry { envelope: Bytes::new(), ..sample() }));
        others.push(chain_after(7, &Entry { body: sample().body.slice(1..), ..sample() }));
        assert!(others.iter().all(|other| *other != chain));
        assert_eq!(chain, chain_after(7, &sample()));
    }
}
