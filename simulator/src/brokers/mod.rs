//! Clusters of brokers, as in production: a metadata shard that all follow, brokers that join, are drained, removed and
//! lost, and moves that the planner begins, the steward carries out and the metadata ends.
//!
//! What holds: everything is decided by production's pure pieces. What production does with tokio is done here in the same
//! order, one pass at a time: follow the metadata, open and drop what it says, see to the own place in it, carry changes
//! on, care for the shards that are led here.
//!
//! | module | holds | production's shell |
//! |---|---|---|
//! | `following` | the metadata folded; shards opened, told and dropped | `cluster::follower`, `cluster::replicas` |
//! | `changes` | decided on a confirmed state, written if nothing came between; questions to the leader | `cluster::writer`, `cluster::questions` |
//! | `care` | the steward, the planner, the own registration | `cluster::stewardship`, `cluster::registrar` |
//! | `notes` | which shards a broker has files of, which brokers there are | `identity::directory` |
//! | `errands` | what people ask for: joins, drains, removals, moves; brokers that are lost | `broker::control` |
//! | `rules` | the observer of the metadata log | |
//! | `ending` | what must be so at the end | |
//! | `draw` | such a plan | |

mod care;
mod changes;
mod draw;
mod ending;
mod errands;
mod following;
mod notes;
mod rules;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use lockstep::cluster::hosting::Here;
use lockstep::cluster::steward::Steward;
use lockstep::cluster::{KnownBroker, Member, MetadataState};
use lockstep::identity::DirectoryId;
use lockstep::shard::ShardSettings;

pub use changes::{Asker, Decision, Question, Reply};
pub(crate) use draw::{draw_brokers, of_brokers};
pub(crate) use errands::{Errand, Task};
use rules::Rules;

use crate::node::Process;
use crate::placement::Placements;
use crate::queue::{MILLISECOND, Time};
use crate::world::World;

/// Between two passes of a broker, at least and at most: the steward's own pause is 50 ms.
const PASS_PAUSE: (Time, Time) = (5 * MILLISECOND, 50 * MILLISECOND);

/// The brokers as seen from outside.
#[derive(Default)]
pub struct Brokers {
    pub(crate) errands: Vec<Errand>,
    pub(crate) rules: Rules,
    /// The last number that a question was given.
    questions: u64,
}

/// Whose machine it is: what its data directory says for as long as there is one.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The broker.
    pub member: Member,
    /// The voters that its copy of the metadata log begins with.
    pub founders: Vec<u64>,
    /// Whether it joined a cluster that was there already.
    pub joined: bool,
}

impl Identity {
    fn new(id: u64, directory: DirectoryId, founders: Vec<u64>, joined: bool) -> Self {
        let at = |port: u16| format!("machine-{directory}:{port}");
        let member = Member { id, directory, native: at(7400), peer: at(7401), http: at(7402), rack: None };
        Self { member, founders, joined }
    }

    /// One of those that the cluster begins with.
    pub(crate) fn of_founder(id: u64, directory: DirectoryId, founders: Vec<u64>) -> Self {
        Self::new(id, directory, founders, false)
    }
}

/// What a broker's process knows of the cluster.
pub struct Broker {
    identity: Identity,
    /// As what it joined, for the time until the metadata says so.
    joined_as: Option<KnownBroker>,
    state: Arc<MetadataState>,
    /// Whether that includes all that was committed before this process began.
    current: bool,
    registered: bool,
    here: Here,
    /// The brokers there are, as it has written down.
    remembered: BTreeSet<u64>,
    /// Where replicas are by the state, for clients.
    known: Arc<Placements>,
    told: BTreeMap<u64, (ShardSettings, Vec<u64>)>,
    steward: Steward,
    changes: VecDeque<changes::Change>,
    /// What is being written, by the shard that it is for: the question's number, and when it is given up.
    writing: BTreeMap<u64, (u64, Time)>,
}

impl Broker {
    /// A process that has followed nothing yet, on a machine with these notes.
    fn new(identity: Identity, here: Here, remembered: BTreeSet<u64>, known: Placements) -> Self {
        let joined_as = identity.joined.then(|| KnownBroker::from(&identity.member));
        Self {
            steward: Steward::new(identity.member.id),
            joined_as,
            identity,
            state: Arc::default(),
            current: false,
            registered: false,
            here,
            remembered,
            known: Arc::new(known),
            told: BTreeMap::new(),
            changes: VecDeque::new(),
            writing: BTreeMap::new(),
        }
    }

    /// Where replicas are, as it tells clients.
    pub(crate) fn known(&self) -> &Arc<Placements> {
        &self.known
    }
}

impl World {
    /// One pass of a broker over all that it does for the cluster.
    pub(crate) fn broker_pass(&mut self, id: u64, life: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let paused = node.paused;
        let Some(process) = node.alive(life) else { return };
        let stopping = process.stopping.is_some();
        let (from, to) = PASS_PAUSE;
        let pause = from + self.random.below(to - from);
        self.queue.after(pause, crate::queue::Event::Broker { node: id, life });
        if paused || stopping {
            return;
        }
        let steps = [Self::follow, Self::reconcile, Self::enrol, Self::go_on_with_changes, Self::care];
        for step in steps {
            let runs = self.nodes.get_mut(&id).is_some_and(|node| node.alive(life).is_some());
            if !runs || self.violation.is_some() {
                return;
            }
            step(self, id);
        }
    }

    /// Does something with a broker's process.
    fn with_broker<T>(&mut self, id: u64, run: impl FnOnce(&mut Process, &mut Broker) -> T) -> Option<T> {
        let process = self.nodes.get_mut(&id)?.process.as_mut()?;
        let mut broker = process.broker.take()?;
        let result = run(process, &mut broker);
        process.broker = Some(broker);
        Some(result)
    }

    /// An operation on a broker's disk failed: its process ends, and tries again. Without a reason for it, that is wrong.
    pub(crate) fn disk_failed(&mut self, id: u64, what: &str) {
        let node = &self.nodes[&id];
        if node.disk.is_down() {
            return self.power_failed_at_io(id);
        }
        if !node.excused() {
            return self.violate("broker-keeps-its-files", format!("node {id}: {what}"));
        }
        self.planted_struck(id);
        self.kill(id, 100 * MILLISECOND);
    }
}
