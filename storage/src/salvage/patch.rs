//! Writing a damaged segment anew, with entries from a peer in its holes.
//!
//! Invariant: an entry is taken only where one is missing, and the whole is put in place only if its chain reaches
//! from the segment's checkpoint through all that is intact, to the successor's. So it is what once stood there, no
//! matter whom the entries came from.

use super::hole::{ChainPoint, Hole};
use super::pieces::{Piece, Run};
use super::rewrite::Rewrite;
use super::survey::{Content, Survey, Surveyed};
use crate::checkpoint::{Checkpoint, MAX_CHECKPOINT_BYTES};
use crate::entry::{Entry, EntryError};
use crate::envelope::Envelope;
use crate::frame::{FrameType, Nonce};
use crate::io::DiskFile;
use crate::log::{CheckpointTooLong, Tip};
use crate::scan::{Cursor, ScanError};
use crate::segment::SegmentHeader;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

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
    #[error("segment {segment} lost its header: hand in the checkpoint as of {}", at(*.index))]
    CheckpointWanted {
        /// The segment.
        segment: u64,
        /// The entry it must stand at; `None` if any that a peer has before the end of the hole will do.
        index: Option<u64>,
    },
    /// The checkpoint handed in does not fit the format.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointTooLong),
    /// Nothing, or another entry, is missing next.
    #[error("entry {found} does not fit, {} is missing next: hand in the entries that are missing, in order", at(*.expected))]
    Index {
        /// The entry that is missing next; `None` if none is.
        expected: Option<u64>,
        /// The entry handed in.
        found: u64,
    },
    /// The entry does not carry its own checksums.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// What was filled in does not lead to what is intact behind it.
    #[error("the entries through {index} are not those that stood here: fetch them from another replica")]
    ChainMismatch {
        /// The last entry looked at.
        index: u64,
    },
    /// Not all holes of the segment were filled.
    #[error("entry {index} is still missing: fetch it before the patch is finished")]
    Incomplete {
        /// The next entry missing.
        index: u64,
    },
    /// The disk refused, or what was intact when it was surveyed is not any more.
    #[error("patching {file}: {error}; check the disk's space and health, then survey the log again")]
    Io {
        /// The segment.
        file: String,
        /// What the disk said.
        error: io::Error,
    },
}

fn at(index: Option<u64>) -> String {
    index.map_or_else(|| "no particular entry".to_owned(), |index| format!("entry {index}"))
}

/// A segment being written anew, beside the damaged one. It takes the entries that are missing in order, a few at a
/// time, and copies what is intact; [`finish`](Self::finish) puts it in place. Any error ends it: nothing has changed
/// then, and a new one can begin.
pub struct Patch {
    path: String,
    rewrite: Rewrite,
    /// Where what is intact is copied from.
    source: Option<Source>,
    /// What comes next: a hole stands in front, if anything.
    pieces: VecDeque<Piece>,
    /// What the segment behind it begins with, or the next one whose header tells.
    successor: Option<Tip>,
}

struct Source {
    file: Arc<dyn DiskFile>,
    nonce: Nonce,
    end: u64,
}

impl Patch {
    /// Begins to patch `segment`. `checkpoint` is needed where the segment's own is lost ([`Hole::header_lost`]): as
    /// of the entry before the hole, or, where that is the log's oldest segment, any that a peer has up to the hole's
    /// end: the log then begins anew with that. The one at its end, with which the next segment begins, gives up the
    /// oldest entries: right where every peer has dropped them. `nonce` must be fresh and random.
    ///
    /// # Errors
    /// [`PatchError`]
    pub fn begin(
        survey: &Survey,
        segment: u64,
        checkpoint: Option<Checkpoint>,
        nonce: Nonce,
    ) -> Result<Self, PatchError> {
        let not_closed = PatchError::NotClosed { segment };
        let holes: Vec<&Hole> = survey.holes().iter().filter(|hole| hole.segment == segment).collect();
        let at = survey.segments.iter().position(|surveyed| surveyed.number == segment);
        let Some(at) = at.filter(|_| !holes.is_empty() && holes.iter().all(|hole| hole.is_closed())) else {
            return Err(not_closed);
        };
        let surveyed = &survey.segments[at];
        let failed = |error| PatchError::Io { file: surveyed.path.clone(), error };
        let repaired = at + 1 < survey.segments.len();
        let (header, source, pieces) = match &surveyed.content {
            Content::Found(found) => {
                let file = survey.open(&surveyed.path).map_err(failed)?;
                let source = Source { file, nonce: found.header.nonce, end: found.end };
                let header = SegmentHeader { nonce, repaired, ..found.header.clone() };
                (header, Some(source), found.pieces.pieces.clone().into())
            }
            Content::Lost { .. } => {
                let checkpoint = fitting(holes[0], checkpoint)?;
                let header = SegmentHeader {
                    restart: holes[0].before.is_none(),
                    repaired,
                    nonce,
                    shard: survey.options.shard,
                    number: segment,
                    predecessor_bytes: survey.segments[..at].last().map_or(0, Surveyed::end),
                    checkpoint,
                };
                (header, None, VecDeque::from([Piece::Hole(holes[0].clone())]))
            }
        };
        let interval = survey.options.index_interval_bytes;
        let rewrite =
            Rewrite::begin(survey.disk.clone(), &survey.directory, header, interval).map_err(failed)?;
        let begins = |next: &Surveyed| match &next.content {
            Content::Found(found) => Some(Tip::of(&found.header.checkpoint)),
            Content::Lost { .. } => None,
        };
        let successor = match &surveyed.content {
            Content::Found(_) => survey.segments.get(at + 1).and_then(begins),
            // Of several lost in a row, the first takes the entries of all.
            Content::Lost { .. } => survey.segments[at + 1..].iter().find_map(begins),
        };
        let path = surveyed.path.clone();
        let mut patch = Self { path, rewrite, source, pieces, successor };
        patch.copy()?;
        Ok(patch)
    }

    /// The entries missing next, from the first through the last of a hole; `None` when all are there.
    pub fn missing(&self) -> Option<(u64, u64)> {
        match self.pieces.front() {
            Some(Piece::Hole(hole)) => Some((self.rewrite.tip().index + 1, hole.last_index?)),
            _ => None,
        }
    }

    /// The chain value before the entry missing next: whoever has another one there has other entries.
    pub fn chain(&self) -> u64 {
        self.rewrite.tip().chain
    }

    /// Takes entries that are missing, the next one first.
    ///
    /// # Errors
    /// [`PatchError`]
    pub fn push(mut self, entries: &[Entry]) -> Result<Self, PatchError> {
        for entry in entries {
            let missing = self.missing();
            let expected = missing.map(|(first, _)| first);
            if expected != Some(entry.index) {
                return Err(PatchError::Index { expected, found: entry.index });
            }
            let envelope = entry.verify()?;
            self.append(entry, envelope)?;
            if missing.is_some_and(|(_, last)| last == entry.index) {
                self.copy()?;
            }
        }
        Ok(self)
    }

    /// Puts the whole segment in the place of the damaged one; durable when it returns.
    ///
    /// # Errors
    /// [`PatchError`]; after [`PatchError::Io`] the old file stands, or the new one.
    pub fn finish(self) -> Result<(), PatchError> {
        if let Some((index, _)) = self.missing() {
            return Err(PatchError::Incomplete { index });
        }
        let tip = self.rewrite.tip();
        if self.successor.is_some_and(|successor| successor != tip) {
            return Err(PatchError::ChainMismatch { index: tip.index });
        }
        let Self { path: file, rewrite, .. } = self;
        rewrite.finish().map_err(|error| PatchError::Io { file, error })
    }

    /// Goes over what needs no entries from outside: runs, and holes that are filled.
    fn copy(&mut self) -> Result<(), PatchError> {
        while let Some(piece) = self.pieces.pop_front() {
            match piece {
                Piece::Run(run) => self.copy_run(&run)?,
                Piece::Hole(hole) => {
                    let tip = self.rewrite.tip();
                    if hole.last_index != Some(tip.index) {
                        self.pieces.push_front(Piece::Hole(hole));
                        return Ok(());
                    }
                    if hole.last_chain.is_some_and(|chain| chain != tip.chain) {
                        return Err(PatchError::ChainMismatch { index: tip.index });
                    }
                }
            }
        }
        Ok(())
    }

    fn copy_run(&mut self, run: &Run) -> Result<(), PatchError> {
        let (Some(source), Some((_, position))) = (&self.source, run.points.first()) else { return Ok(()) };
        let mut cursor = Cursor::new(source.file.clone(), source.nonce, *position, source.end);
        while self.rewrite.tip().index < run.last.index {
            let frame = match cursor.next() {
                Ok(Some(frame)) => frame,
                Err(ScanError::Io(error)) => return Err(self.failed(error)),
                Ok(None) | Err(ScanError::Bad { .. } | ScanError::Unknown { .. }) => {
                    let why = "what was intact when it was surveyed is not any more";
                    return Err(self.failed(io::Error::new(io::ErrorKind::InvalidData, why)));
                }
            };
            if frame.header.frame_type != FrameType::Entry {
                continue;
            }
            self.append(&frame.entry, frame.envelope)?;
            if self.rewrite.tip().chain != frame.header.chain {
                return Err(PatchError::ChainMismatch { index: frame.entry.index - 1 });
            }
        }
        Ok(())
    }

    fn append(&mut self, entry: &Entry, envelope: Option<Envelope>) -> Result<(), PatchError> {
        match self.rewrite.append(entry, envelope) {
            Ok(true) => Ok(()),
            Ok(false) => Err(PatchError::ChainMismatch { index: entry.index }),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: io::Error) -> PatchError {
        PatchError::Io { file: self.path.clone(), error }
    }
}

/// The checkpoint for a segment that lost its own, if it can stand there.
fn fitting(hole: &Hole, checkpoint: Option<Checkpoint>) -> Result<Checkpoint, PatchError> {
    let wanted =
        PatchError::CheckpointWanted { segment: hole.segment, index: hole.before.map(|at| at.index) };
    let fits = |checkpoint: &Checkpoint| match hole.before {
        Some(ChainPoint { index, term, chain }) => {
            (checkpoint.index, checkpoint.term, checkpoint.chain) == (index, term, chain)
        }
        None => hole.last_index.is_some_and(|last| checkpoint.index <= last),
    };
    let checkpoint = checkpoint.filter(fits).ok_or(wanted)?;
    let bytes = checkpoint.encoded_bytes();
    if bytes > MAX_CHECKPOINT_BYTES { Err(CheckpointTooLong { bytes }.into()) } else { Ok(checkpoint) }
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
