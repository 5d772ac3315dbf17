//! Entries that have to stay in memory: not committed, or not yet synced here.
//!
//! A leader takes no more than [`BACKLOG_BYTES_MAX`] of them. Committing through the fastest majority frees a
//! producer's share of the node's budget while this node's own disk may still lag, and a majority without room on its
//! disks commits nothing at all: neither may fill the memory.

use std::collections::VecDeque;

/// Bytes a leader keeps waiting before it refuses more.
pub const BACKLOG_BYTES_MAX: u64 = 256 << 20;

/// The entries that wait, oldest first.
#[derive(Debug, Default)]
pub struct Backlog {
    entries: VecDeque<(u64, u64)>,
    bytes: u64,
    taken_in_bytes: u64,
}

impl Backlog {
    /// Takes the next entry in.
    pub fn push(&mut self, index: u64, bytes: usize) {
        self.entries.push_back((index, bytes as u64));
        self.bytes += bytes as u64;
        self.taken_in_bytes += bytes as u64;
    }

    /// All that was ever taken in, in bytes.
    pub fn taken_in_bytes(&self) -> u64 {
        self.taken_in_bytes
    }

    /// The entries up to `index` are committed and synced.
    pub fn settle(&mut self, index: u64) {
        while self.entries.front().is_some_and(|(first, _)| *first <= index) {
            self.bytes -= self.entries.pop_front().map_or(0, |(_, bytes)| bytes);
        }
    }

    /// The entries from `index` on are gone.
    pub fn roll_back(&mut self, index: u64) {
        while self.entries.back().is_some_and(|(last, _)| *last >= index) {
            self.bytes -= self.entries.pop_back().map_or(0, |(_, bytes)| bytes);
        }
    }

    /// Whether a leader must not add to it.
    pub fn is_full(&self) -> bool {
        self.bytes >= BACKLOG_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_until_settled_or_rolled_back() {
        let mut backlog = Backlog::default();
        for index in 1..=4 {
            backlog.push(index, BACKLOG_BYTES_MAX as usize / 4);
        }
        assert!(backlog.is_full());
        backlog.settle(1);
        assert!(!backlog.is_full());
        backlog.roll_back(3);
        assert_eq!(backlog.bytes, BACKLOG_BYTES_MAX / 4);
        backlog.settle(9);
        assert_eq!(backlog.bytes, 0);
    }
}
