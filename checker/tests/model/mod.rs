//! A history under construction, and the log it led to: easy to bend in one place.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub mod generate;

use lockstep_checker::{
    Append, AppendOutcome, FinalState, History, Operation, Read, RecordId, Records, ReplicaLog, Rule, Tail,
    Verdict, check,
};

/// A batch in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stands {
    pub first_lsn: u64,
    pub ids: Vec<RecordId>,
}

/// A replica's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    pub node: u64,
    pub log_start: u64,
    pub commit: u64,
    pub batches: Vec<Stands>,
}

/// What happened, and what is left.
#[derive(Debug, Clone, Default)]
pub struct Model {
    pub history: History,
    pub logs: Vec<Log>,
}

impl Stands {
    pub fn new(first_lsn: u64, client: u64, number: u64, records: u32) -> Self {
        Self { first_lsn, ids: (0..records).map(|index| RecordId::new(client, number, index)).collect() }
    }

    pub fn end_lsn(&self) -> u64 {
        self.first_lsn + self.ids.len() as u64
    }
}

impl Log {
    /// Adds a batch behind the last one and commits it.
    pub fn append(&mut self, ids: Vec<RecordId>) {
        let first_lsn = self.commit + 1;
        self.commit += ids.len() as u64;
        self.batches.push(Stands { first_lsn, ids });
    }

    /// Drops the batches wholly below an LSN.
    pub fn trim(&mut self, log_start: u64) {
        self.log_start = log_start;
        self.batches.retain(|batch| batch.end_lsn() > log_start);
    }

    fn replica(&self) -> ReplicaLog {
        let mut replica = ReplicaLog::new(self.node, self.log_start, self.commit);
        for batch in &self.batches {
            replica.push_batch(batch.first_lsn, batch.ids.iter().copied());
        }
        replica
    }
}

impl Model {
    pub fn check(&self) -> Verdict {
        check(&self.history, &FinalState { replicas: self.logs.iter().map(Log::replica).collect() })
    }

    /// The rules that do not hold.
    pub fn rules(&self) -> Vec<Rule> {
        self.check().rules()
    }

    /// Appends the same batch to every log.
    pub fn append_everywhere(&mut self, client: u64, number: u64, records: u32) {
        for log in &mut self.logs {
            log.append(Stands::new(0, client, number, records).ids);
        }
    }

    /// A batch that nobody had an answer for.
    pub fn unknown(&mut self, client: u64, number: u64, records: u32, invoked: u64) -> usize {
        self.history.push(Operation::Append(Append::invoked(client, number, records, invoked)))
    }

    /// A batch that was acknowledged ten units of time after it was invoked.
    pub fn acknowledged(
        &mut self,
        client: u64,
        number: u64,
        records: u32,
        invoked: u64,
        first_lsn: u64,
    ) -> usize {
        let place = self.unknown(client, number, records, invoked);
        let last_lsn = first_lsn + u64::from(records) - 1;
        self.history.complete(
            place,
            invoked + 10,
            AppendOutcome::Acknowledged { first_lsn, last_lsn, duplicate: false },
        );
        place
    }

    /// A read that took five units of time.
    pub fn read(
        &mut self,
        node: u64,
        invoked: u64,
        records: impl IntoIterator<Item = (u64, RecordId)>,
    ) -> usize {
        let records: Records = records.into_iter().collect();
        let from_lsn = records.runs().first().map_or(1, |run| run.first_lsn);
        let completed = invoked + 5;
        let read = Read {
            reader: 100,
            node,
            from_lsn,
            invoked,
            completed,
            high_watermark: None,
            records,
            continues: false,
        };
        self.history.push(Operation::Read(read))
    }

    /// A tail read that took five units of time.
    pub fn tail(&mut self, node: u64, invoked: u64, high_watermark: u64, confirmed: bool) -> usize {
        let completed = invoked + 5;
        let tail = Tail { reader: 100, node, confirmed, invoked, completed, high_watermark };
        self.history.push(Operation::Tail(tail))
    }

    pub fn append_at(&mut self, place: usize) -> &mut Append {
        match &mut self.history.operations[place] {
            Operation::Append(append) => append,
            other => panic!("{other:?} is not an append"),
        }
    }

    /// What the first log holds under the LSNs `from..=to`.
    pub fn shown(&self, from: u64, to: u64) -> Vec<(u64, RecordId)> {
        let records =
            self.logs[0].batches.iter().flat_map(|batch| (batch.first_lsn..).zip(batch.ids.iter().copied()));
        records.filter(|(lsn, _)| (from..=to).contains(lsn)).collect()
    }
}
