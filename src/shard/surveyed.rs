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
    /// The LSN from which on the log keeps records; `None` if an entry is missing that may have moved it.
    pub log_start: Option<u64>,
}

impl Surveyed {
    /// From the newest checkpoint that is intact, and the intact entries behind it, in order.
    pub fn of(newest: &Checkpoint, entries: impl IntoIterator<Item = Entry>) -> Self {
        let Membership { voters, voters_outgoing, .. } =
            Membership::decode(&newest.membership).unwrap_or_default();
        let mut voters: BTreeSet<u64> = voters.into_iter().chain(voters_outgoing).collect();
        let mut state = ShardState::from_checkpoint(newest);
        if let Some(state) = &state {
            voters.extend(state.unapplied_membership().iter().flat_map(added_by));
        }
        for entry in entries {
            voters.extend(added_by(&entry));
            state = state.and_then(|mut state| {
                state.apply(&entry).ok()?;
                state.commit(entry.index);
                Some(state)
            });
        }
        Self { voters, log_start: state.map(|state| state.log_start()) }
    }
}
