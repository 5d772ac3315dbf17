//! Questions for the end of a log, and changes of it that are no append.

use bytes::Bytes;
use lockstep::net::native::outcome::ToOutcome;
use lockstep::shard::{Command, Input, ShardView};
use lockstep_protocol::native::{FenceRequest, TailRequest, TailResponse, TrimRequest, TrimResponse};
use lockstep_protocol::{ErrorCode, ErrorOutcome, Frame, Request, Wire};

use super::asked::{Asked, Handled, Wanted, ask, locate, response};
use super::names::{Addresses, shard_of};
use crate::node::Process;
use crate::placement::Placements;

/// How long a change or a confirmation may take, as in the broker.
const CONTROL_TIMEOUT_MS: u64 = 10_000;

/// Takes a question for the end.
pub(super) fn tail(
    process: &mut Process,
    placements: &Placements,
    connection: u64,
    frame: &Frame,
) -> Option<Handled> {
    let request = TailRequest::decode(&frame.meta).ok()?;
    let refuse =
        |error: &dyn ToOutcome| response::<TailRequest>(frame.correlation, Err(error.to_outcome(&Addresses)));
    let view = match locate(process, placements, request.partition) {
        Err(error) => return Some(Handled::Answer(refuse(&error))),
        Ok(hosted) => hosted.replica.view().clone(),
    };
    if !request.linearizable {
        return Some(Handled::Answer(response::<TailRequest>(frame.correlation, Ok(tail_of(&view, 0)))));
    }
    let shard = shard_of(request.partition);
    let asked = Asked { connection, correlation: frame.correlation, what: Wanted::Tail { shard } };
    Some(ask(process, shard, asked, CONTROL_TIMEOUT_MS, |token| Input::Tail { token }))
}

/// The ends of a log, of which the last is confirmed at least through an LSN.
pub(super) fn tail_of(view: &ShardView, confirmed: u64) -> TailResponse {
    let high_watermark = view.high_watermark.max(confirmed);
    TailResponse {
        log_start: view.log_start,
        high_watermark,
        next_lsn: high_watermark + 1,
        term: view.term,
        leader_time_ms: u64::try_from(view.leader_time_ms).unwrap_or(0),
    }
}

/// Takes a trim.
pub(super) fn trim(
    process: &mut Process,
    placements: &Placements,
    connection: u64,
    frame: &Frame,
) -> Option<Handled> {
    let request = TrimRequest::decode(&frame.meta).ok()?;
    let (shard, log_start) = (shard_of(request.partition), request.log_start);
    let outcome = match locate(process, placements, request.partition) {
        Err(error) => Err(error.to_outcome(&Addresses)),
        Ok(hosted) if hosted.replica.view().log_start >= log_start => {
            Ok(TrimResponse { log_start: hosted.replica.view().log_start })
        }
        Ok(_) => {
            let asked =
                Asked { connection, correlation: frame.correlation, what: Wanted::Trim { log_start } };
            let input = |token| Input::Command { token, command: Command::Trim { log_start } };
            return Some(ask(process, shard, asked, CONTROL_TIMEOUT_MS, input));
        }
    };
    Some(Handled::Answer(response::<TrimRequest>(frame.correlation, outcome)))
}

/// Takes a fence.
pub(super) fn fence(
    process: &mut Process,
    placements: &Placements,
    connection: u64,
    frame: &Frame,
) -> Option<Handled> {
    let request = FenceRequest::decode(&frame.meta).ok()?;
    if let Err(error) = locate(process, placements, request.partition) {
        let refusal = Err(error.to_outcome(&Addresses));
        return Some(Handled::Answer(response::<FenceRequest>(frame.correlation, refusal)));
    }
    let epoch = request.epoch;
    let asked = Asked { connection, correlation: frame.correlation, what: Wanted::Fence { epoch } };
    let input = |token| Input::Command { token, command: Command::Fence { epoch } };
    Some(ask(process, shard_of(request.partition), asked, CONTROL_TIMEOUT_MS, input))
}

/// It took too long.
pub(super) fn timed_out<R: Request>(correlation: u32) -> Bytes {
    response::<R>(correlation, Err(ErrorOutcome::from(ErrorCode::RequestTimedOut)))
}
