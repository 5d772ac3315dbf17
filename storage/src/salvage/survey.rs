//! What of a damaged log is intact.
//!
//! Invariants: nothing is written. A segment without a whole header is missing whole, for its nonce is gone with it,
//! and so is one whose number is skipped; of several such in a row the first lacks all the entries, and the others
//! none. Holes stand in the order of the log.

use super::hole::{ChainPoint, Hole};
use super::lenient::Lenient;
use super::pieces::{Piece, Pieces, Run, Source, Successor, Unusable};
use crate::checkpoint::Checkpoint;
use crate::group::segment_path;
use crate::io::{Disk, DiskFile, OpenMode};
use crate::log::{LogOptions, Tip};
use crate::reader::ChainedEntry;
use crate::segment::{SegmentHeader, SegmentHeaderError, number_of};
use crate::vote::{VOTE_FILE_NAME, Vote, read_newest};
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Why a directory cannot be surveyed.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The disk did not answer.
    #[error("surveying {path}: {error}; check the disk and the directory's permissions")]
    Io {
        /// The directory or file.
        path: String,
        /// What the disk said.
        error: io::Error,
    },
    /// All files belong to another shard, and no vote says that they are this one's.
    #[error(
        "{directory} holds the log of shard {found}, not of shard {expected}: give each its own directory"
    )]
    Foreign {
        /// The directory asked for.
        directory: String,
        /// The shard asked for.
        expected: u64,
        /// The shard found.
        found: u64,
    },
    /// Something whole that another version of the broker wrote: it is not damage.
    #[error("{file} at byte {position}: {what}")]
    Unknown {
        /// The segment.
        file: String,
        /// Where in it, in bytes.
        position: u64,
        /// What is not known, and what to do.
        what: String,
    },
}

/// One segment, by number.
pub(super) struct Surveyed {
    pub(super) number: u64,
    pub(super) path: String,
    pub(super) content: Content,
}

pub(super) enum Content {
    /// Its header is lost, and the rest with it.
    Lost { why: &'static str },
    /// What can be read of it.
    Found(Box<Found>),
}

pub(super) struct Found {
    pub(super) header: SegmentHeader,
    /// Where its frames end at the latest.
    pub(super) end: u64,
    pub(super) pieces: Pieces,
}

/// What a survey found. It holds positions and checkpoints, no entries.
pub struct Survey {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) directory: String,
    pub(super) options: LogOptions,
    /// Consecutive by number, from the newest RESTART on.
    pub(super) segments: Vec<Surveyed>,
    holes: Vec<Hole>,
    vote: Option<Vote>,
}

impl Survey {
    /// Reads every frame of the log in `directory` and changes nothing.
    ///
    /// # Errors
    /// [`SurveyError`]; damage is none.
    pub fn take(disk: Arc<dyn Disk>, directory: &str, options: &LogOptions) -> Result<Self, SurveyError> {
        let (directory, options) = (directory.to_owned(), options.clone());
        let mut survey =
            Self { disk, directory, options, segments: Vec::new(), holes: Vec::new(), vote: None };
        survey.vote = survey.read_vote()?;
        let headers = survey.headers()?;
        for at in 0..headers.len() {
            survey.segments.push(survey.segment(&headers, at)?);
        }
        survey.find_holes();
        Ok(survey)
    }

    /// Looks at one segment again, after it was patched.
    ///
    /// # Errors
    /// [`SurveyError`]; the survey is then as before.
    pub fn rescan(&mut self, segment: u64) -> Result<(), SurveyError> {
        let headers = self.headers()?;
        let Some(at) = headers.iter().position(|found| found.number == segment) else { return Ok(()) };
        let scanned = self.segment(&headers, at)?;
        if let Some(known) = self.segments.iter_mut().find(|known| known.number == segment) {
            *known = scanned;
        }
        self.find_holes();
        Ok(())
    }

    /// The log is known to keep LSNs from `log_start` on: where its oldest segment begins behind that, the one before is
    /// missing. Which segments there were is written nowhere, but none goes before all its records have.
    pub fn demand_from(&mut self, log_start: u64) {
        let Some(Surveyed { number, content: Content::Found(oldest), .. }) = self.segments.first() else {
            return;
        };
        let is_whole = oldest.header.restart || oldest.header.checkpoint.last_lsn < log_start;
        let Some(number) = number.checked_sub(1).filter(|number| *number > 0 && !is_whole) else { return };
        let path = segment_path(&self.directory, number);
        self.segments.insert(0, Surveyed { number, path, content: Content::Lost { why: GONE } });
        self.find_holes();
    }

    /// Where synced entries are missing, in the order of the log.
    pub fn holes(&self) -> &[Hole] {
        &self.holes
    }

    /// The runs of entries that can be read, in order.
    pub fn intact(&self) -> Vec<RangeInclusive<u64>> {
        let mut intact: Vec<RangeInclusive<u64>> = Vec::new();
        for run in self.runs() {
            match intact.last_mut().filter(|last| last.end() + 1 == run.first_index) {
                Some(last) => *last = *last.start()..=run.last.index,
                None => intact.push(run.first_index..=run.last.index),
            }
        }
        intact
    }

    /// The last entry of the intact prefix, or its checkpoint's: where the log ends after
    /// [`cut_to_intact`](super::cut_to_intact). `None` if the oldest header is lost.
    pub fn tip(&self) -> Option<Tip> {
        let mut tip = None;
        for segment in &self.segments {
            let Content::Found(found) = &segment.content else { break };
            tip = Some(found.pieces.prefix);
            if found.pieces.holes().next().is_some() {
                break;
            }
        }
        tip
    }

    /// So far the log is known to have reached: the last entry that can be read, anywhere in it, or that a checkpoint stands
    /// for. `None` if nothing is intact.
    pub fn last_intact_index(&self) -> Option<u64> {
        let read = self.runs().next_back().map(|run| run.last.index);
        read.max(self.checkpoints().last().map(|checkpoint| checkpoint.index))
    }

    /// The checkpoint that the log begins with; `None` if it is lost. A later one is no answer to a peer: it would begin
    /// its own log with it, and give up what is missing here.
    pub fn base(&self) -> Option<&Checkpoint> {
        match &self.segments.first()?.content {
            Content::Found(found) => Some(&found.header.checkpoint),
            Content::Lost { .. } => None,
        }
    }

    /// The newest checkpoint that can be read of those at or below `index`: what a lost one is rebuilt from.
    pub fn checkpoint_before(&self, index: u64) -> Option<&Checkpoint> {
        self.checkpoints().take_while(|checkpoint| checkpoint.index <= index).last()
    }

    /// The vote, `None` if no copy is whole.
    pub fn vote(&self) -> Option<Vote> {
        self.vote
    }

    /// Through this index entries are known to be committed: by the vote, by checkpoints and by seals.
    pub fn known_commit(&self) -> u64 {
        let told = self.found().map(|(_, found)| found.header.checkpoint.commit.max(found.pieces.commit));
        told.chain(self.vote.map(|vote| vote.commit)).max().unwrap_or(0)
    }

    /// The highest index that some header proves synced.
    pub fn proven_synced_index(&self) -> u64 {
        let proven = self.found().map(|(_, found)| found.pieces.synced_index);
        proven.max().unwrap_or(0)
    }

    /// Intact entries from `low` on, below `high`, as many as `max_bytes` of payload allow and at least one; none if
    /// `low` is in a hole, and it ends before the next hole. Every checksum is verified again.
    ///
    /// # Errors
    /// Whatever the disk says.
    pub fn read(&self, low: u64, high: u64, max_bytes: usize) -> io::Result<Vec<ChainedEntry>> {
        let mut reading = super::read::Reading::new(low, high, max_bytes);
        for (segment, found) in self.found() {
            for run in found.pieces.runs() {
                if reading.wants(run) && !reading.run(self.open(&segment.path)?, found, run)? {
                    return Ok(reading.taken);
                }
            }
        }
        Ok(reading.taken)
    }

    fn found(&self) -> impl DoubleEndedIterator<Item = (&Surveyed, &Found)> {
        self.segments.iter().filter_map(|segment| match &segment.content {
            Content::Found(found) => Some((segment, &**found)),
            Content::Lost { .. } => None,
        })
    }

    fn checkpoints(&self) -> impl Iterator<Item = &Checkpoint> {
        self.found().map(|(_, found)| &found.header.checkpoint)
    }

    fn runs(&self) -> impl DoubleEndedIterator<Item = &Run> {
        self.found().flat_map(|(_, found)| found.pieces.runs())
    }

    pub(super) fn open(&self, path: &str) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(Lenient(self.disk.open(path, OpenMode::Read)?)))
    }

    fn failed(&self, path: &str, error: io::Error) -> SurveyError {
        SurveyError::Io { path: path.to_owned(), error }
    }

    fn read_vote(&self) -> Result<Option<Vote>, SurveyError> {
        let path = format!("{}/{VOTE_FILE_NAME}", self.directory);
        match self.disk.open(&path, OpenMode::Read) {
            // What cannot be read is as lost as what is torn.
            Ok(file) => Ok(read_newest(&*file, self.options.shard).unwrap_or(None)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(&path, error)),
        }
    }
}

impl Pieces {
    pub(super) fn runs(&self) -> impl DoubleEndedIterator<Item = &Run> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Run(run) => Some(run),
            Piece::Hole(_) => None,
        })
    }

    pub(super) fn holes(&self) -> impl Iterator<Item = &Hole> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Hole(hole) => Some(hole),
            Piece::Run(_) => None,
        })
    }
}

/// A segment's header, or why there is none.
struct Headed {
    number: u64,
    path: String,
    header: Result<SegmentHeader, &'static str>,
}

/// A segment cannot begin behind a later one: of the two, the later is believed.
fn disown_contradicted(headers: &mut [Headed]) {
    let mut least = u64::MAX;
    for headed in headers.iter_mut().rev() {
        match &headed.header {
            Ok(header) if header.checkpoint.index > least => headed.header = Err(BEYOND),
            Ok(header) => least = header.checkpoint.index,
            Err(_) => {}
        }
    }
}

impl Survey {
    /// The headers of all segments, with a place for each number that is skipped.
    fn headers(&self) -> Result<Vec<Headed>, SurveyError> {
        let names = self.disk.list(&self.directory).map_err(|error| self.failed(&self.directory, error))?;
        let (mut headers, mut next, mut foreign): (Vec<Headed>, _, _) = (Vec::new(), None, None);
        for number in names.iter().filter_map(|name| number_of(name)) {
            let skipped = next.unwrap_or(number)..number;
            if number - skipped.start > SKIPPED_MAX {
                let (file, what) = (segment_path(&self.directory, number), FAR_OFF.to_owned());
                return Err(SurveyError::Unknown { file, position: 0, what });
            }
            headers.extend(skipped.map(|number| self.headed(number, Err(GONE))));
            next = number.checked_add(1);
            headers.push(self.headed(number, self.header(number, &mut foreign)?));
        }
        let whole = headers.iter().any(|headed| headed.header.is_ok());
        if let Some(found) = foreign.filter(|_| !whole && self.vote.is_none()) {
            let (directory, expected) = (self.directory.clone(), self.options.shard);
            return Err(SurveyError::Foreign { directory, expected, found });
        }
        let is_restart = |headed: &Headed| headed.header.as_ref().is_ok_and(|header| header.restart);
        let first = headers.iter().rposition(is_restart).unwrap_or(0);
        headers.drain(..first);
        disown_contradicted(&mut headers);
        Ok(headers)
    }

    fn headed(&self, number: u64, header: Result<SegmentHeader, &'static str>) -> Headed {
        Headed { number, path: segment_path(&self.directory, number), header }
    }

    fn header(
        &self,
        number: u64,
        foreign: &mut Option<u64>,
    ) -> Result<Result<SegmentHeader, &'static str>, SurveyError> {
        let file = segment_path(&self.directory, number);
        let opened = self.disk.open(&file, OpenMode::Read).map_err(|error| self.failed(&file, error))?;
        Ok(match SegmentHeader::read(&*opened) {
            Ok(header) if header.shard != self.options.shard => {
                *foreign = Some(header.shard);
                Err("its header is another shard's")
            }
            Ok(header) if header.number != number => Err("its header has another segment's number"),
            Ok(header) => Ok(header),
            Err(SegmentHeaderError::Bad(why)) => Err(why),
            Err(error @ SegmentHeaderError::Version(_)) => {
                return Err(SurveyError::Unknown { file, position: 0, what: error.to_string() });
            }
            Err(SegmentHeaderError::Io(error)) if opened.len().is_err() => {
                return Err(self.failed(&file, error));
            }
            Err(SegmentHeaderError::Io(_)) => Err("its header cannot be read"),
        })
    }

    /// Scans one of the segments.
    fn segment(&self, headers: &[Headed], at: usize) -> Result<Surveyed, SurveyError> {
        let Headed { number, path, header } = &headers[at];
        let lost = |why| Surveyed { number: *number, path: path.clone(), content: Content::Lost { why } };
        let header = match header {
            Ok(header) => header,
            Err(why) => return Ok(lost(why)),
        };
        let next = headers.get(at + 1).map(|next| next.header.as_ref());
        let behind = headers[at + 1..].iter().find_map(|behind| behind.header.as_ref().ok());
        let file = self.open(path).map_err(|error| self.failed(path, error))?;
        let length = file.len().map_err(|error| self.failed(path, error))?;
        let whole_header = header.header_bytes();
        let (successor, end, least) = match next {
            Some(Ok(next)) => {
                let complete = header.final_bytes(next, || Ok::<_, SurveyError>(length))?;
                (Successor::Begins(&next.checkpoint), length.min(complete), complete.max(whole_header))
            }
            Some(Err(_)) => (Successor::Lost(behind.map(|behind| &behind.checkpoint)), length, whole_header),
            None => (Successor::Nothing, length, 0),
        };
        let interval_bytes = self.options.index_interval_bytes;
        let cut_short = length < least;
        let source = Source { file, path, header, end, cut_short, interval_bytes };
        match source.scan(successor) {
            Ok(pieces) => {
                let content = Content::Found(Box::new(Found { header: header.clone(), end, pieces }));
                Ok(Surveyed { number: *number, path: path.clone(), content })
            }
            Err(Unusable::Contradiction(why)) => Ok(lost(why)),
            Err(Unusable::Failed(error)) => Err(error),
        }
    }

    /// Lists the holes: those in the segments, and the segments that are lost whole.
    fn find_holes(&mut self) {
        let mut holes = Vec::new();
        let mut before: Option<ChainPoint> = None;
        let behind = self.begins_behind();
        for (segment, behind) in self.segments.iter().zip(behind) {
            match &segment.content {
                Content::Found(found) => {
                    holes.extend(found.pieces.holes().cloned());
                    before = Some(found.pieces.last);
                }
                Content::Lost { why } => {
                    holes.push(segment.hole(before, behind, why));
                    // A later one lacks nothing any more.
                    before = behind.or(before);
                }
            }
        }
        if self.segments.is_empty() {
            let (path, content) = (self.directory.clone(), Content::Lost { why: EMPTY });
            holes.push(Surveyed { number: 1, path, content }.hole(None, None, EMPTY));
        }
        // Behind an open end there is nothing that could be told apart.
        let open = holes.iter().position(|hole| !hole.is_closed());
        holes.truncate(open.map_or(holes.len(), |open| open + 1));
        self.holes = holes;
    }

    /// For each segment, where the next one begins whose header tells. Found from the back, for as many may be lost in
    /// a row as a stray file's number says.
    fn begins_behind(&self) -> Vec<Option<ChainPoint>> {
        let (mut all, mut behind) = (Vec::with_capacity(self.segments.len()), None);
        for segment in self.segments.iter().rev() {
            all.push(behind);
            behind = segment.begins().or(behind);
        }
        all.reverse();
        all
    }
}

const EMPTY: &str = "the directory holds no segment";
const GONE: &str = "its file is missing";
const BEYOND: &str = "a segment after it begins before it";
/// More segments than these cannot have been lost between two: of 64 MiB each, they are 256 GiB.
const SKIPPED_MAX: u64 = 1 << 12;
const FAR_OFF: &str = "its number is far from the others': it is no segment of this log, move it elsewhere";

impl Surveyed {
    /// The entry before its first, if its header tells.
    fn begins(&self) -> Option<ChainPoint> {
        let Content::Found(found) = &self.content else { return None };
        let Checkpoint { index, term, chain, .. } = found.header.checkpoint;
        Some(ChainPoint { index, term, chain })
    }

    /// Where it ends, as far as is known.
    pub(super) fn end(&self) -> u64 {
        match &self.content {
            Content::Found(found) => found.pieces.end,
            Content::Lost { .. } => 0,
        }
    }

    /// All of it, up to what stands behind it.
    fn hole(&self, before: Option<ChainPoint>, behind: Option<ChainPoint>, why: &'static str) -> Hole {
        Hole {
            segment: self.number,
            file: self.path.clone(),
            position: 0,
            before,
            last_index: behind.map(|behind| behind.index),
            last_chain: behind.map(|behind| behind.chain),
            header_lost: true,
            why,
        }
    }
}
