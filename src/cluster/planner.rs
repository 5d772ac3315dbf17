//! Which moves begin next: what the leader of the metadata makes of draining brokers, of an uneven spread, and of the
//! metadata's own replicas. Pure functions of the state.
//!
//! What holds:
//! - Nothing is planned ahead: what is left to do follows from the state, so a new leader goes on where the last one was.
//! - A few moves are under way at a time, for each broker and in all: a cluster of a thousand partitions moves in steps.
//! - The metadata has three voters, five from five brokers on, in as many racks as there are; fewer only where there are
//!   fewer brokers. None goes that need not.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_planted::{self as planted, Bug};

use super::member::Duty;
use super::{Command, MetadataState, Reassignment, Site, Spread};
use crate::engine::METADATA_SHARD;

/// Moves under way at once.
const MOVES_MAX: usize = 32;
/// Replicas that one broker takes up at once.
const MOVES_PER_BROKER_MAX: usize = 8;

/// The commands that are due now; none if nothing is to move, or enough does.
pub fn next_moves(state: &MetadataState) -> Vec<Command> {
    if !state.is_founded() {
        return Vec::new();
    }
    let mut due = Due::of(state);
    if state.placement(METADATA_SHARD).is_some_and(|metadata| state.may_begin_move(metadata))
        && let Some(to) = metadata_voters(state)
    {
        due.add(&Reassignment { shard: METADATA_SHARD, from: Vec::new(), to });
    }
    if state.is_leaving_some() {
        Spread::of(state).evacuate().iter().for_each(|reassignment| due.add(reassignment));
    }
    if state.is_rebalancing() && due.commands.is_empty() {
        let left = Spread::of(state).rebalance();
        left.iter().for_each(|reassignment| due.add(reassignment));
        if left.is_empty() {
            due.commands.push(Command::Rebalance { on: false });
        }
    }
    due.commands
}

/// How many brokers send their log to each that takes up replicas: as many as lead one of those, if leaders are where they
/// are preferred.
pub fn senders(state: &MetadataState) -> BTreeMap<u64, u64> {
    let mut leaders: BTreeMap<u64, BTreeSet<u64>> = BTreeMap::new();
    for placement in state.moving().filter(|placement| placement.shard != METADATA_SHARD) {
        let Some(leader) = placement.replicas.first().copied() else { continue };
        for broker in placement.goal().iter().filter(|broker| !placement.replicas.contains(broker)) {
            leaders.entry(*broker).or_default().insert(leader);
        }
    }
    leaders.into_iter().map(|(broker, leaders)| (broker, leaders.len() as u64)).collect()
}

/// The brokers that shall hold the metadata, if not those that do now.
fn metadata_voters(state: &MetadataState) -> Option<Vec<u64>> {
    let metadata = state.placement(METADATA_SHARD)?;
    let active: Vec<Site> = state
        .members()
        .filter(|(_, duty)| *duty == Duty::Active)
        .map(|(member, _)| Site { broker: member.id, rack: member.rack.clone() })
        .collect();
    let keeps = |id: &u64| planted::is_active(Bug::KeepMetadataOnDraining) && state.member(*id).is_some();
    let stays = |id: &u64| active.iter().any(|site| site.broker == *id) || state.awaits(*id) || keeps(id);
    let staying: Vec<u64> = metadata.replicas.iter().copied().filter(stays).collect();
    let wanted = match active.len() {
        few @ 0..=2 => few,
        3 | 4 => 3,
        _ => 5,
    };
    let voters = Spread::over(active).extend(staying.clone(), wanted);
    (!voters.is_empty() && voters != metadata.goal()).then_some(voters)
}

/// The commands that may be given now.
struct Due<'a> {
    state: &'a MetadataState,
    under_way: usize,
    taking_up: BTreeMap<u64, usize>,
    commands: Vec<Command>,
}

impl<'a> Due<'a> {
    fn of(state: &'a MetadataState) -> Due<'a> {
        let mut due = Due { state, under_way: 0, taking_up: BTreeMap::new(), commands: Vec::new() };
        for placement in state.moving() {
            due.under_way += 1;
            let new = placement.goal().iter().filter(|broker| !placement.replicas.contains(broker));
            new.for_each(|broker| *due.taking_up.entry(*broker).or_default() += 1);
        }
        due
    }

    /// Lets a move begin, if its brokers and the cluster have room for it. What is moving already waits, unless it goes to a
    /// broker that is to hold nothing.
    fn add(&mut self, reassignment: &Reassignment) {
        let Some(placement) = self.state.placement(reassignment.shard) else { return };
        let is_under_way = placement.moving_to.is_some();
        let is_full = |broker| self.taking_up.get(&broker).is_some_and(|many| *many >= MOVES_PER_BROKER_MAX);
        let has_room = is_under_way || self.under_way < MOVES_MAX;
        if !has_room || !self.state.may_begin_move(placement) || reassignment.added().any(is_full) {
            return;
        }
        self.under_way += usize::from(!is_under_way);
        reassignment.added().for_each(|broker| *self.taking_up.entry(broker).or_default() += 1);
        let to = reassignment.to.clone();
        self.commands.push(Command::MoveReplicas { shard: reassignment.shard, to });
    }
}

#[cfg(test)]
mod tests;
