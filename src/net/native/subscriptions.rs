//! Subscriptions: batches are pushed as they are committed, while the client has credit.
//!
//! What holds:
//! - The response comes before the first push, and nothing is pushed after an unsubscribe's response.
//! - A push goes out while credit is above 0. Its first batch may exceed the credit, so that a batch larger
//!   than any grant still gets through; the debt is paid by the next grants.
//! - Pushes are whole batches in LSN order without a gap.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lockstep_protocol::native::{
    Credit, Push, SubscribeRequest, SubscribeResponse, UnsubscribeRequest, UnsubscribeResponse,
};
use lockstep_protocol::{EncodedFrame, ErrorCode, ErrorOutcome, Frame};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::connection::Context;
use super::outbound::Gone;
use super::outcome::ToOutcome;
use crate::broker::{FetchError, Subscription};
use crate::metrics;

/// Subscriptions of one connection.
const SUBSCRIPTIONS_MAX: usize = 4096;
/// The most credit a client may have given.
const CREDIT_MAX: u64 = 1 << 40;
/// The most bytes in one push, apart from a larger first batch.
const PUSH_BYTES_MAX: usize = 1 << 20;
/// Until a log that cannot show what it has is read again.
const REOPENING_PAUSE: Duration = Duration::from_millis(20);

/// A connection's subscriptions, by the correlation of the request that opened each.
#[derive(Default)]
pub(super) struct Subscriptions {
    open: Mutex<HashMap<u32, Open>>,
}

struct Open {
    credit: Arc<watch::Sender<i64>>,
    task: Option<JoinHandle<()>>,
}

impl Subscriptions {
    /// Ends all of them.
    pub(super) fn close(&self) {
        for (_, open) in self.lock().drain() {
            if let Some(task) = open.task {
                task.abort();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a subscription, with its first credit.
    fn reserve(&self, correlation: u32, credit_bytes: u64) -> Result<Arc<watch::Sender<i64>>, ErrorOutcome> {
        if credit_bytes == 0 || credit_bytes > CREDIT_MAX {
            return Err(ErrorCode::CreditExceeded.into());
        }
        let mut open = self.lock();
        if open.contains_key(&correlation) {
            return Err(ErrorCode::SubscriptionExists.into());
        }
        if open.len() >= SUBSCRIPTIONS_MAX {
            let message =
                format!("a connection has at most {SUBSCRIPTIONS_MAX} subscriptions: open another one");
            return Err(ErrorOutcome::new(ErrorCode::Overloaded, message));
        }
        let credit = Arc::new(watch::Sender::new(i64::try_from(credit_bytes).unwrap_or(i64::MAX)));
        open.insert(correlation, Open { credit: Arc::clone(&credit), task: None });
        Ok(credit)
    }

    fn forget(&self, correlation: u32) -> Option<JoinHandle<()>> {
        self.lock().remove(&correlation)?.task
    }
}

impl Context {
    /// Opens a subscription; its task answers, and then pushes.
    pub(super) async fn subscribe(&self, frame: &Frame) -> Result<(), Gone> {
        let Some(request) = self.decode::<SubscribeRequest>(frame).await? else { return Ok(()) };
        let correlation = frame.correlation;
        let credit = match self.subscriptions.reserve(correlation, request.credit_bytes) {
            Ok(credit) => credit,
            Err(refusal) => return self.answer::<SubscribeRequest>(frame, Err(refusal)).await,
        };
        let (context, frame) = (self.clone(), frame.clone());
        let task = tokio::spawn(async move {
            let _ = run(&context, &frame, request, credit).await;
        });
        // The task may have ended, and forgotten itself, already.
        if let Some(open) = self.subscriptions.lock().get_mut(&correlation) {
            open.task = Some(task);
        }
        Ok(())
    }

    /// Adds to a subscription's credit. Not answered.
    pub(super) async fn grant(&self, frame: &Frame) -> Result<(), Gone> {
        let Some(request) = self.decode::<Credit>(frame).await? else { return Ok(()) };
        let bytes = i64::try_from(request.bytes.min(CREDIT_MAX)).unwrap_or(i64::MAX);
        if let Some(open) = self.subscriptions.lock().get(&request.subscription) {
            let most = i64::try_from(CREDIT_MAX).unwrap_or(i64::MAX);
            open.credit.send_modify(|credit| *credit = credit.saturating_add(bytes).min(most));
        }
        Ok(())
    }

    /// Ends a subscription; the answer comes after its last push.
    pub(super) async fn unsubscribe(&self, frame: &Frame) -> Result<(), Gone> {
        let Some(request) = self.decode::<UnsubscribeRequest>(frame).await? else { return Ok(()) };
        let outcome = match self.subscriptions.forget(request.subscription) {
            Some(task) => {
                task.abort();
                let _ = task.await;
                Ok(UnsubscribeResponse {})
            }
            None => Err(ErrorCode::UnknownSubscription.into()),
        };
        self.answer::<UnsubscribeRequest>(frame, outcome).await
    }
}

/// Counts an open subscription for as long as it lives, however it ends.
struct Counted;

impl Counted {
    fn new() -> Counted {
        metrics::subscription_opened();
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::subscription_closed();
    }
}

async fn run(
    context: &Context,
    frame: &Frame,
    request: SubscribeRequest,
    credit: Arc<watch::Sender<i64>>,
) -> Result<(), Gone> {
    let opened = context.broker.subscribe(&request.topic, request.partition, request.from_lsn).await;
    let subscription = match opened {
        Ok(subscription) => subscription,
        Err(error) => {
            context.subscriptions.forget(frame.correlation);
            let outcome = Err(error.to_outcome(&context.broker));
            return context.answer::<SubscribeRequest>(frame, outcome).await;
        }
    };
    let _counted = Counted::new();
    let view = subscription.view();
    let response = SubscribeResponse { log_start: view.log_start, high_watermark: view.high_watermark };
    context.answer::<SubscribeRequest>(frame, Ok(response)).await?;
    let most = (request.max_push_bytes as usize).clamp(1, PUSH_BYTES_MAX);
    match push_all(context, frame.correlation, subscription, credit, most).await {
        Ok(gone) => Err(gone),
        Err(error) => {
            context.subscriptions.forget(frame.correlation);
            let outcome = error.to_outcome(&context.broker);
            metrics::request_failed("subscribe", outcome.code.name());
            let push = EncodedFrame::push(frame.correlation, &Err(outcome), Vec::new());
            context.outbound.send(push, None).await
        }
    }
}

/// Pushes until the client is gone, or the partition cannot be read on.
async fn push_all(
    context: &Context,
    correlation: u32,
    mut subscription: Subscription,
    credit: Arc<watch::Sender<i64>>,
    most: usize,
) -> Result<Gone, FetchError> {
    let mut granted = credit.subscribe();
    loop {
        subscription.ready().await?;
        if *credit.borrow() <= 0 {
            metrics::credit_waited();
        }
        let Ok(left) = granted.wait_for(|credit| *credit > 0).await.map(|credit| *credit) else {
            return Ok(Gone);
        };
        let most = most.min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut lease = context.memory.acquire(subscription.read_bytes_max(most)).await;
        let batches = subscription.read(most).await?;
        let Some(first) = batches.first() else {
            // There are records, and the log that has them is being opened again.
            drop(lease);
            tokio::time::sleep(REOPENING_PAUSE).await;
            continue;
        };
        let bytes: usize = batches.iter().map(|batch| batch.bytes.len()).sum();
        lease.keep(bytes);
        let push = Push {
            high_watermark: subscription.view().high_watermark,
            first_lsn: first.first_lsn,
            payload_length: u32::try_from(bytes).unwrap_or(u32::MAX),
        };
        let records: u64 = batches.iter().map(|batch| u64::from(batch.record_count)).sum();
        let payload = batches.into_iter().map(|batch| batch.bytes).collect();
        take(&credit, bytes);
        if context
            .outbound
            .send(EncodedFrame::push(correlation, &Ok(push), payload), Some(lease))
            .await
            .is_err()
        {
            return Ok(Gone);
        }
        metrics::pushed(bytes as u64, records);
    }
}

/// Takes a push off the credit. Nobody waits for there to be less of it.
fn take(credit: &watch::Sender<i64>, bytes: usize) {
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    credit.send_if_modified(|credit| {
        *credit = credit.saturating_sub(bytes);
        false
    });
}
