//! What the intact part of a damaged log says of its shard, while no replica runs that could be asked.

use std::collections::BTreeSet;

use lockstep_storage::{Checkpoint, Entry};

use super::state::ShardState;
use crate::raft::{Membership, added_by};

/// What a damaged log says of its shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surveyed {
    /// Who votes, or is about to; perhaps not all of them, and some that do not any more.
    pub voters: BTreeSet<u64>,
    /// The LSN from which on the log keeps records, or an earlier one; `None` if an entry is missing that may have moved it.
    pub log_start: Option<u64>,
}

impl Surveyed {
    /// From a checkpoint that is committed, as far as there is one, and the intact entries behind it, in order, of which
    /// those through `commit` are known to be committed. What is not may have trimmed the log in vain.
    pub fn of(base: &Checkpoint, entries: impl IntoIterator<Item = Entry>, commit: u64) -> Self {
        let Membership { voters, voters_outgoing, .. } =
            Membership::decode(&base.membership).unwrap_or_default();
        let mut voters: BTreeSet<u64> = voters.into_iter().chain(voters_outgoing).collect();
        let mut state = ShardState::from_checkpoint(base);
        if let Some(state) = &state {
            voters.extend(state.unapplied_membership().iter().flat_map(added_by));
        }
        for entry in entries {
            voters.extend(added_by(&entry));
            if entry.index <= commit {
                state = state.and_then(|mut state| state.apply(&entry).ok().map(|()| state));
            }
        }
        let log_start = match state {
            _ if base.index > commit => Some(FIRST_LSN),
            Some(state) if state.last_index() == commit => Some(state.log_start()),
            _ => None,
        };
        Self { voters, log_start }
    }
}

/// Where a log starts that was never trimmed.
const FIRST_LSN: u64 = 1;
