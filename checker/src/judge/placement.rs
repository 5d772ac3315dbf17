//! The ledger in the order of its LSNs: each batch whole, once, in its client's order and in real time.
//!
//! What holds: a batch is judged where it first stands. For real time it is enough to carry the latest invocation so
//! far: whatever stands behind must not have been complete before that.

use super::batches::{BatchKey, Batches};
use super::ledger::{Ledger, LedgerRun};
use crate::{Rule, Verdict};

/// What stood before, as far as later batches are held against it.
#[derive(Default)]
struct Before {
    /// By client slot: the greatest number so far of a batch that is owed its order, and its operation.
    numbers: Vec<(u64, usize)>,
    /// The latest invocation, and its operation.
    invoked: Option<(u64, usize)>,
}

pub(super) fn check(ledger: &mut Ledger, batches: &mut Batches, verdict: &mut Verdict) {
    let mut before = Before { numbers: vec![(0, 0); batches.clients() as usize], invoked: None };
    let (log_start, trimmed) = (ledger.log_start, ledger.trimmed);
    let (hearsay, log) = ledger.runs.split_at_mut(trimmed);
    for entry in hearsay {
        let one = std::slice::from_mut(entry);
        if let Some(key) = known(one, batches, verdict) {
            check_length(&one[0], key, batches, verdict);
            place(&one[0], key, batches, &mut before, verdict);
        }
    }
    let mut is_first = true;
    for group in log.chunk_by_mut(|_, next| !next.starts_batch) {
        verdict.summary.log_batches += 1;
        verdict.summary.log_records += group.iter().map(|entry| u64::from(entry.run.records)).sum::<u64>();
        if let Some(key) = known(group, batches, verdict) {
            check_whole(group, key, is_first && log_start > 1, batches, verdict);
            place(&group[0], key, batches, &mut before, verdict);
        }
        is_first = false;
    }
}

/// Finds the batches of a group's runs. Returns the first run's if all of them are somebody's.
fn known(group: &mut [LedgerRun], batches: &Batches, verdict: &mut Verdict) -> Option<BatchKey> {
    for entry in group.iter_mut() {
        entry.batch = batches.find(entry.run.client, entry.run.number);
        if entry.batch.is_none() {
            let lsn = entry.run.first_lsn;
            verdict.violated(Rule::NothingInvented, lsn, [], || {
                format!("LSN {lsn} holds {}, which no client ever asked to append", entry.run.id_at(lsn))
            });
        }
    }
    let all_known = group.iter().all(|entry| entry.batch.is_some());
    group[0].batch.filter(|_| all_known)
}

/// A group is one batch from its first record to its last. Only where the log was trimmed may a front be missing.
fn check_whole(
    group: &[LedgerRun],
    key: BatchKey,
    may_lack_front: bool,
    batches: &mut Batches,
    verdict: &mut Verdict,
) {
    let run = group[0].run;
    let batch = batches.get_mut(key);
    let has_front = run.first_index == 0 || may_lack_front;
    let has_end = run.first_index.checked_add(run.records) == Some(batch.records);
    if group.len() == 1 && has_front && has_end {
        return;
    }
    batch.torn = true;
    let (lsn, operation, records) = (run.first_lsn, batch.operation, batch.records);
    verdict.violated(Rule::BatchWhole, lsn, [operation], || {
        let stands: Vec<String> = group.iter().map(describe_run).collect();
        format!(
            "client {}'s batch {} has {records} records, but the batch at LSN {lsn} holds {}",
            run.client,
            run.number,
            stands.join(", then ")
        )
    });
    for key in group.iter().filter_map(|entry| entry.batch) {
        batches.get_mut(key).torn = true;
    }
}

/// Of what is only hearsay, no more can be said than that an index lies within its batch.
fn check_length(entry: &LedgerRun, key: BatchKey, batches: &mut Batches, verdict: &mut Verdict) {
    let (run, batch) = (entry.run, batches.get_mut(key));
    if run.first_index.checked_add(run.records).is_none_or(|end| end > batch.records) {
        batch.torn = true;
        let (lsn, operation, records) = (run.first_lsn, batch.operation, batch.records);
        verdict.violated(Rule::BatchWhole, lsn, [operation], || {
            format!("LSN {lsn} was shown as {}, of a batch of {records} records", describe_run(entry))
        });
    }
}

/// Judges a batch where it first stands, and finds those that stand again.
fn place(
    entry: &LedgerRun,
    key: BatchKey,
    batches: &mut Batches,
    before: &mut Before,
    verdict: &mut Verdict,
) {
    let (run, batch) = (entry.run, batches.get_mut(key));
    let lsn = run.first_lsn;
    let base = lsn.wrapping_sub(u64::from(run.first_index));
    let (operation, client, number) = (batch.operation, run.client, run.number);
    if let Some(placed) = batch.placed {
        if placed != base && !batch.torn {
            verdict.violated(Rule::BatchOnce, lsn, [operation], || {
                format!("client {client}'s batch {number} stands at LSN {placed}, and again at LSN {base}")
            });
        }
        return;
    }
    batch.placed = Some(base);
    if batch.certainly_failed {
        verdict.violated(Rule::FailedAbsent, lsn, [operation], || {
            format!("client {client}'s batch {number} certainly failed, but stands at LSN {base}")
        });
    }
    if let Some(expected) = batch.expected_next_lsn.filter(|expected| *expected != base) {
        verdict.violated(Rule::ConditionHeld, lsn, [operation], || {
            format!("client {client}'s batch {number} was to stand at LSN {expected} or fail, but stands at LSN {base}")
        });
    }
    let last = &mut before.numbers[key.slot as usize];
    if batch.in_order && number < last.0 {
        verdict.violated(Rule::ClientOrder, lsn, [last.1, operation], || {
            format!("client {client}'s batch {number} stands at LSN {base}, behind its batch {}", last.0)
        });
    } else if batch.in_order {
        *last = (number, operation);
    }
    if let Some((invoked, earlier)) = before.invoked.filter(|(invoked, _)| batch.acknowledged_at < *invoked) {
        verdict.violated(Rule::RealTime, lsn, [earlier, operation], || {
            format!(
                "client {client}'s batch {number} at LSN {base} was acknowledged at {}, but stands behind a batch that \
                 was first asked for at {invoked}",
                batch.acknowledged_at
            )
        });
    }
    if before.invoked.is_none_or(|(invoked, _)| batch.invoked > invoked) {
        before.invoked = Some((batch.invoked, operation));
    }
}

fn describe_run(entry: &LedgerRun) -> String {
    let run = entry.run;
    let last = run.end_lsn() - 1;
    match run.records {
        1 => run.id_at(run.first_lsn).to_string(),
        _ => format!("{} to {}", run.id_at(run.first_lsn), run.id_at(last).index),
    }
}
