//! A segment's header and its file name.
//!
//! ```text
//!  0       4       8         10      12             16                              32
//!  +-------+-------+---------+-------+--------------+-------------------------------+
//!  | crc   | magic | version | flags | header_bytes | nonce                         |
//!  +-------+-------+---------+-------+--------------+-------------------------------+
//!  | shard         | number                 | predecessor_bytes | checkpoint_length | zero u32
//!  +---------------+------------------------+-------------------+-------------------+ 64
//!  | checkpoint … | zeros up to a multiple of 4096 |
//!  +--------------+--------------------------------+ header_bytes: the first frame
//! ```
//!
//! Invariants:
//! - The header is written and synced under a temporary name before the file gets its own, so a file named
//!   `….segment` always had a whole header: a broken one is damage, not a tear.
//! - It is written after its predecessor was synced; so it proves that all through `checkpoint.index` is durable.
//! - Frames never share a 4096-byte page with it.
//! - First index, predecessor's chain and creation time are the checkpoint's `index + 1`, `chain`, `leader_time_ms`.

use crate::checkpoint::{Checkpoint, MAX_CHECKPOINT_BYTES};
use crate::codec::{Fields, NUMBER_MAX, round_up};
use crate::frame::Nonce;
use crate::io::DiskFile;
use bytes::Bytes;
use std::io;

const MAGIC: u32 = u32::from_le_bytes(*b"LKSG");
const VERSION: u16 = 1;
const FLAG_RESTART: u16 = 1;
const FLAG_REPAIRED: u16 = 2;
const FIXED_BYTES: usize = 64;
const PAGE_BYTES: usize = 4096;
const SUFFIX: &str = ".segment";
const _: () = assert!(4 + 4 + 2 + 2 + 4 + 16 + 8 + 8 + 8 + 4 + 4 == FIXED_BYTES);

/// What opens a segment file. See the module for the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Everything before this segment is void: the log began anew with it, by a snapshot or a repair.
    pub restart: bool,
    /// It was complete and was written anew: the length of its own file is final, whatever its successor says.
    pub repaired: bool,
    /// Random bytes of this use of the file.
    pub nonce: Nonce,
    /// The shard the log belongs to.
    pub shard: u64,
    /// Number of the segment in its log: consecutive.
    pub number: u64,
    /// Final length of the segment before it, in bytes; 0 for a first one and after a restart.
    pub predecessor_bytes: u64,
    /// State as of the index before the segment's first.
    pub checkpoint: Checkpoint,
}

/// Why a file does not open with a segment header.
#[derive(Debug, thiserror::Error)]
pub enum SegmentHeaderError {
    /// The disk did not answer.
    #[error("reading a segment header: {0}; check the disk and the directory's permissions")]
    Io(#[from] io::Error),
    /// Not a header of this format.
    #[error("segment header: {0}; keep the file, the broker fetches from its peers what stood in it")]
    Bad(&'static str),
    /// A header of another format version.
    #[error("segment format version {0} is unknown: run the broker version that wrote it")]
    Version(u16),
}

impl SegmentHeader {
    /// Length of the header in bytes, without the zeros behind it.
    pub(crate) fn used_bytes(&self) -> u64 {
        (FIXED_BYTES + self.checkpoint.encoded_bytes()) as u64
    }

    /// Length of the padded header in bytes: where the first frame stands.
    pub fn header_bytes(&self) -> u64 {
        round_up(FIXED_BYTES + self.checkpoint.encoded_bytes(), PAGE_BYTES) as u64
    }

    /// Where this segment ends, given its successor and a way to the length of its own file.
    pub(crate) fn final_bytes<E>(
        &self,
        successor: &SegmentHeader,
        file_bytes: impl FnOnce() -> Result<u64, E>,
    ) -> Result<u64, E> {
        if self.repaired { file_bytes() } else { Ok(successor.predecessor_bytes) }
    }

    /// The bytes drawn above, padding included.
    pub fn encode(&self) -> Bytes {
        let checkpoint = self.checkpoint.encode();
        let used = FIXED_BYTES + checkpoint.len();
        let mut out = vec![0; self.header_bytes() as usize];
        out[4..8].copy_from_slice(&MAGIC.to_le_bytes());
        out[8..10].copy_from_slice(&VERSION.to_le_bytes());
        let flags =
            if self.restart { FLAG_RESTART } else { 0 } | if self.repaired { FLAG_REPAIRED } else { 0 };
        out[10..12].copy_from_slice(&flags.to_le_bytes());
        out[12..16].copy_from_slice(&(self.header_bytes() as u32).to_le_bytes());
        out[16..32].copy_from_slice(&self.nonce);
        out[32..40].copy_from_slice(&self.shard.to_le_bytes());
        out[40..48].copy_from_slice(&self.number.to_le_bytes());
        out[48..56].copy_from_slice(&self.predecessor_bytes.to_le_bytes());
        out[56..60].copy_from_slice(&(checkpoint.len() as u32).to_le_bytes());
        out[FIXED_BYTES..used].copy_from_slice(&checkpoint);
        let crc = crc32c::crc32c(&out[4..used]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out.into()
    }

    /// Reads and checks the header of `file`.
    ///
    /// # Errors
    /// [`SegmentHeaderError`] if the disk fails or the bytes are not a whole header.
    pub fn read(file: &dyn DiskFile) -> Result<Self, SegmentHeaderError> {
        let fixed = file.read_at(FIXED_BYTES, 0)?;
        let fixed: &[u8; FIXED_BYTES] =
            fixed[..].try_into().map_err(|_| SegmentHeaderError::Bad("the file is too short"))?;
        let mut header = Self::decode_fixed(fixed)?;
        let length = Fields::new(&fixed[56..60]).u32().unwrap_or(u32::MAX) as usize;
        if length > MAX_CHECKPOINT_BYTES {
            return Err(SegmentHeaderError::Bad("its checkpoint claims an impossible length"));
        }
        if file.len()?.saturating_sub(FIXED_BYTES as u64) < length as u64 {
            return Err(SegmentHeaderError::Bad("the file ends inside it"));
        }
        let checkpoint = file.read_at(length, FIXED_BYTES as u64)?;
        let crc = crc32c::crc32c_append(crc32c::crc32c(&fixed[4..]), &checkpoint);
        if Fields::new(fixed).u32() != Some(crc) {
            return Err(SegmentHeaderError::Bad("its checksum does not match"));
        }
        // Only now: a broken byte in the version's place is damage, and no other version.
        if header_version(fixed) != VERSION {
            return Err(SegmentHeaderError::Version(header_version(fixed)));
        }
        header.checkpoint = Checkpoint::decode(&checkpoint)
            .ok_or(SegmentHeaderError::Bad("its checkpoint does not decode"))?;
        Ok(header)
    }

    fn decode_fixed(fixed: &[u8; FIXED_BYTES]) -> Result<Self, SegmentHeaderError> {
        const SHORT: SegmentHeaderError = SegmentHeaderError::Bad("the file is too short");
        const IMPOSSIBLE: SegmentHeaderError = SegmentHeaderError::Bad("it gives a number no log can reach");
        let mut fields = Fields::new(&fixed[4..]);
        if fields.u32() != Some(MAGIC) {
            return Err(SegmentHeaderError::Bad("it does not begin with a segment's magic"));
        }
        let _version = fields.u16().ok_or(SHORT)?;
        let flags = fields.u16().ok_or(SHORT)?;
        let _header_bytes = fields.u32().ok_or(SHORT)?;
        Ok(Self {
            restart: flags & FLAG_RESTART != 0,
            repaired: flags & FLAG_REPAIRED != 0,
            nonce: fields.array().ok_or(SHORT)?,
            shard: fields.u64().ok_or(SHORT)?,
            number: fields.number().ok_or(IMPOSSIBLE)?,
            predecessor_bytes: fields.number().ok_or(IMPOSSIBLE)?,
            checkpoint: Checkpoint::default(),
        })
    }
}

/// The version stands where it does, and is checksummed as it is, in every version.
fn header_version(fixed: &[u8; FIXED_BYTES]) -> u16 {
    u16::from_le_bytes([fixed[8], fixed[9]])
}

/// The name of segment `number`: sorted as text, segments stand in order.
pub fn file_name(number: u64) -> String {
    format!("{number:020}{SUFFIX}")
}

/// The number in a segment's file name; `None` for any other file.
pub fn number_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let number = if digits.len() == 20 { digits.parse().ok() } else { None };
    number.filter(|number| *number <= NUMBER_MAX)
}

/// The name a segment has until its header is synced. Recovery removes what it finds under such a name.
pub(crate) fn temporary_name(number: u64) -> String {
    format!("{number:020}{SUFFIX}.new")
}

pub(crate) fn is_temporary(name: &str) -> bool {
    name.ends_with(".segment.new")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::fake::FakeDisk;
    use crate::io::{Disk, OpenMode};

    fn sample() -> SegmentHeader {
        let checkpoint = Checkpoint { index: 5, state: Bytes::from(vec![7; 5000]), ..Checkpoint::default() };
        SegmentHeader {
            restart: true,
            repaired: true,
            nonce: [9; 16],
            shard: 3,
            number: 12,
            predecessor_bytes: 77,
            checkpoint,
        }
    }

    #[test]
    fn a_header_reads_back_and_every_flipped_bit_of_it_is_seen() {
        let disk = FakeDisk::new();
        let file = disk.open("s", OpenMode::CreateNew).unwrap();
        file.write_vectored_at(&[sample().encode()], 0).unwrap();
        assert_eq!(sample().header_bytes(), 8192);
        assert_eq!(SegmentHeader::read(&*file).unwrap(), sample());
        for byte in 0..(FIXED_BYTES + sample().checkpoint.encoded_bytes()) as u64 {
            disk.flip_bit("s", byte, (byte % 8) as u8);
            let broken = SegmentHeader::read(&*file);
            assert!(matches!(broken, Err(SegmentHeaderError::Bad(_))), "byte {byte}: {broken:?}");
            disk.flip_bit("s", byte, (byte % 8) as u8);
        }
    }

    #[test]
    fn names_sort_as_numbers_and_foreign_names_are_not_segments() {
        assert_eq!(number_of(&file_name(42)), Some(42));
        assert!(file_name(9) < file_name(10));
        assert_eq!(number_of("vote"), None);
        assert_eq!(number_of(&file_name(u64::MAX)), None);
        assert_eq!(number_of(&temporary_name(1)), None);
        assert!(is_temporary(&temporary_name(1)));
    }
}
