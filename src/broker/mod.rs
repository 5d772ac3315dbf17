//! The use cases of a broker: what can be asked of it, whatever the protocol.
//!
//! What holds:
//! - No wire types and no error codes: the listeners translate.
//! - Every batch is validated before it goes anywhere, and what is answered as appended is synced on a majority.
//! - Nothing above the high watermark is served; a follower serves the same bytes as the leader.
//! - What is held in memory for clients counts against a [`ByteBudget`].

mod budget;
mod control;
mod error;
mod fetch;
mod locate;
mod positions;
mod produce;
mod subscribe;
mod topics;
mod wake;

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{Cluster, TopicSettings};
use crate::config::{Config, Limits};
pub use budget::{ByteBudget, ByteLease};
pub use control::{FoundRecord, Tail};
pub use error::{ControlError, FetchError, LocateError, ProduceError, TopicError};
pub use fetch::{Fetch, FetchAnswer, FetchFrom, Fetched};
pub use positions::{GroupCommit, GroupPosition};
pub use produce::{BegunAppend, ProduceBatch};
pub use subscribe::Subscription;
pub use topics::{LeaderView, PartitionStatus, TopicView};

/// How long an unknown topic is waited for: news of one that was just created travels with the next
/// heartbeat, and a client may be faster.
const NEWS_WAIT: Duration = Duration::from_millis(300);

/// A broker's use cases. Cheap to clone.
#[derive(Clone)]
pub struct Broker {
    inner: Arc<Inner>,
}

struct Inner {
    cluster: Cluster,
    limits: Limits,
    create_missing: bool,
    inflight: ByteBudget,
    unfinished: ByteBudget,
    reads: ByteBudget,
}

impl Broker {
    /// A broker on a cluster that is being followed.
    pub fn new(config: &Config, cluster: Cluster) -> Broker {
        let inflight = ByteBudget::new(config.limits.inflight_bytes);
        let inner = Inner {
            cluster,
            limits: config.limits.clone(),
            create_missing: config.topics.create_missing,
            unfinished: inflight.part(config.limits.inflight_bytes / 2),
            inflight,
            reads: ByteBudget::new(config.limits.read_bytes),
        };
        Broker { inner: Arc::new(inner) }
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.inner.cluster
    }

    /// What clients may ask for.
    pub fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    /// The node's budget for batches that were taken in and are not answered yet.
    pub fn inflight(&self) -> &ByteBudget {
        &self.inner.inflight
    }

    /// The part of [`Broker::inflight`] for requests that have not arrived whole.
    pub fn unfinished(&self) -> &ByteBudget {
        &self.inner.unfinished
    }

    /// The node's budget for records that were read for clients and are not written to them yet.
    pub fn reads(&self) -> &ByteBudget {
        &self.inner.reads
    }

    /// Bytes of the largest batch that a topic with these settings takes.
    fn batch_bytes_max(&self, settings: &TopicSettings) -> usize {
        settings.max_batch_bytes.unwrap_or(u32::MAX).min(self.limits().max_batch_bytes) as usize
    }

    /// Whether a client's metadata request may create the topics it misses.
    pub fn creates_missing(&self) -> bool {
        self.inner.create_missing
    }

    /// Whether this broker serves its part of the cluster.
    ///
    /// # Errors
    /// What is still missing, for people.
    pub fn readiness(&self) -> Result<(), String> {
        self.cluster().readiness()
    }
}
