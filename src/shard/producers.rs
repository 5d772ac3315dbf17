//! What a shard remembers of idempotent producers, so that a retry gets its original LSNs back (KIP-98).
//!
//! What holds here:
//! - It is a function of the log's prefix alone: every replica that has the same entries remembers the same.
//! - Of each producer the last [`BATCHES_KEPT`] batches are remembered, the most Kafka's clients have in flight.
//! - At most [`PRODUCERS_MAX`] producers are; the one that wrote longest ago, by Raft index, is dropped first.
//!
//! In a checkpoint, little endian:
//! ```text
//!  0  u32  producers
//!  then each: i64 id | i16 epoch | u64 last index | u8 batches | each batch: i32 first | i32 last sequence | u64 first LSN
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{Buf, BufMut, BytesMut};
use lockstep_planted::{self as planted, Bug};

/// Batches remembered of each producer.
pub const BATCHES_KEPT: usize = 5;
/// Producers remembered.
pub const PRODUCERS_MAX: usize = 4096;

/// Who wrote a batch, and where it stands among that producer's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The producer's id.
    pub producer: i64,
    /// Its epoch.
    pub epoch: i16,
    /// Sequence of the batch's first record.
    pub first: i32,
    /// Records in the batch, at least one.
    pub count: u32,
}

impl Sequence {
    /// Sequences wrap around from `i32::MAX` to 0.
    fn last(&self) -> i32 {
        wrap(self.first, self.count - 1)
    }
}

/// What a producer's sequence says about its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the next one.
    Next,
    /// It was appended before.
    Duplicate {
        /// LSN its first record got then.
        first_lsn: u64,
    },
    /// It was appended before, and its LSNs are forgotten.
    DuplicateTooOld,
    /// Something before it is missing.
    OutOfOrder {
        /// The sequence that would be next.
        expected: i32,
    },
    /// The producer is not known and does not begin at 0.
    Unknown,
    /// A newer epoch has written.
    Fenced {
        /// That epoch.
        current: i16,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    first: i32,
    last: i32,
    first_lsn: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    last_index: u64,
    batches: VecDeque<Batch>,
}

/// How to take one batch back.
#[derive(Clone, Debug)]
pub struct Undo {
    producer: i64,
    before: Option<Producer>,
    dropped: Option<(i64, Producer)>,
}

/// The producers of one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producers {
    by_id: BTreeMap<i64, Producer>,
    by_age: BTreeSet<(u64, i64)>,
}

impl Producers {
    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Judges a batch against everything recorded so far.
    pub fn judge(&self, sequence: Sequence) -> Standing {
        let Some(producer) = self.by_id.get(&sequence.producer) else {
            return if sequence.first == 0 { Standing::Next } else { Standing::Unknown };
        };
        if sequence.epoch < producer.epoch {
            return Standing::Fenced { current: producer.epoch };
        }
        if sequence.epoch > producer.epoch {
            return if sequence.first == 0 { Standing::Next } else { Standing::OutOfOrder { expected: 0 } };
        }
        let same = |batch: &&Batch| batch.first == sequence.first && batch.last == sequence.last();
        if let Some(batch) = producer.batches.iter().find(same) {
            return Standing::Duplicate { first_lsn: batch.first_lsn };
        }
        let expected = producer.batches.back().map_or(0, |batch| wrap(batch.last, 1));
        if sequence.first == expected {
            Standing::Next
        } else if is_before(sequence.first, expected) && is_before(sequence.last(), expected) {
            Standing::DuplicateTooOld
        } else if planted::is_active(Bug::AcceptSequenceGap) {
            Standing::Next
        } else {
            Standing::OutOfOrder { expected }
        }
    }

    /// Remembers a batch that is in the log at `index`.
    pub fn record(&mut self, sequence: Sequence, index: u64, first_lsn: u64) -> Undo {
        let before = self.by_id.remove(&sequence.producer);
        let mut producer = match &before {
            Some(producer) if producer.epoch == sequence.epoch => producer.clone(),
            _ => Producer { epoch: sequence.epoch, last_index: 0, batches: VecDeque::new() },
        };
        if let Some(before) = &before {
            self.by_age.remove(&(before.last_index, sequence.producer));
        }
        producer.batches.push_back(Batch { first: sequence.first, last: sequence.last(), first_lsn });
        if producer.batches.len() > BATCHES_KEPT {
            producer.batches.pop_front();
        }
        producer.last_index = index;
        self.insert(sequence.producer, producer);
        let dropped = (self.by_id.len() > PRODUCERS_MAX).then(|| self.drop_oldest()).flatten();
        Undo { producer: sequence.producer, before, dropped }
    }

    /// Takes back the newest recorded batch that has not been taken back yet.
    pub fn undo(&mut self, undo: Undo) {
        self.remove(undo.producer);
        for (id, producer) in
            undo.before.map(|before| (undo.producer, before)).into_iter().chain(undo.dropped)
        {
            self.insert(id, producer);
        }
    }

    /// Appends the bytes drawn above.
    pub fn encode(&self, out: &mut BytesMut) {
        out.put_u32_le(self.by_id.len() as u32);
        for (id, producer) in &self.by_id {
            out.put_i64_le(*id);
            out.put_i16_le(producer.epoch);
            out.put_u64_le(producer.last_index);
            out.put_u8(producer.batches.len() as u8);
            for batch in &producer.batches {
                out.put_i32_le(batch.first);
                out.put_i32_le(batch.last);
                out.put_u64_le(batch.first_lsn);
            }
        }
    }

    /// Reads the bytes drawn above off the front of `bytes`; `None` if they are not what [`Self::encode`] writes.
    pub fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let mut producers = Self::default();
        for _ in 0..bytes.try_get_u32_le().ok()? {
            let id = bytes.try_get_i64_le().ok()?;
            let epoch = bytes.try_get_i16_le().ok()?;
            let last_index = bytes.try_get_u64_le().ok()?;
            let count = usize::from(bytes.try_get_u8().ok()?);
            let mut batches = VecDeque::with_capacity(count.min(BATCHES_KEPT));
            for _ in 0..count {
                let (first, last) = (bytes.try_get_i32_le().ok()?, bytes.try_get_i32_le().ok()?);
                batches.push_back(Batch { first, last, first_lsn: bytes.try_get_u64_le().ok()? });
            }
            producers.insert(id, Producer { epoch, last_index, batches });
        }
        Some(producers)
    }

    fn insert(&mut self, id: i64, producer: Producer) {
        self.by_age.insert((producer.last_index, id));
        self.by_id.insert(id, producer);
    }

    fn remove(&mut self, id: i64) -> Option<Producer> {
        let producer = self.by_id.remove(&id)?;
        self.by_age.remove(&(producer.last_index, id));
        Some(producer)
    }

    fn drop_oldest(&mut self) -> Option<(i64, Producer)> {
        let (_, id) = *self.by_age.first()?;
        Some((id, self.remove(id)?))
    }
}

fn wrap(sequence: i32, add: u32) -> i32 {
    ((i64::from(sequence) + i64::from(add)) % (i64::from(i32::MAX) + 1)) as i32
}

/// Whether `sequence` lies in the half of the circle before `expected`.
fn is_before(sequence: i32, expected: i32) -> bool {
    let circle = i64::from(i32::MAX) + 1;
    (1..circle / 2).contains(&(i64::from(expected) - i64::from(sequence)).rem_euclid(circle))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(producer: i64, first: i32, count: u32) -> Sequence {
        Sequence { producer, epoch: 0, first, count }
    }

    #[test]
    fn a_retry_gets_its_original_lsns() {
        let mut producers = Producers::default();
        producers.record(sequence(1, 0, 2), 1, 1);
        producers.record(sequence(1, 2, 3), 2, 3);
        assert_eq!(producers.judge(sequence(1, 0, 2)), Standing::Duplicate { first_lsn: 1 });
        assert_eq!(producers.judge(sequence(1, 2, 3)), Standing::Duplicate { first_lsn: 3 });
        assert_eq!(producers.judge(sequence(1, 5, 1)), Standing::Next);
        assert_eq!(producers.judge(sequence(1, 6, 1)), Standing::OutOfOrder { expected: 5 });
        assert_eq!(producers.judge(sequence(2, 6, 1)), Standing::Unknown);
    }

    #[test]
    fn what_is_no_longer_remembered_is_a_duplicate_all_the_same() {
        let mut producers = Producers::default();
        for batch in 0..=BATCHES_KEPT as i32 {
            producers.record(sequence(1, batch, 1), batch as u64 + 1, batch as u64 + 1);
        }
        assert_eq!(producers.judge(sequence(1, 0, 1)), Standing::DuplicateTooOld);
        assert_eq!(producers.judge(sequence(1, 1, 1)), Standing::Duplicate { first_lsn: 2 });
    }

    #[test]
    fn a_batch_that_only_overlaps_what_was_stored_is_no_duplicate() {
        let mut producers = Producers::default();
        producers.record(sequence(1, 0, 1), 1, 1);
        assert_eq!(producers.judge(sequence(1, 0, 2)), Standing::OutOfOrder { expected: 1 });
    }

    #[test]
    fn a_newer_epoch_starts_at_zero_and_fences_the_older() {
        let mut producers = Producers::default();
        producers.record(sequence(1, 0, 4), 1, 1);
        let newer = |first| Sequence { epoch: 1, ..sequence(1, first, 1) };
        assert_eq!(producers.judge(newer(4)), Standing::OutOfOrder { expected: 0 });
        assert_eq!(producers.judge(newer(0)), Standing::Next);
        producers.record(newer(0), 2, 5);
        assert_eq!(producers.judge(sequence(1, 4, 1)), Standing::Fenced { current: 1 });
    }

    #[test]
    fn sequences_wrap_around() {
        let mut producers = Producers::default();
        producers.record(Sequence { first: i32::MAX - 1, ..sequence(1, 0, 3) }, 1, 1);
        assert_eq!(producers.judge(sequence(1, 1, 1)), Standing::Next);
        assert_eq!(producers.judge(sequence(1, i32::MAX, 1)), Standing::DuplicateTooOld);
    }

    #[test]
    fn undoing_everything_restores_everything() {
        let mut producers = Producers::default();
        producers.record(sequence(1, 0, 1), 1, 1);
        let before = producers.clone();
        let undos = [
            producers.record(sequence(1, 1, 1), 2, 2),
            producers.record(sequence(2, 0, 1), 3, 3),
            producers.record(Sequence { epoch: 1, ..sequence(1, 0, 1) }, 4, 4),
        ];
        for undo in undos.into_iter().rev() {
            producers.undo(undo);
        }
        assert_eq!(producers, before);
    }

    #[test]
    fn the_producer_that_wrote_longest_ago_is_dropped_and_can_be_restored() {
        let mut producers = Producers::default();
        for id in 0..PRODUCERS_MAX as i64 {
            producers.record(sequence(id, 0, 1), id as u64 + 1, id as u64 + 1);
        }
        producers.record(sequence(0, 1, 1), 10_000, 10_000);
        let before = producers.clone();
        let undo = producers.record(sequence(-7, 0, 1), 10_001, 10_001);
        assert_eq!(producers.len(), PRODUCERS_MAX);
        assert_eq!(producers.judge(sequence(1, 1, 1)), Standing::Unknown);
        assert_eq!(producers.judge(sequence(0, 2, 1)), Standing::Next);
        producers.undo(undo);
        assert_eq!(producers, before);
    }

    #[test]
    fn an_encoded_state_reads_back_and_every_shortened_one_is_refused() {
        let mut producers = Producers::default();
        producers.record(sequence(1, 0, 2), 1, 1);
        producers.record(sequence(9, 0, 1), 2, 3);
        let mut bytes = BytesMut::new();
        producers.encode(&mut bytes);
        let mut whole = &bytes[..];
        assert_eq!(Producers::decode(&mut whole), Some(producers));
        assert!(whole.is_empty());
        assert!((0..bytes.len()).all(|length| Producers::decode(&mut &bytes[..length]).is_none()));
    }
}
