//! Appends.

use bytes::Bytes;
use lockstep::broker::ProduceError;
use lockstep::net::native::outcome::ToOutcome;
use lockstep::shard::positions::PositionCommit;
use lockstep::shard::{Answer, Append, AppendError, Input};
use lockstep_protocol::native::{
    Durability, PositionCommit as WireCommit, ProduceRequest, ProduceResponse, Produced,
};
use lockstep_protocol::{Frame, Outcome, ValidationLimits, Wire, validate};

use super::asked::{Asked, Handled, Wanted, ask, locate, response};
use super::names::{Addresses, shard_of};
use crate::node::Process;
use crate::placement::Placements;

/// A client's commit as a shard takes it.
fn to_commit(commit: WireCommit) -> PositionCommit {
    PositionCommit {
        group: commit.group.into(),
        source: shard_of(commit.partition),
        next_lsn: commit.next_lsn,
        generation: commit.generation,
        metadata: commit.metadata.into(),
        expected_next_lsn: commit.expected_next_lsn,
        expected_generation: commit.expected_generation,
    }
}

/// Takes an append.
pub(super) fn produce(
    process: &mut Process,
    placements: &Placements,
    connection: u64,
    frame: &Frame,
) -> Option<Handled> {
    let request = ProduceRequest::decode(&frame.meta).ok()?;
    let batch = request.split_payload(&frame.payload).ok()?.pop()?;
    let item = request.batches.first()?;
    let refuse = |error| Some(Handled::Answer(refused(frame.correlation, error)));
    if let Err(error) = locate(process, placements, item.partition) {
        return refuse(error.into());
    }
    let validated = match validate(&batch, &ValidationLimits::default()) {
        Ok(validated) => validated,
        Err(error) => return refuse(error.into()),
    };
    let fence = item.fence;
    let append = Append {
        batch,
        header: validated.header,
        expected_next_lsn: item.expected_next_lsn,
        fence,
        position: item.position.clone().map(to_commit),
    };
    let what = Wanted::Append { timeout_ms: request.timeout_ms, fence };
    let asked = Asked { connection, correlation: frame.correlation, what };
    let input = |token| Input::Append { token, append };
    Some(ask(process, shard_of(item.partition), asked, request.timeout_ms.into(), input))
}

/// What became of an append.
pub(super) fn appended(correlation: u32, answer: Result<Answer, AppendError>) -> Bytes {
    let result: Outcome<Produced> = match answer {
        Ok(Answer::Appended(appended)) => Ok(Produced {
            first_lsn: appended.first_lsn,
            last_lsn: appended.last_lsn,
            duplicate: appended.duplicate,
            acked: Durability::SyncedMajority,
        }),
        Ok(_) => Err(AppendError::OutcomeUnknown.to_outcome(&Addresses)),
        Err(error) => Err(ProduceError::Append(error).to_outcome(&Addresses)),
    };
    response::<ProduceRequest>(correlation, Ok(ProduceResponse { results: vec![result] }))
}

/// It is not known in time.
pub(super) fn timed_out(correlation: u32, waited_ms: u32) -> Bytes {
    refused(correlation, ProduceError::TimedOut { waited_ms: waited_ms.into() })
}

fn refused(correlation: u32, error: ProduceError) -> Bytes {
    let answer = ProduceResponse { results: vec![Err(error.to_outcome(&Addresses))] };
    response::<ProduceRequest>(correlation, Ok(answer))
}
