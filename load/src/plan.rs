//! What a load is made of.

use std::time::Duration;

use lockstep_client::ClientOptions;

/// Bytes at the front of a value that tell whose it is and when it was due.
pub const STAMP_BYTES: usize = 16;

/// The longest value of a record.
pub const RECORD_BYTES_MAX: usize = 64 << 20;
/// Most connections, partitions, subscribers or readers.
const COUNT_MAX: u32 = 100_000;
/// Most bytes of one send's values.
const SEND_BYTES_MAX: u64 = 1 << 30;
/// The longest run.
const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// What is done to the brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// Writers alone.
    Produce,
    /// Readers alone, of what was written before, again and again.
    Consume,
    /// Writers and one subscriber; the latency that counts is from the send to the delivery.
    EndToEnd,
    /// Writers and many subscribers, each of which gets everything.
    FanOut,
    /// Readers that begin at the first of many records while writers go on; it ends when they have caught up.
    CatchUp,
    /// Writers, subscribers, and readers that read it all again and again.
    Mixed,
}

impl Load {
    /// Its name, as the command line has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Consume => "consume",
            Self::EndToEnd => "end-to-end",
            Self::FanOut => "fan-out",
            Self::CatchUp => "catch-up",
            Self::Mixed => "mixed",
        }
    }

    pub(crate) fn writes(self) -> bool {
        self != Self::Consume
    }

    pub(crate) fn subscribes(self) -> bool {
        matches!(self, Self::EndToEnd | Self::FanOut | Self::Mixed)
    }

    pub(crate) fn reads(self) -> bool {
        matches!(self, Self::Consume | Self::CatchUp | Self::Mixed)
    }
}

/// Which brokers, and how a client treats them.
#[derive(Debug, Clone)]
pub struct Target {
    /// Addresses, separated by commas.
    pub brokers: String,
    /// How each client behaves.
    pub options: ClientOptions,
}

impl Target {
    /// Brokers at these addresses, and clients as they are by default.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self { brokers: brokers.into(), options: ClientOptions::new().client_name("lockstep-load") }
    }
}

/// How records are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Batching {
    /// Records are handed over one by one; the client groups what is waiting.
    Client {
        /// Bytes at which the client closes a batch.
        batch_bytes: usize,
        /// How long a batch waits for more.
        linger: Duration,
    },
    /// Each send is a batch of this many records, stored whole or not at all.
    Records(u32),
}

/// A load, in numbers.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What is done.
    pub load: Load,
    /// The topic; `None` for one that is made for the run and removed after it.
    pub topic: Option<String>,
    /// Partitions of a topic that is made.
    pub partitions: u32,
    /// Replicas of a topic that is made; 0 for the cluster's default.
    pub replication: u32,
    /// Whether a topic made for the run stays.
    pub keep_topic: bool,
    /// Connections that write; each is a client of its own.
    pub connections: u32,
    /// Bytes of each record's value.
    pub record_bytes: usize,
    /// How records are put together.
    pub batching: Batching,
    /// Records a second, of all connections together; `None` for as many as are taken.
    pub rate: Option<f64>,
    /// Sends without an answer, per connection and partition, in a closed loop; also the client's bound on batches in
    /// flight in either loop, where [`Batching::Records`] makes each send a batch.
    pub in_flight: u32,
    /// Subscribers, each to all partitions.
    pub subscribers: u32,
    /// Connections that the subscribers share; 0 for one each.
    pub subscriber_connections: u32,
    /// Readers from the first record on, each of all partitions.
    pub readers: u32,
    /// Bytes of values written before anything is measured.
    pub fill_bytes: u64,
    /// Time that is not measured, at the beginning.
    pub warm_up: Duration,
    /// Time that is measured.
    pub duration: Duration,
}

impl Plan {
    /// The plan each load has if nothing else is said.
    #[must_use]
    pub fn new(load: Load) -> Self {
        let reads = load.reads();
        Self {
            load,
            topic: None,
            partitions: 1,
            replication: 0,
            keep_topic: false,
            connections: 1,
            record_bytes: 1024,
            batching: Batching::Client { batch_bytes: 1 << 20, linger: Duration::ZERO },
            rate: (load == Load::CatchUp || load == Load::Mixed).then_some(1_000.0),
            in_flight: 32_768,
            subscribers: match load {
                Load::FanOut => 100,
                _ => u32::from(load.subscribes()),
            },
            subscriber_connections: 0,
            readers: u32::from(reads),
            fill_bytes: if reads { 256 << 20 } else { 0 },
            warm_up: if load == Load::CatchUp { Duration::ZERO } else { Duration::from_secs(2) },
            duration: Duration::from_secs(10),
        }
    }

    /// Streams of sends: one for each connection and partition that go together.
    #[must_use]
    pub fn lanes(&self) -> u32 {
        self.connections.max(self.partitions)
    }

    /// Records in each send.
    #[must_use]
    pub fn records_per_send(&self) -> u32 {
        match self.batching {
            Batching::Client { .. } => 1,
            Batching::Records(count) => count,
        }
    }

    /// Whether values carry when they were due.
    pub(crate) fn is_stamped(&self) -> bool {
        self.load.subscribes()
    }

    /// Whether this can be run.
    ///
    /// # Errors
    /// [`PlanError`] names what cannot, and what to change.
    pub fn check(&self) -> Result<(), PlanError> {
        let counts = [
            ("partitions", self.partitions),
            ("connections", self.connections),
            ("in-flight", self.in_flight),
            ("records in a batch", self.records_per_send()),
        ];
        if let Some((what, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(PlanError::Zero { what });
        }
        if self.load.subscribes() && self.subscribers == 0 {
            return Err(PlanError::Zero { what: "subscribers" });
        }
        if self.load.reads() && self.readers == 0 {
            return Err(PlanError::Zero { what: "readers" });
        }
        if self.duration.is_zero() {
            return Err(PlanError::Zero { what: "seconds" });
        }
        if self.is_stamped() && self.record_bytes < STAMP_BYTES {
            return Err(PlanError::NoRoomForStamp { record_bytes: self.record_bytes });
        }
        if self.record_bytes == 0 {
            return Err(PlanError::Zero { what: "record bytes" });
        }
        if let Some(rate) = self.rate.filter(|rate| !rate.is_finite() || *rate <= 0.0) {
            return Err(PlanError::Rate { rate });
        }
        if self.load == Load::CatchUp && !self.warm_up.is_zero() {
            return Err(PlanError::WarmUp);
        }
        // A topic that somebody names may be full.
        if self.load.reads() && self.topic.is_none() && self.fill_bytes < self.record_bytes as u64 {
            return Err(PlanError::NothingToRead);
        }
        self.check_bounds()
    }

    fn check_bounds(&self) -> Result<(), PlanError> {
        let sent = (self.record_bytes as u64).saturating_mul(self.records_per_send().into());
        let bounds = [
            ("record bytes", self.record_bytes as u64, RECORD_BYTES_MAX as u64),
            ("bytes in a batch", sent, SEND_BYTES_MAX),
            ("partitions", self.partitions.into(), COUNT_MAX.into()),
            ("connections", self.connections.into(), COUNT_MAX.into()),
            ("subscribers", self.subscribers.into(), COUNT_MAX.into()),
            ("readers", self.readers.into(), COUNT_MAX.into()),
            ("seconds", self.duration.max(self.warm_up).as_secs(), TIME_MAX.as_secs()),
        ];
        match bounds.into_iter().find(|(_, asked, most)| asked > most) {
            Some((what, asked, most)) => Err(PlanError::TooMany { what, asked, most }),
            None => Ok(()),
        }
    }
}

/// Why a plan cannot be run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// There has to be at least one of something.
    #[error("0 {what}: give at least 1")]
    Zero {
        /// Of what.
        what: &'static str,
    },
    /// There is too much of something.
    #[error("{asked} {what}: give at most {most}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// What was given.
        asked: u64,
        /// What is possible.
        most: u64,
    },
    /// The rate is no rate.
    #[error("a rate of {rate} records a second: give a number above 0, or none for as many as are taken")]
    Rate {
        /// What was given.
        rate: f64,
    },
    /// Subscribers could not tell when a record was due.
    #[error(
        "records of {record_bytes} bytes: this load writes the time into each, so give at least {STAMP_BYTES}"
    )]
    NoRoomForStamp {
        /// What was given.
        record_bytes: usize,
    },
    /// Catching up happens once.
    #[error("catch-up has no warm-up: it is measured from the first record on; leave the warm-up out")]
    WarmUp,
    /// Readers need something to read.
    #[error("nothing to read: fill the topic with at least one record first")]
    NothingToRead,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_load_runs_as_it_is_by_default() {
        let loads = [Load::Produce, Load::Consume, Load::EndToEnd, Load::FanOut, Load::CatchUp, Load::Mixed];
        for load in loads {
            assert_eq!(Plan::new(load).check(), Ok(()), "{}", load.name());
        }
    }

    #[test]
    fn a_plan_that_cannot_be_run_is_refused_by_name() {
        let plan = || Plan::new(Load::EndToEnd);
        let refused = |plan: Plan| plan.check().unwrap_err().to_string();
        assert!(refused(Plan { partitions: 0, ..plan() }).contains("partitions"));
        assert!(refused(Plan { connections: 0, ..plan() }).contains("connections"));
        assert!(refused(Plan { subscribers: 0, ..plan() }).contains("subscribers"));
        assert!(refused(Plan { duration: Duration::ZERO, ..plan() }).contains("seconds"));
        assert!(refused(Plan { record_bytes: 15, ..plan() }).contains("at least 16"));
        assert!(refused(Plan { rate: Some(0.0), ..plan() }).contains("above 0"));
        assert!(refused(Plan { rate: Some(f64::NAN), ..plan() }).contains("above 0"));
        assert!(refused(Plan { batching: Batching::Records(0), ..plan() }).contains("batch"));
        assert!(
            refused(Plan { warm_up: Duration::from_secs(1), ..Plan::new(Load::CatchUp) }).contains("leave")
        );
        assert!(refused(Plan { fill_bytes: 0, ..Plan::new(Load::Consume) }).contains("nothing to read"));
        assert!(refused(Plan { record_bytes: usize::MAX, ..plan() }).contains("at most 67108864"));
        let large = Batching::Records(u32::MAX);
        assert!(refused(Plan { batching: large, ..plan() }).contains("bytes in a batch: give at most"));
        let long = Duration::from_secs_f64(1e18);
        assert!(refused(Plan { warm_up: long, ..plan() }).contains("seconds: give at most"));
    }
}
