//! How far consumer groups have come: small state of a shard, and what a commit of it depends on.
//!
//! What holds here:
//! - It is a function of the log's prefix alone: every replica that has the same entries remembers the same.
//! - A position names what is read by its shard, whose id is never given again. It may be kept in another shard: that
//!   of the reader's output, so that an output batch and the position behind its input are one entry.
//! - A commit is judged once, when it is proposed, and then stands: nothing is judged when it is applied.
//! - At most [`POSITIONS_MAX`] positions of [`POSITIONS_BYTES_MAX`] bytes are remembered; the one that was committed
//!   longest ago, by Raft index, is dropped first. A commit that expects it is then refused.
//!
//! In a checkpoint, little endian:
//! ```text
//!  0  u32  positions
//!  then each: u64 index | i64 leader time | a commit, as `command.rs` draws it
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{Buf, BufMut, BytesMut};

use super::types::ShardId;

/// Positions remembered.
pub const POSITIONS_MAX: usize = 4096;
/// Bytes of all positions, as a checkpoint has them: each segment begins with one.
pub const POSITIONS_BYTES_MAX: usize = 1 << 20;
/// Bytes of a group's name.
pub const GROUP_BYTES_MAX: usize = 255;
/// Bytes of what a group notes beside a position.
pub const METADATA_BYTES_MAX: usize = 4096;

/// Bytes of a commit without its names: drawn in `command.rs`.
const COMMIT_BYTES: usize = 1 + 24 + 3;
/// Bytes of a position without its names: drawn above.
const FIXED_BYTES: usize = 16 + COMMIT_BYTES - 1;
const _: () = assert!(FIXED_BYTES + GROUP_BYTES_MAX + METADATA_BYTES_MAX < POSITIONS_BYTES_MAX);

/// How far a group has come in what it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The group.
    pub group: Arc<str>,
    /// The shard it reads.
    pub source: ShardId,
    /// The first LSN that is not processed: one above the last that is. A Kafka offset is one less.
    pub next_lsn: u64,
    /// Of the members that read this shard in turn the one that committed; a greater one shuts out the smaller.
    pub generation: u64,
    /// What the group noted.
    pub metadata: Arc<str>,
    /// The leader's clock when it was committed, in milliseconds since 1970.
    pub leader_time_ms: i64,
}

/// A position to be committed, and what that depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionCommit {
    /// The group: from 1 to [`GROUP_BYTES_MAX`] bytes.
    pub group: Arc<str>,
    /// The shard it reads.
    pub source: ShardId,
    /// The first LSN that is not processed, from 1 on.
    pub next_lsn: u64,
    /// The member's generation; not below the one that committed last.
    pub generation: u64,
    /// What the group notes, up to [`METADATA_BYTES_MAX`] bytes.
    pub metadata: Arc<str>,
    /// Commit only if the position is this one; 0 if there is none.
    pub expected_next_lsn: Option<u64>,
    /// Commit only if the generation that committed last is this one; 0 if there is none.
    pub expected_generation: Option<u64>,
}

/// Why a position is not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PositionRefusal {
    /// The group has no name that can be kept.
    #[error("a group's name has 1 to 255 bytes and no control characters; choose another")]
    Group,
    /// What is noted beside it is too long.
    #[error("metadata of {0} bytes beside a position; it may have 4096")]
    Metadata(usize),
    /// LSNs begin at 1.
    #[error("0 is no LSN; a group that has processed nothing goes on at 1")]
    Zero,
    /// A newer member has committed, or another one than expected.
    #[error("generation {current} of the group has committed; this member has been replaced and must stop")]
    Fenced {
        /// The generation that committed last.
        current: u64,
    },
    /// The position is not the expected one.
    #[error("the group's position is {next_lsn}, not the expected one; read it again and decide anew")]
    Conflict {
        /// What it is; 0 if there is none.
        next_lsn: u64,
    },
}

/// What is kept under a group and a source.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Kept {
    index: u64,
    next_lsn: u64,
    generation: u64,
    metadata: Arc<str>,
    leader_time_ms: i64,
}

type Key = (Arc<str>, ShardId);

/// How to take one entry's changes back.
#[derive(Clone, Debug)]
pub struct Undo(Vec<(Key, Option<Kept>)>);

/// The positions kept in one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    by_key: BTreeMap<Key, Kept>,
    by_age: BTreeSet<(u64, Key)>,
    bytes: usize,
}

impl PositionCommit {
    /// Bytes it takes in the log, beside the entry's own.
    pub fn bytes(&self) -> usize {
        COMMIT_BYTES + self.group.len() + self.metadata.len()
    }

    /// Whether it can be kept at all, whatever is known.
    pub fn check(&self) -> Result<(), PositionRefusal> {
        if !is_group(&self.group) {
            Err(PositionRefusal::Group)
        } else if self.metadata.len() > METADATA_BYTES_MAX {
            Err(PositionRefusal::Metadata(self.metadata.len()))
        } else if self.next_lsn == 0 {
            Err(PositionRefusal::Zero)
        } else {
            Ok(())
        }
    }
}

/// Whether a group may have this name.
pub fn is_group(name: &str) -> bool {
    (1..=GROUP_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

impl Positions {
    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Those of one group, or of all, in order of group and source.
    pub fn list<'a>(&'a self, group: Option<&'a str>) -> impl Iterator<Item = Position> + 'a {
        let from = (Arc::from(group.unwrap_or_default()), 0);
        let wanted = move |name: &str| group.is_none_or(|group| group == name);
        let kept = self.by_key.range(from..).take_while(move |((name, _), _)| wanted(name));
        kept.map(|((group, source), kept)| Position {
            group: Arc::clone(group),
            source: *source,
            next_lsn: kept.next_lsn,
            generation: kept.generation,
            metadata: Arc::clone(&kept.metadata),
            leader_time_ms: kept.leader_time_ms,
        })
    }

    /// Judges a commit against everything recorded so far.
    pub fn judge(&self, commit: &PositionCommit) -> Result<(), PositionRefusal> {
        commit.check()?;
        let kept = self.by_key.get(&(Arc::clone(&commit.group), commit.source));
        let (next_lsn, current) = kept.map_or((0, 0), |kept| (kept.next_lsn, kept.generation));
        if commit.generation < current || commit.expected_generation.is_some_and(|g| g != current) {
            Err(PositionRefusal::Fenced { current })
        } else if commit.expected_next_lsn.is_some_and(|expected| expected != next_lsn) {
            Err(PositionRefusal::Conflict { next_lsn })
        } else {
            Ok(())
        }
    }

    /// Remembers a commit that is in the log at `index`.
    pub fn record(&mut self, commit: &PositionCommit, index: u64, leader_time_ms: i64) -> Undo {
        let key = (Arc::clone(&commit.group), commit.source);
        let PositionCommit { next_lsn, generation, .. } = *commit;
        let kept =
            Kept { index, next_lsn, generation, metadata: Arc::clone(&commit.metadata), leader_time_ms };
        let mut undo = vec![(key.clone(), self.remove(&key))];
        self.insert(key, kept);
        while self.by_key.len() > POSITIONS_MAX || self.bytes > POSITIONS_BYTES_MAX {
            let Some((_, oldest)) = self.by_age.first().cloned() else { break };
            let dropped = self.remove(&oldest);
            undo.push((oldest, dropped));
        }
        Undo(undo)
    }

    /// Forgets a group's positions, or its one of a source.
    pub fn delete(&mut self, group: &str, source: Option<ShardId>) -> Undo {
        let wanted = |position: &Position| source.is_none_or(|source| source == position.source);
        let keys: Vec<Key> =
            self.list(Some(group)).filter(wanted).map(|found| (found.group, found.source)).collect();
        let removed = keys.into_iter().map(|key| {
            let kept = self.remove(&key);
            (key, kept)
        });
        Undo(removed.collect())
    }

    /// Takes back the newest change that has not been taken back yet.
    pub fn undo(&mut self, undo: Undo) {
        for (key, before) in undo.0.into_iter().rev() {
            self.remove(&key);
            if let Some(kept) = before {
                self.insert(key, kept);
            }
        }
    }

    /// Appends the bytes drawn above.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u32_le(self.by_key.len() as u32);
        for ((group, source), kept) in &self.by_key {
            out.put_u64_le(kept.index);
            out.put_i64_le(kept.leader_time_ms);
            encode_commit(group, *source, kept.next_lsn, kept.generation, &kept.metadata, out);
        }
    }

    /// Reads the bytes drawn above off the front of `bytes`; `None` if they are not what [`Self::encode`] writes.
    pub fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let mut positions = Self::default();
        for _ in 0..bytes.try_get_u32_le().ok()? {
            let (index, leader_time_ms) = (bytes.try_get_u64_le().ok()?, bytes.try_get_i64_le().ok()?);
            let PositionCommit { group, source, next_lsn, generation, metadata, .. } = decode_commit(bytes)?;
            let key = (group, source);
            if positions.by_key.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return None;
            }
            positions.insert(key, Kept { index, next_lsn, generation, metadata, leader_time_ms });
        }
        Some(positions)
    }

    fn insert(&mut self, key: Key, kept: Kept) {
        self.bytes += bytes_of(&key, &kept);
        self.by_age.insert((kept.index, key.clone()));
        self.by_key.insert(key, kept);
    }

    fn remove(&mut self, key: &Key) -> Option<Kept> {
        let kept = self.by_key.remove(key)?;
        self.bytes -= bytes_of(key, &kept);
        self.by_age.remove(&(kept.index, key.clone()));
        Some(kept)
    }
}

fn bytes_of((group, _): &Key, kept: &Kept) -> usize {
    FIXED_BYTES + group.len() + kept.metadata.len()
}

/// Appends a commit without its conditions, as `command.rs` draws it behind its tag.
pub(super) fn encode_commit(
    group: &str,
    source: ShardId,
    next_lsn: u64,
    generation: u64,
    metadata: &str,
    out: &mut BytesMut,
) {
    out.put_u64_le(source);
    out.put_u64_le(next_lsn);
    out.put_u64_le(generation);
    out.put_u8(group.len() as u8);
    out.put_slice(group.as_bytes());
    out.put_u16_le(metadata.len() as u16);
    out.put_slice(metadata.as_bytes());
}

/// Reads a commit off the front of `bytes`.
pub(super) fn decode_commit(bytes: &mut &[u8]) -> Option<PositionCommit> {
    let (source, next_lsn) = (bytes.try_get_u64_le().ok()?, bytes.try_get_u64_le().ok()?);
    let generation = bytes.try_get_u64_le().ok()?;
    let group_length = usize::from(bytes.try_get_u8().ok()?);
    let group = take_text(bytes, group_length)?;
    let metadata_length = usize::from(bytes.try_get_u16_le().ok()?);
    let metadata = take_text(bytes, metadata_length)?;
    let commit = PositionCommit {
        group,
        source,
        next_lsn,
        generation,
        metadata,
        expected_next_lsn: None,
        expected_generation: None,
    };
    commit.check().is_ok().then_some(commit)
}

/// Reads text of a length off the front of `bytes`.
pub(super) fn take_text(bytes: &mut &[u8], length: usize) -> Option<Arc<str>> {
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    std::str::from_utf8(text).ok().map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(group: &str, source: ShardId, next_lsn: u64) -> PositionCommit {
        PositionCommit {
            group: group.into(),
            source,
            next_lsn,
            generation: 0,
            metadata: "".into(),
            expected_next_lsn: None,
            expected_generation: None,
        }
    }

    fn next_lsns(positions: &Positions, group: Option<&str>) -> Vec<(String, ShardId, u64)> {
        positions.list(group).map(|found| (found.group.to_string(), found.source, found.next_lsn)).collect()
    }

    #[test]
    fn a_group_has_one_position_for_each_source_and_the_last_commit_counts() {
        let mut positions = Positions::default();
        for (index, (group, source, next_lsn)) in
            [("b", 7, 5), ("a", 7, 3), ("b", 8, 2), ("b", 7, 9), ("ab", 7, 1)].into_iter().enumerate()
        {
            positions.record(&commit(group, source, next_lsn), index as u64 + 1, 0);
        }
        let of_b = vec![("b".to_owned(), 7, 9), ("b".to_owned(), 8, 2)];
        assert_eq!(next_lsns(&positions, Some("b")), of_b);
        assert_eq!(next_lsns(&positions, Some("a")), vec![("a".to_owned(), 7, 3)]);
        assert_eq!(positions.list(None).count(), 4);
    }

    #[test]
    fn a_commit_that_expects_another_position_is_refused() {
        let mut positions = Positions::default();
        let expecting = |next_lsn| PositionCommit { expected_next_lsn: Some(next_lsn), ..commit("g", 7, 9) };
        assert_eq!(positions.judge(&expecting(0)), Ok(()));
        assert_eq!(positions.judge(&expecting(5)), Err(PositionRefusal::Conflict { next_lsn: 0 }));
        positions.record(&commit("g", 7, 5), 1, 0);
        assert_eq!(positions.judge(&expecting(5)), Ok(()));
        assert_eq!(positions.judge(&expecting(0)), Err(PositionRefusal::Conflict { next_lsn: 5 }));
        assert_eq!(positions.judge(&commit("g", 7, 1)), Ok(()), "without a condition it may go back");
    }

    #[test]
    fn of_two_members_that_take_over_one_does_and_the_former_one_is_fenced() {
        let mut positions = Positions::default();
        let member = |generation| PositionCommit { generation, ..commit("g", 7, 5) };
        positions.record(&member(3), 1, 0);
        let take_over = PositionCommit { expected_generation: Some(3), ..member(4) };
        assert_eq!(positions.judge(&take_over), Ok(()));
        positions.record(&take_over, 2, 0);
        assert_eq!(positions.judge(&take_over), Err(PositionRefusal::Fenced { current: 4 }));
        assert_eq!(positions.judge(&member(3)), Err(PositionRefusal::Fenced { current: 4 }));
        assert_eq!(positions.judge(&member(4)), Ok(()));
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let positions = Positions::default();
        for group in ["", "a\nb", &"g".repeat(GROUP_BYTES_MAX + 1)] {
            assert_eq!(positions.judge(&commit(group, 7, 1)), Err(PositionRefusal::Group), "{group:?}");
        }
        assert_eq!(positions.judge(&commit("g", 7, 0)), Err(PositionRefusal::Zero));
        let long =
            PositionCommit { metadata: "m".repeat(METADATA_BYTES_MAX + 1).into(), ..commit("g", 7, 1) };
        assert_eq!(positions.judge(&long), Err(PositionRefusal::Metadata(METADATA_BYTES_MAX + 1)));
    }

    #[test]
    fn undoing_everything_restores_everything() {
        let mut positions = Positions::default();
        positions.record(&commit("g", 7, 1), 1, 10);
        positions.record(&commit("g", 8, 1), 2, 10);
        let before = positions.clone();
        let undos = [
            positions.record(&commit("g", 7, 2), 3, 11),
            positions.record(&commit("h", 7, 2), 4, 12),
            positions.delete("g", None),
            positions.record(&commit("g", 7, 4), 6, 13),
            positions.delete("g", Some(8)),
        ];
        for undo in undos.into_iter().rev() {
            positions.undo(undo);
        }
        assert_eq!(positions, before);
    }

    #[test]
    fn the_position_committed_longest_ago_is_dropped_and_can_be_restored() {
        let mut positions = Positions::default();
        for source in 1..=POSITIONS_MAX as u64 {
            positions.record(&commit("g", source, 1), source, 0);
        }
        positions.record(&commit("g", 1, 2), 10_000, 0);
        let before = positions.clone();
        let undo = positions.record(&commit("new", 1, 1), 10_001, 0);
        assert_eq!(positions.len(), POSITIONS_MAX);
        assert_eq!(next_lsns(&positions, Some("g"))[..2], [("g".to_owned(), 1, 2), ("g".to_owned(), 3, 1)]);
        positions.undo(undo);
        assert_eq!(positions, before);
    }

    #[test]
    fn long_metadata_drops_as_many_as_it_takes() {
        let mut positions = Positions::default();
        let long = |source| PositionCommit {
            metadata: "m".repeat(METADATA_BYTES_MAX).into(),
            ..commit("g", source, 1)
        };
        for source in 1..=300 {
            positions.record(&long(source), source, 0);
            let mut bytes = BytesMut::new();
            positions.encode(&mut bytes);
            assert_eq!(bytes.len(), 4 + positions.bytes);
            assert!(positions.bytes <= POSITIONS_BYTES_MAX);
        }
        assert!(positions.len() > 200 && positions.len() < 300, "{}", positions.len());
        assert_eq!(positions.list(None).last().map(|last| last.source), Some(300));
    }

    #[test]
    fn an_encoded_state_reads_back_and_every_shortened_one_is_refused() {
        let mut positions = Positions::default();
        positions.record(&PositionCommit { metadata: "note".into(), ..commit("g", 7, 5) }, 1, 99);
        positions.record(&PositionCommit { generation: 3, ..commit("häuser", 9, 1) }, 2, 100);
        let mut bytes = BytesMut::new();
        positions.encode(&mut bytes);
        let mut whole = &bytes[..];
        assert_eq!(Positions::decode(&mut whole), Some(positions));
        assert!(whole.is_empty());
        assert!((0..bytes.len()).all(|length| Positions::decode(&mut &bytes[..length]).is_none()));
    }
}
