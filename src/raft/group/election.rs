//! When and how a replica stands for election, and when it must not.
//!
//! What holds: a replica that knows no leader asks in turn whether it would be elected, see the module on haste; one that
//! hears nothing of a leader it knows waits for its election timeout. Who must not vote, does not stand either.

use raft::{
    StateRole,
    eraftpb::{self, MessageType},
};

use super::{Group, Role};
use crate::raft::{Membership, haste::Haste};

/// How long after a start the other replicas leave it to the one whose turn it is, in ticks: that one may be opening other
/// shards yet, and then leadership would have to be handed to it.
const START_TICKS: u64 = 20;

impl Group {
    /// Keeps this replica out of elections until its log ends in an entry of a term later than `term`.
    pub fn take_part_behind(&mut self, term: u64) {
        self.takes_part_behind = term;
    }

    /// Makes the next tick ask for votes, if it is time to.
    pub(super) fn hasten(&mut self) {
        if self.leader().is_some() {
            self.haste = None;
            return;
        }
        let (term, election_ticks) = (self.term(), self.options.election_ticks as u64);
        // There is none where somebody stands, or where the leader was silent for an election timeout.
        let mut haste = match self.haste {
            Some(haste) => haste,
            None => Haste::behind_others(self.voters(), term, election_ticks, &mut self.random),
        };
        let is_due = haste.is_due(term, election_ticks, &mut self.random);
        self.haste = Some(haste);
        if is_due {
            self.node.raft.election_elapsed = self.timeout.1;
        }
    }

    /// A peer's connection broke, or nothing is heard of it: messages on their way may be lost. If it leads, it is believed
    /// dead, and a successor is elected without waiting for the election timeout. The pre-vote makes a false alarm
    /// harmless: whoever still hears the leader does not answer.
    pub fn peer_lost(&mut self, node: u64) {
        self.node.report_unreachable(node);
        if self.role() == Role::Leader && self.transferee() == Some(node) {
            self.node.raft.abort_leader_transfer();
        }
        if self.leader() == Some(node) && self.role() == Role::Follower && self.forget_leader() == 0 {
            self.tick();
        }
        self.pin_timeout();
    }

    /// The leader is gone: from the next tick on a successor is elected, without waiting for the election timeout. Returns
    /// this node's rank.
    pub(super) fn forget_leader(&mut self) -> u64 {
        let leader = std::mem::replace(&mut self.node.raft.leader_id, raft::INVALID_ID);
        self.rest.wake();
        let rank = self.rank(Some(leader));
        self.haste = Some(Haste::in_turn(rank, self.voters(), self.term()));
        rank
    }

    /// A peer can be reached again: a leader speaks to it at once, and whoever looks for a leader asks it.
    pub fn peer_found(&mut self) {
        match self.role() {
            Role::Leader => {
                self.rest.wake();
                self.node.ping();
            }
            // Whoever stands has asked for votes already, and would void them.
            _ if self.node.raft.state == StateRole::Candidate => {}
            _ => self.look_for_leader(),
        }
        self.pin_timeout();
    }

    /// Nobody is known to lead, as after a start: asks whether it would be elected, before its election timeout. Where
    /// somebody leads, that one answers; so whose turn is later asks for that alone at first.
    pub fn look_for_leader(&mut self) {
        if self.leader().is_some() {
            return;
        }
        self.rest.wake();
        let rank = self.rank(None);
        self.haste = Some(Haste::after(rank * START_TICKS, self.voters(), self.term()));
        if rank > 0 || !self.electorate().contains(&self.options.node) {
            self.ask_who_leads();
        }
    }

    /// Asks for pre-votes in words that nobody grants who has any entry: as one without entries. A leader answers.
    fn ask_who_leads(&mut self) {
        let (from, term) = (self.options.node, self.term() + 1);
        for to in self.electorate().into_iter().filter(|voter| *voter != from) {
            let msg_type = MessageType::MsgRequestPreVote;
            self.node.raft.msgs.push(eraftpb::Message { msg_type, from, to, term, ..Default::default() });
        }
    }

    /// This node's place in the order in which the voters ask, without a leader that is gone: from one on that differs from
    /// group to group. After a start whoever is preferred is the first, so that leadership need not be handed to it; each
    /// replica knows whom from its opening alone, and two that differ would ask at once.
    fn rank(&self, without: Option<u64>) -> u64 {
        let mut voters = self.electorate();
        voters.retain(|voter| Some(*voter) != without);
        let preferred = self.options.preferred.filter(|node| without.is_none() && voters.contains(node));
        if preferred == Some(self.options.node) {
            return 0;
        }
        voters.retain(|voter| Some(*voter) != preferred);
        let count = voters.len().max(1) as u64;
        let place = voters.iter().position(|voter| *voter == self.options.node).unwrap_or(0) as u64;
        u64::from(preferred.is_some()) + (place + count - self.options.rotation % count) % count
    }

    fn voters(&self) -> u64 {
        self.electorate().len() as u64
    }

    /// Who votes, as far as this node knows: in a joint configuration the voters of both.
    pub(super) fn electorate(&self) -> Vec<u64> {
        let Membership { mut voters, voters_outgoing, .. } = self.membership();
        voters.extend(voters_outgoing);
        voters.sort_unstable();
        voters.dedup();
        voters
    }

    /// Whether this replica neither votes nor asks for votes, since it may lack what a former one on its node had.
    pub(super) fn abstains(&self) -> bool {
        self.takes_part_behind > 0 && self.log().last_term() <= self.takes_part_behind
    }

    /// Whether it would elect itself, as whoever votes alone does at once, with entries that are not synced: a leader
    /// counts its own copy of all it has, and the library panics.
    pub(super) fn would_lead_unsynced(&self) -> bool {
        let raft = &self.node.raft;
        let unsynced = raft.raft_log.last_index() > raft.raft_log.persisted;
        unsynced && raft.state != StateRole::Leader && raft.prs().is_singleton()
    }

    /// Whether this leader steps down because of a new replica that follows nobody yet: where there was one before, it
    /// begins in a later term, behind what that has promised.
    pub(super) fn is_outdone_by_newcomer(&self, message: &eraftpb::Message) -> bool {
        let answers = [MessageType::MsgAppendResponse, MessageType::MsgHeartbeatResponse];
        self.role() == Role::Leader
            && message.term > self.term()
            && answers.contains(&message.msg_type)
            && self.node.raft.prs().conf().learners().contains(&message.from)
            && self.matched(message.from) == 0
    }

    /// A leader that nobody has replaced asks for votes at once, as one that leadership was handed to: the others still
    /// believe that it leads, and would not answer a pre-vote.
    pub(super) fn stand_again(&mut self) {
        let node = self.options.node;
        self.look_for_leader();
        if self.role() == Role::Follower && !self.would_lead_unsynced() {
            let again = eraftpb::Message {
                msg_type: MessageType::MsgTimeoutNow,
                from: node,
                to: node,
                term: self.term(),
                ..Default::default()
            };
            // Where it cannot stand just now, it does soon.
            let _ = self.node.step(again);
        }
    }

    /// The library draws election timeouts from a source of its own. Ours replaces it, unconditionally, after every
    /// call: replacing it only on change was seen not to be deterministic.
    pub(super) fn pin_timeout(&mut self) {
        let key = (self.node.raft.term, self.node.raft.state);
        if self.timeout.0 != key {
            let ticks = self.options.election_ticks;
            self.timeout = (key, ticks + self.random.below(ticks as u64) as usize);
        }
        self.node.raft.set_randomized_election_timeout(self.timeout.1);
    }
}
