//! From LSN, Raft index or time to a place in a file.
//!
//! Invariants: every lookup of a position goes through [`LogIndex`], so that segments may later live elsewhere.
//! A segment's index is sparse: one [`Point`] per so many bytes, from which the reader scans on. It is derived:
//! whatever is wrong with one, scanning the segment makes it again.
//!
//! The footer's body, the last frame of a sealed segment:
//! ```text
//!  0           4            8                  16
//!  +-----------+------------+------------------+------------------------------------------------------+
//!  | points    | term runs  | max_timestamp_ms | points × (first_lsn, index, position, max_before_ms) |
//!  +-----------+------------+------------------+------------------------------------------------------+
//!  | term runs × (first_index, term)           | position of this frame                               |
//!  +-------------------------------------------+------------------------------------------------------+
//! ```
//! All numbers of the second part and on have 8 bytes. The last one leads from the end of the file to the frame.

use crate::checkpoint::Checkpoint;
use crate::codec::Fields;
use crate::frame::Nonce;
use crate::segment::SegmentHeader;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;

/// An entry from which a scan can start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    /// LSN the entry begins with, or the next one if it has no records.
    pub(crate) first_lsn: u64,
    pub(crate) index: u64,
    /// Position of its frame in the file.
    pub(crate) position: u64,
    /// Greatest timestamp of the segment's entries before it.
    pub(crate) max_before_ms: i64,
}

/// All entries from `first_index` to the next run's have `term`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TermRun {
    pub(crate) first_index: u64,
    pub(crate) term: u64,
}

/// Sparse index of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentIndex {
    points: Vec<Point>,
    terms: Vec<TermRun>,
    max_timestamp_ms: i64,
}

/// What an index notes of an entry.
pub(crate) struct Noted {
    pub(crate) point: Point,
    pub(crate) term: u64,
    /// The entry's greatest timestamp, if it has records.
    pub(crate) max_timestamp_ms: Option<i64>,
}

impl Default for SegmentIndex {
    fn default() -> Self {
        Self { points: Vec::new(), terms: Vec::new(), max_timestamp_ms: i64::MIN }
    }
}

impl SegmentIndex {
    /// Takes note of the next entry; `interval_bytes` apart there is a point.
    pub(crate) fn note(&mut self, noted: &Noted, interval_bytes: u64) {
        let due =
            self.points.last().is_none_or(|last| noted.point.position - last.position >= interval_bytes);
        if due {
            self.points.push(Point { max_before_ms: self.max_timestamp_ms, ..noted.point });
        }
        push_term(&mut self.terms, noted.point.index, noted.term);
        if let Some(timestamp) = noted.max_timestamp_ms {
            self.max_timestamp_ms = self.max_timestamp_ms.max(timestamp);
        }
    }

    /// Forgets entries from `index` on. The greatest timestamps may then be too high, which costs a scan.
    pub(crate) fn truncate(&mut self, index: u64) {
        self.points.truncate(self.points.partition_point(|point| point.index < index));
        truncate_terms(&mut self.terms, index);
    }

    pub(crate) fn terms(&self) -> &[TermRun] {
        &self.terms
    }

    pub(crate) fn max_timestamp_ms(&self) -> i64 {
        self.max_timestamp_ms
    }

    fn last_where(&self, before: impl Fn(&Point) -> bool) -> Option<Point> {
        let after = self.points.partition_point(before);
        after.checked_sub(1).and_then(|at| self.points.get(at)).copied()
    }

    /// Where to start scanning for the entry that holds `lsn`.
    pub(crate) fn for_lsn(&self, lsn: u64) -> Option<Point> {
        self.last_where(|point| point.first_lsn <= lsn)
    }

    /// Where to start scanning for entry `index`.
    pub(crate) fn for_index(&self, index: u64) -> Option<Point> {
        self.last_where(|point| point.index <= index)
    }

    /// Where to start scanning for the first entry with a timestamp of `timestamp_ms` or later.
    pub(crate) fn for_time(&self, timestamp_ms: i64) -> Option<Point> {
        self.last_where(|point| point.max_before_ms < timestamp_ms)
    }

    /// The footer body drawn above, for a footer frame at `position`.
    pub(crate) fn encode(&self, position: u64) -> Bytes {
        let mut out = BytesMut::with_capacity(24 + self.points.len() * 32 + self.terms.len() * 16);
        out.put_u32_le(self.points.len() as u32);
        out.put_u32_le(self.terms.len() as u32);
        out.put_i64_le(self.max_timestamp_ms);
        for point in &self.points {
            out.put_u64_le(point.first_lsn);
            out.put_u64_le(point.index);
            out.put_u64_le(point.position);
            out.put_i64_le(point.max_before_ms);
        }
        for run in &self.terms {
            out.put_u64_le(run.first_index);
            out.put_u64_le(run.term);
        }
        out.put_u64_le(position);
        out.freeze()
    }

    /// Reads a footer body; `None` unless the counts are what the length says.
    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(body);
        let (points, terms) = (fields.u32()? as usize, fields.u32()? as usize);
        let max_timestamp_ms = fields.i64()?;
        let expected = points.checked_mul(32)?.checked_add(terms.checked_mul(16)?)?.checked_add(8)?;
        if fields.remaining() != expected {
            return None;
        }
        let mut index =
            Self { points: Vec::with_capacity(points), terms: Vec::with_capacity(terms), max_timestamp_ms };
        for _ in 0..points {
            index.points.push(Point {
                first_lsn: fields.u64()?,
                index: fields.u64()?,
                position: fields.u64()?,
                max_before_ms: fields.i64()?,
            });
        }
        for _ in 0..terms {
            index.terms.push(TermRun { first_index: fields.u64()?, term: fields.u64()? });
        }
        Some(index)
    }
}

/// Adds entry `index` of `term` behind the last run.
pub(crate) fn push_term(runs: &mut Vec<TermRun>, index: u64, term: u64) {
    if runs.last().is_none_or(|run| run.term != term) {
        runs.push(TermRun { first_index: index, term });
    }
}

/// Forgets entries from `index` on.
pub(crate) fn truncate_terms(runs: &mut Vec<TermRun>, index: u64) {
    runs.truncate(runs.partition_point(|run| run.first_index < index));
}

/// One segment of the log, as memory knows it.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) nonce: Nonce,
    /// Where its first frame stands.
    pub(crate) header_bytes: u64,
    pub(crate) checkpoint: Arc<Checkpoint>,
    /// Where the next frame will stand; the final length once it is sealed.
    pub(crate) end: u64,
    /// `None` while it is the active one, and for a sealed one until somebody needs it.
    pub(crate) index: Option<Arc<SegmentIndex>>,
}

/// All segments of the log, oldest first. Never empty; the last is the active one.
#[derive(Debug)]
pub(crate) struct LogIndex {
    segments: VecDeque<Segment>,
    /// Index of the active segment.
    active: SegmentIndex,
}

impl LogIndex {
    /// Over `first` alone.
    pub(crate) fn new(first: Segment) -> Self {
        Self::with_sealed(Vec::new(), first)
    }

    /// Over sealed segments, oldest first, and an active one without entries yet.
    pub(crate) fn with_sealed(sealed: Vec<Segment>, active: Segment) -> Self {
        let mut segments = VecDeque::from(sealed);
        segments.push_back(active);
        Self { segments, active: SegmentIndex::default() }
    }

    pub(crate) fn segments(&self) -> impl DoubleEndedIterator<Item = &Segment> + ExactSizeIterator {
        self.segments.iter()
    }

    /// Each sealed segment with its successor, oldest first.
    pub(crate) fn sealed(&self) -> impl Iterator<Item = (&Segment, &Segment)> {
        self.segments.iter().zip(self.segments.iter().skip(1))
    }

    pub(crate) fn oldest(&self) -> &Segment {
        self.segments.front().expect("a log has a segment at all times")
    }

    pub(crate) fn active(&self) -> &Segment {
        self.segments.back().expect("a log has a segment at all times")
    }

    pub(crate) fn active_index(&self) -> &SegmentIndex {
        &self.active
    }

    fn active_mut(&mut self) -> &mut Segment {
        self.segments.back_mut().expect("a log has a segment at all times")
    }

    /// The active segment has grown to `end`.
    pub(crate) fn set_end(&mut self, end: u64) {
        self.active_mut().end = end;
    }

    /// Takes note of an entry appended to the active segment.
    pub(crate) fn note(&mut self, noted: &Noted, interval_bytes: u64) {
        self.active.note(noted, interval_bytes);
    }

    /// Makes `next` the active segment; the one before ends where it says.
    pub(crate) fn roll(&mut self, next: Segment) {
        let index = std::mem::take(&mut self.active);
        self.active_mut().index = Some(Arc::new(index));
        self.segments.push_back(next);
    }

    /// Segment `number` becomes the active one again and ends at `end`, before entry `index`. Returns the numbers
    /// of the segments behind it, newest first.
    pub(crate) fn truncate(&mut self, number: u64, end: u64, index: u64) -> Vec<u64> {
        let mut removed = Vec::new();
        while self.active().number > number && self.segments.len() > 1 {
            removed.extend(self.segments.pop_back().map(|segment| segment.number));
            let sealed = self.active_mut().index.take();
            self.active = sealed.map(|index| (*index).clone()).unwrap_or_default();
        }
        self.active.truncate(index);
        self.active_mut().end = end;
        removed
    }

    /// Drops what lies before the last segment that `may_be_first`, if there is one; returns the numbers of what went.
    pub(crate) fn trim(&mut self, may_be_first: impl Fn(&Segment) -> bool) -> Vec<u64> {
        let first = self.segments.iter().rposition(may_be_first).unwrap_or(0);
        self.segments.drain(..first).map(|segment| segment.number).collect()
    }

    /// Remembers the index of a sealed segment.
    pub(crate) fn set_index(&mut self, number: u64, index: Arc<SegmentIndex>) {
        let active = self.active().number;
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.number == number)
            && number != active
        {
            segment.index = Some(index);
        }
    }

    pub(crate) fn segment(&self, number: u64) -> Option<&Segment> {
        let at = number.checked_sub(self.oldest().number)?;
        self.segments.get(usize::try_from(at).ok()?)
    }

    /// The segment that holds `lsn`, or would.
    pub(crate) fn for_lsn(&self, lsn: u64) -> &Segment {
        let after = self.segments.partition_point(|segment| segment.checkpoint.last_lsn < lsn);
        self.segments.get(after.saturating_sub(1)).unwrap_or_else(|| self.oldest())
    }

    /// The segment that holds entry `index`, or would.
    pub(crate) fn for_index(&self, index: u64) -> &Segment {
        let after = self.segments.partition_point(|segment| segment.checkpoint.index < index);
        self.segments.get(after.saturating_sub(1)).unwrap_or_else(|| self.oldest())
    }

    /// Bytes of all segments through their ends, headers included.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end).sum()
    }

    /// Bytes of the entries from `index` to `last_index`, the last one there is, as if all in a segment were of one size.
    pub(crate) fn bytes_from(&self, index: u64, last_index: u64) -> u64 {
        let ends = self.segments.iter().skip(1).map(|next| next.checkpoint.index).chain([last_index]);
        let share = |(segment, last): (&Segment, u64)| {
            let all = last.saturating_sub(segment.checkpoint.index);
            let wanted = (last + 1).saturating_sub(index).min(all);
            let bytes = u128::from(segment.end) * u128::from(wanted) / u128::from(all.max(1));
            u64::try_from(bytes).unwrap_or(u64::MAX)
        };
        self.segments.iter().zip(ends).map(share).sum()
    }
}

impl Segment {
    /// A segment without frames yet.
    pub(crate) fn of(header: SegmentHeader) -> Self {
        let header_bytes = header.header_bytes();
        Self {
            number: header.number,
            nonce: header.nonce,
            header_bytes,
            checkpoint: Arc::new(header.checkpoint),
            end: header_bytes,
            index: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(index: u64, position: u64, timestamp_ms: i64) -> Noted {
        let point = Point { first_lsn: index * 2, index, position, max_before_ms: i64::MIN };
        Noted { point, term: index / 10, max_timestamp_ms: Some(timestamp_ms) }
    }

    fn filled() -> SegmentIndex {
        let mut index = SegmentIndex::default();
        (1..=100).for_each(|n| index.note(&noted(n, n * 10, 1000 - (n as i64 - 50).abs()), 100));
        index
    }

    #[test]
    fn a_lookup_never_starts_behind_what_it_looks_for() {
        let index = filled();
        for n in 1..=100 {
            let point = index.for_index(n).unwrap();
            assert!(point.index <= n && n - point.index < 10);
            assert!(index.for_lsn(n * 2).unwrap().index <= n);
        }
        // Timestamps rise to 1000 at entry 50 and fall again: the first that reaches one is on the rise.
        for time in 951..=1000 {
            assert!(index.for_time(time).unwrap().index <= (time - 950) as u64);
        }
    }

    #[test]
    fn a_footer_reads_back_and_one_whose_counts_lie_is_refused() {
        let bytes = filled().encode(77);
        assert_eq!(SegmentIndex::decode(&bytes), Some(filled()));
        for at in [0, 4] {
            for count in [0_u32, 1, u32::MAX] {
                let mut lying = bytes.to_vec();
                lying[at..at + 4].copy_from_slice(&count.to_le_bytes());
                assert_eq!(SegmentIndex::decode(&lying), None);
            }
        }
        assert_eq!(SegmentIndex::decode(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn a_truncated_index_is_the_one_that_never_saw_the_rest() {
        let mut index = filled();
        index.truncate(41);
        let mut short = SegmentIndex::default();
        (1..=40).for_each(|n| short.note(&noted(n, n * 10, 1000 - (n as i64 - 50).abs()), 100));
        assert_eq!((index.points, index.terms), (short.points, short.terms));
    }
}
