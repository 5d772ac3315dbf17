//! What the leader of a shard does for its placement: one decision at a time, from what it knows at the moment.
//!
//! What holds:
//! - Decided here, carried out elsewhere: no clock, no network. The same calls give the same answers.
//! - A shard that is where it shall be, led by whoever is preferred, is not looked at again until its term or its placement
//!   changes.
//! - A move ends in the metadata only once a majority know for good that nobody else is a member: with the index of that
//!   membership, so that whoever still has files can tell whether they may go. That is so for a membership which the
//!   metadata knows nothing of as well: a leader that lagged behind may have made it.
//! - Every broker follows the metadata shard: those that hold no vote are its learners.
//! - A leader that is not the preferred one hands over once that has been there for some seconds; a few at a time.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_planted::{self as planted, Bug};

use super::member::Duty;
use super::moves::{Move, Reason, Step, is_close};
use super::{Command, MetadataState, Placement};
use crate::engine::{METADATA_SHARD, ShardDescription, ShardId, ShardView};
use crate::raft::MembershipChange;

/// How often a leader that is to go tries to hand over first, in one term.
const HAND_OVERS_MAX: u32 = 3;
/// How long a hand-over may take before it is tried again.
const HAND_OVER_MS: u64 = 1_000;
/// How long the preferred leader has to have been there before it gets to lead.
const PREFERRED_SINCE_MS: u64 = 5_000;
/// Shards whose preferred leader gets them at one moment.
const PREFERRED_AT_ONCE: usize = 4;

/// What is to be done for a shard.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// Propose these changes of the membership, if that of this index is still in force.
    Propose(Vec<MembershipChange>, u64),
    /// Hand leadership to this node.
    HandOver(u64),
    /// Have this written in the metadata.
    Write(Command),
}

/// One broker's care for the shards it leads.
pub struct Steward {
    node: u64,
    /// Hand-overs of shards whose leader is to go: the term, how many, and when the last one was.
    hand_overs: BTreeMap<ShardId, (u64, u32, u64)>,
    /// Since when a shard's preferred leader has been there.
    preferred_since: BTreeMap<ShardId, u64>,
    /// What was seen to be as it shall be: the term, and the placement's membership.
    settled: BTreeMap<ShardId, (u64, u64)>,
    /// Shards given to their preferred leaders at this moment.
    handed: (u64, usize),
}

impl Steward {
    /// For the shards that `node` leads.
    pub fn new(node: u64) -> Steward {
        Steward {
            node,
            hand_overs: BTreeMap::new(),
            preferred_since: BTreeMap::new(),
            settled: BTreeMap::new(),
            handed: (0, 0),
        }
    }

    /// Whether a shard is to be looked at, with [`Steward::next`].
    pub fn cares_for(&self, state: &MetadataState, placement: &Placement, view: &ShardView) -> bool {
        view.is_leader
            && (placement.moving_to.is_some()
                || placement.shard == METADATA_SHARD
                || self.preferred(state, placement).is_some()
                || self.settled.get(&placement.shard) != Some(&(view.term, placement.membership_index)))
    }

    /// What is to be done for a shard now, by what this node's replica says of itself after the state was read. `now_ms` is
    /// any clock that does not go back.
    pub fn next(
        &mut self,
        state: &MetadataState,
        placement: &Placement,
        leader: &ShardDescription,
        now_ms: u64,
    ) -> Option<Act> {
        let shard = placement.shard;
        if !leader.view.is_leader || (shard == METADATA_SHARD && !state.is_founded()) {
            return None;
        }
        let step = self.step(state, placement, leader, now_ms);
        if !matches!(step, Step::Done) {
            self.preferred_since.remove(&shard);
        }
        match step {
            Step::Propose(changes) => Some(Act::Propose(changes, leader.membership_index)),
            Step::HandOver(to) => self.hand_over(shard, to, leader.view.term, now_ms),
            Step::Drop { .. } | Step::Done if is_unsettled(placement, leader) => {
                Some(end_of_move(placement, leader))
            }
            Step::Done => {
                self.settled.insert(shard, (leader.view.term, placement.membership_index));
                self.prefer(state, placement, leader, now_ms)
            }
            Step::Wait(Reason::CatchingUp(_)) if planted::is_active(Bug::FinishMoveTooEarly) => {
                Some(end_of_move(placement, leader))
            }
            // Each host makes its files by itself.
            Step::Create(_) | Step::Drop { .. } | Step::Wait(_) => None,
        }
    }

    fn step(
        &self,
        state: &MetadataState,
        placement: &Placement,
        leader: &ShardDescription,
        now_ms: u64,
    ) -> Step {
        let target: BTreeSet<u64> = placement.goal().iter().copied().collect();
        let (mut learners, mut holders) = (BTreeSet::new(), placement.hosts().collect::<BTreeSet<_>>());
        if placement.shard == METADATA_SHARD {
            learners =
                state.members().map(|(member, _)| member.id).filter(|id| !target.contains(id)).collect();
            holders = target.union(&learners).copied().collect();
        }
        let in_vain = self.hand_overs.get(&placement.shard).is_some_and(|(term, times, last)| {
            *term == leader.view.term && *times >= HAND_OVERS_MAX && now_ms >= last + HAND_OVER_MS
        });
        Move { target: &target, learners: &learners, holders: &holders, hands_over: !in_vain }.next(leader)
    }

    fn hand_over(&mut self, shard: ShardId, to: u64, term: u64, now_ms: u64) -> Option<Act> {
        let times = match self.hand_overs.get(&shard) {
            Some((in_term, _, last)) if *in_term == term && now_ms < last + HAND_OVER_MS => return None,
            Some((in_term, times, _)) if *in_term == term => *times,
            _ => 0,
        };
        self.hand_overs.insert(shard, (term, times + 1, now_ms));
        Some(Act::HandOver(to))
    }

    /// The broker that shall lead instead of this one, if there is one and it stays.
    fn preferred(&self, state: &MetadataState, placement: &Placement) -> Option<u64> {
        let first = placement.goal().first().copied().filter(|first| *first != self.node)?;
        let stays = state.member(first).is_some_and(|(_, duty)| duty == Duty::Active);
        stays.then_some(first)
    }

    fn prefer(
        &mut self,
        state: &MetadataState,
        placement: &Placement,
        leader: &ShardDescription,
        now_ms: u64,
    ) -> Option<Act> {
        let shard = placement.shard;
        let there = self
            .preferred(state, placement)
            .filter(|node| leader.replicas.iter().any(|replica| replica.node == *node && is_close(replica)));
        let Some(preferred) = there else {
            self.preferred_since.remove(&shard);
            return None;
        };
        let since = *self.preferred_since.entry(shard).or_insert(now_ms);
        if self.handed.0 != now_ms {
            self.handed = (now_ms, 0);
        }
        if now_ms < since + PREFERRED_SINCE_MS || self.handed.1 >= PREFERRED_AT_ONCE {
            return None;
        }
        self.handed.1 += 1;
        // If it comes to nothing, not again at once.
        self.preferred_since.insert(shard, now_ms);
        Some(Act::HandOver(preferred))
    }
}

/// Whether the metadata does not know yet that the replicas are where they shall be. It does not follow who is a learner of
/// its own shard.
fn is_unsettled(placement: &Placement, leader: &ShardDescription) -> bool {
    let changed = leader.membership_index > placement.membership_index;
    placement.moving_to.is_some() || (changed && placement.shard != METADATA_SHARD)
}

/// Once a majority know for good who the members are, so does the metadata: by a second entry that changes nothing. It takes
/// an entry later than the last move's, which a move that was cancelled before it changed anything has not made.
fn end_of_move(placement: &Placement, leader: &ShardDescription) -> Act {
    let confirmed = leader.membership_confirmed || planted::is_active(Bug::FinishMoveUnconfirmed);
    if !confirmed || leader.membership_index <= placement.membership_index {
        let same = leader.voters.iter().take(1).map(|voter| MembershipChange::AddVoter(*voter));
        return Act::Propose(same.collect(), leader.membership_index);
    }
    Act::Write(Command::FinishMove {
        shard: placement.shard,
        replicas: placement.goal().to_vec(),
        membership_index: leader.membership_index,
    })
}

#[cfg(test)]
mod tests;
