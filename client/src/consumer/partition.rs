//! Reads one partition: subscribes, checks, renews credit, and subscribes elsewhere when a broker fails.

use std::sync::Arc;
use std::time::Duration;

use lockstep_protocol::native::{
    Credit, Push, SubscribeRequest, SubscribeResponse, TailRequest, UnsubscribeRequest,
};
use lockstep_protocol::{ErrorCode, ErrorOutcome, Frame, Outcome, Wire};
use tokio::sync::mpsc;

use super::ConsumedBatch;
use super::verify::Position;
use crate::attempt::Target;
use crate::client::Client;
use crate::connection::{Connection, Pushes};
use crate::error::ConsumeError;
use crate::retry::{Failure, Repeat, Retry};
use crate::routing::NodeId;

/// After this long without a push the broker is asked whether it still lives.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Attempts for which a broker may not have heard of a topic that the metadata names.
const UNHEARD_OF_ATTEMPTS_MAX: u32 = 8;

/// Whom to read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadFrom {
    /// Any copy; this broker's first.
    Any(Option<NodeId>),
    /// This broker's copy.
    Only(NodeId),
}

/// How a partition is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReaderSettings {
    pub(crate) from: ReadFrom,
    pub(crate) credit_bytes: u64,
    pub(crate) push_bytes_max: u32,
}

/// The task that reads one partition.
pub(crate) struct PartitionReader {
    client: Client,
    topic: String,
    /// What tells the topic from a later one of its name.
    topic_id: u32,
    position: Position,
    /// LSN after which reading ends.
    end: Option<u64>,
    /// Start at the log start, even if it moves before the first record is read.
    follow_log_start: bool,
    settings: ReaderSettings,
    batches: mpsc::Sender<Result<ConsumedBatch, ConsumeError>>,
    /// The attempts since the last push.
    retry: Option<Retry>,
    /// Whether anything was read: then every LSN up to the position is known to be committed.
    has_read: bool,
}

/// An open subscription; dropping it ends it at the broker too.
struct Subscription {
    connection: Arc<Connection>,
    pushes: Pushes,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.connection.tell_now(&UnsubscribeRequest { subscription: self.pushes.correlation() });
    }
}

/// Why reading stopped.
enum Stop {
    /// The end was reached, or nobody listens any more.
    Done,
    /// The broker failed: another may serve.
    Failed(Option<NodeId>, Failure),
    /// Nothing will help.
    Fatal(ConsumeError),
}

impl PartitionReader {
    pub(crate) fn new(
        client: Client,
        (topic, topic_id): (String, u32),
        position: Position,
        end: Option<u64>,
        follow_log_start: bool,
        settings: ReaderSettings,
        batches: mpsc::Sender<Result<ConsumedBatch, ConsumeError>>,
    ) -> Self {
        Self {
            client,
            topic,
            topic_id,
            position,
            end,
            follow_log_start,
            settings,
            batches,
            retry: None,
            has_read: false,
        }
    }

    /// Reads until the end, an error, or until nobody listens.
    pub(crate) async fn run(mut self) {
        let listener = self.batches.clone();
        tokio::select! {
            () = listener.closed() => {}
            result = self.read() => {
                if let Err(error) = result {
                    // Nobody listens any more: there is nobody to tell.
                    let _ = listener.send(Err(error)).await;
                }
            }
        }
    }

    async fn read(&mut self) -> Result<(), ConsumeError> {
        while self.end.is_none_or(|end| self.position.next_lsn <= end) {
            let stop = match self.subscribe().await {
                Ok((node, subscription)) => self.take_pushes(node, subscription).await,
                Err(stop) => stop,
            };
            match stop {
                Stop::Done => break,
                Stop::Fatal(error) => return Err(error),
                Stop::Failed(node, failure) => self.after_failure(node, failure).await?,
            }
        }
        Ok(())
    }

    async fn subscribe(&mut self) -> Result<(Option<NodeId>, Subscription), Stop> {
        let attempt = self.retry.as_ref().map_or(0, Retry::failures);
        let attempt = usize::try_from(attempt).unwrap_or(usize::MAX);
        if attempt > 0 {
            self.refresh(attempt).await?;
        }
        let core = &self.client.core;
        let (node, connection) = core
            .route(self.target(), attempt)
            .await
            .map_err(|(node, failure)| Stop::Failed(node, failure))?;
        let request = SubscribeRequest {
            topic: self.topic.clone(),
            partition: self.position.partition,
            from_lsn: self.position.next_lsn,
            credit_bytes: self.settings.credit_bytes,
            max_push_bytes: self.settings.push_bytes_max,
        };
        match connection.subscribe(&request, core.options.request_timeout).await {
            Ok((SubscribeResponse { .. }, pushes)) => Ok((node, Subscription { connection, pushes })),
            Err(failure) => Err(self.judge(node, failure).await),
        }
    }

    /// Asks where the copies are now, and whether the topic is still the one that was read.
    async fn refresh(&mut self, attempt: usize) -> Result<(), Stop> {
        let core = Arc::clone(&self.client.core);
        match core.refresh(Some(&self.topic), attempt).await {
            // Ids only grow: a smaller one is old news from a broker that lags.
            Ok(Some(found)) if found.id < self.topic_id => {
                Err(Stop::Failed(None, lagging("the broker knows only an earlier topic of the name")))
            }
            Ok(Some(found)) if found.id > self.topic_id => {
                Err(Stop::Fatal(ConsumeError::MadeAnew { topic: self.topic.clone() }))
            }
            Ok(_) => Ok(()),
            Err(failure) => Err(self.judge(None, failure).await),
        }
    }

    async fn take_pushes(&mut self, node: Option<NodeId>, mut subscription: Subscription) -> Stop {
        let mut restarted = true;
        loop {
            let frame = match tokio::time::timeout(SILENCE_MAX, subscription.pushes.receiver.recv()).await {
                Ok(Some(frame)) => frame,
                Ok(None) => return Stop::Failed(node, Failure::ConnectionLost),
                Err(_) => match self.ask_for_life(&subscription.connection).await {
                    Ok(()) => continue,
                    Err(failure) => return Stop::Failed(node, failure),
                },
            };
            let bytes = frame.payload.len() as u64;
            if let Err(stop) = self.take_push(node, frame, restarted).await {
                return stop;
            }
            restarted = false;
            let credit = Credit { subscription: subscription.pushes.correlation(), bytes };
            if let Err(failure) = subscription.connection.tell(&credit).await {
                return Stop::Failed(node, failure);
            }
        }
    }

    /// Checks a push and passes its batches on.
    async fn take_push(&mut self, node: Option<NodeId>, frame: Frame, restarted: bool) -> Result<(), Stop> {
        let push = match Outcome::<Push>::decode(&frame.meta) {
            Ok(Ok(push)) => push,
            Ok(Err(error)) => return Err(self.judge(node, Failure::Refused(error)).await),
            Err(error) => return Err(Stop::Failed(node, Failure::Garbled(error.to_string()))),
        };
        let restarted = restarted || !self.has_read;
        let taken = self.position.take(frame.payload, restarted, push.high_watermark).map_err(Stop::Fatal)?;
        self.has_read |= !taken.is_empty();
        self.retry = None;
        for batch in taken {
            let last_lsn = batch.last_lsn;
            self.batches.send(Ok(batch)).await.map_err(|_| Stop::Done)?;
            if self.end.is_some_and(|end| last_lsn >= end) {
                return Err(Stop::Done);
            }
        }
        Ok(())
    }

    /// Whether a broker that has nothing to push still answers.
    async fn ask_for_life(&self, connection: &Connection) -> Result<(), Failure> {
        let partition = self.position.partition;
        let request = TailRequest { topic: self.topic.clone(), partition, linearizable: false };
        connection.call(&request, self.client.core.options.request_timeout).await.map(|_| ())
    }

    /// What a refusal means for this reader.
    async fn judge(&mut self, node: Option<NodeId>, failure: Failure) -> Stop {
        let Failure::Refused(error) = &failure else { return Stop::Failed(node, failure) };
        let partition = self.position.partition;
        let from_lsn = self.position.next_lsn;
        match error.code {
            ErrorCode::LsnBelowLogStart
                if self.follow_log_start && !self.has_read && error.detail > from_lsn =>
            {
                self.position.next_lsn = error.detail;
                Stop::Failed(node, lagging("the log start moved"))
            }
            ErrorCode::LsnBelowLogStart => {
                Stop::Fatal(ConsumeError::BelowLogStart { partition, from_lsn, log_start: error.detail })
            }
            ErrorCode::LsnBeyondTail => match self.committed_next_lsn().await {
                Ok(next_lsn) if from_lsn > next_lsn => {
                    Stop::Fatal(ConsumeError::BeyondTail { partition, from_lsn, next_lsn })
                }
                Ok(_) => Stop::Failed(node, lagging("the replica has not got that far yet")),
                Err(error) => Stop::Fatal(error),
            },
            ErrorCode::UnknownTopic | ErrorCode::UnknownPartition
                if self.retry.as_ref().map_or(0, Retry::failures) < UNHEARD_OF_ATTEMPTS_MAX =>
            {
                Stop::Failed(node, lagging("the broker has not heard of the topic yet"))
            }
            _ => Stop::Failed(node, failure),
        }
    }

    /// The leader's next committed LSN; what was read counts as committed without asking.
    async fn committed_next_lsn(&self) -> Result<u64, ConsumeError> {
        let partition = self.position.partition;
        if self.has_read {
            return Ok(self.position.next_lsn);
        }
        let request = TailRequest { topic: self.topic.clone(), partition, linearizable: true };
        let target = Target::Leader(&self.topic, partition);
        let tail = self.client.core.call(target, &request, Repeat::Harmless).await?;
        Ok(tail.high_watermark + 1)
    }

    async fn after_failure(&mut self, node: Option<NodeId>, failure: Failure) -> Result<(), ConsumeError> {
        let core = Arc::clone(&self.client.core);
        let mut retry = self.retry.take().unwrap_or_else(|| core.retry(Repeat::Harmless));
        core.after_failure(&mut retry, self.target(), node, failure).await?;
        self.retry = Some(retry);
        Ok(())
    }

    fn target(&self) -> Target<'_> {
        match self.settings.from {
            ReadFrom::Any(preferred) => Target::Replica(&self.topic, self.position.partition, preferred),
            ReadFrom::Only(node) => Target::Node(node),
        }
    }
}

/// A refusal that time will mend.
fn lagging(why: &str) -> Failure {
    Failure::Refused(ErrorOutcome::new(ErrorCode::NotReady, why))
}
