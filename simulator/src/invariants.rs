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

use std::collections::BTreeMap;

use lockstep::raft::Membership;
use lockstep_protocol::batch::BatchHeader;
use lockstep_protocol::peer::RaftMessage;
use lockstep_storage::io::FakeDisk;
use lockstep_storage::{CachedRead, Vote, vote};

use crate::derived::Derived;
use crate::replica::Replica;

/// raft-rs's numbers of the messages that speak of what is on disk.
mod kind {
    pub const APPEND: u8 = 3;
    pub const APPEND_RESPONSE: u8 = 4;
    pub const REQUEST_VOTE: u8 = 5;
    pub const REQUEST_VOTE_RESPONSE: u8 = 6;
    pub const HEARTBEAT: u8 = 8;
}

/// A rule that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its name, which stays.
    pub rule: &'static str,
    /// What was seen, for people.
    pub message: String,
}

/// Whether a rule holds.
pub type Checked = Result<(), Violation>;

/// A rule that does not.
pub(crate) fn breach(rule: &'static str, message: String) -> Checked {
    Err(Violation { rule, message })
}

/// What is known of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    term: u64,
    chain: Option<u64>,
}

/// A committed batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Batch {
    last_lsn: u64,
    crc: u32,
}

/// What is known of one shard.
#[derive(Default)]
struct ShardTruth {
    leaders: BTreeMap<u64, u64>,
    committed: BTreeMap<u64, Mark>,
    committed_index: u64,
    memberships: BTreeMap<u64, Membership>,
    batches: BTreeMap<u64, Batch>,
}

/// What is known of one replica, across its processes.
#[derive(Clone, Copy, Default)]
struct ReplicaTruth {
    commit: u64,
    /// The index before its first entry: a checkpoint of what is committed stands for all up to there.
    base: u64,
    high_watermark: u64,
    /// The last entry its own disk is known to hold, and its mark.
    durable: u64,
    durable_mark: Option<Mark>,
    /// Its vote as its disk has it.
    vote: Option<Vote>,
    /// It is faulty, and so much was committed when that was told.
    faulty: Option<u64>,
    /// The membership entry in force.
    membership_index: u64,
    /// Whether it has a vote by the membership in force, or had by the one before its last turn.
    votes: bool,
    voted: bool,
}

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
        self.shards
            .get(&shard)
            .and_then(|truth| truth.batches.values().next_back())
            .map_or(0, |batch| batch.last_lsn)
    }

    /// A process begins: nobody has been shown anything by it.
    pub fn process_begins(&mut self, node: u64, shard: u64) {
        self.replicas.entry((node, shard)).or_default().high_watermark = 0;
    }

    /// A replica was opened: all it has is synced now.
    pub fn opened(&mut self, node: u64, shard: u64, replica: &Replica, disk: &FakeDisk) -> Checked {
        let Some(log) = replica.log() else { return Ok(()) };
        let (kept, then) = self.to_be_kept(node, shard);
        let before = self.replicas.get(&(node, shard)).copied().unwrap_or_default();
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
        let counts = |then: &Vote| before.faulty.is_none() || ![0, node].contains(&then.voted_for);
        if let Some(then) = before.vote.filter(counts)
            && !vote.is_some_and(|now| follows(now, then))
        {
            return breach(
                "recovery-keeps-vote",
                format!("node {node} had voted {then:?} in shard {shard}, and recovered {vote:?}"),
            );
        }
        let fresh = ReplicaTruth {
            durable: log.synced_index(),
            durable_mark: mark_at(replica, log.synced_index()),
            vote,
            high_watermark: before.high_watermark,
            ..ReplicaTruth::default()
        };
        self.replicas.insert((node, shard), fresh);
        self.look(node, shard, replica)
    }

    /// The last entry that must be in a log when it is opened, and its mark. Of what a faulty one had synced that is
    /// what was committed by then: the rest may have been replaced meanwhile.
    fn to_be_kept(&self, node: u64, shard: u64) -> (u64, Option<Mark>) {
        let known = self.replicas.get(&(node, shard)).copied().unwrap_or_default();
        let Some(committed) = known.faulty else { return (known.durable, known.durable_mark) };
        let kept = known.durable.min(committed);
        let mark = self.shards.get(&shard).and_then(|truth| truth.committed.get(&kept)).copied();
        // A log that ends in an older term may end in a suffix that lost an election.
        let held = known.durable_mark.zip(mark).is_some_and(|(last, mark)| last.term >= mark.term);
        if held { (kept, mark) } else { (0, None) }
    }

    /// A replica took its turn.
    pub fn look(&mut self, node: u64, shard: u64, replica: &Replica) -> Checked {
        let (Some(log), view) = (replica.log(), replica.view()) else { return Ok(()) };
        let truth = self.shards.entry(shard).or_default();
        let known = self.replicas.entry((node, shard)).or_default();
        known.base = log.first_index() - 1;
        let commit = log.commit();
        for index in known.commit.max(log.first_index().saturating_sub(1)) + 1..=commit {
            let Some(mark) = mark_at(replica, index) else { continue };
            match truth.committed.get_mut(&index) {
                Some(before) if !same(*before, mark) => {
                    return breach(
                        "committed-entries-agree",
                        format!(
                            "entry {index} of shard {shard} was committed as {before:?}; node {node} has {mark:?}"
                        ),
                    );
                }
                Some(before) => before.chain = before.chain.or(mark.chain),
                None => drop(truth.committed.insert(index, mark)),
            }
        }
        known.commit = known.commit.max(commit);
        truth.committed_index = truth.committed_index.max(commit);
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
        truth.compare_memberships(node, shard, known, replica)?;
        self.derived.look(node, shard, replica)
    }

    /// A replica says that it is faulty. Returns whether that is news.
    pub fn faulty(&mut self, node: u64, shard: u64) -> bool {
        let committed = self.committed_index(shard);
        let known = self.replicas.entry((node, shard)).or_default();
        let news = known.faulty.is_none();
        known.faulty.get_or_insert(committed);
        news
    }

    /// Whether it said so, and has not been opened since.
    pub fn is_faulty(&self, node: u64, shard: u64) -> bool {
        self.replicas.get(&(node, shard)).is_some_and(|known| known.faulty.is_some())
    }

    /// Through this index a shard was ever committed.
    pub fn committed_index(&self, shard: u64) -> u64 {
        self.shards.get(&shard).map_or(0, |truth| truth.committed_index)
    }

    /// A replica's files are gone, as they should be. What it has promised with its vote binds the next one on its node.
    pub fn dropped(&mut self, node: u64, shard: u64) {
        let known = self.replicas.entry((node, shard)).or_default();
        *known = ReplicaTruth { vote: known.vote, ..ReplicaTruth::default() };
    }

    /// A node began to lead.
    pub fn leads(&mut self, node: u64, shard: u64, term: u64) -> Checked {
        match self.shards.entry(shard).or_default().leaders.insert(term, node) {
            Some(other) if other != node => breach(
                "one-leader-per-term",
                format!("nodes {other} and {node} both lead shard {shard} in term {term}"),
            ),
            _ => Ok(()),
        }
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
            known.is_some_and(|known| known.durable >= index) && agrees
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
        // A vote file that the plan has damaged since says nothing of what was written.
        let known = self.replicas.entry((node, shard)).or_default();
        known.vote = stored_vote(disk, shard).or(known.vote);
        Ok(())
    }

    /// A replica has been told that its group is done.
    pub fn synced(&mut self, node: u64, shard: u64, replica: &Replica) {
        let known = self.replicas.entry((node, shard)).or_default();
        let Some(log) = replica.log() else { return };
        known.durable = log.synced_index();
        known.durable_mark = mark_at(replica, known.durable);
    }

    /// A truncation takes back what was synced; what left before it spoke the truth.
    pub fn rolled_back(&mut self, node: u64, shard: u64, replica: &Replica) {
        let known = self.replicas.entry((node, shard)).or_default();
        let Some(log) = replica.log() else { return };
        if log.synced_index() < known.durable {
            known.durable = log.synced_index();
            known.durable_mark = mark_at(replica, known.durable);
        }
    }

    /// A message leaves a node.
    pub fn sends(&self, shard: u64, message: &RaftMessage, marked: bool) -> Checked {
        let node = message.from;
        if marked {
            return breach(
                "faulty-is-silent",
                format!(
                    "node {node}, marked as faulty, sent a message of kind {} of shard {shard}",
                    message.kind
                ),
            );
        }
        let Some(known) = self.replicas.get(&(node, shard)) else { return Ok(()) };
        let speaks_of_term = match message.kind {
            kind::REQUEST_VOTE | kind::APPEND | kind::HEARTBEAT => true,
            kind::REQUEST_VOTE_RESPONSE | kind::APPEND_RESPONSE => !message.reject,
            _ => false,
        };
        let candidate = match message.kind {
            kind::REQUEST_VOTE => Some(node),
            kind::REQUEST_VOTE_RESPONSE => Some(message.to),
            _ => None,
        };
        if message.kind == kind::REQUEST_VOTE && !known.votes && !known.voted {
            return breach(
                "only-voters-lead",
                format!("node {node} asks for votes in shard {shard} and has none itself"),
            );
        }
        let vote = known.vote.unwrap_or_default();
        let voted = candidate.is_none_or(|candidate| vote.term > message.term || vote.voted_for == candidate);
        if speaks_of_term && (vote.term < message.term || !voted) {
            return breach(
                "vote-durable-before-message",
                format!(
                    "node {node} sent a message of kind {} in term {}; its disk has {vote:?}",
                    message.kind, message.term
                ),
            );
        }
        // An acknowledgement may be overtaken by a snapshot that replaces the entry it speaks of.
        if message.kind == kind::APPEND_RESPONSE
            && !message.reject
            && message.index > known.durable.max(known.base)
        {
            return breach(
                "acknowledged-entry-durable",
                format!(
                    "node {node} acknowledged entry {} of shard {shard}, synced through {}",
                    message.index, known.durable
                ),
            );
        }
        Ok(())
    }
}

impl ShardTruth {
    fn compare_memberships(
        &mut self,
        node: u64,
        shard: u64,
        known: &mut ReplicaTruth,
        replica: &Replica,
    ) -> Checked {
        let Some((index, members)) = replica.membership() else { return Ok(()) };
        known.voted = known.votes;
        known.votes = members.votes(node);
        if index == known.membership_index && index > 0 {
            return Ok(());
        }
        known.membership_index = index;
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
    fn compare_served(&mut self, node: u64, shard: u64, replica: &Replica, from: u64, up_to: u64) -> Checked {
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

fn mark_at(replica: &Replica, index: u64) -> Option<Mark> {
    let log = replica.log()?;
    Some(Mark { term: log.term(index)?, chain: log.chain(index) })
}

/// Whether two marks can be of one entry: what memory no longer knows says nothing.
fn same(one: Mark, other: Mark) -> bool {
    one.term == other.term && one.chain.zip(other.chain).is_none_or(|(one, other)| one == other)
}

/// Whether one vote can have come after another.
fn follows(now: Vote, then: Vote) -> bool {
    now.term > then.term || now.term == then.term && (then.voted_for == 0 || now.voted_for == then.voted_for)
}

fn stored_vote(disk: &FakeDisk, shard: u64) -> Option<Vote> {
    let path = format!("{}/{}", crate::world::directory(shard), vote::VOTE_FILE_NAME);
    vote::parse(&disk.durable_bytes(&path)?, shard)
}
