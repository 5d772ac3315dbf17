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
use crate::pace::{Alarm, Clock, Schedule};
use crate::series::{Sample, Series};

/// Sends that may wait to be collected. The client bounds what is unacknowledged; this bounds what is acknowledged and
/// not yet counted.
const WAITING_MAX: usize = 1 << 16;

/// Where sends go.
pub trait Append: Send + Sync + 'static {
    /// What becomes the acknowledgement of a send.
    type Pending: Send + 'static;

    /// Hands over one send that began at `began`, waiting for room.
    fn append(&self, began: Duration) -> impl Future<Output = Result<Self::Pending, LoadError>> + Send;

    /// Waits for the acknowledgement.
    fn acknowledged(pending: Self::Pending) -> impl Future<Output = Result<(), LoadError>> + Send;

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
}

struct Waiting<P> {
    began: Duration,
    pending: P,
    /// The place in flight it takes until it is acknowledged.
    _place: Option<OwnedSemaphorePermit>,
}

impl<A: Append> Lane<A> {
    /// Sends until the time is over, and waits for all acknowledgements; returns how many records there were.
    ///
    /// # Errors
    /// The first send that failed; nothing is sent after it.
    pub async fn run(self, pace: Loop) -> Result<u64, LoadError> {
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
        acknowledged.and_then(|records| sent.map(|()| records))
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
            if !self.hand_over(due, None, waiting).await? {
                break;
            }
            if self.clock.now() >= self.clock.measured_to() {
                break;
            }
        }
        Ok(())
    }

    async fn send_when_answered(
        &self,
        in_flight: u32,
        waiting: &mpsc::Sender<Waiting<A::Pending>>,
    ) -> Result<(), LoadError> {
        let places = Arc::new(Semaphore::new(in_flight as usize));
        loop {
            let place = Arc::clone(&places).acquire_owned().await.ok();
            let now = self.clock.now();
            if now >= self.clock.measured_to() || !self.hand_over(now, place, waiting).await? {
                return Ok(());
            }
        }
    }

    /// Whether anybody still collects.
    async fn hand_over(
        &self,
        began: Duration,
        place: Option<OwnedSemaphorePermit>,
        waiting: &mpsc::Sender<Waiting<A::Pending>>,
    ) -> Result<bool, LoadError> {
        let pending = self.append.append(began).await?;
        Ok(waiting.send(Waiting { began, pending, _place: place }).await.is_ok())
    }

    async fn collect(&self, mut collected: mpsc::Receiver<Waiting<A::Pending>>) -> Result<u64, LoadError> {
        let (records, bytes) = (self.append.records(), self.append.bytes());
        let mut acknowledged = 0;
        while let Some(waiting) = collected.recv().await {
            A::acknowledged(waiting.pending).await?;
            acknowledged += records;
            let sample = Sample { began: waiting.began, ended: self.clock.now(), records, bytes };
            self.series.record(self.number, &sample);
        }
        Ok(acknowledged)
    }
}

#[cfg(test)]
#[path = "lane_tests.rs"]
mod tests;
