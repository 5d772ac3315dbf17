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

    /// Whether its client runs on a virtual machine, which compiles what is hot.
    pub(crate) fn has_virtual_machine(self) -> bool {
        matches!(self, Self::Kafka | Self::KafkaSynced | Self::Rabbitmq)
    }

    /// The options that only its own load generator has.
    pub(crate) fn own_options(self, case: &Case) -> Vec<String> {
        let mut options = self.grouping_options(case);
        if self == Self::Lockstep && case.kind == Kind::FanOut {
            // As the thin client for Kafka has it: one for each.
            options.extend(["--subscriber-connections".to_owned(), case.subscribers.to_string()]);
        }
        options
    }

    /// The options with which its client is told how to group records. Where a system's makers recommend something for
    /// throughput, [`Grouping::Large`] is that.
    fn grouping_options(self, case: &Case) -> Vec<String> {
        let options: &[(&str, &str)] = match (self, case.kind, case.grouping) {
            (_, Kind::Consume, _) => &[],
            // One batch grows while others are under way: nothing is gained by waiting.
            (Self::Lockstep, _, Grouping::Large) => &[("batch-bytes", "1048576"), ("linger", "0")],
            // Both send no more than five batches at once: more in flight would only wait in the client.
            (Self::Lockstep, _, Grouping::Small) => {
                &[("batch-bytes", "8192"), ("linger", "0"), ("in-flight", "4096")]
            }
            (Self::Lockstep, _, Grouping::AtOnce) => &[],
            (Self::Lockstep, _, Grouping::Single) => &[("batch", "1"), ("in-flight", "1")],
            // Just below the brokers' limit for a batch, and a little more linger than the default of 5 ms.
            (Self::Kafka | Self::KafkaSynced, _, Grouping::Large) => {
                &[("batch-bytes", "1000000"), ("linger", "10"), ("in-flight", "32768")]
            }
            (Self::Kafka | Self::KafkaSynced, _, Grouping::Small) => {
                &[("batch-bytes", "8192"), ("linger", "0"), ("in-flight", "4096")]
            }
            (Self::Kafka | Self::KafkaSynced, _, Grouping::AtOnce) => {
                &[("batch-bytes", "16384"), ("linger", "0"), ("in-flight", "32768")]
            }
            (Self::Kafka | Self::KafkaSynced, _, Grouping::Single) => {
                &[("batch-bytes", "16384"), ("linger", "0"), ("in-flight", "1")]
            }
            // It sends each message by itself; asynchronous publishing with a window is its fast path.
            (Self::Nats | Self::NatsSynced, _, Grouping::Large | Grouping::Small | Grouping::AtOnce) => {
                &[("in-flight", "4096")]
            }
            (Self::Nats | Self::NatsSynced, _, Grouping::Single) => &[("in-flight", "1")],
            // The client sends what has gathered while others are under way, up to this many; its default window.
            (Self::Rabbitmq, _, Grouping::Large) => &[("batch", "500"), ("in-flight", "10000")],
            // Eight records of 1 KiB.
            (Self::Rabbitmq, _, Grouping::Small) => &[("batch", "8"), ("in-flight", "10000")],
            (Self::Rabbitmq, _, Grouping::AtOnce) => &[("batch", "100"), ("in-flight", "10000")],
            (Self::Rabbitmq, _, Grouping::Single) => &[("batch", "1"), ("in-flight", "1")],
        };
        options.iter().flat_map(|(name, value)| [format!("--{name}"), (*value).to_owned()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{self, SMALL_BATCH_BYTES, Times};

    fn options(system: System, name: &str) -> Vec<String> {
        let times = Times { duration: 1.0, warm_up: 1.0, client_warm_up: 0.0 };
        let case = case::all(1, times).into_iter().find(|case| case.name == name).unwrap();
        system.own_options(&case)
    }

    #[test]
    fn each_of_our_subscribers_has_a_connection_of_its_own() {
        let options = options(System::Lockstep, "fan-out-1000");
        assert!(
            options.ends_with(&["--subscriber-connections".to_owned(), "1000".to_owned()]),
            "{options:?}"
        );
        assert!(
            !self::options(System::Kafka, "fan-out-1000").contains(&"--subscriber-connections".to_owned())
        );
    }

    #[test]
    fn small_batches_are_as_small_for_everyone_who_has_batches() {
        for system in [System::Lockstep, System::Kafka, System::KafkaSynced] {
            let bytes = SMALL_BATCH_BYTES.to_string();
            assert_eq!(options(system, "throughput-small")[..2], ["--batch-bytes".to_owned(), bytes]);
        }
        assert_eq!(options(System::Rabbitmq, "throughput-small")[..2], ["--batch", "8"]);
    }
}
