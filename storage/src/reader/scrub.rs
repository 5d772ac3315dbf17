//! The scrub: reading what nobody reads, to find rot while other replicas still have what it destroys.

#![allow(clippy::todo, reason = "signatures first: the bodies follow")]

use super::{LogReader, ReadError};

/// How far a scrub has come. The default begins at the oldest segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubCursor {
    /// The segment being read; 0 for the oldest.
    segment: u64,
    /// Where in it the next frame stands, in bytes; 0 for its header.
    position: u64,
    /// The entry before that frame.
    index: u64,
    /// Chain value through it.
    chain: u64,
}

/// What one step of a scrub did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrubbed {
    /// Where to go on; `None` when all sealed segments were read.
    pub next: Option<ScrubCursor>,
    /// Bytes that were read from the file and verified.
    pub verified_bytes: u64,
}

impl LogReader {
    /// Verifies the sealed segments from `cursor` on, about `max_bytes` of them: headers, frames, the chain, and that
    /// each reaches its successor. From any thread, while the log runs. Segments dropped meanwhile are passed over.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] for rot; [`ReadError::Io`] if the disk does not answer.
    pub fn scrub(&self, cursor: ScrubCursor, max_bytes: u64) -> Result<Scrubbed, ReadError> {
        let _ = (cursor, max_bytes, &self.shared);
        todo!("the scrub")
    }
}
