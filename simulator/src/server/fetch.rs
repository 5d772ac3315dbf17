//! Fetches.

use bytes::Bytes;
use lockstep::broker::{FetchError, LocateError};
use lockstep::cluster::ReadFault;
use lockstep::net::native::outcome::ToOutcome;
use lockstep::shard::{Health, ShardView};
use lockstep_protocol::native::{FetchRequest, FetchResponse, Fetched};
use lockstep_protocol::{EncodedFrame, Frame, Wire};
use lockstep_storage::{CachedRead, ReadBatch, ReadError};

use super::asked::{Asked, Handled, Wanted, locate};
use super::names::{Addresses, shard_of};
use crate::node::{Hosted, Process};
use crate::placement::Placements;

/// Bytes of batches in one fetch, at the most.
const FETCH_BYTES_MAX: usize = 64 << 10;

/// Takes a fetch.
pub(super) fn fetch(
    process: &mut Process,
    placements: &Placements,
    connection: u64,
    frame: &Frame,
) -> Option<Handled> {
    let request = FetchRequest::decode(&frame.meta).ok()?;
    let item = request.items.first()?;
    let (from_lsn, max_bytes) = (item.from_lsn, (item.max_bytes as usize).min(FETCH_BYTES_MAX));
    let hosted = match locate(process, placements, item.partition) {
        Ok(hosted) => hosted,
        Err(error) => return Some(Handled::Answer(fetched(frame.correlation, Err(error.into())))),
    };
    let mut damage = None;
    let found = read(hosted, from_lsn, max_bytes, &mut damage);
    process.report_damage(shard_of(item.partition), damage);
    match found {
        Ok(Some(found)) => Some(Handled::Answer(fetched(frame.correlation, Ok(found)))),
        Err(error) => Some(Handled::Answer(fetched(frame.correlation, Err(error)))),
        Ok(None) => {
            let what = Wanted::Fetch { shard: shard_of(item.partition), from_lsn, max_bytes };
            let token = process.token();
            process.asked.insert(token, Asked { connection, correlation: frame.correlation, what });
            Some(Handled::Later { token, give_up_ms: request.max_wait_ms.into() })
        }
    }
}

/// Batches with the log's ends.
pub(super) struct Found {
    pub(super) view: ShardView,
    from_lsn: u64,
    pub(super) batches: Vec<ReadBatch>,
}

/// What there is to read now: `None` if it has to be waited for. `damage` is what the read came by.
pub(super) fn read(
    hosted: &Hosted,
    from_lsn: u64,
    max_bytes: usize,
    damage: &mut Option<String>,
) -> Result<Option<Found>, FetchError> {
    let view = hosted.replica.view().clone();
    if from_lsn == 0 {
        return Err(FetchError::InvalidLsn);
    }
    if from_lsn < view.log_start {
        return Err(ReadFault::BelowLogStart { log_start: view.log_start }.into());
    }
    let up_to = view.high_watermark;
    if from_lsn > up_to {
        return match &view.health {
            Health::Ok | Health::Full => Ok(None),
            Health::Failed(why) | Health::Faulty(why) => Err(LocateError::Faulty(why.clone()).into()),
        };
    }
    let Some(reader) = &hosted.reader else {
        return Err(LocateError::Opening { shard: hosted.replica.describe().shard }.into());
    };
    let batches = match reader.cached(from_lsn, max_bytes, up_to) {
        CachedRead::Hit(batches) => batches,
        CachedRead::AtEnd => Vec::new(),
        CachedRead::BelowStart { log_start } => return Err(ReadFault::BelowLogStart { log_start }.into()),
        CachedRead::Miss => {
            reader.read(from_lsn, max_bytes, up_to).map_err(|error| unreadable(error, damage))?
        }
    };
    Ok(Some(Found { view, from_lsn, batches }))
}

fn unreadable(error: ReadError, damage: &mut Option<String>) -> ReadFault {
    if let ReadError::Damaged(found) = &error {
        *damage = Some(found.to_string());
    }
    match error {
        ReadError::BelowStart { log_start } => ReadFault::BelowLogStart { log_start },
        other => ReadFault::Unreadable(other.to_string().into()),
    }
}

/// The answer to a fetch.
pub(super) fn fetched(correlation: u32, outcome: Result<Found, FetchError>) -> Bytes {
    let mut payload: Vec<Bytes> = Vec::new();
    let item = match outcome {
        Err(error) => Err(error.to_outcome(&Addresses)),
        Ok(Found { view, from_lsn, batches }) => {
            payload.extend(batches.iter().map(|batch| batch.bytes.clone()));
            Ok(Fetched {
                log_start: view.log_start,
                high_watermark: view.high_watermark,
                first_lsn: batches.first().map_or(from_lsn, |batch| batch.first_lsn),
                payload_length: payload.iter().map(Bytes::len).sum::<usize>() as u32,
            })
        }
    };
    let answer = Ok(FetchResponse { items: vec![item] });
    EncodedFrame::response::<FetchRequest>(correlation, &answer, payload).to_bytes()
}

/// Answers the fetches that wait for a shard and need not wait any more.
pub(super) fn wake(process: &mut Process, shard: u64, answers: &mut Vec<(u64, Bytes)>) {
    let Some(hosted) = process.hosted.get(&shard) else { return };
    let mut damage = None;
    process.asked.retain(|_, asked| {
        let Wanted::Fetch { shard: of, from_lsn, max_bytes } = asked.what else { return true };
        if of != shard {
            return true;
        }
        let answer = match read(hosted, from_lsn, max_bytes, &mut damage) {
            Ok(None) => return true,
            Ok(Some(found)) => fetched(asked.correlation, Ok(found)),
            Err(error) => fetched(asked.correlation, Err(error)),
        };
        answers.push((asked.connection, answer));
        false
    });
    process.report_damage(shard, damage);
}

/// What a fetch is told that waited as long as it wanted to.
pub(super) fn nothing_came(process: &Process, correlation: u32, shard: u64, from_lsn: u64) -> Bytes {
    let Some(hosted) = process.hosted.get(&shard) else {
        return fetched(correlation, Err(FetchError::Closed));
    };
    let view = hosted.replica.view().clone();
    // Beyond what this replica has heard of: perhaps the client has it from the leader.
    let next_lsn = view.high_watermark + 1;
    let outcome = if from_lsn > next_lsn {
        Err(FetchError::BeyondTail { asked: from_lsn, next_lsn })
    } else {
        Ok(Found { view, from_lsn, batches: Vec::new() })
    };
    fetched(correlation, outcome)
}
