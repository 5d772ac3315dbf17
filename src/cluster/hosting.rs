//! Which shards a broker holds, by what the metadata says and what the broker noted of its own files. Pure functions.
//!
//! What holds:
//! - Files are made only where none ever were. A replica that was here and whose files are gone has forgotten what it
//!   acknowledged: it is opened, takes no part, and is repaired.
//! - What has moved away is opened too, until it is gone: it alone knows whether it may go.
//! - A shard counts as deleted only if the metadata gave its id out and its topic is gone, never for being unknown.

use std::collections::BTreeSet;

use lockstep_planted::{self as planted, Bug};

use super::{MetadataState, Topic, TopicSettings};
use crate::engine::{METADATA_SHARD, ShardId, ShardSettings};

/// What a broker noted of its own files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// The broker.
    pub node: u64,
    /// Shards whose files are here, or were.
    pub shards: BTreeSet<ShardId>,
    /// Those of them whose files are being deleted.
    pub dropping: BTreeSet<ShardId>,
}

/// A replica that a broker is to host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The shard.
    pub shard: ShardId,
    /// Whether its files may be made: this broker is one of its hosts, and they never were here.
    pub may_be_made: bool,
    /// The voters that its files begin with.
    pub founders: Vec<u64>,
    /// The brokers that hold a replica, or may.
    pub hosts: Vec<u64>,
    /// What is set for its topic.
    pub settings: ShardSettings,
}

impl Here {
    /// The replicas that are to be opened, of those that are not, `is_open` says.
    pub fn missing(
        &self,
        state: &MetadataState,
        defaults: &ShardSettings,
        is_open: impl Fn(ShardId) -> bool,
    ) -> Vec<Wanted> {
        let mut missing = Vec::new();
        for (topic, placement) in state.placements() {
            let shard = placement.shard;
            let is_host = placement.hosts().any(|host| host == self.node);
            let was_here = self.shards.contains(&shard);
            if (is_host || was_here) && !self.dropping.contains(&shard) && !is_open(shard) {
                missing.push(Wanted {
                    shard,
                    may_be_made: is_host && !was_here,
                    founders: match planted::is_active(Bug::BeginWithTodaysHosts) {
                        true => placement.hosts().collect(),
                        false => placement.founders.clone(),
                    },
                    hosts: placement.hosts().collect(),
                    settings: settings(topic, defaults),
                });
            }
        }
        missing
    }

    /// Of the shards that are open here, those that live elsewhere, each with the index of the membership that says so.
    pub fn departed(
        &self,
        state: &MetadataState,
        open: impl IntoIterator<Item = ShardId>,
    ) -> Vec<(ShardId, u64)> {
        let elsewhere = |shard: ShardId| {
            let placement = state.placement(shard).filter(|_| shard != METADATA_SHARD)?;
            let is_host = match planted::is_active(Bug::DropWhileMoving) {
                true => placement.goal().contains(&self.node),
                false => placement.hosts().any(|host| host == self.node),
            };
            (!is_host).then_some((shard, placement.membership_index))
        };
        open.into_iter().filter_map(elsewhere).collect()
    }

    /// Of the shards that are open or noted here, those whose topic is gone.
    pub fn deleted(&self, state: &MetadataState, open: impl IntoIterator<Item = ShardId>) -> Vec<ShardId> {
        let known: BTreeSet<ShardId> = self.shards.iter().copied().chain(open).collect();
        known.into_iter().filter(|shard| state.is_deleted(*shard)).collect()
    }
}

/// What is in force for the shards of a topic: what is set, and the broker's own values elsewhere.
pub fn settings(topic: &Topic, defaults: &ShardSettings) -> ShardSettings {
    let TopicSettings { retention_bytes, retention_ms, .. } = topic.settings;
    ShardSettings {
        retention_bytes: retention_bytes.or(defaults.retention_bytes),
        retention_ms: retention_ms.or(defaults.retention_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Command;

    /// Shard 1 on brokers 1 to 3, and what is done to it.
    fn state(commands: &[Command]) -> MetadataState {
        let mut state = MetadataState::default();
        let replicas = vec![vec![1, 2, 3]];
        let settings = TopicSettings { retention_ms: Some(5), ..TopicSettings::default() };
        let mut first = vec![
            Command::FoundCluster { replicas: vec![1, 2, 3, 4] },
            Command::CreateTopic { name: "orders".into(), replicas, settings },
        ];
        first.extend(commands.iter().cloned());
        first.iter().for_each(|command| state.apply(command).unwrap());
        state
    }

    fn here(node: u64, shards: &[ShardId], dropping: &[ShardId]) -> Here {
        let set = |shards: &[ShardId]| shards.iter().copied().collect();
        Here { node, shards: set(shards), dropping: set(dropping) }
    }

    fn missing(here: &Here, state: &MetadataState) -> Vec<(ShardId, bool)> {
        let defaults = ShardSettings { retention_bytes: Some(9), retention_ms: Some(9) };
        let missing = here.missing(state, &defaults, |_| false);
        missing.into_iter().map(|wanted| (wanted.shard, wanted.may_be_made)).collect()
    }

    fn moved() -> [Command; 1] {
        [Command::MoveReplicas { shard: 1, to: vec![1, 2, 4] }]
    }

    #[test]
    fn files_are_made_once_and_what_was_here_is_opened_without() {
        assert_eq!(missing(&here(2, &[], &[]), &state(&[])), [(1, true)]);
        assert_eq!(missing(&here(2, &[1], &[]), &state(&[])), [(1, false)]);
        assert_eq!(missing(&here(4, &[], &[]), &state(&[])), []);
        assert_eq!(missing(&here(4, &[], &[]), &state(&moved())), [(1, true)]);
    }

    #[test]
    fn a_new_replica_begins_with_the_first_voters_and_the_topics_settings() {
        let defaults = ShardSettings { retention_bytes: Some(9), retention_ms: Some(9) };
        let wanted = here(4, &[], &[]).missing(&state(&moved()), &defaults, |_| false).pop().unwrap();
        assert_eq!((wanted.founders, wanted.hosts), (vec![1, 2, 3], vec![1, 2, 3, 4]));
        let settings = ShardSettings { retention_bytes: Some(9), retention_ms: Some(5) };
        assert_eq!(wanted.settings, settings);
    }

    #[test]
    fn a_replica_departs_only_once_its_move_is_over_and_stays_open_until_then() {
        let over = Command::FinishMove { shard: 1, replicas: vec![1, 2, 4], membership_index: 7 };
        let (moving, moved) = (state(&moved()), state(&[moved().to_vec(), vec![over]].concat()));
        let three = here(3, &[1], &[]);
        assert_eq!(three.departed(&moving, [0, 1]), []);
        assert_eq!(three.departed(&moved, [0, 1]), [(1, 7)]);
        assert_eq!(missing(&three, &moved), [(1, false)]);
        assert_eq!(missing(&here(3, &[1], &[1]), &moved), [], "its files are going");
    }

    #[test]
    fn what_is_not_known_yet_is_not_taken_for_deleted() {
        let gone = state(&[Command::DeleteTopic { id: 1 }]);
        assert_eq!(here(1, &[1, 2], &[]).deleted(&gone, [0]), [1]);
        assert!(here(1, &[1], &[]).deleted(&state(&[]), [0]).is_empty());
    }
}
