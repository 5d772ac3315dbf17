//! The shared log, as the consensus library sees it: an index over the segments, and nothing stored twice.
//!
//! The library asks for entries for two reasons. To send them: then they are whole, from memory, or fetched by a
//! [`ColdRead`] off the turn. To hand committed ones back: then normal entries come as stubs without bodies (the
//! bodies are in the log already, and the library panics on an error), and membership entries come whole.

use std::{cell::RefCell, collections::BTreeMap};

use lockstep_storage::{EntriesError, Entry, EntryKind, Log};
use raft::{
    Error, GetEntriesContext, RaftState, Result, Storage, StorageError,
    eraftpb::{self, EntryType, HardState, Snapshot},
};

use super::{Membership, message};

/// Names one outstanding cold read of a group.
pub type ColdReadId = u64;

/// A learner this far behind catches up: it is sent the log from the segments, at whatever pace the host allows. One that is
/// nearer is sent what is new like everybody else.
pub const NEAR_ENTRIES: u64 = 100;

/// Entries a slow follower needs that are no longer in memory, or that a learner needs to catch up: to be read off the turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColdRead {
    /// To be repeated when the entries are handed back.
    pub id: ColdReadId,
    /// First index wanted.
    pub low: u64,
    /// One past the last index wanted.
    pub high: u64,
    /// Bytes wanted at most; at least one entry comes all the same.
    pub max_bytes: usize,
    /// For whom, if for nobody but a learner that catches up: such a read can wait.
    pub learner: Option<CatchingUp>,
}

/// A learner that catches up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CatchingUp {
    /// Its node.
    pub learner: u64,
    /// How much this replica has appended since it was opened, in bytes: what comes meanwhile has to be sent too.
    pub appended_bytes: u64,
}

/// What the library is built on: our log, and the state it starts from.
pub(super) struct LogStore {
    pub(super) log: Log,
    pub(super) start: HardState,
    pub(super) start_membership: Membership,
    /// Through this index all that vote and are sent entries have them: who is sent older ones is a learner, as a rule.
    pub(super) voters_have: u64,
    cold: RefCell<ColdReads>,
}

#[derive(Default)]
struct ColdReads {
    next_id: ColdReadId,
    asked: Vec<ColdRead>,
    waiting: BTreeMap<ColdReadId, WaitingRead>,
    fetched: Option<(u64, Vec<Entry>)>,
}

/// A read that is asked for and not done.
struct WaitingRead {
    low: u64,
    context: GetEntriesContext,
    /// It is for nobody but a learner, so that it may take long.
    is_for_learner: bool,
}

impl LogStore {
    pub(super) fn new(log: Log, start: HardState, start_membership: Membership) -> Self {
        Self { log, start, start_membership, voters_have: 0, cold: RefCell::default() }
    }

    /// Reads that came up since the last call. For whom they are is not known here: see [`LogStore::keep_cold_read`].
    pub(super) fn take_cold_reads(&mut self) -> Vec<ColdRead> {
        std::mem::take(&mut self.cold.get_mut().asked)
    }

    /// Notes for whom a read is; returns whether it is to be done. One for a learner is not, if it waits for the same already.
    pub(super) fn keep_cold_read(&mut self, read: &ColdRead) -> bool {
        let waiting = &mut self.cold.get_mut().waiting;
        let is_for_learner = read.learner.is_some();
        let repeats =
            is_for_learner && waiting.iter().any(|(id, waiting)| *id != read.id && waiting.low == read.low);
        if repeats {
            waiting.remove(&read.id);
        } else if let Some(waiting) = waiting.get_mut(&read.id) {
            waiting.is_for_learner = is_for_learner;
        }
        !repeats
    }

    /// Makes fetched entries readable for the one call that follows; `None` if nobody waits for them any more.
    pub(super) fn cold_read_done(
        &mut self,
        id: ColdReadId,
        entries: Vec<Entry>,
    ) -> Option<GetEntriesContext> {
        let cold = self.cold.get_mut();
        let WaitingRead { low, context, .. } = cold.waiting.remove(&id)?;
        cold.fetched = Some((low, entries));
        Some(context)
    }

    /// Forgets a read that failed, so that it can be asked again.
    pub(super) fn cold_read_failed(&mut self, id: ColdReadId) {
        self.cold.get_mut().waiting.remove(&id);
    }

    pub(super) fn drop_fetched(&mut self) {
        self.cold.get_mut().fetched = None;
    }

    /// Entries without bodies, but for membership entries: all the library looks at once they are committed.
    fn stubs(&self, low: u64, high: u64, max_bytes: u64) -> Vec<eraftpb::Entry> {
        let mut stubs = Vec::new();
        let mut bytes = 0;
        for index in low..high {
            let Some((term, kind)) = self.log.stub(index) else { break };
            let entry = match kind {
                EntryKind::Normal => {
                    eraftpb::Entry { entry_type: EntryType::EntryNormal, term, index, ..Default::default() }
                }
                _ => match self.log.membership_entry(index) {
                    Some(entry) => message::entry_to_raft(entry.clone()),
                    None => break,
                },
            };
            bytes += 24 + entry.data.len() as u64;
            if bytes > max_bytes && !stubs.is_empty() {
                break;
            }
            stubs.push(entry);
        }
        stubs
    }

    /// Serves a fetched range once, or notes that somebody has to fetch it. One read per range at a time: whoever else
    /// wants it asks again at its next heartbeat. But nobody waits for a read that is for a learner: it may take long.
    fn cold_entries(
        &self,
        low: u64,
        high: u64,
        max_bytes: usize,
        context: GetEntriesContext,
    ) -> Result<Vec<eraftpb::Entry>> {
        let mut cold = self.cold.borrow_mut();
        if let Some((_, entries)) =
            cold.fetched.take().filter(|(first, entries)| *first == low && !entries.is_empty())
        {
            let wanted = entries.into_iter().take_while(|entry| entry.index < high);
            return Ok(wanted.map(message::entry_to_raft).collect());
        }
        if cold.waiting.values().all(|waiting| waiting.low != low || waiting.is_for_learner) {
            let id = cold.next_id;
            cold.next_id += 1;
            cold.asked.push(ColdRead { id, low, high, max_bytes, learner: None });
            cold.waiting.insert(id, WaitingRead { low, context, is_for_learner: false });
        }
        Err(Error::Store(StorageError::LogTemporarilyUnavailable))
    }
}

impl Storage for LogStore {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(self.start.clone(), self.start_membership.to_raft()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        context: GetEntriesContext,
    ) -> Result<Vec<eraftpb::Entry>> {
        if low < self.log.first_index() {
            return Err(Error::Store(StorageError::Compacted));
        }
        let max_bytes = max_size.into().unwrap_or(u64::MAX);
        if !context.can_async() {
            return Ok(self.stubs(low, high, max_bytes));
        }
        let max_bytes = usize::try_from(max_bytes).unwrap_or(usize::MAX);
        if low <= self.voters_have && low + NEAR_ENTRIES <= self.log.last_index() {
            return self.cold_entries(low, high, max_bytes, context);
        }
        match self.log.entries(low, high, max_bytes) {
            Ok(entries) => Ok(entries.into_iter().map(message::entry_to_raft).collect()),
            Err(EntriesError::Compacted { .. }) => Err(Error::Store(StorageError::Compacted)),
            Err(EntriesError::OutOfRange { .. }) => Err(Error::Store(StorageError::Unavailable)),
            Err(EntriesError::NotCached { .. }) => self.cold_entries(low, high, max_bytes, context),
        }
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index + 1 < self.log.first_index() {
            return Err(Error::Store(StorageError::Compacted));
        }
        self.log.term(index).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.log.first_index())
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.log.last_index())
    }

    /// The oldest retained checkpoint: a few KiB, because the log is the data.
    /// A receiver that joined later than that is made a learner of it, or it would refuse it.
    fn snapshot(&self, request_index: u64, to: u64) -> Result<Snapshot> {
        let checkpoint = self.log.oldest_checkpoint();
        let unavailable = || Error::Store(StorageError::SnapshotTemporarilyUnavailable);
        if request_index > checkpoint.index {
            return Err(unavailable());
        }
        let membership =
            Membership::decode(&checkpoint.membership).ok().filter(|membership| !membership.partial);
        let mut membership = membership.ok_or_else(unavailable)?;
        if !membership.nodes().contains(&to) {
            membership.learners.push(to);
        }
        Ok(message::snapshot_to_raft(checkpoint.index, checkpoint.term, &membership, checkpoint.encode()))
    }
}
