//! Every message, byte for byte: what `protocol/vectors/*.hex` says is what this crate sends and reads.
//!
//! The files are for people who write a client in another language. They change only if the protocol does;
//! `LOCKSTEP_WRITE_VECTORS=1 cargo test -p lockstep-protocol --test vectors` writes them anew.

#![allow(clippy::unwrap_used, reason = "in a test, failing is what unwrap is for")]

mod vector;

use bytes::Bytes;
use lockstep_protocol::native::*;
use lockstep_protocol::peer::*;
use lockstep_protocol::{
    BatchBuilder, ErrorCode, ErrorOutcome, LeaderHint, ProducerSequence, Record, ReplyTo, stamp,
};
use vector::Vector;

const CLUSTER: [u8; 16] = *b"lockstep-cluster";
const DIRECTORY: [u8; 16] = *b"directory-node-1";

fn orders() -> String {
    "orders".into()
}

/// A batch of one record, as the producer sends it, or as it is stored under LSN 41.
fn batch(stored: bool) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder.push(&Record::new(1_700_000_000_000, "hello")).unwrap();
    let batch = builder.build(ProducerSequence { id: 7, epoch: 0, base_sequence: 3 }).unwrap();
    let mut batch = batch.try_into_mut().unwrap();
    if stored {
        stamp(&mut batch, 41, 5).unwrap();
    }
    batch.freeze()
}

fn not_leader() -> ErrorOutcome {
    let hint = LeaderHint { node: 2, address: "10.0.0.2:7410".into(), term: 5 };
    ErrorOutcome::new(ErrorCode::NotLeader, "node 1 follows").with_hint(hint)
}

fn topic() -> TopicMetadata {
    let partition = PartitionMetadata {
        partition: 0,
        shard: 9,
        leader: Some(1),
        term: 5,
        replicas: vec![1, 2, 3],
        moving_to: Some(vec![4, 2, 3]),
    };
    let config = TopicConfig {
        retention_bytes: Some(1 << 30),
        retention_ms: None,
        max_batch_bytes: Some(1 << 20),
        trust_producers: false,
    };
    TopicMetadata { name: orders(), id: 4, partitions: vec![partition], config }
}

fn connection() -> Vec<Vector> {
    let hello =
        HelloRequest { min_version: 1, max_version: 1, cluster: Some(CLUSTER), client: "example".into() };
    let welcome = HelloResponse {
        version: 1,
        cluster: CLUSTER,
        node: 1,
        max_frame_bytes: 16 << 20,
        max_batch_bytes: 4 << 20,
        max_record_bytes: 1 << 20,
    };
    let unknown = ErrorOutcome::new(ErrorCode::UnknownRequest, "api 99 is unknown");
    vec![
        Vector::request("00-hello-request", "Hello: versions 1 to 1, of this cluster", hello, &[]),
        Vector::response::<HelloRequest>("00-hello-response", "Hello succeeds", Ok(welcome), &[]),
        Vector::refusal(
            "99-refusal",
            "an unknown api is refused",
            ReplyTo { api: 99, correlation: 7 },
            unknown,
        ),
    ]
}

fn topics() -> Vec<Vector> {
    let ask = MetadataRequest { topics: Some(vec![orders(), "no such".into()]), create_missing: false };
    let node = NodeInfo { id: 1, address: "10.0.0.1:7400".into(), http_address: "10.0.0.1:7402".into() };
    let missing = ErrorOutcome::new(ErrorCode::UnknownTopic, "there is no topic 'no such'");
    let cluster =
        MetadataResponse { nodes: vec![node], controller: Some(1), topics: vec![Ok(topic()), Err(missing)] };
    let create = CreateTopicRequest {
        name: orders(),
        partitions: 1,
        replication: 3,
        config: topic().config,
        timeout_ms: 5000,
    };
    let alter = AlterTopicRequest {
        name: orders(),
        partitions: Some(8),
        retention_bytes: Some(None),
        retention_ms: Some(Some(86_400_000)),
        max_batch_bytes: None,
        trust_producers: None,
        timeout_ms: 5000,
    };
    let summary = TopicSummary { name: orders(), partitions: 1 };
    let status = PartitionStatus { partition: 0, log_start: 1, high_watermark: 41, bytes: 8192 };
    let described = DescribeTopicResponse { topic: topic(), partitions: vec![status] };
    vec![
        Vector::request("01-metadata-request", "Metadata of two topics, creating none", ask, &[]),
        Vector::response::<MetadataRequest>(
            "01-metadata-response",
            "one of the two exists",
            Ok(cluster),
            &[],
        ),
        Vector::request("02-create-topic-request", "CreateTopic with settings", create, &[]),
        Vector::response::<CreateTopicRequest>(
            "02-create-topic-response",
            "the topic as created",
            Ok(CreateTopicResponse { topic: topic() }),
            &[],
        ),
        Vector::request("03-delete-topic-request", "DeleteTopic", DeleteTopicRequest { name: orders() }, &[]),
        Vector::response::<DeleteTopicRequest>(
            "03-delete-topic-response",
            "done",
            Ok(DeleteTopicResponse {}),
            &[],
        ),
        Vector::request(
            "16-alter-topic-request",
            "AlterTopic: more partitions, no limit in bytes",
            alter,
            &[],
        ),
        Vector::response::<AlterTopicRequest>(
            "16-alter-topic-response",
            "the topic as it is now",
            Ok(AlterTopicResponse { topic: topic() }),
            &[],
        ),
        Vector::request(
            "04-describe-topic-request",
            "DescribeTopic",
            DescribeTopicRequest { name: orders() },
            &[],
        ),
        Vector::response::<DescribeTopicRequest>(
            "04-describe-topic-response",
            "all of it",
            Ok(described),
            &[],
        ),
        Vector::request("05-list-topics-request", "ListTopics", ListTopicsRequest {}, &[]),
        Vector::response::<ListTopicsRequest>(
            "05-list-topics-response",
            "one topic",
            Ok(ListTopicsResponse { topics: vec![summary] }),
            &[],
        ),
    ]
}

fn brokers() -> Vec<Vector> {
    let join = JoinRequest {
        directory: DIRECTORY,
        native: "10.0.0.4:7400".into(),
        peer: "10.0.0.4:7401".into(),
        http: "10.0.0.4:7402".into(),
        rack: Some("b".into()),
    };
    let broker = BrokerInfo {
        id: 4,
        directory: Some(DIRECTORY),
        native: "10.0.0.4:7400".into(),
        peer: "10.0.0.4:7401".into(),
        http: "10.0.0.4:7402".into(),
        rack: Some("b".into()),
        draining: false,
        replicas: 0,
        metadata: false,
    };
    let brokers = vec![broker];
    let joined =
        JoinResponse { cluster: CLUSTER, broker: 4, founders: vec![1, 2, 3], brokers: brokers.clone() };
    let list = ListBrokersResponse { brokers };
    vec![
        Vector::request("20-join-request", "Join, with a directory of its own", join, &[]),
        Vector::response::<JoinRequest>("20-join-response", "it is broker 4", Ok(joined), &[]),
        Vector::request("21-list-brokers-request", "ListBrokers", ListBrokersRequest {}, &[]),
        Vector::response::<ListBrokersRequest>("21-list-brokers-response", "one broker", Ok(list), &[]),
        Vector::request("22-remove-broker-request", "RemoveBroker", RemoveBrokerRequest { broker: 4 }, &[]),
        Vector::response::<RemoveBrokerRequest>(
            "22-remove-broker-response",
            "done",
            Ok(RemoveBrokerResponse {}),
            &[],
        ),
    ]
}

fn moves() -> Vec<Vector> {
    let drain = DrainBrokerRequest { broker: 4, draining: true };
    let to = MovePartitionRequest { topic: orders(), partition: 0, to: vec![4, 2, 3] };
    let share = BrokerShare {
        broker: 4,
        draining: false,
        replicas_before: 0,
        replicas_after: 1,
        leaders_before: 0,
        leaders_after: 1,
    };
    let planned = PlannedMove { topic: orders(), partition: 0, from: vec![1, 2, 3], to: vec![4, 2, 3] };
    let plan = RebalanceResponse {
        brokers: vec![share],
        moves: vec![planned],
        moves_left: 0,
        moving: 2,
        under_way: true,
    };
    let cancel = CancelMovesRequest { partition: Some(TopicPartition { topic: orders(), partition: 0 }) };
    let cancelled = CancelMovesResponse { cancelled: 1 };
    vec![
        Vector::request("23-drain-broker-request", "DrainBroker", drain, &[]),
        Vector::response::<DrainBrokerRequest>(
            "23-drain-broker-response",
            "it is draining",
            Ok(DrainBrokerResponse {}),
            &[],
        ),
        Vector::request("24-move-partition-request", "MovePartition, broker 4 to lead", to, &[]),
        Vector::response::<MovePartitionRequest>(
            "24-move-partition-response",
            "it is on its way",
            Ok(MovePartitionResponse {}),
            &[],
        ),
        Vector::request(
            "25-rebalance-request",
            "Rebalance: only the plan",
            RebalanceRequest { dry_run: true },
            &[],
        ),
        Vector::response::<RebalanceRequest>("25-rebalance-response", "one move", Ok(plan), &[]),
        Vector::request("26-cancel-moves-request", "CancelMoves of one partition", cancel, &[]),
        Vector::response::<CancelMovesRequest>("26-cancel-moves-response", "one move", Ok(cancelled), &[]),
    ]
}

fn records() -> Vec<Vector> {
    let (sent, stored) = (batch(false), batch(true));
    let item = ProduceItem {
        topic: orders(),
        partition: 0,
        expected_next_lsn: Some(41),
        fence: None,
        position: None,
        batch_length: sent.len() as u32,
    };
    let produce = ProduceRequest { timeout_ms: 10_000, batches: vec![item] };
    let acked = Produced { first_lsn: 41, last_lsn: 41, duplicate: false, acked: Durability::SyncedMajority };
    let results = ProduceResponse { results: vec![Ok(acked), Err(not_leader())] };
    let item = FetchItem { topic: orders(), partition: 0, from_lsn: 41, max_bytes: 1 << 20 };
    let fetch = FetchRequest { max_wait_ms: 500, min_bytes: 1, max_bytes: 4 << 20, items: vec![item] };
    let payload_length = stored.len() as u32;
    let fetched = Fetched { log_start: 1, high_watermark: 41, first_lsn: 41, payload_length };
    let trimmed =
        ErrorOutcome::new(ErrorCode::LsnBelowLogStart, "LSN 3 is below the log start").with_detail(10);
    let response = FetchResponse { items: vec![Ok(fetched), Err(trimmed)] };
    vec![
        Vector::request("06-produce-request", "Produce one batch, if it gets LSN 41", produce, &[sent]),
        Vector::response::<ProduceRequest>(
            "06-produce-response",
            "one stored, one elsewhere",
            Ok(results),
            &[],
        ),
        Vector::request("07-fetch-request", "Fetch from LSN 41", fetch, &[]),
        Vector::response::<FetchRequest>(
            "07-fetch-response",
            "one batch; one below log start",
            Ok(response),
            &[stored],
        ),
    ]
}

fn subscriptions() -> Vec<Vector> {
    let subscribe = SubscribeRequest {
        topic: orders(),
        partition: 0,
        from_lsn: 41,
        credit_bytes: 8 << 20,
        max_push_bytes: 1 << 20,
    };
    let stored = batch(true);
    let push = Push { high_watermark: 41, first_lsn: 41, payload_length: stored.len() as u32 };
    let credit = Credit { subscription: 7, bytes: 1 << 20 };
    vec![
        Vector::request(
            "08-subscribe-request",
            "Subscribe from LSN 41; its correlation names it",
            subscribe,
            &[],
        ),
        Vector::response::<SubscribeRequest>(
            "08-subscribe-response",
            "the subscription is open",
            Ok(SubscribeResponse { log_start: 1, high_watermark: 41 }),
            &[],
        ),
        Vector::push("08-subscribe-push", "a batch", Ok(push), &[stored]),
        Vector::push("08-subscribe-push-end", "the subscription ends", Err(not_leader()), &[]),
        Vector::request("09-credit-request", "Credit: one MiB more; no response", credit, &[]),
        Vector::request("10-unsubscribe-request", "Unsubscribe", UnsubscribeRequest { subscription: 7 }, &[]),
        Vector::response::<UnsubscribeRequest>(
            "10-unsubscribe-response",
            "no push follows",
            Ok(UnsubscribeResponse {}),
            &[],
        ),
    ]
}

fn partitions() -> Vec<Vector> {
    let tail = TailRequest { topic: orders(), partition: 0, linearizable: true };
    let ends = TailResponse {
        log_start: 1,
        high_watermark: 41,
        next_lsn: 42,
        term: 5,
        leader_time_ms: 1_700_000_000_000,
    };
    let time = LsnForTimeRequest { topic: orders(), partition: 0, timestamp_ms: 1_699_999_999_999 };
    let at = LsnForTimeResponse { lsn: Some(41), timestamp_ms: 1_700_000_000_000 };
    let trim = TrimRequest { topic: orders(), partition: 0, log_start: 10 };
    let fence = FenceRequest { topic: orders(), partition: 0, epoch: 2 };
    let producer = InitProducerResponse { producer_id: 7, epoch: 0 };
    vec![
        Vector::request("11-tail-request", "Tail, confirmed by a majority", tail, &[]),
        Vector::response::<TailRequest>("11-tail-response", "41 records", Ok(ends), &[]),
        Vector::request("12-lsn-for-time-request", "LsnForTime", time, &[]),
        Vector::response::<LsnForTimeRequest>("12-lsn-for-time-response", "LSN 41", Ok(at), &[]),
        Vector::request("13-trim-request", "Trim: keep from LSN 10", trim, &[]),
        Vector::response::<TrimRequest>(
            "13-trim-response",
            "trimmed",
            Ok(TrimResponse { log_start: 10 }),
            &[],
        ),
        Vector::request("14-fence-request", "Fence: epoch 2", fence, &[]),
        Vector::response::<FenceRequest>("14-fence-response", "fenced", Ok(FenceResponse { epoch: 2 }), &[]),
        Vector::request("15-init-producer-request", "InitProducer", InitProducerRequest {}, &[]),
        Vector::response::<InitProducerRequest>("15-init-producer-response", "producer 7", Ok(producer), &[]),
    ]
}

fn position() -> PositionCommit {
    PositionCommit {
        group: "billing".into(),
        topic: orders(),
        partition: 0,
        next_lsn: 42,
        generation: 3,
        metadata: "host-1".into(),
        expected_next_lsn: Some(41),
        expected_generation: None,
    }
}

fn positions() -> Vec<Vector> {
    let commit = CommitPositionRequest { topic: orders(), partition: 0, position: position() };
    let sent = batch(false);
    let item = ProduceItem {
        topic: "invoices".into(),
        partition: 0,
        expected_next_lsn: None,
        fence: None,
        position: Some(position()),
        batch_length: sent.len() as u32,
    };
    let produce = ProduceRequest { timeout_ms: 10_000, batches: vec![item] };
    let list = ListPositionsRequest { topic: orders(), partition: 0, group: Some("billing".into()) };
    let kept = Position {
        group: "billing".into(),
        topic: orders(),
        partition: 0,
        next_lsn: 42,
        generation: 3,
        metadata: "host-1".into(),
        leader_time_ms: 1_700_000_000_000,
    };
    let source = Some(PositionSource { topic: orders(), partition: 0 });
    let delete = DeletePositionsRequest { topic: orders(), partition: 0, group: "billing".into(), source };
    vec![
        Vector::request(
            "06-produce-position-request",
            "Produce one batch and, with it, commit how far its input is processed",
            produce,
            &[sent],
        ),
        Vector::request("17-commit-position-request", "CommitPosition, if it is 41 until then", commit, &[]),
        Vector::response::<CommitPositionRequest>(
            "17-commit-position-response",
            "committed",
            Ok(CommitPositionResponse {}),
            &[],
        ),
        Vector::request("18-list-positions-request", "ListPositions of one group", list, &[]),
        Vector::response::<ListPositionsRequest>(
            "18-list-positions-response",
            "one",
            Ok(ListPositionsResponse { positions: vec![kept] }),
            &[],
        ),
        Vector::request("19-delete-positions-request", "DeletePositions in one source", delete, &[]),
        Vector::response::<DeletePositionsRequest>(
            "19-delete-positions-response",
            "there are none now",
            Ok(DeletePositionsResponse {}),
            &[],
        ),
    ]
}

fn peers() -> Vec<Vector> {
    let hello = PeerHello { version: PEER_VERSION, cluster: CLUSTER, from: 1, to: 2, directory: DIRECTORY };
    let stranger = ErrorOutcome::new(ErrorCode::ClusterMismatch, "this node belongs to another cluster");
    let entry = WireEntry { index: 12, term: 5, kind: 0, envelope: "envelope".into(), body: batch(true) };
    let membership = WireEntry { index: 13, term: 5, kind: 2, envelope: Bytes::new(), body: "change".into() };
    let append = RaftMessage {
        kind: 3,
        from: 1,
        to: 2,
        term: 5,
        log_term: 4,
        index: 11,
        commit: 11,
        entries: vec![entry.clone(), membership.clone()],
        ..RaftMessage::default()
    };
    let snapshot = WireSnapshot {
        index: 90,
        term: 5,
        voters: vec![1, 2, 3],
        data: "checkpoint".into(),
        ..WireSnapshot::default()
    };
    let install =
        RaftMessage { kind: 7, from: 1, to: 3, term: 5, snapshot: Some(snapshot), ..RaftMessage::default() };
    let beat =
        |shard| Heartbeat { shard, kind: 8, from: 1, to: 2, term: 5, commit: 11, context: Bytes::new() };
    let raft = |messages| PeerMessage::Raft { shard: 9, messages };
    let confirmed = Confirmed { commit_index: 13, commit_chain: 0x0123_4567_89ab_cdef, matched_index: 12 };
    let standing = Standing { term: Some(5), voters: vec![1, 2, 3], confirmed: Some(confirmed) };
    let fetch = RepairMessage::Fetch { from_index: 12, to_index: 13, max_bytes: 1 << 20 };
    let entries = RepairMessage::Entries { chain_before: Some(77), entries: vec![entry, membership] };
    let checkpoint = RepairMessage::Checkpoint { checkpoint: "checkpoint".into() };
    let repair = |message| PeerMessage::Repair { shard: 9, number: 3, message };
    let asks = Numbered { number: 21, text: "{}".into() };
    let tells = Numbered { number: 21, text: "{}".into() };
    vec![
        Vector::peer("peer-1-hello", "node 1 connects to node 2", PeerMessage::Hello(hello)),
        Vector::peer(
            "peer-2-hello-reply",
            "it is welcome",
            PeerMessage::HelloReply(Ok(PeerWelcome { directory: DIRECTORY })),
        ),
        Vector::peer("peer-2-hello-refused", "it is not", PeerMessage::HelloReply(Err(stranger))),
        Vector::peer(
            "peer-3-raft-append",
            "a batch, and a membership change without envelope",
            raft(vec![append]),
        ),
        Vector::peer("peer-3-raft-snapshot", "a checkpoint", raft(vec![install])),
        Vector::peer("peer-4-heartbeats", "of two shards", PeerMessage::Heartbeats(vec![beat(1), beat(9)])),
        Vector::peer("peer-5-repair-ask", "how does your replica stand?", repair(RepairMessage::Ask)),
        Vector::peer(
            "peer-5-repair-standing",
            "as a leader, confirmed",
            repair(RepairMessage::Standing(standing)),
        ),
        Vector::peer("peer-5-repair-fetch", "entry 12 and 13", repair(fetch)),
        Vector::peer("peer-5-repair-entries", "both", repair(entries)),
        Vector::peer("peer-5-repair-fetch-checkpoint", "the oldest", repair(RepairMessage::FetchCheckpoint)),
        Vector::peer("peer-5-repair-checkpoint", "as in a header", repair(checkpoint)),
        Vector::peer("peer-6-question", "a text that says what is asked", PeerMessage::Question(asks)),
        Vector::peer("peer-7-answer", "of the same number", PeerMessage::Answer(tells)),
    ]
}

fn all() -> Vec<Vector> {
    [
        connection(),
        topics(),
        brokers(),
        moves(),
        records(),
        subscriptions(),
        partitions(),
        positions(),
        peers(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn every_message_is_sent_as_its_vector_says() {
    for vector in all() {
        vector.check();
    }
}

#[test]
fn every_api_has_its_vectors_and_every_vector_its_message() {
    let mut expected: Vec<String> = all().iter().map(|vector| vector.file_name()).collect();
    expected.push("batch.hex".into());
    expected.sort();
    assert_eq!(vector::files(), expected);
    for api in Api::ALL {
        let request = format!("{:02}-", *api as u8);
        assert!(expected.iter().any(|name| name.starts_with(&request)), "{} lacks a vector", api.name());
    }
}
