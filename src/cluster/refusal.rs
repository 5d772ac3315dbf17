//! Why the metadata does not allow a change.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::state::PARTITIONS_MAX;
use crate::engine::ShardId;

/// Why a command has no effect, or why it should not be written in the first place. Brokers tell each other.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// A topic's partitions only become more: keys would change theirs, and records would go.
    #[error(
        "topic {topic:?} has {now} partitions and cannot have fewer; ask for more than {now}, not {asked}"
    )]
    FewerPartitions {
        /// The topic.
        topic: String,
        /// How many there are.
        now: u32,
        /// How many were asked for.
        asked: u32,
    },
    /// A partition cannot have this many replicas.
    #[error(
        "{asked} replicas need as many brokers, and {brokers} can take one; ask for fewer, or 0 for the default"
    )]
    InvalidReplication {
        /// How many were asked for.
        asked: u32,
        /// How many brokers can hold a replica.
        brokers: u32,
    },
    /// A setting's value is not allowed.
    #[error("{setting} cannot be {value}; {fix}")]
    InvalidSetting {
        /// The setting.
        setting: Cow<'static, str>,
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
    /// A cluster begins once.
    #[error("the cluster was founded already; brokers are added with `lockstep serve --join`")]
    FoundedAlready,
    /// Nobody can join before the cluster has begun.
    #[error(
        "the cluster is not founded yet; wait until a majority of the first brokers runs, then try again"
    )]
    NotFounded,
    /// An address at which nothing can be reached.
    #[error(
        "{setting} address {address:?} cannot be reached by others; give it as host:port with advertise.{setting}"
    )]
    InvalidAddress {
        /// Which.
        setting: Cow<'static, str>,
        /// The address.
        address: String,
    },
    /// Two brokers cannot be reached at one address.
    #[error(
        "broker {broker} is reached at {address} already; give this one addresses of its own (listen, advertise)"
    )]
    AddressTaken {
        /// Who has it.
        broker: u64,
        /// The address.
        address: String,
    },
    /// There is no broker of this id.
    #[error("there is no broker {0}; `lockstep broker list` shows those there are")]
    UnknownBroker(u64),
    /// A broker of this id was here and is gone for good.
    #[error(
        "broker {0} was removed, and its id is never given out again; stop it, and let it join as a new broker with an \
         empty data directory"
    )]
    BrokerRemoved(u64),
    /// Two brokers claim one id.
    #[error(
        "broker {0} is known with another data directory: its disk was replaced or emptied, and its votes with it, or \
         two brokers run under one id. Bring the old directory back, or let it join as a new node with a new id"
    )]
    BrokerTaken(u64),
    /// A data directory belongs to one broker.
    #[error("this data directory belongs to broker {0}; start it as that, or join with an empty directory")]
    DirectoryTaken(u64),
    /// A broker that still holds replicas cannot be removed.
    #[error(
        "broker {broker} still holds {replicas} replicas; drain it first with `lockstep broker drain {broker}`"
    )]
    BrokerInUse {
        /// The broker.
        broker: u64,
        /// How many.
        replicas: usize,
    },
    /// A topic has no partition of this number.
    #[error("topic {topic:?} has partitions 0 to {last}, not {partition}; correct the number", last = partitions.saturating_sub(1))]
    UnknownPartition {
        /// The topic.
        topic: String,
        /// The number.
        partition: u32,
        /// How many it has.
        partitions: usize,
    },
    /// Those that stay would be too few.
    #[error(
        "without broker {broker}, {staying} brokers can hold replicas, and {held} has {replicas}; add a broker first, with \
         `lockstep serve --join`"
    )]
    TooFewBrokers {
        /// The broker that was to give its replicas away.
        broker: u64,
        /// How many brokers stay.
        staying: usize,
        /// What needs more.
        held: String,
        /// How many replicas it has.
        replicas: usize,
    },
    /// A founder that never started holds what nobody else can give away.
    #[error(
        "broker {broker} never started, and {held} cannot be moved off it: no majority of its replicas is there; start \
         broker {broker}, or delete that topic"
    )]
    BrokerNeeded {
        /// The founder.
        broker: u64,
        /// What it holds.
        held: String,
    },
    /// What a broker gives away would wait for one that is not there.
    #[error(
        "broker {silent} cannot be reached, and what broker {broker} holds would wait for it; start broker {silent}, or give \
         it up first with `lockstep broker drain {silent}`"
    )]
    BrokerSilent {
        /// The broker that was to give its replicas away.
        broker: u64,
        /// The one that is not there.
        silent: u64,
    },
    /// A broker that gives its replicas away gets no new ones.
    #[error(
        "broker {0} is draining and takes no replicas; name another, or keep it with `lockstep broker drain {0} --cancel`"
    )]
    BrokerDraining(u64),
    /// There is no such shard.
    #[error("there is no shard {0}: its topic has been deleted, or never was")]
    UnknownShard(ShardId),
    /// A shard moves to one goal at a time.
    #[error("{0} is moving already; wait for it, or cancel that move")]
    MovingAlready(String),
    /// A shard does not move.
    #[error("shard {0} is not moving")]
    NotMoving(ShardId),
    /// What was asked concerns a move that is over.
    #[error("the move of shard {0} that this is about is over")]
    MoveIsOver(ShardId),
    /// A list of replicas that cannot be.
    #[error("replicas {0:?} are not a list of different brokers; name each broker once, and at least one")]
    InvalidReplicas(Vec<u64>),
}
