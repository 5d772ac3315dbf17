//! Where replicas shall be, and how they get there: what the metadata log and the brokers that follow it do in a cluster.
//!
//! Each node that believes that it leads takes the next step of its shard's move, as production decides it
//! ([`Move::next`]); a leader that has been replaced and does not know it yet does so too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lockstep::cluster::moves::{Move, Step};
use lockstep::engine;
use lockstep::random::Random;
use lockstep::shard::{self, Input, NOBODY, ShardSettings};
use lockstep_storage::io::{Disk, FakeDisk};

use crate::kinds::Target;
use crate::node::Mail;
use crate::plan::{Plan, chance};
use crate::queue::{Event, MILLISECOND, Time};
use crate::replica::Input as ReplicaInput;
use crate::server::{partition_of, shard_of};
use crate::world::{World, directory};

/// How often the next step of each move is taken.
const STEP_EVERY: Time = 20 * MILLISECOND;
/// How often a leader that is to go tries to hand over first.
const HAND_OVERS_MAX: u32 = 3;

/// Where the replicas of one shard are, and where they shall be.
#[derive(Clone, Debug)]
pub struct Placement {
    /// The nodes that shall hold one.
    pub target: BTreeSet<u64>,
    /// The nodes that have files of one.
    pub holders: BTreeSet<u64>,
    /// Of these, the ones that have begun to delete them.
    pub dropping: BTreeSet<u64>,
    /// Nodes that held one once, and how far its log reached.
    pub former: BTreeSet<u64>,
    /// How long its records are kept.
    pub retention: ShardSettings,
    /// How often a leader that is to go hands over first, still.
    hand_overs: u32,
}

/// Where the replicas of every shard are, by shard.
pub type Placements = BTreeMap<u64, Placement>;

/// Where they are at first.
pub fn of_plan(plan: &Plan) -> Placements {
    let target: BTreeSet<u64> = (1..=plan.replicas).collect();
    let placement = Placement {
        holders: target.clone(),
        target,
        dropping: BTreeSet::new(),
        former: BTreeSet::new(),
        retention: ShardSettings {
            retention_bytes: plan.cluster.retention_bytes,
            retention_ms: plan.cluster.retention_ms,
        },
        hand_overs: HAND_OVERS_MAX,
    };
    (0..plan.shards).map(|partition| (shard_of(partition), placement.clone())).collect()
}

impl World {
    /// The nodes that have files of a shard.
    pub(crate) fn holders(&self, shard: u64) -> impl Iterator<Item = u64> + '_ {
        self.placements.get(&shard).into_iter().flat_map(|placement| placement.holders.iter().copied())
    }

    /// Which nodes the other replicas of a shard may be on.
    pub(crate) fn peers(&self, id: u64, shard: u64) -> Vec<u64> {
        let Some(placement) = self.placements.get(&shard) else { return Vec::new() };
        placement.holders.union(&placement.target).copied().filter(|node| *node != id).collect()
    }

    /// The metadata says that a partition's replicas shall be elsewhere: on `size` nodes, any.
    pub(crate) fn move_replicas(&mut self, target: Target, size: u64) -> bool {
        let shard = shard_of(self.partition_of(target));
        let nodes = self.plan.nodes;
        let leaders_go = self.random.below(2) == 0;
        let Some(placement) = self.placements.get(&shard) else { return false };
        let may_hold = |node: &u64| !placement.dropping.contains(node);
        let mut able: Vec<u64> = (1..=nodes).filter(may_hold).collect();
        shuffle(&mut able, &mut self.random);
        let chosen: BTreeSet<u64> = able.into_iter().take(size as usize).collect();
        if chosen.is_empty() || chosen == placement.target {
            return false;
        }
        // Nobody would move to fewer nodes who knew that what is damaged on them is whole on the others.
        if !self.may_be_left_with(shard, &chosen) {
            return false;
        }
        let Some(placement) = self.placements.get_mut(&shard) else { return false };
        placement.target = chosen.clone();
        placement.hand_overs = if leaders_go { 0 } else { HAND_OVERS_MAX };
        self.tell_peers(shard);
        self.trace.note(self.queue.now(), None, "move", [shard], || format!("shard {shard} to {chosen:?}"));
        true
    }

    /// The metadata says that a partition's records are kept for longer, or not for so long.
    pub(crate) fn change_retention(&mut self, target: Target, bytes: u64, ms: u64) -> bool {
        let shard = shard_of(self.partition_of(target));
        let kept = |limit: u64| Some(limit).filter(|limit| *limit > 0);
        let retention = ShardSettings { retention_bytes: kept(bytes), retention_ms: kept(ms) };
        let Some(placement) = self.placements.get_mut(&shard) else { return false };
        placement.retention = retention.clone();
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.mail(id, shard, Input::Settings(retention.clone()));
        }
        true
    }

    fn tell_peers(&mut self, shard: u64) {
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            let peers = self.peers(id, shard);
            let process = self.nodes.get_mut(&id).and_then(|node| node.process.as_mut());
            if let Some(process) = process.filter(|process| process.hosted.contains_key(&shard)) {
                process.inbox.push_back(Mail::One(shard, Box::new(ReplicaInput::Peers(peers))));
            }
        }
    }

    /// Every leader takes its next step, and every node goes on with what it had begun to delete.
    pub(crate) fn step_moves(&mut self) {
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            for shard in self.placements.keys().copied().collect::<Vec<_>>() {
                if !self.nodes[&id].answers() || self.violation.is_some() {
                    continue;
                }
                if self.placements[&shard].dropping.contains(&id) {
                    self.drop_replica(id, shard);
                } else if let Some(step) = self.next_step(id, shard) {
                    self.take_step(id, shard, step);
                }
            }
        }
        self.queue.after(STEP_EVERY, Event::Moves);
    }

    fn next_step(&self, id: u64, shard: u64) -> Option<Step> {
        let hosted = self.nodes[&id].process.as_ref()?.hosted.get(&shard)?;
        if !hosted.replica.view().is_leader {
            return None;
        }
        let Placement { target, holders, hand_overs, .. } = &self.placements[&shard];
        let (learners, hands_over) = (&BTreeSet::new(), *hand_overs > 0);
        Some(Move { target, learners, holders, hands_over }.next(&hosted.replica.describe()))
    }

    fn take_step(&mut self, id: u64, shard: u64, step: Step) {
        if !matches!(step, Step::Done | Step::Wait(_)) {
            self.note(id, "step", [shard], || format!("shard {shard}: {step:?}"));
        }
        match step {
            Step::Done | Step::Wait(_) => {}
            Step::Create(node) => self.create_replica(node, shard),
            Step::Propose(changes) => {
                self.mail(id, shard, Input::Membership { token: NOBODY, changes, decided_on: None });
            }
            Step::HandOver(to) => {
                if let Some(placement) = self.placements.get_mut(&shard) {
                    placement.hand_overs -= 1;
                }
                self.mail(id, shard, Input::Transfer { token: NOBODY, to });
            }
            Step::Drop { node, membership_index } => self.begin_drop(node, shard, membership_index),
        }
    }

    /// A node gets files for a shard, if the metadata says that it shall.
    fn create_replica(&mut self, node: u64, shard: u64) {
        let placement = &self.placements[&shard];
        if !placement.target.contains(&node)
            || placement.holders.contains(&node)
            || !self.nodes[&node].answers()
        {
            return;
        }
        let options = self.shard_options(node, shard);
        let first: Vec<u64> = (1..=self.plan.replicas).collect();
        let disk = Arc::clone(&self.nodes[&node].disk);
        let shared: Arc<dyn Disk> = Arc::<FakeDisk>::clone(&disk);
        let created = shard::create(&shared, &options, &first, &mut self.random);
        if disk.is_down() {
            return self.power_failed_at_io(node);
        }
        match created {
            // An attempt whose end it did not live to see.
            Ok(()) => {}
            Err(_) if disk.exists(&directory(shard)).unwrap_or(false) => {}
            Err(_) if self.nodes[&node].excused() => return self.planted_struck(node),
            Err(error) => {
                let message = format!("node {node} cannot create shard {shard}: {error}");
                return self.violate("replica-is-created", message);
            }
        }
        self.holds(node, shard);
        let again = self.placements[&shard].former.contains(&node);
        self.stats.fault(if again { "replica-created-again" } else { "replica-created" });
        let peers = self.peers(node, shard);
        self.host(node, shard, peers);
    }

    /// A node has files of a shard.
    pub(crate) fn holds(&mut self, node: u64, shard: u64) {
        if let Some(placement) = self.placements.get_mut(&shard) {
            placement.holders.insert(node);
        }
        self.tell_peers(shard);
    }

    fn begin_drop(&mut self, node: u64, shard: u64, membership_index: u64) {
        let placement = &self.placements[&shard];
        if placement.target.contains(&node) || !self.nodes[&node].answers() {
            return;
        }
        let there = &self.nodes[&node];
        let disk = Arc::clone(&there.disk);
        let hosted = there.process.as_ref().and_then(|process| process.hosted.get(&shard));
        let Some(promised) = hosted.and_then(|hosted| hosted.replica.promised_if_dropped(membership_index))
        else {
            return;
        };
        let noted = promised.write(&*disk, &directory(shard));
        if disk.is_down() {
            return self.power_failed_at_io(node);
        }
        if noted.is_err() {
            return self.planted_struck(node);
        }
        if let Some(placement) = self.placements.get_mut(&shard) {
            placement.dropping.insert(node);
            placement.former.insert(node);
        }
        self.drop_replica(node, shard);
    }

    /// A node deletes its files of a shard, or goes on with it.
    fn drop_replica(&mut self, id: u64, shard: u64) {
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let disk = Arc::clone(&node.disk);
        if let Some(process) = node.process.as_mut() {
            process.hosted.remove(&shard);
            process.jobs.retain(|_, (of, _)| *of != shard);
        }
        self.wake_readers(id, shard);
        let removed = engine::remove_files(&*disk, &directory(shard));
        if disk.is_down() {
            return self.power_failed_at_io(id);
        }
        match removed {
            Ok(()) => {}
            Err(_) if self.nodes[&id].excused() => return self.planted_struck(id),
            Err(error) => {
                return self.violate("replica-is-dropped", format!("node {id}, shard {shard}: {error}"));
            }
        }
        if let Some(placement) = self.placements.get_mut(&shard) {
            placement.holders.remove(&id);
            placement.dropping.remove(&id);
        }
        self.invariants.dropped(id, shard);
        self.ledger.replaced(partition_of(shard), id, self.queue.now());
        self.stats.fault("replica-dropped");
        self.note(id, "dropped", [shard], || format!("shard {shard}"));
        self.tell_peers(shard);
    }

    /// What is missing for every replica to be where it shall be.
    pub(crate) fn moving(&self) -> Option<String> {
        self.placements.iter().find_map(|(shard, placement)| {
            let step = self.leader(*shard).and_then(|leader| self.next_step(leader, *shard));
            (step != Some(Step::Done)).then(|| format!("shard {shard}: {step:?} of {placement:?}"))
        })
    }
}

pub(crate) fn shuffle(nodes: &mut [u64], random: &mut Random) {
    for at in (1..nodes.len()).rev() {
        nodes.swap(at, random.below(at as u64 + 1) as usize);
    }
}

/// Nodes beside those that hold replicas at first, and how many hold them, for a run whose replicas move.
pub fn draw_spares(plan: &mut Plan, random: &mut Random) {
    plan.replicas = if chance(random, 1, 8) { 1 } else { 3 };
    plan.nodes = plan.nodes.max(plan.replicas + 1 + random.below(3));
    for part in &mut plan.parts {
        if let Target::Node(node) = &mut part.target {
            *node = 1 + random.below(plan.nodes);
        }
    }
}
