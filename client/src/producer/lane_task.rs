//! The shell around a [`Lane`]: sends what may leave, waits for answers, retries.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lockstep_protocol::native::{ProduceItem, ProduceRequest, Produced};
use lockstep_protocol::{BatchBuilder, Record};
use tokio::sync::{Notify, Semaphore};

use super::delivery::{BatchDelivery, Delivery, Ticket};
use super::lane::{Conditions, Dispatch, Lane, LaneSettings};
use crate::attempt::Target;
use crate::client::{Client, DOUBT, DOUBT_AGAIN, only};
use crate::connection::Connection;
use crate::error::{ProduceError, RequestError};
use crate::retry::{Failure, Repeat, Retry};
use crate::routing::NodeId;

/// A lane and what wakes its task.
pub(crate) struct LaneHandle {
    client: Client,
    topic: Arc<str>,
    partition: u32,
    repeat: Repeat,
    state: Mutex<LaneState>,
    wake: Notify,
}

struct LaneState {
    lane: Lane,
    /// Nobody pushes any more: end when all is settled.
    abandoned: bool,
}

/// An answer under way.
type Pending = Pin<Box<dyn Future<Output = Result<Produced, Failure>> + Send>>;

impl LaneHandle {
    /// Makes a lane and starts its task.
    pub(crate) fn start(
        client: Client,
        topic: Arc<str>,
        settings: LaneSettings,
        budget: Arc<Semaphore>,
    ) -> Arc<Self> {
        let repeat = if settings.identity.is_some() { Repeat::Harmless } else { Repeat::Harmful };
        let state = Mutex::new(LaneState { lane: Lane::new(settings, budget), abandoned: false });
        let partition = settings.partition;
        let handle = Arc::new(Self { client, topic, partition, repeat, state, wake: Notify::new() });
        tokio::spawn(
            Sender {
                lane: Arc::clone(&handle),
                pending: VecDeque::new(),
                doubtful_at: Duration::ZERO,
                broker: None,
                retry: None,
            }
            .run(),
        );
        handle
    }

    pub(crate) fn push(&self, record: &Record, permits: usize) -> Result<Delivery, ProduceError> {
        let now = self.client.core.now();
        let (delivery, wake) = self.lock().lane.push(record, permits, now)?;
        if wake {
            self.wake.notify_one();
        }
        Ok(delivery)
    }

    pub(crate) fn push_batch(
        &self,
        builder: BatchBuilder,
        conditions: Conditions,
        permits: usize,
    ) -> Result<BatchDelivery, ProduceError> {
        let delivery = self.lock().lane.push_batch(builder, conditions, permits)?;
        self.wake.notify_one();
        Ok(delivery)
    }

    pub(crate) fn flush(&self) -> Vec<Arc<Ticket>> {
        let tickets = self.lock().lane.flush();
        self.wake.notify_one();
        tickets
    }

    /// Nobody will push any more: what is buffered is still sent.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.abandoned = true;
        state.lane.flush();
        drop(state);
        self.wake.notify_one();
    }

    /// Sends a batch behind all that was sent before; returns what becomes its answer.
    async fn submit(&self, connection: &Connection, dispatch: Dispatch) -> Result<Pending, Failure> {
        let core = &self.client.core;
        let item = ProduceItem {
            topic: self.topic.to_string(),
            partition: self.partition,
            expected_next_lsn: dispatch.conditions.expected_next_lsn,
            fence: dispatch.conditions.fence,
            position: dispatch.conditions.position,
            batch_length: u32::try_from(dispatch.batch.len()).unwrap_or(u32::MAX),
        };
        let request = ProduceRequest { timeout_ms: self.client.timeout_ms(), batches: vec![item] };
        let answer = connection.submit(&request, vec![dispatch.batch]).await?;
        let limit = core.options.request_timeout;
        Ok(Box::pin(async move { only(answer.wait(limit).await?.0.results) }))
    }

    fn lock(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task of one lane.
struct Sender {
    lane: Arc<LaneHandle>,
    /// In step with the front of what the lane has in flight.
    pending: VecDeque<Pending>,
    /// When the broker's silence gives reason to ask others, while something is pending.
    doubtful_at: Duration,
    /// Where batches go at the moment.
    broker: Option<(Option<NodeId>, Arc<Connection>)>,
    /// The attempts since the last success.
    retry: Option<Retry>,
}

impl Drop for Sender {
    /// Also when the runtime stops: whoever waits is told.
    fn drop(&mut self) {
        self.lane.lock().lane.abandon();
    }
}

impl Sender {
    async fn run(mut self) {
        let lane = Arc::clone(&self.lane);
        loop {
            if let Err((node, failure)) = self.send_what_may_leave().await {
                self.attempt_failed(node, failure).await;
                continue;
            }
            let deadline = {
                let state = lane.lock();
                if state.abandoned && state.lane.is_idle() {
                    return;
                }
                state.lane.deadline()
            };
            let doubtful = self.doubtful_at();
            tokio::select! {
                result = front(&mut self.pending) => self.front_answered(result).await,
                () = lane.wake.notified() => {}
                () = sleep_until(&lane.client, doubtful) => self.doubt().await,
                () = sleep_until(&lane.client, deadline) => {}
            }
        }
    }

    async fn send_what_may_leave(&mut self) -> Result<(), (Option<NodeId>, Failure)> {
        loop {
            let now = self.lane.client.core.now();
            let Some(dispatch) = self.lane.lock().lane.next_dispatch(now) else { return Ok(()) };
            let connection = self.connection().await?;
            let node = self.broker.as_ref().and_then(|(node, _)| *node);
            let pending = self.lane.submit(&connection, dispatch).await.map_err(|failure| (node, failure))?;
            if self.pending.is_empty() {
                self.doubtful_at = self.lane.client.core.now() + DOUBT;
            }
            self.pending.push_back(pending);
        }
    }

    async fn connection(&mut self) -> Result<Arc<Connection>, (Option<NodeId>, Failure)> {
        if let Some((_, connection)) = &self.broker {
            return Ok(Arc::clone(connection));
        }
        let target = Target::Leader(&self.lane.topic, self.lane.partition);
        let failures = self.retry.as_ref().map_or(0, Retry::failures);
        let attempt = usize::try_from(failures).unwrap_or(usize::MAX);
        let (node, connection) = self.lane.client.core.route(target, attempt).await?;
        self.broker = Some((node, Arc::clone(&connection)));
        Ok(connection)
    }

    /// When the broker's silence gives reason to ask others who leads: never, where sending again would do harm.
    fn doubtful_at(&self) -> Option<Duration> {
        let waits = !self.pending.is_empty() && self.lane.repeat == Repeat::Harmless;
        waits.then_some(self.doubtful_at)
    }

    /// Asks other brokers who leads. If it is not the one that is silent, everything is sent again, there.
    async fn doubt(&mut self) {
        let node = self.broker.as_ref().and_then(|(node, _)| *node);
        let lane = Arc::clone(&self.lane);
        if let Some(node) = node
            && lane.client.core.ask_who_leads(&lane.topic, lane.partition, Some(node)).await
        {
            return self.attempt_failed(Some(node), Failure::TimedOut).await;
        }
        self.doubtful_at = lane.client.core.now() + DOUBT_AGAIN;
    }

    async fn front_answered(&mut self, result: Result<Produced, Failure>) {
        self.pending.pop_front();
        match result {
            Ok(produced) => {
                self.retry = None;
                self.doubtful_at = self.lane.client.core.now() + DOUBT;
                self.lane.lock().lane.front_stored(&produced);
            }
            Err(failure) => {
                let node = self.broker.as_ref().and_then(|(node, _)| *node);
                self.attempt_failed(node, failure).await;
            }
        }
    }

    /// Judges the failed attempt at the front; everything in flight will be sent again, or fails with it.
    async fn attempt_failed(&mut self, node: Option<NodeId>, failure: Failure) {
        self.pending.clear();
        let outcome_open = failure.leaves_outcome_open();
        self.broker = None;
        let core = Arc::clone(&self.lane.client.core);
        let mut retry = self.retry.take().unwrap_or_else(|| core.retry(self.lane.repeat));
        let target = Target::Leader(&self.lane.topic, self.lane.partition);
        match core.after_failure(&mut retry, target, node, failure).await {
            Ok(()) => self.retry = Some(retry),
            Err(error) => {
                let error = left_open(error, retry.outcome_open());
                self.lane.lock().lane.front_failed(error.into());
            }
        }
        self.lane.lock().lane.resend(outcome_open);
    }
}

/// What an attempt that nobody answered has left open stays so, whatever the last one met: the batch may be stored.
fn left_open(error: RequestError, outcome_open: bool) -> RequestError {
    match error {
        RequestError::BudgetSpent { last, .. } if outcome_open => RequestError::OutcomeUnknown { last },
        error => error,
    }
}

/// The first answer; never, if none is under way.
async fn front(pending: &mut VecDeque<Pending>) -> Result<Produced, Failure> {
    match pending.front_mut() {
        Some(front) => front.await,
        None => std::future::pending().await,
    }
}

/// Sleeps until the client's clock reads `deadline`; for ever without one.
async fn sleep_until(client: &Client, deadline: Option<Duration>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.saturating_sub(client.core.now())).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_may_be_stored_is_not_called_one_to_send_again() {
        let spent = || RequestError::BudgetSpent { attempts: 3, last: "the broker cannot be reached".into() };
        assert!(left_open(spent(), false).is_retryable(), "no attempt reached a broker");
        let open = left_open(spent(), true);
        assert!(matches!(open, RequestError::OutcomeUnknown { .. }) && !open.is_retryable(), "{open}");
    }
}
