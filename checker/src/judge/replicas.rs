//! Each replica's log: without a gap, forgetting nothing that it may not, and like the longest one.
//!
//! What holds: all logs are compared record by record and batch by batch, as far as both are committed.

use super::answers::trim_allowed;
use super::ledger::Ledger;
use crate::{FinalState, History, ReplicaLog, Rule, Verdict};

pub(super) fn check(history: &History, state: &FinalState, ledger: &Ledger, verdict: &mut Verdict) {
    let allowed = trim_allowed(history);
    for (place, replica) in state.replicas.iter().enumerate() {
        check_log_start(replica, allowed, verdict);
        check_dense(replica, verdict);
        if ledger.longest != Some(place) {
            check_agrees(replica, state, ledger, verdict);
        }
    }
}

fn check_log_start(replica: &ReplicaLog, allowed: u64, verdict: &mut Verdict) {
    let ReplicaLog { node, log_start, commit, .. } = *replica;
    if log_start > allowed {
        verdict.violated(Rule::OnlyTrimmedMissing, log_start, [], || {
            format!("node {node}'s log starts at LSN {log_start}, but only what is below LSN {allowed} may be gone")
        });
    }
    if log_start > commit.saturating_add(1) {
        verdict.violated(Rule::OnlyTrimmedMissing, log_start, [], || {
            format!("node {node}'s log starts at LSN {log_start}, above LSN {commit}, the last committed one")
        });
    }
}

fn check_dense(replica: &ReplicaLog, verdict: &mut Verdict) {
    let ReplicaLog { node, log_start, commit, .. } = *replica;
    let mut next = log_start;
    let mut broken = |lsn: u64, next: u64| {
        verdict.violated(Rule::DenseLsns, next, [], || {
            format!("node {node}'s log goes on at LSN {lsn} where LSN {next} is next")
        });
    };
    for (place, log_run) in replica.runs.iter().enumerate() {
        // The batch that holds the log start is kept, and served, whole.
        let holds_log_start =
            place == 0 && (log_run.run.first_lsn..log_run.run.end_lsn()).contains(&log_start);
        if log_run.run.first_lsn != next && !holds_log_start {
            broken(log_run.run.first_lsn, next);
        }
        next = log_run.run.end_lsn();
    }
    if next != commit.saturating_add(1) && log_start <= commit {
        verdict.violated(Rule::DenseLsns, next, [], || {
            format!("node {node} knows LSN {commit} to be committed, but its log ends before LSN {next}")
        });
    }
}

/// One violation for each replica is enough: what follows the first difference differs as well.
fn check_agrees(replica: &ReplicaLog, state: &FinalState, ledger: &Ledger, verdict: &mut Verdict) {
    let mut hint = 0;
    let node = replica.node;
    let other = ledger.longest.map_or(0, |place| state.replicas[place].node);
    for (place, log_run) in replica.runs.iter().enumerate() {
        let Some(run) = log_run.run.clipped(0, ledger.commit.saturating_add(1)) else { continue };
        verdict.summary.replica_records_compared += u64::from(run.records);
        let lsn = run.first_lsn;
        if let Some(difference) = ledger.difference(&run, &mut hint, |_| {}) {
            let (lsn, shown, held) = (difference.lsn, difference.shown, ledger.describe(difference.lsn));
            return verdict.violated(Rule::ReplicasAgree, lsn, [], || {
                format!("node {node} holds {shown} at LSN {lsn}, but for node {other} and its users {held}")
            });
        }
        let bounds_differ = ledger.between(lsn, run.end_lsn(), &mut hint).any(|entry| {
            let first_of_log = place == 0 && entry.run.first_lsn <= lsn;
            let starts_here = log_run.starts_batch && entry.run.first_lsn == lsn;
            entry.run.first_lsn >= ledger.log_start && !first_of_log && entry.starts_batch != starts_here
        });
        if bounds_differ {
            return verdict.violated(Rule::ReplicasAgree, lsn, [], || {
                format!("nodes {node} and {other} hold the same records from LSN {lsn} on, but bound their batches otherwise")
            });
        }
    }
}
