//! What follows from the log, checked beside it: fences, log starts, and all that a shard keeps of what it has read.
//!
//! | rule | says |
//! |---|---|
//! | `equal-logs-equal-state` | two replicas with the same log have the same fence, producers, positions and leader time |
//! | `fence-held` | no batch is acknowledged behind a greater fence than its writer's |
//! | `log-start-committed` | no log starts behind what a committed entry allows |
//! | `position-once` | of the batches that come with a group's position, each goes further than the one before |
//! | `refused-when-committed` | a refusal speaks of no LSN that is not committed |

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use lockstep::shard::positions::PositionCommit;
use lockstep::shard::{AppendError, Command, Health, command};
use lockstep_storage::{Entry, EnvelopeKind};

use crate::invariants::{Checked, breach};
use crate::replica::Replica;

/// The observer of what is derived.
#[derive(Default)]
pub struct Derived {
    shards: BTreeMap<u64, ShardTruth>,
}

/// What the committed entries of one shard say.
#[derive(Default)]
struct ShardTruth {
    /// Through this index they were read.
    read_to: u64,
    /// Fencing epochs, and the LSN that came next when each was set.
    fences: Vec<(u64, u64)>,
    /// The greatest log start that was allowed.
    log_start: u64,
    /// How far each group has come, by what it reads.
    positions: BTreeMap<(Arc<str>, u64), u64>,
    /// What was derived from the log that ends with an (index, chain): who said so, and a hash of it.
    states: BTreeMap<(u64, u64), (u64, u64)>,
}

impl Derived {
    /// A replica took its turn.
    pub fn look(&mut self, node: u64, shard: u64, replica: &Replica) -> Checked {
        let Some(log) = replica.log() else { return Ok(()) };
        let truth = self.shards.entry(shard).or_default();
        for index in truth.read_to + 1..=log.commit() {
            truth.read(shard, entry_at(replica, index))?;
            truth.read_to = index;
        }
        if log.log_start() > truth.log_start.max(1) {
            return breach(
                "log-start-committed",
                format!(
                    "node {node} starts shard {shard} at {}; {} was allowed",
                    log.log_start(),
                    truth.log_start
                ),
            );
        }
        if !matches!(replica.view().health, Health::Ok | Health::Full) {
            return Ok(());
        }
        let mut hasher = DefaultHasher::new();
        replica.derived_state().hash(&mut hasher);
        let (end, state) = ((log.last_index(), log.last_chain()), hasher.finish());
        let (other, before) = *truth.states.entry(end).or_insert((node, state));
        if before != state {
            return breach(
                "equal-logs-equal-state",
                format!(
                    "nodes {other} and {node} made different things of the log of shard {shard} through {}",
                    end.0
                ),
            );
        }
        Ok(())
    }

    /// A writer of this fencing epoch is told that its batch is stored.
    pub fn acknowledged(&self, shard: u64, first_lsn: u64, epoch: Option<u64>) -> Checked {
        let (Some(truth), Some(epoch)) = (self.shards.get(&shard), epoch) else { return Ok(()) };
        match truth.fences.iter().find(|(from, fence)| *from <= first_lsn && *fence > epoch) {
            Some((from, fence)) => breach(
                "fence-held",
                format!(
                    "a writer of epoch {epoch} wrote LSN {first_lsn} of shard {shard}, fenced at {from} by {fence}"
                ),
            ),
            None => Ok(()),
        }
    }

    /// Somebody is told why nothing was stored.
    pub fn refused(&self, node: u64, shard: u64, error: &AppendError, replica: &Replica) -> Checked {
        let high_watermark = replica.view().high_watermark;
        match error {
            AppendError::ConditionFailed { next_lsn } if *next_lsn > high_watermark + 1 => breach(
                "refused-when-committed",
                format!(
                    "node {node} spoke of LSN {next_lsn} of shard {shard} at a high watermark of {high_watermark}"
                ),
            ),
            _ => Ok(()),
        }
    }
}

impl ShardTruth {
    fn read(&mut self, shard: u64, entry: Option<Entry>) -> Checked {
        let Some(entry) = entry else { return Ok(()) };
        let Ok(Some(envelope)) = entry.decode_envelope() else { return Ok(()) };
        if envelope.kind != EnvelopeKind::State {
            let section = entry.body.get(..envelope.state_length as usize).unwrap_or_default();
            return command::decode_position(section).map_or(Ok(()), |commit| self.follow(shard, commit));
        }
        match command::decode(&entry.body) {
            Some(Command::Fence { epoch }) => self.fences.push((envelope.first_lsn, epoch)),
            Some(Command::Trim { log_start }) => self.log_start = self.log_start.max(log_start),
            _ => {}
        }
        Ok(())
    }

    fn follow(&mut self, shard: u64, commit: PositionCommit) -> Checked {
        let PositionCommit { group, source, next_lsn, .. } = commit;
        let before = self.positions.insert((Arc::clone(&group), source), next_lsn).unwrap_or(0);
        if next_lsn > before {
            return Ok(());
        }
        breach(
            "position-once",
            format!(
                "in shard {shard} group {group} comes to {next_lsn} with a batch, and was at {before} before"
            ),
        )
    }
}

/// A committed entry: in memory, or on disk.
fn entry_at(replica: &Replica, index: u64) -> Option<Entry> {
    let cached = replica.log()?.entries(index, index + 1, usize::MAX).ok();
    let stored = || replica.reader()?.0.read_entries(index, index + 1, usize::MAX).ok();
    cached.filter(|entries| !entries.is_empty()).or_else(stored)?.pop()
}
