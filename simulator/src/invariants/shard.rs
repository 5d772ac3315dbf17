//! What is known of one shard, whoever said it: its leaders, what was committed, what was shown.

use std::collections::BTreeMap;

use lockstep::raft::Membership;
use lockstep_protocol::batch::BatchHeader;
use lockstep_storage::{CachedRead, Log};

use super::mark::{Mark, mark_at, same};
use super::violation::{Checked, breach};
use crate::replica::Replica;

/// A committed batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    last_lsn: u64,
    crc: u32,
}

/// What is known of one shard.
#[derive(Default)]
pub(super) struct ShardTruth {
    leaders: BTreeMap<u64, u64>,
    committed: BTreeMap<u64, Mark>,
    /// Through this index entries were ever committed.
    pub(super) committed_index: u64,
    pub(super) memberships: BTreeMap<u64, Membership>,
    batches: BTreeMap<u64, Batch>,
}

impl ShardTruth {
    /// The last LSN that was ever shown.
    pub(super) fn committed_lsn(&self) -> u64 {
        self.batches.values().next_back().map_or(0, |batch| batch.last_lsn)
    }

    /// The mark of a committed entry, if anybody had it in memory when it was.
    pub(super) fn committed_mark(&self, index: u64) -> Option<Mark> {
        self.committed.get(&index).copied()
    }

    /// A node leads in a term.
    pub(super) fn leads(&mut self, node: u64, shard: u64, term: u64) -> Checked {
        match self.leaders.insert(term, node) {
            Some(other) if other != node => breach(
                "one-leader-per-term",
                format!("nodes {other} and {node} both lead shard {shard} in term {term}"),
            ),
            _ => Ok(()),
        }
    }

    /// Holds what a replica calls committed behind `from` against what others did.
    pub(super) fn compare_committed(
        &mut self,
        node: u64,
        shard: u64,
        replica: &Replica,
        log: &Log,
        from: u64,
    ) -> Checked {
        let commit = log.commit();
        for index in from.max(log.first_index().saturating_sub(1)) + 1..=commit {
            let Some(mark) = mark_at(replica, index) else { continue };
            match self.committed.get_mut(&index) {
                Some(before) if !same(*before, mark) => {
                    return breach(
                        "committed-entries-agree",
                        format!(
                            "entry {index} of shard {shard} was committed as {before:?}; node {node} has {mark:?}"
                        ),
                    );
                }
                Some(before) => before.chain = before.chain.or(mark.chain),
                None => drop(self.committed.insert(index, mark)),
            }
        }
        self.committed_index = self.committed_index.max(commit);
        Ok(())
    }

    /// Holds the members that an entry made on a node against what it made elsewhere.
    pub(super) fn compare_members(
        &mut self,
        node: u64,
        shard: u64,
        index: u64,
        members: &Membership,
    ) -> Checked {
        // Whoever got a snapshot of before its time was made a learner of it, or it would have refused it.
        if !members.learners.contains(&node) {
            self.memberships.entry(index).or_insert_with(|| members.clone());
        }
        let agreed = self.memberships.get(&index).map(|agreed| without_learner(agreed, node));
        if let Some(agreed) = agreed.filter(|agreed| *agreed != without_learner(members, node)) {
            return breach(
                "memberships-agree",
                format!("entry {index} of shard {shard} made {agreed:?}; on node {node} it made {members:?}"),
            );
        }
        Ok(())
    }

    /// Reads what became visible, as far as memory has it, and holds it against what others showed.
    pub(super) fn compare_served(
        &mut self,
        node: u64,
        shard: u64,
        replica: &Replica,
        from: u64,
        up_to: u64,
    ) -> Checked {
        let Some((reader, known)) = replica.reader() else { return Ok(()) };
        let (mut next, up_to) = (from, up_to.min(known));
        while next <= up_to {
            let CachedRead::Hit(batches) = reader.cached(next, usize::MAX, up_to) else {
                return Ok(());
            };
            for batch in batches {
                // A reader that comes to a replica late may begin inside a batch.
                let begins = batch.first_lsn == next || (next == from && batch.first_lsn < next);
                let crc = BatchHeader::parse(&batch.bytes).map_or(0, |header| header.crc);
                let shown = Batch { last_lsn: batch.last_lsn(), crc };
                let before = self.batches.insert(batch.first_lsn, shown);
                if !begins || before.is_some_and(|before| before != shown) {
                    return breach(
                        "served-records-agree",
                        format!(
                            "node {node} shows {shown:?} from LSN {} of shard {shard} on; {before:?} was shown, and {next} is next",
                            batch.first_lsn
                        ),
                    );
                }
                next = batch.last_lsn() + 1;
            }
        }
        Ok(())
    }
}

fn without_learner(members: &Membership, node: u64) -> Membership {
    let learners = members.learners.iter().copied().filter(|learner| *learner != node).collect();
    Membership { learners, ..members.clone() }
}
