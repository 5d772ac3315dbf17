//! How far consumer groups have come: committed, listed, deleted.
//!
//! A position is kept in some partition's shard and speaks of another's, or of the same. Names become shard ids here,
//! which are never given again: what was kept for a deleted topic says nothing of one that is made anew.

use std::sync::Arc;

use tokio::time::timeout;

use super::control::within;
use super::{Broker, ControlError, LocateError, NEWS_WAIT};
use crate::engine::{Command, PositionCommit, ShardId};

/// A position to be committed, and what that depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupCommit {
    /// The group.
    pub group: String,
    /// The topic it reads.
    pub topic: String,
    /// The partition it reads.
    pub partition: u32,
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

/// How far a group has come in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPosition {
    /// The group.
    pub group: Arc<str>,
    /// The topic it reads.
    pub topic: String,
    /// The partition it reads.
    pub partition: u32,
    /// The first LSN that is not processed.
    pub next_lsn: u64,
    /// The generation that committed it.
    pub generation: u64,
    /// What the group noted.
    pub metadata: Arc<str>,
    /// The leader's time of the commit, in milliseconds since 1970 UTC.
    pub leader_time_ms: u64,
}

impl Broker {
    /// Commits a position, to be kept in a partition.
    ///
    /// # Errors
    /// The partition is not led here, there is no such source, or a condition does not hold.
    pub async fn commit_position(
        &self,
        topic: &str,
        partition: u32,
        commit: GroupCommit,
    ) -> Result<(), ControlError> {
        let handle = self.locate(topic, partition).await?.handle;
        let commit = self.resolve(commit).await?;
        within(handle.command(Command::CommitPosition(commit))).await
    }

    /// The positions kept in a partition, of one group or of all, confirmed by a majority. Those of deleted
    /// partitions are left out.
    ///
    /// # Errors
    /// The partition is not led here.
    pub async fn positions(
        &self,
        topic: &str,
        partition: u32,
        group: Option<&str>,
    ) -> Result<Vec<GroupPosition>, ControlError> {
        let handle = self.locate(topic, partition).await?.handle;
        let kept = within(handle.positions(group.map(Arc::from))).await?;
        let state = self.cluster().state();
        let named = kept.into_iter().filter_map(|position| {
            let (topic, partition) = state.partition_of(position.source)?;
            Some(GroupPosition {
                group: position.group,
                topic: topic.name.clone(),
                partition,
                next_lsn: position.next_lsn,
                generation: position.generation,
                metadata: position.metadata,
                leader_time_ms: u64::try_from(position.leader_time_ms).unwrap_or(0),
            })
        });
        Ok(named.collect())
    }

    /// Deletes a group's positions that are kept in a partition: in one source, or in all.
    ///
    /// # Errors
    /// The partition is not led here, or there is no such source.
    pub async fn delete_positions(
        &self,
        topic: &str,
        partition: u32,
        group: &str,
        source: Option<(&str, u32)>,
    ) -> Result<(), ControlError> {
        let handle = self.locate(topic, partition).await?.handle;
        let source = match source {
            Some((topic, partition)) => Some(self.shard_of(topic, partition).await?),
            None => None,
        };
        within(handle.command(Command::DeletePositions { group: group.into(), source })).await
    }

    /// The commit as a shard takes it.
    pub(super) async fn resolve(&self, commit: GroupCommit) -> Result<PositionCommit, LocateError> {
        Ok(PositionCommit {
            source: self.shard_of(&commit.topic, commit.partition).await?,
            group: commit.group.into(),
            next_lsn: commit.next_lsn,
            generation: commit.generation,
            metadata: commit.metadata.into(),
            expected_next_lsn: commit.expected_next_lsn,
            expected_generation: commit.expected_generation,
        })
    }

    /// The shard of a partition, held here or not; a topic that may be just on its way here is waited for.
    async fn shard_of(&self, topic: &str, partition: u32) -> Result<ShardId, LocateError> {
        let found = self.cluster().wait_for(|state| state.topic(topic).cloned());
        let Ok(Some(found)) = timeout(NEWS_WAIT, found).await else {
            return Err(self.missing(topic));
        };
        Ok(self.placement(&found, partition)?.shard)
    }
}
