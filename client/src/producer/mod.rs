//! Writing records: batches, sequences, retries.
//!
//! What holds:
//!
//! - Records of one partition are stored in the order they were enqueued, each once, whatever is retried. A
//!   batch keeps its bytes and its sequence over all its attempts.
//! - An acknowledgement means: synced on a majority of the replicas.
//! - A batch that fails for good takes what is behind it in its partition with it: what was not sent is
//!   [`ProduceError::Poisoned`], what was and is not answered may be stored and says so. There is never a gap that
//!   nobody was told of. A failed condition is no such failure.
//! - Memory is bounded: enqueueing waits while too much is unacknowledged.

mod builder;
mod delivery;
pub(crate) mod lane;
mod lane_task;
pub mod partitioner;
mod topics;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use lockstep_protocol::native::PositionCommit;
use lockstep_protocol::{BatchBuilder, BatchError, Record};
use tokio::sync::Semaphore;

pub use builder::ProducerBuilder;
pub use delivery::{Ack, BatchAck, BatchDelivery, Delivery};

use crate::client::Client;
use crate::error::ProduceError;
use builder::ProducerSettings;
use delivery::Ticket;
use lane::{Conditions, Identity};
use topics::Topics;

/// Writes records to any topics. Cheap to clone; clones share buffers and order.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use lockstep_client::{Client, ProducerRecord};
///
/// let client = Client::connect("127.0.0.1:7400").await?;
/// let producer = client.producer().build().await?;
///
/// // One record, and wait for it.
/// let ack = producer.send(ProducerRecord::new("greetings", "hello")).await?;
/// println!("stored as LSN {} of partition {}", ack.lsn, ack.partition);
///
/// // Many records in flight: enqueue them, wait later.
/// let mut deliveries = Vec::new();
/// for number in 0..1000 {
///     deliveries.push(producer.enqueue(ProducerRecord::new("greetings", format!("{number}"))).await?);
/// }
/// for delivery in deliveries {
///     delivery.await?;
/// }
/// producer.close().await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Producer {
    inner: Arc<Inner>,
}

struct Inner {
    settings: ProducerSettings,
    limits: Limits,
    /// An empty batch, to measure records with.
    sizer: BatchBuilder,
    budget: Arc<Semaphore>,
    topics: Topics,
}

/// What the brokers take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    batch_bytes_max: usize,
    record_bytes_max: usize,
}

/// A record and where it is to go.
#[derive(Debug, Clone)]
pub struct ProducerRecord {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition; `None` to choose it by key, or in turn without one.
    pub partition: Option<u32>,
    /// What is written.
    pub record: Record,
}

impl ProducerRecord {
    /// A value, stamped with the present time.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, value: impl Into<Bytes>) -> Self {
        Self { topic: topic.into(), partition: None, record: Record::new(now_ms(), value) }
    }

    /// Adds a key: equal keys share a partition.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.record.key = Some(key.into());
        self
    }

    /// Names the partition.
    #[must_use]
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, key: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.record = self.record.with_header(key, value);
        self
    }

    /// Another timestamp, in milliseconds since 1970 UTC.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Self {
        self.record.timestamp_ms = timestamp_ms;
        self
    }
}

/// Milliseconds since 1970 UTC.
#[must_use]
pub fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

impl Producer {
    async fn start(client: Client, settings: ProducerSettings) -> Result<Self, ProduceError> {
        let hello = client.core.any_hello().await?;
        let limits = Limits {
            batch_bytes_max: hello.max_batch_bytes as usize,
            record_bytes_max: hello.max_record_bytes as usize,
        };
        let identity = if settings.idempotent { Identity::ask(&client).await? } else { Identity::NONE };
        let budget = Arc::new(Semaphore::new(settings.buffer_bytes_max));
        let topics = Topics::new(client, &settings, limits.batch_bytes_max, identity, Arc::clone(&budget));
        Ok(Self { inner: Arc::new(Inner { settings, limits, sizer: BatchBuilder::new(), budget, topics }) })
    }

    /// Stores a record and waits for its acknowledgement. Nothing happens until the future is polled; to have
    /// many under way use [`Producer::enqueue`].
    ///
    /// # Errors
    /// [`ProduceError`]; after [`ProduceError::Poisoned`] or its cause this producer takes no more for the
    /// partition.
    pub async fn send(&self, record: ProducerRecord) -> Result<Ack, ProduceError> {
        self.enqueue(record).await?.await
    }

    /// Takes a record into the buffer, waiting for room, and returns what becomes its acknowledgement.
    ///
    /// # Errors
    /// [`ProduceError`] if the record can never be sent.
    pub async fn enqueue(&self, record: ProducerRecord) -> Result<Delivery, ProduceError> {
        let bytes = self.inner.sizer.size_bytes_with(&record.record);
        self.check_record(&record.record, bytes)?;
        let permits = self.acquire(bytes).await?;
        let lane = self.inner.topics.lane_for(&record, bytes).await?;
        let delivery = lane.push(&record.record, permits.len)?;
        permits.handed_over();
        Ok(delivery)
    }

    /// Stores records as one batch: all of them or none, with consecutive LSNs.
    ///
    /// # Errors
    /// [`ProduceError`]; see [`Producer::send`].
    pub async fn send_batch(
        &self,
        topic: &str,
        partition: u32,
        records: Vec<Record>,
    ) -> Result<BatchAck, ProduceError> {
        self.enqueue_batch(topic, partition, &records).await?.await
    }

    /// Stores records as one batch, if its first record gets exactly the LSN `expected_next_lsn`.
    ///
    /// # Errors
    /// [`ProduceError::ConditionFailed`] with the actual next LSN; nothing was written then, and the producer
    /// goes on. [`RequestError::OutcomeUnknown`](crate::RequestError::OutcomeUnknown) if the condition does not
    /// hold now, but an earlier attempt is unanswered and might find it to hold later.
    pub async fn send_batch_if(
        &self,
        topic: &str,
        partition: u32,
        records: Vec<Record>,
        expected_next_lsn: u64,
    ) -> Result<BatchAck, ProduceError> {
        let expected_next_lsn = Some(expected_next_lsn);
        let conditions = Conditions { expected_next_lsn, fence: self.inner.settings.fence, position: None };
        self.enqueue_batch_with(topic, partition, &records, conditions).await?.await
    }

    /// Stores records as one batch and, with it, how far the group has come that made them of what it reads: both or
    /// neither. The position is kept in the batch's partition ([`Group::kept_in`](crate::Group::kept_in)).
    ///
    /// # Errors
    /// [`ProduceError::GenerationFenced`] or [`ProduceError::PositionConflict`] if the position's conditions do not
    /// hold; nothing was written then, and this producer takes no more for the partition. See [`Producer::send`].
    pub async fn send_batch_at(
        &self,
        topic: &str,
        partition: u32,
        records: Vec<Record>,
        position: PositionCommit,
    ) -> Result<BatchAck, ProduceError> {
        self.enqueue_batch_at(topic, partition, &records, position).await?.await
    }

    /// [`Producer::send_batch_at`] that returns once the batch has room in the buffer.
    ///
    /// # Errors
    /// [`ProduceError`] if the batch can never be sent.
    pub async fn enqueue_batch_at(
        &self,
        topic: &str,
        partition: u32,
        records: &[Record],
        position: PositionCommit,
    ) -> Result<BatchDelivery, ProduceError> {
        let position = Some(position);
        let conditions = Conditions { expected_next_lsn: None, fence: self.inner.settings.fence, position };
        self.enqueue_batch_with(topic, partition, records, conditions).await
    }

    /// Takes a batch into the buffer, waiting for room, and returns what becomes its acknowledgement.
    ///
    /// # Errors
    /// [`ProduceError`] if the batch can never be sent.
    pub async fn enqueue_batch(
        &self,
        topic: &str,
        partition: u32,
        records: &[Record],
    ) -> Result<BatchDelivery, ProduceError> {
        let conditions = Conditions { fence: self.inner.settings.fence, ..Conditions::default() };
        self.enqueue_batch_with(topic, partition, records, conditions).await
    }

    async fn enqueue_batch_with(
        &self,
        topic: &str,
        partition: u32,
        records: &[Record],
        conditions: Conditions,
    ) -> Result<BatchDelivery, ProduceError> {
        let mut builder = BatchBuilder::new();
        for record in records {
            let before = builder.size_bytes();
            builder.push(record).map_err(|error| too_large("batch", &error))?;
            self.check_record(record, builder.size_bytes() - before)?;
        }
        if builder.is_empty() {
            return Err(ProduceError::Empty);
        }
        let bytes = builder.size_bytes();
        let limit = self.inner.limits.batch_bytes_max;
        if bytes > limit {
            return Err(ProduceError::TooLarge { what: "batch", bytes: bytes as u64, limit: limit as u64 });
        }
        let permits = self.acquire(bytes).await?;
        let lane = self.inner.topics.lane(topic, partition, bytes).await?;
        let delivery = lane.push_batch(builder, conditions, permits.len)?;
        permits.handed_over();
        Ok(delivery)
    }

    /// Sends what is buffered without waiting for more, and waits until all that was enqueued so far is
    /// acknowledged or has failed.
    ///
    /// # Errors
    /// The first failure among what was waited for.
    pub async fn flush(&self) -> Result<(), ProduceError> {
        let tickets: Vec<Arc<Ticket>> =
            self.inner.topics.lanes().iter().flat_map(|lane| lane.flush()).collect();
        let mut result = Ok(());
        for ticket in tickets {
            result = result.and(ticket.settled().await.map(|_| ()));
        }
        result
    }

    /// Flushes, and takes nothing more.
    ///
    /// # Errors
    /// As [`Producer::flush`].
    pub async fn close(self) -> Result<(), ProduceError> {
        let result = self.flush().await;
        self.inner.budget.close();
        result
    }

    fn check_record(&self, record: &Record, bytes: usize) -> Result<(), ProduceError> {
        let limit = self.inner.limits.record_bytes_max.min(self.inner.limits.batch_bytes_max);
        if bytes <= limit {
            return Ok(());
        }
        debug_assert!(record.value.is_some() || record.key.is_some() || !record.headers.is_empty());
        Err(ProduceError::TooLarge { what: "record", bytes: bytes as u64, limit: limit as u64 })
    }

    async fn acquire(&self, bytes: usize) -> Result<Permits<'_>, ProduceError> {
        let len = bytes.min(self.inner.settings.buffer_bytes_max);
        let count = u32::try_from(len).unwrap_or(u32::MAX);
        let permit = self.inner.budget.acquire_many(count).await.map_err(|_| ProduceError::Closed)?;
        Ok(Permits { permit, len })
    }
}

/// Room in the buffer; given back when dropped, unless the lane has taken it over.
struct Permits<'a> {
    permit: tokio::sync::SemaphorePermit<'a>,
    len: usize,
}

impl Permits<'_> {
    fn handed_over(self) {
        self.permit.forget();
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.topics.lanes().iter().for_each(|lane| lane.abandon());
    }
}

fn too_large(what: &'static str, error: &BatchError) -> ProduceError {
    match error {
        BatchError::TooLarge { bytes, limit } => {
            ProduceError::TooLarge { what, bytes: *bytes, limit: *limit }
        }
        _ => ProduceError::Empty,
    }
}
