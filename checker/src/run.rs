//! Stretches of records: what a read returned, and what a log holds, without a word per record.
//!
//! What holds: the records of one [`Run`] belong to one batch, and LSN and index rise together by one. A [`Records`]
//! list says for each of its records exactly what was pushed, in the order pushed.

use serde::{Deserialize, Serialize};

use crate::RecordId;

/// Some consecutive records of one batch under consecutive LSNs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The LSN of the first record.
    pub first_lsn: u64,
    /// Who wrote the batch.
    pub client: u64,
    /// The batch's number among its client's.
    pub number: u64,
    /// The first record's place in its batch.
    pub first_index: u32,
    /// How many records, at least one.
    pub records: u32,
}

impl Run {
    /// A run of one record.
    #[must_use]
    pub const fn of(lsn: u64, id: RecordId) -> Self {
        Self { first_lsn: lsn, client: id.client, number: id.number, first_index: id.index, records: 1 }
    }

    /// The LSN behind the last record's.
    #[must_use]
    pub const fn end_lsn(&self) -> u64 {
        self.first_lsn.saturating_add(self.records as u64)
    }

    /// The record under `lsn`, which must be one of the run's.
    #[must_use]
    pub const fn id_at(&self, lsn: u64) -> RecordId {
        if self.is_foreign() {
            return RecordId::FOREIGN;
        }
        let offset = lsn.wrapping_sub(self.first_lsn) as u32;
        RecordId::new(self.client, self.number, self.first_index.wrapping_add(offset))
    }

    /// Whether these are records that parsed as nobody's.
    #[must_use]
    pub const fn is_foreign(&self) -> bool {
        self.number == 0
    }

    /// The part with LSNs in `from..end`, if there is one.
    #[must_use]
    pub fn clipped(&self, from: u64, end: u64) -> Option<Self> {
        let first_lsn = self.first_lsn.max(from);
        let end = self.end_lsn().min(end);
        if first_lsn >= end {
            return None;
        }
        let first_index = self.id_at(first_lsn).index;
        Some(Self { first_lsn, first_index, records: (end - first_lsn) as u32, ..*self })
    }

    /// Whether `next` goes on where this ends, in the same batch.
    fn is_continued_by(&self, next: &Self) -> bool {
        let same_batch = (self.client, self.number) == (next.client, next.number) && !self.is_foreign();
        let next_index = self.first_index.checked_add(self.records);
        same_batch && self.end_lsn() == next.first_lsn && next_index == Some(next.first_index)
    }
}

/// Records with their LSNs, in the order they were seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "Vec<[u64; 5]>", try_from = "Vec<[u64; 5]>")]
pub struct Records {
    runs: Vec<Run>,
}

impl Records {
    /// Adds one record.
    pub fn push(&mut self, lsn: u64, id: RecordId) {
        self.push_run(Run::of(lsn, id));
    }

    /// Adds a run; it becomes one with the last where it goes on with it. An empty one is nothing.
    pub fn push_run(&mut self, run: Run) {
        match self.runs.last_mut() {
            _ if run.records == 0 => {}
            Some(last) if last.is_continued_by(&run) && last.records.checked_add(run.records).is_some() => {
                last.records += run.records;
            }
            _ => self.runs.push(run),
        }
    }

    /// The records as runs.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// How many records.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.runs.iter().map(|run| u64::from(run.records)).sum()
    }

    /// The LSN of the record seen last.
    #[must_use]
    pub fn last_lsn(&self) -> Option<u64> {
        self.runs.last().map(|run| run.end_lsn() - 1)
    }
}

impl FromIterator<(u64, RecordId)> for Records {
    fn from_iter<I: IntoIterator<Item = (u64, RecordId)>>(records: I) -> Self {
        let mut list = Self::default();
        for (lsn, id) in records {
            list.push(lsn, id);
        }
        list
    }
}

impl From<Records> for Vec<[u64; 5]> {
    fn from(records: Records) -> Self {
        let numbers =
            |run: &Run| [run.first_lsn, run.client, run.number, run.first_index.into(), run.records.into()];
        records.runs.iter().map(numbers).collect()
    }
}

impl TryFrom<Vec<[u64; 5]>> for Records {
    type Error = &'static str;

    fn try_from(runs: Vec<[u64; 5]>) -> Result<Self, Self::Error> {
        let mut records = Self::default();
        for [first_lsn, client, number, first_index, count] in runs {
            let small =
                |value: u64| u32::try_from(value).map_err(|_| "an index or count is beyond any batch");
            let (first_index, count) = (small(first_index)?, small(count)?);
            if first_lsn == 0 || count == 0 || first_lsn.checked_add(count.into()).is_none() {
                return Err("a run of records has no LSNs that a log can have");
            }
            first_index.checked_add(count).ok_or("a run of records goes beyond any batch")?;
            records.push_run(Run { first_lsn, client, number, first_index, records: count });
        }
        Ok(records)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_one_batch_become_one_run_and_others_do_not() {
        let seen = [(5, 1, 0), (6, 1, 1), (7, 2, 0), (9, 2, 1), (10, 2, 1)];
        let records: Records =
            seen.iter().map(|(lsn, number, index)| (*lsn, RecordId::new(4, *number, *index))).collect();
        let lengths: Vec<u32> = records.runs().iter().map(|run| run.records).collect();
        assert_eq!(lengths, [2, 1, 1, 1]);
        assert_eq!(records.count(), 5);
        assert_eq!(records.last_lsn(), Some(10));
    }

    #[test]
    fn foreign_records_are_never_taken_for_a_batch() {
        let records: Records = [(1, RecordId::FOREIGN), (2, RecordId::FOREIGN)].into_iter().collect();
        assert_eq!(records.runs().len(), 2);
    }

    #[test]
    fn a_clipped_run_keeps_each_record_under_its_lsn() {
        let run = Run { first_lsn: 10, client: 1, number: 2, first_index: 3, records: 5 };
        let part = run.clipped(12, 14).expect("it overlaps");
        assert_eq!((part.first_lsn, part.first_index, part.records), (12, 5, 2));
        assert_eq!(part.id_at(13), run.id_at(13));
        assert_eq!(run.clipped(15, 20), None);
    }
}
