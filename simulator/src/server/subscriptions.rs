//! Subscriptions: batches are pushed as they are committed, while the client has credit.
//!
//! In production each is a task that waits for a view or for credit; here whatever changes one of them moves all that it
//! concerns. What holds as there: the answer comes before the first push, and nothing is pushed after the one that ends it.

use std::collections::BTreeMap;

use bytes::Bytes;
use lockstep::broker::FetchError;
use lockstep::cluster::ReadFault;
use lockstep::net::native::outcome::ToOutcome;
use lockstep::shard::ShardView;
use lockstep_protocol::native::{
    Credit, Push, SubscribeRequest, SubscribeResponse, UnsubscribeRequest, UnsubscribeResponse,
};
use lockstep_protocol::{EncodedFrame, ErrorCode, Frame, Wire};

use super::asked::{Asked, Handled, Wanted, locate, response};
use super::fetch::{Found, read};
use super::names::{Addresses, shard_of};
use crate::node::{Hosted, Process};
use crate::placement::Placements;

/// How long a replica may take to hear of a commit before an LSN beyond its tail is refused, as in the broker.
const NEWS_WAIT_MS: u64 = 1_000;

/// The open ones, by connection and by the correlation of the request that opened each.
pub type Subscriptions = BTreeMap<(u64, u32), Subscription>;

/// Where one stands.
#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    shard: u64,
    next_lsn: u64,
    credit: i64,
    push_bytes_max: usize,
}

/// Opens one, at once or when its first LSN is known to be the next.
pub(super) fn subscribe(
    process: &mut Process,
    placements: &Placements,
    connection: u64,
    frame: &Frame,
) -> Option<Handled> {
    let request = SubscribeRequest::decode(&frame.meta).ok()?;
    let shard = shard_of(request.partition);
    let wanted = Subscription {
        shard,
        next_lsn: request.from_lsn,
        credit: i64::try_from(request.credit_bytes).unwrap_or(i64::MAX),
        push_bytes_max: request.max_push_bytes as usize,
    };
    let view = match locate(process, placements, request.partition) {
        Err(error) => return Some(Handled::Answer(refused(frame.correlation, error.into()))),
        Ok(hosted) => hosted.replica.view().clone(),
    };
    Some(match begins(&view, request.from_lsn) {
        Err(error) => Handled::Answer(refused(frame.correlation, error)),
        Ok(true) => {
            process.subscriptions.insert((connection, frame.correlation), wanted);
            Handled::Readers { shard, answer: Some(opened(frame.correlation, &view)) }
        }
        Ok(false) => {
            let token = process.token();
            let what = Wanted::Subscribe(wanted);
            process.asked.insert(token, Asked { connection, correlation: frame.correlation, what });
            Handled::Later { token, give_up_ms: NEWS_WAIT_MS }
        }
    })
}

/// Whether a subscription may begin there now; false if that is not known yet.
fn begins(view: &ShardView, from_lsn: u64) -> Result<bool, FetchError> {
    if from_lsn == 0 {
        return Err(FetchError::InvalidLsn);
    }
    if from_lsn < view.log_start {
        return Err(ReadFault::BelowLogStart { log_start: view.log_start }.into());
    }
    Ok(from_lsn <= view.high_watermark + 1)
}

/// Adds to a subscription's credit.
pub(super) fn grant(process: &mut Process, connection: u64, frame: &Frame) -> Option<Handled> {
    let request = Credit::decode(&frame.meta).ok()?;
    let Some(open) = process.subscriptions.get_mut(&(connection, request.subscription)) else {
        return Some(Handled::Nothing);
    };
    open.credit = open.credit.saturating_add(i64::try_from(request.bytes).unwrap_or(i64::MAX));
    Some(Handled::Readers { shard: open.shard, answer: None })
}

/// Ends a subscription.
pub(super) fn unsubscribe(process: &mut Process, connection: u64, frame: &Frame) -> Option<Handled> {
    let request = UnsubscribeRequest::decode(&frame.meta).ok()?;
    let (was_open, waiting) =
        (process.subscriptions.remove(&(connection, request.subscription)), process.asked.len());
    process.asked.retain(|_, asked| {
        let it_is = asked.connection == connection && asked.correlation == request.subscription;
        !(it_is && matches!(asked.what, Wanted::Subscribe(_)))
    });
    let known = was_open.is_some() || process.asked.len() < waiting;
    let outcome = if known { Ok(UnsubscribeResponse {}) } else { Err(ErrorCode::UnknownSubscription.into()) };
    Some(Handled::Answer(response::<UnsubscribeRequest>(frame.correlation, outcome)))
}

/// Opens what waited for an LSN that is known now, and pushes what there is to whoever has credit.
pub(super) fn wake(process: &mut Process, shard: u64, answers: &mut Vec<(u64, Bytes)>) {
    open_what_waited(process, shard, answers);
    let Process { subscriptions, hosted, .. } = process;
    let (hosted, mut damage) = (hosted.get(&shard), None);
    subscriptions.retain(|(connection, correlation), open| {
        if open.shard != shard {
            return true;
        }
        let mut push = |push, payload| {
            answers.push((*connection, EncodedFrame::push(*correlation, &push, payload).to_bytes()));
        };
        let Some(hosted) = hosted else {
            push(Err(FetchError::Closed.to_outcome(&Addresses)), Vec::new());
            return false;
        };
        while open.credit > 0 {
            match open.read(hosted, &mut damage) {
                Ok(None) => break,
                Ok(Some(found)) => push(Ok(open.pass(&found)), bytes_of(found)),
                Err(error) => {
                    push(Err(error.to_outcome(&Addresses)), Vec::new());
                    return false;
                }
            }
        }
        true
    });
    process.report_damage(shard, damage);
}

fn open_what_waited(process: &mut Process, shard: u64, answers: &mut Vec<(u64, Bytes)>) {
    let Some(hosted) = process.hosted.get(&shard) else { return };
    let view = hosted.replica.view();
    let Process { asked, subscriptions, .. } = process;
    asked.retain(|_, asked| {
        let Wanted::Subscribe(wanted) = asked.what else { return true };
        if wanted.shard != shard {
            return true;
        }
        let answer = match begins(view, wanted.next_lsn) {
            Ok(false) => return true,
            Ok(true) => {
                subscriptions.insert((asked.connection, asked.correlation), wanted);
                opened(asked.correlation, view)
            }
            Err(error) => refused(asked.correlation, error),
        };
        answers.push((asked.connection, answer));
        false
    });
}

impl Subscription {
    fn read(&self, hosted: &Hosted, damage: &mut Option<String>) -> Result<Option<Found>, FetchError> {
        let most = self.push_bytes_max.min(usize::try_from(self.credit).unwrap_or(usize::MAX));
        let found = read(hosted, self.next_lsn, most, damage)?;
        Ok(found.filter(|found| !found.batches.is_empty()))
    }

    /// Moves behind what was found.
    fn pass(&mut self, found: &Found) -> Push {
        let bytes: usize = found.batches.iter().map(|batch| batch.bytes.len()).sum();
        let first_lsn = found.batches.first().map_or(self.next_lsn, |batch| batch.first_lsn);
        self.next_lsn = found.batches.last().map_or(self.next_lsn, |batch| batch.last_lsn() + 1);
        self.credit -= bytes as i64;
        Push { high_watermark: found.view.high_watermark, first_lsn, payload_length: bytes as u32 }
    }

    /// What is told whose LSN did not come to be known in time.
    pub(super) fn beyond(&self, process: &Process, correlation: u32) -> Bytes {
        let high_watermark =
            process.hosted.get(&self.shard).map_or(0, |hosted| hosted.replica.view().high_watermark);
        let next_lsn = high_watermark + 1;
        refused(correlation, FetchError::BeyondTail { asked: self.next_lsn, next_lsn })
    }
}

fn bytes_of(found: Found) -> Vec<Bytes> {
    found.batches.into_iter().map(|batch| batch.bytes).collect()
}

fn opened(correlation: u32, view: &ShardView) -> Bytes {
    let answer = SubscribeResponse { log_start: view.log_start, high_watermark: view.high_watermark };
    response::<SubscribeRequest>(correlation, Ok(answer))
}

fn refused(correlation: u32, error: FetchError) -> Bytes {
    response::<SubscribeRequest>(correlation, Err(error.to_outcome(&Addresses)))
}
