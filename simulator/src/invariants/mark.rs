//! What tells one entry from another under the same index.

use crate::replica::Replica;

/// What is known of one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) term: u64,
    pub(super) chain: Option<u64>,
}

/// What a replica has at an index; nothing if its log is not open, or does not hold it.
pub(super) fn mark_at(replica: &Replica, index: u64) -> Option<Mark> {
    let log = replica.log()?;
    Some(Mark { term: log.term(index)?, chain: log.chain(index) })
}

/// Whether two marks can be of one entry: what memory no longer knows says nothing.
pub(super) fn same(one: Mark, other: Mark) -> bool {
    one.term == other.term && one.chain.zip(other.chain).is_none_or(|(one, other)| one == other)
}
