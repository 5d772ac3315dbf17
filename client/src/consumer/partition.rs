//! Reads one partition: subscribes, renews credit, and subscribes elsewhere when a broker fails. What follows from what
//! it is told is [`Following`]'s to say.

use std::sync::Arc;
use std::time::Duration;

use lockstep_protocol::native::{SubscribeResponse, TailRequest, UnsubscribeRequest};
use tokio::sync::mpsc;

use super::ConsumedBatch;
use super::following::{Ended, Following, Pushed, Window};
use super::verify::Position;
use crate::attempt::Target;
use crate::client::Client;
use crate::connection::{Connection, Pushes};
use crate::error::ConsumeError;
use crate::retry::{Failure, Repeat, Retry};
use crate::routing::NodeId;

/// After this long without a push the broker is asked whether it still lives.
const SILENCE_MAX: Duration = Duration::from_secs(5);

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
    pub(crate) window: Window,
}

/// The task that reads one partition.
pub(crate) struct PartitionReader {
    client: Client,
    following: Following,
    /// What tells the topic from a later one of its name.
    topic_id: u32,
    from: ReadFrom,
    batches: mpsc::Sender<Result<ConsumedBatch, ConsumeError>>,
    /// The attempts since the last push.
    retry: Option<Retry>,
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
        let following = Following::new(topic, position, end, follow_log_start, settings.window);
        Self { client, following, topic_id, from: settings.from, batches, retry: None }
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
        while !self.following.is_done() {
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
        let attempt = usize::try_from(self.failures()).unwrap_or(usize::MAX);
        if attempt > 0 {
            self.refresh(attempt).await?;
        }
        let core = &self.client.core;
        let (node, connection) = core
            .route(self.target(), attempt)
            .await
            .map_err(|(node, failure)| Stop::Failed(node, failure))?;
        let request = self.following.subscribe();
        match connection.subscribe(&request, core.options.request_timeout).await {
            Ok((SubscribeResponse { .. }, pushes)) => Ok((node, Subscription { connection, pushes })),
            Err(failure) => Err(self.judge(node, failure).await),
        }
    }

    /// Asks where the copies are now, and whether the topic is still the one that was read.
    async fn refresh(&mut self, attempt: usize) -> Result<(), Stop> {
        let core = Arc::clone(&self.client.core);
        match core.refresh(Some(self.following.topic()), attempt).await {
            // Ids only grow: a smaller one is old news from a broker that lags.
            Ok(Some(found)) if found.id < self.topic_id => Err(Stop::Failed(
                None,
                Failure::lagging("the broker knows only an earlier topic of the name"),
            )),
            Ok(Some(found)) if found.id > self.topic_id => {
                Err(Stop::Fatal(ConsumeError::MadeAnew { topic: self.following.topic().to_owned() }))
            }
            Ok(_) => Ok(()),
            Err(failure) => Err(self.judge(None, failure).await),
        }
    }

    async fn take_pushes(&mut self, node: Option<NodeId>, mut subscription: Subscription) -> Stop {
        loop {
            let frame = match tokio::time::timeout(SILENCE_MAX, subscription.pushes.receiver.recv()).await {
                Ok(Some(frame)) => frame,
                Ok(None) => return Stop::Failed(node, Failure::ConnectionLost),
                Err(_) => match self.ask_for_life(&subscription.connection).await {
                    Ok(()) => continue,
                    Err(failure) => return Stop::Failed(node, failure),
                },
            };
            let mut pushed = match self.following.take(frame, self.failures()) {
                Ok(pushed) => pushed,
                Err(ended) => return self.ended(node, ended).await,
            };
            self.retry = None;
            if let Err(stop) = self.pass_on(&mut pushed).await {
                return stop;
            }
            let credit = self.following.taken(&pushed, subscription.pushes.correlation());
            if let Some(credit) = credit
                && let Err(failure) = subscription.connection.tell(&credit).await
            {
                return Stop::Failed(node, failure);
            }
        }
    }

    async fn pass_on(&self, pushed: &mut Pushed) -> Result<(), Stop> {
        for batch in pushed.batches.drain(..) {
            self.batches.send(Ok(batch)).await.map_err(|_| Stop::Done)?;
        }
        if pushed.done { Err(Stop::Done) } else { Ok(()) }
    }

    /// Whether a broker that has nothing to push still answers.
    async fn ask_for_life(&self, connection: &Connection) -> Result<(), Failure> {
        let partition = self.following.position().partition;
        let topic = self.following.topic().to_owned();
        let request = TailRequest { topic, partition, linearizable: false };
        connection.call(&request, self.client.core.options.request_timeout).await.map(|_| ())
    }

    async fn judge(&mut self, node: Option<NodeId>, failure: Failure) -> Stop {
        let ended = self.following.judge(failure, self.failures());
        self.ended(node, ended).await
    }

    async fn ended(&self, node: Option<NodeId>, ended: Ended) -> Stop {
        match ended {
            Ended::Failed(failure) => Stop::Failed(node, failure),
            Ended::Fatal(error) => Stop::Fatal(error),
            Ended::AskEnd => {
                let next_lsn = self.committed_next_lsn().await;
                match next_lsn.and_then(|next_lsn| self.following.judge_end(next_lsn)) {
                    Ok(failure) => Stop::Failed(node, failure),
                    Err(error) => Stop::Fatal(error),
                }
            }
        }
    }

    /// The leader's next committed LSN.
    async fn committed_next_lsn(&self) -> Result<u64, ConsumeError> {
        let partition = self.following.position().partition;
        let topic = self.following.topic();
        let request = TailRequest { topic: topic.to_owned(), partition, linearizable: true };
        let target = Target::Leader(topic, partition);
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

    fn failures(&self) -> u32 {
        self.retry.as_ref().map_or(0, Retry::failures)
    }

    fn target(&self) -> Target<'_> {
        match self.from {
            ReadFrom::Any(preferred) => {
                Target::Replica(self.following.topic(), self.following.position().partition, preferred)
            }
            ReadFrom::Only(node) => Target::Node(node),
        }
    }
}
