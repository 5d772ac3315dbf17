//! What memory knows of the log's entries without asking the disk: Raft's view of it.
//!
//! Invariant: terms are known for every index kept and for the one before; bodies for what the tail caches.

use super::{EntriesError, Log};
use crate::entry::{Entry, EntryKind};

impl Log {
    /// Index of the first entry kept: the one after the oldest segment's checkpoint.
    pub fn first_index(&self) -> u64 {
        self.oldest.index + 1
    }

    /// Index of the last entry; `first_index() - 1` if there is none.
    pub fn last_index(&self) -> u64 {
        self.tip.index
    }

    /// Term of the last entry, or of the checkpoint if there is none.
    pub fn last_term(&self) -> u64 {
        self.tip.term
    }

    /// The last LSN given out; 0 before the first.
    pub fn last_lsn(&self) -> u64 {
        self.tip.last_lsn
    }

    /// The LSN the next record gets.
    pub fn next_lsn(&self) -> u64 {
        self.tip.last_lsn + 1
    }

    /// Chain value through the last entry: equal (index, chain) on two replicas means equal logs up to there.
    pub fn last_chain(&self) -> u64 {
        self.tip.chain
    }

    /// Chain value through `index`, if memory still has it: always for entries above the committed index.
    pub fn chain(&self, index: u64) -> Option<u64> {
        if index == self.tip.index {
            return Some(self.tip.chain);
        }
        let view = self.view();
        let through = view.tail.get(index).map(|slot| slot.chain);
        through.or_else(|| view.tail.get(index + 1).map(|slot| slot.chain_before))
    }

    /// Term of entry `index`, from `first_index() - 1` (which the checkpoint knows) to the last.
    pub fn term(&self, index: u64) -> Option<u64> {
        if index == self.oldest.index {
            return Some(self.oldest.term);
        }
        if index < self.oldest.index || index > self.tip.index {
            return None;
        }
        let after = self.terms.partition_point(|run| run.first_index <= index);
        after.checked_sub(1).and_then(|at| self.terms.get(at)).map(|run| run.term)
    }

    /// The first index of a term, if the log has entries of it and not only the last before its first.
    pub fn first_of_term(&self, term: u64) -> Option<u64> {
        let run = self.terms.iter().rev().find(|run| run.term <= term)?;
        (run.term == term && run.first_index >= self.first_index()).then_some(run.first_index)
    }

    /// Term and kind of an entry that is not yet applied, without touching its body.
    pub fn stub(&self, index: u64) -> Option<(u64, EntryKind)> {
        let in_log = index >= self.first_index();
        let kind = self.memberships.get(&index).map_or(EntryKind::Normal, |entry| entry.kind);
        self.term(index).filter(|_| in_log).map(|term| (term, kind))
    }

    /// The membership entry at `index`, whole: kept from its append until a roll whose state it is part of.
    pub fn membership_entry(&self, index: u64) -> Option<&Entry> {
        self.memberships.get(&index)
    }

    /// Entries `low..high` from memory, as many as `max_bytes` of payload allow and at least one.
    ///
    /// # Errors
    /// [`EntriesError`] says whether to send a snapshot, read from disk, or ask for less.
    pub fn entries(&self, low: u64, high: u64, max_bytes: usize) -> Result<Vec<Entry>, EntriesError> {
        let (first, last) = (self.first_index(), self.tip.index);
        if low < first {
            return Err(EntriesError::Compacted { index: low, first });
        }
        if high > last + 1 {
            return Err(EntriesError::OutOfRange { index: high - 1, last });
        }
        let mut taken = Vec::new();
        let mut bytes = 0;
        for slot in self.view().tail.starting_at(low).take_while(|slot| slot.index < high) {
            bytes += slot.payload_bytes();
            if bytes > max_bytes && !taken.is_empty() {
                break;
            }
            taken.extend(slot.entry());
        }
        if taken.is_empty() && low < high { Err(EntriesError::NotCached { index: low }) } else { Ok(taken) }
    }
}
