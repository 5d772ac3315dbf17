//! Requests that wait, and the shape of their answers.

use bytes::Bytes;
use lockstep::broker::LocateError;
use lockstep::net::native::outcome::ToOutcome;
use lockstep::shard::{AppendError, Input};
use lockstep_protocol::{EncodedFrame, Outcome, Request};

use super::names::{Addresses, shard_of};
use super::subscriptions::Subscription;
use crate::node::{Hosted, Mail, Process};
use crate::placement::Placements;

/// A client's request that waits.
pub struct Asked {
    /// The connection it came on.
    pub connection: u64,
    pub(super) correlation: u32,
    pub(super) what: Wanted,
}

impl Asked {
    /// The fencing epoch of the writer that asks.
    pub fn fence(&self) -> Option<u64> {
        if let Wanted::Append { fence, .. } = self.what { fence } else { None }
    }
}

/// What is waited for.
pub(super) enum Wanted {
    Append { timeout_ms: u32, fence: Option<u64> },
    Tail { shard: u64 },
    Trim { log_start: u64 },
    Fence { epoch: u64 },
    Fetch { shard: u64, from_lsn: u64, max_bytes: usize },
    Subscribe(Subscription),
}

/// What a frame led to.
pub enum Handled {
    /// An answer at once.
    Answer(Bytes),
    /// An answer later; given up after so many milliseconds.
    Later {
        /// Its token.
        token: u64,
        /// After so many.
        give_up_ms: u64,
    },
    /// Readers of a shard may be served more, after an answer if there is one.
    Readers {
        /// The shard.
        shard: u64,
        /// The answer.
        answer: Option<Bytes>,
    },
    /// There is nothing to answer.
    Nothing,
    /// The connection is of no use any more.
    Close,
}

/// The local replica of a partition, or why there is none.
pub(super) fn locate<'p>(
    process: &'p mut Process,
    placements: &Placements,
    partition: u32,
) -> Result<&'p mut Hosted, LocateError> {
    let shard = shard_of(partition);
    if let Some(why) = process.refused.get(&shard) {
        return Err(LocateError::Faulty(why.clone()));
    }
    let target = &placements[&shard].target;
    let node = process.node;
    process.hosted.get_mut(&shard).ok_or_else(|| match target.first() {
        Some(first) if !target.contains(&node) => LocateError::NotReplica { node: *first },
        _ => LocateError::Opening { shard },
    })
}

/// Hands a request to its shard, and waits for what that says.
pub(super) fn ask(
    process: &mut Process,
    shard: u64,
    asked: Asked,
    give_up_ms: u64,
    input: impl FnOnce(u64) -> Input,
) -> Handled {
    let token = process.token();
    process.asked.insert(token, asked);
    process.inbox.push_back(Mail::One(shard, Box::new(input(token).into())));
    Handled::Later { token, give_up_ms }
}

/// A shard's answer to a request of this kind.
pub(super) fn respond<R: Request>(correlation: u32, answer: Result<R::Response, AppendError>) -> Bytes {
    response::<R>(correlation, answer.map_err(|error| error.to_outcome(&Addresses)))
}

/// An answer to a request of this kind.
pub(super) fn response<R: Request>(correlation: u32, outcome: Outcome<R::Response>) -> Bytes {
    EncodedFrame::response::<R>(correlation, &outcome, Vec::new()).to_bytes()
}
