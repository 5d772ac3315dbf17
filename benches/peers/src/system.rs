//! The systems that are compared, and how each is told what a case asks for.

use clap::ValueEnum;

use crate::case::{Case, Grouping, Kind};

/// A system, with one of its answers to "when is a record safe?".
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum System {
    /// Ours: synced on a majority before it is acknowledged.
    Lockstep,
    /// As it comes: acknowledged from memory on all in-sync replicas.
    Kafka,
    /// A sync for each append.
    KafkaSynced,
    /// As it comes: synced every two minutes.
    Nats,
    /// A sync for each write.
    NatsSynced,
    /// Streams, as they come: acknowledged from the page caches of a majority. No setting makes them sync.
    Rabbitmq,
}

impl System {
    pub(crate) const ALL: [Self; 6] =
        [Self::Lockstep, Self::Kafka, Self::KafkaSynced, Self::Nats, Self::NatsSynced, Self::Rabbitmq];

    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lockstep => "lockstep",
            Self::Kafka => "kafka",
            Self::KafkaSynced => "kafka-synced",
            Self::Nats => "nats",
            Self::NatsSynced => "nats-synced",
            Self::Rabbitmq => "rabbitmq",
        }
    }

    /// Whether there is a client that can run a case.
    pub(crate) fn can_run(self, case: &Case) -> bool {
        case.kind != Kind::FanOut || matches!(self, Self::Lockstep | Self::Kafka | Self::KafkaSynced)
    }

    /// The options with which its client is told how to group records. Where a system's makers recommend something for
    /// throughput, [`Grouping::Large`] is that.
    pub(crate) fn grouping_options(self, case: &Case) -> Vec<String> {
        let options: &[(&str, &str)] = match (self, case.kind, case.grouping) {
            (_, Kind::Consume, _) => &[],
            // One batch grows while others are under way: nothing is gained by waiting.
            (Self::Lockstep, _, Grouping::Large) => &[("batch-bytes", "1048576"), ("linger", "0")],
            (Self::Lockstep, _, Grouping::AtOnce) => &[],
            (Self::Lockstep, _, Grouping::Single) => &[("batch", "1"), ("in-flight", "1")],
            // Just below the brokers' limit for a batch, and a little more linger than the default of 5 ms.
            (Self::Kafka | Self::KafkaSynced, _, Grouping::Large) => {
                &[("batch-bytes", "1000000"), ("linger", "10"), ("in-flight", "32768")]
            }
            (Self::Kafka | Self::KafkaSynced, _, Grouping::AtOnce) => {
                &[("batch-bytes", "16384"), ("linger", "0"), ("in-flight", "32768")]
            }
            (Self::Kafka | Self::KafkaSynced, _, Grouping::Single) => {
                &[("batch-bytes", "16384"), ("linger", "0"), ("in-flight", "1")]
            }
            // It sends each message by itself; asynchronous publishing with a window is its fast path.
            (Self::Nats | Self::NatsSynced, _, Grouping::Large | Grouping::AtOnce) => {
                &[("in-flight", "4096")]
            }
            (Self::Nats | Self::NatsSynced, _, Grouping::Single) => &[("in-flight", "1")],
            // The client sends what has gathered while others are under way, up to this many; its default window.
            (Self::Rabbitmq, _, Grouping::Large) => &[("batch", "500"), ("in-flight", "10000")],
            (Self::Rabbitmq, _, Grouping::AtOnce) => &[("batch", "100"), ("in-flight", "10000")],
            (Self::Rabbitmq, _, Grouping::Single) => &[("batch", "1"), ("in-flight", "1")],
        };
        options.iter().flat_map(|(name, value)| [format!("--{name}"), (*value).to_owned()]).collect()
    }
}
