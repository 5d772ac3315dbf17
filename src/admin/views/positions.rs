//! How far consumer groups have come.

use serde::{Deserialize, Serialize};

/// A position that is kept in a partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PositionView {
    /// The group.
    pub group: String,
    /// The topic it reads.
    pub topic: String,
    /// The partition it reads.
    pub partition: u32,
    /// The first LSN that is not processed.
    pub next_lsn: u64,
    /// The generation of the member that committed it.
    pub generation: u64,
    /// What the group noted.
    pub metadata: String,
    /// The leader's time of the commit, in milliseconds since 1970 UTC.
    pub leader_time_ms: u64,
}

/// A position to be committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NewPosition {
    /// What the group reads, if not the partition that keeps the position.
    pub source: Option<Source>,
    /// The first LSN that is not processed.
    pub next_lsn: u64,
    /// The member's generation.
    pub generation: u64,
    /// What the group notes.
    pub metadata: String,
    /// Commit only if the position is this one; 0 if there is none.
    pub expected_next_lsn: Option<u64>,
    /// Commit only if this generation committed last; 0 if there is none.
    pub expected_generation: Option<u64>,
}

/// A partition that is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The topic.
    pub topic: String,
    /// The partition's number in it.
    pub partition: u32,
}
