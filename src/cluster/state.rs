//! What the metadata log amounts to: a pure fold over its commands.
//!
//! What holds:
//! - The state depends on the log alone: every broker that applied the same LSN has the same state.
//! - Topic ids, shard ids and producer ids are given out in the order of the log and never again.
//! - A command that contradicts the state it meets changes nothing, on every broker alike.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Command;
use crate::engine::{METADATA_SHARD, ShardId};

/// A topic's settings; the default keeps everything for ever within the broker's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TopicSettings {
    /// Bytes to keep per partition; `None` for the broker's default.
    pub retention_bytes: Option<u64>,
    /// Milliseconds to keep a record for, by the leader's time; `None` for the broker's default.
    pub retention_ms: Option<u64>,
    /// Longest batch in bytes; `None` for the broker's limit.
    pub max_batch_bytes: Option<u32>,
    /// Skip the walk over each record of a batch: that LSNs are without gaps then depends on the producers.
    pub trust_producers: bool,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Topic {
    /// Its id; never used again, even for a later topic of the same name.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its partitions, 0 first.
    pub partitions: Vec<Placement>,
    /// Its settings.
    pub settings: TopicSettings,
}

/// Where a partition lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// The shard that serves it.
    pub shard: ShardId,
    /// The nodes that hold a replica; the first one is preferred as its leader.
    pub replicas: Vec<u64>,
}

/// Why a command has no effect, or why it should not be written in the first place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is a topic of this name already.
    #[error("topic {0:?} exists already; use it, or choose another name")]
    TopicExists(String),
    /// There is no topic of this name.
    #[error("there is no topic {0:?}; create it, or correct the name")]
    UnknownTopic(String),
    /// A topic cannot be called this.
    #[error(
        "{0:?} is no topic name; use 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-', and neither '.' nor '..'"
    )]
    InvalidName(String),
    /// A topic cannot have this many partitions.
    #[error("a topic has 1 to {most} partitions, not {asked}; ask for fewer, or raise limits.max_partitions")]
    InvalidPartitions {
        /// How many were asked for.
        asked: u32,
        /// How many are allowed.
        most: u32,
    },
    /// A partition cannot have this many replicas.
    #[error(
        "{asked} replicas need as many nodes, and there are {nodes}; ask for fewer, or 0 for the default"
    )]
    InvalidReplication {
        /// How many were asked for.
        asked: u32,
        /// How many nodes there are.
        nodes: u32,
    },
    /// A setting's value is not allowed.
    #[error("{setting} cannot be {value}; {fix}")]
    InvalidSetting {
        /// The setting.
        setting: &'static str,
        /// Its value.
        value: u64,
        /// What to write instead.
        fix: String,
    },
    /// The cluster holds all the partitions it may.
    #[error(
        "the cluster would hold {partitions} partitions, more than {PARTITIONS_MAX}; delete topics first"
    )]
    TooManyPartitions {
        /// How many there would be.
        partitions: usize,
    },
}

/// Partitions of a whole cluster; each costs every broker a log.
pub const PARTITIONS_MAX: usize = 20_000;

/// Topics and placement, as of one LSN of the metadata log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataState {
    applied_lsn: u64,
    topics: BTreeMap<String, Arc<Topic>>,
    next_topic: u32,
    next_shard: ShardId,
    next_producer: i64,
}

impl Default for MetadataState {
    fn default() -> Self {
        MetadataState {
            applied_lsn: 0,
            topics: BTreeMap::new(),
            next_topic: 1,
            next_shard: METADATA_SHARD + 1,
            next_producer: 1,
        }
    }
}

impl MetadataState {
    /// The last LSN that was applied.
    pub fn applied_lsn(&self) -> u64 {
        self.applied_lsn
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    /// The topic of this name.
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    /// The shard id the next partition will get.
    pub fn next_shard(&self) -> ShardId {
        self.next_shard
    }

    /// The producer id the next reserved block begins with.
    pub fn next_producer(&self) -> i64 {
        self.next_producer
    }

    /// Every live partition, with its topic.
    pub fn placements(&self) -> impl Iterator<Item = (&Arc<Topic>, &Placement)> {
        self.topics
            .values()
            .flat_map(|topic| topic.partitions.iter().map(move |placement| (topic, placement)))
    }

    /// Whether the shard served a topic that has been deleted. Ids rise with the log, so one that was given
    /// out and is not live is gone for ever.
    pub fn is_deleted(&self, shard: ShardId) -> bool {
        shard != METADATA_SHARD
            && shard < self.next_shard
            && !self.placements().any(|(_, placement)| placement.shard == shard)
    }

    /// Whether the command would have an effect on this state.
    ///
    /// # Errors
    /// Why it would have none.
    pub fn check(&self, command: &Command) -> Result<(), Refusal> {
        match command {
            Command::CreateTopic { name, replicas, .. } => {
                if self.topics.contains_key(name) {
                    return Err(Refusal::TopicExists(name.clone()));
                }
                let partitions = self.placements().count() + replicas.len();
                if partitions > PARTITIONS_MAX {
                    return Err(Refusal::TooManyPartitions { partitions });
                }
                Ok(())
            }
            Command::DeleteTopic { id } => match self.topics.values().any(|topic| topic.id == *id) {
                true => Ok(()),
                false => Err(Refusal::UnknownTopic(format!("#{id}"))),
            },
            Command::ReserveProducers { .. } => Ok(()),
        }
    }

    /// Applies the command at the next LSN.
    ///
    /// # Errors
    /// Why it had no effect; the LSN counts as applied all the same.
    pub fn apply(&mut self, command: &Command) -> Result<(), Refusal> {
        self.applied_lsn += 1;
        self.check(command)?;
        match command {
            Command::CreateTopic { name, replicas, settings } => self.create(name, replicas, settings),
            Command::DeleteTopic { id } => self.topics.retain(|_, topic| topic.id != *id),
            Command::ReserveProducers { count } => {
                self.next_producer = self.next_producer.saturating_add(i64::from(*count));
            }
        }
        Ok(())
    }

    fn create(&mut self, name: &str, replicas: &[Vec<u64>], settings: &TopicSettings) {
        let first = self.next_shard;
        let partitions =
            (first..).zip(replicas).map(|(shard, replicas)| Placement { shard, replicas: replicas.clone() });
        let topic = Topic {
            id: self.next_topic,
            name: name.to_owned(),
            partitions: partitions.collect(),
            settings: settings.clone(),
        };
        self.next_topic += 1;
        self.next_shard += replicas.len() as u64;
        self.topics.insert(name.to_owned(), Arc::new(topic));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(name: &str, partitions: usize) -> Command {
        Command::CreateTopic {
            name: name.into(),
            replicas: vec![vec![1, 2, 3]; partitions],
            settings: TopicSettings::default(),
        }
    }

    #[test]
    fn ids_are_given_out_in_the_order_of_the_log_and_never_again() {
        let mut state = MetadataState::default();
        state.apply(&create("a", 2)).unwrap();
        state.apply(&create("b", 1)).unwrap();
        let first = state.topic("a").unwrap().clone();
        assert_eq!((first.id, first.partitions[0].shard, first.partitions[1].shard), (1, 1, 2));
        state.apply(&Command::DeleteTopic { id: first.id }).unwrap();
        state.apply(&create("a", 1)).unwrap();
        let second = state.topic("a").unwrap();
        assert_eq!((second.id, second.partitions[0].shard), (3, 4));
        assert!(state.is_deleted(1) && state.is_deleted(2));
        assert!(!state.is_deleted(3) && !state.is_deleted(4) && !state.is_deleted(5));
        assert!(!state.is_deleted(METADATA_SHARD));
    }

    #[test]
    fn a_refused_command_takes_its_lsn_and_changes_nothing_else() {
        let mut state = MetadataState::default();
        state.apply(&create("a", 1)).unwrap();
        let before = state.clone();
        assert_eq!(state.apply(&create("a", 1)), Err(Refusal::TopicExists("a".into())));
        assert!(state.apply(&Command::DeleteTopic { id: 9 }).is_err());
        assert_eq!(state.applied_lsn(), 3);
        assert_eq!(MetadataState { applied_lsn: before.applied_lsn, ..state }, before);
    }

    #[test]
    fn blocks_of_producer_ids_do_not_overlap() {
        let mut state = MetadataState::default();
        let first = state.next_producer();
        state.apply(&Command::ReserveProducers { count: 1000 }).unwrap();
        assert_eq!(state.next_producer(), first + 1000);
    }

    #[test]
    fn the_same_log_yields_the_same_state() {
        let log = [create("a", 3), Command::ReserveProducers { count: 5 }, create("a", 1), create("b", 2)];
        let fold = || {
            let mut state = MetadataState::default();
            for command in &log {
                let _ = state.apply(command);
            }
            state
        };
        assert_eq!(fold(), fold());
        assert_eq!(fold().topics().len(), 2);
    }
}
