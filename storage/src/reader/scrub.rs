//! The scrub: reading what nobody reads, to find rot while other replicas still have what it destroys.
//!
//! Invariants: only sealed segments whose successor is synced are read, from the file and never from memory. A step
//! takes memory for a few frames. What leaves the log under a scrub is passed over; only what the log still stands on
//! can be damaged. What the disk cannot read twice in a row is damaged, if it is there at all. A broken footer is no damage: it is derived, and nothing is lost with it.

use super::{LogReader, ReadError, Shared, View};
use crate::checkpoint::Checkpoint;
use crate::frame::{FrameType, Nonce, chain_after};
use crate::group::segment_path;
use crate::index::Segment;
use crate::io::{DiskFile, OpenMode};
use crate::log::Damage;
use crate::scan::{Cursor, ScanError};
use crate::segment::{SegmentHeader, SegmentHeaderError};
use lockstep_planted::{self as planted, Bug};
use std::io;
use std::sync::Arc;

/// How far a scrub has come. The default begins at the oldest segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubCursor {
    segment: u64,
    /// The use of the file that `position` is in.
    nonce: Nonce,
    /// Where the next frame stands, in bytes; 0 to begin with the header.
    position: u64,
    /// The entry before it, and the chain value through that.
    index: u64,
    chain: u64,
}

/// What one step of a scrub did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrubbed {
    /// Where to go on; `None` when all that is sealed was read.
    pub next: Option<ScrubCursor>,
    /// Bytes that were read from files and verified.
    pub verified_bytes: u64,
}

impl LogReader {
    /// Verifies sealed segments from `cursor` on, about `max_bytes` and at least one frame: headers, frames, the
    /// chain, and that each segment reaches its successor. Blocks; from any thread, while the log runs.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] for rot, [`ReadError::Io`] where the disk does not answer, [`ReadError::UnknownEntry`].
    pub fn scrub(&self, cursor: ScrubCursor, max_bytes: u64) -> Result<Scrubbed, ReadError> {
        let (mut cursor, mut verified_bytes) = (cursor, 0);
        while verified_bytes < max_bytes.max(1) {
            let Some(mut part) = Part::choose(&self.shared, cursor) else {
                return Ok(Scrubbed { next: None, verified_bytes });
            };
            match part.verify_twice(max_bytes.saturating_sub(verified_bytes)) {
                Ok(next) => cursor = next,
                Err(error) if part.left_the_log() => drop(error),
                Err(ReadError::Damaged(_)) if planted::is_active(Bug::IgnoreScrub) => {
                    cursor = ScrubCursor { segment: part.segment.number + 1, ..ScrubCursor::default() };
                }
                Err(error) => return Err(error),
            }
            verified_bytes += part.verified_bytes;
        }
        Ok(Scrubbed { next: Some(cursor), verified_bytes })
    }
}

/// The segment a scrub reads next.
struct Part<'a> {
    shared: &'a Shared,
    segment: Segment,
    successor: Arc<Checkpoint>,
    truncations: u64,
    cursor: ScrubCursor,
    verified_bytes: u64,
}

impl<'a> Part<'a> {
    /// The segment at `cursor`, or the oldest one behind it; `None` behind the last that is sealed and synced.
    fn choose(shared: &'a Shared, cursor: ScrubCursor) -> Option<Self> {
        let view = shared.view();
        let (segment, next) = view.index.sealed().find(|(segment, _)| segment.number >= cursor.segment)?;
        let (segment, successor) = (segment.clone(), next.checkpoint.clone());
        if successor.index > view.synced_index {
            return None;
        }
        // A truncation may have shortened it, or put another in its place.
        let same = (segment.number, segment.nonce) == (cursor.segment, cursor.nonce)
            && cursor.index <= successor.index
            && cursor.position <= segment.end;
        let start = ScrubCursor { segment: segment.number, nonce: segment.nonce, ..ScrubCursor::default() };
        let cursor = if same { cursor } else { start };
        Some(Self { shared, segment, successor, truncations: view.truncations, cursor, verified_bytes: 0 })
    }

    /// Whether what was read is no part of the log any more.
    fn left_the_log(&self) -> bool {
        let view: &View = &self.shared.view();
        let now = view.index.segment(self.segment.number);
        view.truncations != self.truncations || now.is_none_or(|now| now.nonce != self.segment.nonce)
    }

    /// The same as [`Self::verify`], and once more where something could not be read.
    fn verify_twice(&mut self, max_bytes: u64) -> Result<ScrubCursor, ReadError> {
        let verified = self.verify(max_bytes);
        let Err(ReadError::Io { .. }) = verified else { return verified };
        match self.verify(max_bytes) {
            Err(ReadError::Io { .. }) if self.is_there() => {
                Err(self.damaged(self.cursor.position, "it cannot be read"))
            }
            again => again,
        }
    }

    fn is_there(&self) -> bool {
        self.shared.disk.open(&self.path(), OpenMode::Read).and_then(|file| file.len()).is_ok()
    }

    /// Reads on for about so many bytes, or to the segment's end. Returns where to go on.
    fn verify(&mut self, max_bytes: u64) -> Result<ScrubCursor, ReadError> {
        let file = match self.shared.disk.open(&self.path(), OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.damaged(0, "its file is missing"));
            }
            Err(error) => return Err(ReadError::Io { file: self.path(), error }),
        };
        if self.cursor.position == 0 {
            self.verify_header(&*file)?;
        }
        let Segment { nonce, end, .. } = self.segment;
        let wanted = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        let mut frames = Cursor::new(file, nonce, self.cursor.position, end).wanting(wanted);
        while self.cursor.index < self.successor.index {
            if self.verified_bytes >= max_bytes {
                return Ok(self.cursor);
            }
            self.verify_frame(&mut frames)?;
        }
        if self.cursor.chain != self.successor.chain {
            return Err(
                self.damaged(self.cursor.position, "its entries do not reach the next segment's checkpoint")
            );
        }
        Ok(ScrubCursor { segment: self.segment.number + 1, ..ScrubCursor::default() })
    }

    fn verify_header(&mut self, file: &dyn DiskFile) -> Result<(), ReadError> {
        let header = match SegmentHeader::read(file) {
            Ok(header) => header,
            Err(SegmentHeaderError::Io(error)) => return Err(ReadError::Io { file: self.path(), error }),
            Err(SegmentHeaderError::Bad(why)) => return Err(self.damaged(0, why)),
            Err(SegmentHeaderError::Version(_)) => {
                return Err(self.damaged(0, "its header has another version"));
            }
        };
        let Segment { number, nonce, checkpoint, .. } = &self.segment;
        if (header.number, &header.nonce, &header.checkpoint) != (*number, nonce, &**checkpoint) {
            return Err(self.damaged(0, "its header is not the one the log was opened with"));
        }
        self.verified_bytes += header.used_bytes();
        self.cursor.position = header.header_bytes();
        (self.cursor.index, self.cursor.chain) = (checkpoint.index, checkpoint.chain);
        Ok(())
    }

    fn verify_frame(&mut self, frames: &mut Cursor) -> Result<(), ReadError> {
        let position = frames.position();
        let frame = match frames.next() {
            Ok(Some(frame)) => frame,
            Ok(None) => return Err(self.damaged(position, "the file ends too early")),
            Err(ScanError::Bad { position, why }) => return Err(self.damaged(position, why)),
            Err(ScanError::Unknown { position, error }) => {
                return Err(ReadError::UnknownEntry { file: self.path(), position, error });
            }
            Err(ScanError::Io(error)) => return Err(ReadError::Io { file: self.path(), error }),
        };
        let ScrubCursor { index, chain, .. } = self.cursor;
        let continues = match frame.header.frame_type {
            FrameType::Entry => {
                (frame.header.index, frame.header.chain) == (index + 1, chain_after(chain, &frame.entry))
            }
            FrameType::Seal | FrameType::Footer => (frame.header.index, frame.header.chain) == (index, chain),
        };
        if !continues {
            return Err(self.damaged(position, "a frame does not continue the log"));
        }
        self.verified_bytes += frame.header.frame_bytes();
        self.cursor.position = frame.end();
        (self.cursor.index, self.cursor.chain) = (frame.header.index, frame.header.chain);
        Ok(())
    }

    fn damaged(&self, position: u64, why: &'static str) -> ReadError {
        let (file, index, synced_index) = (self.path(), self.cursor.index + 1, self.successor.index);
        ReadError::Damaged(Damage { file, position, index, synced_index, why })
    }

    fn path(&self) -> String {
        segment_path(&self.shared.directory, self.segment.number)
    }
}
