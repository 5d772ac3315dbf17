//! What is known of one replica, across its processes: what it has shown, and what its disk holds.

use std::collections::BTreeMap;

use lockstep::raft::Membership;
use lockstep_storage::io::FakeDisk;
use lockstep_storage::{Vote, vote};

use super::mark::{Mark, mark_at, same};
use super::shard::ShardTruth;
use super::violation::{Checked, breach};
use crate::replica::Replica;

/// What is known of one replica.
#[derive(Default)]
pub(super) struct ReplicaTruth {
    /// Through this index it has called entries committed.
    pub(super) commit: u64,
    /// The index before its first entry: a checkpoint of what is committed stands for all up to there.
    pub(super) base: u64,
    /// Through this LSN its process has shown records.
    pub(super) high_watermark: u64,
    /// The last entry its own disk is known to hold, and its mark.
    pub(super) durable: u64,
    durable_mark: Option<Mark>,
    /// The terms of the entries through that one.
    durable_terms: BTreeMap<u64, u64>,
    /// The same of replicas that its node has dropped: what they had acknowledged may be counted later.
    former_terms: BTreeMap<u64, u64>,
    /// Its vote as its disk has it.
    pub(super) vote: Option<Vote>,
    /// It is faulty, and so much was committed when that was told.
    pub(super) faulty: Option<u64>,
    /// The membership entry in force.
    membership_index: u64,
    /// Whether it has a vote by the membership in force, or had by the one before its last turn.
    votes: bool,
    voted: bool,
}

impl ReplicaTruth {
    /// It was opened: all it has is synced now, and nothing is missing that has to be there.
    pub(super) fn opened(
        &mut self,
        node: u64,
        shard: u64,
        replica: &Replica,
        disk: &FakeDisk,
        truth: Option<&ShardTruth>,
    ) -> Checked {
        let Some(log) = replica.log() else { return Ok(()) };
        let (kept, then) = self.must_keep(truth);
        let now = mark_at(replica, kept);
        if log.last_index() < kept || now.zip(then).is_some_and(|(now, then)| !same(now, then)) {
            let last = log.last_index();
            return breach(
                "recovery-keeps-synced",
                format!(
                    "node {node} had synced shard {shard} through entry {kept}, {then:?}; its log ends at {last} now, and has {now:?} there"
                ),
            );
        }
        let vote = stored_vote(disk, shard);
        // A vote that was lost is replaced by one in a later term than any that somebody else was voted for in.
        let counts = |then: &Vote| self.faulty.is_none() || ![0, node].contains(&then.voted_for);
        if let Some(then) = self.vote.filter(counts)
            && !vote.is_some_and(|now| follows(now, then))
        {
            return breach(
                "recovery-keeps-vote",
                format!("node {node} had voted {then:?} in shard {shard}, and recovered {vote:?}"),
            );
        }
        let former_terms = std::mem::take(&mut self.former_terms);
        *self = Self { vote, high_watermark: self.high_watermark, former_terms, ..Self::default() };
        self.synced(replica);
        Ok(())
    }

    /// The last entry that must be in a log when it is opened, and its mark. Of what a faulty one had synced that is
    /// what was committed by then: the rest may have been replaced meanwhile.
    fn must_keep(&self, truth: Option<&ShardTruth>) -> (u64, Option<Mark>) {
        let Some(committed) = self.faulty else { return (self.durable, self.durable_mark) };
        let kept = self.durable.min(committed);
        let mark = truth.and_then(|truth| truth.committed_mark(kept));
        // Under the same index it may have had an entry that lost an election: of an older term, or of a later one whose leader
        // was elected by others.
        let held = self.durable_terms.get(&kept).copied() == mark.map(|mark| mark.term);
        if held { (kept, mark) } else { (0, None) }
    }

    /// Its files are gone, as they should be. What it has promised with its vote binds the next one on its node.
    pub(super) fn dropped(&mut self) {
        let mut former_terms = std::mem::take(&mut self.former_terms);
        former_terms.append(&mut self.durable_terms);
        *self = Self { vote: self.vote, former_terms, ..Self::default() };
    }

    /// Whether a replica that its node has dropped had synced this entry.
    pub(super) fn former_held(&self, index: u64, term: Option<u64>) -> bool {
        term.is_some() && self.former_terms.get(&index).copied() == term
    }

    /// Takes the members in force over; returns whether they are news.
    pub(super) fn is_member(&mut self, node: u64, index: u64, members: &Membership) -> bool {
        self.voted = std::mem::replace(&mut self.votes, members.votes(node));
        let news = index != self.membership_index || index == 0;
        self.membership_index = index;
        news
    }

    /// Whether it may ask for votes.
    pub(super) fn may_stand(&self) -> bool {
        self.votes || self.voted
    }

    /// A group of it is done: its vote is what the disk has now. A vote file that the plan has damaged since says nothing
    /// of what was written.
    pub(super) fn wrote(&mut self, disk: &FakeDisk, shard: u64) {
        self.vote = stored_vote(disk, shard).or(self.vote);
    }

    /// It has been told that its group is done.
    pub(super) fn synced(&mut self, replica: &Replica) {
        let Some(log) = replica.log() else { return };
        let known = self.durable.min(log.synced_index());
        self.durable = log.synced_index();
        self.durable_mark = mark_at(replica, self.durable);
        self.durable_terms.split_off(&(known + 1));
        let news = (known + 1).max(log.first_index())..=self.durable;
        self.durable_terms.extend(news.filter_map(|index| Some((index, log.term(index)?))));
    }

    /// A truncation takes back what was synced; what left before it spoke the truth.
    pub(super) fn rolled_back(&mut self, replica: &Replica) {
        if replica.log().is_some_and(|log| log.synced_index() < self.durable) {
            self.synced(replica);
        }
    }
}

/// Whether one vote can have come after another.
fn follows(now: Vote, then: Vote) -> bool {
    now.term > then.term || now.term == then.term && (then.voted_for == 0 || now.voted_for == then.voted_for)
}

fn stored_vote(disk: &FakeDisk, shard: u64) -> Option<Vote> {
    let path = format!("{}/{}", crate::world::directory(shard), vote::VOTE_FILE_NAME);
    vote::parse(&disk.durable_bytes(&path)?, shard)
}
