//! Where a consumer starts and ends, and whom it reads from.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::added;
use super::following::Window;
use super::partition::{PartitionReader, ReadFrom, ReaderSettings};
use super::progress::Progress;
use super::verify::Position;
use super::{ConsumedBatch, Consumer};
use crate::attempt::Target;
use crate::client::{Client, unknown_partition};
use crate::error::{ConsumeError, RequestError};
use crate::group::Group;
use crate::retry::Repeat;
use lockstep_protocol::native::{LsnForTimeRequest, TailRequest};

/// Batches that may wait for the consumer, beside the credit that bounds their bytes.
const BATCHES_WAITING_MAX: usize = 64;
/// How often partitions that were added are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Where to start reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the first record still kept.
    Earliest,
    /// After the last record committed when the consumer is opened.
    Latest,
    /// At this LSN, from 1 up to the next one to be written.
    Lsn(u64),
    /// At the first record whose timestamp, in milliseconds since 1970 UTC, is this or later.
    Time(i64),
}

/// Configures a [`Consumer`].
#[must_use = "a builder does nothing until it opens"]
pub struct ConsumerBuilder {
    client: Client,
    topic: String,
    partition: Option<u32>,
    start: Start,
    until_end: bool,
    settings: ReaderSettings,
    group: Option<Group>,
    generation: u64,
    commit_every: Option<Duration>,
    pub(super) look_every: Duration,
}

/// Where readers put what they read.
pub(super) type Batches = mpsc::Sender<Result<ConsumedBatch, ConsumeError>>;

impl ConsumerBuilder {
    pub(crate) fn new(client: Client, topic: String) -> Self {
        let settings = ReaderSettings {
            from: ReadFrom::Any(None),
            window: Window { credit_bytes: 8 << 20, push_bytes_max: 1 << 20 },
        };
        Self {
            client,
            topic,
            partition: None,
            start: Start::Earliest,
            until_end: false,
            settings,
            group: None,
            generation: 0,
            commit_every: None,
            look_every: LOOK_EVERY,
        }
    }

    /// Reads this partition alone. Without it all partitions of the topic are merged, each in its own order, those that are
    /// added later from their beginning.
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Where to start. Default [`Start::Earliest`].
    pub fn from(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Goes on where a group has come to, partition by partition; where it has not begun, at [`ConsumerBuilder::from`]. What
    /// was removed meanwhile is left out. What it reads is committed by [`Consumer::commit`].
    pub fn group(mut self, group: Group) -> Self {
        self.group = Some(group);
        self
    }

    /// The generation to commit with, of a member that took over ([`Group::take_over`]).
    pub fn generation(mut self, generation: u64) -> Self {
        self.generation = generation;
        self
    }

    /// Also commits by itself, that often: before a record is returned, those returned before it. Each record is
    /// then processed at least once.
    pub fn commit_every(mut self, interval: Duration) -> Self {
        self.commit_every = Some(interval);
        self
    }

    /// How soon partitions that are added to the topic are read. Default 30 s.
    pub fn look_for_partitions_every(mut self, interval: Duration) -> Self {
        self.look_every = interval;
        self
    }

    /// Ends after the last record that was committed when the consumer was opened; without it the consumer
    /// waits for more.
    pub fn until_end(mut self) -> Self {
        self.until_end = true;
        self
    }

    /// Reads from this broker while it lives, and from another copy when it does not.
    pub fn from_node(mut self, node: u64) -> Self {
        self.settings.from = ReadFrom::Any(Some(node));
        self
    }

    /// Reads from this broker and no other: for comparing copies.
    pub fn only_from_node(mut self, node: u64) -> Self {
        self.settings.from = ReadFrom::Only(node);
        self
    }

    /// Bytes a broker may push ahead, per partition. Default 8 MiB.
    pub fn credit_bytes(mut self, bytes: u64) -> Self {
        self.settings.window.credit_bytes = bytes.max(1);
        self
    }

    /// Finds where to start and begins to read.
    ///
    /// # Errors
    /// [`ConsumeError::Unknown`] if there is no such topic or partition, [`ConsumeError::NotThere`] if the only
    /// broker to read from holds no copy, [`ConsumeError::BeyondTail`] if it is to end before it starts.
    pub async fn open(self) -> Result<Consumer, ConsumeError> {
        let count = self.client.core.partition_count(&self.topic, false).await?;
        let partitions = match self.partition {
            None => 0..count,
            Some(partition) if partition < count => partition..partition + 1,
            Some(partition) => {
                let error = unknown_partition(&self.topic, partition, count);
                return Err(RequestError::Refused { error }.into());
            }
        };
        let Some(id) = self.client.core.routing().topic_id(&self.topic) else {
            return Err(ConsumeError::Unknown { message: format!("topic {:?} was deleted", self.topic) });
        };
        let (sender, batches) = mpsc::channel(BATCHES_WAITING_MAX);
        let progress = self
            .group
            .clone()
            .map(|group| Progress::new(group, self.topic.clone(), self.generation, self.commit_every));
        let mut readers = JoinSet::new();
        for partition in partitions {
            readers.spawn(self.reader(id, partition, self.start, &sender).await?.run());
        }
        if self.partition.is_none() && !self.until_end {
            readers.spawn(added::read(self, id, count, sender));
        }
        Ok(Consumer { batches, current: None, failed: false, _readers: readers, progress })
    }

    /// What reads one partition of the topic of this id.
    pub(super) async fn reader(
        &self,
        id: u32,
        partition: u32,
        start: Start,
        sender: &Batches,
    ) -> Result<PartitionReader, ConsumeError> {
        self.check_node(partition)?;
        let committed = self.committed(partition).await?;
        let next_lsn = match committed {
            Some(next_lsn) => next_lsn,
            None => self.client.first_lsn(&self.topic, partition, start).await?,
        };
        let end = if self.until_end { Some(self.tail(partition, true).await?.1) } else { None };
        if let Some(end) = end.filter(|end| next_lsn > end + 1) {
            return Err(ConsumeError::BeyondTail { partition, from_lsn: next_lsn, next_lsn: end + 1 });
        }
        Ok(PartitionReader::new(
            self.client.clone(),
            (self.topic.clone(), id),
            Position { partition, next_lsn },
            end,
            start == Start::Earliest || committed.is_some(),
            self.settings,
            sender.clone(),
        ))
    }

    /// How many partitions the topic of this id has by now; nothing if it is not known, or gone.
    pub(super) async fn count(&self, id: u32) -> Option<u32> {
        self.client.core.metadata(Some(vec![self.topic.clone()])).await.ok()?;
        let routing = self.client.core.routing();
        routing.partition_count(&self.topic).filter(|_| routing.topic_id(&self.topic) == Some(id))
    }

    fn check_node(&self, partition: u32) -> Result<(), ConsumeError> {
        let ReadFrom::Only(node) = self.settings.from else { return Ok(()) };
        let routing = self.client.core.routing();
        match routing.partition(&self.topic, partition) {
            Some(route) if !route.replicas.contains(&node) => {
                Err(ConsumeError::NotThere { partition, node, replicas: route.replicas.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Where the group goes on, if there is one and it has begun.
    async fn committed(&self, partition: u32) -> Result<Option<u64>, ConsumeError> {
        let Some(group) = &self.group else { return Ok(None) };
        let found = group.committed(&self.topic, partition).await.map_err(ConsumeError::Commit)?;
        let Some(found) = found else { return Ok(None) };
        Ok(Some(found.next_lsn.max(self.tail(partition, false).await?.0)))
    }

    async fn tail(&self, partition: u32, linearizable: bool) -> Result<(u64, u64), ConsumeError> {
        self.client.ends(&self.topic, partition, linearizable).await
    }
}

impl Client {
    /// The LSN of the first record from a place on.
    ///
    /// # Errors
    /// [`ConsumeError::Unknown`] if there is no such partition.
    pub async fn first_lsn(&self, topic: &str, partition: u32, start: Start) -> Result<u64, ConsumeError> {
        match start {
            Start::Lsn(0) => Err(ConsumeError::Zero),
            Start::Lsn(lsn) => Ok(lsn),
            Start::Earliest => Ok(self.ends(topic, partition, false).await?.0.max(1)),
            Start::Latest => Ok(self.ends(topic, partition, false).await?.1 + 1),
            Start::Time(timestamp_ms) => {
                let request = LsnForTimeRequest { topic: topic.to_owned(), partition, timestamp_ms };
                let target = Target::Leader(topic, partition);
                match self.core.call(target, &request, Repeat::Harmless).await?.lsn {
                    Some(lsn) => Ok(lsn),
                    None => Ok(self.ends(topic, partition, false).await?.1 + 1),
                }
            }
        }
    }

    /// Log start and last committed LSN. A linearizable one and a start come from the leader.
    async fn ends(
        &self,
        topic: &str,
        partition: u32,
        linearizable: bool,
    ) -> Result<(u64, u64), ConsumeError> {
        let request = TailRequest { topic: topic.to_owned(), partition, linearizable };
        let target = Target::Leader(topic, partition);
        let tail = self.core.call(target, &request, Repeat::Harmless).await?;
        Ok((tail.log_start, tail.high_watermark))
    }
}
