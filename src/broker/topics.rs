//! Topics: made, removed, and told about.

use std::sync::Arc;
use std::time::Duration;

use super::{Broker, TopicError};
use crate::cluster::{NewTopic, Refusal, Topic, TopicChange};

/// How long a topic that a client's metadata request creates may take to have leaders.
const CREATE_MISSING_WAIT: Duration = Duration::from_secs(5);

/// How long a broker that has just started may take to know all topics before a question is refused.
const CURRENT_WAIT: Duration = Duration::from_secs(1);

/// Why nothing can be said of a topic that is not known here.
const NOT_CURRENT: &str = "it has heard of no commit by a leader of this run yet; try again shortly";

/// A topic, and who leads its partitions as far as this broker knows.
#[derive(Clone, Debug)]
pub struct TopicView {
    /// The topic.
    pub topic: Arc<Topic>,
    /// One for each partition, 0 first.
    pub leaders: Vec<LeaderView>,
}

/// Who leads a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaderView {
    /// The leader; of a partition that is not held here, the replica that is preferred as one.
    pub leader: Option<u64>,
    /// The latest term known here; 0 if the partition is not held here.
    pub term: u64,
}

/// How full a partition is on this broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionStatus {
    /// Its number in the topic.
    pub partition: u32,
    /// The first LSN still kept.
    pub log_start: u64,
    /// The last committed LSN.
    pub high_watermark: u64,
    /// Bytes on this broker's disk.
    pub bytes: u64,
}

impl Broker {
    /// Creates a topic, and waits up to `wait` until it can be written to.
    ///
    /// # Errors
    /// This broker does not lead the metadata, or the topic is not allowed.
    pub async fn create_topic(&self, topic: &NewTopic, wait: Duration) -> Result<TopicView, TopicError> {
        let created = self.cluster().create_topic(topic, wait).await?;
        Ok(self.view_topic(created))
    }

    /// Changes a topic, and waits up to `wait` until its new partitions can be written to.
    ///
    /// # Errors
    /// This broker does not lead the metadata, there is no such topic, or the change is not allowed.
    pub async fn alter_topic(
        &self,
        name: &str,
        change: &TopicChange,
        wait: Duration,
    ) -> Result<TopicView, TopicError> {
        let altered = self.cluster().alter_topic(name, change, wait).await?;
        Ok(self.view_topic(altered))
    }

    /// Deletes a topic and its records.
    ///
    /// # Errors
    /// This broker does not lead the metadata, or there is no such topic.
    pub async fn delete_topic(&self, name: &str) -> Result<(), TopicError> {
        self.cluster().delete_topic(name).await
    }

    /// A producer id that nobody else has.
    ///
    /// # Errors
    /// This broker has none left and does not lead the metadata.
    pub async fn new_producer_id(&self) -> Result<i64, TopicError> {
        self.cluster().new_producer_id().await
    }

    /// All topics, by name, once this broker knows all that there were before it started.
    ///
    /// # Errors
    /// It does not know yet.
    pub async fn all_topics(&self) -> Result<Vec<TopicView>, TopicError> {
        self.await_current().await?;
        Ok(self.topics())
    }

    /// All topics that this broker knows of now, by name.
    pub fn topics(&self) -> Vec<TopicView> {
        self.cluster().state().topics().map(|topic| self.view_topic(Arc::clone(topic))).collect()
    }

    /// One topic, if this broker knows of it now.
    pub fn topic_now(&self, name: &str) -> Option<TopicView> {
        self.cluster().state().topic(name).map(|topic| self.view_topic(Arc::clone(topic)))
    }

    /// One topic; waits a little for one that may be just on its way here.
    ///
    /// # Errors
    /// There is none of this name, or this broker cannot know yet.
    pub async fn topic(&self, name: &str) -> Result<TopicView, TopicError> {
        match self.find_topic(name).await {
            Some(topic) => Ok(self.view_topic(topic)),
            None => {
                self.await_current().await?;
                self.topic_or_why(name)
            }
        }
    }

    /// One topic, or whether it is known not to exist, now.
    ///
    /// # Errors
    /// There is none of this name, or this broker cannot know yet.
    pub fn topic_or_why(&self, name: &str) -> Result<TopicView, TopicError> {
        let current = self.cluster().is_current();
        match self.topic_now(name) {
            Some(known) => Ok(known),
            None if current => Err(Refusal::UnknownTopic(name.to_owned()).into()),
            None => Err(TopicError::Stuck(NOT_CURRENT.into())),
        }
    }

    /// One topic, created with the defaults if it is missing and the configuration allows that.
    ///
    /// # Errors
    /// There is none of this name and it cannot be created here.
    pub async fn topic_or_create(&self, name: &str) -> Result<TopicView, TopicError> {
        if let Some(known) = self.topic_now(name) {
            return Ok(known);
        }
        if !self.creates_missing() {
            return self.topic(name).await;
        }
        let topic = NewTopic { name: name.to_owned(), ..NewTopic::default() };
        match self.create_topic(&topic, CREATE_MISSING_WAIT).await {
            Err(TopicError::Refused(Refusal::TopicExists(_))) => self.topic(name).await,
            created => created,
        }
    }

    /// How full the partitions of a topic are, of those that this broker holds.
    pub async fn partition_statuses(&self, topic: &Topic) -> Vec<PartitionStatus> {
        let mut statuses = Vec::new();
        for (partition, placement) in (0..).zip(&topic.partitions) {
            let Some(handle) = self.cluster().replica(placement.shard) else { continue };
            let Some(description) = handle.describe().await else { continue };
            statuses.push(PartitionStatus {
                partition,
                log_start: description.view.log_start,
                high_watermark: description.view.high_watermark,
                bytes: description.log_bytes,
            });
        }
        statuses
    }

    /// Waits a little until what this broker does not know of does not exist.
    ///
    /// # Errors
    /// It does not know yet.
    pub async fn await_current(&self) -> Result<(), TopicError> {
        let current = self.cluster().wait_until_current();
        tokio::time::timeout(CURRENT_WAIT, current).await.map_err(|_| TopicError::Stuck(NOT_CURRENT.into()))
    }

    async fn find_topic(&self, name: &str) -> Option<Arc<Topic>> {
        let news = self.cluster().wait_for(|state| state.topic(name).cloned());
        tokio::time::timeout(super::NEWS_WAIT, news).await.ok().flatten()
    }

    fn view_topic(&self, topic: Arc<Topic>) -> TopicView {
        let leader_of = |placement: &crate::cluster::Placement| match self.cluster().replica(placement.shard)
        {
            Some(handle) => {
                let view = handle.view();
                LeaderView { leader: view.leader, term: view.term }
            }
            None => LeaderView { leader: placement.replicas.first().copied(), term: 0 },
        };
        let leaders = topic.partitions.iter().map(leader_of).collect();
        TopicView { topic, leaders }
    }
}
