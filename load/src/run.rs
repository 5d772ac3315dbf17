//! A load against brokers, from the topic to the figures.
//!
//! 1. Make the topic, or find it; fill it, if there is to be something to read.
//! 2. Connect everybody; subscribers stand ready before the first record is sent.
//! 3. Run for the warm-up and the measured time; wait for what is in flight.
//! 4. Compare what is committed with what was acknowledged; remove the topic.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lockstep_client::{Client, Start};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::error::LoadError;
use crate::lane::{Lane, Loop};
use crate::outcome::Outcome;
use crate::pace::{Alarm, Clock, Schedule};
use crate::plan::{Load, Plan, Target};
use crate::reader::Reader;
use crate::series::{Figures, Series};
use crate::subscriber::Subscriber;
use crate::topic::Topic;
use crate::writer::{self, Writer};

/// Slots that a run is cut into, about.
const SLOTS: u32 = 120;
/// The shortest slot.
const SLOT_MIN: Duration = Duration::from_millis(100);
/// The longest slot: a live line should move.
const SLOT_MAX: Duration = Duration::from_secs(1);
/// Between the last preparation and the first send.
const RUN_UP: Duration = Duration::from_millis(20);

/// Ends a run early: what was measured until then counts. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Asks the run to end.
    pub fn now(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Where a run is.
#[derive(Debug)]
pub enum Progress<'a> {
    /// The topic is being filled.
    Filling {
        /// Bytes so far.
        bytes: u64,
        /// Bytes in all.
        of: u64,
    },
    /// The load runs, and is not measured yet.
    WarmingUp,
    /// The load runs.
    Measuring {
        /// Time measured.
        elapsed: Duration,
        /// Time to be measured.
        of: Duration,
        /// What was found so far.
        found: &'a Found,
    },
    /// The time is over; what is in flight is waited for.
    Finishing,
}

/// Figures of each kind of operation that a load has.
#[derive(Debug, Default)]
pub struct Found {
    /// Sends, until they were acknowledged.
    pub acknowledged: Option<Figures>,
    /// Records, from when they were due until a subscriber had them.
    pub delivered: Option<Figures>,
    /// Batches read from the beginning on.
    pub read: Option<Figures>,
}

/// Runs a plan. `watch` hears of its progress a few times a second.
///
/// # Errors
/// [`LoadError`]: then there are no figures.
pub async fn run(
    target: &Target,
    plan: &Plan,
    stop: &Stop,
    mut watch: impl FnMut(Progress<'_>),
) -> Result<Outcome, LoadError> {
    plan.check()?;
    let tag = RandomState::new().hash_one(plan.load.name());
    let client = connect(target).await?;
    let topic = Topic::open(client, plan, tag).await?;
    let result = run_on(&topic, target, plan, tag, stop, &mut watch).await;
    let removed = topic.close().await;
    let outcome = result?;
    removed?;
    Ok(outcome)
}

async fn run_on(
    topic: &Topic,
    target: &Target,
    plan: &Plan,
    tag: u64,
    stop: &Stop,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Result<Outcome, LoadError> {
    let mut filled = 0;
    if plan.load.reads() {
        let of = plan.fill_bytes;
        filled = topic.fill(plan, &mut |bytes| watch(Progress::Filling { bytes, of })).await?;
    }
    let run = Running::start(topic, target, plan, tag, filled).await?;
    let (written, caught_up, found) = run.measure(stop, watch).await?;
    topic.check(filled + written).await?;
    Ok(Outcome {
        plan: plan.clone(),
        topic: topic.name.to_string(),
        partitions: topic.partitions,
        found,
        caught_up,
        stopped_early: stop.is_asked(),
    })
}

async fn connect(target: &Target) -> Result<Client, LoadError> {
    Ok(Client::connect_with(target.brokers.as_str(), target.options.clone()).await?)
}

/// A series and the figures it becomes.
struct Gathering {
    series: Arc<Series>,
    figures: Figures,
}

impl Gathering {
    fn new(clock: &Arc<Clock>) -> Self {
        Self { series: Arc::new(Series::new(Arc::clone(clock))), figures: Figures::default() }
    }

    fn drain(&mut self) {
        self.series.drain_into(&mut self.figures);
    }
}

/// A load that runs.
struct Running {
    clock: Arc<Clock>,
    duration: Duration,
    writers: JoinSet<Result<u64, LoadError>>,
    subscribers: JoinSet<Result<(), LoadError>>,
    readers: JoinSet<Result<Option<Duration>, LoadError>>,
    all_acknowledged: watch::Sender<Option<u64>>,
    gatherings: [Gathering; 3],
    load: Load,
}

impl Running {
    async fn start(
        topic: &Topic,
        target: &Target,
        plan: &Plan,
        tag: u64,
        filled: u64,
    ) -> Result<Self, LoadError> {
        let consumers = Self::open_consumers(topic, target, plan).await?;
        let producers = Self::open_producers(target, plan).await?;
        let readers = Self::connect_readers(target, plan).await?;
        let clock = Arc::new(Clock::new(Instant::now() + RUN_UP, plan.warm_up, plan.duration));
        let mut running = Self {
            duration: plan.duration,
            writers: JoinSet::new(),
            subscribers: JoinSet::new(),
            readers: JoinSet::new(),
            all_acknowledged: watch::channel(None).0,
            gatherings: std::array::from_fn(|_| Gathering::new(&clock)),
            clock,
            load: plan.load,
        };
        running.start_subscribers(consumers, plan, tag);
        running.start_readers(readers, topic, plan, filled);
        running.start_writers(&producers, topic, plan, tag)?;
        Ok(running)
    }

    /// Subscribers share as many clients as there are connections.
    async fn open_consumers(
        topic: &Topic,
        target: &Target,
        plan: &Plan,
    ) -> Result<Vec<lockstep_client::Consumer>, LoadError> {
        let mut consumers = Vec::new();
        let mut clients = Vec::new();
        for number in 0..plan.subscribers as usize {
            if clients.len() < plan.connections as usize {
                clients.push(connect(target).await?);
            }
            let client: &Client = &clients[number % clients.len()];
            consumers.push(client.consumer(&*topic.name).from(Start::Latest).open().await?);
        }
        Ok(consumers)
    }

    async fn open_producers(
        target: &Target,
        plan: &Plan,
    ) -> Result<Vec<lockstep_client::Producer>, LoadError> {
        let mut producers = Vec::new();
        if plan.load.writes() {
            for _ in 0..plan.connections {
                producers.push(writer::producer(&connect(target).await?, plan).await?);
            }
        }
        Ok(producers)
    }

    async fn connect_readers(target: &Target, plan: &Plan) -> Result<Vec<Client>, LoadError> {
        let mut clients = Vec::new();
        for _ in 0..plan.readers {
            clients.push(connect(target).await?);
        }
        Ok(clients)
    }

    fn start_subscribers(&mut self, consumers: Vec<lockstep_client::Consumer>, plan: &Plan, tag: u64) {
        for (number, consumer) in consumers.into_iter().enumerate() {
            let subscriber = Subscriber {
                number,
                consumer,
                tag,
                record_bytes: plan.record_bytes as u64,
                clock: Arc::clone(&self.clock),
                series: Arc::clone(&self.gatherings[1].series),
                acknowledged: self.all_acknowledged.subscribe(),
            };
            self.subscribers.spawn(subscriber.run());
        }
    }

    fn start_readers(&mut self, clients: Vec<Client>, topic: &Topic, plan: &Plan, filled: u64) {
        for (number, client) in clients.into_iter().enumerate() {
            let reader = Reader {
                number,
                client,
                topic: Arc::clone(&topic.name),
                partitions: topic.partitions,
                record_bytes: plan.record_bytes as u64,
                filled,
                clock: Arc::clone(&self.clock),
                series: Arc::clone(&self.gatherings[2].series),
            };
            if plan.load == Load::CatchUp {
                self.readers.spawn(reader.catch_up());
            } else {
                self.readers.spawn(async move { reader.again_and_again().await.map(|()| None) });
            }
        }
    }

    fn start_writers(
        &mut self,
        producers: &[lockstep_client::Producer],
        topic: &Topic,
        plan: &Plan,
        tag: u64,
    ) -> Result<(), LoadError> {
        if producers.is_empty() {
            return Ok(());
        }
        let lanes = plan.connections.max(topic.partitions);
        let sends_per_second = plan.rate.map(|rate| rate / f64::from(plan.records_per_send()));
        for number in 0..lanes {
            let producer = producers[number as usize % producers.len()].clone();
            let (name, partition) = (Arc::clone(&topic.name), number % topic.partitions);
            let pace = match sends_per_second {
                Some(rate) => Loop::Open(Schedule::new(rate, number, lanes), Alarm::precise()?),
                None => Loop::Closed(plan.in_flight),
            };
            let lane = Lane {
                number: number as usize,
                append: Writer::new(producer, name, partition, plan, plan.is_stamped().then_some(tag)),
                clock: Arc::clone(&self.clock),
                series: Arc::clone(&self.gatherings[0].series),
            };
            self.writers.spawn(lane.run(pace));
        }
        Ok(())
    }

    /// Runs until everybody is done; returns the records written, when the last reader had caught up, and all figures.
    async fn measure(
        mut self,
        stop: &Stop,
        watch: &mut dyn FnMut(Progress<'_>),
    ) -> Result<(u64, Option<Duration>, Found), LoadError> {
        let slot = (self.duration / SLOTS).clamp(SLOT_MIN, SLOT_MAX);
        let mut slots = tokio::time::interval_at(self.clock.instant(self.clock.measured_from() + slot), slot);
        slots.set_missed_tick_behavior(MissedTickBehavior::Delay);
        watch(Progress::WarmingUp);
        let mut done = std::pin::pin!(Self::all_done(
            &mut self.writers,
            &mut self.subscribers,
            &mut self.readers,
            &self.all_acknowledged,
            (self.load == Load::CatchUp).then_some(&*self.clock),
        ));
        let (written, caught_up) = loop {
            tokio::select! {
                ended = &mut done => break ended?,
                _ = slots.tick() => {
                    if stop.is_asked() {
                        self.clock.stop();
                    }
                    self.gatherings.iter_mut().for_each(Gathering::drain);
                    let measured = self.clock.now().saturating_sub(self.clock.measured_from());
                    if self.clock.now() < self.clock.measured_to() {
                        let found = Self::found(self.load, &self.gatherings);
                        watch(Progress::Measuring { elapsed: measured, of: self.duration, found: &found });
                    } else {
                        watch(Progress::Finishing);
                    }
                }
            }
        };
        self.gatherings.iter_mut().for_each(Gathering::drain);
        Ok((written, caught_up, Self::found(self.load, &self.gatherings)))
    }

    /// Waits for all tasks: the writers first, since subscribers end when they have what those wrote.
    async fn all_done(
        writers: &mut JoinSet<Result<u64, LoadError>>,
        subscribers: &mut JoinSet<Result<(), LoadError>>,
        readers: &mut JoinSet<Result<Option<Duration>, LoadError>>,
        all_acknowledged: &watch::Sender<Option<u64>>,
        ends_with_readers: Option<&Clock>,
    ) -> Result<(u64, Option<Duration>), LoadError> {
        let written = async {
            let mut written = 0;
            all(writers, |records| written += records).await?;
            all_acknowledged.send_replace(Some(written));
            Ok(written)
        };
        let caught_up = async {
            let mut last = Some(Duration::ZERO);
            let mut any = false;
            all(readers, |at| {
                any = true;
                last = last.zip(at).map(|(last, at)| last.max(at));
            })
            .await?;
            if let Some(clock) = ends_with_readers {
                clock.stop();
            }
            Ok(last.filter(|_| any && ends_with_readers.is_some()))
        };
        let delivered = all(subscribers, |()| {});
        let (written, caught_up, ()) = tokio::try_join!(written, caught_up, delivered)?;
        Ok((written, caught_up))
    }

    fn found(load: Load, gatherings: &[Gathering; 3]) -> Found {
        let figures = |at: usize, is_there: bool| is_there.then(|| gatherings[at].figures.clone());
        Found {
            acknowledged: figures(0, load.writes()),
            delivered: figures(1, load.subscribes()),
            read: figures(2, load.reads()),
        }
    }
}

/// Waits for all tasks of a set, or for the first that fails.
async fn all<T: 'static>(
    tasks: &mut JoinSet<Result<T, LoadError>>,
    mut take: impl FnMut(T),
) -> Result<(), LoadError> {
    while let Some(ended) = tasks.join_next().await {
        take(ended??);
    }
    Ok(())
}
