//! The lanes of a producer, and which one a record takes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::ProducerRecord;
use super::builder::ProducerSettings;
use super::lane::{Identity, LaneSettings};
use super::lane_task::LaneHandle;
use super::partitioner::partition_for_key;
use crate::client::{Client, unknown_partition};
use crate::error::{ProduceError, RequestError};

/// How soon a producer that goes on writing uses partitions that were added.
const METADATA_AGE_MAX: Duration = Duration::from_secs(30);

/// All lanes, by topic and partition; each is made when its partition is first written to.
pub(crate) struct Topics {
    client: Client,
    create_missing: bool,
    /// The brokers' limit on a batch.
    batch_bytes_max: usize,
    /// For every lane; the partition differs.
    lane_settings: LaneSettings,
    budget: Arc<Semaphore>,
    topics: Mutex<BTreeMap<Arc<str>, Topic>>,
}

struct Topic {
    /// Longest batch: the topic's own limit, or the brokers'.
    batch_bytes_max: usize,
    lanes: Vec<Option<Arc<LaneHandle>>>,
    /// When its partitions were asked for last.
    asked_at: Instant,
    /// Where records without a key go, until a batch of them is full (KIP-794).
    sticky: usize,
    sticky_bytes: usize,
}

impl Topics {
    pub(crate) fn new(
        client: Client,
        settings: &ProducerSettings,
        batch_bytes_max: usize,
        identity: Identity,
        budget: Arc<Semaphore>,
    ) -> Self {
        let lane_settings = LaneSettings {
            partition: 0,
            linger: settings.linger,
            batch_bytes: settings.batch_bytes.min(batch_bytes_max),
            in_flight_max: settings.in_flight_max,
            fence: settings.fence,
            identity,
        };
        let topics = Mutex::new(BTreeMap::new());
        Self {
            client,
            create_missing: settings.create_missing,
            batch_bytes_max,
            lane_settings,
            budget,
            topics,
        }
    }

    /// The lane for a record of `bytes`: the partition it names, its key's, or the next in turn.
    pub(crate) async fn lane_for(
        &self,
        record: &ProducerRecord,
        bytes: usize,
    ) -> Result<Arc<LaneHandle>, ProduceError> {
        if !self.lock().contains_key(&record.topic) {
            self.learn(&record.topic).await?;
        }
        let mut topics = self.lock();
        let topic = topics.get_mut(&record.topic).ok_or_else(|| gone(&record.topic))?;
        self.keep_up(&record.topic, topic);
        topic.check("record", bytes)?;
        let count = topic.lanes.len();
        let partition = match (record.partition, &record.record.key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for_key(key, u32::try_from(count).unwrap_or(u32::MAX)),
            (None, None) => {
                topic.next_sticky(bytes, self.lane_settings.batch_bytes.min(topic.batch_bytes_max))
            }
        };
        self.lane_of(&record.topic, topic, partition)
    }

    /// The lane of a named partition, for a batch of `bytes`.
    pub(crate) async fn lane(
        &self,
        name: &str,
        partition: u32,
        bytes: usize,
    ) -> Result<Arc<LaneHandle>, ProduceError> {
        if !self.lock().contains_key(name) {
            self.learn(&Arc::from(name)).await?;
        }
        let mut topics = self.lock();
        let name = topics.get_key_value(name).map(|(name, _)| Arc::clone(name)).ok_or_else(|| gone(name))?;
        let topic = topics.get_mut(&name).ok_or_else(|| gone(&name))?;
        self.keep_up(&name, topic);
        topic.check("batch", bytes)?;
        self.lane_of(&name, topic, partition)
    }

    /// Every lane there is.
    pub(crate) fn lanes(&self) -> Vec<Arc<LaneHandle>> {
        self.lock().values().flat_map(|topic| topic.lanes.iter().flatten()).map(Arc::clone).collect()
    }

    async fn learn(&self, name: &Arc<str>) -> Result<(), ProduceError> {
        let count = self.client.core.partition_count(name, self.create_missing).await?;
        let own_limit =
            self.client.core.routing().batch_bytes_max(name).map_or(usize::MAX, |bytes| bytes as usize);
        let batch_bytes_max = self.batch_bytes_max.min(own_limit);
        let lanes = vec![None; count as usize];
        let topic = Topic { batch_bytes_max, lanes, asked_at: Instant::now(), sticky: 0, sticky_bytes: 0 };
        self.lock().entry(Arc::clone(name)).or_insert(topic);
        Ok(())
    }

    /// Uses partitions that were added meanwhile; asks for them now and then, and waits for no answer.
    fn keep_up(&self, name: &Arc<str>, topic: &mut Topic) {
        let known = self.client.core.routing().partition_count(name).unwrap_or(0) as usize;
        if known > topic.lanes.len() {
            topic.lanes.resize(known, None);
        }
        if topic.asked_at.elapsed() >= METADATA_AGE_MAX {
            topic.asked_at = Instant::now();
            let (client, name) = (self.client.clone(), name.to_string());
            tokio::spawn(async move { client.core.metadata(Some(vec![name])).await });
        }
    }

    fn lane_of(
        &self,
        name: &Arc<str>,
        topic: &mut Topic,
        partition: u32,
    ) -> Result<Arc<LaneHandle>, ProduceError> {
        let count = u32::try_from(topic.lanes.len()).unwrap_or(u32::MAX);
        let Some(slot) = topic.lanes.get_mut(partition as usize) else {
            let error = unknown_partition(name, partition, count);
            return Err(RequestError::Refused { error }.into());
        };
        let batch_bytes = self.lane_settings.batch_bytes.min(topic.batch_bytes_max);
        let lane = slot.get_or_insert_with(|| {
            let settings = LaneSettings { partition, batch_bytes, ..self.lane_settings };
            LaneHandle::start(self.client.clone(), Arc::clone(name), settings, Arc::clone(&self.budget))
        });
        Ok(Arc::clone(lane))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Topic>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Topic {
    /// Refuses what no batch of the topic can hold.
    fn check(&self, what: &'static str, bytes: usize) -> Result<(), ProduceError> {
        let limit = self.batch_bytes_max;
        if bytes <= limit {
            return Ok(());
        }
        Err(ProduceError::TooLarge { what, bytes: bytes as u64, limit: limit as u64 })
    }

    /// Stays with a partition for about one batch, then moves on.
    fn next_sticky(&mut self, bytes: usize, batch_bytes: usize) -> u32 {
        if self.sticky_bytes + bytes > batch_bytes && self.sticky_bytes > 0 {
            self.sticky = (self.sticky + 1) % self.lanes.len().max(1);
            self.sticky_bytes = 0;
        }
        self.sticky_bytes += bytes;
        u32::try_from(self.sticky).unwrap_or(0)
    }
}

fn gone(name: &str) -> ProduceError {
    ProduceError::Unknown { message: format!("topic {name:?} is no longer known") }
}
