//! One stream of sends, in an open or a closed loop.
//!
//! ```text
//!            due, or room in flight          in the order of the sends
//!  sender ──────────────────────────▶ waiting ─────────────────────────▶ collector ──▶ series
//! ```

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::error::LoadError;
use crate::pace::{Alarm, Clock, Schedule, nanoseconds};
use crate::series::{Sample, Series};

/// Sends that may wait to be collected. The client bounds what is unacknowledged; this bounds what is acknowledged and
/// not yet counted.
const WAITING_MAX: usize = 1 << 16;

/// Where sends go.
pub trait Append: Send + Sync + 'static {
    /// What becomes the acknowledgement of a send.
    type Pending: Send + 'static;

    /// Hands over a lane's send of this number, from 1 on, that began at `began`, waiting for room.
    fn append(
        &self,
        number: u64,
        began: Duration,
    ) -> impl Future<Output = Result<Self::Pending, LoadError>> + Send;

    /// Waits for the acknowledgement; returns the first LSN that it tells.
    fn acknowledged(pending: Self::Pending) -> impl Future<Output = Result<u64, LoadError>> + Send;

    /// Records in each send.
    fn records(&self) -> u64;

    /// Bytes of their values.
    fn bytes(&self) -> u64;
}

/// What decides when the next send leaves.
#[derive(Debug)]
pub enum Loop {
    /// The clock: each send has its time, whatever became of those before it.
    Open(Schedule, Alarm),
    /// The answers: so many sends are under way at once.
    Closed(u32),
}

/// One stream of sends.
pub struct Lane<A> {
    /// Its number among all lanes.
    pub number: usize,
    /// Where its sends go.
    pub append: A,
    /// The time of the run.
    pub clock: Arc<Clock>,
    /// Where its figures go.
    pub series: Arc<Series>,
    /// How many of its sends are kept for the checker, at most.
    pub keeps: usize,
}

/// One acknowledged send, for the checker. Times are in nanoseconds of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The LSN of its first record.
    pub first_lsn: u64,
    /// When it was to be sent.
    pub began: u64,
    /// When it was known to be acknowledged.
    pub ended: u64,
}

/// What a lane sent: all of it was acknowledged.
#[derive(Debug, Default)]
pub struct Acknowledged {
    /// Sends.
    pub sends: u64,
    /// Their records.
    pub records: u64,
    /// The first of them, in the order of their numbers.
    pub kept: Vec<Sent>,
}

struct Waiting<P> {
    began: Duration,
    pending: P,
    /// The place in flight it takes until it is acknowledged.
    _place: Option<OwnedSemaphorePermit>,
}

impl<A: Append> Lane<A> {
    /// Sends until the time is over, and waits for all acknowledgements.
    ///
    /// # Errors
    /// The first send that failed; nothing is sent after it.
    pub async fn run(self, pace: Loop) -> Result<Acknowledged, LoadError> {
        self.clock.begun().await;
        let (waiting, collected) = mpsc::channel(WAITING_MAX);
        let send = async {
            let sent = match pace {
                Loop::Open(schedule, alarm) => self.send_when_due(schedule, alarm, &waiting).await,
                Loop::Closed(in_flight) => self.send_when_answered(in_flight, &waiting).await,
            };
            drop(waiting);
            sent
        };
        let (sent, acknowledged) = tokio::join!(send, self.collect(collected));
        // A failed acknowledgement also ends the sending, so it is the cause.
        acknowledged.and_then(|acknowledged| sent.map(|()| acknowledged))
    }

    async fn send_when_due(
        &self,
        schedule: Schedule,
        mut alarm: Alarm,
        waiting: &mpsc::Sender<Waiting<A::Pending>>,
    ) -> Result<(), LoadError> {
        for send in 0.. {
            let due = schedule.due(send);
            if due >= self.clock.measured_to() {
                break;
            }
            alarm.until(self.clock.instant(due)).await?;
            if !self.hand_over(send + 1, due, None, waiting).await? {
                break;
            }
            if self.clock.now() >= self.clock.measured_to() {
                self.count_unsent(schedule, send + 1);
                break;
            }
        }
        Ok(())
    }

    /// What was due in time and is not sent any more, since the brokers took less than the rate: it would have waited for longer
    /// still.
    fn count_unsent(&self, schedule: Schedule, next_send: u64) {
        let now = self.clock.now();
        let dues = (next_send..).map(|send| schedule.due(send));
        for began in dues.take_while(|due| *due < self.clock.measured_to()) {
            let (records, bytes) = (self.append.records(), self.append.bytes());
            self.series.record(self.number, &Sample { began, ended: now, records, bytes });
        }
    }

    async fn send_when_answered(
        &self,
        in_flight: u32,
        waiting: &mpsc::Sender<Waiting<A::Pending>>,
    ) -> Result<(), LoadError> {
        let places = Arc::new(Semaphore::new(in_flight as usize));
        for number in 1.. {
            let place = Arc::clone(&places).acquire_owned().await.ok();
            let now = self.clock.now();
            if now >= self.clock.measured_to() || !self.hand_over(number, now, place, waiting).await? {
                break;
            }
        }
        Ok(())
    }

    /// Whether anybody still collects.
    async fn hand_over(
        &self,
        number: u64,
        began: Duration,
        place: Option<OwnedSemaphorePermit>,
        waiting: &mpsc::Sender<Waiting<A::Pending>>,
    ) -> Result<bool, LoadError> {
        let pending = self.append.append(number, began).await?;
        Ok(waiting.send(Waiting { began, pending, _place: place }).await.is_ok())
    }

    async fn collect(
        &self,
        mut collected: mpsc::Receiver<Waiting<A::Pending>>,
    ) -> Result<Acknowledged, LoadError> {
        let (records, bytes) = (self.append.records(), self.append.bytes());
        let mut acknowledged = Acknowledged::default();
        while let Some(Waiting { began, pending, _place }) = collected.recv().await {
            let first_lsn = A::acknowledged(pending).await?;
            let ended = self.clock.now();
            acknowledged.sends += 1;
            acknowledged.records += records;
            if acknowledged.kept.len() < self.keeps {
                let (began, ended) = (nanoseconds(began), nanoseconds(ended));
                acknowledged.kept.push(Sent { first_lsn, began, ended });
            }
            self.series.record(self.number, &Sample { began, ended, records, bytes });
        }
        Ok(acknowledged)
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
