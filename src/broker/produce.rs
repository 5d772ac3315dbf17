//! Appending batches.

use std::time::Duration;

use bytes::Bytes;
use lockstep_protocol::validate::{ValidationLimits, validate};

use super::{Broker, ProduceError};
use crate::engine::{Append, Appended};
use crate::metrics;

/// A batch and its conditions.
#[derive(Clone, Debug)]
pub struct ProduceBatch {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// A record batch v2, as the producer built it.
    pub batch: Bytes,
    /// Append only if the batch's first LSN will be this one.
    pub expected_next_lsn: Option<u64>,
    /// Append only if the partition's fencing epoch allows this one.
    pub fence: Option<u64>,
}

impl Broker {
    /// Validates a batch and appends it; returns once it is synced on a majority.
    ///
    /// The batch is handed to its partition before the first wait: of two calls whose futures are polled one
    /// after the other, the first one's batch is judged first. (Only a topic this broker has not heard of
    /// yet is waited for before.)
    ///
    /// # Errors
    /// The batch is invalid, the partition is not led here, a condition does not hold, or the outcome is not
    /// known in time.
    pub async fn produce(&self, request: ProduceBatch, timeout: Duration) -> Result<Appended, ProduceError> {
        let located = self.locate(&request.topic, request.partition).await?;
        let settings = &located.topic.settings;
        let limits = ValidationLimits {
            max_batch_bytes: self.batch_bytes_max(settings),
            max_record_bytes: self.limits().max_record_bytes as usize,
            trust_producer: settings.trust_producers,
        };
        let validated = validate(&request.batch, &limits)?;
        let bytes = request.batch.len() as u64;
        let append = located.handle.begin_append(Append {
            batch: request.batch,
            header: validated.header,
            expected_next_lsn: request.expected_next_lsn,
            fence: request.fence,
        });
        let appended = match tokio::time::timeout(timeout, append).await {
            Ok(answer) => answer?,
            Err(_) => {
                let waited_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
                return Err(ProduceError::TimedOut { waited_ms });
            }
        };
        if appended.duplicate {
            metrics::batch_duplicate();
        } else {
            metrics::batch_acknowledged(bytes, validated.records.into());
        }
        Ok(appended)
    }
}
