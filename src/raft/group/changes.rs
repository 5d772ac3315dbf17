//! Changes of a group's membership: proposed by its leader, in force once they are committed and synced.

use std::collections::BTreeSet;

use bytes::Bytes;
use lockstep_planted::{self as planted, Bug};
use lockstep_storage::{Entry, EntryKind};
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};

use super::{Group, Role};
use crate::raft::{Membership, MembershipChange, ProposeError, StepError};

/// A membership entry is a handful of node ids; anything longer was not written by us.
const MEMBERSHIP_BODY_BYTES_MAX: usize = 1024;

/// Who voted before the membership changed in a term that this node led.
#[derive(Default)]
pub(super) struct VotedBefore {
    term: u64,
    voters: BTreeSet<u64>,
    /// The last entry that they may have been sent.
    last_index: u64,
}

/// The nodes that a membership entry adds; none if it is none, or does not read.
pub fn added_by(entry: &Entry) -> Vec<u64> {
    let changes = changes_of(entry);
    let added = changes.iter().filter(|single| single.get_change_type() == ConfChangeType::AddNode);
    added.map(|single| single.node_id).collect()
}

/// Whether a membership entry says anything of a node.
pub fn names(entry: &Entry, node: u64) -> bool {
    changes_of(entry).iter().any(|single| single.node_id == node)
}

fn changes_of(entry: &Entry) -> Vec<ConfChangeSingle> {
    if entry.kind != EntryKind::MembershipV2 || entry.body.len() > MEMBERSHIP_BODY_BYTES_MAX {
        return Vec::new();
    }
    let change = ConfChangeV2::parse_from_bytes(&entry.body);
    change.map(|change| change.changes.into_iter().collect()).unwrap_or_default()
}

impl Group {
    /// The membership in force.
    pub fn membership(&self) -> Membership {
        Membership::from_raft(&self.node.raft.prs().conf().to_conf_state())
    }

    /// Proposes a change of the membership; several at once go through a joint configuration, none at all leave one.
    pub fn propose_membership(&mut self, changes: &[MembershipChange]) -> Result<(), ProposeError> {
        if self.role() != Role::Leader {
            return Err(ProposeError::NotLeader);
        }
        // The library would append an entry that changes nothing.
        if self.membership_pending() || self.membership().is_joint() != changes.is_empty() {
            return Err(ProposeError::ChangeUnderWay);
        }
        let singles: Vec<_> = changes
            .iter()
            .map(|change| {
                let (change_type, node_id) = match *change {
                    MembershipChange::AddVoter(node) => (ConfChangeType::AddNode, node),
                    MembershipChange::AddLearner(node) => (ConfChangeType::AddLearnerNode, node),
                    MembershipChange::Remove(node) => (ConfChangeType::RemoveNode, node),
                };
                ConfChangeSingle { change_type, node_id, ..Default::default() }
            })
            .collect();
        let change = ConfChangeV2 {
            transition: ConfChangeTransition::Auto,
            changes: singles.into(),
            ..Default::default()
        };
        self.rest.wake();
        let result = self.node.propose_conf_change(Vec::new(), change);
        self.pin_timeout();
        result.map_err(|_| ProposeError::NotLeader)
    }

    /// Makes a committed membership entry effective.
    pub fn apply_membership(&mut self, entry: &Entry) -> Result<Membership, StepError> {
        let refused = |error: String| StepError::Ignored(error);
        if entry.body.len() > MEMBERSHIP_BODY_BYTES_MAX {
            return Err(refused(format!("a membership entry of {} bytes", entry.body.len())));
        }
        if entry.kind != EntryKind::MembershipV2 {
            return Err(refused("an entry that changes no membership".into()));
        }
        let change =
            ConfChangeV2::parse_from_bytes(&entry.body).map_err(|error| refused(error.to_string()))?;
        self.remember_voters();
        let state = self.node.apply_conf_change(&change).map_err(|error| refused(error.to_string()))?;
        let membership = Membership::from_raft(&state);
        let leads_on = planted::is_active(Bug::LeadOnAfterRemoval);
        if self.role() == Role::Leader && !membership.votes(self.options.node) && !leads_on {
            self.abdicate();
        }
        // It is done as soon as it knows: the others must not wait for it.
        if self.role() == Role::Follower && self.leader().is_some_and(|leader| !membership.votes(leader)) {
            self.forget_leader();
        }
        self.pin_timeout();
        Ok(membership)
    }

    /// A leader remembers who voted since it was elected, before the membership changes.
    fn remember_voters(&mut self) {
        // The library sends entries before it hands them out.
        let last_index = self.node.raft.raft_log.last_index();
        let (term, voters) = (self.term(), self.electorate());
        if self.role() == Role::Leader {
            if self.voted_before.term != term {
                self.voted_before = VotedBefore { term, ..VotedBefore::default() };
            }
            self.voted_before.voters.extend(voters);
            self.voted_before.last_index = last_index;
        }
    }

    /// Who voted since this leader was elected and may win an election yet, though the membership has changed: until the
    /// leader has committed an entry that they cannot have. Nobody if it does not lead.
    pub fn voted_before(&self) -> impl Iterator<Item = u64> + '_ {
        let VotedBefore { term, voters, last_index } = &self.voted_before;
        let leads = self.role() == Role::Leader && *term == self.term();
        let may_win = leads && self.commit() <= *last_index;
        voters.iter().copied().filter(move |_| may_win)
    }

    /// Commits one more entry, without a payload, if somebody who votes no more may win an election as long as none is.
    pub fn outrun_former_voters(&mut self) {
        if self.voted_before().next().is_some() {
            // If it cannot be taken now, whoever asks again is the next occasion.
            let _ = self.propose(vec![(Bytes::new(), Bytes::new())]);
        }
    }

    /// A leader that took itself out is done once that is committed. The library would go on leading, and panic as soon
    /// as one more entry of its own is synced; the others have been sent the commit already.
    fn abdicate(&mut self) {
        let term = self.term();
        self.node.raft.become_follower(term, raft::INVALID_ID);
    }

    /// Whether this leader knows of a membership entry that may not be in force yet.
    pub fn membership_pending(&self) -> bool {
        self.role() == Role::Leader && self.node.raft.has_pending_conf()
    }
}
