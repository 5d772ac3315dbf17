//! What a reader of one partition makes of pushes and refusals: where it goes on, and when it must not.
//!
//! What holds: no clock, socket or randomness of its own. The async client and the simulator call the same functions, so
//! that what is proven there of reconnections holds here.

use lockstep_planted::{self as planted, Bug};
use lockstep_protocol::native::{Credit, Push, SubscribeRequest};
use lockstep_protocol::{ErrorCode, Frame, Outcome, Wire};

use super::ConsumedBatch;
use super::verify::Position;
use crate::error::ConsumeError;
use crate::retry::Failure;

const BEHIND: &str = "the replica has not got that far yet";

/// How much may be under way.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Bytes that the broker may send ahead of the reader.
    pub credit_bytes: u64,
    /// Bytes of one push, at about the most.
    pub push_bytes_max: u32,
}

/// A reader of one partition, through all of its subscriptions.
#[derive(Debug)]
pub struct Following {
    topic: String,
    position: Position,
    /// LSN after which reading ends.
    end: Option<u64>,
    /// Start at the log start, even if it moves before the first record is read.
    follow_log_start: bool,
    window: Window,
    /// Nothing was pushed yet on the subscription that is open.
    restarted: bool,
    /// Whether anything was read: then every LSN up to the position is known to be committed.
    has_read: bool,
    /// What the last push called committed.
    high_watermark: u64,
    /// Bytes that were taken of the subscription that is open, and are not given back yet.
    taken_bytes: u64,
}

/// One push, checked.
#[derive(Debug)]
pub struct Pushed {
    /// What it brought.
    pub batches: Vec<ConsumedBatch>,
    /// Whether the end was reached: the rest is not wanted.
    pub done: bool,
    payload_bytes: u64,
}

/// Why a subscription ended, or an attempt at one.
#[derive(Debug)]
pub enum Ended {
    /// The broker failed, or lags: another may serve.
    Failed(Failure),
    /// Whether the LSN exists at all, the leader has to be asked; see [`Following::judge_end`].
    AskEnd,
    /// Nothing will help.
    Fatal(ConsumeError),
}

impl Following {
    /// A reader that has read nothing yet.
    #[must_use]
    pub fn new(
        topic: String,
        position: Position,
        end: Option<u64>,
        follow_log_start: bool,
        window: Window,
    ) -> Self {
        Self {
            topic,
            position,
            end,
            follow_log_start,
            window,
            restarted: true,
            has_read: false,
            high_watermark: 0,
            taken_bytes: 0,
        }
    }

    /// The topic it reads.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Where it stands.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// Whether the end was reached.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.position.next_lsn > end)
    }

    /// A subscription that goes on where the last one ended.
    pub fn subscribe(&mut self) -> SubscribeRequest {
        self.restarted = true;
        self.taken_bytes = 0;
        if planted::is_active(Bug::SkipAfterReconnect) {
            self.position.next_lsn = self.position.next_lsn.max(self.high_watermark + 1);
        }
        SubscribeRequest {
            topic: self.topic.clone(),
            partition: self.position.partition,
            from_lsn: self.position.next_lsn,
            credit_bytes: self.window.credit_bytes,
            max_push_bytes: self.window.push_bytes_max,
        }
    }

    /// Checks a push and moves behind it; `failures` counts the attempts since the last one.
    ///
    /// # Errors
    /// The broker ended the subscription, or what it sent cannot be.
    pub fn take(&mut self, frame: Frame, failures: u32) -> Result<Pushed, Ended> {
        let push = match Outcome::<Push>::decode(&frame.meta) {
            Ok(Ok(push)) => push,
            Ok(Err(error)) => return Err(self.judge(Failure::Refused(error), failures)),
            Err(error) => return Err(Ended::Failed(Failure::Garbled(error.to_string()))),
        };
        let payload_bytes = frame.payload.len() as u64;
        let restarted = self.restarted || !self.has_read;
        let taken = self.position.take(frame.payload, restarted, push.high_watermark);
        let mut batches = taken.map_err(Ended::Fatal)?;
        self.has_read |= !batches.is_empty();
        self.restarted = false;
        self.high_watermark = push.high_watermark;
        if let Some(end) = self.end
            && let Some(last) = batches.iter().position(|batch| batch.last_lsn >= end)
        {
            batches.truncate(last + 1);
        }
        Ok(Pushed { batches, done: self.is_done(), payload_bytes })
    }

    /// A push's batches were taken: what the broker is told, so that it sends as much again. Half of the window at a time, so that
    /// it need not be told of each push and never waits for a reader that keeps up.
    #[must_use]
    pub fn taken(&mut self, pushed: &Pushed, subscription: u32) -> Option<Credit> {
        self.taken_bytes += pushed.payload_bytes;
        let is_due = self.taken_bytes >= self.window.credit_bytes / 2;
        is_due.then(|| Credit { subscription, bytes: std::mem::take(&mut self.taken_bytes) })
    }

    /// What a failure means for this reader; `failures` counts the attempts before it.
    pub fn judge(&mut self, failure: Failure, failures: u32) -> Ended {
        let Failure::Refused(error) = &failure else { return Ended::Failed(failure) };
        let Position { partition, next_lsn: from_lsn } = self.position;
        match error.code {
            ErrorCode::LsnBelowLogStart
                if self.follow_log_start && !self.has_read && error.detail > from_lsn =>
            {
                self.position.next_lsn = error.detail;
                Ended::Failed(Failure::lagging("the log start moved"))
            }
            ErrorCode::LsnBelowLogStart => {
                Ended::Fatal(ConsumeError::BelowLogStart { partition, from_lsn, log_start: error.detail })
            }
            // What was read counts as committed without asking.
            ErrorCode::LsnBeyondTail if self.has_read => Ended::Failed(Failure::lagging(BEHIND)),
            ErrorCode::LsnBeyondTail => Ended::AskEnd,
            _ => Ended::Failed(failure.of_named_partition(failures)),
        }
    }

    /// What it means that a broker does not know its LSN, when the leader's next committed one is `next_lsn`.
    ///
    /// # Errors
    /// It does not exist.
    pub fn judge_end(&self, next_lsn: u64) -> Result<Failure, ConsumeError> {
        let Position { partition, next_lsn: from_lsn } = self.position;
        if from_lsn > next_lsn {
            return Err(ConsumeError::BeyondTail { partition, from_lsn, next_lsn });
        }
        Ok(Failure::lagging(BEHIND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn following(credit_bytes: u64) -> Following {
        let window = Window { credit_bytes, push_bytes_max: 1 << 20 };
        let position = Position { partition: 0, next_lsn: 1 };
        Following::new("topic".to_owned(), position, None, true, window)
    }

    fn pushed(payload_bytes: u64) -> Pushed {
        Pushed { batches: Vec::new(), done: false, payload_bytes }
    }

    #[test]
    fn credit_is_given_back_by_halves_of_the_window_and_the_broker_always_has_some() {
        let mut following = following(1_000);
        following.subscribe();
        let mut left: i64 = 1_000;
        let mut told = 0;
        for bytes in [1, 499, 500, 3, 2_500, 400, 99, 1] {
            assert!(left > 0, "the broker may push");
            left -= bytes;
            if let Some(credit) = following.taken(&pushed(bytes as u64), 7) {
                assert_eq!(credit.subscription, 7);
                (left, told) = (left + credit.bytes as i64, told + 1);
            }
        }
        assert_eq!((left, told), (1_000, 4));
    }

    #[test]
    fn a_window_of_one_byte_is_given_back_at_each_push() {
        let mut following = following(1);
        assert_eq!(following.taken(&pushed(40), 7), Some(Credit { subscription: 7, bytes: 40 }));
    }

    #[test]
    fn a_new_subscription_is_not_given_what_was_taken_of_the_last_one() {
        let mut following = following(1_000);
        assert_eq!(following.taken(&pushed(400), 7), None);
        following.subscribe();
        assert_eq!(following.taken(&pushed(400), 8), None);
        assert_eq!(following.taken(&pushed(100), 8), Some(Credit { subscription: 8, bytes: 500 }));
    }
}
