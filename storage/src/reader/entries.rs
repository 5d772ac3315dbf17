//! Entries by index, with the chain values by which another replica proves what it is sent.

use super::walk::{Target, Walk};
use super::{LogReader, ReadError};
use crate::entry::Entry;

/// An entry, and the chain through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainedEntry {
    /// The entry.
    pub entry: Entry,
    /// Chain value through it.
    pub chain: u64,
}

impl LogReader {
    /// Entries `low..high` from disk, as many as `max_bytes` of payload allow and at least one; fewer if the rest
    /// is not synced yet, or would cost one more read of the disk. Blocks; verifies every checksum.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read_entries(&self, low: u64, high: u64, max_bytes: usize) -> Result<Vec<Entry>, ReadError> {
        let taken = self.chained_on_disk(low, high, max_bytes)?;
        Ok(taken.into_iter().map(|taken| taken.entry).collect())
    }

    /// The chain value through entry `index`, committed or not, from memory or else from disk: for every entry kept
    /// and for the one before the first. May block.
    ///
    /// # Errors
    /// [`ReadError`]; [`ReadError::AtEnd`] above the last entry.
    pub fn chain_at(&self, index: u64) -> Result<u64, ReadError> {
        {
            let view = self.shared.view();
            let through = view.tail.get(index).map(|slot| slot.chain);
            let before = || view.tail.get(index.checked_add(1)?).map(|slot| slot.chain_before);
            let mut checkpoints = view.index.segments().map(|segment| &segment.checkpoint);
            let stands = || checkpoints.find(|at| at.index == index).map(|at| at.chain);
            if let Some(chain) = through.or_else(before).or_else(stands) {
                return Ok(chain);
            }
        }
        let found = self.chained_on_disk(index, index.saturating_add(1), 0)?;
        found.first().map(|found| found.chain).ok_or(ReadError::AtEnd)
    }

    /// Entries `low..high`, committed or not, from memory or else from disk, as many as `max_bytes` of payload allow
    /// and at least one; fewer where memory begins, or ends. May block.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn chained_entries(
        &self,
        low: u64,
        high: u64,
        max_bytes: usize,
    ) -> Result<Vec<ChainedEntry>, ReadError> {
        let cached = self.chained_in_memory(low, high, max_bytes);
        if cached.is_empty() { self.chained_on_disk(low, high, max_bytes) } else { Ok(cached) }
    }

    fn chained_in_memory(&self, low: u64, high: u64, max_bytes: usize) -> Vec<ChainedEntry> {
        let mut taken = Taken::new(max_bytes);
        let view = self.shared.view();
        for slot in view.tail.starting_at(low).take_while(|slot| slot.index < high) {
            let Some(entry) = slot.entry().filter(|entry| taken.has_room(entry)) else { break };
            taken.entries.push(ChainedEntry { entry, chain: slot.chain });
        }
        taken.entries
    }

    fn chained_on_disk(&self, low: u64, high: u64, max_bytes: usize) -> Result<Vec<ChainedEntry>, ReadError> {
        let mut walk = {
            let view = self.shared.view();
            if low <= view.index.oldest().checkpoint.index {
                return Err(ReadError::BelowStart { log_start: view.log_start });
            }
            let segment = view.index.for_index(low);
            Walk::new(&self.shared, &view, segment, Target::Index(low)).wanting(max_bytes)
        };
        walk.seek()?;
        let mut taken = Taken::new(max_bytes);
        while !taken.is_mostly_full() || walk.is_next_at_hand() {
            let frame = match walk.next() {
                Ok(Some(frame)) => frame,
                Err(error) if taken.entries.is_empty() => return Err(error),
                Ok(None) | Err(_) => break,
            };
            let (entry, chain) = (frame.entry, frame.header.chain);
            if entry.index < low {
                continue;
            }
            if entry.index >= high || !taken.has_room(&entry) {
                break;
            }
            taken.entries.push(ChainedEntry { entry, chain });
        }
        if taken.entries.is_empty() { Err(ReadError::AtEnd) } else { Ok(taken.entries) }
    }
}

/// Entries for one answer, within its limit.
struct Taken {
    entries: Vec<ChainedEntry>,
    bytes: usize,
    max_bytes: usize,
}

impl Taken {
    fn new(max_bytes: usize) -> Self {
        Self { entries: Vec::new(), bytes: 0, max_bytes }
    }

    fn is_mostly_full(&self) -> bool {
        !self.entries.is_empty() && self.bytes >= self.max_bytes / 2
    }

    /// Whether one more may be taken: at least one may.
    fn has_room(&mut self, entry: &Entry) -> bool {
        self.bytes += entry.payload_bytes();
        self.bytes <= self.max_bytes || self.entries.is_empty()
    }
}
