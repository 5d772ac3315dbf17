//! The broker's part of a node: clients' frames to requests of shards, and answers to frames.
//!
//! Decoding, validation, errors and their codes are production's; finding the partition and waiting, which production
//! does with tokio, are done here in the same order.

use bytes::{Bytes, BytesMut};
use lockstep::broker::{FetchError, LocateError, ProduceError};
use lockstep::cluster::ReadFault;
use lockstep::net::native::outcome::{Brokers, ToOutcome};
use lockstep::shard::positions::PositionCommit;
use lockstep::shard::{Answer, Append, AppendError, Command, Health, Input, ShardView};
use lockstep_protocol::native::{
    Durability, FenceRequest, FenceResponse, FetchRequest, FetchResponse, Fetched, InitProducerRequest,
    InitProducerResponse, MetadataRequest, MetadataResponse, NodeInfo, PartitionMetadata,
    PositionCommit as WireCommit, ProduceRequest, ProduceResponse, Produced, TailRequest, TailResponse,
    TopicConfig, TopicMetadata, TrimRequest, TrimResponse,
};
use lockstep_protocol::{
    Api, EncodedFrame, ErrorCode, ErrorOutcome, Frame, FrameDecoder, Outcome, ValidationLimits, Wire,
    validate,
};
use lockstep_storage::{CachedRead, ReadBatch, ReadError};

use crate::node::{Hosted, Mail, Process};
use crate::placement::Placements;
use crate::plan::Plan;

/// The only topic.
pub const TOPIC: &str = "log";
/// Its id.
const TOPIC_ID: u32 = 1;
/// The longest frame either side takes.
pub const FRAME_BYTES_MAX: usize = 16 << 20;
/// Bytes of batches in one fetch, at the most.
const FETCH_BYTES_MAX: usize = 64 << 10;

/// A client's request that waits.
pub struct Asked {
    /// The connection it came on.
    pub connection: u64,
    correlation: u32,
    what: Wanted,
}

impl Asked {
    /// The fencing epoch of the writer that asks.
    pub fn fence(&self) -> Option<u64> {
        if let Wanted::Append { fence, .. } = self.what { fence } else { None }
    }
}

enum Wanted {
    Append { timeout_ms: u32, fence: Option<u64> },
    Tail { shard: u64 },
    Trim { log_start: u64 },
    Fence { epoch: u64 },
    Fetch { shard: u64, from_lsn: u64, max_bytes: usize },
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
    /// The connection is of no use any more.
    Close,
}

/// Where nodes are, for hints.
pub struct Addresses;

impl Brokers for Addresses {
    fn native_address(&self, node: u64) -> Option<String> {
        Some(address(node))
    }
}

/// A node's address.
pub fn address(node: u64) -> String {
    format!("node-{node}:7400")
}

/// The shard of a partition.
pub fn shard_of(partition: u32) -> u64 {
    u64::from(partition) + 1
}

/// A client's commit as a shard takes it.
fn to_commit(commit: WireCommit) -> PositionCommit {
    PositionCommit {
        group: commit.group.into(),
        source: shard_of(commit.partition),
        next_lsn: commit.next_lsn,
        generation: commit.generation,
        metadata: commit.metadata.into(),
        expected_next_lsn: commit.expected_next_lsn,
        expected_generation: commit.expected_generation,
    }
}

/// The partition of a shard.
pub fn partition_of(shard: u64) -> u32 {
    (shard - 1) as u32
}

/// Takes one frame of a client.
pub fn handle(
    process: &mut Process,
    plan: &Plan,
    placements: &Placements,
    connection: u64,
    bytes: &Bytes,
) -> Handled {
    let decoded = FrameDecoder::new(FRAME_BYTES_MAX).decode(&mut BytesMut::from(&bytes[..]));
    let Ok(Some(frame)) = decoded else { return Handled::Close };
    let handled = match frame.api {
        Api::Metadata => metadata(process, plan, placements, &frame),
        Api::Produce => produce(process, placements, connection, &frame),
        Api::Fetch => fetch(process, placements, connection, &frame),
        Api::Tail => tail(process, placements, connection, &frame),
        Api::Trim => trim(process, placements, connection, &frame),
        Api::Fence => fence(process, placements, connection, &frame),
        _ => None,
    };
    handled.unwrap_or(Handled::Close)
}

fn metadata(process: &Process, plan: &Plan, placements: &Placements, frame: &Frame) -> Option<Handled> {
    MetadataRequest::decode(&frame.meta).ok()?;
    let of_partition = |partition: u32| {
        let view = process.hosted.get(&shard_of(partition)).map(|hosted| hosted.replica.view().clone());
        PartitionMetadata {
            partition,
            shard: shard_of(partition),
            // Of a partition that is not held here: whoever is preferred, as in production.
            leader: match &view {
                Some(view) => view.leader,
                None => placements[&shard_of(partition)].target.first().copied(),
            },
            term: view.map_or(0, |view| view.term),
            replicas: placements[&shard_of(partition)].target.iter().copied().collect(),
            moving_to: None,
        }
    };
    let node = |id| NodeInfo { id, address: address(id), http_address: String::new() };
    let topic = TopicMetadata {
        name: TOPIC.to_owned(),
        id: TOPIC_ID,
        partitions: (0..plan.shards).map(of_partition).collect(),
        config: TopicConfig::default(),
    };
    let nodes = (1..=plan.nodes).map(node).collect();
    let answer = MetadataResponse { nodes, controller: Some(1), topics: vec![Ok(topic)] };
    Some(Handled::Answer(
        EncodedFrame::response::<MetadataRequest>(frame.correlation, &Ok(answer), Vec::new()).to_bytes(),
    ))
}

/// The local replica of a partition, or why there is none.
fn locate<'p>(
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

fn produce(
    process: &mut Process,
    placements: &Placements,
    connection: u64,
    frame: &Frame,
) -> Option<Handled> {
    let request = ProduceRequest::decode(&frame.meta).ok()?;
    let batch = request.split_payload(&frame.payload).ok()?.pop()?;
    let item = request.batches.first()?;
    let refuse = |error: ProduceError| {
        let answer = ProduceResponse { results: vec![Err(error.to_outcome(&Addresses))] };
        Some(Handled::Answer(
            EncodedFrame::response::<ProduceRequest>(frame.correlation, &Ok(answer), Vec::new()).to_bytes(),
        ))
    };
    if let Err(error) = locate(process, placements, item.partition) {
        return refuse(error.into());
    }
    let validated = match validate(&batch, &ValidationLimits::default()) {
        Ok(validated) => validated,
        Err(error) => return refuse(error.into()),
    };
    let fence = item.fence;
    let append = Append {
        batch,
        header: validated.header,
        expected_next_lsn: item.expected_next_lsn,
        fence,
        position: item.position.clone().map(to_commit),
    };
    let what = Wanted::Append { timeout_ms: request.timeout_ms, fence };
    let asked = Asked { connection, correlation: frame.correlation, what };
    let input = |token| Input::Append { token, append };
    Some(ask(process, shard_of(item.partition), asked, request.timeout_ms.into(), input))
}

fn ask(
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

/// How long a change or a confirmation may take, as in the broker.
const CONTROL_TIMEOUT_MS: u64 = 10_000;

fn tail(process: &mut Process, placements: &Placements, connection: u64, frame: &Frame) -> Option<Handled> {
    let request = TailRequest::decode(&frame.meta).ok()?;
    let refuse =
        |error: &dyn ToOutcome| response::<TailRequest>(frame.correlation, Err(error.to_outcome(&Addresses)));
    let view = match locate(process, placements, request.partition) {
        Err(error) => return Some(Handled::Answer(refuse(&error))),
        Ok(hosted) => hosted.replica.view().clone(),
    };
    if !request.linearizable {
        return Some(Handled::Answer(response::<TailRequest>(frame.correlation, Ok(tail_of(&view, 0)))));
    }
    let shard = shard_of(request.partition);
    let asked = Asked { connection, correlation: frame.correlation, what: Wanted::Tail { shard } };
    Some(ask(process, shard, asked, CONTROL_TIMEOUT_MS, |token| Input::Tail { token }))
}

fn tail_of(view: &ShardView, confirmed: u64) -> TailResponse {
    let high_watermark = view.high_watermark.max(confirmed);
    TailResponse {
        log_start: view.log_start,
        high_watermark,
        next_lsn: high_watermark + 1,
        term: view.term,
        leader_time_ms: u64::try_from(view.leader_time_ms).unwrap_or(0),
    }
}

fn trim(process: &mut Process, placements: &Placements, connection: u64, frame: &Frame) -> Option<Handled> {
    let request = TrimRequest::decode(&frame.meta).ok()?;
    let (shard, log_start) = (shard_of(request.partition), request.log_start);
    let outcome = match locate(process, placements, request.partition) {
        Err(error) => Err(error.to_outcome(&Addresses)),
        Ok(hosted) if hosted.replica.view().log_start >= log_start => {
            Ok(TrimResponse { log_start: hosted.replica.view().log_start })
        }
        Ok(_) => {
            let asked =
                Asked { connection, correlation: frame.correlation, what: Wanted::Trim { log_start } };
            let input = |token| Input::Command { token, command: Command::Trim { log_start } };
            return Some(ask(process, shard, asked, CONTROL_TIMEOUT_MS, input));
        }
    };
    Some(Handled::Answer(response::<TrimRequest>(frame.correlation, outcome)))
}

fn fence(process: &mut Process, placements: &Placements, connection: u64, frame: &Frame) -> Option<Handled> {
    let request = FenceRequest::decode(&frame.meta).ok()?;
    if let Err(error) = locate(process, placements, request.partition) {
        let refusal = Err(error.to_outcome(&Addresses));
        return Some(Handled::Answer(response::<FenceRequest>(frame.correlation, refusal)));
    }
    let epoch = request.epoch;
    let asked = Asked { connection, correlation: frame.correlation, what: Wanted::Fence { epoch } };
    let input = |token| Input::Command { token, command: Command::Fence { epoch } };
    Some(ask(process, shard_of(request.partition), asked, CONTROL_TIMEOUT_MS, input))
}

fn fetch(process: &mut Process, placements: &Placements, connection: u64, frame: &Frame) -> Option<Handled> {
    let request = FetchRequest::decode(&frame.meta).ok()?;
    let item = request.items.first()?;
    let (from_lsn, max_bytes) = (item.from_lsn, (item.max_bytes as usize).min(FETCH_BYTES_MAX));
    let hosted = match locate(process, placements, item.partition) {
        Ok(hosted) => hosted,
        Err(error) => return Some(Handled::Answer(fetched(frame.correlation, Err(error.into())))),
    };
    let mut damage = None;
    let found = read(hosted, from_lsn, max_bytes, &mut damage);
    process.report_damage(shard_of(item.partition), damage);
    match found {
        Ok(Some(found)) => Some(Handled::Answer(fetched(frame.correlation, Ok(found)))),
        Err(error) => Some(Handled::Answer(fetched(frame.correlation, Err(error)))),
        Ok(None) => {
            let what = Wanted::Fetch { shard: shard_of(item.partition), from_lsn, max_bytes };
            let token = process.token();
            process.asked.insert(token, Asked { connection, correlation: frame.correlation, what });
            Some(Handled::Later { token, give_up_ms: request.max_wait_ms.into() })
        }
    }
}

/// Batches with the log's ends.
struct Found {
    view: ShardView,
    from_lsn: u64,
    batches: Vec<ReadBatch>,
}

/// What there is to read now: `None` if it has to be waited for. `damage` is what the read came by.
fn read(
    hosted: &Hosted,
    from_lsn: u64,
    max_bytes: usize,
    damage: &mut Option<String>,
) -> Result<Option<Found>, FetchError> {
    let view = hosted.replica.view().clone();
    if from_lsn == 0 {
        return Err(FetchError::InvalidLsn);
    }
    if from_lsn < view.log_start {
        return Err(ReadFault::BelowLogStart { log_start: view.log_start }.into());
    }
    let up_to = view.high_watermark;
    if from_lsn > up_to {
        return match &view.health {
            Health::Ok | Health::Full => Ok(None),
            Health::Failed(why) | Health::Faulty(why) => Err(LocateError::Faulty(why.clone()).into()),
        };
    }
    let Some(reader) = &hosted.reader else {
        return Err(LocateError::Opening { shard: hosted.replica.describe().shard }.into());
    };
    let batches = match reader.cached(from_lsn, max_bytes, up_to) {
        CachedRead::Hit(batches) => batches,
        CachedRead::AtEnd => Vec::new(),
        CachedRead::BelowStart { log_start } => return Err(ReadFault::BelowLogStart { log_start }.into()),
        CachedRead::Miss => {
            reader.read(from_lsn, max_bytes, up_to).map_err(|error| unreadable(error, damage))?
        }
    };
    Ok(Some(Found { view, from_lsn, batches }))
}

fn unreadable(error: ReadError, damage: &mut Option<String>) -> ReadFault {
    if let ReadError::Damaged(found) = &error {
        *damage = Some(found.to_string());
    }
    match error {
        ReadError::BelowStart { log_start } => ReadFault::BelowLogStart { log_start },
        other => ReadFault::Unreadable(other.to_string().into()),
    }
}

fn fetched(correlation: u32, outcome: Result<Found, FetchError>) -> Bytes {
    let mut payload: Vec<Bytes> = Vec::new();
    let item = match outcome {
        Err(error) => Err(error.to_outcome(&Addresses)),
        Ok(Found { view, from_lsn, batches }) => {
            payload.extend(batches.iter().map(|batch| batch.bytes.clone()));
            Ok(Fetched {
                log_start: view.log_start,
                high_watermark: view.high_watermark,
                first_lsn: batches.first().map_or(from_lsn, |batch| batch.first_lsn),
                payload_length: payload.iter().map(Bytes::len).sum::<usize>() as u32,
            })
        }
    };
    let answer = Ok(FetchResponse { items: vec![item] });
    EncodedFrame::response::<FetchRequest>(correlation, &answer, payload).to_bytes()
}

/// Fetches that wait for a shard and can be answered now: each with its connection.
pub fn wake(process: &mut Process, shard: u64) -> Vec<(u64, Bytes)> {
    let Some(hosted) = process.hosted.get(&shard) else { return Vec::new() };
    let (mut answers, mut damage) = (Vec::new(), None);
    process.asked.retain(|_, asked| {
        let Wanted::Fetch { shard: of, from_lsn, max_bytes } = asked.what else { return true };
        if of != shard {
            return true;
        }
        let answer = match read(hosted, from_lsn, max_bytes, &mut damage) {
            Ok(None) => return true,
            Ok(Some(found)) => fetched(asked.correlation, Ok(found)),
            Err(error) => fetched(asked.correlation, Err(error)),
        };
        answers.push((asked.connection, answer));
        false
    });
    process.report_damage(shard, damage);
    answers
}

/// The answer of a shard, as the client that waits for it gets it.
pub fn answer(process: &Process, asked: &Asked, answer: Result<Answer, AppendError>) -> Bytes {
    let correlation = asked.correlation;
    match &asked.what {
        Wanted::Append { .. } => {
            let result: Outcome<Produced> = match answer {
                Ok(Answer::Appended(appended)) => Ok(Produced {
                    first_lsn: appended.first_lsn,
                    last_lsn: appended.last_lsn,
                    duplicate: appended.duplicate,
                    acked: Durability::SyncedMajority,
                }),
                Ok(_) => Err(AppendError::OutcomeUnknown.to_outcome(&Addresses)),
                Err(error) => Err(ProduceError::Append(error).to_outcome(&Addresses)),
            };
            response::<ProduceRequest>(correlation, Ok(ProduceResponse { results: vec![result] }))
        }
        Wanted::Tail { shard } => {
            let view =
                process.hosted.get(shard).map(|hosted| hosted.replica.view().clone()).unwrap_or_default();
            let confirmed = |answer| if let Answer::Tail(lsn) = answer { lsn } else { 0 };
            respond::<TailRequest>(correlation, answer.map(|answer| tail_of(&view, confirmed(answer))))
        }
        Wanted::Trim { log_start } => {
            respond::<TrimRequest>(correlation, answer.map(|_| TrimResponse { log_start: *log_start }))
        }
        Wanted::Fence { epoch } => {
            respond::<FenceRequest>(correlation, answer.map(|_| FenceResponse { epoch: *epoch }))
        }
        Wanted::Fetch { from_lsn, .. } => {
            fetched(correlation, Err(FetchError::BeyondTail { asked: *from_lsn, next_lsn: *from_lsn }))
        }
    }
}

/// What a client is told whose time is up.
pub fn give_up(process: &Process, asked: &Asked) -> Bytes {
    match asked.what {
        Wanted::Append { timeout_ms, .. } => {
            let error = ProduceError::TimedOut { waited_ms: timeout_ms.into() };
            let answer = ProduceResponse { results: vec![Err(error.to_outcome(&Addresses))] };
            response::<ProduceRequest>(asked.correlation, Ok(answer))
        }
        Wanted::Fetch { shard, from_lsn, .. } => {
            let Some(hosted) = process.hosted.get(&shard) else {
                return fetched(asked.correlation, Err(FetchError::Closed));
            };
            let view = hosted.replica.view().clone();
            // Beyond what this replica has heard of: perhaps the client has it from the leader.
            let next_lsn = view.high_watermark + 1;
            let outcome = if from_lsn > next_lsn {
                Err(FetchError::BeyondTail { asked: from_lsn, next_lsn })
            } else {
                Ok(Found { view, from_lsn, batches: Vec::new() })
            };
            fetched(asked.correlation, outcome)
        }
        Wanted::Tail { .. } => response::<TailRequest>(asked.correlation, Err(timed_out())),
        Wanted::Trim { .. } => response::<TrimRequest>(asked.correlation, Err(timed_out())),
        Wanted::Fence { .. } => response::<FenceRequest>(asked.correlation, Err(timed_out())),
    }
}

fn timed_out() -> ErrorOutcome {
    ErrorOutcome::from(ErrorCode::RequestTimedOut)
}

fn respond<R: lockstep_protocol::Request>(
    correlation: u32,
    answer: Result<R::Response, AppendError>,
) -> Bytes {
    response::<R>(correlation, answer.map_err(|error| error.to_outcome(&Addresses)))
}

fn response<R: lockstep_protocol::Request>(correlation: u32, outcome: Outcome<R::Response>) -> Bytes {
    EncodedFrame::response::<R>(correlation, &outcome, Vec::new()).to_bytes()
}

/// A producer id that nobody else has; production sets them aside in the metadata log.
pub fn producer_id(correlation: u32, id: i64) -> Bytes {
    response::<InitProducerRequest>(correlation, Ok(InitProducerResponse { producer_id: id, epoch: 0 }))
}
