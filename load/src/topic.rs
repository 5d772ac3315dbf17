//! The topic of a run: made, filled, compared with what was acknowledged, removed.

use std::sync::Arc;

use bytes::Bytes;
use lockstep_client::{Client, NewTopic, ProducerRecord, Record};

use crate::error::LoadError;
use crate::plan::{Batching, Plan};
use crate::writer;

/// Bytes in a batch with which a topic is filled.
const FILL_BATCH_BYTES: usize = 1 << 20;
/// Bytes between two reports of how far the filling is.
const FILL_STEP_BYTES: u64 = 4 << 20;

/// The topic of a run.
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    pub(crate) partitions: u32,
    /// Whether the run made it: then nobody else writes to it.
    pub(crate) is_ours: bool,
    pub(crate) client: Client,
    keep: bool,
    /// The last LSNs before the run, added up.
    records_before: u64,
}

impl Topic {
    /// Makes the topic of the plan, or finds it.
    pub(crate) async fn open(client: Client, plan: &Plan, tag: u64) -> Result<Self, LoadError> {
        let name = plan.topic.clone().unwrap_or_else(|| format!("bench-{tag:016x}"));
        let existing = client.list_topics().await?;
        let found = existing.into_iter().find(|topic| topic.name == name);
        let partitions = match &found {
            Some(topic) => topic.partitions,
            None => {
                let topic = NewTopic::new(&*name).partitions(plan.partitions).replication(plan.replication);
                u32::try_from(client.create_topic(topic).await?.partitions.len()).unwrap_or(u32::MAX)
            }
        };
        let mut topic = Self {
            name: name.into(),
            partitions,
            is_ours: found.is_none(),
            client,
            keep: plan.keep_topic || plan.topic.is_some(),
            records_before: 0,
        };
        topic.records_before = topic.records().await?;
        Ok(topic)
    }

    /// The committed last LSN of each partition.
    async fn ends(&self) -> Result<Vec<u64>, LoadError> {
        let mut ends = Vec::new();
        for partition in 0..self.partitions {
            ends.push(self.client.tail(&self.name, partition, true).await?.high_watermark);
        }
        Ok(ends)
    }

    /// The same, added up.
    async fn records(&self) -> Result<u64, LoadError> {
        Ok(self.ends().await?.into_iter().sum())
    }

    /// Where the records of the run begin: the next LSN of each partition, before anything is measured.
    pub(crate) async fn begins(&self) -> Result<Vec<u64>, LoadError> {
        Ok(self.ends().await?.into_iter().map(|end| end + 1).collect())
    }

    /// How many records there are to read.
    pub(crate) async fn kept(&self) -> Result<u64, LoadError> {
        let mut records = 0;
        for partition in 0..self.partitions {
            let tail = self.client.tail(&self.name, partition, true).await?;
            records += (tail.high_watermark + 1).saturating_sub(tail.log_start.max(1));
        }
        Ok(records)
    }

    /// Writes the plan's fill; returns how many records that were. `told` hears of the bytes so far, and says whether to go on.
    pub(crate) async fn fill(
        &self,
        plan: &Plan,
        told: &mut dyn FnMut(u64) -> bool,
    ) -> Result<u64, LoadError> {
        let producer = self.client.producer().batch_bytes(FILL_BATCH_BYTES).build().await?;
        let value = Bytes::from(writer::filler(plan.record_bytes));
        let records = plan.fill_bytes / plan.record_bytes as u64;
        let (mut bytes, mut next_step) = (0, 0);
        for number in 0..records {
            let partition = u32::try_from(number % u64::from(self.partitions)).unwrap_or(0);
            let record = Record::new(lockstep_client::producer::now_ms(), value.clone());
            let record = ProducerRecord { topic: Arc::clone(&self.name), partition: Some(partition), record };
            // Its outcome is asked for by the flush.
            let _delivery = producer.enqueue(record).await?;
            bytes += plan.record_bytes as u64;
            if bytes >= next_step {
                if !told(bytes) {
                    return Err(LoadError::Stopped);
                }
                next_step += FILL_STEP_BYTES;
            }
        }
        producer.close().await?;
        Ok(records)
    }

    /// Compares what is committed with what was acknowledged.
    pub(crate) async fn check(&self, acknowledged: u64) -> Result<(), LoadError> {
        let committed = self.records().await?.saturating_sub(self.records_before);
        let agree = if self.is_ours { committed == acknowledged } else { committed >= acknowledged };
        if agree {
            return Ok(());
        }
        Err(LoadError::Violation(format!(
            "{acknowledged} records were acknowledged in {}, and {committed} are committed",
            self.name
        )))
    }

    /// Removes a topic that was made for the run and is not to be kept.
    pub(crate) async fn close(self) -> Result<(), LoadError> {
        if self.is_ours && !self.keep {
            self.client.delete_topic(&self.name).await?;
        }
        Ok(())
    }
}

/// The batching a client is built with.
pub(crate) fn client_batching(batching: Batching) -> (usize, std::time::Duration) {
    match batching {
        Batching::Client { batch_bytes, linger } => (batch_bytes, linger),
        Batching::Records(_) => (1, std::time::Duration::ZERO),
    }
}
