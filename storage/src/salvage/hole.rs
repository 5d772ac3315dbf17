//! Where something that was synced is missing.

use crate::log::Damage;

/// A place in the log by the chain: equal index and chain on two replicas means equal logs up to there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainPoint {
    /// Raft index of an entry.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Chain value through it.
    pub chain: u64,
}

/// A run of synced entries that cannot be read, all in one segment. It may hold no entry at all: then only a seal is
/// broken, or a header in front of which nothing is missing, and the segment is patched without any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Number of its segment.
    pub segment: u64,
    /// The segment's file, relative to the data directory.
    pub file: String,
    /// Where in it the damage begins, in bytes.
    pub position: u64,
    /// The entry before it. `None` where the log's oldest header is lost: then a peer's checkpoint says where to begin.
    pub before: Option<ChainPoint>,
    /// The last entry missing; `None` if nothing intact stands behind it: the log can only be cut there.
    pub last_index: Option<u64>,
    /// The chain value through `last_index`, where a header behind the hole tells it. Where it is `None`, the entry
    /// behind the hole proves what is filled in.
    pub last_chain: Option<u64>,
    /// The segment's header is lost with its checkpoint: a patch needs one handed in, as of `before`.
    pub header_lost: bool,
    /// What is wrong.
    pub why: &'static str,
}

impl Hole {
    /// The first entry missing, if anything tells it.
    pub fn first_index(&self) -> Option<u64> {
        self.before.map(|before| before.index + 1)
    }

    /// Whether something intact stands behind it, so that a [`Patch`](super::Patch) can be proven on both sides.
    pub fn is_closed(&self) -> bool {
        self.last_index.is_some()
    }

    /// Whether no entry is missing: only a seal is broken, or a header.
    pub fn is_empty(&self) -> bool {
        self.before.is_some_and(|before| self.last_index == Some(before.index))
    }

    /// The same in the words of recovery and reads.
    pub fn damage(&self, synced_index: u64) -> Damage {
        let index = self.first_index().unwrap_or(0);
        Damage { file: self.file.clone(), position: self.position, index, synced_index, why: self.why }
    }
}
