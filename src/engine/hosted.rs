//! One replica on a worker loop: who waits for it, and how what it asks for is carried out.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Weak},
    time::Instant,
};

use lockstep_protocol::peer::RaftMessage;
use lockstep_storage::LogReader;
use tokio::sync::{mpsc, watch};

use super::{
    METADATA_SHARD, PeerSender,
    disk_workers::DiskWorkers,
    pace::{Asked, Charge, Pace},
    worker::{Ask, Mail, Reply},
};
use crate::{
    metrics,
    replica::{Input, Job, Output, Replica},
    shard::{self, Event, Former, Health, ShardDescription, ShardId, ShardView, Token},
};

/// What carries out what a replica asks for.
pub struct Around<'a> {
    pub peers: &'a dyn PeerSender,
    pub disk_workers: &'a Arc<DiskWorkers>,
    /// What reads for learners wait for, unless they go as fast as they can.
    pub pace: Option<&'a Arc<Pace>>,
    pub mail: &'a mpsc::UnboundedSender<Mail>,
}

/// What everyone outside may see of a replica.
pub struct Shown {
    /// What everyone may know.
    pub view: watch::Sender<ShardView>,
    /// Where committed records are read; nothing until the log was opened for the first time.
    pub reader: watch::Sender<Option<LogReader>>,
}

/// A replica, its waiting requests, and what it asked for since its last turn.
pub struct Hosted {
    replica: Box<Replica>,
    shown: Shown,
    waiting: HashMap<Token, (Reply, Instant)>,
    next_token: Token,
    outputs: Vec<Output>,
    touched: bool,
    /// The loop's tick that the replica was handed last.
    handed: u64,
    /// The loop's tick by which it is to be handed those that have passed.
    due: u64,
    /// Jobs that are out. A read that waits for its turn is none yet.
    jobs: usize,
    /// While this is hosted. What it asked for is of no use to the next replica of its shard.
    life: Arc<()>,
}

impl Hosted {
    /// Hosts a replica from the loop's tick `now` on; `outputs` is what opening it asked for.
    pub fn new(replica: Box<Replica>, outputs: Vec<Output>, shown: Shown, now: u64) -> Self {
        Self {
            replica,
            shown,
            waiting: HashMap::new(),
            next_token: 1,
            outputs,
            touched: true,
            handed: now,
            due: now,
            jobs: 0,
            life: Arc::default(),
        }
    }

    /// Which shard.
    pub fn id(&self) -> ShardId {
        self.replica.id()
    }

    /// Whether it has something to do.
    pub fn is_touched(&self) -> bool {
        self.touched
    }

    /// Whether a write or a job of its is on a disk worker.
    pub fn is_busy(&self) -> bool {
        self.replica.is_writing() || self.jobs > 0
    }

    /// The replica in detail.
    pub fn describe(&self) -> ShardDescription {
        self.replica.describe()
    }

    /// What the replica has promised, if it may go as who knew this membership says; not while its log is not open.
    pub fn promised_if_dropped(&self, membership_index: u64) -> Option<Former> {
        let shard = self.replica.shard().filter(|shard| shard.may_be_dropped(membership_index))?;
        Some(shard.promised())
    }

    /// Queues a request under a token of its own.
    pub fn ask(&mut self, ask: Ask, reply: Reply, now: u64) {
        let token = self.next_token;
        self.next_token += 1;
        self.waiting.insert(token, (reply, Instant::now()));
        self.step(shard::Input::from_ask(token, ask), now);
    }

    /// Hands the replica one input, and before it the ticks that have passed until the loop's tick `now`.
    pub fn step(&mut self, input: impl Into<Input>, now: u64) {
        self.catch_up(now);
        self.touched = true;
        let input = input.into();
        self.jobs -= usize::from(matches!(input, Input::Done(_)));
        self.replica.step(input, &mut self.outputs);
    }

    /// Hands over the ticks that have passed until the loop's tick `now`; most ask for no turn.
    pub fn catch_up(&mut self, now: u64) {
        if self.handed == now {
            return;
        }
        for _ in self.handed..now {
            self.replica.step(shard::Input::Tick.into(), &mut self.outputs);
        }
        self.handed = now;
        self.touched |= !self.outputs.is_empty() || self.replica.needs_turn();
    }

    /// The loop's tick by which it was to be handed those that have passed.
    pub fn due(&self) -> u64 {
        self.due
    }

    /// Says anew by which of the loop's ticks it is to be handed those that have passed: the first that may do something.
    pub fn schedule(&mut self) -> u64 {
        self.due = self.handed.saturating_add(1).saturating_add(self.replica.spare_ticks());
        self.due
    }

    /// Lets the replica take its turn and carries out what it asks for.
    pub fn turn(&mut self, now_ms: i64, around: &Around<'_>) {
        let Around { peers, disk_workers, pace, mail } = *around;
        self.touched = false;
        self.replica.turn(now_ms, &mut self.outputs);
        let shard = self.id();
        let mut to_peers: BTreeMap<u64, Vec<RaftMessage>> = BTreeMap::new();
        for output in std::mem::take(&mut self.outputs) {
            match output {
                Output::Send(message) => {
                    metrics::sent_to_peer(&message);
                    to_peers.entry(message.to).or_default().push(message);
                }
                Output::Repair { to, number, message } => {
                    // Behind what was said before: an acknowledgement must not arrive after it.
                    to_peers.remove(&to).into_iter().for_each(|messages| peers.send(to, shard, messages));
                    peers.send_repair(to, shard, number, message);
                }
                Output::Write(group) => {
                    let mail = mail.clone();
                    disk_workers.write(group, move |outcome| {
                        let input = shard::Input::Synced(outcome).into();
                        let _ = mail.send(Mail::Input { shard, input });
                    });
                }
                Output::Job(job) => {
                    let asked = pace.and_then(|pace| Some((pace, asked(shard, &job)?)));
                    match asked {
                        Some((pace, asked)) => self.begin_in_turn(job, asked, pace, around),
                        None => self.begin(job, None, around),
                    }
                }
                Output::Answer(token, answer) => {
                    if let Some((reply, asked)) = self.waiting.remove(&token) {
                        if answer.is_ok() {
                            metrics::committed(asked.elapsed());
                        }
                        let _ = reply.send(answer);
                    }
                }
                Output::Forget => self.waiting.clear(),
                Output::View(view) => {
                    let before = self.shown.view.send_replace(view.clone());
                    if before.health != view.health {
                        self.note_health(&before.health, &view.health);
                    }
                }
                Output::Reader(reader) => drop(self.shown.reader.send_replace(Some(reader))),
                Output::Recovered(report) => tracing::info!(shard, ?report, "shard recovered"),
                Output::Event(event) => self.note(event),
            }
        }
        for (node, messages) in to_peers {
            peers.send(node, shard, messages);
        }
    }

    /// Begins a job that the replica has asked for, with what it is charged by the pace.
    pub fn begin(&mut self, job: Job, charge: Option<Charge>, around: &Around<'_>) {
        self.jobs += 1;
        run(self.id(), job, charge, around);
    }

    /// Begins a read for a learner when the pace lets it: at once, or as [`Mail::Begin`].
    fn begin_in_turn(&mut self, job: Job, asked: Asked, pace: &Pace, around: &Around<'_>) {
        if let Some(charge) = pace.admit(&asked) {
            return self.begin(job, Some(charge), around);
        }
        let (shard, life) = (self.id(), Arc::downgrade(&self.life));
        let (mail, of) = (around.mail.downgrade(), Weak::clone(&life));
        pace.wait(asked, life, move |charge| {
            if let Some(mail) = mail.upgrade() {
                let _ = mail.send(Mail::Begin { shard, life: of, job, charge });
            }
        });
    }

    /// Whether this is what was hosted then.
    pub fn is(&self, life: &Weak<()>) -> bool {
        std::ptr::eq(Weak::as_ptr(life), Arc::as_ptr(&self.life))
    }

    fn note_health(&self, before: &Health, health: &Health) {
        let shard = self.id();
        match health {
            Health::Faulty(status) if matches!(before, Health::Faulty(_)) => {
                tracing::info!(shard, status, "the replica is being repaired");
            }
            Health::Failed(why) | Health::Faulty(why) => {
                if matches!(health, Health::Faulty(_)) {
                    metrics::replica_became_faulty();
                }
                tracing::error!(shard, why, "the replica stopped; see docs/operations.md for what to do");
            }
            Health::Full => {
                tracing::warn!(shard, "the disk is below its reserve of free space: appends are refused");
            }
            Health::Ok => tracing::info!(shard, "appends are taken again"),
        }
    }

    fn note(&self, event: Event) {
        let shard = self.id();
        match event {
            Event::BecameLeader { term } => {
                metrics::leader_changed();
                tracing::info!(shard, term, "this broker leads the shard");
            }
            Event::LostLeadership { term } => {
                metrics::leader_changed();
                tracing::info!(shard, term, "this broker no longer leads the shard");
            }
            Event::RolledBack { from_index, entries } => {
                metrics::truncated(entries);
                tracing::info!(shard, from_index, entries, "rolled back a suffix that lost an election");
            }
            Event::SnapshotInstalled { index } => {
                tracing::info!(shard, index, "installed a snapshot");
            }
            Event::MembershipRefused { index, why } => {
                tracing::error!(
                    shard,
                    index,
                    why,
                    "a committed membership change makes no sense and was ignored"
                );
            }
            Event::DamagedMessage { index, why } => {
                tracing::error!(shard, index, why, "dropped a peer's message that was damaged on the way");
            }
        }
    }
}

/// What a job asks of the pace, if it has to. Metadata does not wait.
fn asked(shard: ShardId, job: &Job) -> Option<Asked> {
    let (learner, read) = job.catching_up().filter(|_| shard != METADATA_SHARD)?;
    Some(Asked { shard, learner, low: read.low, high: read.high, bytes: read.max_bytes as u64 })
}

/// Runs a replica's job on a disk worker, and hands back what became of it.
fn run(shard: ShardId, job: Job, charge: Option<Charge>, around: &Around<'_>) {
    let (mail, disk_workers) = (around.mail.clone(), around.disk_workers);
    let learns = job.catching_up().is_some();
    let paced = charge.zip(around.pace.cloned());
    let long = job.is_long();
    let work = move || {
        let started = Instant::now();
        let done = job.run();
        let bytes = done.cold_read_bytes();
        if learns {
            metrics::caught_up(bytes.flatten().unwrap_or(0));
        }
        if let Some((charge, pace)) = paced {
            pace.settle(&charge, bytes.flatten().unwrap_or(0));
        }
        match bytes {
            Some(Some(bytes)) => metrics::cold_read(bytes, started.elapsed()),
            Some(None) => {
                metrics::cold_read_failed();
                tracing::error!(shard, "a read for a slow follower failed");
            }
            None => {}
        }
        let _ = mail.send(Mail::Input { shard, input: Input::Done(done) });
    };
    match long {
        true => disk_workers.run_aside(work),
        false => disk_workers.run(work),
    }
}
