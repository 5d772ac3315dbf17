//! The records of the metadata log: one command each, as versioned JSON.
//!
//! ```text
//! key    create_topic
//! value  {"v":2,"create_topic":{"name":"orders","replicas":[[1,2,3],[2,3,1]],"settings":{…}}}
//! ```
//!
//! Ids do not stand in a command: the fold gives them out in the order of the log, see
//! [`MetadataState::apply`](super::MetadataState::apply).

use bytes::Bytes;
use lockstep_protocol::record::Record;
use serde::{Deserialize, Serialize};

use super::member::Member;
use super::topic::TopicSettings;
use crate::engine::ShardId;

/// The version of the commands this broker writes, and the latest it reads.
pub const COMMAND_VERSION: u32 = 2;

/// One decision about the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// A topic is made.
    CreateTopic {
        /// Its name.
        name: String,
        /// The nodes of each partition; the first one is preferred as its leader.
        replicas: Vec<Vec<u64>>,
        /// Its settings.
        settings: TopicSettings,
    },
    /// A topic's settings are these from now on.
    AlterTopic {
        /// Its id.
        id: u32,
        /// All of them.
        settings: TopicSettings,
    },
    /// A topic gets more partitions.
    AddPartitions {
        /// Its id.
        id: u32,
        /// The nodes of each new partition.
        replicas: Vec<Vec<u64>>,
    },
    /// A topic and its records go for ever.
    DeleteTopic {
        /// Its id: of two topics of one name, only the one that was meant goes.
        id: u32,
    },
    /// A block of producer ids is set aside for whoever wrote this.
    ReserveProducers {
        /// How many ids.
        count: u32,
    },
    /// The cluster begins; once.
    FoundCluster {
        /// The brokers that hold the metadata.
        replicas: Vec<u64>,
    },
    /// A broker is there, or is reached elsewhere from now on.
    RegisterBroker(Member),
    /// A broker gives its replicas away, or takes some again.
    DrainBroker {
        /// Its id.
        id: u64,
        /// Whether it gives them away.
        draining: bool,
    },
    /// A broker that holds nothing is gone for good.
    RemoveBroker {
        /// Its id.
        id: u64,
    },
    /// A shard's replicas shall be elsewhere.
    MoveReplicas {
        /// The shard.
        shard: ShardId,
        /// Where, preferred leader first.
        to: Vec<u64>,
    },
    /// A shard's replicas are where they were to go.
    FinishMove {
        /// The shard.
        shard: ShardId,
        /// Where they were to go.
        replicas: Vec<u64>,
        /// Index of the membership in which these alone are, as a majority know for good.
        membership_index: u64,
    },
    /// A shard's replicas shall stay where they were.
    CancelMove {
        /// The shard.
        shard: ShardId,
    },
    /// Replicas are spread evenly from now on, until they are; or no longer.
    Rebalance {
        /// Which of the two.
        on: bool,
    },
}

#[derive(Serialize, Deserialize)]
struct Versioned {
    v: u32,
    #[serde(flatten)]
    command: Command,
}

/// A record of the metadata log that this broker cannot read. It must not be skipped: what follows builds on it.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A later broker wrote it.
    #[error("metadata command version {found} is newer than {COMMAND_VERSION}; upgrade this broker")]
    Newer {
        /// Its version.
        found: u32,
    },
    /// It is no command at all.
    #[error("a metadata record is malformed ({0}); restore this replica from another broker")]
    Malformed(String),
}

impl Command {
    /// What kind of command it is: the record's key.
    pub fn kind(&self) -> &'static str {
        match self {
            Command::CreateTopic { .. } => "create_topic",
            Command::AlterTopic { .. } => "alter_topic",
            Command::AddPartitions { .. } => "add_partitions",
            Command::DeleteTopic { .. } => "delete_topic",
            Command::ReserveProducers { .. } => "reserve_producers",
            Command::FoundCluster { .. } => "found_cluster",
            Command::RegisterBroker(_) => "register_broker",
            Command::DrainBroker { .. } => "drain_broker",
            Command::RemoveBroker { .. } => "remove_broker",
            Command::MoveReplicas { .. } => "move_replicas",
            Command::FinishMove { .. } => "finish_move",
            Command::CancelMove { .. } => "cancel_move",
            Command::Rebalance { .. } => "rebalance",
        }
    }

    /// The record that stands for the command.
    pub fn to_record(&self, timestamp_ms: i64) -> Record {
        let value = serde_json::to_vec(&Versioned { v: COMMAND_VERSION, command: self.clone() })
            .expect("names, numbers and lists of them always serialise");
        Record::new(timestamp_ms, value).with_key(Bytes::from_static(self.kind().as_bytes()))
    }

    /// The command a record stands for.
    ///
    /// # Errors
    /// It was written by a later version, or is no command.
    pub fn from_record(record: &Record) -> Result<Command, CommandError> {
        #[derive(Deserialize)]
        struct VersionAlone {
            v: u32,
        }
        let malformed = |error: serde_json::Error| CommandError::Malformed(error.to_string());
        let value = record.value.as_deref().unwrap_or_default();
        let VersionAlone { v } = serde_json::from_slice(value).map_err(malformed)?;
        if v > COMMAND_VERSION {
            return Err(CommandError::Newer { found: v });
        }
        let Versioned { command, .. } = serde_json::from_slice(value).map_err(malformed)?;
        Ok(command)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::DirectoryId;

    #[test]
    fn a_command_reads_back_from_its_record() {
        let commands = [
            Command::CreateTopic {
                name: "orders".into(),
                replicas: vec![vec![1, 2, 3], vec![2, 3, 1]],
                settings: TopicSettings { retention_ms: Some(5), ..TopicSettings::default() },
            },
            Command::DeleteTopic { id: 7 },
            Command::ReserveProducers { count: 1000 },
        ];
        for command in commands {
            let record = command.to_record(3);
            assert_eq!(record.key.as_deref(), Some(command.kind().as_bytes()));
            assert_eq!(Command::from_record(&record).unwrap(), command);
        }
    }

    #[test]
    fn the_bytes_of_version_two_do_not_change() {
        let value = |command: Command| command.to_record(0).value.unwrap();
        assert_eq!(value(Command::DeleteTopic { id: 7 }), &br#"{"v":2,"delete_topic":{"id":7}}"#[..]);
        let member = Member {
            id: 4,
            directory: DirectoryId([0xab; 16]),
            native: "a:1".into(),
            peer: "a:2".into(),
            http: "a:3".into(),
            rack: None,
        };
        let registered = concat!(
            r#"{"v":2,"register_broker":{"id":4,"directory":"abababababababababababababababab","#,
            r#""native":"a:1","peer":"a:2","http":"a:3"}}"#
        );
        assert_eq!(value(Command::RegisterBroker(member)), registered.as_bytes());
        let moves = Command::MoveReplicas { shard: 9, to: vec![2, 4] };
        assert_eq!(value(moves), &br#"{"v":2,"move_replicas":{"shard":9,"to":[2,4]}}"#[..]);
    }

    #[test]
    fn a_later_version_is_refused_not_skipped() {
        let record = Record::new(0, &br#"{"v":3,"move_mountain":{}}"#[..]);
        assert!(matches!(Command::from_record(&record), Err(CommandError::Newer { found: 3 })));
    }

    #[test]
    fn nonsense_is_refused() {
        for value in [&b""[..], b"{}", b"{\"v\":1}", b"{\"v\":1,\"dance\":{}}", b"\xff"] {
            let record = Record::new(0, value);
            assert!(matches!(Command::from_record(&record), Err(CommandError::Malformed(_))));
        }
    }
}
