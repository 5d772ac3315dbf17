//! From a topic's name and a partition's number to the local replica.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Broker, LocateError, NEWS_WAIT};
use crate::cluster::{Placement, Topic};
use crate::engine::{METADATA_SHARD, PartitionHandle};

/// How long a replica that is being opened is waited for.
const OPENING_WAIT: Duration = Duration::from_secs(1);

/// Nothing can be said of a topic that is missing from a state that may be old.
const METADATA_OPENING: LocateError = LocateError::Opening { shard: METADATA_SHARD };

/// A partition that this broker holds.
#[derive(Clone)]
pub(super) struct Located {
    pub(super) topic: Arc<Topic>,
    pub(super) handle: PartitionHandle,
}

impl Broker {
    /// The local replica of a partition, if there is one now.
    pub(super) fn locate_now(&self, topic: &str, partition: u32) -> Result<Located, LocateError> {
        let missing = self.missing(topic);
        let state = self.cluster().state();
        let topic = state.topic(topic).ok_or(missing)?;
        let placement = self.placement(topic, partition)?;
        if let Some(handle) = self.cluster().replica(placement.shard) {
            return Ok(Located { topic: Arc::clone(topic), handle });
        }
        if !placement.replicas.contains(&self.cluster().node()) {
            let node = placement.replicas.first().copied().unwrap_or_default();
            return Err(LocateError::NotReplica { node });
        }
        match self.cluster().fault(placement.shard) {
            Some(why) => Err(LocateError::Faulty(why)),
            None => Err(LocateError::Opening { shard: placement.shard }),
        }
    }

    /// The local replica of a partition; waits a little for a topic that may be just on its way here.
    pub(super) async fn locate(&self, topic: &str, partition: u32) -> Result<Located, LocateError> {
        self.locate_by(topic, partition, Instant::now() + OPENING_WAIT).await
    }

    /// [`Broker::locate`], but waiting no longer than until `deadline`.
    pub(super) async fn locate_by(
        &self,
        topic: &str,
        partition: u32,
        deadline: Instant,
    ) -> Result<Located, LocateError> {
        let wait = match self.locate_now(topic, partition) {
            Err(LocateError::UnknownTopic(_)) => NEWS_WAIT,
            Err(LocateError::Opening { .. }) => OPENING_WAIT,
            settled => return settled,
        };
        let settled = self.cluster().wait_for_replicas(|| match self.locate_now(topic, partition) {
            Err(LocateError::UnknownTopic(_) | LocateError::Opening { .. }) => None,
            settled => Some(settled),
        });
        match timeout_at(deadline.min(Instant::now() + wait), settled).await {
            Ok(Some(settled)) => settled,
            Ok(None) | Err(_) => self.locate_now(topic, partition),
        }
    }

    /// Why a topic is missing from a state that is taken after this call: what a current one lacks does not exist.
    pub(super) fn missing(&self, topic: &str) -> LocateError {
        match self.cluster().is_current() {
            true => LocateError::UnknownTopic(topic.to_owned()),
            false => METADATA_OPENING,
        }
    }

    pub(super) fn placement<'a>(
        &self,
        topic: &'a Topic,
        partition: u32,
    ) -> Result<&'a Placement, LocateError> {
        topic.partitions.get(partition as usize).ok_or_else(|| LocateError::UnknownPartition {
            topic: topic.name.clone(),
            partition,
            partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
        })
    }
}
