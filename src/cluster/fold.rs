//! From the metadata log to the state: committed batches applied in order, and when that is known to be all.

use bytes::Bytes;
use lockstep_protocol::BatchError;
use lockstep_protocol::batch::BatchHeader;
use lockstep_protocol::batch_builder::{BatchBuilder, ProducerSequence};
use lockstep_protocol::record::RecordIter;

use super::{Command, MetadataState};
use crate::engine::{Append, ShardDescription};

/// Applies what a committed batch holds above the state's LSN. A command that has no effect counts as applied.
///
/// # Errors
/// It cannot be read, for people. It must not be skipped.
pub fn apply_batch(batch: Bytes, state: &mut MetadataState) -> Result<(), String> {
    for numbered in RecordIter::new(batch).map_err(|error| error.to_string())? {
        let numbered = numbered.map_err(|error| error.to_string())?;
        if numbered.lsn <= state.applied_lsn() {
            continue;
        }
        let command = Command::from_record(&numbered.record).map_err(|error| error.to_string())?;
        match state.apply(&command) {
            Ok(()) => tracing::info!(lsn = numbered.lsn, kind = command.kind(), "metadata applied"),
            Err(refusal) => tracing::warn!(lsn = numbered.lsn, %refusal, "a metadata command had no effect"),
        }
    }
    Ok(())
}

/// Whether a state applied through this LSN includes everything that was committed before: there is a leader now, and the
/// last committed entry is of its very term.
pub fn is_current(metadata: &ShardDescription, applied_lsn: u64, last_committed_term: Option<u64>) -> bool {
    let view = &metadata.view;
    view.leader.is_some()
        && view.high_watermark <= applied_lsn
        && last_committed_term.is_some_and(|term| term == view.term)
}

/// The batch that writes commands decided on a state, all of them or none: it is refused if the log has gone on since.
///
/// # Errors
/// They do not fit into a batch.
pub fn to_append(
    commands: &[Command],
    decided_on: &MetadataState,
    timestamp_ms: i64,
) -> Result<Append, BatchError> {
    let mut batch = BatchBuilder::new();
    for command in commands {
        batch.push(&command.to_record(timestamp_ms))?;
    }
    let batch = batch.build(ProducerSequence::NONE)?;
    let header = BatchHeader::parse(&batch)?;
    let expected_next_lsn = Some(decided_on.applied_lsn() + 1);
    Ok(Append { batch, header, expected_next_lsn, fence: None, position: None })
}
