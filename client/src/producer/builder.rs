//! How a producer behaves.

use std::time::Duration;

use super::Producer;
use crate::client::Client;
use crate::error::ProduceError;

/// Batches of a producer that a partition remembers: of as many under way, each is stored once whatever is sent again.
const IN_FLIGHT_MAX: usize = 5;

/// Configures a [`Producer`].
///
/// ```no_run
/// # async fn example(client: lockstep_client::Client) -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// let producer = client.producer().linger(Duration::from_millis(5)).batch_bytes(256 << 10).build().await?;
/// # let _ = producer;
/// # Ok(()) }
/// ```
#[must_use = "a builder does nothing until it builds"]
pub struct ProducerBuilder {
    client: Client,
    settings: ProducerSettings,
}

#[derive(Debug, Clone)]
pub(crate) struct ProducerSettings {
    pub(crate) linger: Duration,
    pub(crate) batch_bytes: usize,
    pub(crate) in_flight_max: usize,
    pub(crate) buffer_bytes_max: usize,
    pub(crate) idempotent: bool,
    pub(crate) fence: Option<u64>,
    pub(crate) create_missing: bool,
}

impl ProducerBuilder {
    pub(crate) fn new(client: Client) -> Self {
        let settings = ProducerSettings {
            linger: Duration::ZERO,
            batch_bytes: 1 << 20,
            in_flight_max: IN_FLIGHT_MAX,
            buffer_bytes_max: 32 << 20,
            idempotent: true,
            fence: None,
            create_missing: true,
        };
        Self { client, settings }
    }

    /// How long a batch waits for more records while fewer than two are in flight. Default 0: beside two, the next one grows
    /// in any case, until it is full, is flushed, or one of them is acknowledged.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.settings.linger = linger;
        self
    }

    /// Bytes at which a batch is sent; the brokers' limit caps it. Default 1 MiB.
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.settings.batch_bytes = bytes.max(1);
        self
    }

    /// Batches under way at once per partition. Default 5, and no more: brokers remember so many of each producer, and could
    /// not tell what they have stored of an earlier one. Without idempotence it is always 1, since a retry would
    /// change the order.
    pub fn max_in_flight(mut self, batches: usize) -> Self {
        self.settings.in_flight_max = batches.clamp(1, IN_FLIGHT_MAX);
        self
    }

    /// Unacknowledged bytes at which enqueueing waits. Default 32 MiB.
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.settings.buffer_bytes_max = bytes.clamp(1, u32::MAX as usize);
        self
    }

    /// Whether batches carry a producer id and sequence, so that a retry is stored once. Default on; without
    /// it a batch whose outcome is open fails instead of being retried.
    pub fn idempotent(mut self, idempotent: bool) -> Self {
        self.settings.idempotent = idempotent;
        self
    }

    /// The fencing epoch every batch states: a partition fenced by a greater one refuses it.
    pub fn fence(mut self, epoch: u64) -> Self {
        self.settings.fence = Some(epoch);
        self
    }

    /// Whether a missing topic is created, if the cluster allows it. Default on.
    pub fn create_missing_topics(mut self, create: bool) -> Self {
        self.settings.create_missing = create;
        self
    }

    /// Opens the producer; an idempotent one gets its id from the cluster.
    ///
    /// # Errors
    /// [`ProduceError::Request`] if the cluster does not answer.
    pub async fn build(mut self) -> Result<Producer, ProduceError> {
        if !self.settings.idempotent {
            self.settings.in_flight_max = 1;
        }
        Producer::start(self.client, self.settings).await
    }
}
