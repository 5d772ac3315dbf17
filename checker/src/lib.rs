//! Judges histories of a log: nothing lost, repeated, reordered, torn or invented.
//!
//! Because a partition's LSNs are dense, no search is needed: the final log *is* the order in which everything took
//! effect, and one pass finds whether what the users were told fits it. A caller records what every client asked and was
//! told as a [`History`], reads each replica's log into a [`FinalState`], and calls [`check`]:
//!
//! ```
//! use lockstep_checker::{
//!     Append, AppendOutcome, FinalState, History, Operation, RecordId, ReplicaLog, Rule, check,
//! };
//!
//! let mut history = History::default();
//! let place = history.push(Operation::Append(Append::invoked(1, 1, 2, 10)));
//! history.complete(place, 20, AppendOutcome::Acknowledged { first_lsn: 1, last_lsn: 2, duplicate: false });
//!
//! let mut log = ReplicaLog::new(1, 1, 2);
//! log.push_batch(1, [RecordId::new(1, 1, 0), RecordId::new(1, 1, 1)]);
//! let verdict = check(&history, &FinalState { replicas: vec![log] });
//! assert!(verdict.passed());
//! assert_eq!(verdict.summary.acknowledged_records_found, 2);
//!
//! let empty = FinalState { replicas: vec![ReplicaLog::new(1, 1, 0)] };
//! assert_eq!(check(&history, &empty).rules(), [Rule::AcknowledgedKept]);
//! ```
//!
//! What holds:
//! - a verdict depends on its input alone: no clock, no randomness, no order of a hash map;
//! - the time is that of a few linear passes and of sorting what is nearly sorted;
//! - no input makes it panic. What cannot have happened is reported as [`Rule::HistoryConsistent`].
//!
//! A record's value says whose it is: [`RecordId::to_value`] and [`RecordId::parse`].

mod file;
mod final_state;
mod history;
mod judge;
mod record_id;
mod rule;
mod run;
mod verdict;

pub use file::{Header, HistoryWriter, ReadHistoryError, read_history};
pub use final_state::{FinalState, ReplicaLog};
pub use history::{Append, AppendOutcome, History, Operation, Read, Restart, Tail, Trim};
pub use judge::check;
pub use record_id::RecordId;
pub use rule::{Rule, Violation};
pub use run::{Records, Run};
pub use verdict::{Summary, VIOLATIONS_KEPT_PER_RULE, Verdict};
