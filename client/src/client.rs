//! The client: routes requests, retries them, and hands out producers and consumers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use lockstep_protocol::native::{HelloResponse, MetadataRequest, MetadataResponse, TopicMetadata};
use lockstep_protocol::{ErrorCode, ErrorOutcome, Outcome, Request};
use tokio::time::Instant;

use crate::address::{self, Addresses};
use crate::attempt::{self, Target};
use crate::connection::Connection;
use crate::consumer::ConsumerBuilder;
use crate::error::{ConnectError, RequestError, describe};
use crate::jitter::{Jitter, SplitMix};
use crate::options::ClientOptions;
use crate::pool::Pool;
use crate::producer::ProducerBuilder;
use crate::retry::{Failure, Repeat, Retry};
use crate::routing::{NodeId, RoutingTable};

/// How long a leader may be silent before others are asked whether it still leads. A process that stands still keeps its
/// connections open.
pub(crate) const DOUBT: Duration = Duration::from_millis(300);
/// How long until they are asked again.
pub(crate) const DOUBT_AGAIN: Duration = Duration::from_millis(100);

/// A connection to a cluster. Cheap to clone; all clones share one connection per broker.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use lockstep_client::Client;
///
/// let client = Client::connect("127.0.0.1:7400,127.0.0.1:7410").await?;
/// for topic in client.list_topics().await? {
///     println!("{} has {} partitions", topic.name, topic.partitions);
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Client {
    pub(crate) core: Arc<Core>,
}

/// What all clones, producers and consumers of a client share.
pub(crate) struct Core {
    pub(crate) options: ClientOptions,
    bootstrap: Vec<String>,
    pool: Pool,
    routing: Mutex<RoutingTable>,
    jitter: Mutex<Box<dyn Jitter>>,
    /// What the clock is read against.
    origin: Instant,
}

impl Client {
    /// Connects to the first broker that answers, and learns of the others from it.
    ///
    /// # Errors
    /// [`ConnectError`] if no address is valid or no broker answers within the connect timeout.
    pub async fn connect(addresses: impl Addresses) -> Result<Self, ConnectError> {
        Self::connect_with(addresses, ClientOptions::default()).await
    }

    /// [`Client::connect`] with options.
    ///
    /// # Errors
    /// [`ConnectError`] if no address is valid or no broker answers within the connect timeout.
    pub async fn connect_with(
        addresses: impl Addresses,
        options: ClientOptions,
    ) -> Result<Self, ConnectError> {
        let bootstrap = address::checked(&addresses)?;
        let core = Core {
            pool: Pool::new(options.clone()),
            options,
            bootstrap,
            routing: Mutex::new(RoutingTable::default()),
            jitter: Mutex::new(Box::new(SplitMix::from_process_keys())),
            origin: Instant::now(),
        };
        core.first_contact().await?;
        Ok(Self { core: Arc::new(core) })
    }

    /// The id of the cluster.
    #[must_use]
    pub fn cluster_id(&self) -> Option<[u8; 16]> {
        self.core.pool.cluster()
    }

    /// How many connections this client has opened so far. While it stays the same, all answers came from the same
    /// run of each broker's process.
    #[must_use]
    pub fn connections_opened(&self) -> u64 {
        self.core.pool.opened()
    }

    /// A producer, to be configured and built.
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(self.clone())
    }

    /// A consumer of one topic, to be configured and opened.
    pub fn consumer(&self, topic: impl Into<String>) -> ConsumerBuilder {
        ConsumerBuilder::new(self.clone(), topic.into())
    }
}

impl Core {
    pub(crate) fn routing(&self) -> MutexGuard<'_, RoutingTable> {
        self.routing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the client was made.
    pub(crate) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Begins the attempts at one request.
    pub(crate) fn retry(&self, repeat: Repeat) -> Retry {
        Retry::new(self.options.retry, repeat, self.now())
    }

    /// Asks each bootstrap address in turn for the metadata.
    async fn first_contact(&self) -> Result<(), ConnectError> {
        let mut last = Failure::Unreachable;
        for address in &self.bootstrap {
            match self.pool.get(address).await {
                Ok(connection) => {
                    let request = MetadataRequest { topics: Some(Vec::new()), create_missing: false };
                    match connection.call(&request, self.options.request_timeout).await {
                        Ok(response) => {
                            self.learn_nodes(&response);
                            return Ok(());
                        }
                        Err(failure) => last = failure,
                    }
                }
                Err(Failure::Refused(error)) if !error.code.retryable() => {
                    return Err(ConnectError::Refused { address: address.clone(), error });
                }
                Err(failure) => last = failure,
            }
        }
        Err(ConnectError::Unreachable { addresses: self.bootstrap.join(","), last: describe(&last) })
    }

    /// What any broker says of itself: the limits are the same everywhere.
    pub(crate) async fn any_hello(&self) -> Result<HelloResponse, RequestError> {
        let mut retry = self.retry(Repeat::Harmless);
        loop {
            let attempt = usize::try_from(retry.failures()).unwrap_or(usize::MAX);
            match self.route(Target::Any, attempt).await {
                Ok((_, connection)) => return Ok(connection.hello().clone()),
                Err((node, failure)) => self.after_failure(&mut retry, Target::Any, node, failure).await?,
            }
        }
    }

    /// Sends a request until it is answered, or retrying is of no use.
    pub(crate) async fn call<R: Request>(
        &self,
        target: Target<'_>,
        request: &R,
        repeat: Repeat,
    ) -> Result<R::Response, RequestError> {
        Ok(self.call_with_payload(target, request, repeat, self.options.request_timeout).await?.0)
    }

    /// [`Core::call`] with the answer's payload and a time limit per attempt.
    pub(crate) async fn call_with_payload<R: Request>(
        &self,
        target: Target<'_>,
        request: &R,
        repeat: Repeat,
        limit: Duration,
    ) -> Result<(R::Response, Bytes), RequestError> {
        self.attempts(&mut self.retry(repeat), target, request, limit).await
    }

    /// [`Core::call_with_payload`], keeping account of the attempts in `retry`. None outlasts the budget.
    pub(crate) async fn attempts<R: Request>(
        &self,
        retry: &mut Retry,
        target: Target<'_>,
        request: &R,
        limit: Duration,
    ) -> Result<(R::Response, Bytes), RequestError> {
        loop {
            let attempt = usize::try_from(retry.failures()).unwrap_or(usize::MAX);
            let routed = tokio::time::timeout(retry.remaining(self.now()), self.route(target, attempt)).await;
            let (node, result) = match routed.unwrap_or(Err((None, Failure::Unreachable))) {
                Ok((node, connection)) => {
                    let limit = limit.min(retry.remaining(self.now()));
                    let result = tokio::select! {
                        result = connection.call_with_payload(request, limit) => result,
                        () = self.replaced(retry.repeat(), target, node) => Err(Failure::TimedOut),
                    };
                    (node, result)
                }
                Err((node, failure)) => (node, Err(failure)),
            };
            match result {
                Ok(answer) => return Ok(answer),
                Err(failure) => self.after_failure(retry, target, node, failure).await?,
            }
        }
    }

    /// Returns once another broker than the one that is silent is known to lead the target; never, if the request is not
    /// for a leader, or must not be sent twice.
    async fn replaced(&self, repeat: Repeat, target: Target<'_>, node: Option<NodeId>) {
        let (Target::Leader(topic, partition), Some(node), Repeat::Harmless) = (target, node, repeat) else {
            return std::future::pending().await;
        };
        tokio::time::sleep(DOUBT).await;
        while !self.ask_who_leads(topic, partition, Some(node)).await {
            tokio::time::sleep(DOUBT_AGAIN).await;
        }
    }

    /// Asks those who hold a partition, in turn, who leads it; whether one of them names another than `silent`.
    pub(crate) async fn ask_who_leads(&self, topic: &str, partition: u32, silent: Option<NodeId>) -> bool {
        let witnesses = self.routing().witnesses(topic, partition, silent);
        let request = MetadataRequest { topics: Some(vec![topic.to_owned()]), create_missing: false };
        for address in witnesses {
            let ask = async { self.pool.get(&address).await?.call(&request, DOUBT).await };
            let Ok(Ok(response)) = tokio::time::timeout(DOUBT, ask).await else { continue };
            if self.learn(response, Some(topic)).is_ok() {
                let leader = self.routing().leader(topic, partition).map(|(leader, _)| leader);
                if leader.is_some() && leader != silent {
                    return true;
                }
            }
        }
        false
    }

    /// Judges a failed attempt: corrects the routes and waits before the next, or says why there is none.
    pub(crate) async fn after_failure(
        &self,
        retry: &mut Retry,
        target: Target<'_>,
        node: Option<NodeId>,
        failure: Failure,
    ) -> Result<(), RequestError> {
        let wait = {
            let mut jitter = self.jitter.lock().unwrap_or_else(PoisonError::into_inner);
            let mut routing = self.routing();
            attempt::judge(retry, &mut routing, target, node, failure, self.now(), jitter.as_mut())?
        };
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// The broker for a target, and a connection to it. `attempt` counts the failures so far.
    pub(crate) async fn route(
        &self,
        target: Target<'_>,
        attempt: usize,
    ) -> Result<(Option<NodeId>, Arc<Connection>), (Option<NodeId>, Failure)> {
        let known = self.known_route(target, attempt);
        let (node, address) = match known {
            Some((node, address)) => (Some(node), address),
            None => match target {
                Target::Any => return self.any_connection(attempt).await,
                _ => {
                    let refreshed = self.refresh(target.topic(), attempt).await;
                    let topic = refreshed.map_err(|failure| (None, failure))?;
                    if let Some(refusal) = topic.and_then(|topic| target.missing_from(&topic)) {
                        return Err((None, Failure::Refused(refusal)));
                    }
                    if let (Target::Leader(topic, partition), None) =
                        (target, self.known_route(target, attempt))
                    {
                        self.ask_who_leads(topic, partition, None).await;
                    }
                    let (node, address) =
                        self.known_route(target, attempt).ok_or((None, Failure::NoRoute))?;
                    (Some(node), address)
                }
            },
        };
        let connection = self.pool.get(&address).await.map_err(|failure| (node, failure))?;
        Ok((node, connection))
    }

    /// A connection to the first broker that can be reached.
    async fn any_connection(
        &self,
        attempt: usize,
    ) -> Result<(Option<NodeId>, Arc<Connection>), (Option<NodeId>, Failure)> {
        let brokers = self.routing().nodes().count() + self.bootstrap.len();
        let mut last = Failure::Unreachable;
        for further in 0..brokers {
            match self.pool.get(&self.any_address(attempt.wrapping_add(further))).await {
                Ok(connection) => return Ok((None, connection)),
                Err(failure) => last = failure,
            }
        }
        Err((None, last))
    }

    fn known_route(&self, target: Target<'_>, attempt: usize) -> Option<(NodeId, String)> {
        let routing = self.routing();
        let found = match target {
            Target::Any => None,
            Target::Controller => routing.controller(),
            Target::Leader(topic, partition) => routing.leader(topic, partition),
            Target::Replica(topic, partition, preferred) => {
                routing.replica_for_read(topic, partition, preferred, attempt)
            }
            Target::Node(node) => routing.address(node).map(|address| (node, address)),
        };
        found.map(|(node, address)| (node, address.to_owned()))
    }

    /// The brokers heard of, then the bootstrap addresses, in turn.
    fn any_address(&self, attempt: usize) -> String {
        let routing = self.routing();
        let mut all: Vec<&str> = routing.nodes().map(|(_, address)| address).collect();
        for address in &self.bootstrap {
            if !all.contains(&address.as_str()) {
                all.push(address);
            }
        }
        all[attempt % all.len()].to_owned()
    }

    /// Asks any broker that answers who leads what; for one topic, or for the brokers alone. After a failed attempt
    /// another one is asked first: a broker whose own replica has stopped answers, but hears of no new leader.
    ///
    /// # Errors
    /// The refusal if the topic does not exist; the last failure if no broker answers.
    pub(crate) async fn refresh(
        &self,
        topic: Option<&str>,
        attempt: usize,
    ) -> Result<Option<TopicMetadata>, Failure> {
        let topics = topic.map(|topic| vec![topic.to_owned()]).unwrap_or_default();
        let request = MetadataRequest { topics: Some(topics), create_missing: false };
        let brokers = self.routing().nodes().count() + self.bootstrap.len();
        let mut last = Failure::Unreachable;
        for further in 0..brokers {
            let address = self.any_address(attempt.wrapping_add(further));
            let answered = match self.pool.get(&address).await {
                Ok(connection) => connection.call(&request, self.options.request_timeout).await,
                Err(failure) => Err(failure),
            };
            match answered {
                Ok(response) => return self.learn(response, topic),
                Err(failure) => last = failure,
            }
        }
        Err(last)
    }

    /// Takes over a metadata answer; returns the topic asked for.
    fn learn(
        &self,
        response: MetadataResponse,
        topic: Option<&str>,
    ) -> Result<Option<TopicMetadata>, Failure> {
        self.learn_nodes(&response);
        let mut asked = None;
        for outcome in response.topics {
            match outcome {
                Ok(metadata) => {
                    self.learn_topic(&metadata);
                    asked = Some(metadata);
                }
                Err(error) => {
                    if let (Some(topic), ErrorCode::UnknownTopic) = (topic, error.code) {
                        self.routing().remove_topic(topic);
                    }
                    return Err(Failure::Refused(error));
                }
            }
        }
        Ok(asked)
    }

    fn learn_nodes(&self, response: &MetadataResponse) {
        self.routing().learn_nodes(response);
    }

    pub(crate) fn learn_topic(&self, metadata: &TopicMetadata) {
        self.routing().learn_topic(metadata);
    }

    /// The number of partitions of a topic, asked for if it is not known yet; a missing topic is created on
    /// the way if that is wanted.
    pub(crate) async fn partition_count(
        &self,
        topic: &str,
        create_missing: bool,
    ) -> Result<u32, RequestError> {
        let mut retry = self.retry(Repeat::Harmless);
        loop {
            let known = self.routing().partition_count(topic);
            if let Some(count) = known.filter(|count| *count > 0) {
                return Ok(count);
            }
            let attempt = usize::try_from(retry.failures()).unwrap_or(usize::MAX);
            let (target, node, learnt) = match self.refresh(Some(topic), attempt).await {
                Err(Failure::Refused(error)) if create_missing && error.code == ErrorCode::UnknownTopic => {
                    let (node, created) = self.create_missing(topic).await;
                    (Target::Controller, node, created)
                }
                learnt => (Target::Any, None, learnt),
            };
            let failure = match learnt {
                Ok(Some(metadata)) if !metadata.partitions.is_empty() => continue,
                Ok(_) => Failure::NoRoute,
                Err(failure) => failure,
            };
            self.after_failure(&mut retry, target, node, failure).await?;
        }
    }

    /// Asks the broker that leads the metadata for a topic, to be created if it is missing. Also says whom it
    /// asked.
    async fn create_missing(&self, topic: &str) -> (Option<NodeId>, Result<Option<TopicMetadata>, Failure>) {
        let request = MetadataRequest { topics: Some(vec![topic.to_owned()]), create_missing: true };
        match self.route(Target::Controller, 0).await {
            Err((node, failure)) => (node, Err(failure)),
            Ok((node, connection)) => {
                let answered = connection.call(&request, self.options.request_timeout).await;
                (node, answered.and_then(|response| self.learn(response, Some(topic))))
            }
        }
    }

    /// All topics, or the named ones, as the answering broker sees them.
    pub(crate) async fn metadata(
        &self,
        topics: Option<Vec<String>>,
    ) -> Result<MetadataResponse, RequestError> {
        let request = MetadataRequest { topics, create_missing: false };
        let response = self.call(Target::Any, &request, Repeat::Harmless).await?;
        self.learn_nodes(&response);
        response.topics.iter().flatten().for_each(|topic| self.learn_topic(topic));
        Ok(response)
    }
}

impl<'a> Target<'a> {
    fn topic(self) -> Option<&'a str> {
        match self {
            Self::Leader(topic, _) | Self::Replica(topic, ..) => Some(topic),
            Self::Any | Self::Controller | Self::Node(_) => None,
        }
    }

    /// The refusal, if the topic has no such partition: waiting would not bring it.
    fn missing_from(self, topic: &TopicMetadata) -> Option<ErrorOutcome> {
        let (Self::Leader(name, partition) | Self::Replica(name, partition, _)) = self else { return None };
        let has_it = topic.partitions.iter().any(|present| present.partition == partition);
        (!has_it && !topic.partitions.is_empty()).then(|| {
            unknown_partition(name, partition, u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX))
        })
    }
}

/// A refusal that this client makes up itself, in the words of the protocol.
pub(crate) fn unknown_partition(topic: &str, partition: u32, partitions: u32) -> ErrorOutcome {
    let message =
        format!("topic {topic:?} has partitions 0 to {}, not {partition}", partitions.saturating_sub(1));
    ErrorOutcome::new(ErrorCode::UnknownPartition, message)
}

/// Takes the only item of an answer with one item per question.
pub(crate) fn only<T>(items: Vec<Outcome<T>>) -> Result<T, Failure> {
    let count = items.len();
    let mut items = items.into_iter();
    match (items.next(), items.next()) {
        (Some(item), None) => item.map_err(Failure::Refused),
        _ => Err(Failure::Garbled(format!("one question was asked, {count} answers came"))),
    }
}
