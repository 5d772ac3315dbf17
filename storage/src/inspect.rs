//! Looking at a log's files without opening the log: for `lockstep log inspect` and `verify`.
//!
//! Invariants: never writes. Judges a bad frame as recovery would: damage if something proves that what stood
//! there was synced, else the end of the log.

use crate::envelope::Envelope;
use crate::frame::{FrameHeader, FrameType, chain_after};
use crate::io::{Disk, DiskFile, OpenMode};
use crate::log::Tip;
use crate::scan::{Cursor, Frame, ScanError, highest_synced_beyond};
use crate::segment::{SegmentHeader, SegmentHeaderError, number_of};
use crate::vote::{VOTE_FILE_NAME, Vote, read_newest};
use std::io;
use std::sync::Arc;

/// One thing found, in the order of the files.
#[derive(Debug)]
pub enum Finding<'a> {
    /// A segment opens.
    Segment {
        /// Its file.
        file: &'a str,
        /// Length of the file in bytes.
        file_bytes: u64,
        /// Its header.
        header: &'a SegmentHeader,
    },
    /// A whole frame that continues the log.
    Frame {
        /// Where in its file, in bytes.
        position: u64,
        /// Its local header.
        header: &'a FrameHeader,
        /// Its envelope, if it has one.
        envelope: Option<&'a Envelope>,
    },
    /// A segment's entries end here, and nothing that was synced is missing.
    End {
        /// Where in the file, in bytes.
        position: u64,
        /// Bytes behind it: prepared space or a torn write; in a complete segment a damaged footer, which is no
        /// loss.
        unused_bytes: u64,
    },
    /// Bytes that are not what they must be.
    Damage {
        /// The file.
        file: &'a str,
        /// Where in it, in bytes.
        position: u64,
        /// What is wrong.
        why: &'a str,
    },
}

/// What a directory holds, in sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Segments with a whole header.
    pub segments: u64,
    /// Entries in whole frames.
    pub entries: u64,
    /// Records in them.
    pub records: u64,
    /// Index of the last entry.
    pub last_index: u64,
    /// Its term.
    pub last_term: u64,
    /// The last LSN.
    pub last_lsn: u64,
    /// Chain value through it: equal on two replicas at the same index if all before is equal.
    pub chain: u64,
    /// Damaged places.
    pub damages: u64,
    /// The vote, `None` if no copy is whole.
    pub vote: Option<Vote>,
}

/// Walks all segments in `directory`, verifying every checksum.
///
/// # Errors
/// If the disk does not answer; what is damaged is a [`Finding`].
pub fn inspect(disk: &dyn Disk, directory: &str, visit: &mut dyn FnMut(Finding<'_>)) -> io::Result<Summary> {
    let numbers: Vec<u64> = disk.list(directory)?.iter().filter_map(|name| number_of(name)).collect();
    let mut inspection = Inspection { visit, summary: Summary::default(), tip: None, shard: None };
    let mut headers = Vec::new();
    for number in numbers {
        let file = crate::group::segment_path(directory, number);
        let opened = disk.open(&file, OpenMode::Read)?;
        match SegmentHeader::read(&*opened) {
            Ok(header) => headers.push((file, opened, header)),
            Err(SegmentHeaderError::Io(error)) => return Err(error),
            Err(error) => inspection.damage(&file, 0, &error.to_string()),
        }
    }
    for (at, (file, opened, header)) in headers.iter().enumerate() {
        let next = headers.get(at + 1).map(|(_, _, next)| next);
        inspection.segment(file, opened, header, next)?;
    }
    let Inspection { mut summary, shard, .. } = inspection;
    let vote = disk.open(&format!("{directory}/{VOTE_FILE_NAME}"), OpenMode::Read);
    if let (Ok(vote), Some(shard)) = (vote, shard) {
        summary.vote = read_newest(&*vote, shard)?;
    }
    Ok(summary)
}

struct Inspection<'v> {
    visit: &'v mut dyn FnMut(Finding<'_>),
    summary: Summary,
    tip: Option<Tip>,
    shard: Option<u64>,
}

impl Inspection<'_> {
    fn damage(&mut self, file: &str, position: u64, why: &str) {
        self.summary.damages += 1;
        (self.visit)(Finding::Damage { file, position, why });
    }

    fn segment(
        &mut self,
        file: &str,
        opened: &Arc<dyn DiskFile>,
        header: &SegmentHeader,
        next: Option<&SegmentHeader>,
    ) -> io::Result<()> {
        let file_bytes = opened.len()?;
        self.summary.segments += 1;
        self.shard = Some(header.shard);
        (self.visit)(Finding::Segment { file, file_bytes, header });
        let start = Tip::of(&header.checkpoint);
        if !header.restart && self.tip.is_some_and(|tip| tip != start) {
            self.damage(file, 0, "it does not begin where the segment before it ends");
        }
        self.tip = Some(start);
        let follows = next.filter(|next| !next.restart && next.number == header.number + 1);
        let end = follows.map_or(Ok(file_bytes), |next| header.final_bytes(next, || opened.len()))?;
        let mut cursor = Cursor::new(opened.clone(), header.nonce, header.header_bytes(), end);
        let mut proven = header.checkpoint.index;
        let stopped = loop {
            let position = cursor.position();
            match cursor.next() {
                Ok(None) => break None,
                Ok(Some(frame)) => {
                    proven = proven.max(frame.header.synced_index);
                    if !self.frame(&frame) {
                        break Some((position, "a frame does not continue the log"));
                    }
                }
                Err(ScanError::Bad { position, why }) => break Some((position, why)),
                Err(ScanError::Unknown { position, error }) => {
                    self.damage(file, position, &error.to_string());
                    return Ok(());
                }
                Err(ScanError::Io(error)) => return Err(error),
            }
        };
        let Some((position, why)) = stopped else { return Ok(()) };
        let proven = proven.max(highest_synced_beyond(&**opened, header, position, end)?.unwrap_or(0));
        let complete = follows.is_some_and(|next| self.tip == Some(Tip::of(&next.checkpoint)));
        let lost = follows.is_some() || self.tip.is_some_and(|tip| proven > tip.index);
        if lost && !complete {
            self.damage(file, position, why);
        } else {
            (self.visit)(Finding::End { position, unused_bytes: file_bytes.saturating_sub(position) });
        }
        Ok(())
    }

    /// Shows a frame; `false` if it does not continue what was before it.
    fn frame(&mut self, frame: &Frame) -> bool {
        let (header, tip) = (&frame.header, self.tip.unwrap_or_default());
        let continues = match header.frame_type {
            FrameType::Seal | FrameType::Footer => (header.index, header.chain) == (tip.index, tip.chain),
            FrameType::Entry => {
                header.index == tip.index + 1 && header.chain == chain_after(tip.chain, &frame.entry)
            }
        };
        if !continues {
            return false;
        }
        (self.visit)(Finding::Frame { position: frame.position, header, envelope: frame.envelope.as_ref() });
        if header.frame_type == FrameType::Entry {
            let last_lsn = tip.last_lsn + frame.record_count();
            self.tip = Some(Tip { index: header.index, term: header.term, last_lsn, chain: header.chain });
            self.summary.entries += 1;
            self.summary.records += frame.record_count();
        }
        let tip = self.tip.unwrap_or_default();
        let Summary { last_index, last_term, last_lsn, chain, .. } = &mut self.summary;
        (*last_index, *last_term, *last_lsn, *chain) = (tip.index, tip.term, tip.last_lsn, tip.chain);
        true
    }
}
