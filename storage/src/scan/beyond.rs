//! Searching what lies behind a bad frame, or behind the last good one.
//!
//! Invariants: a header counts only if its checksum passes, wherever it stands. The search costs one pass over the
//! bytes: what is judged is judged in memory, and only a plausible header whose checksum covers more than was read
//! costs another read. So the tail of a prepared or recycled file, at most a whole segment, is searched at every
//! start: behind a seal too, a later group may have been synced and its first frame be damaged.

use crate::frame::{FRAME_HEADER_BYTES, FrameHeader, FrameType, MAGIC, Place};
use crate::io::DiskFile;
use crate::segment::SegmentHeader;
use std::io;
use std::ops::ControlFlow;

/// Bytes read at a time.
const CHUNK_BYTES: u64 = 1 << 20;
/// Bytes looked at together for the first byte of a magic.
const BLOCK_BYTES: usize = 64;
/// Where in a header its magic stands.
const MAGIC_AT: usize = 4;

/// Searches a segment for frame headers at any position in `from..end`: they still prove what had been synced.
/// Returns the highest `synced_index` among them, `None` if there are none.
pub(crate) fn highest_synced_beyond(
    file: &dyn DiskFile,
    segment: &SegmentHeader,
    from: u64,
    end: u64,
) -> io::Result<Option<u64>> {
    let mut highest = None;
    search(file, segment, from, end, &mut |_, header| {
        highest = highest.max(Some(header.synced_index));
        ControlFlow::Continue(())
    })?;
    Ok(highest)
}

/// The first whole frame header at any position in `from..end` that `accept` takes, and where it stands.
pub(crate) fn next_header(
    file: &dyn DiskFile,
    segment: &SegmentHeader,
    from: u64,
    end: u64,
    accept: impl Fn(&FrameHeader) -> bool,
) -> io::Result<Option<(u64, FrameHeader)>> {
    let mut found = None;
    search(file, segment, from, end, &mut |position, header| {
        if !accept(header) {
            return ControlFlow::Continue(());
        }
        found = Some((position, *header));
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// Shows `visit` each whole frame header in `from..end`, in order, until it has enough.
fn search(
    file: &dyn DiskFile,
    segment: &SegmentHeader,
    from: u64,
    end: u64,
    visit: &mut dyn FnMut(u64, &FrameHeader) -> ControlFlow<()>,
) -> io::Result<()> {
    let mut start = from;
    while start + (FRAME_HEADER_BYTES as u64) <= end {
        let length = (end - start).min(CHUNK_BYTES);
        let bytes = file.read_at(length as usize, start)?;
        let chunk = Chunk { file, segment, start, bytes: &bytes, end };
        for at in chunk.candidates() {
            if let Some(header) = chunk.header(at)?
                && visit(start + at as u64, &header).is_break()
            {
                return Ok(());
            }
        }
        if (bytes.len() as u64) < length || start + length == end {
            break;
        }
        // A header that begins in the last bytes of a chunk is whole in the next one.
        start += length - (FRAME_HEADER_BYTES as u64 - 1);
    }
    Ok(())
}

/// Some bytes of a segment, in memory.
struct Chunk<'a> {
    file: &'a dyn DiskFile,
    segment: &'a SegmentHeader,
    start: u64,
    bytes: &'a [u8],
    end: u64,
}

impl Chunk<'_> {
    /// Where headers may begin, by their magic.
    fn candidates(&self) -> impl Iterator<Item = usize> {
        let magic = MAGIC.to_le_bytes();
        let with_first = self.bytes.chunks(BLOCK_BYTES).enumerate().filter(move |(_, block)| {
            // Without an early exit, so that it compiles to a few wide instructions.
            block.iter().fold(false, |found, byte| found | (*byte == magic[0]))
        });
        let places = with_first.flat_map(|(n, block)| n * BLOCK_BYTES..n * BLOCK_BYTES + block.len());
        places
            .filter(move |at| self.bytes[*at..].starts_with(&magic))
            .filter_map(|at| at.checked_sub(MAGIC_AT))
    }

    /// The header at `at`, if it is a whole one that can stand there.
    fn header(&self, at: usize) -> io::Result<Option<FrameHeader>> {
        let position = self.start + at as u64;
        let header = self.bytes.get(at..).and_then(|rest| rest.split_first_chunk::<FRAME_HEADER_BYTES>());
        let Some((bytes, behind)) = header else { return Ok(None) };
        let Some(header) = FrameHeader::decode(bytes).filter(|header| self.is_plausible(header, position))
        else {
            return Ok(None);
        };
        let place = Place { nonce: self.segment.nonce, position };
        let passes = match behind.get(..header.covered_bytes()) {
            Some(covered) => FrameHeader::passes(bytes, place, covered),
            None => {
                let covered =
                    self.file.read_at(header.covered_bytes(), position + FRAME_HEADER_BYTES as u64)?;
                FrameHeader::passes(bytes, place, &covered)
            }
        };
        Ok(passes.then_some(header))
    }

    /// Whether a frame with these numbers can stand at `position` of this segment.
    fn is_plausible(&self, header: &FrameHeader, position: u64) -> bool {
        let fits = header.frame_bytes() <= self.end - position;
        let frames_before = (position - self.segment.header_bytes()) / FRAME_HEADER_BYTES as u64;
        let entries = header.index.checked_sub(self.segment.checkpoint.index);
        let claims = match header.frame_type {
            FrameType::Entry => header.synced_index < header.index,
            FrameType::Seal => header.synced_index == header.index,
            FrameType::Footer => header.synced_index <= header.index,
        };
        fits && claims && entries.is_some_and(|entries| entries <= frames_before + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::Checkpoint;
    use crate::entry::EntryKind;
    use crate::frame::{Nonce, assemble};
    use crate::io::{Disk, FakeDisk, OpenMode};
    use bytes::{Bytes, BytesMut};
    use std::sync::Arc;

    const FILE_BYTES: u64 = 3 << 20;
    const NONCE: Nonce = [7; 16];

    fn segment() -> SegmentHeader {
        let checkpoint = Checkpoint { index: 1000, ..Checkpoint::default() };
        let (shard, number, predecessor_bytes) = (1, 1, 0);
        SegmentHeader {
            restart: false,
            repaired: false,
            nonce: NONCE,
            shard,
            number,
            predecessor_bytes,
            checkpoint,
        }
    }

    /// A frame without envelope that says 1000 was synced.
    fn frame(nonce: Nonce, position: u64, body_bytes: usize) -> Bytes {
        let header = FrameHeader {
            frame_type: FrameType::Entry,
            kind: EntryKind::Normal,
            body_length: body_bytes as u32,
            envelope_length: 0,
            term: 1,
            index: 1001,
            synced_index: 1000,
            chain: 5,
        };
        assemble(header, Place { nonce, position }, &vec![0xEE; body_bytes])
    }

    /// A file full of frames of another life, but for `own`, at its position.
    fn file(own: Option<(u64, usize)>) -> (Arc<FakeDisk>, Arc<dyn DiskFile>) {
        let disk = FakeDisk::new();
        let file = disk.open("f", OpenMode::CreateNew).unwrap();
        let mut bytes = BytesMut::new();
        while (bytes.len() as u64) < FILE_BYTES {
            let position = bytes.len() as u64;
            bytes.extend_from_slice(&frame([8; 16], position, 100));
        }
        file.write_vectored_at(&[bytes.freeze().slice(..FILE_BYTES as usize)], 0).unwrap();
        if let Some((position, body_bytes)) = own {
            file.write_vectored_at(&[frame(NONCE, position, body_bytes)], position).unwrap();
        }
        (disk, file)
    }

    #[test]
    fn a_header_is_found_at_any_place_across_the_chunks_too() {
        let edge = 4096 + CHUNK_BYTES;
        let places = (edge - 200..edge + 60).step_by(13).chain([4096, 5000, FILE_BYTES - 248]);
        for (position, body_bytes) in places.map(|place| (place, 200)).chain([(edge - 5000, 1 << 20)]) {
            let (_, file) = file(Some((position, body_bytes)));
            let found = highest_synced_beyond(&*file, &segment(), 4096, FILE_BYTES).unwrap();
            assert_eq!(found, Some(1000), "at {position}");
        }
    }

    #[test]
    fn a_recycled_file_full_of_former_frames_is_searched_with_few_reads() {
        let (disk, file) = file(None);
        let before = disk.counters().reads;
        assert_eq!(highest_synced_beyond(&*file, &segment(), 4096, FILE_BYTES).unwrap(), None);
        // One for each chunk, and for each a last frame whose body reaches into the next.
        assert!(disk.counters().reads - before <= 2 * FILE_BYTES.div_ceil(CHUNK_BYTES));
    }
}
