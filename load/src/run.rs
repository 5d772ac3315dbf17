//! A load against brokers, from the topic to the figures.
//!
//! 1. Make the topic, or find it; fill it, if there is to be something to read.
//! 2. Connect everybody; subscribers stand ready before the first record is sent.
//! 3. Run for the warm-up and the measured time; wait for what is in flight.
//! 4. Have the checker judge what was acknowledged and shown against what every replica holds; remove the topic.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use lockstep_client::{Client, Start};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use crate::audit::{Audit, Checked, LaneSends};
use crate::error::LoadError;
use crate::lane::{Lane, Loop};
use crate::outcome::Outcome;
use crate::pace::{Alarm, Clock, Schedule};
use crate::plan::{Load, Plan, PlanError, Target};
use crate::reader::Reader;
use crate::series::{Figures, Series};
use crate::subscriber::{Shown, Subscriber};
use crate::topic::Topic;
use crate::writer::{self, Writer};

/// Slots that a run is cut into, about.
const SLOTS: u32 = 120;
/// The shortest slot.
const SLOT_MIN: Duration = Duration::from_millis(100);
/// The longest slot: a live line should move.
const SLOT_MAX: Duration = Duration::from_secs(1);
/// Between two looks at whether somebody wants it to end.
const LOOK_PAUSE: Duration = Duration::from_millis(100);
/// Sends that a run keeps for the checker, of all lanes together: half a gigabyte at the most.
const SENDS_KEPT: usize = 20_000_000;
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
    /// The checker reads what the replicas hold.
    Checking {
        /// Records read, of all replicas together.
        records: u64,
    },
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
    let (mut filled, mut there) = (0, 0);
    if plan.load.reads() {
        let of = plan.fill_bytes;
        let mut told = |bytes| {
            watch(Progress::Filling { bytes, of });
            !stop.is_asked()
        };
        filled = topic.fill(plan, &mut told).await?;
        there = topic.kept().await?;
        if there == 0 {
            return Err(PlanError::NothingToRead.into());
        }
    }
    let begins = topic.begins().await?;
    let run = Running::start(topic, target, plan, tag, there).await?;
    let measured_from = SystemTime::now() + RUN_UP + plan.warm_up;
    let mut ended = run.measure(stop, watch).await?;
    topic.check(filled + written(&ended.lanes)).await?;
    let checked = audit(topic, plan, tag, &begins, &mut ended, watch).await?;
    Ok(Outcome {
        plan: plan.clone(),
        topic: topic.name.to_string(),
        partitions: topic.partitions,
        measured: measured_from..measured_from + ended.measured,
        found: ended.found,
        caught_up: ended.caught_up,
        stopped_early: stop.is_asked(),
        checked,
    })
}

/// How many records were written: all of them were acknowledged.
fn written(lanes: &[LaneSends]) -> u64 {
    lanes.iter().map(|lane| lane.acknowledged.records).sum()
}

/// Holds everything that was acknowledged against what every replica holds.
async fn audit(
    topic: &Topic,
    plan: &Plan,
    tag: u64,
    begins: &[u64],
    ended: &mut Ended,
    watch: &mut dyn FnMut(Progress<'_>),
) -> Result<Checked, LoadError> {
    let audit = Audit {
        client: &topic.client,
        topic: &topic.name,
        tag: writer::short(tag),
        is_ours: topic.is_ours,
        records_per_send: plan.records_per_send(),
        filler: &Bytes::from(writer::filler(plan.record_bytes)),
        is_stamped: plan.is_stamped(),
    };
    let mut all = Checked::default();
    if !plan.load.writes() {
        return Ok(all);
    }
    for (partition, from_lsn) in (0..).zip(begins) {
        // Of a topic that others write to, a subscriber is shown theirs as well.
        let shown = ended.shown.extract_if(.., |(of, _)| topic.is_ours && *of == partition);
        let mut shown = shown.map(|(_, read)| read).collect();
        let before = all.replica_records;
        let mut told = |records| watch(Progress::Checking { records: before + records });
        all.add(&audit.partition(partition, *from_lsn, &ended.lanes, &mut shown, &mut told).await?);
    }
    Ok(all)
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

/// A load that has run.
struct Ended {
    lanes: Vec<LaneSends>,
    /// What the first subscriber was shown.
    shown: Shown,
    caught_up: Option<Duration>,
    found: Found,
    /// How long it was measured.
    measured: Duration,
}

/// A load that runs.
struct Running {
    clock: Arc<Clock>,
    duration: Duration,
    writers: JoinSet<Result<LaneSends, LoadError>>,
    subscribers: JoinSet<Result<Shown, LoadError>>,
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
        there: u64,
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
        running.start_readers(readers, topic, plan, there);
        running.start_writers(&producers, topic, plan, tag)?;
        Ok(running)
    }

    /// Each subscriber has a client of its own, unless they are to share some.
    async fn open_consumers(
        topic: &Topic,
        target: &Target,
        plan: &Plan,
    ) -> Result<Vec<lockstep_client::Consumer>, LoadError> {
        let mut consumers = Vec::new();
        let mut clients = Vec::new();
        for number in 0..plan.subscribers as usize {
            if plan.subscriber_connections == 0 || clients.len() < plan.subscriber_connections as usize {
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
                shown: (number == 0).then(Shown::new),
            };
            self.subscribers.spawn(subscriber.run());
        }
    }

    fn start_readers(&mut self, clients: Vec<Client>, topic: &Topic, plan: &Plan, there: u64) {
        for (number, client) in clients.into_iter().enumerate() {
            let reader = Reader {
                number,
                client,
                topic: Arc::clone(&topic.name),
                partitions: topic.partitions,
                there,
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
            let pace = match sends_per_second {
                Some(rate) => Loop::Open(Schedule::new(rate, number, lanes), Alarm::precise()?),
                None => Loop::Closed(plan.in_flight),
            };
            let lane = Lane {
                number: number as usize,
                append: Writer::new(producer, topic, number, plan, tag),
                clock: Arc::clone(&self.clock),
                series: Arc::clone(&self.gatherings[0].series),
                keeps: SENDS_KEPT / lanes as usize,
            };
            let partition = number % topic.partitions;
            self.writers.spawn(async move {
                Ok(LaneSends { lane: number, partition, acknowledged: lane.run(pace).await? })
            });
        }
        Ok(())
    }

    /// Runs until everybody is done.
    async fn measure(mut self, stop: &Stop, watch: &mut dyn FnMut(Progress<'_>)) -> Result<Ended, LoadError> {
        let slot = (self.duration / SLOTS).clamp(SLOT_MIN, SLOT_MAX);
        let mut looks = tokio::time::interval(LOOK_PAUSE);
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
        let (lanes, caught_up, shown) = loop {
            tokio::select! {
                ended = &mut done => break ended?,
                _ = looks.tick() => if stop.is_asked() { self.clock.stop() },
                _ = slots.tick() => {
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
        let found = Self::found(self.load, &self.gatherings);
        let measured = self.clock.measured_to().saturating_sub(self.clock.measured_from());
        if measured.is_zero() {
            return Err(LoadError::Stopped);
        }
        Ok(Ended { lanes, shown, caught_up, found, measured })
    }

    /// Waits for all tasks: the writers first, since subscribers end when they have what those wrote.
    async fn all_done(
        writers: &mut JoinSet<Result<LaneSends, LoadError>>,
        subscribers: &mut JoinSet<Result<Shown, LoadError>>,
        readers: &mut JoinSet<Result<Option<Duration>, LoadError>>,
        all_acknowledged: &watch::Sender<Option<u64>>,
        ends_with_readers: Option<&Clock>,
    ) -> Result<(Vec<LaneSends>, Option<Duration>, Shown), LoadError> {
        let written = async {
            let mut lanes: Vec<LaneSends> = Vec::new();
            all(writers, |lane| lanes.push(lane)).await?;
            all_acknowledged.send_replace(Some(written(&lanes)));
            Ok(lanes)
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
        let delivered = async {
            let mut shown = Shown::new();
            all(subscribers, |of_one| shown.extend(of_one)).await?;
            Ok(shown)
        };
        tokio::try_join!(written, caught_up, delivered)
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
