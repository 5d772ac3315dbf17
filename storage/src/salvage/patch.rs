//! Writing a damaged segment anew, with entries from a peer in its holes.

#![allow(clippy::todo, reason = "signatures first: the bodies follow")]

use super::survey::Survey;
use crate::checkpoint::Checkpoint;
use crate::entry::{Entry, EntryError};
use crate::frame::Nonce;
use std::io;

/// Why a segment was not patched. Its file is as it was.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The survey knows no hole there that could be closed.
    #[error(
        "segment {segment} has no hole that something intact closes: cut the log there, or survey it again"
    )]
    NotClosed {
        /// The segment asked for.
        segment: u64,
    },
    /// The segment's own checkpoint is lost.
    #[error("segment {segment} lost its header: hand in the checkpoint as of entry {index:?}")]
    CheckpointWanted {
        /// The segment.
        segment: u64,
        /// The entry it must stand at; `None` if any a peer has will do.
        index: Option<u64>,
    },
    /// It is not the next entry missing.
    #[error("entry {found} does not fit: entry {expected:?} is missing next")]
    Index {
        /// The entry that is missing next; `None` if none is.
        expected: Option<u64>,
        /// The entry handed in.
        found: u64,
    },
    /// The entry does not carry its own checksums.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The chain over what was filled in does not lead to what is intact behind it.
    #[error("the entries through {index} are not those that stood here: fetch them from another replica")]
    ChainMismatch {
        /// The last entry of the hole.
        index: u64,
    },
    /// Not all holes of the segment were filled.
    #[error("entry {index} is still missing: fetch it before the patch is finished")]
    Incomplete {
        /// The next entry missing.
        index: u64,
    },
    /// The disk refused.
    #[error("patching {file}: {error}; check the disk's space and health, then begin the patch again")]
    Io {
        /// The segment.
        file: String,
        /// What the disk said.
        error: io::Error,
    },
}

/// A segment being written anew, beside the damaged one. It takes the entries that are missing in order, a few at a
/// time, and copies what is intact; [`finish`](Self::finish) puts it in place. Any error ends it: nothing has changed
/// then, and a new one can begin.
pub struct Patch {
    missing: Option<(u64, u64)>,
}

impl Patch {
    /// Begins to patch `segment`. `checkpoint` is needed where the segment's own is lost: as of the entry before the
    /// hole, or any a peer has where that is the log's oldest segment. `nonce` must be fresh and random.
    ///
    /// # Errors
    /// [`PatchError`]
    pub fn begin(
        survey: &Survey,
        segment: u64,
        checkpoint: Option<Checkpoint>,
        nonce: Nonce,
    ) -> Result<Self, PatchError> {
        let _ = (survey, segment, checkpoint, nonce);
        todo!("the writer")
    }

    /// The entries missing next: from the first through the last of a hole. `None` when all are there.
    pub fn missing(&self) -> Option<(u64, u64)> {
        self.missing
    }

    /// Takes entries that are missing, the next one first.
    ///
    /// # Errors
    /// [`PatchError`]
    pub fn push(self, entries: &[Entry]) -> Result<Self, PatchError> {
        let _ = entries;
        todo!("the writer")
    }

    /// Puts the whole segment in the place of the damaged one; durable when it returns.
    ///
    /// # Errors
    /// [`PatchError`]; after [`PatchError::Io`] the old file stands, or the new one.
    pub fn finish(self) -> Result<(), PatchError> {
        todo!("the writer")
    }
}

/// Patches `segment` with all the entries that are missing in it, in order.
///
/// # Errors
/// [`PatchError`]
pub fn patch(
    survey: &Survey,
    segment: u64,
    checkpoint: Option<Checkpoint>,
    entries: &[Entry],
    nonce: Nonce,
) -> Result<(), PatchError> {
    Patch::begin(survey, segment, checkpoint, nonce)?.push(entries)?.finish()
}
