//! What the history says of each batch, all requests for it taken together.
//!
//! What holds: there is one entry for each (client, number) that anyone asked for, found without a search where a
//! client's numbers are dense.

use std::collections::HashMap;

use crate::{Append, AppendOutcome, History, Operation, Rule, Verdict};

/// Where a batch's entry is: the client's slot, and the place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchKey {
    pub(super) slot: u32,
    place: u32,
}

/// One batch.
#[derive(Debug, Clone)]
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) records: u32,
    pub(super) in_order: bool,
    pub(super) expected_next_lsn: Option<u64>,
    /// When it was first asked for.
    pub(super) invoked: u64,
    /// When it was first acknowledged; `u64::MAX` for never.
    pub(super) acknowledged_at: u64,
    /// Every request for it certainly failed.
    pub(super) certainly_failed: bool,
    /// The first request for it.
    pub(super) operation: usize,
    /// The LSN under which its first record stands, or would if it were whole.
    pub(super) placed: Option<u64>,
    /// It does not stand whole, and that was reported.
    pub(super) torn: bool,
}

/// All batches of a history. The map is only ever asked, never walked: its order cannot be seen.
#[derive(Debug, Default)]
pub(super) struct Batches {
    slots: HashMap<u64, u32>,
    by_client: Vec<Vec<Batch>>,
}

impl Batches {
    pub(super) fn collect(history: &History, verdict: &mut Verdict) -> Self {
        let mut batches = Self::default();
        for (place, operation) in history.operations.iter().enumerate() {
            if let Some((invoked, completed)) = times(operation)
                && completed < invoked
            {
                verdict.violated(Rule::HistoryConsistent, None, [place], || {
                    format!("operation {place} completes at {completed}, before it was invoked at {invoked}")
                });
            }
            if let Operation::Append(append) = operation {
                batches.slot(append.client).push(Batch::of(append, place));
            }
        }
        for of_client in &mut batches.by_client {
            of_client.sort_by_key(|batch| batch.number);
            of_client.dedup_by(|later, kept| kept.number == later.number && kept.merge(later, verdict));
        }
        batches
    }

    fn slot(&mut self, client: u64) -> &mut Vec<Batch> {
        let next = self.by_client.len() as u32;
        let slot = *self.slots.entry(client).or_insert(next);
        if slot == next {
            self.by_client.push(Vec::new());
        }
        &mut self.by_client[slot as usize]
    }

    pub(super) fn find(&self, client: u64, number: u64) -> Option<BatchKey> {
        let slot = *self.slots.get(&client)?;
        let of_client = &self.by_client[slot as usize];
        let guess = usize::try_from(number.checked_sub(1)?).ok()?;
        let place = match of_client.get(guess) {
            Some(batch) if batch.number == number => guess,
            _ => of_client.binary_search_by_key(&number, |batch| batch.number).ok()?,
        };
        Some(BatchKey { slot, place: place as u32 })
    }

    pub(super) fn get(&self, key: BatchKey) -> &Batch {
        &self.by_client[key.slot as usize][key.place as usize]
    }

    pub(super) fn get_mut(&mut self, key: BatchKey) -> &mut Batch {
        &mut self.by_client[key.slot as usize][key.place as usize]
    }

    pub(super) fn clients(&self) -> u64 {
        self.by_client.len() as u64
    }

    pub(super) fn unknown_in_log(&self) -> u64 {
        let unknown = |batch: &&Batch| batch.placed.is_some() && batch.acknowledged_at == u64::MAX;
        self.by_client.iter().flatten().filter(unknown).count() as u64
    }
}

impl Batch {
    fn of(append: &Append, operation: usize) -> Self {
        let acknowledged = matches!(append.outcome, AppendOutcome::Acknowledged { .. });
        Self {
            number: append.number,
            records: append.records,
            in_order: append.in_order,
            expected_next_lsn: append.expected_next_lsn,
            invoked: append.invoked,
            acknowledged_at: if acknowledged { append.completed } else { u64::MAX },
            certainly_failed: append.outcome == AppendOutcome::CertainlyFailed,
            operation,
            placed: None,
            torn: false,
        }
    }

    /// Adds what another request for the same batch says. Always true: the other entry is done with.
    fn merge(&mut self, other: &Self, verdict: &mut Verdict) -> bool {
        let (ours, theirs) = (self.operation, other.operation);
        if (self.records, self.expected_next_lsn) != (other.records, other.expected_next_lsn) {
            verdict.violated(Rule::HistoryConsistent, None, [ours, theirs], || {
                format!(
                    "operations {ours} and {theirs} ask for the same batch, one with {} records and expecting {:?}, \
                     the other with {} records and expecting {:?}",
                    self.records, self.expected_next_lsn, other.records, other.expected_next_lsn
                )
            });
        }
        self.in_order &= other.in_order;
        self.invoked = self.invoked.min(other.invoked);
        self.acknowledged_at = self.acknowledged_at.min(other.acknowledged_at);
        self.certainly_failed &= other.certainly_failed;
        true
    }
}

fn times(operation: &Operation) -> Option<(u64, u64)> {
    match operation {
        Operation::Append(append) if append.outcome == AppendOutcome::Unknown => None,
        Operation::Append(append) => Some((append.invoked, append.completed)),
        Operation::Read(read) => Some((read.invoked, read.completed)),
        Operation::Tail(tail) => Some((tail.invoked, tail.completed)),
        Operation::Trim(_) | Operation::Restart(_) => None,
    }
}
