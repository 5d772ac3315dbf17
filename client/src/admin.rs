//! Topics, partitions and the cluster: what is asked and changed without producing or consuming.

use lockstep_protocol::native::{
    AlterTopicRequest, CreateTopicRequest, DeleteTopicRequest, DescribeTopicRequest, DescribeTopicResponse,
    FenceRequest, FetchItem, FetchRequest, ListTopicsRequest, LsnForTimeRequest, LsnForTimeResponse,
    MetadataRequest, MetadataResponse, PartitionMetadata, TailRequest, TailResponse, TopicConfig,
    TopicMetadata, TopicSummary, TrimRequest,
};
use lockstep_protocol::{ErrorCode, Request};

use crate::attempt::Target;
use crate::client::Client;
use crate::error::{PartitionError, RequestError, TopicError};
use crate::retry::Repeat;

/// A topic to be created.
///
/// ```
/// use lockstep_client::NewTopic;
///
/// let topic = NewTopic::new("invoices").partitions(3).retention_ms(7 * 24 * 3_600_000);
/// # let _ = topic;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    name: String,
    partitions: u32,
    replication: u32,
    config: TopicConfig,
}

impl NewTopic {
    /// One partition, the cluster's default replication, kept for ever.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), partitions: 1, replication: 0, config: TopicConfig::default() }
    }

    /// How many partitions; at least 1.
    #[must_use]
    pub fn partitions(mut self, count: u32) -> Self {
        self.partitions = count;
        self
    }

    /// Replicas per partition; 0 for the cluster's default.
    #[must_use]
    pub fn replication(mut self, count: u32) -> Self {
        self.replication = count;
        self
    }

    /// Bytes to keep per partition.
    #[must_use]
    pub fn retention_bytes(mut self, bytes: u64) -> Self {
        self.config.retention_bytes = Some(bytes);
        self
    }

    /// Milliseconds to keep a record for.
    #[must_use]
    pub fn retention_ms(mut self, milliseconds: u64) -> Self {
        self.config.retention_ms = Some(milliseconds);
        self
    }

    /// Longest batch in bytes.
    #[must_use]
    pub fn max_batch_bytes(mut self, bytes: u32) -> Self {
        self.config.max_batch_bytes = Some(bytes);
        self
    }

    /// Skip the brokers' walk over each record: LSNs are then only as dense as the producers are right.
    #[must_use]
    pub fn trust_producers(mut self, trust: bool) -> Self {
        self.config.trust_producers = trust;
        self
    }
}

/// What shall become of a topic; what is not named stays as it is.
#[derive(Debug, Clone)]
pub struct TopicChange {
    request: AlterTopicRequest,
}

impl TopicChange {
    /// No change yet, of the topic of this name.
    pub fn of(name: impl Into<String>) -> Self {
        Self { request: AlterTopicRequest { name: name.into(), ..AlterTopicRequest::default() } }
    }

    /// How many partitions it shall have in all. A key may belong to another partition then.
    #[must_use]
    pub fn partitions(mut self, count: u32) -> Self {
        self.request.partitions = Some(count);
        self
    }

    /// Bytes to keep per partition; `None` for the brokers' default.
    #[must_use]
    pub fn retention_bytes(mut self, bytes: Option<u64>) -> Self {
        self.request.retention_bytes = Some(bytes);
        self
    }

    /// Milliseconds to keep a record for; `None` for the brokers' default.
    #[must_use]
    pub fn retention_ms(mut self, milliseconds: Option<u64>) -> Self {
        self.request.retention_ms = Some(milliseconds);
        self
    }

    /// Longest batch in bytes; `None` for the brokers' limit.
    #[must_use]
    pub fn max_batch_bytes(mut self, bytes: Option<u32>) -> Self {
        self.request.max_batch_bytes = Some(bytes);
        self
    }

    /// Whether the brokers' walk over each record is skipped.
    #[must_use]
    pub fn trust_producers(mut self, trust: bool) -> Self {
        self.request.trust_producers = Some(trust);
        self
    }

    /// Whether nothing is to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let AlterTopicRequest {
            partitions,
            retention_bytes,
            retention_ms,
            max_batch_bytes,
            trust_producers,
            ..
        } = &self.request;
        partitions.is_none()
            && retention_bytes.is_none()
            && retention_ms.is_none()
            && max_batch_bytes.is_none()
            && trust_producers.is_none()
    }
}

impl Client {
    /// Creates a topic and waits until its partitions have leaders. If an attempt's answer was lost, a topic that
    /// then exists with these very settings counts as created by it.
    ///
    /// # Errors
    /// [`TopicError::Exists`] if there was one of this name already.
    pub async fn create_topic(&self, topic: NewTopic) -> Result<TopicMetadata, TopicError> {
        let request = CreateTopicRequest {
            name: topic.name,
            partitions: topic.partitions,
            replication: topic.replication,
            config: topic.config,
            timeout_ms: self.timeout_ms(),
        };
        let (result, outcome_open) = self.change_topics(&request).await;
        let topic = match result {
            Ok(response) => response.topic,
            Err(error) if outcome_open && error.code() == Some(ErrorCode::TopicExists) => {
                let found = self.describe_at(Target::Controller, &request.name).await?.topic;
                is_what_was_asked(&found, &request).then_some(found).ok_or(error)?
            }
            Err(error) => return Err(error.into()),
        };
        self.core.learn_topic(&topic);
        Ok(topic)
    }

    /// Changes a topic, all of it or nothing, and waits until its new partitions have leaders. To ask twice does no
    /// harm.
    ///
    /// # Errors
    /// [`TopicError::Unknown`] if there is no such topic.
    pub async fn alter_topic(&self, change: TopicChange) -> Result<TopicMetadata, TopicError> {
        let request = AlterTopicRequest { timeout_ms: self.timeout_ms(), ..change.request };
        let topic = self.change_topics(&request).await.0?.topic;
        self.core.learn_topic(&topic);
        Ok(topic)
    }

    /// Deletes a topic and its records. If an attempt's answer was lost, a topic that is then missing counts as
    /// deleted by it.
    ///
    /// # Errors
    /// [`TopicError::Unknown`] if there is no such topic.
    pub async fn delete_topic(&self, name: &str) -> Result<(), TopicError> {
        let request = DeleteTopicRequest { name: name.to_owned() };
        match self.change_topics(&request).await {
            (Ok(_), _) => {}
            (Err(error), true) if error.code() == Some(ErrorCode::UnknownTopic) => {}
            (Err(error), _) => return Err(error.into()),
        }
        self.core.routing().remove_topic(name);
        Ok(())
    }

    /// Asks for a change. Also says whether an attempt may have made it before the last one was judged.
    async fn change_topics<R: Request>(&self, request: &R) -> (Result<R::Response, RequestError>, bool) {
        let mut retry = self.core.retry(Repeat::Harmless);
        let limit = self.core.options.request_timeout;
        let result = self.core.attempts(&mut retry, Target::Controller, request, limit).await;
        // The last failure is the refusal that is to be judged: it leaves nothing open.
        (result.map(|(response, _)| response), retry.outcome_open())
    }

    /// The names of all topics, in order.
    ///
    /// # Errors
    /// [`TopicError::Request`] if no broker answers.
    pub async fn list_topics(&self) -> Result<Vec<TopicSummary>, TopicError> {
        Ok(self.core.call(Target::Any, &ListTopicsRequest {}, Repeat::Harmless).await?.topics)
    }

    /// A topic, and what the answering broker holds of its partitions.
    ///
    /// # Errors
    /// [`TopicError::Unknown`] if there is no such topic.
    pub async fn describe_topic(&self, name: &str) -> Result<DescribeTopicResponse, TopicError> {
        let response = self.describe_at(Target::Any, name).await?;
        self.core.learn_topic(&response.topic);
        Ok(response)
    }

    async fn describe_at(
        &self,
        target: Target<'_>,
        name: &str,
    ) -> Result<DescribeTopicResponse, RequestError> {
        let request = DescribeTopicRequest { name: name.to_owned() };
        self.core.call(target, &request, Repeat::Harmless).await
    }

    /// Finds a topic or, if the cluster allows it, creates it; returns its number of partitions.
    ///
    /// # Errors
    /// [`TopicError::Unknown`] if it is missing and the cluster creates none unasked.
    pub async fn ensure_topic(&self, name: &str) -> Result<u32, TopicError> {
        Ok(self.core.partition_count(name, true).await?)
    }

    /// The brokers and topics; `None` for all topics.
    ///
    /// # Errors
    /// [`RequestError`] if no broker answers.
    pub async fn metadata(&self, topics: Option<Vec<String>>) -> Result<MetadataResponse, RequestError> {
        self.core.metadata(topics).await
    }

    /// Asks one broker whether it is there.
    ///
    /// # Errors
    /// [`RequestError`] if it does not answer.
    pub async fn node_answers(&self, node: u64) -> Result<(), RequestError> {
        let request = MetadataRequest { topics: Some(Vec::new()), create_missing: false };
        self.core.call(Target::Node(node), &request, Repeat::Harmless).await.map(|_| ())
    }

    /// The ends of a partition's log. If `linearizable`, its leader confirms with a majority that nothing
    /// committed before this call is missed.
    ///
    /// # Errors
    /// [`PartitionError::Unknown`] if there is no such partition.
    pub async fn tail(
        &self,
        topic: &str,
        partition: u32,
        linearizable: bool,
    ) -> Result<TailResponse, PartitionError> {
        let request = TailRequest { topic: topic.to_owned(), partition, linearizable };
        Ok(self.core.call(Target::Leader(topic, partition), &request, Repeat::Harmless).await?)
    }

    /// The ends of a partition's log as this broker knows them, leader or not.
    ///
    /// # Errors
    /// [`PartitionError::Unknown`] if the broker holds no such partition.
    pub async fn tail_of_node(
        &self,
        node: u64,
        topic: &str,
        partition: u32,
    ) -> Result<TailResponse, PartitionError> {
        let request = TailRequest { topic: topic.to_owned(), partition, linearizable: false };
        Ok(self.core.call(Target::Node(node), &request, Repeat::Harmless).await?)
    }

    /// The first committed record whose timestamp is at or after `timestamp_ms` (since 1970 UTC).
    ///
    /// # Errors
    /// [`PartitionError::Unknown`] if there is no such partition.
    pub async fn lsn_for_time(
        &self,
        topic: &str,
        partition: u32,
        timestamp_ms: i64,
    ) -> Result<LsnForTimeResponse, PartitionError> {
        let request = LsnForTimeRequest { topic: topic.to_owned(), partition, timestamp_ms };
        Ok(self.core.call(Target::Leader(topic, partition), &request, Repeat::Harmless).await?)
    }

    /// Gives up the records below `log_start`; returns the log start that resulted.
    ///
    /// # Errors
    /// [`PartitionError::OutOfRange`] if `log_start` is beyond what is committed.
    pub async fn trim(&self, topic: &str, partition: u32, log_start: u64) -> Result<u64, PartitionError> {
        let request = TrimRequest { topic: topic.to_owned(), partition, log_start };
        Ok(self.core.call(Target::Leader(topic, partition), &request, Repeat::Harmless).await?.log_start)
    }

    /// Shuts out writers that state an epoch below this one; returns the epoch in force.
    ///
    /// # Errors
    /// [`PartitionError::Fenced`] if a greater epoch is in force already.
    pub async fn fence(&self, topic: &str, partition: u32, epoch: u64) -> Result<u64, PartitionError> {
        let request = FenceRequest { topic: topic.to_owned(), partition, epoch };
        Ok(self.core.call(Target::Leader(topic, partition), &request, Repeat::Harmless).await?.epoch)
    }

    /// One fetch of raw record batches from any replica, without waiting; the first batch contains `from_lsn`
    /// and may begin before it. Consumers are the comfortable way to read.
    ///
    /// # Errors
    /// [`PartitionError::OutOfRange`] if `from_lsn` is trimmed or beyond the next LSN.
    pub async fn fetch(
        &self,
        topic: &str,
        partition: u32,
        from_lsn: u64,
        max_bytes: u32,
    ) -> Result<bytes::Bytes, PartitionError> {
        let item = FetchItem { topic: topic.to_owned(), partition, from_lsn, max_bytes };
        let request = FetchRequest { max_wait_ms: 0, min_bytes: 0, max_bytes, items: vec![item] };
        let limit = self.core.options.request_timeout;
        let target = Target::Replica(topic, partition, None);
        let mut retry = self.core.retry(Repeat::Harmless);
        loop {
            let (response, payload) = self.core.attempts(&mut retry, target, &request, limit).await?;
            let Err(failure) = crate::client::only(response.items) else { return Ok(payload) };
            self.core.after_failure(&mut retry, target, None, failure).await?;
            // The partition may have moved; if nobody can say so now, that shows in the next attempt.
            let attempt = usize::try_from(retry.failures()).unwrap_or(usize::MAX);
            let _ = self.core.refresh(Some(topic), attempt).await;
        }
    }

    /// The request timeout as requests state it.
    pub(crate) fn timeout_ms(&self) -> u32 {
        u32::try_from(self.core.options.request_timeout.as_millis()).unwrap_or(u32::MAX)
    }
}

/// Whether a topic is as a request to create it would have made it.
fn is_what_was_asked(topic: &TopicMetadata, request: &CreateTopicRequest) -> bool {
    let replicas_fit = |partition: &PartitionMetadata| {
        request.replication == 0 || partition.replicas.len() == request.replication as usize
    };
    topic.config == request.config
        && topic.partitions.len() == request.partitions as usize
        && topic.partitions.iter().all(replicas_fit)
}
