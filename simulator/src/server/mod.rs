//! The broker's part of a node: clients' frames to requests of shards, and answers to frames.
//!
//! Decoding, validation, errors and their codes are production's; finding the partition and waiting, which production
//! does with tokio, are done here in the same order.
//!
//! | module | holds |
//! |---|---|
//! | `names` | where things are |
//! | `asked` | requests that wait, and the shape of answers |
//! | `metadata`, `appends`, `control`, `fetch`, `subscriptions` | the requests |

mod appends;
mod asked;
mod control;
mod fetch;
mod metadata;
mod names;
mod subscriptions;

use bytes::{Bytes, BytesMut};
use lockstep::broker::FetchError;
use lockstep::shard::{Answer, AppendError};
use lockstep_protocol::native::{FenceRequest, FenceResponse, TailRequest, TrimRequest, TrimResponse};
use lockstep_protocol::{Api, FrameDecoder};

pub use self::asked::{Asked, Handled};
use self::asked::{Wanted, respond};
pub use self::names::{TOPIC, partition_of, shard_of};
pub use self::subscriptions::Subscriptions;
use crate::node::Process;
use crate::placement::Placements;
use crate::plan::Plan;

/// The longest frame either side takes.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// Takes one frame of a client.
pub fn handle(
    process: &mut Process,
    plan: &Plan,
    placements: &Placements,
    connection: u64,
    bytes: &Bytes,
) -> Handled {
    let decoded = FrameDecoder::new(FRAME_BYTES_MAX).decode(&mut BytesMut::from(&bytes[..]));
    let Ok(Some(frame)) = decoded else { return Handled::Close };
    let handled = match frame.api {
        Api::Metadata => metadata::metadata(process, plan, placements, &frame),
        Api::Produce => appends::produce(process, placements, connection, &frame),
        Api::Fetch => fetch::fetch(process, placements, connection, &frame),
        Api::Subscribe => subscriptions::subscribe(process, placements, connection, &frame),
        Api::Credit => subscriptions::grant(process, connection, &frame),
        Api::Unsubscribe => subscriptions::unsubscribe(process, connection, &frame),
        Api::Tail => control::tail(process, placements, connection, &frame),
        Api::Trim => control::trim(process, placements, connection, &frame),
        Api::Fence => control::fence(process, placements, connection, &frame),
        _ => None,
    };
    handled.unwrap_or(Handled::Close)
}

/// What readers of a shard can be told now, each with its connection.
pub fn wake(process: &mut Process, shard: u64) -> Vec<(u64, Bytes)> {
    let mut answers = Vec::new();
    fetch::wake(process, shard, &mut answers);
    subscriptions::wake(process, shard, &mut answers);
    answers
}

/// The answer of a shard, as the client that waits for it gets it.
pub fn answer(process: &Process, asked: &Asked, answer: Result<Answer, AppendError>) -> Bytes {
    let correlation = asked.correlation;
    match &asked.what {
        Wanted::Append { .. } => appends::appended(correlation, answer),
        Wanted::Tail { shard } => {
            let view =
                process.hosted.get(shard).map(|hosted| hosted.replica.view().clone()).unwrap_or_default();
            let confirmed = |answer| if let Answer::Tail(lsn) = answer { lsn } else { 0 };
            respond::<TailRequest>(
                correlation,
                answer.map(|answer| control::tail_of(&view, confirmed(answer))),
            )
        }
        Wanted::Trim { log_start } => {
            respond::<TrimRequest>(correlation, answer.map(|_| TrimResponse { log_start: *log_start }))
        }
        Wanted::Fence { epoch } => {
            respond::<FenceRequest>(correlation, answer.map(|_| FenceResponse { epoch: *epoch }))
        }
        Wanted::Subscribe(wanted) => wanted.beyond(process, correlation),
        Wanted::Fetch { from_lsn, .. } => {
            fetch::fetched(correlation, Err(FetchError::BeyondTail { asked: *from_lsn, next_lsn: *from_lsn }))
        }
    }
}

/// What a client is told whose time is up.
pub fn give_up(process: &Process, asked: &Asked) -> Bytes {
    let correlation = asked.correlation;
    match asked.what {
        Wanted::Append { timeout_ms, .. } => appends::timed_out(correlation, timeout_ms),
        Wanted::Subscribe(wanted) => wanted.beyond(process, correlation),
        Wanted::Fetch { shard, from_lsn, .. } => fetch::nothing_came(process, correlation, shard, from_lsn),
        Wanted::Tail { .. } => control::timed_out::<TailRequest>(correlation),
        Wanted::Trim { .. } => control::timed_out::<TrimRequest>(correlation),
        Wanted::Fence { .. } => control::timed_out::<FenceRequest>(correlation),
    }
}
