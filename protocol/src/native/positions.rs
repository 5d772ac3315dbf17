//! Positions: how far consumer groups have come.
//!
//! A position says of a group and a partition it reads which LSN is the first that is not processed. It is kept in a
//! partition: by default in the one that is read, else in the one that the group writes to. A produce request to
//! that one may carry it, and then batch and position are committed as one, or neither is.

use crate::wire::wire_fields;

/// A position to be committed, and what that depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionCommit {
    /// The group: 1 to 255 bytes without control characters.
    pub group: String,
    /// The topic it reads.
    pub topic: String,
    /// The partition it reads.
    pub partition: u32,
    /// The first LSN that is not processed, from 1 on. A Kafka offset is one less.
    pub next_lsn: u64,
    /// The member's generation; below the one that committed last it is refused with
    /// [`GenerationFenced`](crate::ErrorCode::GenerationFenced).
    pub generation: u64,
    /// What the group notes beside it, up to 4096 bytes.
    pub metadata: String,
    /// Commit only if the position is this one, 0 for none; else
    /// [`PositionConflict`](crate::ErrorCode::PositionConflict), its detail the position.
    pub expected_next_lsn: Option<u64>,
    /// Commit only if the generation that committed last is this one, 0 for none; else
    /// [`GenerationFenced`](crate::ErrorCode::GenerationFenced), its detail that generation.
    pub expected_generation: Option<u64>,
}

wire_fields!(PositionCommit {
    group,
    topic,
    partition,
    next_lsn,
    generation,
    metadata,
    expected_next_lsn,
    expected_generation,
});

/// Commits a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPositionRequest {
    /// The topic it is kept in.
    pub topic: String,
    /// The partition it is kept in.
    pub partition: u32,
    /// The position.
    pub position: PositionCommit,
}

wire_fields!(CommitPositionRequest { topic, partition, position });

/// The position is committed: synced on a majority of the replicas of the partition it is kept in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPositionResponse {}

wire_fields!(CommitPositionResponse {});

/// Asks for the positions kept in a partition. The leader confirms with a majority that it still leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPositionsRequest {
    /// The topic they are kept in.
    pub topic: String,
    /// The partition they are kept in.
    pub partition: u32,
    /// Of this group; of all without.
    pub group: Option<String>,
}

wire_fields!(ListPositionsRequest { topic, partition, group });

/// The positions, by group. Those of partitions that were deleted are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPositionsResponse {
    /// All of them.
    pub positions: Vec<Position>,
}

wire_fields!(ListPositionsResponse { positions });

/// A committed position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
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

wire_fields!(Position { group, topic, partition, next_lsn, generation, metadata, leader_time_ms });

/// Deletes a group's positions that are kept in a partition, and what is known of its generations there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletePositionsRequest {
    /// The topic they are kept in.
    pub topic: String,
    /// The partition they are kept in.
    pub partition: u32,
    /// The group.
    pub group: String,
    /// In this source; in all without.
    pub source: Option<PositionSource>,
}

wire_fields!(DeletePositionsRequest { topic, partition, group, source });

/// A partition that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PositionSource {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
}

wire_fields!(PositionSource { topic, partition });

/// They are gone, durably; it is no error if there were none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletePositionsResponse {}

wire_fields!(DeletePositionsResponse {});
