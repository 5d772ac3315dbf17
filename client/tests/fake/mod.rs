//! A cluster that is played: three brokers on loopback over one log in memory, with faults to order.
//!
//! It judges sequences as a broker does, so that a client that repeats or reorders is found out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use lockstep_protocol::native::{
    CreateTopicRequest, CreateTopicResponse, DeleteTopicRequest, DeleteTopicResponse, DescribeTopicRequest,
    DescribeTopicResponse, Durability, HelloRequest, HelloResponse, InitProducerRequest,
    InitProducerResponse, LsnForTimeRequest, MetadataRequest, MetadataResponse, NodeInfo, PartitionMetadata,
    ProduceItem, ProduceRequest, ProduceResponse, Produced, Push, SubscribeRequest, SubscribeResponse,
    TailRequest, TailResponse, TopicConfig, TopicMetadata,
};
use lockstep_protocol::{
    Api, BatchHeader, EncodedFrame, ErrorCode, ErrorOutcome, Frame, FrameDecoder, LeaderHint, Outcome,
    Request, Wire, stamp,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The only topic; it has one partition, if no test adds any.
pub const TOPIC: &str = "t";
/// The played cluster's id.
pub const CLUSTER: [u8; 16] = [7; 16];

/// What goes wrong at the next produce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProduceFault {
    /// The batch is stored, and the connection lost before the answer.
    LoseAnswer,
    /// The connection is lost before the batch is stored.
    LoseRequest,
    /// Another broker leads from now on, and this one says so.
    MoveLeader(u64),
    /// Nothing: one good answer between faults.
    None,
}

/// What goes wrong at the next subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscribeFault {
    /// After so many batches, and when it is given credit for them, the connection is lost.
    DieAfter(usize),
    /// The batch with this position in the log is left out.
    LeaveOut(usize),
}

/// What all played brokers share.
#[derive(Default)]
pub struct State {
    pub leader: u64,
    pub addresses: Vec<String>,
    /// Id of [`TOPIC`].
    pub topic_id: u32,
    /// Partitions of [`TOPIC`] beyond the first; they share its log.
    pub further_partitions: u32,
    /// Longest batch of [`TOPIC`], if it has a limit of its own.
    pub topic_batch_bytes_max: Option<u32>,
    /// Stamped batches.
    pub log: Vec<Bytes>,
    next_lsn: u64,
    next_sequence: i32,
    /// First LSN of each stored sequence.
    stored: BTreeMap<i32, (u64, u64)>,
    pub produce_faults: VecDeque<ProduceFault>,
    pub subscribe_faults: VecDeque<SubscribeFault>,
    /// Every batch as it arrived, by sequence: to see that repeats are byte-identical.
    pub arrived: BTreeMap<i32, Vec<Bytes>>,
    /// The topic that was created beside [`TOPIC`].
    pub created: Option<TopicMetadata>,
    /// Whether requests for the ends of the log are never answered.
    pub tail_is_silent: bool,
    /// How many answers to a creation or deletion are lost from now on.
    pub topic_answers_lost: u32,
    /// Who answered each subscribe request.
    pub subscribed_at: Vec<u64>,
}

/// The played cluster.
#[derive(Clone)]
pub struct FakeCluster {
    state: Arc<Mutex<State>>,
    /// Bytes per write; small ones cut frames into pieces.
    step: usize,
}

impl FakeCluster {
    /// Three brokers, the first of which leads.
    pub async fn start() -> Self {
        Self::start_with_step(usize::MAX).await
    }

    /// Brokers that write so many bytes at a time.
    pub async fn start_with_step(step: usize) -> Self {
        let state = State { leader: 1, topic_id: 1, next_lsn: 1, ..State::default() };
        let cluster = Self { state: Arc::new(Mutex::new(state)), step };
        for node in 1..=3 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            cluster.state().addresses.push(listener.local_addr().unwrap().to_string());
            let cluster = cluster.clone();
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(cluster.clone().serve(node, stream));
                }
            });
        }
        cluster
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// All addresses, with commas.
    pub fn addresses(&self) -> String {
        self.state().addresses.join(",")
    }

    async fn serve(self, node: u64, mut stream: TcpStream) {
        let mut decoder = FrameDecoder::new(1 << 20);
        let mut buffer = BytesMut::new();
        loop {
            let frame = match decoder.decode(&mut buffer).unwrap() {
                Some(frame) => frame,
                None if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 => return,
                None => continue,
            };
            let Some(answers) = self.answer(node, &frame) else { return };
            for answer in answers {
                for piece in answer.to_bytes().chunks(self.step) {
                    if stream.write_all(piece).await.is_err() || stream.flush().await.is_err() {
                        return;
                    }
                    if self.step < usize::MAX {
                        tokio::task::yield_now().await;
                    }
                }
            }
        }
    }

    /// The answers to a request; `None` ends the connection.
    fn answer(&self, node: u64, frame: &Frame) -> Option<Vec<EncodedFrame>> {
        let mut state = self.state();
        let one = |frame| Some(vec![frame]);
        match frame.api {
            Api::Hello => {
                let request = HelloRequest::decode(&frame.meta).unwrap();
                one(response::<HelloRequest>(frame, hello(node, &request)))
            }
            Api::Metadata => one(response::<MetadataRequest>(frame, Ok(state.metadata()))),
            Api::InitProducer => {
                let answer = InitProducerResponse { producer_id: 5, epoch: 0 };
                one(response::<InitProducerRequest>(frame, Ok(answer)))
            }
            Api::CreateTopic => {
                let request = CreateTopicRequest::decode(&frame.meta).unwrap();
                let outcome = state.create_topic(request);
                state.topic_answer(response::<CreateTopicRequest>(frame, outcome))
            }
            Api::DeleteTopic => {
                let outcome = state.created.take().map(|_| DeleteTopicResponse {});
                let outcome = outcome.ok_or_else(|| ErrorCode::UnknownTopic.into());
                state.topic_answer(response::<DeleteTopicRequest>(frame, outcome))
            }
            Api::DescribeTopic => {
                let described = |topic| DescribeTopicResponse { topic, partitions: Vec::new() };
                let outcome = state.created.clone().map(described);
                let outcome = outcome.ok_or_else(|| ErrorCode::UnknownTopic.into());
                one(response::<DescribeTopicRequest>(frame, outcome))
            }
            Api::LsnForTime => {
                let trimmed = ErrorOutcome::from(ErrorCode::LsnBelowLogStart).with_detail(3);
                one(response::<LsnForTimeRequest>(frame, Err(trimmed)))
            }
            Api::Tail if state.tail_is_silent => Some(Vec::new()),
            Api::Tail => one(response::<TailRequest>(frame, Ok(state.tail()))),
            Api::Produce => {
                let result = state.produce(node, frame)?;
                one(response::<ProduceRequest>(frame, Ok(ProduceResponse { results: vec![result] })))
            }
            Api::Subscribe => Some(state.subscribe(node, frame)),
            Api::Credit if state.subscribe_faults.front() == Some(&SubscribeFault::DieAfter(0)) => {
                state.subscribe_faults.pop_front();
                None
            }
            _ => Some(Vec::new()),
        }
    }
}

fn response<R: Request>(frame: &Frame, outcome: Outcome<R::Response>) -> EncodedFrame {
    EncodedFrame::response::<R>(frame.correlation, &outcome, Vec::new())
}

fn hello(node: u64, request: &HelloRequest) -> Outcome<HelloResponse> {
    if request.cluster.is_some_and(|cluster| cluster != CLUSTER) {
        return Err(ErrorCode::ClusterMismatch.into());
    }
    Ok(HelloResponse {
        version: 1,
        cluster: CLUSTER,
        node,
        max_frame_bytes: 1 << 20,
        max_batch_bytes: 1 << 16,
        max_record_bytes: 1 << 10,
    })
}

impl State {
    fn metadata(&self) -> MetadataResponse {
        let node = |(index, address): (usize, &String)| NodeInfo {
            id: index as u64 + 1,
            address: address.clone(),
            http_address: String::new(),
        };
        let partition = |partition| PartitionMetadata {
            partition,
            shard: 1,
            leader: Some(1),
            term: 1,
            replicas: vec![1, 2, 3],
            moving_to: None,
        };
        let topic = TopicMetadata {
            name: TOPIC.to_owned(),
            id: self.topic_id,
            partitions: (0..=self.further_partitions).map(partition).collect(),
            config: TopicConfig { max_batch_bytes: self.topic_batch_bytes_max, ..TopicConfig::default() },
        };
        // Stale on purpose: it names broker 1 whoever leads, so that hints are what counts.
        let nodes = self.addresses.iter().enumerate().map(node).collect();
        MetadataResponse { nodes, controller: Some(1), topics: vec![Ok(topic)] }
    }

    fn create_topic(&mut self, request: CreateTopicRequest) -> Outcome<CreateTopicResponse> {
        if self.created.is_some() {
            return Err(ErrorCode::TopicExists.into());
        }
        let partition = |partition| PartitionMetadata {
            partition,
            shard: 2,
            leader: Some(1),
            term: 1,
            replicas: vec![1, 2, 3],
            moving_to: None,
        };
        let partitions = (0..request.partitions).map(partition).collect();
        let topic = TopicMetadata { name: request.name, id: 2, partitions, config: request.config };
        self.created = Some(topic.clone());
        Ok(CreateTopicResponse { topic })
    }

    /// The answer, unless it is to be lost.
    fn topic_answer(&mut self, answer: EncodedFrame) -> Option<Vec<EncodedFrame>> {
        let lost = self.topic_answers_lost > 0;
        self.topic_answers_lost = self.topic_answers_lost.saturating_sub(1);
        (!lost).then(|| vec![answer])
    }

    fn tail(&self) -> TailResponse {
        let high_watermark = self.next_lsn - 1;
        TailResponse { log_start: 1, high_watermark, next_lsn: self.next_lsn, term: 1, leader_time_ms: 0 }
    }

    fn produce(&mut self, node: u64, frame: &Frame) -> Option<Outcome<Produced>> {
        let request = ProduceRequest::decode(&frame.meta).unwrap();
        let batch = request.split_payload(&frame.payload).unwrap().remove(0);
        let header = BatchHeader::parse(&batch).unwrap();
        self.arrived.entry(header.base_sequence).or_default().push(batch.clone());
        if node != self.leader {
            return Some(Err(self.not_leader()));
        }
        match self.produce_faults.pop_front().unwrap_or(ProduceFault::None) {
            ProduceFault::None => Some(self.append(&request.batches[0], &batch, &header)),
            ProduceFault::LoseRequest => None,
            ProduceFault::LoseAnswer => {
                self.append(&request.batches[0], &batch, &header).unwrap();
                None
            }
            ProduceFault::MoveLeader(to) => {
                self.leader = to;
                Some(Err(self.not_leader()))
            }
        }
    }

    fn not_leader(&self) -> ErrorOutcome {
        let address = self.addresses[self.leader as usize - 1].clone();
        ErrorOutcome::from(ErrorCode::NotLeader).with_hint(LeaderHint {
            node: self.leader,
            address,
            term: self.leader + 1,
        })
    }

    /// Judges in the order brokers do: sequence, then condition.
    fn append(&mut self, item: &ProduceItem, batch: &Bytes, header: &BatchHeader) -> Outcome<Produced> {
        let acked = Durability::SyncedMajority;
        if let Some((first_lsn, last_lsn)) = self.stored.get(&header.base_sequence).copied() {
            return Ok(Produced { first_lsn, last_lsn, duplicate: true, acked });
        }
        if header.base_sequence >= 0 && header.base_sequence != self.next_sequence {
            return Err(ErrorCode::OutOfOrderSequence.into());
        }
        if item.expected_next_lsn.is_some_and(|expected| expected != self.next_lsn) {
            return Err(ErrorOutcome::from(ErrorCode::ConditionFailed).with_detail(self.next_lsn));
        }
        let mut stamped = BytesMut::from(&batch[..]);
        stamp(&mut stamped, self.next_lsn, 1).unwrap();
        self.log.push(stamped.freeze());
        let (first_lsn, last_lsn) = (self.next_lsn, self.next_lsn + header.records_count as u64 - 1);
        self.next_lsn = last_lsn + 1;
        if header.base_sequence >= 0 {
            self.next_sequence += header.records_count;
            self.stored.insert(header.base_sequence, (first_lsn, last_lsn));
        }
        Ok(Produced { first_lsn, last_lsn, duplicate: false, acked })
    }

    /// The answer and one push per batch.
    fn subscribe(&mut self, node: u64, frame: &Frame) -> Vec<EncodedFrame> {
        self.subscribed_at.push(node);
        let request = SubscribeRequest::decode(&frame.meta).unwrap();
        let high_watermark = self.next_lsn - 1;
        let opened = Ok(SubscribeResponse { log_start: 1, high_watermark });
        let mut frames = vec![response::<SubscribeRequest>(frame, opened)];
        let (mut left_out, mut at_most) = (None, usize::MAX);
        match self.subscribe_faults.front_mut() {
            Some(SubscribeFault::LeaveOut(position)) => left_out = Some(*position),
            Some(SubscribeFault::DieAfter(count)) => at_most = std::mem::take(count),
            None => {}
        }
        let wanted =
            self.log.iter().enumerate().filter(|(_, batch)| {
                BatchHeader::parse(batch).unwrap().last_lsn().unwrap() >= request.from_lsn
            });
        for (_, batch) in wanted.filter(|(position, _)| Some(*position) != left_out).take(at_most) {
            let first_lsn = BatchHeader::parse(batch).unwrap().first_lsn().unwrap();
            let push = Push { high_watermark, first_lsn, payload_length: batch.len() as u32 };
            frames.push(EncodedFrame::push(frame.correlation, &Ok(push), vec![batch.clone()]));
        }
        frames
    }
}
