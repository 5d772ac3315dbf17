//! A log under repair: brought, outside of consensus, to where a confirmed leader proves that it must be.
//!
//! What holds here:
//! - Only committed entries are taken, each continuing the chain of the one before.
//! - Nothing of it counts as this replica's copy until [`Rebuild::finish`] returned: it is all synced then.
//! - While it runs the replica stays marked as faulty, so that no restart takes it for whole.

use std::sync::Arc;

use lockstep_storage::{Checkpoint, Entry, Log, Vote, io::Disk};

use super::{OpenError, ShardOptions, open::recover, state::ShardState};
use crate::{raft::Membership, random::Random};

/// A log under repair. Blocking: it lives on a disk thread.
pub struct Rebuild {
    log: Log,
    state: ShardState,
    membership: Membership,
    membership_index: u64,
    random: Random,
}

/// Why a log under repair did not take something. It is dropped then, and the repair begins anew.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// What is there cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// An entry, or the disk, refused.
    #[error("the log under repair: {0}")]
    Log(String),
}

impl RebuildError {
    fn of(error: impl std::fmt::Display) -> Self {
        Self::Log(error.to_string())
    }
}

impl Rebuild {
    /// Recovers the intact part of a log.
    ///
    /// # Errors
    /// [`RebuildError::Open`].
    pub fn open(disk: Arc<dyn Disk>, options: &ShardOptions, random: Random) -> Result<Self, RebuildError> {
        let mut options = options.clone();
        options.log.trust_seals = false;
        let (recovered, mut state) = recover(disk, &options)?;
        let membership = Membership::decode(&recovered.base.membership).map_err(RebuildError::of)?;
        let commit = recovered.vote.commit.clamp(recovered.base.index, recovered.log.last_index());
        state.commit(commit);
        let membership_index = recovered.base.membership_index;
        let mut log = recovered.log;
        log.set_commit(commit);
        Ok(Self { log, state, membership, membership_index, random })
    }

    /// The last index there is.
    pub fn last_index(&self) -> u64 {
        self.log.last_index()
    }

    /// Through this index it is known to be committed, and equal to every other replica's.
    pub fn commit(&self) -> u64 {
        self.log.commit()
    }

    /// The chain value through an index at or above [`Rebuild::commit`].
    pub fn chain(&self, index: u64) -> Option<u64> {
        self.log.chain(index)
    }

    /// Takes committed entries in place of what stands from the first of them on, and syncs them. What is replaced
    /// was never committed.
    ///
    /// # Errors
    /// [`RebuildError::Log`]; the log is then to be dropped.
    pub fn take(&mut self, entries: Vec<Entry>) -> Result<(), RebuildError> {
        let Some(first) = entries.first() else { return Ok(()) };
        if first.index <= self.log.last_index() {
            self.log.truncate(first.index).map_err(RebuildError::of)?;
            self.state.roll_back(first.index);
        }
        for entry in entries {
            entry.verify().map_err(RebuildError::of)?;
            if self.log.needs_roll(entry.envelope.len() + entry.body.len()) {
                self.roll()?;
            }
            self.state.apply(&entry).map_err(RebuildError::of)?;
            self.log.append(entry).map_err(RebuildError::of)?;
        }
        self.log.set_commit(self.log.last_index());
        self.state.commit(self.log.last_index());
        self.write()
    }

    /// Ends the repair: the commit index beside term and vote, and a seal. All of it is durable when this returns.
    ///
    /// # Errors
    /// [`RebuildError::Log`].
    pub fn finish(mut self) -> Result<(), RebuildError> {
        self.log.set_vote(Vote { commit: self.log.commit(), ..self.log.vote() });
        self.write()?;
        self.log.seal();
        self.write()
    }

    /// Membership entries stay unapplied here, so a checkpoint made meanwhile says that it is partial.
    fn roll(&mut self) -> Result<(), RebuildError> {
        let partial = !self.state.unapplied_membership().is_empty();
        let state =
            self.state.roll_state(&Membership { partial, ..self.membership.clone() }, self.membership_index);
        let nonce = self.random.nonce();
        self.log.roll(state, nonce).map_err(RebuildError::of)
    }

    fn write(&mut self) -> Result<(), RebuildError> {
        while let Some(group) = self.log.take_group() {
            self.log.group_done(group.run()).map_err(RebuildError::of)?;
        }
        Ok(())
    }
}

/// The checkpoint that stands behind `entries`, which follow `before` without a gap: for a segment whose header is
/// lost. `chain` is the chain value through the last of them. `None` if they do not follow, or do not read.
pub fn checkpoint_at(
    before: &Checkpoint,
    entries: impl IntoIterator<Item = Entry>,
    chain: u64,
) -> Option<Checkpoint> {
    let mut state = ShardState::from_checkpoint(before)?;
    let membership = Membership::decode(&before.membership).ok()?;
    let (mut index, mut term) = (before.index, before.term);
    for entry in entries {
        state.apply(&entry).ok()?;
        (index, term) = (entry.index, entry.term);
    }
    let partial = membership.partial || !state.unapplied_membership().is_empty();
    let rolled = state.roll_state(&Membership { partial, ..membership }, before.membership_index);
    Some(Checkpoint {
        index,
        term,
        last_lsn: state.last_lsn(),
        chain,
        commit: before.commit,
        log_start: rolled.log_start,
        leader_time_ms: rolled.leader_time_ms,
        membership_index: rolled.membership_index,
        membership: rolled.membership,
        state: rolled.state,
    })
}
