//! Appending batches.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use lockstep_protocol::validate::{ValidationLimits, validate};
use tokio::time::{Instant, timeout_at};

use super::{Broker, GroupCommit, ProduceError};
use crate::engine::{Append, AppendError, Appended};
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
    /// Commit this position with the batch: both or neither.
    pub position: Option<GroupCommit>,
}

/// A batch that its partition has been handed.
pub struct BegunAppend {
    answer: Pin<Box<dyn Future<Output = Result<Appended, AppendError>> + Send>>,
    deadline: Instant,
    timeout: Duration,
    bytes: u64,
    records: u64,
}

impl Broker {
    /// Validates a batch and hands it to its partition: of two batches, the one begun first is judged first.
    /// A topic that is unknown, or whose replica is being opened, is waited for a little, until `locate_by` at
    /// the most.
    ///
    /// # Errors
    /// The partition is not held here, or the batch is invalid.
    pub async fn begin_produce(
        &self,
        request: ProduceBatch,
        timeout: Duration,
        locate_by: Instant,
    ) -> Result<BegunAppend, ProduceError> {
        let located = self.locate_by(&request.topic, request.partition, locate_by).await?;
        let settings = &located.topic.settings;
        let limits = ValidationLimits {
            max_batch_bytes: self.batch_bytes_max(settings),
            max_record_bytes: self.limits().max_record_bytes as usize,
            trust_producer: settings.trust_producers,
        };
        let validated = validate(&request.batch, &limits)?;
        let position = match request.position {
            Some(commit) => Some(self.resolve(commit).await?),
            None => None,
        };
        let bytes = request.batch.len() as u64;
        let answer = located.handle.begin_append(Append {
            batch: request.batch,
            header: validated.header,
            expected_next_lsn: request.expected_next_lsn,
            fence: request.fence,
            position,
        });
        let deadline = Instant::now() + timeout;
        let records = validated.records.into();
        Ok(BegunAppend { answer: Box::pin(answer), deadline, timeout, bytes, records })
    }
}

impl BegunAppend {
    /// Waits until the batch is synced on a majority.
    ///
    /// # Errors
    /// The partition is not led here, a condition does not hold, or the outcome is not known in time.
    pub async fn finish(self) -> Result<Appended, ProduceError> {
        let appended = match timeout_at(self.deadline, self.answer).await {
            Ok(answer) => answer?,
            Err(_) => {
                let waited_ms = u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX);
                return Err(ProduceError::TimedOut { waited_ms });
            }
        };
        if appended.duplicate {
            metrics::batch_duplicate();
        } else {
            metrics::batch_acknowledged(self.bytes, self.records);
        }
        Ok(appended)
    }
}
