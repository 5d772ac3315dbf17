//! The newest entries, in memory.
//!
//! Invariants:
//! - Slots are consecutive and end with the log's last entry. Every entry above the committed index has one, so
//!   a truncation always knows where it cuts.
//! - A slot's payload is dropped, oldest first, only once the entry is synced: before, it cannot be read back.
//! - What slots with a payload cost, the slots themselves included, stays below the limit, except for what is not
//!   synced yet.

use crate::entry::{Entry, EntryKind};
use crate::envelope::Envelope;
use bytes::Bytes;
use std::collections::VecDeque;

/// What memory keeps of one entry.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    pub(crate) index: u64,
    pub(crate) term: u64,
    pub(crate) kind: EntryKind,
    /// The entry's envelope; `None` for a system entry.
    pub(crate) envelope: Option<Envelope>,
    /// LSN after which the entry comes.
    pub(crate) last_lsn_before: u64,
    pub(crate) chain_before: u64,
    pub(crate) chain: u64,
    /// Number of the segment it is in.
    pub(crate) segment: u64,
    /// Position of its frame there.
    pub(crate) position: u64,
    payload: Option<(Bytes, Bytes)>,
}

impl Slot {
    /// A slot that holds `entry`'s bytes.
    pub(crate) fn new(entry: &Entry, envelope: Option<Envelope>, place: SlotPlace) -> Self {
        Self {
            index: entry.index,
            term: entry.term,
            kind: entry.kind,
            envelope,
            last_lsn_before: place.last_lsn_before,
            chain_before: place.chain_before,
            chain: place.chain,
            segment: place.segment,
            position: place.position,
            payload: Some((entry.envelope.clone(), entry.body.clone())),
        }
    }

    pub(crate) fn record_count(&self) -> u64 {
        self.envelope.map_or(0, |envelope| u64::from(envelope.record_count))
    }

    pub(crate) fn last_lsn(&self) -> u64 {
        self.last_lsn_before + self.record_count()
    }

    /// The whole entry, if its bytes are still here.
    pub(crate) fn entry(&self) -> Option<Entry> {
        let (envelope, body) = self.payload.clone()?;
        Some(Entry { index: self.index, term: self.term, kind: self.kind, envelope, body })
    }

    pub(crate) fn payload_bytes(&self) -> usize {
        self.payload.as_ref().map_or(0, |(envelope, body)| envelope.len() + body.len())
    }

    /// What it takes of the cache: nothing once its payload is gone.
    fn cost_bytes(&self) -> usize {
        self.payload.as_ref().map_or(0, |_| SLOT_BYTES + self.payload_bytes())
    }
}

/// Memory a slot takes besides its payload: what counts where entries are small, or empty.
const SLOT_BYTES: usize = size_of::<Slot>();

/// Where an entry stands in the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotPlace {
    pub(crate) last_lsn_before: u64,
    pub(crate) chain_before: u64,
    pub(crate) chain: u64,
    pub(crate) segment: u64,
    pub(crate) position: u64,
}

/// The slots of the newest entries.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    slots: VecDeque<Slot>,
    /// How many slots at the front have lost their payload.
    bare: usize,
    cost_bytes: usize,
}

impl Tail {
    /// What the entries take of memory.
    pub(crate) fn cost_bytes(&self) -> usize {
        self.cost_bytes
    }

    pub(crate) fn push(&mut self, slot: Slot) {
        debug_assert!(self.slots.back().is_none_or(|last| last.index + 1 == slot.index));
        self.cost_bytes += slot.cost_bytes();
        self.slots.push_back(slot);
    }

    pub(crate) fn get(&self, index: u64) -> Option<&Slot> {
        let at = index.checked_sub(self.slots.front()?.index)?;
        self.slots.get(usize::try_from(at).ok()?)
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }

    /// Drops payloads above `limit_bytes` that are synced, then slots nobody can ask for.
    pub(crate) fn evict(&mut self, limit_bytes: usize, synced_index: u64, commit: u64) {
        while self.cost_bytes > limit_bytes
            && let Some(slot) = self.slots.get_mut(self.bare)
            && slot.index <= synced_index
        {
            self.cost_bytes -= slot.cost_bytes();
            slot.payload = None;
            self.bare += 1;
        }
        while self.bare > 0 && self.slots.front().is_some_and(|slot| slot.index <= commit) {
            self.slots.pop_front();
            self.bare -= 1;
        }
    }

    /// Drops slots from `index` on.
    pub(crate) fn truncate(&mut self, index: u64) {
        while self.slots.back().is_some_and(|slot| slot.index >= index) {
            self.cost_bytes -= self.slots.pop_back().map_or(0, |slot| slot.cost_bytes());
        }
        self.bare = self.bare.min(self.slots.len());
    }

    /// Slots from `index` on that have their bytes; empty if that one has not.
    pub(crate) fn starting_at(&self, index: u64) -> impl Iterator<Item = &Slot> {
        let first = self.slots.front().map_or(0, |slot| slot.index);
        let at = index.checked_sub(first).and_then(|at| usize::try_from(at).ok());
        let at = at.filter(|at| *at >= self.bare).unwrap_or(self.slots.len());
        self.slots.range(at.min(self.slots.len())..)
    }

    /// Slots from the one that holds `lsn` on; `None` if its bytes are not here.
    pub(crate) fn holding(&self, lsn: u64) -> Option<impl Iterator<Item = &Slot>> {
        let at = self.slots.partition_point(|slot| slot.last_lsn() < lsn);
        let slot = self.slots.get(at)?;
        let here = at >= self.bare && slot.last_lsn_before < lsn;
        here.then(|| self.slots.range(at..))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(index: u64, bytes: usize) -> Slot {
        let entry = Entry {
            index,
            term: 1,
            kind: EntryKind::Normal,
            envelope: Bytes::new(),
            body: Bytes::from(vec![0; bytes]),
        };
        let place = SlotPlace { last_lsn_before: 0, chain_before: 0, chain: 0, segment: 1, position: 0 };
        Slot::new(&entry, None, place)
    }

    #[test]
    fn what_is_not_synced_is_never_evicted() {
        let mut tail = Tail::default();
        (1..=10).for_each(|index| tail.push(slot(index, 100)));
        tail.evict(0, 4, 10);
        assert!(tail.get(4).is_none());
        assert_eq!(tail.starting_at(5).count(), 6);
    }

    #[test]
    fn entries_without_bytes_fill_the_cache_too() {
        let mut tail = Tail::default();
        (1..=1000).for_each(|index| tail.push(slot(index, 0)));
        tail.evict(10 * SLOT_BYTES, 1000, 1000);
        assert_eq!(tail.slots().count(), 10);
        tail.truncate(1);
        assert_eq!(tail.cost_bytes, 0);
    }

    #[test]
    fn an_uncommitted_entry_keeps_its_slot_without_its_bytes() {
        let mut tail = Tail::default();
        (1..=10).for_each(|index| tail.push(slot(index, 100)));
        tail.evict(3 * (SLOT_BYTES + 100), 10, 2);
        assert!(tail.get(2).is_none());
        assert!(tail.get(3).is_some_and(|slot| slot.entry().is_none()));
        assert_eq!(tail.starting_at(3).count(), 0);
        assert_eq!(tail.starting_at(8).count(), 3);
    }
}
