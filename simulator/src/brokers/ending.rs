//! What must be so at the end of a run with brokers: nothing moves any more, and all agree on where everything is.

use std::collections::BTreeSet;

use lockstep::cluster::{Duty, MetadataState, Placement, planner};
use lockstep::engine::METADATA_SHARD;

use super::errands::REPLICATION;
use crate::node::Node;
use crate::world::World;

impl World {
    /// What is missing for every errand to be done, every move to be over, and every broker to hold what the metadata says.
    pub(crate) fn unsettled_brokers(&self) -> Option<String> {
        let errands = &self.brokers.errands;
        let state = self.brokers.rules.newest();
        if let Some(errand) = errands.first() {
            return Some(format!("an errand is not done: {errand:?}; brokers {:?}", duties(state)));
        }
        let due = planner::next_moves(state);
        if !due.is_empty() {
            return Some(format!("moves are due: {due:?}"));
        }
        let there: BTreeSet<u64> =
            self.nodes.values().filter(|node| node.is_in_service()).map(|node| node.id).collect();
        let members: BTreeSet<u64> = state.members().map(|(member, _)| member.id).collect();
        if there != members {
            return Some(format!("brokers {there:?} are there, and {members:?} are members"));
        }
        let metadata = state.placement(METADATA_SHARD).into_iter();
        let mut all = metadata.chain(state.placements().map(|(_, placement)| placement));
        let unsettled = all.find_map(|placement| self.unsettled_placement(placement, state));
        unsettled.or_else(|| self.nodes.values().find_map(|node| unsettled_broker(node, state)))
    }

    fn unsettled_placement(&self, placement: &Placement, state: &MetadataState) -> Option<String> {
        let shard = placement.shard;
        let replicas: BTreeSet<u64> = placement.replicas.iter().copied().collect();
        let active = |id: &u64| matches!(state.member(*id), Some((_, Duty::Active)));
        if placement.moving_to.is_some() || !replicas.iter().all(active) || replicas.len() < REPLICATION {
            return Some(format!("{placement:?} of brokers {:?}", duties(state)));
        }
        let leader = self.leader(shard)?;
        let process = self.nodes[&leader].process.as_ref()?;
        let leader = process.hosted.get(&shard)?.replica.describe();
        let followers: BTreeSet<u64> = match shard {
            METADATA_SHARD => {
                state.members().map(|(it, _)| it.id).filter(|id| !replicas.contains(id)).collect()
            }
            _ => BTreeSet::new(),
        };
        let as_placed = leader.voters.iter().copied().collect::<BTreeSet<u64>>() == replicas
            && leader.learners.iter().copied().collect::<BTreeSet<u64>>() == followers
            && leader.voters_outgoing.is_empty();
        (!as_placed).then(|| {
            format!(
                "shard {shard} is of {:?}, {:?} and {:?}, by {placement:?}",
                leader.voters, leader.voters_outgoing, leader.learners
            )
        })
    }

    /// The nodes on which a shard is to be the same, by what they host.
    pub(crate) fn hosts(&self, shard: u64) -> Vec<u64> {
        let hosts =
            |node: &&Node| node.process.as_ref().is_some_and(|process| process.hosted.contains_key(&shard));
        self.nodes.values().filter(hosts).map(|node| node.id).collect()
    }
}

/// What is missing for a broker to hold what the state says, and nothing else.
fn unsettled_broker(node: &Node, state: &MetadataState) -> Option<String> {
    if !node.is_in_service() {
        return None;
    }
    let id = node.id;
    let process = node.process.as_ref();
    let Some((process, broker)) = process.and_then(|it| Some((it, it.broker.as_ref()?))) else {
        return Some(format!("broker {id} does not run"));
    };
    if **broker.state() != *state {
        return Some(format!("broker {id} is behind the metadata"));
    }
    let hosts = |placement: &&Placement| placement.hosts().any(|host| host == id);
    let placed = state.placements().map(|(_, placement)| placement).filter(hosts);
    let placed: BTreeSet<u64> = placed.map(|placement| placement.shard).chain([METADATA_SHARD]).collect();
    let held: BTreeSet<u64> = process.hosted.keys().copied().collect();
    (placed != held || placed != broker.here.shards || !broker.here.dropping.is_empty()).then(|| {
        format!("broker {id} hosts {held:?} and has noted {:?}; {placed:?} are its own", broker.here)
    })
}

fn duties(state: &MetadataState) -> Vec<(u64, Duty)> {
    state.members().map(|(member, duty)| (member.id, duty)).collect()
}
