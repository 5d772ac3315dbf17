//! What an all-seeing observer checks after each event: design invariants, by name.
//!
//! What holds: nothing here changes what happens; a breach is reported once, as the run's violation, and ends it.
//!
//! | rule | says |
//! |---|---|
//! | `one-leader-per-term` | no two nodes lead a shard in the same term |
//! | `committed-entries-agree` | a committed index has one term and one chain, for ever and everywhere |
//! | `served-records-agree` | what lies at or below a high watermark is dense, and the same batch on every replica |
//! | `high-watermark-forward` | the high watermark never goes back while a process runs |
//! | `commit-durable-on-majority` | what a leader calls committed is synced on a majority of its voters, of both halves in a joint configuration |
//! | `memberships-agree` | one membership entry makes one membership, on every replica |
//! | `only-voters-lead` | nobody leads, or asks for votes, who has no vote |
//! | `acknowledged-when-committed` | nobody is told of a batch before it is committed |
//! | `vote-durable-before-message` | a term and a vote are on disk before a message speaks of them |
//! | `acknowledged-entry-durable` | a follower acknowledges no entry that it has not synced |
//! | `group-synced` | a write group that reports success leaves nothing of its shard unsynced |
//! | `recovery-keeps-synced` | what was synced is there again after a crash; after a repair, what of it was committed |
//! | `recovery-keeps-vote` | no crash takes back a term or a vote, and no repair a vote for another |
//! | `faulty-is-silent` | a replica that is marked as faulty says nothing to its peers' consensus |
//!
//! `shard` and `replica` hold what is known, `messages` judges what leaves a node by it.

mod mark;
mod messages;
mod replica;
mod shard;
mod violation;

use std::collections::BTreeMap;

use lockstep::raft::Membership;
use lockstep_protocol::peer::RaftMessage;
use lockstep_storage::io::FakeDisk;
pub(crate) use violation::breach;
pub use violation::{Checked, Violation};

use self::replica::ReplicaTruth;
use self::shard::ShardTruth;
use crate::derived::Derived;
use crate::replica::Replica;

/// The observer.
#[derive(Default)]
pub struct Invariants {
    shards: BTreeMap<u64, ShardTruth>,
    replicas: BTreeMap<(u64, u64), ReplicaTruth>,
    /// What follows from the log.
    pub derived: Derived,
}

impl Invariants {
    /// How many entries and records were committed, of all shards.
    pub fn committed(&self) -> (u64, u64) {
        let shards =
            self.shards.iter().map(|(shard, truth)| (truth.committed_index, self.committed_lsn(*shard)));
        shards.fold((0, 0), |(entries, records), (index, lsn)| (entries + index, records + lsn))
    }

    /// The last LSN of a shard that was ever committed.
    pub fn committed_lsn(&self, shard: u64) -> u64 {
        self.shards.get(&shard).map_or(0, ShardTruth::committed_lsn)
    }

    /// A process begins: nobody has been shown anything by it.
    pub fn process_begins(&mut self, node: u64, shard: u64) {
        self.replica(node, shard).high_watermark = 0;
    }

    /// A replica was opened: all it has is synced now.
    pub fn opened(&mut self, node: u64, shard: u64, replica: &Replica, disk: &FakeDisk) -> Checked {
        if replica.log().is_none() {
            return Ok(());
        }
        let known = self.replicas.entry((node, shard)).or_default();
        known.opened(node, shard, replica, disk, self.shards.get(&shard))?;
        self.look(node, shard, replica)
    }

    /// A replica took its turn.
    pub fn look(&mut self, node: u64, shard: u64, replica: &Replica) -> Checked {
        let (Some(log), view) = (replica.log(), replica.view()) else { return Ok(()) };
        let truth = self.shards.entry(shard).or_default();
        let known = self.replicas.entry((node, shard)).or_default();
        known.base = log.first_index() - 1;
        truth.compare_committed(node, shard, replica, log, known.commit)?;
        known.commit = known.commit.max(log.commit());
        if view.high_watermark < known.high_watermark {
            return breach(
                "high-watermark-forward",
                format!(
                    "node {node} showed {} of shard {shard}, now {}",
                    known.high_watermark, view.high_watermark
                ),
            );
        }
        let from = known.high_watermark.max(view.log_start.saturating_sub(1)) + 1;
        known.high_watermark = view.high_watermark;
        truth.compare_served(node, shard, replica, from, view.high_watermark)?;
        if let Some((index, members)) = replica.membership()
            && known.is_member(node, index, members)
        {
            truth.compare_members(node, shard, index, members)?;
        }
        self.derived.look(node, shard, replica)
    }

    /// A replica says that it is faulty. Returns whether that is news.
    pub fn faulty(&mut self, node: u64, shard: u64) -> bool {
        let committed = self.committed_index(shard);
        let known = self.replica(node, shard);
        let news = known.faulty.is_none();
        known.faulty.get_or_insert(committed);
        news
    }

    /// Whether it said so, and has not been opened since.
    pub fn is_faulty(&self, node: u64, shard: u64) -> bool {
        self.replicas.get(&(node, shard)).is_some_and(|known| known.faulty.is_some())
    }

    /// The memberships that a shard has had, by the index of the entry that made each; nothing of one never seen.
    pub fn memberships(&self, shard: u64) -> Option<&BTreeMap<u64, Membership>> {
        self.shards.get(&shard).map(|truth| &truth.memberships)
    }

    /// Through this index a shard was ever committed.
    pub fn committed_index(&self, shard: u64) -> u64 {
        self.shards.get(&shard).map_or(0, |truth| truth.committed_index)
    }

    /// A replica's files are gone, as they should be. What it has promised with its vote binds the next one on its node.
    pub fn dropped(&mut self, node: u64, shard: u64) {
        self.replica(node, shard).dropped();
    }

    /// A node began to lead.
    pub fn leads(&mut self, node: u64, shard: u64, term: u64) -> Checked {
        self.shards.entry(shard).or_default().leads(node, shard, term)
    }

    /// A leader's committed index must be durable on a majority of its voters: of those that were in force before its
    /// turn, or of those since. `term_of` looks an entry's term up in the log of a node, running or not.
    pub fn commit_is_durable(
        &self,
        shard: u64,
        leader: &Replica,
        before: &Membership,
        term_of: impl Fn(u64, u64) -> Option<u64>,
    ) -> Checked {
        let (Some(log), Some((_, now))) = (leader.log(), leader.membership()) else { return Ok(()) };
        let (index, term) = (log.commit(), log.term(log.commit()));
        // A log that is not open at the moment says nothing of its terms, but its disk holds what was synced.
        let holds = |node: u64| {
            let known = self.replicas.get(&(node, shard));
            let agrees = term_of(node, index).is_none_or(|held| Some(held) == term);
            known.is_some_and(|known| known.durable >= index && agrees || known.former_held(index, term))
        };
        if index > 0 && !before.is_quorum(holds) && !now.is_quorum(holds) {
            let holders: Vec<u64> = now.nodes().into_iter().filter(|node| holds(*node)).collect();
            return breach(
                "commit-durable-on-majority",
                format!(
                    "entry {index} of shard {shard} is committed and durable on {holders:?} alone, of {now:?}"
                ),
            );
        }
        Ok(())
    }

    /// A node leads, its turn done, and these are the members.
    pub fn leads_members(&self, node: u64, shard: u64, members: &Membership) -> Checked {
        match members.votes(node) {
            true => Ok(()),
            false => breach("only-voters-lead", format!("node {node} leads shard {shard} of {members:?}")),
        }
    }

    /// Somebody is told that a batch is committed.
    pub fn acknowledged(&self, node: u64, shard: u64, last_lsn: u64, replica: &Replica) -> Checked {
        let high_watermark = replica.view().high_watermark;
        if last_lsn > high_watermark {
            return breach(
                "acknowledged-when-committed",
                format!(
                    "node {node} acknowledged LSN {last_lsn} of shard {shard} at a high watermark of {high_watermark}"
                ),
            );
        }
        Ok(())
    }

    /// A group of a replica is done.
    pub fn group_done(&mut self, node: u64, shard: u64, disk: &FakeDisk) -> Checked {
        let unsynced = disk.unsynced(&crate::world::directory(shard));
        if !unsynced.is_empty() {
            return breach(
                "group-synced",
                format!("node {node} calls a group synced that is not: {unsynced:?}"),
            );
        }
        self.replica(node, shard).wrote(disk, shard);
        Ok(())
    }

    /// A replica has been told that its group is done.
    pub fn synced(&mut self, node: u64, shard: u64, replica: &Replica) {
        self.replica(node, shard).synced(replica);
    }

    /// A truncation takes back what was synced; what left before it spoke the truth.
    pub fn rolled_back(&mut self, node: u64, shard: u64, replica: &Replica) {
        self.replica(node, shard).rolled_back(replica);
    }

    /// A message leaves a node.
    pub fn sends(&self, shard: u64, message: &RaftMessage, marked: bool) -> Checked {
        messages::may_leave(shard, message, marked, self.replicas.get(&(message.from, shard)))
    }

    fn replica(&mut self, node: u64, shard: u64) -> &mut ReplicaTruth {
        self.replicas.entry((node, shard)).or_default()
    }
}
