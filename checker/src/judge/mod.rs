//! The check itself: a few passes over operations and logs, none of which searches.
//!
//! ```text
//! batches        operations          -> what is known of each batch
//! ledger         longest log, and of what is trimmed: acknowledgements, reads, other replicas
//!                                    -> one value for each LSN
//! placement      the ledger in order -> whole, once, in order, in real time, invented by nobody
//! answers        acknowledgements and reads, each held against the ledger
//! subscriptions  reads, each held against the one that it continues
//! replicas       the other logs, each held against the ledger
//! times          what was known before a question was asked, held against the answer
//! ```
//!
//! What holds: a fault is reported by the rule it breaks first, and by the others only where it breaks them by itself.

mod answers;
mod batches;
mod ledger;
mod placement;
mod replicas;
mod subscriptions;
mod times;

use crate::{AppendOutcome, FinalState, History, Operation, Summary, Verdict};
use batches::Batches;
use ledger::Ledger;

/// Holds a history and the logs that came of it against every [rule](crate::Rule).
pub fn check(history: &History, state: &FinalState) -> Verdict {
    let mut verdict = Verdict { summary: counted(history), ..Verdict::default() };
    let mut batches = Batches::collect(history, &mut verdict);
    let mut ledger = Ledger::build(history, state);
    placement::check(&mut ledger, &mut batches, &mut verdict);
    answers::check(history, &ledger, &batches, &mut verdict);
    subscriptions::check(history, &mut verdict);
    replicas::check(history, state, &ledger, &mut verdict);
    times::check(history, &mut verdict);

    verdict.summary.replicas = state.replicas.len() as u64;
    verdict.summary.clients = batches.clients();
    verdict.summary.unknown_in_log = batches.unknown_in_log();
    verdict.summary.trimmed_records_known = ledger.trimmed_records();
    verdict.violations.sort_by_key(|violation| violation.rule);
    verdict
}

/// What the history alone says of how much there is.
fn counted(history: &History) -> Summary {
    let mut summary = Summary::default();
    for operation in &history.operations {
        match operation {
            Operation::Append(append) => {
                summary.appends += 1;
                summary.conditional += u64::from(append.expected_next_lsn.is_some());
                match append.outcome {
                    AppendOutcome::Acknowledged { duplicate, .. } => {
                        summary.acknowledged += 1;
                        summary.duplicates += u64::from(duplicate);
                    }
                    AppendOutcome::CertainlyFailed => summary.failed += 1,
                    AppendOutcome::Unknown => summary.unknown += 1,
                }
            }
            Operation::Read(_) => summary.reads += 1,
            Operation::Tail(tail) => {
                summary.tails += 1;
                summary.tails_confirmed += u64::from(tail.confirmed);
            }
            Operation::Trim(_) => summary.trims += 1,
            Operation::Restart(_) => summary.restarts += 1,
        }
    }
    summary
}
