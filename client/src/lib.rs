//! The client of Lockstep, a replicated log store.
//!
//! What holds:
//!
//! - An acknowledged record is synced on a majority of its replicas, and is read back under its LSN for ever.
//! - A retry never stores a record twice or out of order (unless idempotence was switched off).
//! - A consumer sees each LSN once, in order, without a gap, or an error that says otherwise.
//! - What decides ([`retry`], [`routing`], the producer's lanes, the consumer's checks) reads no clock, socket
//!   or random source of its own.
//!
//! Two minutes with it:
//!
//! ```no_run
//! use lockstep_client::{Client, NewTopic, ProducerRecord, Start};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("127.0.0.1:7400,127.0.0.1:7410,127.0.0.1:7420").await?;
//! client.create_topic(NewTopic::new("greetings").partitions(3)).await?;
//!
//! let producer = client.producer().build().await?;
//! let ack = producer.send(ProducerRecord::new("greetings", "hello").key("first")).await?;
//!
//! let mut consumer = client.consumer("greetings").from(Start::Earliest).until_end().open().await?;
//! while let Some(record) = consumer.next().await {
//!     let record = record?;
//!     println!("{}/{}: {:?}", record.partition, record.lsn, record.value);
//! }
//! # let _ = ack;
//! # Ok(()) }
//! ```
//!
//! | module | holds |
//! |---|---|
//! | [`retry`], [`routing`], [`jitter`] | what to do about a failure, who leads what: without IO |
//! | [`sans_io`] | all that decides, for hosts with a network and a clock of their own |
//! | `connection`, `pool` | one connection per broker, shared by all requests |
//! | [`producer`] | batches, sequences, acknowledgements |
//! | [`consumer`] | subscriptions, checks, credit |
//! | `client`, `admin`, `brokers`, `moves` | requests; topics and partitions; brokers; moves of replicas |
//! | [`error`] | one type per operation |

pub mod consumer;
pub mod error;
pub mod group;
pub mod jitter;
pub mod producer;
pub mod retry;
pub mod routing;
pub mod sans_io;

mod address;
mod admin;
mod attempt;
mod brokers;
mod client;
mod connection;
mod moves;
mod options;
mod pool;
mod slices;

pub use address::Addresses;
pub use admin::{NewTopic, TopicChange};
pub use client::Client;
pub use consumer::{ConsumedBatch, ConsumedRecord, Consumer, ConsumerBuilder, Start};
pub use error::{
    BrokerError, ConnectError, ConsumeError, MoveError, PartitionError, PositionError, ProduceError,
    RequestError, TopicError,
};
pub use group::{Group, KeptPosition, Lag, Member, Position, PositionCommit};
pub use options::ClientOptions;
pub use producer::{Ack, BatchAck, BatchDelivery, Delivery, Producer, ProducerBuilder, ProducerRecord};

pub use lockstep_protocol::{ErrorCode, Record, RecordHeader};
