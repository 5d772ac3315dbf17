//! Acknowledgements and reads, each held against the ledger.
//!
//! What holds: every record that was shown, and every LSN that was told, is compared, or known to be above what is
//! committed, or was reported as torn before.

use super::batches::Batches;
use super::ledger::{Difference, Ledger};
use crate::{Append, AppendOutcome, History, Operation, Read, Rule, Run, Verdict};

pub(super) fn check(history: &History, ledger: &Ledger, batches: &Batches, verdict: &mut Verdict) {
    let allowed = trim_allowed(history);
    let (mut acknowledgement_hint, mut read_hint) = (0, 0);
    for (place, operation) in history.operations.iter().enumerate() {
        match operation {
            Operation::Append(append) => {
                if let AppendOutcome::Acknowledged { first_lsn, last_lsn, duplicate } = append.outcome {
                    let told = Told { place, first_lsn, last_lsn, duplicate };
                    check_acknowledgement(append, &told, ledger, batches, &mut acknowledgement_hint, verdict);
                }
            }
            Operation::Read(read) => {
                check_read_dense(place, read, allowed, verdict);
                check_not_above(place, read.high_watermark.unwrap_or(0), ledger, "answered a read", verdict);
                check_read(place, read, ledger, batches, &mut read_hint, verdict);
            }
            Operation::Tail(tail) => {
                check_not_above(place, tail.high_watermark, ledger, "answered a tail read", verdict);
            }
            Operation::Trim(_) | Operation::Restart(_) => {}
        }
    }
}

/// The LSN below which somebody allowed the log to forget.
pub(super) fn trim_allowed(history: &History) -> u64 {
    let allowed = history.operations.iter().map(|operation| match operation {
        Operation::Trim(trim) => trim.before_lsn,
        _ => 1,
    });
    allowed.max().unwrap_or(1)
}

/// One acknowledgement.
struct Told {
    place: usize,
    first_lsn: u64,
    last_lsn: u64,
    duplicate: bool,
}

fn check_acknowledgement(
    append: &Append,
    told: &Told,
    ledger: &Ledger,
    batches: &Batches,
    hint: &mut usize,
    verdict: &mut Verdict,
) {
    let Some(batch) = batches.find(append.client, append.number).map(|key| batches.get(key)) else {
        return;
    };
    let Told { place, first_lsn, last_lsn, duplicate } = *told;
    let (client, number, records) = (append.client, append.number, append.records);
    let in_place = if duplicate { Rule::DuplicateOriginal } else { Rule::AcknowledgedInPlace };
    let name = move || {
        format!("client {client}'s batch {number} ({records} records) was told LSN {first_lsn} to {last_lsn}")
    };
    if last_lsn.checked_sub(first_lsn).and_then(|more| more.checked_add(1)) != Some(u64::from(records))
        || first_lsn == 0
    {
        verdict.violated(in_place, first_lsn, [place], || format!("{}, which is another count", name()));
        return;
    }
    match batch.placed {
        _ if batch.torn => {}
        Some(placed) if placed != first_lsn => {
            verdict
                .violated(in_place, first_lsn, [place], || format!("{}, but stands at LSN {placed}", name()));
        }
        None if last_lsn >= ledger.log_start => {
            verdict.violated(Rule::AcknowledgedKept, first_lsn, [place], || {
                format!(
                    "{}, but is not in the log: {}",
                    name(),
                    ledger.describe(first_lsn.max(ledger.log_start))
                )
            });
        }
        _ if last_lsn >= ledger.log_start => verdict.summary.acknowledged_records_found += u64::from(records),
        _ => {
            verdict.summary.acknowledged_trimmed += 1;
            let run = Run { first_lsn, client, number, first_index: 0, records };
            if let Some(difference) = ledger.difference(&run, hint, |_| {}) {
                one_value(place, &difference, "was told", verdict);
            }
        }
    }
}

/// A read begins where it was asked to, or behind what was trimmed, and then takes each LSN in turn.
fn check_read_dense(place: usize, read: &Read, allowed: u64, verdict: &mut Verdict) {
    let runs = read.records.runs();
    if let Some(first) = runs.first()
        && first.first_lsn > read.from_lsn.max(1).max(allowed)
    {
        verdict.violated(Rule::ReadDense, read.from_lsn, [place], || {
            format!(
                "reader {} asked node {} for LSN {} and was shown LSN {} first, though only what is below LSN {allowed} \
                 may be gone",
                read.reader, read.node, read.from_lsn, first.first_lsn
            )
        });
    }
    if let Some(pair) = runs.windows(2).find(|pair| pair[0].end_lsn() != pair[1].first_lsn) {
        let (last, next) = (pair[0].end_lsn() - 1, pair[1].first_lsn);
        verdict.violated(Rule::ReadDense, next, [place], || {
            format!(
                "reader {} was shown LSN {next} by node {} right behind LSN {last}",
                read.reader, read.node
            )
        });
    }
}

fn check_not_above(place: usize, high_watermark: u64, ledger: &Ledger, what: &str, verdict: &mut Verdict) {
    if high_watermark > ledger.commit {
        verdict.violated(Rule::NothingAboveCommit, high_watermark, [place], || {
            let commit = ledger.commit;
            format!("a node {what} with high watermark {high_watermark}, but the log ends at LSN {commit}")
        });
    }
}

fn check_read(
    place: usize,
    read: &Read,
    ledger: &Ledger,
    batches: &Batches,
    hint: &mut usize,
    verdict: &mut Verdict,
) {
    let end = ledger.commit.saturating_add(1);
    for run in read.records.runs() {
        if run.end_lsn() > end {
            let lsn = run.first_lsn.max(end);
            verdict.violated(Rule::NothingAboveCommit, lsn, [place], || {
                let (reader, node, id) = (read.reader, read.node, run.id_at(lsn));
                let commit = ledger.commit;
                format!("reader {reader} was shown {id} at LSN {lsn} by node {node}, but the log ends at LSN {commit}")
            });
        }
        let Some(run) = run.clipped(0, end) else { continue };
        verdict.summary.read_records_compared += u64::from(run.records);
        let mut from_the_future = None;
        let difference = ledger.difference(&run, hint, |entry| {
            let batch = entry.batch.map(|key| batches.get(key));
            from_the_future = from_the_future.or(batch.filter(|batch| batch.invoked > read.completed));
        });
        if let Some(batch) = from_the_future {
            verdict.violated(Rule::RealTime, run.first_lsn, [batch.operation, place], || {
                format!(
                    "reader {} was shown client {}'s batch {} by {}, but it was first asked for at {}",
                    read.reader, run.client, run.number, read.completed, batch.invoked
                )
            });
        }
        match difference {
            Some(difference) if difference.lsn < ledger.log_start => {
                return one_value(place, &difference, "was shown", verdict);
            }
            Some(Difference { lsn, shown, .. }) => {
                return verdict.violated(Rule::ReadMatchesLog, lsn, [place], || {
                    let (reader, node) = (read.reader, read.node);
                    let held = ledger.describe(lsn);
                    format!("reader {reader} was shown {shown} at LSN {lsn} by node {node}, but {held}")
                });
            }
            None => {}
        }
    }
}

fn one_value(place: usize, difference: &Difference, what: &str, verdict: &mut Verdict) {
    let Difference { lsn, shown, held } = *difference;
    verdict.violated(Rule::OneValuePerLsn, lsn, [place], || match held {
        Some(held) => {
            format!("LSN {lsn} {what} as {shown} here, and as {held} elsewhere, before it was trimmed")
        }
        None => format!("LSN {lsn} {what} as {shown}, and nobody else knows of it"),
    });
}
