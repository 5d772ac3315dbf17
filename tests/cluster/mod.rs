//! Three replicas of one shard in one thread: production's shards over simulated disks and a network that is a list.
//!
//! Nothing happens by itself. A test ticks, delivers, crashes and restarts, and can therefore be read like the slide
//! it comes from.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of the harness")]

pub mod clients;
mod lying_disk;
mod moving;
mod seen;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use lockstep::{
    raft::GroupOptions,
    random::Random,
    replica::{self, Job, Replica},
    shard::{self, Answer, AppendError, Event, Input, ShardOptions, ShardSettings, Token},
};
use lockstep_protocol::peer::{RaftMessage, RepairMessage};
use lockstep_storage::{
    Cache, GroupOutcome, LogOptions, LogReader, WriteGroup,
    io::{
        Disk,
        fake::{FakeDisk, Fault},
    },
    reader::ScrubCursor,
};
use lying_disk::LyingDisk;

pub type Verdict = Result<Answer, AppendError>;

/// raft-rs's number of `MsgTimeoutNow`.
const TIMEOUT_NOW: u8 = 14;
/// An election timeout.
pub const ELECTION_TICKS: usize = 10;
const DIRECTORY: &str = "shard";

/// One replica and its disk. The disk outlives the process.
pub struct Node {
    pub disk: Arc<FakeDisk>,
    replica: Option<Replica>,
    /// Where the process's readers read.
    reader: Option<LogReader>,
    writes: VecDeque<WriteGroup>,
    /// Every record a reader of this replica was ever shown, by LSN.
    shown: BTreeMap<u64, String>,
    /// Ticks that the replica has said will do nothing, if nothing else comes in.
    spare_ticks: u64,
    pub events: Vec<Event>,
}

/// What is on its way between two nodes.
#[allow(clippy::large_enum_variant, reason = "nearly all are of the large kind")]
enum Letter {
    Raft(RaftMessage),
    Repair { from: u64, to: u64, number: u64, message: RepairMessage },
}

impl Letter {
    fn way(&self) -> (u64, u64) {
        match self {
            Self::Raft(message) => (message.from, message.to),
            Self::Repair { from, to, .. } => (*from, *to),
        }
    }

    fn into_input(self) -> replica::Input {
        match self {
            Self::Raft(message) => Input::Peer(message).into(),
            Self::Repair { from, number, message, .. } => replica::Input::Repair { from, number, message },
        }
    }
}

/// Some replicas of one shard, and the network between them.
pub struct Cluster {
    nodes: BTreeMap<u64, Node>,
    network: VecDeque<Letter>,
    cut: BTreeSet<(u64, u64)>,
    /// Whom nodes know of, where that is not everybody.
    known: BTreeMap<u64, Vec<u64>>,
    disk_stopped: BTreeSet<u64>,
    paused: BTreeMap<u64, Vec<Letter>>,
    answers: BTreeMap<Token, Verdict>,
    next_token: Token,
    now_ms: i64,
    random: Random,
    segment_bytes: u64,
    cache_bytes: usize,
    cold_reads: usize,
    catch_up_reads: Vec<u64>,
    messages_sent: usize,
    /// How long a log is idle before it is sealed, for replicas that are started from now on.
    pub seal_ticks: u64,
    held_catch_up_reads: Option<Vec<(u64, Job)>>,
    disks_lie: bool,
    /// How writes are run.
    pub write_with: fn(WriteGroup) -> GroupOutcome,
}

impl Cluster {
    /// Replicas 1 to `size`, formatted and running; nobody leads yet.
    pub fn new(size: u64) -> Self {
        Self::with_segments(size, 1 << 20)
    }

    /// The same with segments of a size of the test's choosing, in bytes.
    pub fn with_segments(size: u64, segment_bytes: u64) -> Self {
        let mut cluster = Self {
            nodes: BTreeMap::new(),
            network: VecDeque::new(),
            cut: BTreeSet::new(),
            known: BTreeMap::new(),
            disk_stopped: BTreeSet::new(),
            paused: BTreeMap::new(),
            answers: BTreeMap::new(),
            next_token: 1,
            now_ms: 1_000,
            random: Random::new(7),
            segment_bytes,
            cache_bytes: 1 << 20,
            cold_reads: 0,
            catch_up_reads: Vec::new(),
            messages_sent: 0,
            seal_ticks: 0,
            held_catch_up_reads: None,
            disks_lie: false,
            write_with: WriteGroup::run,
        };
        let voters: Vec<u64> = (1..=size).collect();
        for node in 1..=size {
            cluster.add_node(node, &voters);
        }
        cluster
    }

    /// A node with a fresh disk and a log that begins with `voters`.
    pub fn add_node(&mut self, node: u64, voters: &[u64]) {
        let disk = FakeDisk::new();
        let options = self.options(node);
        let as_disk: Arc<dyn Disk> = Arc::<FakeDisk>::clone(&disk);
        shard::create(&as_disk, &options, voters, &mut self.random).expect("a fresh disk takes a log");
        let new = Node {
            disk,
            replica: None,
            reader: None,
            writes: VecDeque::new(),
            shown: BTreeMap::new(),
            spare_ticks: 0,
            events: Vec::new(),
        };
        self.nodes.insert(node, new);
        self.start(node);
    }

    fn options(&self, node: u64) -> ShardOptions {
        ShardOptions {
            shard: 1,
            directory: DIRECTORY.into(),
            log: LogOptions {
                shard: 1,
                segment_bytes: self.segment_bytes,
                cache: Cache::new(self.cache_bytes),
                ..LogOptions::default()
            },
            group: GroupOptions {
                node,
                preferred: None,
                rotation: 1,
                election_ticks: ELECTION_TICKS,
                heartbeat_ticks: 1,
                busy_commits: 8,
                message_bytes_max: 1 << 20,
                inflight_messages_max: 64,
            },
            tick_ms: 50,
            seal_ticks: self.seal_ticks,
            settings: ShardSettings::default(),
        }
    }

    // ---- What happens to nodes ----

    /// Restarts everyone with so little memory for the newest entries that old ones have to be read from segments.
    pub fn limit_cache(&mut self, bytes: usize) {
        self.cache_bytes = bytes;
        self.restart_all();
    }

    /// Restarts everyone on disks whose syncs do nothing and succeed.
    pub fn let_disks_lie(&mut self) {
        self.disks_lie = true;
        self.restart_all();
    }

    /// Restarts everyone who runs, one after the other: as the settings are now.
    pub fn restart_all(&mut self) {
        for node in self.running() {
            self.crash(node, 0);
            self.start(node);
        }
    }

    /// The `after`th operation from now on that changes a node's disk is the last before its power fails.
    pub fn cut_power_after(&mut self, node: u64, after: u64) {
        let disk = self.disk(node);
        disk.plant(disk.counters().operations + 1 + after, Fault::PowerCut);
    }

    /// The next write of a node succeeds and its sync does not: the kernel takes the data for clean and loses it.
    pub fn fail_next_sync(&mut self, node: u64) {
        let disk = self.disk(node);
        disk.plant(disk.counters().operations + 2, Fault::LostSync(std::io::ErrorKind::StorageFull));
    }

    /// Reads for slow followers that went to segments.
    pub fn cold_reads(&self) -> usize {
        self.cold_reads
    }

    /// The learners that were read for because they had to catch up, in order.
    pub fn catch_up_reads(&self) -> &[u64] {
        &self.catch_up_reads
    }

    /// From now on reads for learners that catch up wait, as they do for their turns.
    pub fn hold_catch_up_reads(&mut self) {
        self.held_catch_up_reads = Some(Vec::new());
    }

    /// Does what has waited since, and holds nothing any more; returns how many reads that were.
    pub fn release_catch_up_reads(&mut self) -> usize {
        let held = self.held_catch_up_reads.take().unwrap_or_default();
        let count = held.len();
        for (node, job) in held {
            self.step(node, replica::Input::Done(job.run()));
        }
        self.settle();
        count
    }

    /// From its next start on a node is told of these others only.
    pub fn know_only(&mut self, node: u64, others: &[u64]) {
        self.known.insert(node, others.to_vec());
    }

    /// Starts a node's process on its disk.
    pub fn start(&mut self, node: u64) {
        self.try_start(node).unwrap_or_else(|error| panic!("node {node} does not start: {error}"));
    }

    /// Starts a node's process, or says why it refuses.
    pub fn try_start(&mut self, node: u64) -> Result<(), shard::OpenError> {
        let (options, random) = (self.options(node), self.random.split());
        let disk = Arc::clone(&self.nodes[&node].disk);
        let disk: Arc<dyn Disk> = if self.disks_lie { Arc::new(LyingDisk(disk)) } else { disk };
        let mut outputs = Vec::new();
        let others = self.nodes.keys().copied().filter(|other| *other != node);
        let peers = self.known.get(&node).cloned().unwrap_or_else(|| others.collect());
        let opened = Replica::open(disk, options, peers, random, &mut outputs)?;
        self.node(node).spare_ticks = 0;
        self.node(node).replica = Some(opened);
        self.carry_out(node, outputs);
        Ok(())
    }

    /// Cuts a node's power: what it had not synced is gone, as far as the disk's `seed` says.
    pub fn crash(&mut self, node: u64, seed: u64) {
        let crashed = self.node(node);
        crashed.replica = None;
        crashed.reader = None;
        crashed.writes.clear();
        crashed.disk.power_cut();
        crashed.disk.restart(seed);
        self.network.retain(|letter| letter.way().0 != node && letter.way().1 != node);
    }

    /// Whether a node's replica may go, as a leader that knows this membership says.
    pub fn may_be_dropped(&self, node: u64, membership_index: u64) -> bool {
        let replica = self.nodes[&node].replica.as_ref().expect("the node runs");
        replica.shard().expect("its log is open").may_be_dropped(membership_index)
    }

    /// Deletes a node's replica, as one that moves elsewhere.
    pub fn drop_replica(&mut self, node: u64) {
        let dropped = self.node(node);
        let replica = dropped.replica.take().expect("the node runs");
        let promised = replica.shard().expect("its log is open").promised();
        (dropped.reader, dropped.shown) = (None, BTreeMap::new());
        dropped.writes.clear();
        promised.write(&*dropped.disk, DIRECTORY).expect("a healthy disk");
        self.delete_directory(node);
    }

    /// Creates a replica where there was one before, and runs it.
    pub fn add_replica_again(&mut self, node: u64, voters: &[u64]) {
        let options = self.options(node);
        let disk: Arc<dyn Disk> = Arc::<FakeDisk>::clone(&self.nodes[&node].disk);
        shard::create(&disk, &options, voters, &mut self.random).expect("its directory is gone");
        self.start(node);
    }

    /// Loses every message between `node` and the others, until [`Cluster::heal`].
    pub fn isolate(&mut self, node: u64) {
        for other in self.nodes.keys().copied().filter(|other| *other != node) {
            self.cut.extend([(node, other), (other, node)]);
        }
        let cut = self.cut.clone();
        self.network.retain(|letter| !cut.contains(&letter.way()));
    }

    /// Stops a node's process: what is sent to it waits.
    pub fn pause(&mut self, node: u64) {
        self.paused.insert(node, Vec::new());
    }

    /// Lets it go on; all that waited is one turn.
    pub fn resume(&mut self, node: u64) {
        let waiting = self.paused.remove(&node).unwrap_or_default();
        self.step_at_once(node, waiting.into_iter().map(Letter::into_input));
        self.settle();
    }

    /// Lets everyone speak with everyone again.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    /// Lets a node's writes wait, until [`Cluster::release_disk`].
    pub fn hold_disk(&mut self, node: u64) {
        self.disk_stopped.insert(node);
    }

    /// Lets a node's writes happen again.
    pub fn release_disk(&mut self, node: u64) {
        self.disk_stopped.remove(&node);
    }

    /// Ticks a node until it leads, and no other: it is told to ask for votes at once, as the target of a transfer is.
    pub fn elect(&mut self, node: u64) {
        for round in 0..20 * ELECTION_TICKS {
            if self.leads(node) {
                return;
            }
            let term = self.describe(node).view.term;
            if round % ELECTION_TICKS == 0 && term > 0 {
                let message = RaftMessage {
                    kind: TIMEOUT_NOW,
                    from: node + 1,
                    to: node,
                    term,
                    ..RaftMessage::default()
                };
                self.step(node, Input::Peer(message));
            }
            self.step(node, Input::Tick);
            self.settle();
        }
        panic!("node {node} was not elected");
    }

    /// Lets a leader hand over.
    pub fn transfer(&mut self, from: u64, to: u64) {
        let token = self.token();
        self.step(from, Input::Transfer { token, to });
        self.settle();
        assert!(self.leads(to), "node {to} leads after the transfer");
    }

    /// Ticks every running node once and lets everything happen that follows.
    pub fn tick_all(&mut self) {
        for node in self.running() {
            self.step(node, Input::Tick);
        }
        self.settle();
    }

    /// Ticks everyone until somebody leads who is connected to a majority; returns who.
    pub fn wait_for_leader(&mut self) -> u64 {
        for _ in 0..100 * ELECTION_TICKS {
            self.tick_all();
            let leader = self.running().into_iter().find(|node| self.leads(*node));
            if let Some(leader) = leader.filter(|leader| self.describe(*leader).commit_index > 0) {
                return leader;
            }
        }
        panic!("nobody was elected");
    }

    /// Ticks everyone until something holds.
    pub fn wait_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..200 * ELECTION_TICKS {
            if holds(self) {
                return;
            }
            self.tick_all();
        }
        let health: Vec<_> = self.running().into_iter().map(|node| (node, self.health(node))).collect();
        panic!("waited in vain until {what}: {health:?}");
    }

    /// Ticks everyone often enough for an idle log to be sealed.
    pub fn let_them_seal(&mut self) {
        for _ in 0..ELECTION_TICKS {
            self.tick_all();
        }
    }

    /// Scrubs a node's log; returns whether damage was found and told.
    pub fn scrub(&mut self, node: u64) -> bool {
        let reader = self.nodes[&node].reader.clone().expect("the log was opened");
        let mut next = Some(ScrubCursor::default());
        while let Some(cursor) = next {
            match reader.scrub(cursor, 4096) {
                Ok(scrubbed) => next = scrubbed.next,
                Err(error) => {
                    self.step(node, replica::Input::Damaged(error.to_string()));
                    return true;
                }
            }
        }
        false
    }

    /// A node's segment files, oldest first.
    pub fn segments(&self, node: u64) -> Vec<String> {
        let names = self.disk(node).list(DIRECTORY).expect("the directory is there");
        let segments = names.into_iter().filter(|name| name.ends_with(".segment"));
        segments.map(|name| format!("{DIRECTORY}/{name}")).collect()
    }

    /// The file with a node's vote.
    pub fn vote_file(&self) -> String {
        format!("{DIRECTORY}/vote")
    }

    /// Deletes the directory of a node that does not run.
    pub fn delete_directory(&mut self, node: u64) {
        let disk = self.disk(node);
        for name in disk.list(DIRECTORY).expect("the directory is there") {
            disk.remove_file(&format!("{DIRECTORY}/{name}")).expect("a healthy disk");
        }
        disk.remove_dir(DIRECTORY).expect("a healthy disk");
        disk.sync_dir("").expect("a healthy disk");
    }

    fn node(&mut self, node: u64) -> &mut Node {
        self.nodes.get_mut(&node).expect("the node exists")
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        self.next_token - 1
    }
}
