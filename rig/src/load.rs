//! Many writers and readers against a cluster that is being ill-treated, and the record of what they were told.
//!
//! What holds:
//! - Every batch that was handed to a client is in the history, with when it was and how it ended. An end that leaves
//!   open whether the batch was stored counts as unknown, never as a failure.
//! - A writer goes on under a new name after an end it cannot know: under one name, order is certain.
//! - Nothing here decides whether the brokers did well: that is the checker's part.

mod fill;
mod reader;
mod recorder;
mod steady;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use lockstep_client::{Client, ClientOptions, ConnectError, NewTopic};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::error::RigError;
use crate::random::Random;
use crate::rig::Rig;
pub use recorder::{Recorder, ids};
pub use steady::Timing;

/// The topic of every load.
pub const TOPIC: &str = "rig";
/// Producers that share an open loop's sends.
const STEADY_WRITERS: u32 = 4;
/// How long the last outcomes may take once the cluster is well again.
const FAREWELL: Duration = Duration::from_secs(90);

/// What a load is made of.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Partitions of the topic.
    pub partitions: u32,
    /// Replicas of each: on as many nodes, all there are.
    pub replication: u32,
    /// Writers for each partition.
    pub writers: u32,
    /// The longest value, in bytes.
    pub value_bytes_max: u64,
    /// How long a writer rests between batches, at most.
    pub rest_max: Duration,
    /// Sends a second and partition, in an open loop; 0: writers wait for their answers, and rest.
    pub rate: u32,
    /// Log that each partition has before the load begins, in MiB.
    pub log_mib: u64,
}

impl Plan {
    /// One partition, and an open loop of `rate` sends a second.
    #[must_use]
    pub fn steady(rate: u32) -> Self {
        Self { partitions: 1, writers: STEADY_WRITERS, rate, ..Self::default() }
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            partitions: 3,
            replication: 3,
            writers: 8,
            value_bytes_max: 16 << 10,
            rest_max: Duration::from_millis(8),
            rate: 0,
            log_mib: 0,
        }
    }
}

/// What all tasks of a load share.
struct Shared {
    plan: Plan,
    bootstrap: String,
    recorder: Arc<Recorder>,
    stopping: AtomicBool,
    next_writer: AtomicU64,
    failures: steady::Failures,
    /// The last LSN that an open loop's acknowledgement named, and the last that its consumer got.
    last_lsn: AtomicU64,
    consumed: AtomicU64,
}

impl Shared {
    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// A name no writer had before.
    fn new_writer(&self) -> u64 {
        self.next_writer.fetch_add(1, Ordering::Relaxed)
    }

    /// A connection of its own; `None` if the load stops first.
    async fn client(&self) -> Option<Client> {
        while !self.is_stopping() {
            // Of an open loop what is measured is what users see.
            let options = if self.plan.rate > 0 { ClientOptions::new() } else { options() };
            if let Ok(client) = Client::connect_with(self.bootstrap.as_str(), options).await {
                return Some(client);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        None
    }
}

/// A load that runs.
pub struct Load {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
    handle: Handle,
}

impl Load {
    /// Creates the topic, writes the log that it is to begin with, and starts writing and reading.
    ///
    /// # Errors
    /// The cluster refuses the topic, or a batch.
    pub fn start(rig: &mut Rig, bootstrap: &str, plan: Plan) -> Result<Self, RigError> {
        let handle = rig.runtime.handle().clone();
        handle.block_on(create_topic(bootstrap, plan))?;
        let shared = Arc::new(Shared {
            plan,
            bootstrap: bootstrap.to_owned(),
            recorder: Arc::new(Recorder::new(plan.partitions)),
            stopping: AtomicBool::new(false),
            next_writer: AtomicU64::new(1),
            failures: steady::Failures::default(),
            last_lsn: AtomicU64::new(0),
            consumed: AtomicU64::new(0),
        });
        handle.block_on(fill::fill(&shared))?;
        let mut tasks = Vec::new();
        let mut random = rig.random.split();
        for partition in 0..plan.partitions {
            if plan.rate > 0 {
                let period = Duration::from_secs(plan.writers.into()) / plan.rate;
                for number in 0..plan.writers {
                    let offset = period * number / plan.writers;
                    tasks.push(handle.spawn(steady::send(Arc::clone(&shared), partition, period, offset)));
                }
                tasks.push(handle.spawn(steady::consume(Arc::clone(&shared), partition)));
                tasks.push(handle.spawn(steady::ask_for_tails(Arc::clone(&shared), partition)));
                continue;
            }
            for number in 0..plan.writers {
                let writer = writer::Writer::new(Arc::clone(&shared), partition, number, random.split());
                tasks.push(handle.spawn(writer.run()));
            }
            tasks.push(handle.spawn(reader::follow(Arc::clone(&shared), partition, random.split())));
            tasks.push(handle.spawn(reader::ask_for_tails(Arc::clone(&shared), partition)));
        }
        Ok(Self { shared, tasks, handle })
    }

    /// Writes down that processes ended: to be called when they have, before new ones start.
    pub fn restarted(&self, nodes: impl IntoIterator<Item = u64> + Clone) {
        self.shared.recorder.restarted(nodes);
    }

    /// Acknowledged batches so far.
    #[must_use]
    pub fn acknowledged(&self) -> u64 {
        self.shared.recorder.acknowledged()
    }

    /// Microseconds since the load began, as its timings have them.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.shared.recorder.now()
    }

    /// Operations of an open loop that ended in an error so far.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.shared.failures.count()
    }

    /// The greatest LSN that an open loop's acknowledgements have named so far.
    #[must_use]
    pub fn last_lsn(&self) -> u64 {
        self.shared.last_lsn.load(Ordering::Relaxed)
    }

    /// The last LSN that an open loop's consumer has got so far.
    #[must_use]
    pub fn consumed(&self) -> u64 {
        self.shared.consumed.load(Ordering::Relaxed)
    }

    /// Acknowledged sends of an open loop so far, in the order in which they were acknowledged.
    #[must_use]
    pub fn timings(&self) -> Vec<Timing> {
        self.shared.recorder.timings()
    }

    /// Ends the load: what is under way is waited for.
    ///
    /// # Errors
    /// Writers are still waiting for an answer long after the cluster is well.
    pub fn finish(self) -> Result<Arc<Recorder>, RigError> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let Self { shared, tasks, handle } = self;
        let all = async {
            for task in tasks {
                let _ = task.await;
            }
        };
        let late = |_| RigError::Refused {
            what: "an answer",
            said: format!("writers still wait after {FAREWELL:?}"),
        };
        handle.block_on(async { tokio::time::timeout(FAREWELL, all).await }).map_err(late)?;
        Ok(Arc::clone(&shared.recorder))
    }
}

/// A connection whose patience outlasts any cut.
///
/// # Errors
/// No broker answers.
pub async fn connect(bootstrap: &str) -> Result<Client, ConnectError> {
    Client::connect_with(bootstrap, options()).await
}

/// A connection that gives up after a moment.
///
/// # Errors
/// No broker answers.
pub async fn connect_briefly(bootstrap: &str) -> Result<Client, ConnectError> {
    Client::connect_with(bootstrap, options().retry_budget(Duration::from_secs(1))).await
}

fn options() -> ClientOptions {
    ClientOptions::new()
        .client_name("lockstep-rig")
        .connect_timeout(Duration::from_millis(500))
        .request_timeout(Duration::from_secs(3))
        .retry_delays(Duration::from_millis(5), Duration::from_millis(100))
}

async fn create_topic(bootstrap: &str, plan: Plan) -> Result<(), RigError> {
    let refused = |said: String| RigError::Refused { what: "the topic", said };
    let client = connect(bootstrap).await.map_err(|error| refused(error.to_string()))?;
    let topic = NewTopic::new(TOPIC).partitions(plan.partitions).replication(plan.replication);
    client.create_topic(topic).await.map_err(|error| refused(error.to_string()))?;
    Ok(())
}

/// A rest up to `limit`.
async fn rest(random: &mut Random, limit: Duration) {
    if !limit.is_zero() {
        tokio::time::sleep(random.time(limit)).await;
    }
}
