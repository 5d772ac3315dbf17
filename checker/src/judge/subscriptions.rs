//! Subscriptions: what a reader was shown, read after read.
//!
//! What holds: only what somebody allowed the log to forget may be missing between two reads.

use std::collections::BTreeMap;

use super::answers::trim_allowed;
use crate::{History, Operation, Read, Rule, Verdict};

/// Where a reader's last read ended: the next LSN, and the read's place.
type Ends = BTreeMap<u64, (u64, usize)>;

pub(super) fn check(history: &History, verdict: &mut Verdict) {
    let allowed = trim_allowed(history);
    let mut reads: Vec<(u64, usize, &Read)> = Vec::new();
    for (place, operation) in history.operations.iter().enumerate() {
        if let Operation::Read(read) = operation {
            reads.push((read.completed, place, read));
        }
    }
    reads.sort_by_key(|(completed, place, _)| (*completed, *place));
    let mut ends = Ends::new();
    for (_, place, read) in reads {
        let runs = read.records.runs();
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { continue };
        let before = ends.insert(read.reader, (last.end_lsn(), place));
        if let Some((expected, before)) = before.filter(|_| read.continues) {
            verdict.summary.reads_continued += 1;
            let trimmed = expected < first.first_lsn && first.first_lsn <= allowed;
            if first.first_lsn != expected && !trimmed {
                let (reader, node, shown) = (read.reader, read.node, first.first_lsn);
                verdict.violated(Rule::SubscriptionUnbroken, shown, [before, place], || {
                    format!(
                        "reader {reader}'s subscription was to go on with LSN {expected}, and node {node} showed it \
                         LSN {shown} next"
                    )
                });
            }
        }
    }
}
