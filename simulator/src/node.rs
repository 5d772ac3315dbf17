//! One machine: its disk and clock, and the process on it while it runs.
//!
//! What holds: what came in while the process was busy or stood still becomes one turn, as in production. Of a process
//! nothing is left when it dies but its disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use lockstep::raft::Membership;
use lockstep_storage::io::FakeDisk;
use lockstep_storage::{Cache, LogReader, ScrubCursor, SegmentPool, WriteGroup};

use crate::brokers::{Broker, Identity};
use crate::kinds::FaultKind;
use crate::queue::{MILLISECOND, SECOND, Time};
use crate::replica::{Input, Job, Output, Replica};
use crate::server::{Asked, Subscriptions};
use crate::stopping::Stopping;

/// The wall clock at the beginning of each run, in milliseconds since 1970.
const EPOCH_MS: i64 = 1_700_000_000_000;

/// A machine.
pub struct Node {
    /// Its number.
    pub id: u64,
    /// Its disk, which outlives processes and power cuts.
    pub disk: Arc<FakeDisk>,
    /// Counts its processes.
    pub life: u64,
    /// Whose it is, in a cluster of brokers; a machine that has joined no cluster is nobody's.
    pub identity: Option<Identity>,
    /// It is gone for good, and its disk with it.
    pub gone: bool,
    /// The process, while it runs.
    pub process: Option<Process>,
    /// Stopped by SIGSTOP.
    pub paused: bool,
    /// Whether the machine has power while no process runs: then connections are refused, not ignored.
    pub powered: bool,
    /// Millionths by which its clock runs fast; may be negative.
    pub drift_ppm: i64,
    /// What its wall clock is ahead, in milliseconds.
    pub clock_offset_ms: i64,
    /// By how much its disk is slower at the moment.
    pub disk_slowness: u64,
    /// Its disk does nothing.
    pub disk_stalled: bool,
    /// Shards whose group waits for the disk to go on.
    pub stalled_groups: Vec<u64>,
    /// A restart is on its way.
    pub starting: bool,
    /// The fault that was planted on the disk of this process.
    pub planted: Option<FaultKind>,
    /// Reads that had failed when that was last looked at.
    pub read_errors: u64,
    /// Its disk has a limit at the moment.
    pub disk_limited: bool,
    /// The replicas of the process that died last, for the observer: its disk still holds what they had synced.
    pub corpse: BTreeMap<u64, Hosted>,
}

/// What runs on a machine.
pub struct Process {
    /// The machine's number.
    pub node: u64,
    /// Its replicas, by shard.
    pub hosted: BTreeMap<u64, Hosted>,
    /// Why shards that should be here are not.
    pub refused: BTreeMap<u64, String>,
    /// What came in and waits for the next turn.
    pub inbox: VecDeque<Mail>,
    /// Bytes of clients that a stopped process has not read.
    pub unread: Vec<Unread>,
    /// A turn is due.
    pub turn_due: bool,
    /// The worker is busy until then.
    pub busy_until: Time,
    /// Clients' requests that wait for an answer, by token.
    pub asked: BTreeMap<u64, Asked>,
    /// Clients' subscriptions.
    pub subscriptions: Subscriptions,
    /// The next token: never [`lockstep::shard::NOBODY`].
    pub next_token: u64,
    /// Work off the turn that is under way.
    pub jobs: BTreeMap<u64, (u64, Job)>,
    /// The next of those.
    pub next_job: u64,
    /// Whether the disk was below its reserve when last looked at.
    pub disk_full: bool,
    /// Damage that readers came by since that was last looked at.
    pub damage_read: u64,
    /// Segment files for reuse.
    pub pool: Option<Arc<SegmentPool>>,
    /// Memory for the newest entries of all its shards.
    pub cache: Arc<Cache>,
    /// It has been asked to stop.
    pub stopping: Option<Stopping>,
    /// What it knows of the cluster, if that is one of brokers.
    pub broker: Option<Box<Broker>>,
}

/// A client's bytes on a connection.
pub struct Unread {
    /// Which connection.
    pub connection: u64,
    /// Its bytes.
    pub frame: bytes::Bytes,
}

/// One replica and what is under way for it.
pub struct Hosted {
    /// The production code.
    pub replica: Replica,
    /// The group on its way to the disk.
    pub writing: Option<WriteGroup>,
    /// The members in force after its last turn.
    pub membership: Membership,
    /// Where committed records are read.
    pub reader: Option<LogReader>,
    /// How far its scrub has come.
    pub scrubbed: ScrubCursor,
    /// How often it has come to the end.
    pub scrubs: u64,
    /// What it asked for and has not got yet.
    pub outputs: Vec<Output>,
    /// Whether it has something to do.
    pub touched: bool,
}

/// Something for the worker.
pub enum Mail {
    /// For one shard.
    One(u64, Box<Input>),
    /// The timer fired.
    Tick,
    /// A peer's connection closed.
    PeerLost(u64),
    /// A peer can be reached.
    PeerFound(u64),
    /// The disk fell below its reserve, or has room again.
    DiskFull(bool),
}

impl Hosted {
    /// Its scrub begins anew, and counts from nothing.
    pub fn begin_scrub(&mut self) {
        (self.scrubbed, self.scrubs) = (ScrubCursor::default(), 0);
    }
}

impl Node {
    /// A machine with an empty disk, switched off.
    pub fn new(id: u64, drift_ppm: i64) -> Self {
        Self {
            id,
            disk: FakeDisk::new(),
            life: 0,
            identity: None,
            gone: false,
            process: None,
            paused: false,
            powered: true,
            drift_ppm,
            clock_offset_ms: 0,
            disk_slowness: 1,
            disk_stalled: false,
            stalled_groups: Vec::new(),
            starting: false,
            planted: None,
            read_errors: 0,
            disk_limited: false,
            corpse: BTreeMap::new(),
        }
    }

    /// What its wall clock says.
    pub fn now_ms(&self, now: Time) -> i64 {
        let drift = (now / SECOND) as i64 * self.drift_ppm / 1_000;
        EPOCH_MS
            .saturating_add((now / MILLISECOND) as i64)
            .saturating_add(drift)
            .saturating_add(self.clock_offset_ms)
    }

    /// How long `span` of its own clock takes.
    pub fn own(&self, span: Time) -> Time {
        (span as i64 - span as i64 / 1_000 * self.drift_ppm / 1_000).max(1) as Time
    }

    /// The process, if it runs and is still this one.
    pub fn alive(&mut self, life: u64) -> Option<&mut Process> {
        if self.life == life { self.process.as_mut() } else { None }
    }

    /// Whether a fault explains that its log fails.
    pub fn excused(&self) -> bool {
        self.planted.is_some() || self.disk_limited
    }

    /// Whether it belongs to a broker that is still one.
    pub fn is_in_service(&self) -> bool {
        self.identity.is_some() && !self.gone
    }

    /// Whether a process runs and moves.
    pub fn answers(&self) -> bool {
        self.process.is_some() && !self.paused
    }
}

impl Process {
    /// A process that hosts nothing yet.
    pub fn new(node: u64, pool: Option<Arc<SegmentPool>>, cache: Arc<Cache>) -> Self {
        Self {
            node,
            hosted: BTreeMap::new(),
            refused: BTreeMap::new(),
            inbox: VecDeque::new(),
            unread: Vec::new(),
            turn_due: false,
            busy_until: 0,
            asked: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            next_token: 1,
            jobs: BTreeMap::new(),
            next_job: 1,
            disk_full: false,
            damage_read: 0,
            pool,
            cache,
            stopping: None,
            broker: None,
        }
    }

    /// A read came by damage.
    pub fn report_damage(&mut self, shard: u64, damage: Option<String>) {
        if let Some(damage) = damage {
            self.damage_read += 1;
            self.inbox.push_back(Mail::One(shard, Box::new(Input::Damaged(damage))));
        }
    }

    /// A token nobody else has.
    pub fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token - 1
    }
}
