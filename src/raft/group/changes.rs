//! Changes of a group's membership: proposed by its leader, in force once they are committed and synced.

use std::collections::BTreeSet;

use lockstep_planted::{self as planted, Bug};
use lockstep_storage::{Entry, EntryKind};
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};

use super::{Group, Role};
use crate::raft::{Membership, MembershipChange, ProposeError, StepError};

/// A membership entry is a handful of node ids; anything longer was not written by us.
const MEMBERSHIP_BODY_BYTES_MAX: usize = 1024;

/// The nodes that a membership entry adds; none if it is none, or does not read.
pub fn added_by(entry: &Entry) -> Vec<u64> {
    if entry.kind != EntryKind::MembershipV2 || entry.body.len() > MEMBERSHIP_BODY_BYTES_MAX {
        return Vec::new();
    }
    let changes =
        ConfChangeV2::parse_from_bytes(&entry.body).map(|change| change.changes).unwrap_or_default();
    let added = changes.iter().filter(|single| single.get_change_type() == ConfChangeType::AddNode);
    added.map(|single| single.node_id).collect()
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

    /// A leader remembers who voted since it was elected: until it has committed more without them, they may win.
    fn remember_voters(&mut self) {
        let (term, voters) = (self.term(), self.electorate());
        if self.role() == Role::Leader {
            if self.voted_before.0 != term {
                self.voted_before = (term, BTreeSet::new());
            }
            self.voted_before.1.extend(voters);
        }
    }

    /// Who voted at some time since this leader was elected, before the membership changed; nobody if it does not lead.
    pub fn voted_before(&self) -> impl Iterator<Item = u64> + '_ {
        let (term, voters) = &self.voted_before;
        let leads = self.role() == Role::Leader && *term == self.term();
        voters.iter().copied().filter(move |_| leads)
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
