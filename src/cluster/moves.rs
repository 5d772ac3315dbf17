//! Moves of a shard's replicas: the next step from where they are to where they shall be.
//!
//! ```text
//!   files on the new nodes ─► learners ─► caught up ─► voters, and the others out, by a joint configuration ─► files gone
//! ```
//!
//! What holds here:
//! - A step is a function of what the leader knows at the moment. Nothing is remembered, so a new leader goes on where
//!   the last one stopped, and a step that came to nothing is taken again.
//! - One change of the membership at a time. A joint configuration is left before anything else happens, whoever
//!   entered it.
//! - A replica gets a vote only when it has all but the newest entries and can use it, and takes it from others only while a majority
//!   of those who stay answer.
//! - A replica's files go only once a majority know for good that it is out: until then its vote may be needed. They
//!   know it by a second membership entry behind the one that took it out, which changes nothing. What the leader
//!   knows may be out of date, so the replica has the last word: see [`Shard::may_be_dropped`].
//!
//! [`Shard::may_be_dropped`]: crate::shard::Shard::may_be_dropped

use std::collections::BTreeSet;

use crate::raft::{Membership, MembershipChange, NEAR_ENTRIES, ReplicaProgress};
use crate::shard::ShardDescription;

/// Where a shard's replicas shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move<'a> {
    /// The nodes that shall hold a replica, at least one.
    pub target: &'a BTreeSet<u64>,
    /// The nodes that shall follow without a vote; one that is in the target as well has one.
    pub learners: &'a BTreeSet<u64>,
    /// The nodes that have files of one, members or not.
    pub holders: &'a BTreeSet<u64>,
    /// Whether a leader that is to go hands leadership over first; not once that has been tried in vain.
    pub hands_over: bool,
}

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: all is where it shall be.
    Done,
    /// Nothing yet.
    Wait(Reason),
    /// The node shall create files for a replica: ones that begin with the shard's first voters, as all others did.
    Create(u64),
    /// The leader proposes these changes of the membership at once; none at all leave a joint configuration.
    Propose(Vec<MembershipChange>),
    /// The leader hands leadership to this node.
    HandOver(u64),
    /// The node deletes its replica's files, if that knows of no later membership than this.
    Drop {
        /// The node.
        node: u64,
        /// Index of the membership that it is not in.
        membership_index: u64,
    },
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The replica that was asked does not lead.
    NotLeader,
    /// A change of the membership is not in force yet.
    ChangeUnderWay,
    /// A new replica lacks too much.
    CatchingUp(u64),
    /// A majority of the voters to be does not answer.
    Unanswered,
}

impl Move<'_> {
    /// The next step, by what the shard's leader says of itself.
    pub fn next(&self, leader: &ShardDescription) -> Step {
        if !leader.view.is_leader {
            return Step::Wait(Reason::NotLeader);
        }
        if leader.membership_pending {
            return Step::Wait(Reason::ChangeUnderWay);
        }
        if !leader.voters_outgoing.is_empty() {
            return Step::Propose(Vec::new());
        }
        let is_member = |node: &&u64| leader.voters.contains(node) || leader.learners.contains(node);
        // Members too: one that was taken in again may have deleted its files before it heard of that.
        if let Some(node) = self.target.iter().find(|node| !self.holders.contains(node)) {
            return Step::Create(*node);
        }
        let shall_follow = |node: &&u64| self.target.contains(node) || self.learners.contains(node);
        if let Some(node) = self.target.union(self.learners).find(|node| !is_member(node)) {
            return Step::Propose(vec![MembershipChange::AddLearner(*node)]);
        }
        if let Some(node) = leader.learners.iter().find(|node| !shall_follow(node)) {
            return Step::Propose(vec![MembershipChange::Remove(*node)]);
        }
        let of_target = |nodes: &[u64], is_in: bool| -> Vec<u64> {
            nodes.iter().copied().filter(|node| self.target.contains(node) == is_in).collect()
        };
        let (entering, leaving) = (of_target(&leader.learners, true), of_target(&leader.voters, false));
        if !leaving.is_empty() || !entering.is_empty() {
            return self.replace(leader, &entering, &leaving);
        }
        match self.holders.iter().find(|node| !is_member(node)).copied() {
            None => Step::Done,
            Some(node) if leader.membership_confirmed => {
                Step::Drop { node, membership_index: leader.membership_index }
            }
            Some(node) => Step::Propose(vec![MembershipChange::Remove(node)]),
        }
    }

    /// All of the target follow: the learners among them become voters, and who is not of it goes.
    fn replace(&self, leader: &ShardDescription, entering: &[u64], leaving: &[u64]) -> Step {
        let progress = |node: u64| leader.replicas.iter().find(|replica| replica.node == node);
        for node in entering {
            // With an entry of this leader's term it can use its vote, even if a former one on its node made promises.
            let votes_from = leader.term_begins_at;
            let ready = |replica: &ReplicaProgress| is_close(replica) && replica.matched_index >= votes_from;
            if !progress(*node).is_some_and(ready) {
                return Step::Wait(Reason::CatchingUp(*node));
            }
        }
        let answers = |node: u64| progress(node).is_some_and(|replica| replica.recent_active);
        let targeted: Vec<u64> = self.target.iter().copied().collect();
        if !Membership::of_voters(&targeted).is_quorum(answers) {
            return Step::Wait(Reason::Unanswered);
        }
        let enter = entering.iter().map(|node| MembershipChange::AddVoter(*node));
        if self.hands_over && leader.view.leader.is_some_and(|node| leaving.contains(&node)) {
            if let Some(node) = self.successor(leader) {
                return Step::HandOver(node);
            }
            // All go: somebody who stays has to have a vote before it can lead.
            if !entering.is_empty() {
                return Step::Propose(enter.collect());
            }
        }
        let leave = leaving.iter().map(|node| match self.learners.contains(node) {
            true => MembershipChange::AddLearner(*node),
            false => MembershipChange::Remove(*node),
        });
        Step::Propose(enter.chain(leave).collect())
    }

    /// The voter that stays and has come furthest, if it lacks but little.
    fn successor(&self, leader: &ShardDescription) -> Option<u64> {
        let stays = |node: u64| leader.voters.contains(&node) && self.target.contains(&node);
        let close = leader.replicas.iter().filter(|replica| stays(replica.node) && is_close(replica));
        close.max_by_key(|replica| replica.matched_index).map(|replica| replica.node)
    }
}

/// Whether a replica answers, and lacks so little that the next few messages bring it. One that lacks nothing may still be
/// probed: where nothing is written, nothing ends that.
pub(super) fn is_close(replica: &ReplicaProgress) -> bool {
    let is_fed = replica.state == "replicate" && replica.lag_entries <= NEAR_ENTRIES;
    replica.recent_active && (is_fed || replica.lag_entries == 0)
}
