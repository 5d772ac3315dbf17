//! Changing the metadata: decided on a state that is known to be current, written only if it still is.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{
    Cluster, Command, MetadataError, MetadataState, NewTopic, Refusal, Topic, TopicChange, fold, placement,
};
use crate::engine::AppendError;

/// How long a change may take if nothing else is said.
pub(super) const CHANGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Producer ids set aside at once; a few are lost when a broker stops.
const PRODUCER_BLOCK: u32 = 1000;

impl Cluster {
    /// Creates a topic, and waits until this broker's replicas of it know a leader, or the time is up: the
    /// topic exists then all the same.
    ///
    /// # Errors
    /// This broker does not lead the metadata, or the topic is not allowed.
    pub async fn create_topic(&self, topic: &NewTopic, wait: Duration) -> Result<Arc<Topic>, MetadataError> {
        let rules = &self.inner.rules;
        let deadline = Instant::now() + wait.max(Duration::from_secs(1));
        let (_, state) = self
            .change(Instant::now() + CHANGE_TIMEOUT, |state| {
                placement::create_topic(topic, rules, state).map(|command| vec![command])
            })
            .await?;
        self.topic_with_leaders(&topic.name, &state, deadline).await
    }

    /// Changes a topic, all of it or nothing, and waits until this broker's replicas of it know a leader, or the time
    /// is up.
    ///
    /// # Errors
    /// This broker does not lead the metadata, there is no such topic, or the change is not allowed.
    pub async fn alter_topic(
        &self,
        name: &str,
        change: &TopicChange,
        wait: Duration,
    ) -> Result<Arc<Topic>, MetadataError> {
        let rules = &self.inner.rules;
        let deadline = Instant::now() + wait.max(Duration::from_secs(1));
        let (_, state) = self
            .change(Instant::now() + CHANGE_TIMEOUT, |state| {
                placement::alter_topic(name, change, rules, state)
            })
            .await?;
        self.topic_with_leaders(name, &state, deadline).await
    }

    /// Deletes a topic and its records.
    ///
    /// # Errors
    /// This broker does not lead the metadata, or there is no such topic.
    pub async fn delete_topic(&self, name: &str) -> Result<(), MetadataError> {
        self.change(Instant::now() + CHANGE_TIMEOUT, |state| match state.topic(name) {
            Some(topic) => Ok(vec![Command::DeleteTopic { id: topic.id }]),
            None => Err(Refusal::UnknownTopic(name.to_owned())),
        })
        .await
        .map(|_| ())
    }

    /// A producer id that was never given out before.
    ///
    /// # Errors
    /// None are left here, and this broker does not lead the metadata to reserve more.
    pub async fn new_producer_id(&self) -> Result<i64, MetadataError> {
        let mut block = self.inner.producer_ids.lock().await;
        if block.is_empty() {
            let reserve = Command::ReserveProducers { count: PRODUCER_BLOCK };
            let (before, state) =
                self.change(Instant::now() + CHANGE_TIMEOUT, |_| Ok(vec![reserve.clone()])).await?;
            *block = before.next_producer()
                ..state.next_producer().min(before.next_producer() + i64::from(PRODUCER_BLOCK));
        }
        block.next().ok_or(MetadataError::TimedOut)
    }

    /// Writes the commands that `decide` makes of the current state, as one batch: all of them or none. Returns the state
    /// they were decided on and one that includes them. If others wrote meanwhile, it is decided anew.
    pub(super) async fn change(
        &self,
        deadline: Instant,
        decide: impl Fn(&MetadataState) -> Result<Vec<Command>, Refusal>,
    ) -> Result<(Arc<MetadataState>, Arc<MetadataState>), MetadataError> {
        let attempt = async {
            let _turn = self.inner.writing.lock().await;
            loop {
                let tail = self.inner.metadata.tail().await?;
                let before = self.await_applied(tail).await?;
                let commands = decide(&before)?;
                if commands.is_empty() {
                    return Ok((Arc::clone(&before), before));
                }
                let timestamp_ms = self.inner.metadata.view().leader_time_ms.max(0);
                let append = fold::to_append(&commands, &before, timestamp_ms)
                    .map_err(|error| MetadataError::Log(AppendError::Failed(error.to_string())))?;
                match self.inner.metadata.append(append).await {
                    Ok(appended) => return Ok((before, self.await_applied(appended.last_lsn).await?)),
                    Err(AppendError::ConditionFailed { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        };
        timeout_at(deadline, attempt).await.unwrap_or(Err(MetadataError::TimedOut))
    }

    /// The state once it includes this LSN.
    pub(super) async fn await_applied(&self, lsn: u64) -> Result<Arc<MetadataState>, MetadataError> {
        let mut followed = self.inner.followed.clone();
        let reached = followed
            .wait_for(|followed| followed.stuck.is_some() || followed.state.applied_lsn() >= lsn)
            .await
            .map_err(|_| MetadataError::Log(AppendError::Stopped))?;
        match &reached.stuck {
            Some(why) => Err(MetadataError::Stuck(why.clone())),
            None => Ok(Arc::clone(&reached.state)),
        }
    }

    /// A topic of the state, once this broker's replicas of it know a leader, or the time is up.
    async fn topic_with_leaders(
        &self,
        name: &str,
        state: &MetadataState,
        deadline: Instant,
    ) -> Result<Arc<Topic>, MetadataError> {
        let topic = state.topic(name).cloned().ok_or_else(|| Refusal::UnknownTopic(name.to_owned()))?;
        let _ = timeout_at(deadline, self.await_leaders(&topic, state.applied_lsn())).await;
        Ok(topic)
    }

    /// Waits until this broker's replicas of the topic are open and know a leader.
    async fn await_leaders(&self, topic: &Topic, lsn: u64) {
        let mut followed = self.inner.followed.clone();
        if followed.wait_for(|followed| followed.reconciled_lsn >= lsn).await.is_err() {
            return;
        }
        for placement in &topic.partitions {
            if let Some(handle) = self.inner.engine.shard(placement.shard) {
                let _ = handle.watch().wait_for(|view| view.leader.is_some()).await;
            }
        }
    }
}
