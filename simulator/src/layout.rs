//! What of a replica's files may be damaged: all that is vouched for as synced, and nothing that could be torn.
//!
//! What holds: damage inside the last group before a seal or another group looks like a torn write, by design, so the
//! frames that nothing behind them vouches for are spared, and so is the frame that vouches for the others.

use lockstep_storage::frame::FrameType;
use lockstep_storage::io::{Disk, FakeDisk};
use lockstep_storage::vote::VOTE_FILE_NAME;
use lockstep_storage::{Finding, inspect};

use crate::world::directory;

/// Bytes of a file that were synced, and what is in them.
#[derive(Clone, Debug)]
pub(crate) struct Stretch {
    pub(crate) path: String,
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) holds: Holds,
}

/// What damage to a stretch does to its replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    /// A segment's header: all entries of the segment may be lost with it.
    Header(Range),
    /// The same, where it has become another shard's. Whose directory this is only the vote says.
    Misnamed(Range),
    /// A frame that holds an entry.
    Entry {
        /// Its index.
        index: u64,
        /// What counts as damaged with it: its segment's entries.
        range: Range,
    },
    /// A seal with entries of its segment behind it, which nobody reaches who does not read over it.
    Seal(Range),
    /// A frame that is of use no more: a seal or footer behind the last entry of its segment.
    Spent(Range),
    /// One copy of the vote.
    Vote,
    /// All of a replica.
    Everything,
    /// The mark of a faulty replica. One that cannot be read counts as the worse kind: as a lost end.
    Mark,
    /// Nothing that is needed: files between two uses.
    Nothing,
}

/// Entries from one to another; the last segment's go on for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl Range {
    const ALL: Self = Self { first: 0, last: u64::MAX };

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl Holds {
    /// Entries that may be lost with it.
    pub(crate) fn range(self) -> Option<Range> {
        match self {
            Self::Header(range)
            | Self::Misnamed(range)
            | Self::Entry { range, .. }
            | Self::Seal(range)
            | Self::Spent(range) => Some(range),
            Self::Everything => Some(Range::ALL),
            Self::Vote | Self::Mark | Self::Nothing => None,
        }
    }

    /// Whether the vote is lost with it, or may be with the next copy.
    pub(crate) fn is_vote(self) -> bool {
        matches!(self, Self::Vote | Self::Everything)
    }

    /// Whether a confirmed leader, or every other replica, has to say what was there: a lost end of the log, a lost vote,
    /// or a mark that may have said so.
    pub(crate) fn needs_leader(self) -> bool {
        self.is_vote() || self == Self::Mark || self.range().is_some_and(|range| range.last == u64::MAX)
    }

    /// Whether entries are missing as long as it is damaged.
    pub(crate) fn is_needed(self) -> bool {
        matches!(
            self,
            Self::Header(_) | Self::Misnamed(_) | Self::Entry { .. } | Self::Seal(_) | Self::Everything
        )
    }
}

/// Bytes of the vote file's copies, without the zeros behind them.
const VOTE_COPIES: [(u64, u64); 2] = [(0, 48), (4096, 4144)];
/// Bytes of a segment header in front of its checkpoint.
const HEADER_FIXED_BYTES: u64 = 64;

/// A segment as its file has it.
struct Segment {
    path: String,
    /// The entry before its first.
    before: u64,
    /// Bytes of its header that count.
    header_bytes: u64,
    frames: Vec<Frame>,
}

struct Frame {
    from: u64,
    to: u64,
    index: u64,
    synced_index: u64,
    holds_entry: bool,
}

/// Where the durable files of a node's replica may be damaged.
pub(crate) fn of_replica(disk: &FakeDisk, shard: u64) -> Vec<Stretch> {
    let directory = directory(shard);
    let segments = segments(disk, &directory);
    let mut stretches = Vec::new();
    for (at, segment) in segments.iter().enumerate() {
        let next = segments.get(at + 1).map(|next| next.before);
        let range = Range { first: segment.before + 1, last: next.unwrap_or(u64::MAX) };
        let vouched_for = if next.is_some() { u64::MAX } else { segment.vouched_for() };
        let last_entry =
            segment.frames.iter().filter(|frame| frame.holds_entry).map(|frame| frame.from).max();
        let last_entry = last_entry.unwrap_or(0);
        let stretch = |from, to, holds| Stretch { path: segment.path.clone(), from, to, holds };
        stretches.push(stretch(0, segment.header_bytes, Holds::Header(range)));
        for frame in segment.frames.iter().filter(|frame| frame.to <= vouched_for) {
            let holds = match frame.holds_entry {
                true => Holds::Entry { index: frame.index, range },
                false if frame.from < last_entry => Holds::Seal(range),
                false => Holds::Spent(range),
            };
            stretches.push(stretch(frame.from, frame.to, holds));
        }
    }
    let vote = format!("{directory}/{VOTE_FILE_NAME}");
    if disk.durable_bytes(&vote).is_some() {
        let copy = |(from, to)| Stretch { path: vote.clone(), from, to, holds: Holds::Vote };
        stretches.extend(VOTE_COPIES.map(copy));
    }
    let mut whole = |path: String, holds| {
        let length = disk.durable_bytes(&path).map_or(0, |bytes| bytes.len() as u64);
        if length > 0 {
            stretches.push(Stretch { path, from: 0, to: length, holds });
        }
    };
    let free = disk.list("recycle").unwrap_or_default();
    free.into_iter().for_each(|name| whole(format!("recycle/{name}"), Holds::Nothing));
    whole(format!("{directory}.faulty"), Holds::Mark);
    stretches
}

/// Whether a place stands behind the last entry of its segment: behind the one with which the next segment begins, which
/// can be read and follows it.
pub(crate) fn is_behind_end(disk: &FakeDisk, shard: u64, place: &Stretch) -> bool {
    let segments = segments(disk, &directory(shard));
    let pairs = segments.iter().zip(segments.iter().skip(1));
    let Some((segment, next)) = pairs.into_iter().find(|(segment, _)| segment.path == place.path) else {
        return false;
    };
    let entries = segment.frames.iter().filter(|frame| frame.holds_entry);
    let last = entries.filter(|frame| frame.index <= next.before).max_by_key(|frame| frame.index);
    let reached = last.map_or(segment.before, |frame| frame.index);
    let end = last.map_or(segment.header_bytes, |frame| frame.to);
    reached == next.before && place.from >= end
}

/// The segments that can be read, as they would be after a power cut.
fn segments(disk: &FakeDisk, directory: &str) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    let copy = disk.durable_copy(directory);
    let inspected = inspect(&*copy, directory, &mut |finding| match finding {
        Finding::Segment { file, header, .. } => segments.push(Segment {
            path: file.to_owned(),
            before: header.checkpoint.index,
            header_bytes: HEADER_FIXED_BYTES + header.checkpoint.encode().len() as u64,
            frames: Vec::new(),
        }),
        Finding::Frame { position, header, .. } => {
            let Some(segment) = segments.last_mut() else { return };
            segment.frames.push(Frame {
                from: position,
                to: position + header.frame_bytes(),
                index: header.index,
                synced_index: header.synced_index,
                holds_entry: header.frame_type == FrameType::Entry,
            });
        }
        Finding::End { .. } | Finding::Damage { .. } => {}
    });
    inspected.map(|_| segments).unwrap_or_default()
}

impl Segment {
    /// Through this byte, frames say that what stands there was synced.
    fn vouched_for(&self) -> u64 {
        let mark = self.frames.iter().map(|frame| frame.synced_index).max().unwrap_or(0);
        let vouched = self.frames.iter().filter(|frame| frame.holds_entry && frame.index <= mark);
        vouched.map(|frame| frame.to).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use lockstep_storage::{Checkpoint, Entry, EntryKind, Log, LogOptions, RollState};

    use super::*;

    /// Two closed segments and an open one, each with a seal between its entries and one behind them.
    fn log() -> Arc<FakeDisk> {
        let disk = FakeDisk::new();
        disk.create_dir("shards").expect("a fresh disk");
        disk.sync_dir("").expect("a healthy disk");
        let (path, options) = (directory(1), LogOptions { shard: 1, ..LogOptions::default() });
        Log::create(disk.clone(), &path, &options, Checkpoint::default(), [1; 16])
            .expect("a fresh directory");
        let mut log = Log::recover(disk.clone(), &path, options, &mut |_| ()).expect("a fresh log").log;
        for number in 1..=3 {
            for _ in 0..2 {
                for _ in 0..3 {
                    let (envelope, body) = (Bytes::new(), Bytes::from_static(b"system"));
                    let entry = Entry {
                        index: log.last_index() + 1,
                        term: 1,
                        kind: EntryKind::Normal,
                        envelope,
                        body,
                    };
                    log.append(entry).expect("it continues the log");
                    flush(&mut log);
                }
                log.seal();
                flush(&mut log);
            }
            if number < 3 {
                log.roll(RollState::default(), [number + 1; 16]).expect("a small checkpoint");
            }
        }
        flush(&mut log);
        disk
    }

    fn flush(log: &mut Log) {
        while let Some(group) = log.take_group() {
            log.group_done(group.run()).expect("a healthy disk");
        }
    }

    #[test]
    fn only_what_stands_behind_the_last_entry_of_a_closed_segment_is_behind_its_end() {
        let disk = log();
        let stretches = of_replica(&disk, 1);
        let is_closed = |range: Range| range.last != u64::MAX;
        let mut counts = [0, 0];
        for stretch in &stretches {
            let expected = matches!(stretch.holds, Holds::Spent(range) if is_closed(range));
            assert_eq!(is_behind_end(&disk, 1, stretch), expected, "{stretch:?}");
            counts[usize::from(expected)] += 1;
        }
        assert!(counts[0] > 20 && counts[1] == 4, "{counts:?}");

        // Without the next segment's header nobody knows where the one before it ends.
        let header = stretches.iter().filter(|stretch| matches!(stretch.holds, Holds::Header(_))).nth(1);
        let header = header.expect("three segments");
        disk.corrupt(&header.path, 0, &[0; 64]).expect("it is there");
        let first = stretches
            .iter()
            .filter(|stretch| matches!(stretch.holds, Holds::Spent(range) if range.first == 1));
        for stretch in first {
            assert!(!is_behind_end(&disk, 1, stretch), "{stretch:?}");
        }
    }
}
