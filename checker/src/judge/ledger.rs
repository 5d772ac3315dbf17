//! One value for each LSN: what everything else is held against.
//!
//! What holds: runs rise by LSN and do not overlap. From the log start of the longest log on they are that log; below
//! it they are what acknowledgements, reads and other replicas said first. Who said otherwise is found when it is held
//! against this.

use super::batches::BatchKey;
use crate::final_state::LogRun;
use crate::{AppendOutcome, FinalState, History, Operation, RecordId, ReplicaLog, Run};

/// A run of the ledger.
#[derive(Debug, Clone, Copy)]
pub(super) struct LedgerRun {
    pub(super) run: Run,
    pub(super) starts_batch: bool,
    /// Whose batch it is, once placement found it.
    pub(super) batch: Option<BatchKey>,
}

/// What stands under each LSN.
#[derive(Debug)]
pub(super) struct Ledger {
    pub(super) runs: Vec<LedgerRun>,
    /// How many runs, at the front, are hearsay of what no log holds any longer.
    pub(super) trimmed: usize,
    /// Where the longest log starts; `u64::MAX` without any log.
    pub(super) log_start: u64,
    /// What is committed in the end; `u64::MAX` without any log.
    pub(super) commit: u64,
    /// Which of the replicas has the longest log.
    pub(super) longest: Option<usize>,
}

/// Where a run differs from the ledger, and what the ledger has there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Difference {
    pub(super) lsn: u64,
    pub(super) shown: RecordId,
    pub(super) held: Option<RecordId>,
}

impl Ledger {
    pub(super) fn build(history: &History, state: &FinalState) -> Self {
        let longest = (0..state.replicas.len()).max_by_key(|place| {
            let replica = &state.replicas[*place];
            (replica.commit, std::cmp::Reverse(replica.log_start), std::cmp::Reverse(*place))
        });
        let log = longest.map(|place| &state.replicas[place]);
        let log_start = log.map_or(u64::MAX, |log| log.log_start);
        let mut ledger = Self {
            runs: Vec::with_capacity(log.map_or(0, |log| log.runs.len())),
            trimmed: 0,
            log_start,
            commit: log.map_or(u64::MAX, |log| log.commit),
            longest,
        };
        let mut covered = 0;
        for run in hearsay(history, &state.replicas, log_start) {
            ledger.cover(&mut covered, LogRun { run, starts_batch: false });
        }
        ledger.trimmed = ledger.runs.len();
        for log_run in log.map_or(&[][..], |log| &log.runs) {
            ledger.cover(&mut covered, *log_run);
        }
        ledger
    }

    /// Adds what a run says of LSNs that nothing has been said of yet.
    fn cover(&mut self, covered: &mut u64, log_run: LogRun) {
        if let Some(run) = log_run.run.clipped(*covered, u64::MAX) {
            let whole_front = run.first_lsn == log_run.run.first_lsn;
            *covered = run.end_lsn();
            let starts_batch = log_run.starts_batch && whole_front;
            self.runs.push(LedgerRun { run, starts_batch, batch: None });
        }
    }

    /// The runs that have an LSN in `from..end`. `hint` is where to look first, and is moved there.
    pub(super) fn between(
        &self,
        from: u64,
        end: u64,
        hint: &mut usize,
    ) -> impl Iterator<Item = &LedgerRun> + use<'_> {
        let reaches = |place: usize| self.runs.get(place).is_some_and(|entry| entry.run.end_lsn() > from);
        let is_first = |place: usize| reaches(place) && (place == 0 || !reaches(place - 1));
        if !is_first(*hint) {
            *hint += 1;
            if !is_first(*hint) {
                *hint = self.runs.partition_point(|entry| entry.run.end_lsn() <= from);
            }
        }
        self.runs[(*hint).min(self.runs.len())..].iter().take_while(move |entry| entry.run.first_lsn < end)
    }

    /// Where `run` first says something else than the ledger. `visit` sees the runs it is held against.
    pub(super) fn difference(
        &self,
        run: &Run,
        hint: &mut usize,
        mut visit: impl FnMut(&LedgerRun),
    ) -> Option<Difference> {
        let mut lsn = run.first_lsn;
        for entry in self.between(run.first_lsn, run.end_lsn(), hint) {
            if entry.run.first_lsn > lsn {
                break;
            }
            let (shown, held) = (run.id_at(lsn), entry.run.id_at(lsn));
            if shown != held {
                return Some(Difference { lsn, shown, held: Some(held) });
            }
            visit(entry);
            lsn = entry.run.end_lsn();
        }
        (lsn < run.end_lsn()).then(|| Difference { lsn, shown: run.id_at(lsn), held: None })
    }

    /// What stands under an LSN, for people.
    pub(super) fn describe(&self, lsn: u64) -> String {
        let mut between = self.between(lsn, lsn.saturating_add(1), &mut 0);
        match between.next() {
            Some(entry) => format!("LSN {lsn} holds {}", entry.run.id_at(lsn)),
            None if lsn > self.commit => format!("the log ends at LSN {}", self.commit),
            None => format!("nothing stands at LSN {lsn}"),
        }
    }

    pub(super) fn trimmed_records(&self) -> u64 {
        self.runs[..self.trimmed].iter().map(|entry| u64::from(entry.run.records)).sum()
    }
}

/// What anyone said of LSNs below `log_start`, by LSN; what users were told comes before what other replicas hold.
fn hearsay(history: &History, replicas: &[ReplicaLog], log_start: u64) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut add = |run: &Run| runs.extend(run.clipped(1, log_start));
    for operation in &history.operations {
        match operation {
            Operation::Append(append) => {
                if let AppendOutcome::Acknowledged { first_lsn, .. } = append.outcome {
                    let (client, number, records) = (append.client, append.number, append.records);
                    add(&Run { first_lsn, client, number, first_index: 0, records });
                }
            }
            Operation::Read(read) => read.records.runs().iter().for_each(&mut add),
            _ => {}
        }
    }
    for replica in replicas {
        replica
            .runs
            .iter()
            .take_while(|log_run| log_run.run.first_lsn < log_start)
            .for_each(|log_run| add(&log_run.run));
    }
    runs.sort_by_key(|run: &Run| run.first_lsn);
    runs
}
