//! One segment of a damaged log: runs of whole frames, and what is missing between them.
//!
//! Invariants:
//! - A header that passes its checksum was written at that place of this use of the file, so it is believed wherever
//!   it stands: it says how far the log went, and its chain value proves what is filled in before it.
//! - Within a run every frame continues the one before in index, term, LSN and chain.
//! - In the log's last segment nothing is missing above the highest index that some header proves synced: what is
//!   broken there is a tear. Recovery cuts it, and it is no hole.
//! - Frames that contradict one another, though all checksums pass, are no evidence of anything: then the segment is
//!   one hole.

use super::hole::{ChainPoint, Hole};
use super::survey::SurveyError;
use crate::checkpoint::Checkpoint;
use crate::frame::{FrameHeader, FrameType, chain_after};
use crate::io::DiskFile;
use crate::log::Tip;
use crate::scan::{Cursor, Frame, ScanError, highest_synced_beyond, next_header};
use crate::segment::SegmentHeader;
use std::sync::Arc;

/// Entries that can be read, one behind the other.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) first_index: u64,
    pub(super) last: ChainPoint,
    /// Where entries stand, some bytes apart, the first one's place first.
    pub(super) points: Vec<(u64, u64)>,
    /// Behind the last entry's frame.
    pub(super) end: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Piece {
    Run(Run),
    Hole(Hole),
}

/// What of one segment can be read.
#[derive(Clone, Debug)]
pub(super) struct Pieces {
    pub(super) pieces: Vec<Piece>,
    /// The last entry that a whole header speaks of.
    pub(super) last: ChainPoint,
    /// The last LSN before the first hole, and the entry there.
    pub(super) prefix: Tip,
    /// Behind the last whole frame.
    pub(super) end: u64,
    /// The highest index that its headers prove synced.
    pub(super) synced_index: u64,
    /// The highest index that its seals call committed.
    pub(super) commit: u64,
}

/// What stands behind a segment.
#[derive(Clone, Copy, Debug)]
pub(super) enum Successor<'a> {
    /// A segment that begins with this: exactly so far this one must reach.
    Begins(&'a Checkpoint),
    /// One whose header is lost: this segment is complete, and nobody knows where it ended, but that it was not beyond
    /// the next checkpoint that can be read.
    Lost(Option<&'a Checkpoint>),
    /// None: the log ends here.
    Nothing,
}

/// Why a segment's frames are of no use.
pub(super) enum Unusable {
    /// They contradict one another, or the segment behind them.
    Contradiction(&'static str),
    /// They cannot be judged.
    Failed(SurveyError),
}

/// The segment's file as it is scanned.
pub(super) struct Source<'a> {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) path: &'a str,
    pub(super) header: &'a SegmentHeader,
    /// Where its frames end at the latest.
    pub(super) end: u64,
    /// The file is shorter than it was when the segment was complete.
    pub(super) cut_short: bool,
    pub(super) interval_bytes: u64,
}

impl Source<'_> {
    /// Reads all its frames.
    pub(super) fn scan(&self, successor: Successor<'_>) -> Result<Pieces, Unusable> {
        let mut scan = Scan::new(self, successor);
        scan.frames()?;
        scan.finish()
    }

    pub(super) fn cursor(&self, position: u64) -> Cursor {
        Cursor::new(self.file.clone(), self.header.nonce, position, self.end)
    }
}

/// Bytes that are no frame, before it is known what stood there.
#[derive(Clone, Copy)]
struct Gap {
    position: u64,
    why: &'static str,
}

struct Scan<'a> {
    source: &'a Source<'a>,
    successor: Successor<'a>,
    pieces: Vec<Piece>,
    run: Option<Run>,
    gap: Option<Gap>,
    last: ChainPoint,
    /// The last LSN through `last`, unless a hole hides it.
    last_lsn: Option<u64>,
    prefix: Tip,
    end: u64,
    synced_index: u64,
    commit: u64,
    /// A footer was met.
    complete: bool,
}

type Scanned<T> = Result<T, Unusable>;

impl<'a> Scan<'a> {
    fn new(source: &'a Source<'a>, successor: Successor<'a>) -> Self {
        let prefix = Tip::of(&source.header.checkpoint);
        Self {
            source,
            successor,
            pieces: Vec::new(),
            run: None,
            gap: None,
            last: ChainPoint { index: prefix.index, term: prefix.term, chain: prefix.chain },
            last_lsn: Some(prefix.last_lsn),
            prefix,
            end: source.header.header_bytes(),
            synced_index: prefix.index,
            commit: 0,
            complete: false,
        }
    }

    /// Takes whole frames until there are no more, looking for the next one behind each that is broken.
    fn frames(&mut self) -> Scanned<()> {
        let mut cursor = self.source.cursor(self.end);
        while !self.complete {
            match cursor.next() {
                Ok(Some(frame)) => self.take(&frame)?,
                Ok(None) => break,
                Err(ScanError::Bad { position, why }) => match self.beyond(&mut cursor, position, why)? {
                    Some(resume) => cursor = self.source.cursor(resume),
                    None => break,
                },
                Err(ScanError::Unknown { position, error }) => {
                    let (file, what) = (self.source.path.to_owned(), error.to_string());
                    return Err(Unusable::Failed(SurveyError::Unknown { file, position, what }));
                }
                Err(ScanError::Io(error)) => return Err(self.failed(error)),
            }
        }
        Ok(())
    }

    fn failed(&self, error: std::io::Error) -> Unusable {
        Unusable::Failed(SurveyError::Io { path: self.source.path.to_owned(), error })
    }

    /// Notes that no whole frame stands at `position`, and says where to go on, if anywhere.
    fn beyond(&mut self, cursor: &mut Cursor, position: u64, why: &'static str) -> Scanned<Option<u64>> {
        self.end_run();
        self.gap.get_or_insert(Gap { position, why });
        if let Ok(header) = cursor.header()
            && self.may_follow(&header)
        {
            // The header is whole: only the body is broken, and the next frame stands right behind it.
            self.note_synced(&header);
            self.close_gap(ChainPoint { index: header.index, term: header.term, chain: header.chain }, true);
            self.end = position + header.frame_bytes();
            return Ok(Some(self.end));
        }
        let (file, end) = (&*self.source.file, self.source.end);
        let accept = |header: &FrameHeader| self.may_follow(header);
        let found = next_header(file, self.source.header, position + 1, end, accept);
        Ok(found.map_err(|error| self.failed(error))?.map(|(position, _)| position))
    }

    /// Whether a header behind a gap can belong to this log.
    fn may_follow(&self, header: &FrameHeader) -> bool {
        let least = match header.frame_type {
            FrameType::Entry => self.last.index + 1,
            FrameType::Seal | FrameType::Footer => self.last.index,
        };
        let most = match self.successor {
            Successor::Begins(checkpoint) | Successor::Lost(Some(checkpoint)) => checkpoint.index,
            Successor::Lost(None) | Successor::Nothing => u64::MAX,
        };
        (least..=most).contains(&header.index) && header.term >= self.last.term
    }

    fn note_synced(&mut self, header: &FrameHeader) {
        self.synced_index = self.synced_index.max(header.synced_index);
    }

    fn take(&mut self, frame: &Frame) -> Scanned<()> {
        self.note_synced(&frame.header);
        let here =
            ChainPoint { index: frame.header.index, term: frame.header.term, chain: frame.header.chain };
        if frame.header.frame_type == FrameType::Entry {
            self.close_gap_before(here.index);
            self.take_entry(frame, here)?;
        } else {
            // It speaks of the entry before it, and so of what a gap hides.
            self.close_gap(here, true);
            if (here.index, here.chain) != (self.last.index, self.last.chain) {
                return Err(Unusable::Contradiction("a seal or footer does not continue the log"));
            }
            self.complete = frame.header.frame_type == FrameType::Footer;
            self.note_commit(frame);
        }
        self.end = frame.end();
        Ok(())
    }

    fn note_commit(&mut self, frame: &Frame) {
        if let (FrameType::Seal, Ok(commit)) = (frame.header.frame_type, frame.entry.body[..].try_into()) {
            self.commit = self.commit.max(u64::from_le_bytes(commit));
        }
    }

    fn take_entry(&mut self, frame: &Frame, here: ChainPoint) -> Scanned<()> {
        // Where the chain before it is not known, it is this frame that proves what fills the hole.
        let hides = |piece: &Piece| matches!(piece, Piece::Hole(hole) if hole.last_chain.is_none());
        let follows_hole = self.run.is_none() && self.pieces.last().is_some_and(hides);
        let proven = here.index == self.last.index + 1
            && here.term >= self.last.term
            && here.chain == chain_after(self.last.chain, &frame.entry);
        let lsn = frame.envelope.map(|envelope| envelope.first_lsn);
        let dense = self.last_lsn.is_none_or(|last| lsn.is_none_or(|first| first == last + 1));
        if !(follows_hole || proven && dense) {
            return Err(Unusable::Contradiction("a frame does not continue the log"));
        }
        if let Some(first) = lsn {
            self.last_lsn = Some((first + frame.record_count()).saturating_sub(1));
        }
        self.last = here;
        let run = self.run.get_or_insert_with(|| Run {
            first_index: here.index,
            last: here,
            points: Vec::new(),
            end: frame.end(),
        });
        (run.last, run.end) = (here, frame.end());
        let due = run.points.last().is_none_or(|(_, at)| frame.position - at >= self.source.interval_bytes);
        if due {
            run.points.push((here.index, frame.position));
        }
        if let Some(last_lsn) = self.last_lsn.filter(|_| self.in_prefix()) {
            self.prefix = Tip { index: here.index, term: here.term, last_lsn, chain: here.chain };
        }
        Ok(())
    }

    fn in_prefix(&self) -> bool {
        !self.pieces.iter().any(|piece| matches!(piece, Piece::Hole(_)))
    }

    fn end_run(&mut self) {
        self.pieces.extend(self.run.take().map(Piece::Run));
    }

    /// What stood in the gap, if there is one, reached to the entry before `index`.
    fn close_gap_before(&mut self, index: u64) {
        let last = ChainPoint { index: index - 1, ..self.last };
        // If no entry is missing, nothing is hidden either.
        self.close_gap(last, last == self.last);
    }

    /// What stood in the gap, if there is one, reached to the entry at `last`, whose chain value is known or not.
    fn close_gap(&mut self, last: ChainPoint, known: bool) {
        let Some(gap) = self.gap.take() else { return };
        self.end_run();
        let last_chain = known.then_some(last.chain);
        match self.pieces.last_mut() {
            // Nothing whole between the two: they are one.
            Some(Piece::Hole(hole)) => (hole.last_index, hole.last_chain) = (Some(last.index), last_chain),
            _ => self.pieces.push(Piece::Hole(Hole {
                segment: self.source.header.number,
                file: self.source.path.to_owned(),
                position: gap.position,
                before: Some(self.last),
                last_index: Some(last.index),
                last_chain,
                header_lost: false,
                why: gap.why,
            })),
        }
        if last.index > self.last.index {
            self.last_lsn = None;
        }
        self.last = last;
    }

    fn finish(mut self) -> Scanned<Pieces> {
        match self.successor {
            Successor::Begins(next) => self.reach(next)?,
            Successor::Lost(Some(next)) => self.end_before(next)?,
            Successor::Lost(None) | Successor::Nothing => {}
        }
        self.end_run();
        match self.successor {
            Successor::Nothing => {
                self.drop_tear();
                self.judge_end()?;
            }
            // A seal behind the last entry of a complete segment is worth nothing any more.
            Successor::Begins(_) | Successor::Lost(_) => {
                self.pieces.pop_if(|piece| matches!(piece, Piece::Hole(hole) if hole.is_empty()));
            }
        }
        if self.source.cut_short && self.in_prefix() {
            self.gap = Some(Gap { position: self.end, why: "it is shorter than when it was completed" });
            self.close_gap(self.last, true);
        }
        let Self { pieces, last, prefix, end, synced_index, commit, .. } = self;
        Ok(Pieces { pieces, last, prefix, end, synced_index, commit })
    }

    /// The segment is complete: what it lacks of its successor's checkpoint is missing.
    fn reach(&mut self, next: &Checkpoint) -> Scanned<()> {
        let behind = ChainPoint { index: next.index, term: next.term, chain: next.chain };
        if self.last.index < next.index {
            let (position, why) = (self.end, "the file ends too early");
            self.gap.get_or_insert(Gap { position, why });
            self.close_gap(behind, true);
        }
        self.synced_index = self.synced_index.max(next.index);
        if self.last != behind {
            return Err(Unusable::Contradiction("its entries contradict the segment after it"));
        }
        Ok(())
    }

    /// A segment further behind goes on where this one ended, or later.
    fn end_before(&self, next: &Checkpoint) -> Scanned<()> {
        let behind = ChainPoint { index: next.index, term: next.term, chain: next.chain };
        if self.last.index < behind.index || self.last == behind {
            Ok(())
        } else {
            Err(Unusable::Contradiction("its entries contradict a segment behind it"))
        }
    }

    /// The log ends here: what is broken above all that was synced is no loss.
    fn drop_tear(&mut self) {
        let synced_index = self.synced_index;
        let torn = |piece: &Piece| match piece {
            Piece::Hole(hole) => hole.first_index().is_some_and(|first| first > synced_index),
            Piece::Run(_) => false,
        };
        if let Some(at) = self.pieces.iter().position(torn) {
            if let Some(Piece::Hole(hole)) = self.pieces.get(at) {
                (self.last, self.end) = (hole.before.unwrap_or(self.last), hole.position);
            }
            self.pieces.truncate(at);
        }
    }

    /// Whether something behind the end says that more than what was found had been synced.
    fn judge_end(&mut self) -> Scanned<()> {
        let Source { file, header, path, end, .. } = self.source;
        let beyond = highest_synced_beyond(&**file, header, self.end, *end);
        let beyond = beyond.map_err(|error| self.failed(error))?;
        self.synced_index = self.synced_index.max(beyond.unwrap_or(0));
        if self.synced_index > self.last.index {
            self.pieces.push(Piece::Hole(Hole {
                segment: header.number,
                file: (*path).to_owned(),
                position: self.end,
                before: Some(self.last),
                last_index: None,
                last_chain: None,
                header_lost: false,
                why: self.gap.map_or("the file ends too early", |gap| gap.why),
            }));
        }
        Ok(())
    }
}
